package dnsmasq

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"sett/lxd/host/process"
)

// Pauses before a server that died is started again: the first, and the longest.
const (
	firstPause = 200 * time.Millisecond
	longPause  = 30 * time.Second
	// A server that lived as long as this has earned a short pause again.
	settled = time.Minute
)

// Server says how a server is to run.
type Server struct {
	Dir  string   // for its files
	Args []string // beyond those about files, process and user
	Raw  string   // lines of configuration that the administrator adds
}

// Supervisor keeps servers alive until Close. It is safe for concurrent use, but
// calls for one folder must not overlap.
type Supervisor struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	servers map[string]*server
	soon    map[string]*time.Timer // folders whose server is to read again
}

type server struct {
	want   Server
	args   []string
	cancel context.CancelFunc
	done   chan struct{} // the watch has ended

	mu   sync.Mutex
	proc *process.Handle // nil while it is down
}

// New makes a supervisor of nothing yet.
func New(log *slog.Logger) *Supervisor {
	ctx, cancel := context.WithCancel(context.Background())
	return &Supervisor{log: log, ctx: ctx, cancel: cancel, servers: map[string]*server{}}
}

// Ensure has a server run as told. One that runs so already is left alone, one
// that runs otherwise is replaced. It returns when the server answers.
func (s *Supervisor) Ensure(ctx context.Context, want Server) error {
	args := commandLine(want)
	rawFile := filepath.Join(want.Dir, rawName)
	s.mu.Lock()
	cur := s.servers[want.Dir]
	s.mu.Unlock()
	same := false
	if old, err := os.ReadFile(rawFile); err == nil && string(old) == want.Raw {
		same = true
	}
	if cur != nil && same && slices.Equal(cur.args, args) && cur.alive() {
		return nil
	}
	if cur == nil && same {
		if p := find(want.Dir, args); p != nil {
			s.watch(want, args, p)
			return nil
		}
	}
	if err := s.Stop(ctx, want.Dir); err != nil {
		return err
	}
	if err := prepare(want); err != nil {
		return err
	}
	p, err := start(ctx, want.Dir, args)
	if err != nil {
		return err
	}
	s.watch(want, args, p)
	return nil
}

func (s *Supervisor) watch(want Server, args []string, p *process.Handle) {
	ctx, cancel := context.WithCancel(s.ctx)
	v := &server{want: want, args: args, cancel: cancel, done: make(chan struct{}), proc: p}
	s.mu.Lock()
	s.servers[want.Dir] = v
	s.mu.Unlock()
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		defer close(v.done)
		v.keep(ctx, s.log)
	}()
}

// keep waits for the server's end and starts it again, until the context ends.
func (v *server) keep(ctx context.Context, log *slog.Logger) {
	pause := firstPause
	for {
		began := time.Now()
		if p := v.process(); p != nil {
			if err := p.Wait(ctx); err != nil {
				return
			}
			log.Warn("A DHCP and DNS server has ended and is started again", "dir", v.want.Dir, "pid", p.PID(), "pause", pause)
			v.set(nil)
		}
		if time.Since(began) > settled {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longPause)
		p, err := start(ctx, v.want.Dir, v.args)
		if err != nil {
			if ctx.Err() == nil {
				log.Error("A DHCP and DNS server cannot be started", "dir", v.want.Dir, "err", err)
			}
			continue
		}
		v.set(p)
	}
}

func (v *server) process() *process.Handle {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.proc
}

func (v *server) set(p *process.Handle) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.proc != nil {
		v.proc.Close()
	}
	v.proc = p
}

func (v *server) alive() bool {
	p := v.process()
	return p != nil && p.Signal(0) == nil
}

// Stop ends the server of a folder, whoever started it. It may run twice.
func (s *Supervisor) Stop(ctx context.Context, dir string) error {
	s.mu.Lock()
	v := s.servers[dir]
	delete(s.servers, dir)
	s.mu.Unlock()
	if v != nil {
		v.cancel()
		<-v.done
		v.set(nil)
	}
	p := find(dir, nil)
	if p == nil {
		return nil
	}
	defer p.Close()
	return end(ctx, p, filepath.Join(dir, pidName))
}

func end(ctx context.Context, p *process.Handle, pidFile string) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		err := p.Signal(sig)
		if err == nil {
			wait, cancel := context.WithTimeout(ctx, 3*time.Second)
			err = p.Wait(wait)
			cancel()
		}
		if err == nil || errors.Is(err, process.ErrGone) {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if sig == syscall.SIGKILL {
			return err
		}
	}
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Reload has the server of a folder read its hosts again. A server that does not
// run reads them when it starts.
func (s *Supervisor) Reload(dir string) error {
	s.mu.Lock()
	v := s.servers[dir]
	s.mu.Unlock()
	if v == nil {
		return nil
	}
	p := v.process()
	if p == nil {
		return nil
	}
	if err := p.Signal(syscall.SIGHUP); err != nil && !errors.Is(err, process.ErrGone) {
		// The watch may have closed the hold just now: the next start reads the hosts.
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		return err
	}
	return nil
}

// settle is how long ReloadSoon waits for more changes.
const settle = 300 * time.Millisecond

// ReloadSoon is Reload for what is in no hurry. Changes that follow each other
// closely, such as a hundred deletes, cost the server one reading.
func (s *Supervisor) ReloadSoon(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.soon == nil {
		s.soon = map[string]*time.Timer{}
	}
	if s.soon[dir] != nil {
		return
	}
	s.soon[dir] = time.AfterFunc(settle, func() {
		s.mu.Lock()
		delete(s.soon, dir)
		s.mu.Unlock()
		if err := s.Reload(dir); err != nil {
			s.log.Warn("Could not tell the DNS server of changes", "dir", dir, "err", err)
		}
	})
}

// Close stops watching. The servers go on.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	var late []string
	for dir, t := range s.soon {
		if t.Stop() {
			late = append(late, dir)
		}
	}
	s.mu.Unlock()
	for _, dir := range late {
		_ = s.Reload(dir) // at worst the server knows somebody who is gone
	}
	s.cancel()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.servers {
		v.set(nil)
	}
	s.servers = map[string]*server{}
	return nil
}
