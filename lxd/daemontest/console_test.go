package daemontest_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/client"
	"sett/lxd/container"
	"sett/lxd/container/fake"
	"sett/lxd/daemon"
	"sett/lxd/daemontest"
	"sett/shared/api"
)

// screen is a terminal that a test types at.
type screen struct {
	keys   io.Reader
	typing *io.PipeWriter

	mu    sync.Mutex
	shown bytes.Buffer
	more  chan struct{}
}

func newScreen() *screen {
	r, w := io.Pipe()
	return &screen{keys: r, typing: w, more: make(chan struct{}, 1)}
}

func (s *screen) Read(b []byte) (int, error) { return s.keys.Read(b) }
func (s *screen) Close() error               { return s.typing.Close() }

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown.Write(b)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (s *screen) shows(t *testing.T, want string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		s.mu.Lock()
		got := s.shown.String()
		s.mu.Unlock()
		if strings.Contains(got, want) {
			return
		}
		select {
		case <-s.more:
		case <-late:
			t.Fatalf("the screen shows %q, not %q", got, want)
		}
	}
}

// attach opens a console and waits until it is live.
func attach(t *testing.T, s *daemontest.Server, force bool) (*screen, client.Operation, chan bool) {
	t.Helper()
	term, leave := newScreen(), make(chan bool)
	op, err := s.ConsoleInstance("c1", api.InstanceConsolePost{Width: 100, Height: 30, Force: force}, &client.InstanceConsoleArgs{
		Terminal: term, ConsoleDisconnect: leave,
		Control: func(c *websocket.Conn) {
			_ = c.WriteJSON(api.InstanceConsoleControl{Command: "window-resize", Args: map[string]string{"width": "101", "height": "31"}})
			_, _, _ = c.NextReader()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(term.typing, "knock knock\n") }()
	term.shows(t, "knock knock")
	return term, op, leave
}

func consoleLog(t *testing.T, s *daemontest.Server) string {
	t.Helper()
	r, err := s.GetInstanceConsoleLog("c1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func withConsole(t *testing.T) (*daemontest.Server, func() *fake.Guest) {
	t.Helper()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	s.SetState("c1", "start")
	return s, func() *fake.Guest {
		return s.Engine.Guest(container.ID{Daemon: daemon.Name(s.Dir), Project: "default", Name: "c1"})
	}
}

func TestConsoleIsAttachedAndDetached(t *testing.T) {
	t.Parallel()
	s, guest := withConsole(t)
	term, op, leave := attach(t, s, false)
	guest().Print("login: ")
	term.shows(t, "login: ")
	if w, h := guest().ConsoleSize(); w != 101 && w != 100 || h != 31 && h != 30 {
		t.Errorf("the console is %dx%d", w, h)
	}
	_, err := s.ConsoleInstance("c1", api.InstanceConsolePost{}, &client.InstanceConsoleArgs{Terminal: newScreen()})
	if status(err) != 409 || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second viewer: %v", err)
	}
	close(leave)
	if err := op.Wait(); err != nil {
		t.Errorf("after detaching: %v", err)
	}
	if st, _, err := s.GetInstanceState("c1"); err != nil || st.Status != "Running" {
		t.Errorf("the instance is %v, %v", st, err)
	}
	// The next one gets it, and another takes it over.
	_, first, _ := attach(t, s, false)
	_, second, leave := attach(t, s, true)
	if err := first.Wait(); err == nil || !strings.Contains(err.Error(), "taken over") {
		t.Errorf("the one before: %v", err)
	}
	close(leave)
	if err := second.Wait(); err != nil {
		t.Errorf("after detaching: %v", err)
	}
}

func TestConsoleEndsWithItsInstanceAndItsClient(t *testing.T) {
	t.Parallel()
	s, guest := withConsole(t)
	// A client that vanishes.
	op, connect, err := s.ConsoleInstanceDynamic("c1", api.InstanceConsolePost{}, &client.InstanceConsoleArgs{
		Control: func(c *websocket.Conn) { _ = c.NetConn().Close() },
	})
	s.Must(err)
	_ = connect(newScreen())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := op.WaitContext(ctx); err != nil {
		t.Errorf("a lost client: %v", err)
	}
	term, op, _ := attach(t, s, false)
	guest().Print("power down")
	s.SetState("c1", "stop")
	if err := op.WaitContext(ctx); err != nil {
		t.Errorf("a dead instance: %v", err)
	}
	term.shows(t, "power down")
	for what, req := range map[string]api.InstanceConsolePost{
		"not running": {}, "vga": {Type: "vga"}, "Unknown console type": {Type: "braille"}, "wide": {Width: -1},
	} {
		_, err := s.ConsoleInstance("c1", req, &client.InstanceConsoleArgs{Terminal: newScreen()})
		if status(err) != 400 || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestConsoleLogIsReadAndCleared(t *testing.T) {
	t.Parallel()
	s, guest := withConsole(t)
	guest().Print("booting")
	if got := consoleLog(t, s); got != "booting" {
		t.Errorf("the log is %q", got)
	}
	s.Restart() // the next daemon finds the console as well
	if got := consoleLog(t, s); got != "booting" {
		t.Errorf("after a restart the log is %q", got)
	}
	_, op, leave := attach(t, s, false)
	close(leave)
	s.Must(op.Wait())
	s.Must(s.DeleteInstanceConsoleLog("c1"))
	if got := consoleLog(t, s); got != "" {
		t.Errorf("after clearing the log is %q", got)
	}
	s.SetState("c1", "stop")
	if got := consoleLog(t, s); got != "" {
		t.Errorf("stopped, the log is %q", got)
	}
	s.Must(s.DeleteInstanceConsoleLog("c1"))
}
