//go:build system

package system

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// What limits say is in force in the kernel, from the start on and changed live.
func TestLimitsAreInForce(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.setUp("dir")
	h.launch("c1", "-c", "limits.cpu.allowance=25ms/100ms", "-c", "limits.cpu.priority=5", "-c", "limits.memory=128MiB",
		"-c", "limits.memory.swap=false", "-c", "limits.processes=50", "-c", "limits.kernel.nofile=100:200",
		"-c", "linux.sysctl.net.ipv4.ip_forward=1", "-c", "raw.lxc=lxc.environment = RAW=yes", "-c", "limits.disk.priority=3")
	b, err := os.ReadFile("/proc/" + strconv.Itoa(h.initPID("c1")) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	group := func(controller, file string) string {
		t.Helper()
		for l := range strings.Lines(string(b)) {
			p := strings.SplitN(strings.TrimSpace(l), ":", 3)
			for _, c := range strings.Split(p[1], ",") {
				if c == controller {
					v, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", c, p[2], file))
					if err != nil {
						return err.Error()
					}
					return strings.TrimSpace(string(v))
				}
			}
		}
		t.Skip("this host has no cgroup v1 controller " + controller)
		return ""
	}
	check := func(controller, file, want string) {
		t.Helper()
		if got := group(controller, file); got != want {
			t.Errorf("%s is %q, not %q", file, got, want)
		}
	}
	check("cpu", "cpu.cfs_quota_us", "25000")
	check("cpu", "cpu.cfs_period_us", "100000")
	check("cpu", "cpu.shares", "1019")
	check("memory", "memory.limit_in_bytes", "134217728")
	check("memory", "memory.swappiness", "0")
	check("pids", "pids.max", "50")
	if group("blkio", "blkio.bfq.weight") != "300" {
		t.Errorf("the disk's weight is %q", group("blkio", "blkio.bfq.weight"))
	}
	in := func(script string) string { return strings.TrimSpace(h.lxc("exec", "c1", "--", "sh", "-c", script)) }
	for script, want := range map[string]string{
		"ulimit -Sn; ulimit -Hn":                                         "100\n200",
		"cat /proc/sys/net/ipv4/ip_forward":                              "1",
		"tr '\\0' '\\n' </proc/1/environ | grep RAW":                     "RAW=yes",
		"grep 'open files' /proc/1/limits | tr -s ' ' | cut -d' ' -f4,5": "100 200",
	} {
		if got := in(script); got != want {
			t.Errorf("%s: %q, not %q", script, got, want)
		}
	}
	// Live.
	h.lxc("config", "set", "c1", "limits.cpu.allowance=50%", "limits.memory=50%", "limits.memory.enforce=soft", "limits.processes=60", "limits.disk.priority=10")
	check("cpu", "cpu.cfs_quota_us", "-1")
	check("cpu", "cpu.shares", "507")
	if v := group("memory", "memory.limit_in_bytes"); len(v) < 18 {
		t.Errorf("the hard limit is still %s", v)
	}
	check("pids", "pids.max", "60")
	check("blkio", "blkio.bfq.weight", "1000")
	for _, k := range []string{"limits.cpu.allowance", "limits.cpu.priority", "limits.memory", "limits.memory.enforce", "limits.memory.swap", "limits.processes", "limits.disk.priority"} {
		h.lxc("config", "unset", "c1", k)
	}
	check("cpu", "cpu.shares", "1024")
	check("memory", "memory.swappiness", "60")
	check("pids", "pids.max", "max")
	check("blkio", "blkio.bfq.weight", "100")
	for _, bad := range []string{"limits.cpu.allowance=-1%", "linux.sysctl.kernel.core_pattern=x", "raw.lxc=lxc.rootfs.path = /", "limits.kernel.nofile=2:1"} {
		if r := h.try("config", "set", "c1", bad); r.code == 0 {
			t.Errorf("%s was taken", bad)
		}
	}
	h.lxc("delete", "--force", "c1")
}

// Instances with a number of CPUs keep out of each other's way, and of those that have
// CPUs of their own, as they come, change and go.
func TestInstancesShareCPUs(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(b)) == "0" {
		t.Skip("this host has one CPU")
	}
	h := newHost(t)
	h.setUp("dir")
	on := func(c string) string {
		t.Helper()
		return strings.TrimSpace(h.lxc("exec", c, "--", "sed", "-n", "s/^Cpus_allowed_list:[[:space:]]*//p", "/proc/self/status"))
	}
	h.launch("c1", "-c", "limits.cpu=1")
	h.launch("c2", "-c", "limits.cpu=1")
	a, z := on("c1"), on("c2")
	if a == z {
		t.Fatalf("both on CPU %s", a)
	}
	// c1 wants the very CPU on which c2 is.
	h.lxc("config", "set", "c1", "limits.cpu="+z+"-"+z)
	if x, y := on("c1"), on("c2"); x != z || y == z {
		t.Errorf("c1 is on %s and c2 on %s; c1 wanted %s", x, y, z)
	}
	// A daemon that comes later places them as well.
	h.stop(syscall.SIGKILL)
	h.start()
	if x, y := on("c1"), on("c2"); x != z || y == z {
		t.Errorf("after a crash c1 is on %s and c2 on %s", x, y)
	}
	h.lxc("config", "set", "c1", "limits.cpu=1", "limits.memory=100MiB")
	h.launch("c3", "-c", "limits.cpu="+on("c1")+"-"+on("c1"))
	h.lxc("delete", "--force", "c3")
	if x, y := on("c1"), on("c2"); x == y {
		t.Errorf("at last both on CPU %s", x)
	}
	h.lxc("config", "unset", "c1", "limits.cpu")
	if got := on("c1"); got != strings.TrimSpace(string(b)) {
		t.Errorf("with no limit on %s", got)
	}
	h.lxc("delete", "--force", "c1", "c2")
}
