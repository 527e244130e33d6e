//go:build system

package lxc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/container/containertest"
	"sett/lxd/host/idmap"
	"sett/lxd/host/seccomp"
)

func TestCommandsRunAsConfinedAsInit(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for name, m := range map[string]idmap.Map{"unprivileged": unprivileged, "privileged": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, e, spec(t, m, true))
			for _, f := range []string{"CapBnd", "CapEff", "CapPrm", "Seccomp", "Seccomp_filters", "NoNewPrivs", "Uid", "Groups"} {
				_, want := sh(t, p, "grep ^"+f+": /proc/1/status")
				expect(t, p, "grep ^"+f+": /proc/self/status", want)
			}
			_, out := sh(t, p, "grep ^Seccomp: /proc/self/status")
			if !strings.HasSuffix(out, "2") {
				t.Errorf("no filter: %q", out)
			}
			_, want := sh(t, p, "cat /proc/1/cgroup")
			expect(t, p, "cat /proc/self/cgroup", want)
			for _, ns := range []string{"user", "mnt", "pid_for_children", "net", "uts", "ipc", "cgroup"} {
				_, want := sh(t, p, "readlink /proc/1/ns/"+ns)
				expect(t, p, "readlink /proc/self/ns/"+ns, want)
			}
			expect(t, p, "cat /proc/self/oom_score_adj", "0")
			// Of the daemon's descriptors none arrives: 0, 1, 2 and the one that ls opens.
			expect(t, p, "ls /proc/self/fd | wc -l", "4")
		})
	}
}

func TestUserCommandsHaveNoPowers(t *testing.T) {
	t.Parallel()
	p := start(t, newEngine(t), spec(t, unprivileged, true))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x, err := p.Exec(context.Background(), container.ExecSpec{
		Command: []string{"/bin/sh", "-c", "grep -E '^(CapEff|Groups|Seccomp):' /proc/self/status; echo out >/dev/stdout"},
		UID:     1000, GID: 1001, Groups: []uint32{5, 7}, Stdout: w,
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	out, _ := io.ReadAll(r)
	if _, err := x.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := "CapEff:\t0000000000000000\nGroups:\t5 7 \nSeccomp:\t2\nout\n"
	got := string(out)
	if strings.ReplaceAll(got, "Groups:\t5 7 \nCapEff:\t0000000000000000", "CapEff:\t0000000000000000\nGroups:\t5 7 ") != want {
		t.Errorf("got %q", got)
	}
}

func TestOwnSeccompRulesReachCommands(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	s.Seccomp = seccomp.Policy{Rules: []string{"mkdirat errno 95", "mkdir errno 95"}}
	p := start(t, newEngine(t), s)
	if code, out := sh(t, p, "mkdir /tmp/x"); code == 0 || !strings.Contains(out, "not supported") {
		t.Errorf("mkdir: %d, %q", code, out)
	}
	free := spec(t, unprivileged, true)
	free.Seccomp = seccomp.Policy{NoDefault: true}
	q := start(t, newEngine(t), free)
	expect(t, q, "mkdir /tmp/x && grep ^Seccomp: /proc/self/status", "Seccomp:\t0")
}

func TestReadOnlyMountsStayReadOnly(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	if err := os.Chmod(src, 0o777); err != nil {
		t.Fatal(err)
	}
	for d := filepath.Dir(src); d != os.TempDir(); d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o711)
	}
	if err := os.WriteFile(filepath.Join(src, "f"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.MkdirAll(closed+"/data", 0o700); err != nil {
		t.Fatal(err)
	}
	byFD, err := unix.Open(src, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(byFD)
	s := spec(t, unprivileged, true)
	s.Mounts = []container.Mount{
		{Source: src, Target: "mnt/cold", FSType: "none", Options: []string{"bind", "ro"}, Create: container.CreateDir},
		{Source: closed + "/data", Target: "mnt/closed", FSType: "none", Options: []string{"bind"}, Create: container.CreateDir, Idmapped: true},
		{Source: "/no/such/thing", Target: "mnt/none", FSType: "none", Options: []string{"bind"}, Create: container.CreateDir, Optional: true},
		{Source: "/nonexistent", SourceFD: byFD, Target: "mnt/fd", FSType: "none", Options: []string{"bind"}, Create: container.CreateDir, Idmapped: true},
	}
	p := start(t, newEngine(t), s)
	ctx := context.Background()
	for _, m := range []container.Mount{
		{Source: src, Target: "mnt/a/b/hot", FSType: "none", Options: []string{"bind", "ro", "nosuid"}, Create: container.CreateDir, Idmapped: true},
		{Source: filepath.Join(src, "f"), Target: "mnt/file", FSType: "none", Options: []string{"bind", "ro"}, Create: container.CreateFile},
		{SourceFD: byFD, Target: "mnt/rw", FSType: "none", Create: container.CreateDir},
	} {
		if err := p.AddMount(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []string{"/mnt/cold", "/mnt/a/b/hot", "/mnt/file"} {
		for _, try := range []string{"mount -o remount,rw,bind %[1]s", "mount -o remount,rw %[1]s", "mount -o remount,bind,rw,nosuid %[1]s"} {
			if code, out := sh(t, p, fmt.Sprintf(try, at)); code == 0 {
				t.Errorf("%s: the guest made it writable: %q", at, out)
			}
		}
	}
	if code, _ := sh(t, p, "touch /mnt/cold/new || touch /mnt/a/b/hot/new || echo >/mnt/file"); code == 0 {
		t.Error("a read-only mount took a file")
	}
	expect(t, p, "touch /mnt/closed/x && stat -c %u /mnt/closed/x", "0")
	expect(t, p, "touch /mnt/fd/one /mnt/rw/two && cat /mnt/file && stat -c %u /mnt/a/b/hot /mnt/a/b /mnt/fd/one", "x0\n0\n0")
	st := unix.Stat_t{}
	if err := unix.Stat(filepath.Join(src, "one"), &st); err != nil || st.Uid != 0 {
		t.Errorf("through the idmapped mount: %d %v", st.Uid, err)
	}
	if err := unix.Stat(filepath.Join(src, "two"), &st); err != nil || st.Uid != base {
		t.Errorf("through the plain mount: %d %v", st.Uid, err)
	}
	for _, at := range []string{"mnt/a/b/hot", "/mnt/file", "mnt/rw"} {
		if err := p.RemoveMount(ctx, at); err != nil {
			t.Error(err)
		}
		if err := p.RemoveMount(ctx, at); err == nil {
			t.Errorf("%s was removed twice", at)
		}
	}
	expect(t, p, "ls /mnt/a/b/hot | wc -l", "0")
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(b), s.RunDir) {
		t.Error("the host sees a mount of ours")
	}
}

func TestMountFollowsNoMagicLink(t *testing.T) {
	t.Parallel()
	p := start(t, newEngine(t), spec(t, unprivileged, true))
	sh(t, p, "rm -rf /mnt/x; busybox ln -s /proc/self/root/etc /mnt/x; busybox ln -s /proc/1/root /mnt/y")
	for _, at := range []string{"mnt/x", "mnt/y/mnt"} {
		if err := p.AddMount(context.Background(), container.Mount{Source: "/usr", Target: at, FSType: "none"}); err == nil {
			t.Errorf("%s was followed", at)
		}
	}
}

func TestGuestRebootIsSeen(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	s := spec(t, unprivileged, true)
	for range 2 {
		p := start(t, e, s)
		expect(t, p, "stat -c %u /bin/busybox", "0")
		if _, err := p.Exec(context.Background(), container.ExecSpec{Command: []string{"/bin/sh", "-c", "while kill -HUP 1; do sleep 0.1; done"}}); err != nil {
			t.Fatal(err)
		}
		x, err := p.Wait(context.Background())
		if err != nil || !x.Reboot {
			t.Errorf("exit %+v, %v", x, err)
		}
		left(t, s)
	}
}

func TestShutdownAsksInit(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	p := start(t, newEngine(t), s)
	if err := p.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if x, err := p.Wait(context.Background()); err != nil || x.Reboot {
		t.Errorf("exit %+v, %v", x, err)
	}
	left(t, s)
}

func TestStartFailureIsExplainedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for name, change := range map[string]func(*container.Spec){
		"no init": func(s *container.Spec) { s.InitCmd = []string{"/no/such/init"} },
		"no root": func(s *container.Spec) { s.Rootfs.Path += "x" },
		"bad mount": func(s *container.Spec) {
			s.Mounts = []container.Mount{{Source: "/no/such", Target: "mnt", FSType: "none"}}
		},
		"bad nic": func(s *container.Spec) { s.NICs = []container.NIC{{HostName: "nosuchnic0", GuestName: "eth0"}} },
	} {
		s := spec(t, unprivileged, true)
		change(&s)
		_, err := e.Start(context.Background(), s)
		if err == nil {
			t.Errorf("%s: started", name)
			continue
		}
		t.Logf("%s: %v", name, err)
		left(t, s)
	}
}

func TestNICComesAndGoes(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	name := fmt.Sprintf("s%dq", os.Getpid()%100000)
	for i := range 2 {
		if out, err := exec.Command("ip", "link", "add", fmt.Sprintf("%sa%d", name, i), "type", "veth", "peer", "name", fmt.Sprintf("%sb%d", name, i)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "link", "del", fmt.Sprintf("%sa%d", name, i)).Run() })
	}
	s.NICs = []container.NIC{{HostName: name + "b0", GuestName: "eth0", HWAddr: "00:16:3e:11:22:33", MTU: 1400}}
	p := start(t, newEngine(t), s)
	ctx := context.Background()
	if err := p.AddNIC(ctx, container.NIC{HostName: name + "b1", GuestName: "eth1", MTU: 1300}); err != nil {
		t.Fatal(err)
	}
	all, err := p.Interfaces(ctx)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, i := range all[1:] {
		switch {
		case i.Name == "eth0" && i.HWAddr == "00:16:3e:11:22:33" && i.MTU == 1400 && i.HostName == name+"a0" && i.State == "up":
		case i.Name == "eth1" && i.MTU == 1300 && i.HostName == name+"a1" && i.Type == "broadcast":
		default:
			t.Errorf("%+v", i)
		}
	}
	// The guest puts something of its own in the interface's place.
	for _, c := range []string{"set eth1 down", "set eth1 name lost", "add eth1 type veth peer name trap"} {
		in := append([]string{"-n", "-t", strconv.Itoa(p.PID()), "ip", "link"}, strings.Fields(c)...)
		if out, err := exec.Command("nsenter", in...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
	if err := p.RemoveNIC(ctx, "eth1", name+"c1"); err != nil {
		t.Fatal(err)
	}
	if all, err = p.Interfaces(ctx); err != nil || !slices.ContainsFunc(all, func(i container.Interface) bool { return i.Name == "eth1" }) {
		t.Errorf("the guest's own interface was taken: %+v, %v", all, err)
	}
	if out, err := exec.Command("ip", "-o", "link", "show", name+"c1").CombinedOutput(); err != nil || !strings.Contains(string(out), "@"+name+"a1:") {
		t.Errorf("something else came back: %v, %s", err, out)
	}
	if _, err := os.Stat("/sys/class/net/" + name + "c1"); err != nil {
		t.Error(err)
	}
	if err := p.RemoveNIC(ctx, "eth1", name+"c1"); err == nil {
		t.Error("removed twice")
	}
	if err := p.RemoveNIC(ctx, "eth0", name+"c0"); err != nil {
		t.Errorf("one that it was started with: %v", err)
	}
}

func TestHugepagesAreLimited(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	s.Limits.HugepageBytes = map[string]int64{"2MB": 4 << 20}
	p := start(t, newEngine(t), s)
	var file string
	for _, f := range []string{"unified/%s/hugetlb.2MB.max", "%s/hugetlb.2MB.max", "hugetlb/%s/hugetlb.2MB.limit_in_bytes"} {
		f = filepath.Join("/sys/fs/cgroup", fmt.Sprintf(f, "lxd.payload."+s.ID.Daemon+"."+s.ID.Project+"_"+s.ID.Name))
		if _, err := os.Stat(f); err == nil {
			file = f
		}
	}
	check := func(want string) {
		t.Helper()
		b, err := os.ReadFile(file)
		if v := strings.TrimSpace(string(b)); err != nil || v != want && !(want == "max" && len(v) == 19) { // the largest number there is
			t.Errorf("%q: %q, %v, not %q", file, b, err, want)
		}
	}
	check("4194304")
	ctx := context.Background()
	now := container.Limits{HugepageBytes: map[string]int64{"2MB": 2 << 20}}
	if err := p.SetLimits(ctx, s.Limits, now); err != nil {
		t.Fatal(err)
	}
	check("2097152")
	if err := p.SetLimits(ctx, now, container.Limits{}); err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(file, ".max") {
		check("max")
	}
}

func TestLimitsHoldAndChange(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	s.Limits = container.Limits{Memory: 64 << 20, MemorySwap: -1, Processes: 20, CPUSet: "0"}
	s.Rlimits = map[string]string{"nofile": "100:200"}
	p := start(t, newEngine(t), s)
	ctx := context.Background()
	expect(t, p, "ulimit -n; ulimit -Hn; grep -c ^processor /proc/cpuinfo >/dev/null; grep Cpus_allowed_list /proc/self/status", "100\n200\nCpus_allowed_list:\t0")
	if code, _ := sh(t, p, "dd if=/dev/zero of=/dev/null bs=100M count=1"); code != 137 {
		t.Errorf("memory: %d", code)
	}
	now := container.Limits{Memory: 256 << 20, MemorySwap: -1, Processes: 20}
	if err := p.SetLimits(ctx, s.Limits, now); err != nil {
		t.Fatal(err)
	}
	if code, out := sh(t, p, "dd if=/dev/zero of=/dev/null bs=100M count=1"); code != 0 {
		t.Errorf("memory after raising: %d %s", code, out)
	}
	if err := p.SetLimits(ctx, now, container.Limits{Memory: 32 << 20, Processes: 10, CPUSet: "99"}); err == nil {
		t.Error("a CPU that is not there was taken")
	}
	if u, err := p.Usage(ctx); err != nil || u.MemoryTotal != 256<<20 {
		t.Errorf("half of a refused change stayed: %+v %v", u, err)
	}
	if code, _ := sh(t, p, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25; do sleep 5 >/dev/null 2>&1 & done"); code == 0 {
		t.Error("more processes than allowed")
	}
	if err := p.SetLimits(ctx, now, container.Limits{}); err != nil {
		t.Fatal(err)
	}
	expect(t, p, "echo free; grep Cpus_allowed_list /proc/self/status", "free\nCpus_allowed_list:\t"+cpus(t))
}

func cpus(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestConsoleHasOneClient(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	p := start(t, newEngine(t), s)
	ctx := context.Background()
	sh(t, p, "echo marker >/dev/console")
	// The monitor reads the console when it gets round to it.
	var out []byte
	var err error
	for range 500 {
		if out, err = p.ConsoleLog(ctx, false); err != nil || strings.Contains(string(out), "marker") {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if err != nil || !strings.Contains(string(out), "marker") {
		t.Errorf("log %q, %v", out, err)
	}
	if _, err := p.ConsoleLog(ctx, true); err != nil {
		t.Errorf("clear: %v", err)
	}
	c, err := p.Console(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Console(ctx); !errors.Is(err, container.ErrConsoleBusy) {
		t.Errorf("second console: %v", err)
	}
	sh(t, p, "echo live >/dev/console")
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "live" {
		t.Errorf("console says %q, %v", buf, err)
	}
	if err := c.Resize(100, 30); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	d, err := p.Console(ctx)
	if err != nil {
		t.Fatalf("console after close: %v", err)
	}
	_ = d.Close()
}

func TestAdoptedContainerIsWhole(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	s.Seccomp.Rules = []string{"mkdirat errno 95", "mkdir errno 95"}
	first := newEngine(t)
	p, err := first.Start(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	pid := p.PID()
	_ = first.Close()
	if _, err := p.Wait(context.Background()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("wait after the engine closed: %v", err)
	}
	second := newEngine(t)
	if _, err := second.Start(context.Background(), s); err == nil {
		t.Fatal("started twice")
	}
	if err := second.Clean(context.Background(), s.ID, s.RunDir); err == nil {
		t.Fatal("cleaned while running")
	}
	q, err := second.Find(context.Background(), s.ID, s.RunDir)
	if err != nil || q.PID() != pid {
		t.Fatalf("find: %v", err)
	}
	if code, _ := sh(t, q, "mkdir /tmp/x"); code == 0 {
		t.Error("the filter was forgotten")
	}
	x, err := q.Exec(context.Background(), container.ExecSpec{Command: []string{"/bin/tty"}, PTY: true})
	if err != nil {
		t.Fatal(err)
	}
	out, _ := io.ReadAll(x.Terminal())
	if !strings.HasPrefix(string(out), "/dev/pts/") {
		t.Errorf("tty: %q", out)
	}
	_ = x.Terminal().Close()
	if err := q.Kill(context.Background()); err != nil {
		t.Error(err)
	}
	left(t, s)
}

func TestMonitorIsSmall(t *testing.T) {
	e := newEngine(t)
	s := spec(t, unprivileged, true)
	p := start(t, e, s)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	monitor := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[1]
	roll, err := os.ReadFile("/proc/" + monitor + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(roll)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kb); n == 1 {
			t.Logf("PSS %d kB", kb)
			if kb > 3<<10 {
				t.Errorf("the monitor takes %d kB", kb)
			}
		}
	}
	if fds, err := os.ReadDir("/proc/" + monitor + "/fd"); err == nil {
		for _, fd := range fds {
			to, _ := os.Readlink("/proc/" + monitor + "/fd/" + fd.Name())
			t.Log(fd.Name(), to)
		}
	}
}

// An unprivileged guest makes no nodes, but an image may bring them, and with its ids
// mapped the guest owns them.
func TestContainersOpenListedDevicesOnly(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for name, s := range map[string]container.Spec{
		"privileged": spec(t, nil, false), "idmapped": spec(t, unprivileged, true), "shifted": spec(t, unprivileged, false),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []struct {
				name         string
				kind         uint32
				major, minor uint32
			}{{"other", unix.S_IFBLK, 7, 1}, {"loop", unix.S_IFBLK, 7, 0}, {"null", unix.S_IFCHR, 1, 3}} {
				at := filepath.Join(s.Rootfs.Path, n.name)
				if err := unix.Mknod(at, n.kind|0o666, int(unix.Mkdev(n.major, n.minor))); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(at, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			s.DeviceRules = []container.DeviceRule{{Allow: true, Type: 'b', Major: 7, Minor: 1, Access: "rwm"}}
			p := start(t, e, s)
			const try = "for d in other loop null; do (: </$d) 2>/dev/null && echo $d; done"
			expect(t, p, try, "other\nnull")
			if err := p.AllowDevices(t.Context(), []container.DeviceRule{{Allow: true, Type: 'b', Major: 7, Minor: 0, Access: "r"}, {Type: 'b', Major: 7, Minor: 1, Access: "rw"}}); err != nil {
				t.Fatal(err)
			}
			expect(t, p, try, "loop\nnull")
		})
	}
}

func TestNestingLetsGuestsMountProc(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	s.Nesting = true
	p := start(t, newEngine(t), s)
	expect(t, p, "busybox unshare -U -r -p -f --mount-proc sh -c 'cat /proc/self/uid_map | wc -l; readlink /proc/self | wc -c'", "1\n2")
}

// A guest that links /proc/self/exe to where commands are looked for makes us run
// ourselves. Neither then nor later may it write to what it gets hold of.
func TestGuestCannotWriteOurBinary(t *testing.T) {
	t.Parallel()
	p := start(t, newEngine(t), spec(t, nil, false))
	sh(t, p, "busybox ln -s /proc/self/exe /bin/evil")
	x, err := p.Exec(context.Background(), container.ExecSpec{Command: []string{"/bin/evil"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	// While the helper is on its way its links are closed to the guest.
	expect(t, p, `for i in 1 2 3; do for e in /proc/[0-9]*/exe; do (echo >>$e) 2>/dev/null && echo wrote $e; done; done; echo done`, "done")
}

func TestExecLeavesNoDescriptorsOrZombies(t *testing.T) {
	e := newEngine(t)
	p := start(t, e, spec(t, unprivileged, true))
	count := func() (fds, children int) {
		l, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := filepath.Glob("/proc/self/task/*/children")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range tasks {
			b, _ := os.ReadFile(f)
			children += len(strings.Fields(string(b)))
		}
		return len(l), children
	}
	round := func() {
		ctx := context.Background()
		for _, s := range []container.ExecSpec{
			{Command: []string{"/bin/true"}},
			{Command: []string{"/no/such"}},
			{Command: []string{"/bin/true"}, PTY: true},
			{Command: []string{"/no/such"}, PTY: true},
			{Command: []string{"/etc/passwd"}},
		} {
			x, err := p.Exec(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			if term := x.Terminal(); term != nil {
				_ = term.Close()
			}
		}
		if _, err := p.Exec(ctx, container.ExecSpec{Command: []string{"/bin/true"}, Cwd: "/no/such"}); err == nil || !strings.Contains(err.Error(), "/no/such") {
			t.Errorf("a folder that is not there was entered: %v", err)
		}
	}
	round()
	fds, children := count()
	for range 5 {
		round()
	}
	for n := range 40 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*300*time.Microsecond)
		if x, err := p.Exec(ctx, container.ExecSpec{Command: []string{"/bin/true"}, PTY: n%2 == 0}); err == nil {
			if _, err := x.Wait(context.Background()); err != nil {
				t.Error(err)
			}
			if term := x.Terminal(); term != nil {
				_ = term.Close()
			}
		}
		cancel()
	}
	// What was cancelled is cleared away behind the caller's back.
	deadline := time.After(containertest.Deadline)
	for tick := time.NewTicker(time.Millisecond); ; {
		f, c := count()
		if f == fds && c == children {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d descriptors and %d children became %d and %d", fds, children, f, c)
		}
	}
}

// broods are the children that make processes for commands.
func broods(t *testing.T) []int {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, c := range strings.Fields(string(b)) {
			args, _ := os.ReadFile("/proc/" + c + "/cmdline")
			if string(args) == "lxd-shim\x00brood\x00" {
				pid, err := strconv.Atoi(c)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, pid)
			}
		}
	}
	return out
}

func TestCommandsRunWhenTheirBroodIsKilled(t *testing.T) {
	t.Cleanup(func() { // when all else has been closed
		if all := broods(t); len(all) != 0 {
			t.Errorf("broods %v outlive their owner", all)
		}
	})
	p := start(t, newEngine(t), spec(t, unprivileged, true))
	expect(t, p, "echo one", "one")
	for range 3 {
		all := broods(t)
		if len(all) != 1 {
			t.Fatalf("broods %v, want one", all)
		}
		if err := unix.Kill(all[0], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		expect(t, p, "echo two", "two") // by a process of its own, or by a new brood
		expect(t, p, "echo three", "three")
	}
	// A copy has the command's descriptors and no others.
	expect(t, p, "ls /proc/self/fd | wc -l", "4")
}

// The test binary ignores SIGHUP as a daemon under nohup does, and SIGPIPE as
// go-dqlite does.
func TestGuestsInheritNoIgnoredSignals(t *testing.T) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGHUP, syscall.SIGPIPE)
	p := start(t, newEngine(t), spec(t, unprivileged, true))
	for _, who := range []string{"1", "self"} {
		_, out := sh(t, p, "grep SigIgn /proc/"+who+"/status")
		// The guest's init is a shell, which itself ignores SIGINT and SIGQUIT for its
		// children in the background; 1 is SIGHUP, 13 SIGPIPE.
		mask, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(out), "SigIgn:")), 16, 64)
		if err != nil || mask&(1<<0|1<<12) != 0 {
			t.Errorf("%s ignores %q, %v", who, out, err)
		}
	}
}
