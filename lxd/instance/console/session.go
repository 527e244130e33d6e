package console

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/container"
	"sett/shared/api"
	"sett/shared/errs"
)

// The streams of a viewer.
const (
	data    = "0"
	control = "control"
)

const (
	connectTime = 5 * time.Second  // for a client to open its websocket
	patience    = 30 * time.Second // for a client to take one message
	letGo       = 3 * time.Second  // for the console to become free when a viewer has left
)

// errDetached ends a session the way it should.
var errDetached = errors.New("the client has detached")

// session is one viewer.
type session struct {
	proc          container.Process
	name          string // of the instance
	width, height int
	secret        map[string]string

	mu    sync.Mutex
	taken map[string]bool

	conn chan *websocket.Conn // data
	late chan *websocket.Conn // control, which may come late or never
	quit context.Context      // ends with the session; its cause says why
	end  context.CancelCauseFunc
	over chan struct{} // closed when the console is free again
}

func newSession(p container.Process, name string, width, height int) *session {
	s := &session{proc: p, name: name, width: width, height: height, secret: map[string]string{}, taken: map[string]bool{},
		conn: make(chan *websocket.Conn, 1), late: make(chan *websocket.Conn, 1), over: make(chan struct{})}
	s.quit, s.end = context.WithCancelCause(context.Background())
	for _, n := range []string{data, control} {
		var b [32]byte
		_, _ = rand.Read(b[:])
		s.secret[n] = hex.EncodeToString(b[:])
	}
	return s
}

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
	taken := s.taken[name]
	s.taken[name] = true
	s.mu.Unlock()
	if taken {
		return errs.Invalid("Stream %q is connected already", name)
	}
	c, err := upgrade()
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.taken, name) // the client may try again
		return err
	}
	// Closing it is what ends its readers and writers.
	context.AfterFunc(s.quit, func() { hangUp(c) })
	if name == control {
		s.late <- c
	} else {
		s.conn <- c
	}
	return nil
}

// hangUp says goodbye to a client that may not listen.
func hangUp(c *websocket.Conn) {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.WriteControl(websocket.CloseMessage, bye, time.Now().Add(time.Second))
	_ = c.Close()
}

// run is the body of the operation.
func (s *session) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { s.end(ctx.Err()) })()
	defer s.end(errDetached)
	var conn *websocket.Conn
	t := time.NewTimer(connectTime)
	defer t.Stop()
	select {
	case conn = <-s.conn:
	case <-t.C:
		return errs.Invalid("The client did not connect its websocket within %s", connectTime)
	case <-s.quit.Done():
		return context.Cause(s.quit)
	}
	term, err := s.open()
	if err != nil {
		return err
	}
	defer term.Close()
	if s.width > 0 && s.height > 0 {
		_ = term.Resize(s.width, s.height)
	}

	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = term.Close() }() // ends those that wg waits for
	defer s.end(errDetached)
	out := newSpool()
	wg.Go(func() {
		_, _ = io.Copy(out, term)
		out.close()
	})
	wg.Go(func() {
		// The terminal ends with the instance, after what it printed last. This is for
		// one that something else holds open.
		if _, err := s.proc.Wait(s.quit); err == nil {
			select {
			case <-time.After(time.Second):
				out.close()
			case <-s.quit.Done():
			}
		}
	})
	wg.Go(func() { s.control(term) })
	wg.Go(func() {
		s.input(conn, term)
		s.end(errDetached)
	})
	shown := make(chan struct{})
	wg.Go(func() {
		defer close(shown)
		s.output(conn, out)
	})
	defer out.close()
	select {
	case <-shown: // the instance has ended
	case <-s.quit.Done():
	}
	if err := context.Cause(s.quit); err != nil && !errors.Is(err, errDetached) {
		return err
	}
	return nil
}

// open takes the console. Whoever had it last may have left it just now.
func (s *session) open() (container.Terminal, error) {
	late := time.After(letGo)
	for {
		term, err := s.proc.Console(s.quit)
		if !errors.Is(err, container.ErrConsoleBusy) {
			if err != nil && s.quit.Err() != nil {
				err = context.Cause(s.quit)
			}
			return term, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-late:
			return nil, errs.Conflict("The console of instance %q is in use by another program on its host", s.name)
		case <-s.quit.Done():
			return nil, context.Cause(s.quit)
		}
	}
}

// input copies what the client types, until it goes. The end of its input is not
// the end of its interest.
func (s *session) input(conn *websocket.Conn, term io.Writer) {
	deaf := false
	for {
		typ, r, err := conn.NextReader()
		if err != nil {
			return
		}
		if typ != websocket.BinaryMessage || deaf {
			continue
		}
		if _, err := io.Copy(term, r); err != nil {
			deaf = true // the console is gone, or the client is
		}
	}
}

// output sends what the console prints.
func (s *session) output(conn *websocket.Conn, out *spool) {
	for {
		b := out.next()
		if b == nil {
			break
		}
		_ = conn.SetWriteDeadline(time.Now().Add(patience))
		if conn.WriteMessage(websocket.BinaryMessage, b) != nil {
			s.end(errDetached)
			return
		}
	}
	// Whatever the screen shows, the client's prompt begins on a line of its own.
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = conn.WriteMessage(websocket.BinaryMessage, []byte("\n\r"))
	_ = conn.WriteMessage(websocket.TextMessage, nil)
}

// controlLimit is how long a message about the console may be, in bytes.
const controlLimit = 64 << 10

// control waits for the control websocket and does what it says. The client detaches
// by closing it.
func (s *session) control(term container.Terminal) {
	var c *websocket.Conn
	select {
	case c = <-s.late:
	case <-s.quit.Done():
		return
	}
	c.SetReadLimit(controlLimit) // a message is held in memory
	for {
		typ, b, err := c.ReadMessage()
		if err != nil {
			s.end(errDetached)
			return
		}
		var m api.InstanceConsoleControl
		if typ != websocket.TextMessage || json.Unmarshal(b, &m) != nil || m.Command != "window-resize" {
			continue // signals are for commands; a console has none
		}
		w, err1 := strconv.ParseUint(m.Args["width"], 10, 16)
		h, err2 := strconv.ParseUint(m.Args["height"], 10, 16)
		if err1 == nil && err2 == nil && w > 0 && h > 0 {
			_ = term.Resize(int(w), int(h))
		}
	}
}
