package daemontest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sett/client"
	"sett/lxd/container"
	"sett/lxd/daemon"
	"sett/lxd/daemontest"
	"sett/shared/api"
	"sett/shared/errs"
)

func status(err error) int {
	var s api.StatusError
	if errors.As(err, &s) {
		return s.Status()
	}
	return 0
}

// output collects what a command writes.
type output struct{ bytes.Buffer }

func (*output) Close() error { return nil }

func run(s *daemontest.Server, t testing.TB, instance string, command ...string) (string, float64) {
	t.Helper()
	var out output
	done := make(chan bool)
	op, err := s.ExecInstance(instance, api.InstanceExecPost{Command: command, WaitForWS: true},
		&client.InstanceExecArgs{Stdout: &out, Stderr: &out, DataDone: done})
	s.Wait(op, err)
	<-done
	code, _ := op.Get().Metadata["return"].(float64)
	return out.String(), code
}

func TestLifeOfAnInstance(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	s.SetState("c1", "start")
	if out, code := run(s, t, "c1", "echo", "hello"); out != "hello\n" || code != 0 {
		t.Errorf("exec echo: %q, exit %v", out, code)
	}
	if _, code := run(s, t, "c1", "false"); code != 1 {
		t.Errorf("exec false: exit %v", code)
	}
	st, _, err := s.GetInstanceState("c1")
	s.Must(err)
	if st.Status != "Running" || st.Pid == 0 {
		t.Errorf("state %q, pid %d", st.Status, st.Pid)
	}
	s.SetState("c1", "freeze")
	s.SetState("c1", "unfreeze")
	s.SetState("c1", "restart")
	if op, err := s.DeleteInstance("c1"); err == nil && op.Wait() == nil {
		t.Error("a running instance was deleted")
	}
	s.SetState("c1", "stop")
	op, err := s.RenameInstance("c1", api.InstancePost{Name: "c2"})
	s.Wait(op, err)
	op, err = s.DeleteInstance("c2")
	s.Wait(op, err)
	if _, _, err := s.GetInstance("c2"); status(err) != 404 {
		t.Errorf("after its deletion: %v", err)
	}
}

func TestEveryResourceComesAndGoes(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	fp := s.Import("tiny")

	s.Must(s.CreateProfile(api.ProfilesPost{Name: "p", ProfilePut: api.ProfilePut{Config: map[string]string{"limits.processes": "10"}}}))
	p, etag, err := s.GetProfile("p")
	s.Must(err)
	put := p.Writable()
	put.Description = "new"
	s.Must(s.UpdateProfile("p", put, etag))
	if err := s.UpdateProfile("p", put, etag); status(err) != 412 {
		t.Errorf("an old ETag: %v", err)
	}
	s.Must(s.RenameProfile("p", api.ProfilePost{Name: "q"}))
	s.Must(s.DeleteProfile("q"))

	n, etag, err := s.GetNetwork("br0")
	s.Must(err)
	nput := n.Writable()
	nput.Description = "new"
	s.Must(s.UpdateNetwork("br0", nput, etag))
	s.Must(s.DeleteNetwork("br0"))
	if _, _, err := s.GetNetwork("br0"); status(err) != 404 {
		t.Errorf("a deleted network: %v", err)
	}

	img, etag, err := s.GetImage(fp)
	s.Must(err)
	iput := img.Writable()
	iput.Public = true
	s.Must(s.UpdateImage(fp, iput, etag))
	op, err := s.DeleteImage(fp)
	s.Wait(op, err)
	if _, _, err := s.GetImageAlias("tiny"); status(err) != 404 {
		t.Errorf("the alias of a deleted image: %v", err)
	}

	if err := s.DeleteStoragePool("pool"); status(err) != 400 {
		t.Errorf("a pool that a profile uses: %v", err)
	}
	def, etag, err := s.GetProfile("default")
	s.Must(err)
	dput := def.Writable()
	dput.Devices = map[string]map[string]string{}
	s.Must(s.UpdateProfile("default", dput, etag))
	s.Must(s.DeleteStoragePool("pool"))

	srv, etag, err := s.GetServer()
	s.Must(err)
	sput := srv.Writable()
	sput.Config = map[string]any{"user.x": "y"}
	s.Must(s.UpdateServer(sput, etag))
	srv, _, err = s.GetServer()
	s.Must(err)
	if srv.Config["user.x"] != "y" || srv.Environment.ServerPid != os.Getpid() {
		t.Errorf("server: %v, pid %d", srv.Config, srv.Environment.ServerPid)
	}
	for _, dir := range []string{"images", "containers", "storage-pools", "networks", "devices"} {
		left, err := os.ReadDir(filepath.Join(s.Dir, dir))
		s.Must(err)
		if len(left) > 0 {
			t.Errorf("%s still holds %v", dir, left)
		}
	}
}

func TestRestartFindsEverythingAgain(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("runs", "tiny")
	s.Create("rests", "tiny")
	s.SetState("runs", "start")
	before, _, err := s.GetInstanceState("runs")
	s.Must(err)
	s.Restart()
	after, _, err := s.GetInstanceState("runs")
	s.Must(err)
	if after.Pid != before.Pid || after.Status != "Running" {
		t.Errorf("pid %d %s, before the restart %d", after.Pid, after.Status, before.Pid)
	}
	rests, _, err := s.GetInstanceState("rests")
	s.Must(err)
	if rests.Status != "Stopped" {
		t.Errorf("the stopped instance is %s", rests.Status)
	}
	if out, _ := run(s, t, "runs", "echo", "again"); out != "again\n" {
		t.Errorf("exec after the restart: %q", out)
	}
	for _, get := range []func() error{
		func() error { _, _, err := s.GetStoragePool("pool"); return err },
		func() error { _, _, err := s.GetNetwork("br0"); return err },
		func() error { _, _, err := s.GetImageAlias("tiny"); return err },
	} {
		s.Must(get())
	}
	if _, up := s.Network.Running("br0"); !up {
		t.Error("the network is not up")
	}
}

func TestTwoDaemonsOnOneFolderAreRefused(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	second, err := daemon.Start(t.Context(), s.Options())
	if err == nil {
		second.Stop(false, false)
		<-second.Stopped()
		t.Fatal("a second daemon started")
	}
	if !errs.Is(err, errs.KindUnavailable) || !strings.Contains(err.Error(), s.Dir) {
		t.Errorf("the error does not name the folder: %v", err)
	}
	if _, _, err := s.GetServer(); err != nil {
		t.Errorf("the first one suffered: %v", err)
	}
}

func TestShutdownStopsInstancesWhichStartAgain(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	s.SetState("c1", "start")
	if code, a := s.Do("PUT", "/internal/shutdown?force=true", nil); code != 200 {
		t.Fatalf("shutdown: %d %s", code, a.Error)
	}
	<-s.Daemon.Stopped()
	reasons, err := daemon.WakeReasons(s.Dir)
	if err != nil || len(reasons) != 1 {
		t.Errorf("reasons to start at boot: %q, %v", reasons, err)
	}
	s.Restart()
	if reasons, err = daemon.WakeReasons(s.Dir); err != nil || len(reasons) != 1 {
		t.Errorf("while it runs: %q, %v", reasons, err)
	}
	eventually(t, "the instance to run again", func() bool {
		st, _, err := s.GetInstanceState("c1")
		return err == nil && st.Status == "Running"
	})
	s.SetState("c1", "stop")
	s.Stop()
	if reasons, err = daemon.WakeReasons(s.Dir); err != nil || len(reasons) != 0 {
		t.Errorf("with nothing to start: %q, %v", reasons, err)
	}
}

func TestServiceManagerIsTold(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	if got := <-s.States; got != "READY=1" {
		t.Errorf("first it was told %q", got)
	}
	s.Stop()
	if got := <-s.States; got != "STOPPING=1" {
		t.Errorf("then %q", got)
	}
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !yes() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Not parallel: it looks at all goroutines of the process.
func TestStopLeavesNothing(t *testing.T) {
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	s.SetState("c1", "start")
	l, err := s.GetEvents()
	s.Must(err)
	s.Stop()
	_ = l.Wait() // it says that the connection ended
	if _, err := net.Dial("unix", filepath.Join(s.Dir, "unix.socket")); err == nil {
		t.Error("somebody still listens")
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "unix.socket")); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
	var left []string
	eventually(t, "the goroutines to end", func() bool {
		left = ours()
		return len(left) == 0 || t.Failed()
	})
	if links := openBelow(t, s.Dir); len(links) > 0 {
		t.Errorf("files are still open: %q", links)
	}
	// The container is the host's, not the daemon's.
	s.Start()
	st, _, err := s.GetInstanceState("c1")
	s.Must(err)
	if st.Status != "Running" {
		t.Errorf("the container is %s", st.Status)
	}
}

// ours lists the goroutines that run code of the daemon, the caller's own excepted.
func ours() []string {
	b := make([]byte, 1<<20)
	b = b[:runtime.Stack(b, true)]
	return slices.DeleteFunc(strings.Split(string(b), "\n\n")[1:], func(g string) bool {
		return !strings.Contains(g, "sett/lxd/") || strings.Contains(g, "daemontest_test.Test") || strings.Contains(g, "container/fake")
	})
}

func openBelow(t *testing.T, dir string) []string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, dir) {
			out = append(out, to)
		}
	}
	return out
}

func TestStartThatFailsLeavesTheFolderUsable(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Stop()
	o := s.Options()
	boom := errors.New("no engine today")
	o.Engine = func() (container.Engine, error) { return nil, boom }
	if _, err := daemon.Start(t.Context(), o); !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	if links := openBelow(t, s.Dir); len(links) > 0 {
		t.Errorf("files are still open: %q", links)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := daemon.Start(ctx, s.Options()); err == nil {
		d.Stop(false, false)
		<-d.Stopped()
		t.Error("it started for somebody who had gone")
	}
	s.Start()
	if _, _, err := s.GetServer(); err != nil {
		t.Error(err)
	}
}

var _ io.WriteCloser = (*output)(nil)
