package lxc

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sett/lxd/container"
	"sett/lxd/host/idmap"
	"sett/lxd/host/seccomp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func unified(c string) (bool, bool) {
	return true, slices.Contains([]string{"cpuset", "cpu", "io", "memory", "pids", "hugetlb"}, c)
}

func hybrid(c string) (bool, bool) {
	if c == "hugetlb" {
		return true, true
	}
	return false, slices.Contains([]string{"cpuset", "cpu", "cpuacct", "memory", "pids", "blkio", "devices"}, c)
}

func fakeHost(has support, apparmor bool) host {
	files := []string{"/dev/fuse", "/dev/net/tun", "/var/lib/lxcfs/proc/meminfo", "/var/lib/lxcfs/proc/stat"}
	dirs := []string{"/sys/kernel/debug", "/var/lib/lxcfs/sys/devices/system/cpu"}
	return host{
		has: has, apparmor: apparmor,
		exists: func(p string) bool { return slices.Contains(files, p) || slices.Contains(dirs, p) },
		isDir:  func(p string) bool { return slices.Contains(dirs, p) },
	}
}

func basic() container.Spec {
	return container.Spec{
		ID:     container.ID{Daemon: "d1", Project: "default", Name: "web"},
		Rootfs: container.Rootfs{Path: "/pools/p/containers/web/rootfs", Idmapped: true},
		IDMap:  idmap.Map{{UID: true, HostID: 1000000, Range: 65536}, {GID: true, HostID: 2000000, Range: 65536}},
		RunDir: "/run/web", LogFile: "/logs/web/lxc.log", ConsoleLog: "/logs/web/console.log",
	}
}

func full() container.Spec {
	s, score, swappiness := basic(), -500, uint64(10)
	s.Hostname, s.Arch = "web1", "x86_64"
	s.InitCmd = []string{"/bin/sh", "-c", "exec /sbin/init"}
	s.InitEnv = []string{"LANG=C.UTF-8", "A=b c"}
	s.Nesting, s.LXCFS = true, "/var/lib/lxcfs"
	s.Mounts = []container.Mount{
		{Source: "/srv/my data", Target: "mnt/my data", FSType: "none", Options: []string{"rbind"}, Create: container.CreateDir, Idmapped: true},
		{Source: "/staged away", Target: "mnt/ro", Options: []string{"ro"}, Create: container.CreateFile, Optional: true},
		{Source: "tmpfs", Target: "run/x", FSType: "tmpfs", Options: []string{"size=1M"}},
	}
	s.NICs = []container.NIC{{HostName: "veth1", GuestName: "eth0", HWAddr: "00:16:3e:00:00:01", MTU: 1400}, {HostName: "veth2", GuestName: "eth1"}}
	s.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	s.Rlimits = map[string]string{"nofile": "1024:4096", "core": "unlimited"}
	s.OOMScoreAdj = &score
	s.AppArmor = "lxd-web"
	s.Limits = container.Limits{
		CPUSet: "0-1", CPUShares: 512, CPUQuota: 50 * time.Millisecond, CPUPeriod: 100 * time.Millisecond,
		Memory: 1 << 30, MemorySoft: 1 << 29, MemorySwap: 3 << 30, Swappiness: &swappiness, Processes: 500,
		BlkioWeight: 300, HugepageBytes: map[string]int64{"2MB": 4 << 20, "1GB": 0},
	}
	s.RawLXC = "# mine\nlxc.hook.start = /bin/true\n\nlxc.signal.halt = SIGRTMIN+4\n"
	return s
}

func TestRenderedConfiguration(t *testing.T) {
	t.Parallel()
	privileged := basic()
	privileged.IDMap, privileged.DropCaps = nil, []string{"sys_boot"}
	privileged.DeviceRules = []container.DeviceRule{{Allow: true, Type: 'b', Major: 8, Minor: 1, Access: "rwm"}, {Type: 'c', Major: 10, Minor: -1, Access: "rwm"}}
	open := basic()
	open.Seccomp = seccomp.Policy{NoDefault: true}
	open.Rootfs = container.Rootfs{Path: "/r", ReadOnly: true}
	for name, c := range map[string]struct {
		host host
		spec container.Spec
	}{
		"basic-hybrid":       {fakeHost(hybrid, false), basic()},
		"basic-unified":      {fakeHost(unified, true), basic()},
		"full-hybrid":        {fakeHost(hybrid, false), full()},
		"full-unified":       {fakeHost(unified, true), full()},
		"privileged-hybrid":  {fakeHost(hybrid, false), privileged},
		"privileged-unified": {fakeHost(unified, true), privileged},
		"readonly-open":      {fakeHost(hybrid, false), open},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := render(c.host, c.spec, map[int]string{1: "/run/web/mounts/1"})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".conf")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s; run with -update and read the diff:\n%s", file, got)
			}
		})
	}
}

func TestLineBreaksCannotAddKeys(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*container.Spec){
		"environment": func(s *container.Spec) { s.InitEnv = []string{"A=b\nlxc.hook.pre-start = /bin/evil"} },
		"hostname":    func(s *container.Spec) { s.Hostname = "a\nlxc.x = y" },
		"sysctl":      func(s *container.Spec) { s.Sysctl = map[string]string{"a": "1\nlxc.x = y"} },
		"run folder":  func(s *container.Spec) { s.RunDir = "/a$(evil)" },
		"nic":         func(s *container.Spec) { s.NICs = []container.NIC{{HostName: "a", GuestName: "b\rc"}} },
	} {
		s := basic()
		change(&s)
		if got, err := render(fakeHost(hybrid, false), s, nil); err == nil {
			t.Errorf("%s was taken:\n%s", name, got)
		}
	}
	s := basic()
	s.Mounts = []container.Mount{{Source: "/a\nlxc.x = y", Target: "m"}}
	got, err := render(fakeHost(hybrid, false), s, nil)
	if err != nil || strings.Contains(got, "\nlxc.x") {
		t.Errorf("a mount's source is quoted: %v\n%s", err, got)
	}
}

func TestRawLinesStayInside(t *testing.T) {
	t.Parallel()
	for raw, ok := range map[string]bool{
		"":                                   true,
		"# lxc.rootfs.path = /":              true,
		"lxc.aa_profile = unconfined":        true,
		"lxc.mount.entry = /a b none bind":   true,
		"lxc.net.0.ipv4.address = 10.0.0.2":  true,
		"lxc.hook.start = /x":                true,
		"lxc.cgroup.memory.swappiness = 0":   true,
		"lxc.rootfs.path = /":                false,
		"LXC.Rootfs.Path = /":                false,
		" lxc.idmap=u 0 0 1":                 false,
		"lxc.hook.pre-start = /x":            true,
		"lxc.hook.post-stop =":               false,
		"lxc.hook = ":                        false,
		"lxc.hook.version = 0":               false,
		"lxc.prlimit.nofile = 5":             false,
		"lxc.include = /etc/x":               false,
		"lxc.cgroup.dir = /":                 false,
		"lxc.cgroup.dir.container = /":       false,
		"lxc.net.0.type = none":              false,
		"lxc.net.0.script.up = /x":           false,
		"lxc.namespace.share.net = 1":        false,
		"lxc.console.path = /dev/tty1":       false,
		"lxc.log.file = /etc/passwd":         false,
		"lxc.seccomp.profile = /dev/null":    false,
		"rubbish":                            false,
		"a = b":                              false,
		"lxc.arch = x86_64\nlxc.ephemeral=1": false,
		"lxc.rootfs .path = /":               false,
		"lxc.monitor.unshare = 1":            false,
	} {
		if err := container.CheckRaw(raw); (err == nil) != ok {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

func TestLimitsThatTheHostCannotHoldAreRefused(t *testing.T) {
	t.Parallel()
	s := basic()
	s.Limits.Processes = 5
	_, err := render(fakeHost(func(string) (bool, bool) { return false, false }, false), s, nil)
	if err == nil || !strings.Contains(err.Error(), "pids") {
		t.Errorf("%v", err)
	}
}

func TestLiveLimitsGoInAnOrderThatTheKernelTakes(t *testing.T) {
	t.Parallel()
	files := func(l []setting) string {
		var out []string
		for _, s := range l {
			out = append(out, s.file+"="+s.value)
		}
		return strings.Join(out, " ")
	}
	small, big := container.Limits{Memory: 100, MemorySwap: 200}, container.Limits{Memory: 300, MemorySwap: 400}
	for _, c := range []struct {
		has      support
		old, now container.Limits
		want     string
	}{
		{hybrid, small, big, "memory.memsw.limit_in_bytes=400 memory.limit_in_bytes=300"},
		{hybrid, big, small, "memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=200"},
		{hybrid, big, container.Limits{}, "memory.memsw.limit_in_bytes=-1 memory.limit_in_bytes=-1"},
		{hybrid, container.Limits{}, small, "memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=200"},
		{unified, small, big, "memory.max=300"},
		{unified, container.Limits{Processes: 5}, container.Limits{}, "pids.max=max"},
		{hybrid, container.Limits{CPUSet: "0"}, container.Limits{}, "cpuset.cpus="},
		{unified, container.Limits{}, container.Limits{CPUQuota: 20 * time.Millisecond}, "cpu.max=20000 100000"},
		{hybrid, big, big, ""},
	} {
		got := files(live(c.has, c.old, c.now))
		if got != c.want {
			t.Errorf("%+v -> %+v:\n got %s\nwant %s", c.old, c.now, got, c.want)
		}
	}
}
