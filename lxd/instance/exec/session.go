package exec

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/container"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
)

// connectTime is how long a client has to open its websockets.
const connectTime = 5 * time.Second

// patience is how long a client may take to read what is left when its command has
// ended.
const patience = 2 * time.Minute

// control is the name of the websocket for signals and sizes.
const control = "control"

// session is one command and its websockets.
type session struct {
	proc container.Process
	spec container.ExecSpec

	mu     sync.Mutex
	secret map[string]string // name of the stream -> secret
	conns  map[string]*websocket.Conn
	taken  map[string]bool
	limit  int64         // of recorded output
	over   bool          // what connects now comes too late
	ready  chan struct{} // closed when all required streams are connected
	late   chan *websocket.Conn

	gate    gate           // of a terminal's output
	copiers sync.WaitGroup // end once the websockets are closed and the command is gone
}

func newSession(p container.Process, spec container.ExecSpec) *session {
	s := &session{proc: p, spec: spec, secret: map[string]string{}, conns: map[string]*websocket.Conn{},
		taken: map[string]bool{}, ready: make(chan struct{}), late: make(chan *websocket.Conn, 1), limit: longest}
	for _, n := range append(s.required(), control) {
		var b [32]byte
		_, _ = rand.Read(b[:])
		s.secret[n] = hex.EncodeToString(b[:])
	}
	return s
}

// required are the streams without which the command does not start.
func (s *session) required() []string {
	if s.spec.PTY {
		return []string{"0"}
	}
	return []string{"0", "1", "2"}
}

func (s *session) secrets() map[string]string { return s.secret }

// Connect takes a websocket whose secret is that of one of the streams.
func (s *session) Connect(secret string, upgrade func() (*websocket.Conn, error)) error {
	name := ""
	for n, want := range s.secret {
		if subtle.ConstantTimeCompare([]byte(secret), []byte(want)) == 1 {
			name = n
		}
	}
	if name == "" {
		return errs.Forbidden("The secret fits none of the streams")
	}
	s.mu.Lock()
	if s.taken[name] {
		s.mu.Unlock()
		return errs.Invalid("Stream %q is connected already", name)
	}
	s.taken[name] = true
	s.mu.Unlock()
	c, err := upgrade()
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.taken, name) // the client may try again
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		return c.Close()
	case name == control:
		s.late <- c // has room for the one that there is
		return nil
	}
	s.conns[name] = c
	if len(s.conns) == len(s.required()) {
		close(s.ready)
	}
	return nil
}

// run is the body of the operation.
func (s *session) run(ctx context.Context, o *op.Operation) error {
	defer s.copiers.Wait()
	defer s.hangUp()
	// A client that does not read must not keep a cancelled operation from ending.
	defer context.AfterFunc(ctx, s.hangUp)()
	t := time.NewTimer(connectTime)
	defer t.Stop()
	select {
	case <-s.ready:
	case <-t.C:
		return errs.Invalid("The client did not connect its websockets within %s", connectTime)
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.spec.PTY {
		return s.terminal(ctx, o)
	}
	return s.pipes(ctx, o)
}

// hangUp closes what is still open, and what is opened later.
func (s *session) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.gate.open()
	for _, c := range s.conns {
		_ = c.Close()
	}
	select {
	case c := <-s.late:
		_ = c.Close()
	default:
	}
}

// terminal runs the command on a pseudo terminal.
func (s *session) terminal(ctx context.Context, o *op.Operation) error {
	e, err := s.proc.Exec(ctx, s.spec)
	if err != nil {
		return failed(o, err)
	}
	term := e.Terminal()
	defer term.Close()
	conn := s.conns["0"]
	ended := make(chan struct{})
	stop := s.watchControl(ctx, e, ended)
	defer stop()
	s.copiers.Go(func() {
		fromClient(conn, term, func(lost bool) {
			s.gate.open()
			if lost { // the client went away: so does the command
				kill(e, ended)
			}
		})
	})
	out := make(chan struct{})
	var progress atomic.Int64
	go func() {
		defer close(out)
		toClient(conn, term, &progress, &s.gate)
	}()
	code, err := e.Wait(ctx)
	close(ended)
	if err != nil {
		_ = e.Signal(syscall.SIGKILL)
		return err
	}
	// What the command wrote last may still be on its way, to a client that reads
	// slowly. Something that it left running may hold the terminal open for ever: a
	// terminal from which nothing came for a while is not waited for.
	late := time.AfterFunc(patience, s.hangUp)
	defer late.Stop()
	for last := int64(-1); ; {
		select {
		case <-out:
			return done(o, code)
		case <-time.After(200 * time.Millisecond):
		}
		now := progress.Load()
		if now == last && now%2 == 0 { // quiet, and not in the middle of a write
			return done(o, code)
		}
		last = now
	}
}

// pipes runs the command with three streams.
func (s *session) pipes(ctx context.Context, o *op.Operation) error {
	var theirs, ours [3]*os.File
	defer func() {
		for i := range 3 {
			closeFile(theirs[i])
			closeFile(ours[i])
		}
	}()
	for i := range 3 {
		size := pipeSize
		if i == 0 {
			size = inputSize
		}
		r, w, err := bigPipe(size)
		if err != nil {
			return err
		}
		if i == 0 {
			theirs[i], ours[i] = r, w
		} else {
			theirs[i], ours[i] = w, r
		}
	}
	spec := s.spec
	spec.Stdin, spec.Stdout, spec.Stderr = theirs[0], theirs[1], theirs[2]
	e, err := s.proc.Exec(ctx, spec)
	if err != nil {
		return failed(o, err)
	}
	for i := range theirs {
		closeFile(theirs[i])
		theirs[i] = nil
	}
	ended := make(chan struct{})
	stop := s.watchControl(ctx, e, ended)
	defer stop()
	stdin := ours[0]
	ours[0] = nil
	// Something that the command left running may hold the other side and never read.
	defer stdin.Close()
	s.copiers.Go(func() {
		defer stdin.Close()
		fromClient(s.conns["0"], stdin, func(bool) {})
	})
	var pumps sync.WaitGroup
	for i := 1; i <= 2; i++ {
		conn := s.conns[strconv.Itoa(i)]
		pumps.Add(1)
		go func() {
			defer pumps.Done()
			pump(conn, ours[i])
		}()
		// A client that drops its standard output takes the command with it; nothing
		// else is ever read from that websocket.
		if i == 1 {
			s.copiers.Go(func() {
				drain(conn)
				s.mu.Lock()
				controlled := s.taken[control]
				s.mu.Unlock()
				if !controlled {
					kill(e, ended)
				}
			})
		}
	}
	code, err := e.Wait(ctx)
	close(ended)
	if err != nil {
		_ = e.Signal(syscall.SIGKILL)
		return err
	}
	for _, f := range ours[1:] {
		// Wakes a pump that waits for more from something the command left running.
		_ = f.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	}
	late := time.AfterFunc(patience, s.hangUp)
	defer late.Stop()
	pumps.Wait()
	return done(o, code)
}

// alone runs the command without a client; dir, when set, takes its output.
func (s *session) alone(ctx context.Context, o *op.Operation, dir, url string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	spec := s.spec
	spec.Stdin, spec.Stdout, spec.Stderr = null, null, null
	var recs []*recording
	defer func() {
		for _, r := range recs {
			r.close()
		}
	}()
	if dir != "" {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		if err := makeRoom(root, together-2*s.limit); err != nil {
			return err
		}
		names := map[string]string{}
		for fd, f := range map[string]**os.File{"1": &spec.Stdout, "2": &spec.Stderr} {
			name := "exec_" + o.ID() + map[string]string{"1": ".stdout", "2": ".stderr"}[fd]
			r, err := newRecording(root, name)
			if err != nil {
				return err
			}
			recs = append(recs, r)
			*f = r.theirs
			names[fd] = url + filepath.Base(name)
		}
		o.Set(map[string]any{"output": names})
	}
	e, err := s.proc.Exec(ctx, spec)
	if err != nil {
		return failed(o, err)
	}
	for _, r := range recs {
		r.begin(s.limit)
	}
	code, err := e.Wait(ctx)
	if err != nil {
		_ = e.Signal(syscall.SIGKILL)
		return err
	}
	for _, r := range recs {
		if err := r.end(); err != nil {
			return fmt.Errorf("Failed to record the output: %w", err)
		}
	}
	return done(o, code)
}

// done stores how a command ended. The shell's codes for "not found" and "not
// executable" fail the operation as well.
func done(o *op.Operation, code int) error {
	o.Set(map[string]any{"return": code})
	switch code {
	case 127:
		return errs.Invalid("Command not found")
	case 126:
		return errs.Invalid("Command not executable")
	}
	return nil
}

func failed(o *op.Operation, err error) error {
	code := -1
	var ce *container.CommandError
	if errors.As(err, &ce) {
		code = ce.Code
	}
	o.Set(map[string]any{"return": code})
	return fmt.Errorf("Failed to run the command: %w", err)
}

func kill(e container.Exec, ended <-chan struct{}) {
	select {
	case <-ended:
	default:
		_ = e.Signal(syscall.SIGKILL)
	}
}

// controlLimit is how long a message about the command may be, in bytes.
const controlLimit = 64 << 10

// watchControl waits for the control websocket, which may come late or never, and
// does what it says. A dropped one takes the command with it.
func (s *session) watchControl(ctx context.Context, e container.Exec, ended <-chan struct{}) (stop func()) {
	quit := make(chan struct{})
	go func() {
		select {
		case c := <-s.late:
			stopClose := context.AfterFunc(ctx, func() { _ = c.Close() })
			defer stopClose()
			go func() { // ends the reader below
				<-quit
				_ = c.SetWriteDeadline(time.Now().Add(time.Second))
				_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
				_ = c.Close()
			}()
			s.obey(c, e, ended)
		case <-quit:
		}
	}()
	return sync.OnceFunc(func() { close(quit) })
}

func (s *session) obey(c *websocket.Conn, e container.Exec, ended <-chan struct{}) {
	c.SetReadLimit(controlLimit) // a message is held in memory
	for {
		typ, b, err := c.ReadMessage()
		if err != nil {
			kill(e, ended)
			return
		}
		if typ != websocket.TextMessage {
			continue
		}
		var m api.InstanceExecControl
		if json.Unmarshal(b, &m) != nil {
			continue
		}
		switch m.Command {
		case "window-resize":
			w, err1 := strconv.ParseUint(m.Args["width"], 10, 16)
			h, err2 := strconv.ParseUint(m.Args["height"], 10, 16)
			if err1 == nil && err2 == nil {
				if term := e.Terminal(); term != nil {
					_ = term.Resize(int(w), int(h))
				}
			}
		case "flow":
			s.gate.hold(m.Args["hold"] == "true")
		case "signal":
			if m.Signal > 0 && m.Signal < 65 {
				_ = e.Signal(syscall.Signal(m.Signal))
			}
		}
	}
}
