//go:build system

package system

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestPriorityOfPackets has the host count what a guest sends by its priority, which comes
// from the instance, its profile or the nic, at once and as long as the instance runs.
func TestPriorityOfPackets(t *testing.T) { clients(t, testPriorityOfPackets) }

func testPriorityOfPackets(t *testing.T, client string) {
	h := newHost(t)
	h.client = client
	h.setUp("dir")
	c := h.name("c1")
	if r := h.try("init", "tiny", c, "-c", "limits.network.priority=11"); r.code == 0 || !strings.Contains(r.stderr, "limits.network.priority") {
		t.Errorf("a priority of 11: %q", r.stderr)
	}
	h.launch(c, "-c", "limits.network.priority=7")
	gateway, _, _ := strings.Cut(h.lxc("network", "get", h.bridge(), "ipv4.address"), "/")
	get := func(key string) string { return strings.TrimSpace(h.lxc("config", "get", c, key)) }
	port := get("volatile.eth0.host_name")
	h.ipv4(c)
	nft := func(rules string) string {
		t.Helper()
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, rules, out)
		}
		return string(out)
	}
	table := "bridge count" + h.token
	has := func(when, priority string) {
		t.Helper()
		nft(fmt.Sprintf("table %s {\nchain at {\ntype filter hook input priority filter\niifname %q meta priority %s counter\n}\n}\n", table, port, priority))
		h.eventually("a packet of priority "+priority+", "+when, func() bool {
			h.lxc("exec", c, "--", "ping", "-c", "1", gateway)
			_, n, ok := strings.Cut(nft("list table "+table+"\n"), "counter packets ")
			return ok && n[0] != '0'
		})
		nft("delete table " + table + "\n")
	}
	rules := func() bool {
		out, err := exec.Command("nft", "list", "chains").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(out), "prio."+port+" ")
	}
	has("from the start on", "0:7")
	h.lxc("config", "set", c, "limits.network.priority", "3")
	has("changed", "0:3")
	h.lxc("config", "device", "override", c, "eth0", "limits.priority=65540", "limits.max=50Mbit")
	has("of the nic", "1:4")
	h.stop(syscall.SIGKILL)
	h.start()
	has("after the daemon", "1:4")
	h.lxc("config", "device", "set", c, "eth0", "limits.priority", "5")
	has("changed after that", "0:5")
	h.lxc("config", "device", "remove", c, "eth0")
	has("of the instance again", "0:3")
	h.lxc("config", "device", "override", c, "eth0", "host_name=veth"+h.token)
	if rules() {
		t.Errorf("the rules for %s stayed when it was unplugged", port)
	}
	port = get("volatile.eth0.host_name")
	h.seen()
	h.lxc("exec", c, "--", "udhcpc", "-n", "-q", "-i", "eth0", "-s", "/etc/udhcpc.script")
	has("plugged in anew", "0:3")
	h.lxc("config", "unset", c, "limits.network.priority")
	if rules() {
		t.Errorf("the rules for %s stayed when no priority was left", port)
	}
	h.lxc("profile", "set", "default", "limits.network.priority", "9")
	has("of the profile", "0:9")
	if shown := h.lxc("config", "show", c, "--expanded"); strings.Contains(shown, "limits.priority") {
		t.Errorf("the nic shows what is not its own:\n%s", shown)
	}
	h.lxc("stop", "--force", c)
	if rules() {
		t.Errorf("the rules for %s stayed", port)
	}
}
