// Package containertest is the suite that every engine passes: on the fake in
// `make check`, on real containers as root in `make test`.
package containertest

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sett/lxd/container"
	"sett/lxd/host/guestfs"
	"sett/shared/errs"
)

// Setup makes an engine and a specification that it can start. The commands
// true, false, echo, cat, env, pwd, id, sleep, tty and sh must be in the guest.
// Every call gives a specification with an id of its own.
type Setup func(t *testing.T) (container.Engine, container.Spec)

// Run runs the whole suite.
func Run(t *testing.T, setup Setup) {
	for name, f := range map[string]func(*testing.T, Setup){
		"StartKillWait":      testStartKillWait,
		"StartTwiceRefused":  testStartTwice,
		"FindAdopts":         testFind,
		"CleanRunsTwice":     testClean,
		"CleanSparesRunning": testCleanRunning,
		"CancelledStart":     testCancelledStart,
		"FreezeUnfreeze":     testFreeze,
		"FreezeThenKill":     testFreezeKill,
		"FrozenRunsNothing":  testFrozenExec,
		"ExecExitCodes":      testExitCodes,
		"ExecStreams":        testStreams,
		"ExecSurroundings":   testSurroundings,
		"ExecSignal":         testSignal,
		"ExecPTY":            testPTY,
		"ExecMany":           testMany,
		"KillEndsExec":       testKillEndsExec,
		"StoppedRefusesWork": testStopped,
		"Usage":              testUsage,
		"Plugging":           testPlugging,
		"Files":              testFiles,
		"Console":            testConsole,
		"ConsoleAdopted":     testConsoleAdopted,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); f(t, setup) })
	}
}

// Deadline is how long one step may take before the suite gives up.
const Deadline = 30 * time.Second

func started(t *testing.T, setup Setup) (context.Context, container.Engine, container.Spec, container.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	t.Cleanup(cancel)
	e, spec := setup(t)
	p, err := e.Start(ctx, spec)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Deadline)
		defer cancel()
		if err := p.Kill(ctx); err != nil {
			t.Errorf("kill: %v", err)
		}
		if _, err := p.Wait(ctx); err != nil {
			t.Errorf("wait: %v", err)
		}
		if err := e.Clean(ctx, spec.ID, spec.RunDir); err != nil {
			t.Errorf("clean: %v", err)
		}
		_ = p.Close()
	})
	return ctx, e, spec, p
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func state(t *testing.T, ctx context.Context, p container.Process) container.State {
	t.Helper()
	s, err := p.State(ctx)
	if err != nil {
		t.Fatalf("state: %v", err)
	}
	return s
}

func testStartKillWait(t *testing.T, setup Setup) {
	ctx, e, spec, p := started(t, setup)
	want(t, "state", state(t, ctx, p), container.Running)
	want(t, "id", p.ID(), spec.ID)
	if p.PID() <= 1 {
		t.Errorf("pid %d", p.PID())
	}
	type answer struct {
		exit container.Exit
		err  error
	}
	all := make(chan answer, 3)
	for range 3 {
		go func() { x, err := p.Wait(ctx); all <- answer{x, err} }()
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := p.Wait(short); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled wait: %v", err)
	}
	if err := p.Kill(ctx); err != nil {
		t.Fatalf("kill: %v", err)
	}
	first := <-all
	for range 2 {
		if a := <-all; a != first {
			t.Errorf("waiters differ: %v and %v", a, first)
		}
	}
	if first.err != nil || first.exit.Reboot || first.exit.Time.IsZero() {
		t.Errorf("exit %+v, %v", first.exit, first.err)
	}
	want(t, "state", state(t, ctx, p), container.Stopped)
	if _, err := e.Find(ctx, spec.ID, spec.RunDir); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("find after kill: %v", err)
	}
	// Killing what is dead is no error: the aim is reached.
	if err := p.Kill(ctx); err != nil {
		t.Errorf("second kill: %v", err)
	}
	again, err := e.Start(ctx, spec)
	if err != nil {
		t.Fatalf("start again: %v", err)
	}
	if err := again.Kill(ctx); err != nil {
		t.Errorf("kill: %v", err)
	}
	_ = again.Close()
}

func testStartTwice(t *testing.T, setup Setup) {
	ctx, e, spec, p := started(t, setup)
	if _, err := e.Start(ctx, spec); err == nil {
		t.Fatal("a second start of one id succeeded")
	}
	want(t, "state", state(t, ctx, p), container.Running)
}

func testFind(t *testing.T, setup Setup) {
	ctx, e, spec, p := started(t, setup)
	q, err := e.Find(ctx, spec.ID, spec.RunDir)
	if err != nil {
		t.Fatalf("find: %v", err)
	}
	want(t, "pid", q.PID(), p.PID())
	// The first handle is forgotten, as by a daemon that ends; the container stays.
	if err := p.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	code, out, _ := run(t, ctx, q, container.ExecSpec{Command: []string{"echo", "adopted"}}, "")
	want(t, "code", code, 0)
	want(t, "output", out, "adopted\n")
	other := spec.ID
	other.Project += "x"
	if _, err := e.Find(ctx, other, spec.RunDir+"x"); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("find in another project: %v", err)
	}
	if err := q.Freeze(ctx); err != nil {
		t.Fatalf("freeze: %v", err)
	}
	r, err := e.Find(ctx, spec.ID, spec.RunDir)
	if err != nil {
		t.Fatalf("find frozen: %v", err)
	}
	want(t, "state", state(t, ctx, r), container.Frozen)
	if err := r.Kill(ctx); err != nil {
		t.Errorf("kill: %v", err)
	}
	if x, err := q.Wait(ctx); err != nil || x.Reboot {
		t.Errorf("wait on adopted: %+v, %v", x, err)
	}
}

func testClean(t *testing.T, setup Setup) {
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	e, spec := setup(t)
	for range 2 {
		if err := e.Clean(ctx, spec.ID, spec.RunDir); err != nil {
			t.Errorf("clean of what never ran: %v", err)
		}
	}
}

func testCancelledStart(t *testing.T, setup Setup) {
	e, spec := setup(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Start(ctx, spec); !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v", err)
	}
	if _, err := e.Find(context.Background(), spec.ID, spec.RunDir); !errors.Is(err, container.ErrNotRunning) {
		t.Errorf("find: %v", err)
	}
}

func testFreeze(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	for range 2 {
		if err := p.Freeze(ctx); err != nil {
			t.Fatalf("freeze: %v", err)
		}
		want(t, "state", state(t, ctx, p), container.Frozen)
		if err := p.Unfreeze(ctx); err != nil {
			t.Fatalf("unfreeze: %v", err)
		}
		want(t, "state", state(t, ctx, p), container.Running)
	}
}

func testFreezeKill(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	if err := p.Freeze(ctx); err != nil {
		t.Fatalf("freeze: %v", err)
	}
	if err := p.Kill(ctx); err != nil {
		t.Fatalf("kill: %v", err)
	}
	want(t, "state", state(t, ctx, p), container.Stopped)
}

func testFrozenExec(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	if err := p.Freeze(ctx); err != nil {
		t.Fatalf("freeze: %v", err)
	}
	if _, err := p.Exec(ctx, container.ExecSpec{Command: []string{"true"}}); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("exec: %v", err)
	}
	if err := p.Unfreeze(ctx); err != nil {
		t.Fatalf("unfreeze: %v", err)
	}
	code, _, _ := run(t, ctx, p, container.ExecSpec{Command: []string{"true"}}, "")
	want(t, "code", code, 0)
}

func testCleanRunning(t *testing.T, setup Setup) {
	ctx, e, spec, p := started(t, setup)
	if err := e.Clean(ctx, spec.ID, spec.RunDir); !errs.Is(err, errs.KindConflict) {
		t.Errorf("clean: %v", err)
	}
	code, _, _ := run(t, ctx, p, container.ExecSpec{Command: []string{"true"}}, "")
	want(t, "code", code, 0)
}

func testPlugging(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	m := container.Mount{Source: t.TempDir(), Target: "mnt/plugged", FSType: "none", Options: []string{"bind"}, Create: container.CreateDir}
	if err := p.AddMount(ctx, m); err != nil {
		t.Fatalf("mount: %v", err)
	}
	if err := p.RemoveMount(ctx, "/mnt/plugged"); err != nil {
		t.Errorf("unmount: %v", err)
	}
	if err := p.RemoveMount(ctx, "mnt/plugged"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("unmount of nothing: %v", err)
	}
	if err := p.RemoveNIC(ctx, "eth9", "host9"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("no such interface: %v", err)
	}
	if _, err := p.Exec(ctx, container.ExecSpec{}); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("no command: %v", err)
	}
}

func testFiles(t *testing.T, setup Setup) {
	ctx, e, _, p := started(t, setup)
	conn, err := e.Files(ctx, container.FileTree{Process: p})
	if err != nil {
		t.Fatalf("files: %v", err)
	}
	c := guestfs.NewClient(conn)
	defer c.Close()
	const text = "from outside"
	if made, err := c.Write("/pushed", guestfs.Owner{UID: -1, GID: -1, Mode: -1}, false, strings.NewReader(text)); err != nil || !made {
		t.Errorf("write: made %t, %v", made, err)
	}
	o, err := c.Open("/pushed")
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	var got strings.Builder
	if _, err := o.Copy(&got, 0, -1); err != nil || got.String() != text {
		t.Errorf("read %q, %v", got.String(), err)
	}
	if _, err := c.Open("/none"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("no such file: %v", err)
	}
	if err := p.Kill(ctx); err != nil {
		t.Fatalf("kill: %v", err)
	}
	if _, err := e.Files(ctx, container.FileTree{Process: p}); !errors.Is(err, container.ErrNotRunning) || !errs.Is(err, errs.KindInvalid) {
		t.Errorf("files of a dead container: %v", err)
	}
}

// run executes with pipes and returns status, stdout and stderr.
func run(t *testing.T, ctx context.Context, p container.Process, s container.ExecSpec, in string) (int, string, string) {
	t.Helper()
	inR, inW := pipe(t)
	outR, outW := pipe(t)
	errR, errW := pipe(t)
	s.Stdin, s.Stdout, s.Stderr = inR, outW, errW
	if s.Env == nil {
		s.Env = []string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin"}
	}
	x, err := p.Exec(ctx, s)
	for _, f := range []*os.File{inR, outW, errW} {
		_ = f.Close()
	}
	if err != nil {
		t.Fatalf("exec %v: %v", s.Command, err)
	}
	var out, er []byte
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.WriteString(inW, in); _ = inW.Close() })
	wg.Go(func() { out, _ = io.ReadAll(outR) })
	wg.Go(func() { er, _ = io.ReadAll(errR) })
	wg.Wait()
	code, err := x.Wait(ctx)
	if err != nil {
		t.Fatalf("wait for %v: %v", s.Command, err)
	}
	return code, string(out), string(er)
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close(); _ = w.Close() })
	return r, w
}

func testExitCodes(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	for _, c := range []struct {
		cmd  []string
		code int
	}{
		{[]string{"true"}, 0},
		{[]string{"false"}, 1},
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "exit 255"}, 255},
		{[]string{"/no/such/command"}, 127},
		{[]string{"nosuchcommand"}, 127},
	} {
		code, _, _ := run(t, ctx, p, container.ExecSpec{Command: c.cmd}, "")
		want(t, strings.Join(c.cmd, " "), code, c.code)
	}
}

func testStreams(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	big := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB: more than any pipe holds
	_, out, er := run(t, ctx, p, container.ExecSpec{Command: []string{"cat"}}, big)
	want(t, "length", len(out), len(big))
	want(t, "same bytes", out == big, true)
	want(t, "stderr", er, "")
	_, out, er = run(t, ctx, p, container.ExecSpec{Command: []string{"sh", "-c", "echo oops >&2"}}, "")
	want(t, "stdout", out, "")
	want(t, "stderr", er, "oops\n")
}

func testSurroundings(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	_, out, _ := run(t, ctx, p, container.ExecSpec{
		Command: []string{"env"}, Env: []string{"PATH=/bin", "A=1", "EMPTY="},
	}, "")
	lines := strings.Fields(out)
	slices.Sort(lines)
	want(t, "env", strings.Join(lines, " "), "A=1 EMPTY= PATH=/bin")
	_, out, _ = run(t, ctx, p, container.ExecSpec{Command: []string{"pwd"}, Cwd: "/tmp"}, "")
	want(t, "cwd", out, "/tmp\n")
	for _, id := range []uint32{0, 1000} {
		_, out, _ = run(t, ctx, p, container.ExecSpec{Command: []string{"id", "-u"}, UID: id, GID: id + 1}, "")
		want(t, "uid", out, map[uint32]string{0: "0\n", 1000: "1000\n"}[id])
		_, out, _ = run(t, ctx, p, container.ExecSpec{Command: []string{"id", "-g"}, UID: id, GID: id + 1}, "")
		want(t, "gid", out, map[uint32]string{0: "1\n", 1000: "1001\n"}[id])
	}
}

func testSignal(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		x, err := p.Exec(ctx, container.ExecSpec{Command: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}})
		if err != nil {
			t.Fatalf("exec: %v", err)
		}
		if err := x.Signal(sig); err != nil {
			t.Errorf("signal: %v", err)
		}
		code, err := x.Wait(ctx)
		if err != nil {
			t.Fatalf("wait: %v", err)
		}
		want(t, "code", code, 128+int(sig))
		if err := x.Signal(sig); err == nil {
			t.Error("a signal reached a command that is over")
		}
	}
}

func testPTY(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	x, err := p.Exec(ctx, container.ExecSpec{
		Command: []string{"tty"}, Env: []string{"PATH=/bin:/usr/bin"}, PTY: true, Width: 80, Height: 25,
	})
	if err != nil {
		t.Fatalf("exec: %v", err)
	}
	if err := x.Terminal().Resize(100, 40); err != nil {
		t.Errorf("resize: %v", err)
	}
	out, err := io.ReadAll(x.Terminal())
	if err != nil {
		t.Errorf("read: %v", err)
	}
	if !strings.HasPrefix(string(out), "/dev/pts/") {
		t.Errorf("tty says %q", out)
	}
	code, err := x.Wait(ctx)
	if err != nil || code != 0 {
		t.Errorf("code %d, %v", code, err)
	}
	_ = x.Terminal().Close()

	x, err = p.Exec(ctx, container.ExecSpec{Command: []string{"cat"}, Env: []string{"PATH=/bin:/usr/bin"}, PTY: true})
	if err != nil {
		t.Fatalf("exec: %v", err)
	}
	if _, err := io.WriteString(x.Terminal(), "hello\n"); err != nil {
		t.Errorf("write: %v", err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(x.Terminal(), buf); err != nil || string(buf) != "hello" {
		t.Errorf("terminal says %q, %v", buf, err)
	}
	if err := x.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("signal: %v", err)
	}
	if code, err := x.Wait(ctx); err != nil || code != 137 {
		t.Errorf("code %d, %v", code, err)
	}
	_ = x.Terminal().Close()
}

func testMany(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			word := strings.Repeat("x", i+1)
			code, out, _ := run(t, ctx, p, container.ExecSpec{Command: []string{"echo", word}}, "")
			if code != 0 || out != word+"\n" {
				t.Errorf("run %d: code %d, %q", i, code, out)
			}
		})
	}
	wg.Wait()
}

func testKillEndsExec(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	x, err := p.Exec(ctx, container.ExecSpec{Command: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}})
	if err != nil {
		t.Fatalf("exec: %v", err)
	}
	if err := p.Kill(ctx); err != nil {
		t.Fatalf("kill: %v", err)
	}
	if code, err := x.Wait(ctx); err != nil || code != 137 {
		t.Errorf("code %d, %v", code, err)
	}
}

func testStopped(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	if err := p.Kill(ctx); err != nil {
		t.Fatalf("kill: %v", err)
	}
	for what, f := range map[string]func() error{
		"exec": func() error {
			_, err := p.Exec(ctx, container.ExecSpec{Command: []string{"true"}})
			return err
		},
		"freeze":   func() error { return p.Freeze(ctx) },
		"shutdown": func() error { return p.Shutdown(ctx) },
		"mount":    func() error { return p.AddMount(ctx, container.Mount{Source: "/tmp", Target: "mnt", FSType: "none"}) },
		"nic":      func() error { return p.AddNIC(ctx, container.NIC{HostName: "nosuch0", GuestName: "eth9"}) },
		"usage":    func() error { _, err := p.Usage(ctx); return err },
	} {
		if err := f(); !errors.Is(err, container.ErrNotRunning) {
			t.Errorf("%s on a stopped container: %v", what, err)
		}
	}
}

func testUsage(t *testing.T, setup Setup) {
	ctx, _, _, p := started(t, setup)
	u, err := p.Usage(ctx)
	if err != nil {
		t.Fatalf("usage: %v", err)
	}
	if u.Processes < 1 || u.CPU <= 0 || u.Memory <= 0 {
		t.Errorf("usage %+v", u)
	}
	if err := p.SetLimits(ctx, container.Limits{}, container.Limits{Memory: 256 << 20, Processes: 200}); err != nil {
		t.Fatalf("limits: %v", err)
	}
	if u, err = p.Usage(ctx); err != nil || u.MemoryTotal != 256<<20 {
		t.Errorf("total %d after the limit, %v", u.MemoryTotal, err)
	}
	nics, err := p.Interfaces(ctx)
	if err != nil || len(nics) == 0 || nics[0].Name != "lo" || nics[0].Type != "loopback" {
		t.Errorf("interfaces %+v, %v", nics, err)
	}
}
