//go:build system

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDevicesComeAndGo(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c, "--no-profiles", "--storage", "default")

	// Interfaces, while the container runs.
	bridged := func() int { return len(dirNames("/sys/class/net/" + h.bridge() + "/brif")) }
	h.lxc("config", "device", "add", c, "net", "nic", "network="+h.bridge(), "name=eth0")
	h.seen()
	if n := bridged(); n != 1 {
		t.Errorf("%d interfaces on the bridge, want 1", n)
	}
	h.lxc("exec", c, "--", "udhcpc", "-n", "-q", "-i", "eth0", "-s", "/etc/udhcpc.script")
	h.ipv4(c)
	h.lxc("config", "device", "add", c, "wire", "nic", "nictype=p2p", "name=wire0")
	wire := strings.TrimSpace(h.lxc("config", "get", c, "volatile.wire.host_name"))
	h.links[wire] = true
	if _, err := os.Stat("/sys/class/net/" + wire); wire == "" || err != nil {
		t.Errorf("the host's end of the p2p nic is %q: %v", wire, err)
	}
	h.lxc("exec", c, "--", "ip", "link", "set", "wire0", "up")
	h.lxc("config", "device", "remove", c, "wire")
	h.lxc("config", "device", "remove", c, "net")
	if r := h.try("exec", c, "--", "ls", "/sys/class/net"); r.stdout != "lo\n" {
		t.Errorf("interfaces inside after their removal: %q", r.stdout)
	}
	if _, err := os.Stat("/sys/class/net/" + wire); bridged() != 0 || err == nil {
		t.Errorf("the host's ends are still there: %d, %v", bridged(), err)
	}

	// A folder of the host, with ids mapped: root's files belong to root inside.
	shared := filepath.Join(t.TempDir(), "shared")
	if err := os.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(shared+"/file", []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.lxc("config", "device", "add", c, "plain", "disk", "source="+shared, "path=/mnt/plain")
	if out := h.lxc("exec", c, "--", "cat", "/mnt/plain/file"); out != "from the host\n" {
		t.Errorf("the file says %q", out)
	}
	if r := h.try("exec", c, "--", "touch", "/mnt/plain/made"); r.code == 0 {
		t.Error("the container wrote to a folder of the host's root without shift")
	}
	h.lxc("config", "device", "remove", c, "plain")
	h.lxc("config", "device", "add", c, "shifted", "disk", "source="+shared, "path=/mnt/shifted", "shift=true")
	h.lxc("exec", c, "--", "touch", "/mnt/shifted/made")
	h.lxc("config", "device", "add", c, "ro", "disk", "source="+shared, "path=/mnt/ro", "readonly=true")
	if r := h.try("exec", c, "--", "sh", "-c", "echo x >/mnt/ro/file"); r.code == 0 {
		t.Error("the container wrote to a read-only disk")
	}

	// The same after a restart, from the configuration.
	h.lxc("restart", "--force", c)
	h.waitBooted(c)
	if out := h.lxc("exec", c, "--", "stat", "-c", "%u", "/mnt/shifted/made"); out != "0\n" {
		t.Errorf("the owner after a restart is %q", out)
	}
	h.lxc("config", "device", "remove", c, "shifted")
	h.lxc("config", "device", "remove", c, "ro")
	if r := h.try("exec", c, "--", "grep", "/mnt/", "/proc/self/mountinfo"); r.stdout != "" {
		t.Errorf("left inside:\n%s", r.stdout)
	}

	for _, bad := range [][]string{
		{"no-source", "disk", "source=/no/such/folder", "path=/mnt/x"},
		{"no-path", "disk", "source=" + shared},
		{"no-network", "nic", "network=nosuchnet"},
		{"no-type", "nonsense"},
		{"no-key", "disk", "source=" + shared, "path=/mnt/x", "colour=green"},
		{"later", "gpu"},
	} {
		before := h.lxc("config", "show", c)
		if r := h.try(append([]string{"config", "device", "add", c}, bad...)...); r.code == 0 {
			t.Errorf("device %s was taken", bad)
		}
		if after := h.lxc("config", "show", c); after != before {
			t.Errorf("device %s was refused but left a trace:\n%s", bad, after)
		}
	}
	// The profile's interface is taken out by a device of type none.
	h.lxc("stop", "--force", c)
	h.lxc("profile", "assign", c, "default")
	h.lxc("config", "device", "add", c, "eth0", "none")
	h.lxc("start", c)
	h.waitBooted(c)
	if r := h.try("exec", c, "--", "ip", "link", "show", "eth0"); r.code == 0 {
		t.Error("eth0 is inside although it is overridden by none")
	}
}

// TestInterfacesChangeWhileTheyRun changes what can change in place, replugs for the rest,
// and looks whether what is refused leaves all as it was, on the host and inside.
func TestInterfacesChangeWhileTheyRun(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c, other := h.name("c1"), h.name("c2")
	h.launch(c)
	address := strings.TrimSpace(h.lxc("network", "get", h.bridge(), "ipv4.address"))
	gateway, _, _ := strings.Cut(address, "/")
	subnet := gateway[:strings.LastIndex(gateway, ".")+1]
	h.lxc("init", "tiny", other)
	h.lxc("config", "device", "override", other, "eth0", "ipv4.address="+subnet+"77")
	h.lxc("config", "device", "override", c, "eth0", "limits.max=10Mbit", "ipv4.address="+subnet+"78")
	end := func() string {
		h.seen()
		return strings.TrimSpace(h.lxc("config", "get", c, "volatile.eth0.host_name"))
	}
	host := func(argv ...string) string {
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		if err != nil {
			t.Fatalf("%s: %v", argv, err)
		}
		return string(out)
	}
	limit := func() string { return host("tc", "class", "show", "dev", end()) }
	// Others on this machine change their routes, and a bridge without a port is down at times.
	routes := func() (out string) {
		for line := range strings.Lines(host("ip", "route")) {
			if strings.HasPrefix(line, "default") || strings.Contains(line, h.bridge()) {
				out += strings.Replace(line, " linkdown", "", 1)
			}
		}
		return out
	}
	hosts := func() string {
		b, err := os.ReadFile(filepath.Join(h.lxdDir(), "networks", h.bridge(), "dnsmasq.hosts", c+".eth0"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if !strings.Contains(limit(), "rate 10Mbit") || !strings.Contains(hosts(), subnet+"78") {
		t.Errorf("limit %q, host %q", limit(), hosts())
	}
	all := func() string { // what is unplugged and comes back has another end on the host
		return strings.ReplaceAll(h.lxc("config", "show", c)+limit()+routes()+hosts(), end(), "END")
	}
	before := all()
	for _, bad := range []string{
		"ipv4.address=" + subnet + "77", "ipv4.address=" + gateway, "ipv4.address=192.0.2.9", "ipv4.routes=0.0.0.0/0", "ipv4.routes=" + subnet + "0/24",
		"limits.max=1bit", "mtu=1400", "host_name=" + h.bridge(), "host_name=lo", "network=nosuchnet", "name=lo", "hwaddr=01:00:5e:00:00:01",
	} {
		if r := h.try("config", "device", "set", c, "eth0", "limits.max=5Mbit", bad); r.code == 0 {
			t.Errorf("%s was taken", bad)
		}
		if after := all(); after != before {
			t.Errorf("%s was refused and changed\n%s\nto\n%s", bad, before, after)
		}
	}
	h.lxc("config", "device", "set", c, "eth0", "limits.max=5Mbit", "ipv4.address="+subnet+"79", "ipv4.routes=10.251.3.0/24")
	if !strings.Contains(limit(), "rate 5Mbit") || !strings.Contains(routes(), "10.251.3.0/24 dev "+h.bridge()) || !strings.Contains(hosts(), subnet+"79") {
		t.Errorf("limit %q, routes %q, host %q", limit(), routes(), hosts())
	}
	h.lxc("config", "device", "set", c, "eth0", "hwaddr=00:16:3e:11:22:33", "name=lan0")
	if out := h.lxc("exec", c, "--", "ip", "link", "show", "lan0"); !strings.Contains(out, "00:16:3e:11:22:33") {
		t.Errorf("inside it is\n%s", out)
	}
	if !strings.Contains(limit(), "rate 5Mbit") || !strings.Contains(routes(), "10.251.3.0/24 dev "+h.bridge()) || !strings.Contains(hosts(), "00:16:3e:11:22:33") {
		t.Errorf("limit %q, routes %q, host %q", limit(), routes(), hosts())
	}
	h.lxc("stop", "--force", c)
	if out := routes(); strings.Contains(out, "10.251.3.0/24") {
		t.Errorf("routes of a stopped instance:\n%s", out)
	}
	// No guest tells the host which way to go.
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + h.bridge() + "/accept_ra")
	if err != nil || string(b) != "0\n" {
		t.Errorf("accept_ra of the bridge is %q, %v", b, err)
	}
}

// TestDiskLinksStayInside: a link that the guest has put in the way of a mount is not
// followed on the host.
func TestDiskLinksStayInside(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c)
	target := filepath.Join(h.dir, "target")
	if err := os.Mkdir(target, 0o777); err != nil {
		t.Fatal(err)
	}
	src := t.TempDir()
	h.lxc("exec", c, "--", "ln", "-s", target, "/mnt/way")
	h.try("config", "device", "add", c, "d", "disk", "source="+src, "path=/mnt/way/deep")
	h.try("config", "device", "remove", c, "d")
	h.lxc("stop", "--force", c)
	h.try("config", "device", "add", c, "d", "disk", "source="+src, "path=/mnt/way/deep")
	h.try("start", c)
	if names := dirNames(target); len(names) > 0 {
		t.Errorf("the host's folder got %s", names)
	}
	for _, m := range h.mounts() {
		if strings.HasPrefix(m, target) {
			t.Errorf("mounted on the host: %s", m)
		}
	}
	h.eventually("delete", func() bool { return h.try("delete", "--force", c).code == 0 })
}

func TestLimitsHoldAndChangeLive(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c, "-c", "limits.memory=64MiB", "-c", "limits.processes=50", "-c", "limits.cpu=1")
	if out := h.lxc("exec", c, "--", "nproc"); out != "1\n" {
		t.Errorf("nproc says %q", out)
	}
	// tail of an endless file without a newline keeps all of it in memory.
	hog := "tail /dev/zero"
	if r := h.try("exec", c, "--", "sh", "-c", hog); r.code != 137 {
		t.Errorf("a process over limits.memory: exit %d, %s", r.code, r.stderr)
	}
	forks := "i=0; while [ $i -lt 80 ]; do sleep 4 & i=$((i+1)); done"
	if r := h.try("exec", c, "--", "timeout", "-s", "KILL", "5", "sh", "-c", forks); !strings.Contains(r.stderr, "fork") {
		t.Errorf("80 processes against limits.processes=50: exit %d, %q", r.code, r.stderr)
	}
	h.lxc("config", "set", c, "limits.processes=500")
	if r := h.try("exec", c, "--", "sh", "-c", forks+"; killall sleep"); strings.Contains(r.stderr, "fork") {
		t.Errorf("80 processes against limits.processes=500: %q", r.stderr)
	}
	h.lxc("config", "unset", c, "limits.cpu")
	if out := h.lxc("exec", c, "--", "sh", "-c", "grep Cpus_allowed_list /proc/self/status"); strings.HasSuffix(strings.TrimSpace(out), "\t0") {
		t.Errorf("after unset of limits.cpu: %q", out)
	}
	for key, value := range map[string]string{
		"limits.memory": "lots", "limits.processes": "-3", "limits.cpu": "99999-", "no.such.key": "1", "limits.processes ": "1",
	} {
		if r := h.try("config", "set", c, key+"="+value); r.code == 0 {
			t.Errorf("%s=%s was taken", key, value)
		}
	}
	if out := h.lxc("exec", c, "--", "hostname"); out != c+"\n" {
		t.Errorf("after all that hostname says %q", out)
	}
}

func TestBtrfsSizeLimit(t *testing.T) {
	h := newHost(t)
	h.setUp("btrfs")
	c := h.name("c1")
	h.launch(c, "-d", "root,size=50MiB")
	write := func(mb int) result {
		return h.try("exec", c, "--", "dd", "if=/dev/zero", "of=/root/fill", "bs=1M", fmt.Sprintf("count=%d", mb), "conv=fsync")
	}
	if r := write(100); r.code == 0 {
		t.Error("100 MB went into a root of 50 MiB")
	}
	h.lxc("exec", c, "--", "rm", "/root/fill")
	h.lxc("config", "device", "set", c, "root", "size=200MiB")
	if r := write(100); r.code != 0 {
		t.Errorf("100 MB into a root of 200 MiB: %s", r.stderr)
	}
}
