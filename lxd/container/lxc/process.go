package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"sett/lxd/container"
	"sett/lxd/host/cgroup"
	"sett/lxd/host/process"
	"sett/lxd/shim/wire"
	"sett/shared/errs"
)

// guest is one running container. All handles of it share one, so that exactly
// one goroutine waits for its end and cleans up after it.
type guest struct {
	engine  *Engine
	id      container.ID
	paths   paths
	state   wire.State
	keep    keep
	group   cgroup.Group
	init    *process.Handle
	monitor *process.Handle
	filter  []byte
	cancel  context.CancelFunc

	mu     sync.Mutex
	devpts *os.File
	closed bool

	nics sync.Mutex // held while interfaces come and go

	over chan struct{} // closed when the container has stopped and is cleaned up
	exit container.Exit
	err  error // the engine was closed first
}

// watch waits for the monitor, which outlives init, and cleans up.
func (g *guest) watch(ctx context.Context) {
	defer close(g.over)
	attend, stop := context.WithCancel(ctx)
	defer stop()
	attended := make(chan struct{})
	go func() {
		defer close(attended)
		if g.keep.Asks {
			g.attend(attend)
		}
	}()
	err := g.monitor.Wait(ctx)
	stop()
	<-attended
	if err != nil {
		g.err = os.ErrClosed
		g.drop()
		return
	}
	g.exit.Time = time.Now()
	if _, err := os.Lstat(g.paths.reboot()); err == nil {
		g.exit.Reboot = true
		_ = os.Remove(g.paths.reboot())
	}
	clean, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	// What could not be removed is tried again before the next start.
	_ = g.engine.clean(clean, g.id, g.paths)
	g.drop()
}

func (g *guest) drop() {
	g.engine.mu.Lock()
	delete(g.engine.guests, g.id)
	g.engine.mu.Unlock()
	g.closeFiles()
}

// forget ends the watching; the container runs on.
func (g *guest) forget() {
	g.cancel()
	<-g.over
}

func (g *guest) closeFiles() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, h := range []*process.Handle{g.init, g.monitor} {
		if h != nil {
			_ = h.Close()
		}
	}
	if g.devpts != nil {
		_ = g.devpts.Close()
	}
}

func (g *guest) handle() *proc { return &proc{g: g, gone: make(chan struct{})} }

// ended reports whether the container is over, without waiting.
func (g *guest) ended() bool {
	select {
	case <-g.over:
		return true
	default:
		return !g.init.Alive()
	}
}

// proc is a handle of a guest; it implements container.Process.
type proc struct {
	g    *guest
	once sync.Once
	gone chan struct{}
}

func (p *proc) ID() container.ID { return p.g.id }
func (p *proc) PID() int         { return p.g.state.Init.PID }

func (p *proc) Close() error {
	p.once.Do(func() { close(p.gone) })
	return nil
}

func (p *proc) State(ctx context.Context) (container.State, error) {
	g := p.g
	select {
	case <-g.over:
		return container.Stopped, nil
	default:
	}
	if !g.init.Alive() {
		return container.Stopping, nil
	}
	frozen, err := g.group.Frozen()
	if err != nil {
		if g.ended() { // its groups are going
			return container.Stopping, nil
		}
		return "", err
	}
	if frozen {
		return container.Frozen, nil
	}
	return container.Running, nil
}

func (p *proc) Wait(ctx context.Context) (container.Exit, error) {
	select {
	case <-p.g.over:
		return p.g.exit, p.g.err
	default:
	}
	select {
	case <-p.g.over:
		return p.g.exit, p.g.err
	case <-p.gone:
		return container.Exit{}, os.ErrClosed
	case <-ctx.Done():
		return container.Exit{}, ctx.Err()
	}
}

// check is the guard of everything that needs a running container.
func (p *proc) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.g.ended() {
		return container.ErrNotRunning
	}
	return nil
}

// ending turns what a container in its last moments answers into ErrNotRunning.
func (p *proc) ending(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, process.ErrGone) || errors.Is(err, os.ErrClosed) || p.g.ended() {
		return container.ErrNotRunning
	}
	return err
}

const rtmin = 34 // as glibc and musl number it for programs

// haltSignal is what the Spec wants init to be asked with, 0 when it leaves that
// to us.
func haltSignal(s container.Spec) syscall.Signal {
	if s.HaltSignal != 0 {
		return s.HaltSignal
	}
	return parseSignal(container.RawValue(s.RawLXC, "lxc.signal.halt"))
}

func (p *proc) Shutdown(ctx context.Context) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	sig := syscall.Signal(p.g.keep.HaltSig)
	if sig == 0 {
		// systemd takes SIGRTMIN+3 for "power off"; it alone listens to it. What else
		// is init knows SIGPWR.
		sig = syscall.SIGPWR
		if poweroff := syscall.Signal(rtmin + 3); process.Handles(p.PID(), poweroff) {
			sig = poweroff
		}
	}
	return p.ending(p.g.init.Signal(sig))
}

// killTimeout is for processes that sleep in the kernel and do not die.
const killTimeout = time.Minute

func (p *proc) Kill(ctx context.Context) error {
	g := p.g
	bound, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	// The kernel ends a container's processes when it ends its init, and init ends
	// last. One that v1's freezer holds dies only when thawed; with the signal waiting
	// for it, it does nothing else first. Whoever was not reached by the signal yet may
	// freeze others, so that this goes on until all is over.
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		select {
		case <-g.over:
			return g.err
		default:
		}
		if err := g.init.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) && !errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("kill container %s: %w", g.id, err)
		}
		if err := g.group.Release(bound); err != nil && !g.ended() && bound.Err() == nil {
			return fmt.Errorf("kill container %s: %w", g.id, err)
		}
		again := time.NewTimer(wait)
		select {
		case <-g.over:
		case <-again.C:
		case <-p.gone:
			again.Stop()
			return os.ErrClosed
		case <-bound.Done():
			again.Stop()
			if err := ctx.Err(); err != nil {
				return err
			}
			return errs.Unavailable("Container %s has been killed but did not end within %v; a process of it waits for a device", g.id, killTimeout)
		}
		again.Stop()
	}
}

// freezeTimeout is for processes that sleep in the kernel and cannot be stopped.
const freezeTimeout = 15 * time.Second

func (p *proc) Freeze(ctx context.Context) error   { return p.freeze(ctx, true) }
func (p *proc) Unfreeze(ctx context.Context) error { return p.freeze(ctx, false) }

func (p *proc) freeze(ctx context.Context, frozen bool) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	bound, cancel := context.WithTimeout(ctx, freezeTimeout)
	defer cancel()
	err := p.g.group.Freeze(bound, frozen)
	if err != nil && frozen && bound.Err() != nil {
		// A process that sleeps in the kernel holds it up. Half frozen helps nobody.
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = p.g.group.Freeze(back, false)
	}
	if err != nil && ctx.Err() == nil && bound.Err() != nil {
		err = errs.Unavailable("Container %s did not freeze or thaw within %v; a process of it waits for a device", p.g.id, freezeTimeout)
	}
	return p.ending(err)
}
