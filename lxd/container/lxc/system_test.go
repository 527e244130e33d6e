//go:build system

package lxc_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sett/lxd/container"
	"sett/lxd/container/containertest"
	"sett/lxd/container/lxc"
	"sett/lxd/host/idmap"
	"sett/lxd/shim"
)

// binary builds lxd-shim once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lxd-shim")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "lxd-shim")
	cmd := exec.Command("go", "build", "-tags", "libsqlite3", "-o", out, "sett/lxd/lxd-shim")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, msg)
	}
	return out, nil
})

func TestMain(m *testing.M) {
	if p := os.Getenv("SETT_TEST_VICTIM"); p != "" {
		os.Exit(victim(p))
	}
	code := m.Run()
	if p, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(p))
	}
	os.Exit(code)
}

var counter atomic.Int64

func newShim(t testing.TB) *shim.Shim {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	p, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s, err := shim.New(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newEngine(t testing.TB) *lxc.Engine {
	t.Helper()
	e, err := lxc.New(newShim(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

const base = 1000000

var unprivileged = idmap.Map{{UID: true, GID: true, NSID: 0, HostID: base, Range: 65536}}

// rootfs makes a guest out of one static busybox. owner is who owns its files on
// disk: 0 for a tree that is mounted with its ids mapped.
func rootfs(t testing.TB, owner int) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "rootfs")
	for _, d := range []string{"bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "mnt", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Fatalf("busybox-static is needed: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, a := range strings.Fields("sh true false echo cat env pwd id sleep tty ls stat mount umount grep head ps kill touch ip test chroot unshare mkdir reboot poweroff dd wc seq hostname readlink printf") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	init := "#!/bin/sh\ntrap 'exit 0' PWR\ntrap 'reboot -f' HUP\ntouch /run.ready 2>/dev/null\nwhile :; do sleep 1000 & wait $!; done\n"
	if err := os.WriteFile(filepath.Join(root, "sbin/init"), []byte(init), 0o755); err != nil {
		t.Fatal(err)
	}
	if owner != 0 {
		if out, err := exec.Command("chown", "-hR", fmt.Sprintf("%d:%d", owner, owner), root).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v: %s", err, out)
		}
	}
	// The guest's root walks down to it with its own ids.
	for d := filepath.Dir(root); d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// spec is a container whose init knows how to end.
func spec(t testing.TB, m idmap.Map, idmapped bool) container.Spec {
	t.Helper()
	owner := 0
	if !m.Empty() && !idmapped {
		owner = base
	}
	run := t.TempDir()
	// liblxc's locks lie below folders that are named after ours; the engine leaves
	// those above RunDir, where other containers may be about to make theirs.
	t.Cleanup(func() { _ = os.Remove(filepath.Dir("/run/lxc/lock" + run)) })
	return container.Spec{
		ID:      container.ID{Daemon: "t" + strconv.Itoa(os.Getpid()), Project: "default", Name: "c" + strconv.FormatInt(counter.Add(1), 10)},
		InitEnv: []string{"PATH=/bin"},
		Rootfs:  container.Rootfs{Path: rootfs(t, owner), Idmapped: idmapped},
		IDMap:   m, RunDir: run, LogFile: filepath.Join(run, "lxc.log"), LogLevel: "warn",
		ConsoleLog: filepath.Join(run, "console.log"), ConsoleSize: 128 << 10,
	}
}

func TestSuiteIdmapped(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	containertest.Run(t, func(t *testing.T) (container.Engine, container.Spec) { return e, spec(t, unprivileged, true) })
}

func TestSuiteShifted(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	containertest.Run(t, func(t *testing.T) (container.Engine, container.Spec) { return e, spec(t, unprivileged, false) })
}

func TestSuitePrivileged(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	containertest.Run(t, func(t *testing.T) (container.Engine, container.Spec) { return e, spec(t, nil, false) })
}

func start(t testing.TB, e *lxc.Engine, s container.Spec) container.Process {
	t.Helper()
	p, err := e.Start(context.Background(), s)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	waitReady(t, s)
	t.Cleanup(func() {
		if err := p.Kill(context.Background()); err != nil {
			t.Errorf("kill: %v", err)
		}
		left(t, s)
	})
	return p
}

// waitReady waits for init's traps: signals that come before are lost on it.
func waitReady(t testing.TB, s container.Spec) {
	t.Helper()
	ready := filepath.Join(s.Rootfs.Path, "run.ready")
	for range 500 {
		if _, err := os.Stat(ready); err == nil {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	if err := os.Remove(ready); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// left fails when a container that is over has left anything on the host.
func left(t testing.TB, s container.Spec) {
	t.Helper()
	// Other tests' folders come and go under find's feet: its status says nothing.
	out, _ := exec.Command("find", "/sys/fs/cgroup", "/run/lxc", "-name", "*"+s.ID.Daemon+"."+s.ID.Project+"_"+s.ID.Name).Output()
	if len(out) > 0 {
		t.Errorf("left behind: %s", out)
	}
	if _, err := os.Stat("/run/lxc/lock" + s.RunDir); err == nil {
		t.Errorf("left behind: the lock of %s", s.RunDir)
	}
}

// sh runs a script inside and returns what it printed.
func sh(t testing.TB, p container.Process, script string) (int, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x, err := p.Exec(context.Background(), container.ExecSpec{
		Command: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}, Stdout: w, Stderr: w,
	})
	_ = w.Close()
	if err != nil {
		t.Fatalf("exec %q: %v", script, err)
	}
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	code, err := x.Wait(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return code, strings.TrimSpace(b.String())
}

func expect(t testing.TB, p container.Process, script, want string) {
	t.Helper()
	if _, out := sh(t, p, script); out != want {
		t.Errorf("%s\n got %q\nwant %q", script, out, want)
	}
}
