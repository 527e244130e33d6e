//go:build system

package system

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// notifications listens where systemd would.
func notifications(t *testing.T, path string) <-chan string {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan string, 100)
	go func() {
		b := make([]byte, 4096)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				close(out)
				return
			}
			out <- string(b[:n])
		}
	}()
	t.Cleanup(func() { c.Close() })
	return out
}

func TestTellsSystemdHowItIs(t *testing.T) {
	h := prepareHost(t)
	said := notifications(t, filepath.Join(h.dir, "notify"))
	h.env = []string{"NOTIFY_SOCKET=" + filepath.Join(h.dir, "notify"), "WATCHDOG_USEC=400000"}
	h.start()
	h.stopAfter(t, said, "READY=1", "WATCHDOG=1")
	h.stop(syscall.SIGTERM)
	h.stopAfter(t, said, "STOPPING=1")
}

// stopAfter reads notifications until all of want have come.
func (h *host) stopAfter(t *testing.T, said <-chan string, want ...string) {
	t.Helper()
	deadline := time.After(patience)
	for _, w := range want {
		for found := false; !found; {
			select {
			case s := <-said:
				found = strings.Contains(s, w)
			case <-deadline:
				t.Fatalf("the daemon did not say %s", w)
			}
		}
	}
}

// TestSocketActivation hands the daemon a socket as systemd does: as descriptor 3.
func TestSocketActivation(t *testing.T) {
	h := prepareHost(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(h.socket())
	if err != nil {
		t.Fatal(err)
	}
	// LISTEN_PID must be the daemon's own, so a shell sets it and becomes the daemon.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh", h.bin.lxd(), "--logfile", h.logFile())
	cmd.Env = h.environ()
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.cmd, h.exited = cmd, make(chan struct{})
	go func() { _ = cmd.Wait(); close(h.exited) }()
	f.Close()
	l.Close()
	// The socket listens already, so the first request waits for the daemon.
	if code, a := h.request("GET", "/1.0", nil); code != 200 {
		t.Errorf("GET /1.0: %d %s", code, a.Error)
	}
	h.stop(syscall.SIGTERM)
	// systemd keeps its socket; the daemon must not take it away.
	after, err := os.Stat(h.socket())
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket of systemd is gone: %v", err)
	}
	os.Remove(h.socket())
}

func TestShutdownStopsInstancesAndSIGTERMDoesNot(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c)
	pid := h.initPID(c)
	h.stop(syscall.SIGTERM)
	if syscall.Kill(pid, 0) != nil {
		t.Fatal("SIGTERM stopped the container")
	}
	h.start()
	if r := h.run(h.bin.lxd(), "shutdown", "--timeout", "30"); r.code != 0 {
		t.Fatalf("lxd shutdown: %s", r.stderr)
	}
	select {
	case <-h.exited:
	case <-time.After(patience):
		t.Fatal("the daemon is still there after lxd shutdown")
	}
	if syscall.Kill(pid, 0) == nil {
		t.Error("lxd shutdown left the container running")
	}
	// What ran before comes back, unless told otherwise.
	h.start()
	h.eventually("the container to run again", func() bool { return h.state(c) == "RUNNING" })
	h.seen()
}

func TestRefusesFoldersOfOthers(t *testing.T) {
	h := prepareHost(t)
	// What LXD itself leaves in its folder after the first start.
	db := filepath.Join(h.lxdDir(), "database")
	if err := os.MkdirAll(filepath.Join(db, "global"), 0o700); err != nil {
		t.Fatal(err)
	}
	work(t, db, "sh", "-ec", `printf 'SQLite format 3\0' >local.db; echo x >global/db.bin; echo x >../server.key`)
	before := listing(t, h.lxdDir())
	r := h.run(h.bin.lxd(), "--logfile", h.logFile())
	if r.code == 0 || r.stderr == "" {
		t.Errorf("a folder of somebody else: exit %d, %q", r.code, r.stderr)
	}
	if after := listing(t, h.lxdDir()); after != before {
		t.Errorf("the folder was touched:\n%s\nbefore:\n%s", after, before)
	}
	os.RemoveAll(h.lxdDir())
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-printf", "%P %s %m %T@\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestMakeRun follows the script behind 'make run' by hand's order: once, again, away.
func TestMakeRun(t *testing.T) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("sett-run-%d", os.Getpid()))
	script := func(args ...string) (string, error) {
		cmd := exec.Command(filepath.Join(top(), "test/run/run.sh"), args...)
		cmd.Env = append(os.Environ(), "SETT_RUN_DIR="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() {
		if out, err := script("--remove"); err != nil {
			t.Errorf("run.sh --remove: %v\n%s", err, out)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is still there", dir)
		}
	})
	for _, round := range []string{"first", "second"} {
		out, err := script()
		if err != nil || !strings.Contains(out, "is-system-running\nrunning\n") {
			t.Fatalf("%s round of run.sh: %v\n%s", round, err, out)
		}
	}
}
