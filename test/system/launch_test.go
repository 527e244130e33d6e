//go:build system

package system

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// drivers are the storage drivers that hold real containers here.
var drivers = []string{"dir", "btrfs"}

func TestLifeOfAContainer(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			clients(t, func(t *testing.T, client string) {
				h := newHost(t)
				h.client = client
				h.setUp(driver)
				c := h.name("c1")
				h.launch(c)
				if s := h.state(c); s != "RUNNING" {
					t.Fatalf("state after launch is %q", s)
				}
				checkAddress(h, c)
				checkExec(h, c)
				checkUnprivileged(h, c)

				h.lxc("stop", c)
				if s := h.state(c); s != "STOPPED" {
					t.Errorf("state after stop is %q", s)
				}
				h.noTraces(c)
				h.lxc("start", c)
				h.waitBooted(c)
				before := h.initPID(c)
				h.lxc("restart", "--force", c)
				h.waitBooted(c)
				if h.initPID(c) == before {
					t.Error("restart kept the old init")
				}
				if r := h.try("delete", c); r.code == 0 || !strings.Contains(r.stderr, "running") {
					t.Errorf("delete of a running instance: exit %d, %q", r.code, r.stderr)
				}
				h.lxc("pause", c)
				if s := h.state(c); s != "FROZEN" {
					t.Errorf("state after pause is %q", s)
				}
				h.lxc("start", c)
				h.lxc("stop", "--force", c)
				d := h.name("renamed")
				h.lxc("rename", c, d)
				h.lxc("start", d)
				h.waitBooted(d)
				h.lxc("delete", "--force", d)
				if out := h.lxc("list", "--format", "csv", "--columns", "n"); strings.TrimSpace(out) != "" {
					t.Errorf("after delete the list still shows %q", out)
				}
				h.noTraces(c)
				h.noTraces(d)
			})
		})
	}
}

// checkAddress demands an address of our bridge's subnet, by DHCP, and that the host
// reaches it.
func checkAddress(h *host, c string) {
	h.t.Helper()
	ip := h.ipv4(c)
	_, subnet, err := net.ParseCIDR(strings.TrimSpace(h.lxc("network", "get", h.bridge(), "ipv4.address")))
	if err != nil {
		h.t.Fatal(err)
	}
	if !subnet.Contains(ip) {
		h.t.Errorf("address %s is not of the bridge's subnet %s", ip, subnet)
	}
	if leases := h.lxc("network", "list-leases", h.bridge(), "--format", "csv"); !strings.Contains(leases, ip.String()) {
		h.t.Errorf("the lease of %s is missing in %q", ip, leases)
	}
	if r := h.try("exec", c, "--", "ping", "-c", "1", "-W", "5", firstAddress(subnet)); r.code != 0 {
		h.t.Errorf("the container does not reach its bridge: %s%s", r.stdout, r.stderr)
	}
}

func firstAddress(n *net.IPNet) string {
	ip := n.IP.To4()
	return fmt.Sprintf("%d.%d.%d.%d", ip[0], ip[1], ip[2], ip[3]+1)
}

func checkExec(h *host, c string) {
	h.t.Helper()
	if out := h.lxc("exec", c, "--", "hostname"); out != c+"\n" {
		h.t.Errorf("hostname says %q", out)
	}
	if out := h.lxcIn("through the pipe", "exec", c, "--", "cat"); out != "through the pipe" {
		h.t.Errorf("cat gave back %q", out)
	}
	r := h.try("exec", c, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
	if r.code != 7 || r.stdout != "out\n" || r.stderr != "err\n" {
		h.t.Errorf("exec: exit %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	if r := h.try("exec", c, "--", "no-such-command"); r.code != 127 {
		h.t.Errorf("exec of a command that is not there: exit %d", r.code)
	}
	if r := h.try("exec", c, "--", "sh", "-c", "kill -9 $$"); r.code != 137 {
		h.t.Errorf("exec of a command that is killed: exit %d", r.code)
	}
	out := h.lxc("exec", c, "--user", "1000", "--group", "1000", "--cwd", "/home/user", "--env", "WORD=hello",
		"--", "sh", "-c", "id -u; id -g; pwd; echo $WORD; cat mine")
	if out != "1000\n1000\n/home/user\nhello\nowned by 1000\n" {
		h.t.Errorf("exec as a user: %q", out)
	}
	// Standard input stays open: its end would hang up the terminal.
	stdin, typed, err := os.Pipe()
	if err != nil {
		h.t.Fatal(err)
	}
	defer stdin.Close()
	defer typed.Close()
	if r := h.runIn(stdin, h.client, "exec", "-t", c, "--", "tty"); !strings.HasPrefix(r.stdout, "/dev/pts/") {
		h.t.Errorf("the terminal is %q (exit %d, %s)", r.stdout, r.code, r.stderr)
	}
}

// checkUnprivileged looks from the host: no id of the container is one of ours.
func checkUnprivileged(h *host, c string) {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", h.initPID(c)))
	if err != nil {
		h.t.Fatal(err)
	}
	f := strings.Fields(string(b))
	if len(f) < 3 || f[0] != "0" || f[1] == "0" {
		h.t.Errorf("the container's user ids are mapped as %q", b)
	}
	if r := h.try("exec", c, "--", "sh", "-c", "touch /root/made && stat -c %u /root/made && mknod /root/sda b 8 0"); r.code == 0 || !strings.HasPrefix(r.stdout, "0\n") {
		h.t.Errorf("as root inside: exit %d, %q, %q", r.code, r.stdout, r.stderr)
	}
}

// noTraces demands that nothing of an instance that does not run is on the host,
// beyond its files.
func (h *host) noTraces(c string) {
	h.t.Helper()
	for _, g := range h.cgroups() {
		if strings.Contains(g, c) {
			h.t.Errorf("left after stop: cgroup %s", g)
		}
	}
	for _, l := range dirNames("/sys/class/net/" + h.bridge() + "/brif") {
		h.t.Errorf("left after stop: interface %s", l)
	}
	for _, m := range h.mounts() {
		if strings.Contains(m, c) {
			h.t.Errorf("left after stop: mount %s", m)
		}
	}
	if entries := dirNames(filepath.Join(h.lxdDir(), "devices", c)); len(entries) > 0 {
		h.t.Errorf("left after stop: devices/%s/%s", c, entries)
	}
}

func TestGuestStopsAndReboots(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c)
	before := h.initPID(c)
	h.lxc("exec", c, "--", "rm", "/run/booted")
	h.try("exec", c, "--", "reboot") // the command may die with the container
	h.eventually("reboot from inside", func() bool {
		return h.try("exec", c, "--", "cat", "/run/booted").code == 0
	})
	h.seen()
	if h.initPID(c) == before {
		t.Error("the reboot kept the old init")
	}
	// liblxc would mount the root without its id map after a reboot of its own.
	if out := h.lxc("exec", c, "--", "stat", "-c", "%u", "/", "/home/user/mine"); out != "0\n1000\n" {
		t.Errorf("owners after a reboot: %q", out)
	}
	h.ipv4(c)
	h.try("exec", c, "--", "poweroff")
	h.eventually("end after poweroff", func() bool { return h.state(c) == "STOPPED" })
	h.eventually("clean up after poweroff", func() bool {
		return len(dirNames("/sys/class/net/"+h.bridge()+"/brif")) == 0
	})

	e := h.name("gone")
	h.launch(e, "--ephemeral")
	h.try("exec", e, "--", "poweroff")
	h.eventually("ephemeral instance to go", func() bool { return h.state(e) == "" })
}

func TestTwoDaemonsWithEqualNames(t *testing.T) {
	a, b := newHost(t), newHost(t)
	a.setUp("dir")
	b.setUp("dir")
	c := a.name("same")
	a.launch(c)
	b.launch(c)
	b.seen()
	if a.ipv4(c).Equal(b.ipv4(c)) {
		t.Error("both containers have one address")
	}
	a.lxc("delete", "--force", c)
	if s := b.state(c); s != "RUNNING" {
		t.Errorf("the delete on one daemon made the other's container %s", s)
	}
	if out := b.lxc("exec", c, "--", "hostname"); out != c+"\n" {
		t.Errorf("hostname says %q", out)
	}
	b.lxc("delete", "--force", c)
}
