package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/container"
	"sett/lxd/container/fake"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
)

type world struct {
	t      *testing.T
	engine *fake.Engine
	proc   container.Process
	ops    *op.Manager
	url    string
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, engine: fake.New(), ops: op.New(t.Context(), event.NewBus(""), "", time.Minute)}
	p, err := w.engine.Start(t.Context(), container.Spec{ID: container.ID{Daemon: "d", Project: "default", Name: "c1"}, RunDir: t.TempDir(), Rootfs: container.Rootfs{Path: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	w.proc = p
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		o, err := w.ops.Get(strings.TrimPrefix(r.URL.Path, "/"))
		if err == nil {
			err = o.Connect(r.URL.Query().Get("secret"), func() (*websocket.Conn, error) {
				var u websocket.Upgrader
				return u.Upgrade(rw, r, nil)
			})
		}
		if err != nil {
			http.Error(rw, err.Error(), errs.Status(err))
		}
	}))
	t.Cleanup(srv.Close)
	w.url = "ws" + strings.TrimPrefix(srv.URL, "http")
	return w
}

func (w *world) begin(spec container.ExecSpec) (*op.Operation, *session) {
	w.t.Helper()
	s := newSession(w.proc, spec)
	o, err := w.ops.Start(w.t.Context(), op.Spec{Class: op.Websocket, Streams: s, Run: s.run})
	if err != nil {
		w.t.Fatal(err)
	}
	return o, s
}

func (w *world) dial(o *op.Operation, secret string) (*websocket.Conn, error) {
	c, res, err := websocket.DefaultDialer.Dial(w.url+"/"+o.ID()+"?secret="+secret, nil)
	if err != nil && res != nil {
		b, _ := io.ReadAll(res.Body)
		err = fmt.Errorf("%d %s", res.StatusCode, b)
	}
	return c, err
}

func (w *world) must(c *websocket.Conn, err error) *websocket.Conn {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// read collects a stream until its end mark, or until the connection ends.
func read(c *websocket.Conn) (string, bool) {
	var b bytes.Buffer
	for {
		typ, m, err := c.ReadMessage()
		if err != nil {
			return b.String(), false
		}
		if typ == websocket.TextMessage && len(m) == 0 {
			return b.String(), true
		}
		b.Write(m)
	}
}

func TestPipesCarryAllThreeStreams(t *testing.T) {
	t.Parallel()
	w := setup(t)
	o, s := w.begin(container.ExecSpec{Command: []string{"cat"}})
	in := w.must(w.dial(o, s.secret["0"]))
	out := w.must(w.dial(o, s.secret["1"]))
	errw := w.must(w.dial(o, s.secret["2"]))
	big := strings.Repeat("0123456789abcdef", 64<<10)
	go func() {
		_ = in.WriteMessage(websocket.BinaryMessage, []byte(big))
		_ = in.WriteMessage(websocket.TextMessage, nil)
	}()
	if got, whole := read(out); got != big || !whole {
		t.Errorf("stdout: %d bytes of %d, end mark %v", len(got), len(big), whole)
	}
	if got, whole := read(errw); got != "" || !whole {
		t.Errorf("stderr: %q, %v", got, whole)
	}
	if err := o.Wait(t.Context()); err != nil || o.Metadata("return") != 0 {
		t.Errorf("ended with %v, return %v", err, o.Metadata("return"))
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{0: "", 3: "", 126: "not executable", 127: "not found"} {
		w := setup(t)
		o, s := w.begin(container.ExecSpec{Command: []string{"sh", "-c", fmt.Sprintf("exit %d", code)}})
		for _, n := range s.required() {
			w.must(w.dial(o, s.secret[n]))
		}
		err := o.Wait(t.Context())
		if o.Metadata("return") != code || (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d: return %v, error %v", code, o.Metadata("return"), err)
		}
	}
}

func TestTerminalEchoesAndResizes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	o, s := w.begin(container.ExecSpec{Command: []string{"cat"}, PTY: true, Width: 80, Height: 24})
	c := w.must(w.dial(o, s.secret["0"]))
	ctl := w.must(w.dial(o, s.secret[control]))
	if err := ctl.WriteJSON(api.InstanceExecControl{Command: "window-resize", Args: map[string]string{"width": "100", "height": "40"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteMessage(websocket.BinaryMessage, []byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	_, b, err := c.ReadMessage()
	if err != nil || !strings.Contains(string(b), "hello") {
		t.Errorf("%q %v", b, err)
	}
	if err := ctl.WriteJSON(api.InstanceExecControl{Command: "signal", Signal: int(syscall.SIGTERM)}); err != nil {
		t.Fatal(err)
	}
	if err := o.Wait(t.Context()); err != nil || o.Metadata("return") != 128+15 {
		t.Errorf("ended with %v, return %v", err, o.Metadata("return"))
	}
}

func TestLostClientTakesTheCommandWithIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, f := range map[string]func(o *op.Operation, s *session) *websocket.Conn{
		"control of pipes": func(o *op.Operation, s *session) *websocket.Conn {
			for _, n := range s.required() {
				w.must(w.dial(o, s.secret[n]))
			}
			return w.must(w.dial(o, s.secret[control]))
		},
		"stdout of pipes without control": func(o *op.Operation, s *session) *websocket.Conn {
			w.must(w.dial(o, s.secret["0"]))
			w.must(w.dial(o, s.secret["2"]))
			return w.must(w.dial(o, s.secret["1"]))
		},
	} {
		o, s := w.begin(container.ExecSpec{Command: []string{"sleep", "1000"}})
		_ = f(o, s).Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := o.Wait(ctx); err != nil || o.Metadata("return") != 128+9 {
			t.Errorf("%s: ended with %v, return %v", name, err, o.Metadata("return"))
		}
	}
	o, s := w.begin(container.ExecSpec{Command: []string{"sleep", "1000"}, PTY: true})
	_ = w.must(w.dial(o, s.secret["0"])).Close()
	if err := o.Wait(t.Context()); err != nil || o.Metadata("return") != 128+9 {
		t.Errorf("terminal: ended with %v, return %v", err, o.Metadata("return"))
	}
}

func TestControlMessagesHaveABound(t *testing.T) {
	t.Parallel()
	w := setup(t)
	o, s := w.begin(container.ExecSpec{Command: []string{"sleep", "1000"}, PTY: true})
	w.must(w.dial(o, s.secret["0"]))
	c := w.must(w.dial(o, s.secret[control]))
	_ = c.WriteMessage(websocket.TextMessage, make([]byte, controlLimit+1)) // it may be hung up on meanwhile
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := o.Wait(ctx); err != nil || o.Metadata("return") != 128+9 {
		t.Errorf("ended with %v, return %v", err, o.Metadata("return"))
	}
}

func TestSecretsAreCheckedAndWorkOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	o, s := w.begin(container.ExecSpec{Command: []string{"cat"}})
	if _, err := w.dial(o, "wrong"); err == nil || !strings.HasPrefix(err.Error(), "403") {
		t.Errorf("wrong secret: %v", err)
	}
	if err := o.Connect(s.secret["0"], func() (*websocket.Conn, error) { return nil, errs.Invalid("no websocket") }); err == nil {
		t.Error("an upgrade that failed was taken for one")
	}
	w.must(w.dial(o, s.secret["0"]))
	if _, err := w.dial(o, s.secret["0"]); err == nil || !strings.HasPrefix(err.Error(), "400") {
		t.Errorf("second connection: %v", err)
	}
	if err := o.Cancel(); err != nil {
		t.Fatal(err)
	}
	<-o.Done()
	if _, err := w.dial(o, s.secret["1"]); err == nil {
		t.Error("an ended operation took a connection")
	}
}

func TestCancelKillsTheCommand(t *testing.T) {
	t.Parallel()
	w := setup(t)
	o, s := w.begin(container.ExecSpec{Command: []string{"sleep", "1000"}})
	for _, n := range s.required() {
		w.must(w.dial(o, s.secret[n]))
	}
	<-s.ready
	if err := o.Cancel(); err != nil {
		t.Fatal(err)
	}
	if err := o.Wait(t.Context()); err == nil {
		t.Error("not cancelled")
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	cfg := map[string]string{"environment.A": "1", "environment.LANG": "de_DE", "limits.cpu": "1"}
	got := environment(cfg, api.InstanceExecPost{Environment: map[string]string{"A": "2", "TERM": "xterm"}})
	want := map[string]string{"A": "2", "TERM": "xterm", "LANG": "de_DE", "HOME": "/root", "USER": "root",
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	if got := environment(nil, api.InstanceExecPost{User: 1000}); got["HOME"] != "" || got["USER"] != "" {
		t.Errorf("got %v", got)
	}
}

// record runs a command alone and returns what was recorded of its standard output.
func (w *world) record(limit int64, command ...string) string {
	w.t.Helper()
	s := newSession(w.proc, container.ExecSpec{Command: command})
	s.limit = limit
	dir := w.t.TempDir()
	o, err := w.ops.Start(w.t.Context(), op.Spec{Run: func(ctx context.Context, o *op.Operation) error { return s.alone(ctx, o, dir, "/logs/") }})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := o.Wait(w.t.Context()); err != nil || o.Metadata("return") != 0 {
		w.t.Errorf("%v: %v, return %v", command, err, o.Metadata("return"))
	}
	b, err := os.ReadFile(filepath.Join(dir, "exec_"+o.ID()+".stdout"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func TestRecordedOutputHasABound(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if got := w.record(longest, "echo", "hello"); got != "hello\n" {
		t.Errorf("got %q", got)
	}
	if got := w.record(3, "echo", "hello"); got != "hel"+cutOff {
		t.Errorf("got %q", got)
	}
	w.engine.Handle("flood", func(_ context.Context, c *fake.Call) int {
		_, err := io.CopyN(c.Out, zeros{}, 8<<20) // more than a pipe holds
		if err != nil {
			return 1
		}
		return 0
	})
	if got := w.record(1<<20, "flood"); len(got) != 1<<20+len(cutOff) {
		t.Errorf("got %d bytes", len(got))
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestOldRecordingsGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{"exec_a.stdout": 3 * time.Hour, "exec_b.stderr": time.Minute, "lxc.log": 3 * time.Hour, "exec_c.stdin": 3 * time.Hour} {
		p := filepath.Join(dir, "c1", name)
		_ = os.Mkdir(filepath.Dir(p), 0o700)
		if err := errors.Join(os.WriteFile(p, nil, 0o600), os.Chtimes(p, now, now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	if err := expire(t.Context(), dir, now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	es, _ := os.ReadDir(filepath.Join(dir, "c1"))
	if len(es) != 3 || es[0].Name() != "exec_b.stderr" {
		t.Errorf("left %v", es)
	}
}

// TestRecordingsTogetherHaveABound: what a guest has its host keep is limited, however often
// it is asked.
func TestRecordingsTogetherHaveABound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{"exec_a.stdout": 4, "exec_b.stdout": 3, "exec_c.stderr": 2, "exec_d.stdout": 1, "lxc.log": 9} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(p, make([]byte, 100), 0o600), os.Chtimes(p, now, now.Add(-age*time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, c := range []struct {
		limit int64
		first string
		left  int
	}{{400, "exec_a.stdout", 5}, {250, "exec_c.stderr", 3}, {0, "lxc.log", 1}} {
		if err := makeRoom(root, c.limit); err != nil {
			t.Fatal(err)
		}
		if es, _ := os.ReadDir(dir); len(es) != c.left || es[0].Name() != c.first {
			t.Errorf("with %d: %v", c.limit, es)
		}
	}
}

func TestWebsocketThatComesTooLateIsClosed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := newSession(w.proc, container.ExecSpec{Command: []string{"cat"}})
	hung := make(chan struct{})
	o, err := w.ops.Start(t.Context(), op.Spec{Class: op.Websocket, Streams: s, Run: func(ctx context.Context, _ *op.Operation) error {
		s.hangUp()
		close(hung)
		<-ctx.Done()
		return ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	<-hung
	for _, n := range []string{"0", control} {
		c := w.must(w.dial(o, s.secret[n]))
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, _, err := c.ReadMessage(); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("stream %s is still open: %v", n, err)
		}
	}
}

func TestStdinThatNobodyReadsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	w := setup(t)
	kept := make(chan struct{})
	w.engine.Handle("leave", func(_ context.Context, c *fake.Call) int { return 0 })
	o, s := w.begin(container.ExecSpec{Command: []string{"leave"}})
	in := w.must(w.dial(o, s.secret["0"]))
	w.must(w.dial(o, s.secret["1"]))
	w.must(w.dial(o, s.secret["2"]))
	go func() {
		defer close(kept)
		b := make([]byte, 1<<20)
		for in.WriteMessage(websocket.BinaryMessage, b) == nil { //nolint:revive // until it is hung up
		}
	}()
	if err := o.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	<-kept
}

// sessions counts the goroutines of sessions.
func sessions() int {
	b := make([]byte, 64<<20)
	b = b[:runtime.Stack(b, true)]
	n := 0
	for g := range strings.SplitSeq(string(b), "\n\n") {
		if strings.Contains(g, "exec.(*session)") {
			n++
		}
	}
	return n
}

// Not parallel to others, whose sessions it would count.
func TestSessionsLeaveNoGoroutines(t *testing.T) {
	w := setup(t)
	var ended []*op.Operation
	for n := range 40 {
		command := []string{"cat"}
		if n%4 == 0 {
			command = []string{"true"}
		}
		o, s := w.begin(container.ExecSpec{Command: command, PTY: n%2 == 0})
		conns := map[string]*websocket.Conn{}
		for _, fd := range append([]string{control}, s.required()...) {
			conns[fd] = w.must(w.dial(o, s.secret[fd]))
		}
		out := conns["0"]
		if !s.spec.PTY {
			out = conns["1"]
		}
		if n%4 != 0 {
			if err := conns["0"].WriteMessage(websocket.BinaryMessage, []byte("line\n")); err != nil {
				t.Fatal(err)
			}
			_, _, _ = out.NextReader()
		}
		switch n % 3 {
		case 0: // the network goes
			for _, c := range conns {
				_ = c.NetConn().Close()
			}
		case 1: // the client says goodbye on one stream, and leaves the others open
			_ = conns[control].Close()
		case 2:
			_ = o.Cancel()
		}
		ended = append(ended, o)
	}
	for _, o := range ended {
		<-o.Done()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for sessions() > 0 {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d goroutines are left", sessions())
		}
	}
}
