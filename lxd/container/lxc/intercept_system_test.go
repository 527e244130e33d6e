//go:build system

package lxc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/container/containertest"
	"sett/lxd/host/process"
	"sett/lxd/host/seccomp"
	"sett/lxd/shim/wire"
)

// guestsys builds the program that makes calls, once for all tests.
var guestsys = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guestsys")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-o", dir+"/guestsys", "sett/test/lib/guestsys")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, msg)
	}
	return os.ReadFile(dir + "/guestsys")
})

// intercepting is a container with the program inside. Its init runs what is written to
// /ask, and answers in /answer.
func intercepting(t *testing.T, idmapped bool, i seccomp.Intercept) container.Spec {
	t.Helper()
	s := spec(t, unprivileged, idmapped)
	s.Seccomp.Intercept = i
	b, err := guestsys()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Rootfs.Path+"/bin/guestsys", b, 0o755); err != nil {
		t.Fatal(err)
	}
	init := "#!/bin/sh\ntrap 'exit 0' PWR\nguestsys mknod /first 020666 1 3 >/answer\nbusybox mkfifo /ask\nbusybox mkfifo /told\ntouch /run.ready\n" +
		"while :; do read -r line </ask && $line >/answer 2>&1; echo told >/told; done\n"
	if err := os.WriteFile(s.Rootfs.Path+"/sbin/init", []byte(init), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// byInit runs a command below init, under init's own filter.
func byInit(t *testing.T, p container.Process, command string) string {
	t.Helper()
	_, out := sh(t, p, "echo '"+command+"' >/ask; read -r x </told; cat /answer")
	return out
}

func TestGuestsMakeHarmlessDevices(t *testing.T) {
	t.Parallel()
	for name, idmapped := range map[string]bool{"idmapped": true, "shifted": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := intercepting(t, idmapped, seccomp.Intercept{Mknod: true})
			host := t.TempDir()
			for d := host; d != os.TempDir(); d = filepath.Dir(d) {
				_ = os.Chmod(d, 0o755)
			}
			s.Mounts = []container.Mount{{Source: host, Target: "mnt/host", FSType: "none", Options: []string{"bind"}, Create: container.CreateDir}}
			p := start(t, newEngine(t), s)
			// init came before anybody else could look.
			expect(t, p, "cat /answer; stat -c '%F %t:%T %u:%g %a' /first", "ok\ncharacter special file 1:3 0:0 644")
			if out := byInit(t, p, "guestsys mknod /second 020666 1 5"); out != "ok" {
				t.Errorf("by init: %s", out)
			}
			for _, c := range [][2]string{
				{"guestsys mknod /tmp/null 020600 1 3 && echo x >/tmp/null && stat -c '%F %a %u' /tmp/null", "ok\ncharacter special file 600 0"},
				{"busybox mknod -m 640 /tmp/zero c 1 5 && head -c 3 /tmp/zero | wc -c && stat -c %a /tmp/zero", "3\n640"},
				{"guestsys mknod /dev/extra 020666 1 3 && echo x >/dev/extra && stat -c '%F %t:%T %u' /dev/extra", "ok\ncharacter special file 1:3 0"},
				{"cd /tmp && guestsys mknod rel 020666 1 7 && ls rel", "ok\nrel"},
				{"guestsys mknodat /tmp at 020666 1 8 && stat -c %t:%T /tmp/at", "ok\n1:8"},
				{"guestsys mknod /tmp/white 020000 0 0; stat -c '%F %t:%T' /tmp/white", "ok\ncharacter special file 0:0"},
				{"guestsys mknod /tmp/null 020600 1 3", "EEXIST"},
				{"guestsys mknod /tmp/none/x 020600 1 3", "ENOENT"},
				{"guestsys mknod /bin/busybox/x 020600 1 3", "ENOTDIR"},
				{"guestsys mknod /tmp/disk 060600 7 0", "EPERM"},
				{"guestsys mknod /tmp/fuse 020600 10 229", "EPERM"},
				{"guestsys mknod /tmp/mem 020600 1 1", "EPERM"},
				{"guestsys mknod /tmp/fifo 010600 0 0 && stat -c %F /tmp/fifo", "ok\nfifo"},
				{"guestsys mknod /mnt/host/x 020600 1 3", "EACCES"},
				{"guestsys mknod /proc/1/root/x 020600 1 3", "ELOOP"},
				{"busybox mkdir -m 777 /open; guestsys mknod-as 1000 0 /open/x 020600 1 3", "EPERM"},
				{"busybox unshare -U -r guestsys mknod /open/y 020600 1 3", "EPERM"},
				{"busybox sh -c 'umask 077; guestsys mknod /tmp/masked2 020666 1 3; stat -c %a /tmp/masked2'", "ok\n600"},
				{"guestsys many /tmp 16 20", "ok"},
			} {
				if _, out := sh(t, p, c[0]); out != c[1] {
					t.Errorf("%s: %q, not %q", c[0], out, c[1])
				}
			}
			if l, err := os.ReadDir(host); err != nil || len(l) != 0 {
				t.Errorf("in the host's folder: %v, %v", l, err)
			}
			expect(t, p, "guestsys listener", "EINVAL")
		})
	}
}

// Commands that call nothing take nothing from those that do.
func TestManyCommandsAreListenedTo(t *testing.T) {
	t.Parallel()
	p := start(t, newEngine(t), intercepting(t, true, seccomp.Intercept{Mknod: true}))
	for range 80 {
		x, err := p.Exec(context.Background(), container.ExecSpec{Command: []string{"/bin/sleep", "1000"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = x.Signal(unix.SIGKILL) })
	}
	expect(t, p, "guestsys mknod /tmp/x 020666 1 3; guestsys many /tmp 32 5", "ok\nok")
	if out := byInit(t, p, "guestsys mknod /y 020666 1 3"); out != "ok" {
		t.Error(out)
	}
}

// While the guest rewrites the path the host must not be led out of it.
func TestPathsThatChangeLeadNowhere(t *testing.T) {
	t.Parallel()
	s := intercepting(t, true, seccomp.Intercept{Mknod: true})
	p := start(t, newEngine(t), s)
	expect(t, p, "guestsys tease /tmp 300", "ok")
	if _, err := os.Lstat("/e"); err == nil {
		t.Fatal("a node was made on the host")
	}
	expect(t, p, "ls /e 2>/dev/null; echo done", "done")
}

func TestGuestsMarkOpaqueFolders(t *testing.T) {
	t.Parallel()
	s := intercepting(t, true, seccomp.Intercept{Setxattr: true})
	p := start(t, newEngine(t), s)
	sh(t, p, "mkdir /d /l /f /u; busybox ln -s d /link; busybox chown 1000 /u; mount -t tmpfs -o ro none /mnt")
	for _, c := range [][2]string{
		{"guestsys opaque /d", "ok"},
		{"guestsys lopaque /l", "ok"},
		{"guestsys fopaque /f", "ok"},
		{"guestsys opaque /nosuch", "ENOENT"},
		{"guestsys opaque /d n", "EPERM"},
		{"guestsys setxattr /d trusted.other y", "EPERM"},
		{"guestsys setxattr /d user.x y", "ok"},
		{"guestsys opaque /mnt", "EROFS"},
		{"busybox unshare -U -r guestsys opaque /u", "EPERM"},
	} {
		if _, out := sh(t, p, c[0]); out != c[1] {
			t.Errorf("%s: %q, not %q", c[0], out, c[1])
		}
	}
	for _, d := range []string{"d", "l", "f"} {
		b := make([]byte, 4)
		if n, err := unix.Getxattr(s.Rootfs.Path+"/"+d, seccomp.OpaqueName, b); err != nil || string(b[:n]) != "y" {
			t.Errorf("%s: %q, %v", d, b[:max(n, 0)], err)
		}
	}
}

func TestGuestsTakeRealTime(t *testing.T) {
	t.Parallel()
	s := intercepting(t, true, seccomp.Intercept{Sched: true})
	p := start(t, newEngine(t), s)
	for _, c := range [][2]string{
		{"guestsys sched 0 1 5", "ok\npolicy 1"},
		{"guestsys sched 0 0 0", "ok\npolicy 0"},
		{"guestsys sched 0 1 500", "EINVAL"},
		{"sleep 5 & guestsys sched $! 2 1; kill $!", "ok\npolicy 2"},
		{"guestsys sched 30000 1 5", "ESRCH"},
		{"busybox unshare -U -r guestsys sched 0 1 5", "EPERM"},
	} {
		if _, out := sh(t, p, c[0]); out != c[1] {
			t.Errorf("%s: %q, not %q", c[0], out, c[1])
		}
	}
}

func TestGuestsSeeTheirOwnMemory(t *testing.T) {
	t.Parallel()
	s := intercepting(t, true, seccomp.Intercept{Sysinfo: true})
	s.Limits = container.Limits{Memory: 96 << 20, MemorySwap: 96 << 20}
	p := start(t, newEngine(t), s)
	_, out := sh(t, p, "guestsys sysinfo")
	var total, free, swap uint64
	var up, procs int
	if n, err := fmt.Sscanf(out, "ok\ntotal %d free %d swap %d uptime %d procs %d", &total, &free, &swap, &up, &procs); n != 5 {
		t.Fatalf("%q: %v", out, err)
	}
	if total != 96<<20 || free == 0 || free >= total || swap != 0 || up > 60 || procs < 2 || procs > 50 {
		t.Error(out)
	}
	expect(t, p, "guestsys sysinfo-at 1; guestsys sysinfo-at 0; guestsys sysinfo-at -4096", "EFAULT\nEFAULT\nEFAULT")
}

// disk is a loop device with a file system.
func disk(t *testing.T, mkfs ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 16<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], img)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command("losetup", "-f", "--show", img).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", dev).Run() })
	return dev
}

func TestGuestsMountAllowedFileSystems(t *testing.T) {
	t.Parallel()
	for name, shift := range map[string]bool{"plain": false, "shift": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := intercepting(t, true, seccomp.Intercept{Mount: true, Allowed: []string{"ext4"}, Shift: shift})
			dev := disk(t, "mkfs.ext4", "-q")
			var st unix.Stat_t
			if err := unix.Stat(dev, &st); err != nil {
				t.Fatal(err)
			}
			// One node that the container may open, and one that it may not.
			other := disk(t, "mkfs.ext4", "-q")
			var no unix.Stat_t
			if err := unix.Stat(other, &no); err != nil {
				t.Fatal(err)
			}
			for n, rdev := range map[string]uint64{"sdz": st.Rdev, "sdy": no.Rdev} {
				if err := unix.Mknod(s.Rootfs.Path+"/"+n, unix.S_IFBLK|0o600, int(rdev)); err != nil {
					t.Fatal(err)
				}
			}
			s.DeviceRules = []container.DeviceRule{{Allow: true, Type: 'b', Major: int(unix.Major(st.Rdev)), Minor: int(unix.Minor(st.Rdev)), Access: "rwm"}}
			p := start(t, newEngine(t), s)
			sh(t, p, "mkdir /a /b /c; busybox ln -s /a /link; mkdir /deep; busybox ln -s /sdz /deep/dev")
			owner, how := "65534", ""
			if shift {
				owner, how = "0", ",idmapped"
			}
			for _, c := range [][2]string{
				{"guestsys mount /sdy /b ext4 0 ''", "EPERM"},
				{"guestsys mount /nosuch /b ext4 0 ''", "ENOENT"},
				{"guestsys mount /bin/busybox /b ext4 0 ''", "ENOTBLK"},
				{"guestsys mount /sdz /nosuch ext4 0 ''", "ENOENT"},
				{"guestsys mount /sdz /b xfs 0 ''", "EPERM"},
				{"guestsys mount none /b tmpfs 0 '' && umount /b", "ok"},
				{"guestsys mount /a /b none 4096 '' && umount /b", "ok"},
				{"guestsys mount /sdz /b ext4 0 nosuchoption", "EINVAL"},
				{"busybox unshare -U -r -m guestsys mount /sdz /b ext4 0 ''", "EPERM"},
				{"guestsys mount /deep/dev /link ext4 0xc0ed0000 errors=panic && stat -c %u /a && grep ' /a ' /proc/self/mounts", "ok\n" + owner + "\n/deep/dev /a ext4 rw,relatime" + how + ",errors=remount-ro 0 0"},
				{"umount /a; guestsys mount /sdz /c ext4 1 '' && touch /c/x 2>/dev/null || echo no", "ok\nno"},
				{"umount /c && echo out", "out"},
				{"mount -t ext4 -o noatime /sdz /c && grep -o noatime /proc/self/mounts | head -1 && umount /c", "noatime"},
			} {
				if _, out := sh(t, p, c[0]); out != c[1] {
					t.Errorf("%s: %q, not %q", c[0], out, c[1])
				}
			}
		})
	}
}

// A program of the guest's mounts where the administrator says so.
func TestGuestsMountWithTheirOwnProgram(t *testing.T) {
	t.Parallel()
	s := intercepting(t, true, seccomp.Intercept{Mount: true, FUSE: map[string]string{"ext4": "helper", "xfs": "nosuch", "ext3": "bad"}})
	oom := 321
	s.OOMScoreAdj, s.Rlimits = &oom, map[string]string{"nofile": "77:77", "memlock": "65536"}
	for n, script := range map[string]string{
		"helper": "#!/bin/sh\necho \"$@ $(id -u) $(pwd)\" >/said\ncat /proc/self/cgroup >/group\ncat /proc/self/limits /proc/self/oom_score_adj >/limits\nexec mount -t tmpfs none $2\n",
		"bad":    "#!/bin/sh\nexit 3\n",
	} {
		if err := os.WriteFile(s.Rootfs.Path+"/bin/"+n, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, newEngine(t), s)
	sh(t, p, "mkdir /a")
	expect(t, p, "cd /tmp; guestsys mount /dev/x /a ext4 1 data=ordered && cat /said && grep -c ' /a tmpfs' /proc/self/mounts", "ok\n/dev/x /a -o ro,data=ordered 0 /tmp\n1")
	expect(t, p, "guestsys mount /dev/x /a ext3 0 ''", "EINVAL")
	expect(t, p, "guestsys mount /dev/x /a xfs 0 ''", "ENODEV")
	_, want := sh(t, p, "cat /proc/self/cgroup")
	expect(t, p, "cat /group", want)
	_, want = sh(t, p, "cat /proc/self/limits /proc/self/oom_score_adj")
	expect(t, p, "cat /limits", want)
	if !strings.HasSuffix(want, "\n321") {
		t.Error(want)
	}
	// A caller that has less passes that on.
	sh(t, p, "umount /a; ulimit -n 50; guestsys mount /dev/x /a ext4 0 ''")
	expect(t, p, "grep -o 'Max open files  *50  *50' /limits | head -c 14", "Max open files")
}

// Who answers may die, and the daemon that would replace it may be away for long.
func TestAnsweringOutlivesWhoBeganIt(t *testing.T) {
	t.Parallel()
	s := intercepting(t, true, seccomp.Intercept{Mknod: true})
	first := newEngine(t)
	p, err := first.Start(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	waitReady(t, s)
	answerer := func() int {
		t.Helper()
		b, err := os.ReadFile(s.RunDir + "/answers.json")
		if err != nil {
			t.Fatal(err)
		}
		var task wire.Task
		if err := json.Unmarshal(b, &task); err != nil {
			t.Fatal(err)
		}
		return task.PID
	}
	pid := answerer()
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)); err != nil || !strings.Contains(string(b), "lxd.monitor."+s.ID.Daemon) {
		t.Errorf("it lives in %s, %v", b, err)
	}
	// It dies while there is a daemon.
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if out := byInit(t, p, "guestsys mknod /a 020666 1 3"); out != "ok" {
		t.Errorf("after its death: %s", out)
	}
	if answerer() == pid {
		t.Error("nobody new")
	}
	expect(t, p, "guestsys mknod /b 020666 1 3", "ok")
	// Its own helper dies, which shows with the next call.
	pid = answerer()
	var actor int
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)); err != nil {
		t.Fatal(err)
	} else if _, err := fmt.Sscan(string(b), &actor); err != nil {
		t.Fatalf("no actor: %q, %v", b, err)
	}
	for _, n := range []int{pid, actor} {
		roll, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", n))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(roll)) {
			var kb int
			if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kb); n == 1 {
				if t.Logf("PSS %d kB", kb); kb > 6<<10 {
					t.Errorf("a process that answers takes %d kB", kb)
				}
			}
		}
	}
	if err := unix.Kill(actor, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if out := byInit(t, p, "guestsys mknod /d 020666 1 3"); out != "ok" || answerer() == pid {
		t.Errorf("after the death of its helper: %s", out)
	}
	// The daemon goes; another comes and finds it.
	pid = answerer()
	_ = first.Close()
	if h, err := process.Open(pid, 0); err != nil {
		t.Fatal("it has gone with the daemon")
	} else {
		_ = h.Close()
	}
	second := newEngine(t)
	q, err := second.Find(context.Background(), s.ID, s.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	if out := byInit(t, q, "guestsys mknod /c 020666 1 3"); out != "ok" || answerer() != pid {
		t.Errorf("with the next daemon: %s, %d is now %d", out, pid, answerer())
	}
	if err := q.Kill(context.Background()); err != nil {
		t.Fatal(err)
	}
	left(t, s)
	deadline := time.After(containertest.Deadline)
	for tick := time.NewTicker(time.Millisecond); ; {
		if _, err := process.Open(pid, 0); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it has outlived the container")
		}
	}
}

// Calls that had been read when the one who answers was killed are answered by the next.
func TestCallsOutliveWhoReadThem(t *testing.T) {
	t.Parallel()
	s := intercepting(t, true, seccomp.Intercept{Mount: true, FUSE: map[string]string{"ext4": "slow"}})
	script := "#!/bin/sh\ntest -e /began && exit 0\ntouch /began\nsleep 1000\n"
	if err := os.WriteFile(s.Rootfs.Path+"/bin/slow", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	p := start(t, newEngine(t), s)
	sh(t, p, "echo 'guestsys mount /x /mnt ext4 0 none' >/ask")
	for range 1000 {
		if _, err := os.Stat(s.Rootfs.Path + "/began"); err == nil {
			break
		}
		<-time.After(5 * time.Millisecond)
	}
	b, err := os.ReadFile(s.RunDir + "/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var task wire.Task
	if err := json.Unmarshal(b, &task); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(task.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, out := sh(t, p, "read -r x </told; cat /answer"); out != "ok" {
		t.Errorf("the call ended with %q", out)
	}
}

// A container that does not start leaves nobody behind who would have answered, and one
// whose calls hang can be ended.
func TestAnsweringEndsWithTheContainer(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	s := intercepting(t, true, seccomp.Intercept{Mknod: true})
	s.InitCmd = []string{"/no/such/init"}
	if _, err := e.Start(context.Background(), s); err == nil {
		t.Error("started")
	}
	if l, _ := filepath.Glob(s.RunDir + "/answers*"); len(l) != 0 {
		t.Errorf("left: %v", l)
	}
	left(t, s)
	h := intercepting(t, true, seccomp.Intercept{Mount: true, FUSE: map[string]string{"ext4": "hang"}})
	if err := os.WriteFile(h.Rootfs.Path+"/bin/hang", []byte("#!/bin/sh\ntouch /began\nsleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := e.Start(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	waitReady(t, h)
	sh(t, p, "for i in 1 2 3 4 5; do guestsys mount /x /mnt ext4 0 none >/dev/null 2>&1 </dev/null & done; while ! test -e /began; do sleep 0.1; done")
	if err := p.Kill(context.Background()); err != nil {
		t.Error(err)
	}
	left(t, h)
}

func TestOldProgramsCanBeRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy seccomp.Policy
		want   string
	}{
		"allowed":       {seccomp.Policy{}, "pid"},
		"refused":       {seccomp.Policy{NoCompat: true}, "-38"},
		"with no other": {seccomp.Policy{NoCompat: true, NoDefault: true}, "-38"},
		"and asking":    {seccomp.Policy{NoCompat: true, Intercept: seccomp.Intercept{Mknod: true}}, "-38"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := intercepting(t, true, seccomp.Intercept{})
			s.Seccomp = c.policy
			p := start(t, newEngine(t), s)
			_, out := sh(t, p, "guestsys int80")
			if c.want == "-38" && out != c.want || c.want == "pid" && strings.HasPrefix(out, "-") {
				t.Errorf("getpid of 32 bits: %s", out)
			}
			if name != "and asking" {
				return
			}
			expect(t, p, "guestsys mknod /x 020666 1 3", "ok")
		})
	}
}

func TestListsOfCalls(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	s := intercepting(t, true, seccomp.Intercept{Mknod: true})
	s.Seccomp.Deny = "mkdir errno 95\nmkdirat errno 95"
	p := start(t, e, s)
	expect(t, p, "guestsys mkdir /x; guestsys mknod /y 020666 1 3", "ENOTSUP\nok")
	// What the user's own lines ask about and nobody has an answer to, the kernel does.
	r := intercepting(t, true, seccomp.Intercept{})
	r.Seccomp.Deny = "mkdirat notify\nmkdir notify"
	q := start(t, e, r)
	expect(t, q, "guestsys mkdir /x; busybox mkdir /z && echo made", "ok\nmade")
	if out := byInit(t, q, "busybox mkdir /byinit"); out != "" {
		t.Error(out)
	}
}

// allCalls are the names of all system calls of this kind of host.
func allCalls(t *testing.T) string {
	t.Helper()
	all, err := filepath.Glob("/usr/include/*/asm/unistd_64.h")
	if err != nil || len(all) == 0 {
		t.Fatalf("the kernel's list of calls: %v, %v", all, err)
	}
	b, err := os.ReadFile(all[0])
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "#define" && strings.HasPrefix(f[1], "__NR_") {
			out.WriteString(strings.TrimPrefix(f[1], "__NR_") + "\n")
		}
	}
	return out.String()
}

// Who allows a call as a whole does not undo the rules on some of it.
func TestListsOfWhatIsAllowedLeaveOurRules(t *testing.T) {
	t.Parallel()
	const denied, other, high = "0x50009401", "0x50009402", "0x150009401"
	s := intercepting(t, true, seccomp.Intercept{Mknod: true, Setxattr: true, Sysinfo: true})
	s.Limits = container.Limits{Memory: 96 << 20}
	s.Seccomp.Allow = allCalls(t)
	s.Seccomp.Rules = []string{seccomp.DenyIoctl(0x50009401, 95), seccomp.DenyIoctl(0x5000940e, 95)}
	if s.Seccomp.Check() != nil || seccomp.CheckAllow(s.Seccomp.Allow) != nil {
		t.Fatal("all calls cannot be allowed")
	}
	p := start(t, newEngine(t), s)
	for _, c := range [][2]string{
		{"guestsys ioctl " + denied + "; guestsys ioctl " + high + "; guestsys ioctl 0x5000940e", "ENOTSUP\nENOTSUP\nENOTSUP"},
		{"guestsys ioctl " + other + " </dev/null; guestsys ioctl 0x5401 </dev/null", "ENOTTY\nENOTTY"},
		{"guestsys mknod /n 020666 1 3; busybox mkfifo /fifo && echo made; busybox mknod /b b 7 0", "ok\nmade\nmknod: /b: Operation not permitted"},
		{"mkdir /d; guestsys opaque /d; guestsys setxattr /d user.x y; guestsys setxattr /d user.x long", "ok\nok\nok"},
		{"guestsys sysinfo | grep -c 'total 100663296'", "1"},
	} {
		if _, out := sh(t, p, c[0]); out != c[1] {
			t.Errorf("%s: %q, not %q", c[0], out, c[1])
		}
	}
}
