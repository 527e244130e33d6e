//go:build system

package system

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// fleet is a cluster: daemons that are processes of their own, each in a network of its
// own, joined by a switch that is a network of its own too. Nothing of it touches the
// network of the machine.
type fleet struct {
	t       *testing.T
	sw      int // the switch's box
	members []*host
}

// newFleet starts n lone daemons on one switch. Member i is called m<i> and has the
// address 10.99.0.<i+1>.
func newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	f := &fleet{t: t}
	f.sw = f.hold()
	f.netbox("switch", strconv.Itoa(f.sw))
	for i := range n {
		f.add(i)
	}
	t.Cleanup(f.end)
	return f
}

func (f *fleet) add(i int) *host {
	f.t.Helper()
	box := f.hold() // before the host, so that it goes after it
	h := prepareHost(f.t)
	h.box = box
	f.netbox("plug", strconv.Itoa(f.sw), strconv.Itoa(h.box), f.address(i)+"/24")
	h.start()
	f.members = append(f.members, h)
	return h
}

// end empties the members while they can still talk to each other, and stops them.
func (f *fleet) end() {
	f.t.Helper()
	for _, h := range f.members {
		if !h.alive() && !h.over && !f.t.Failed() {
			h.start()
		}
	}
	for _, h := range f.members {
		h.seen()
		if h.alive() && !h.over && !f.t.Failed() {
			h.empty()
		}
	}
	// All at once, as when the power is taken from a room: the last ones would wait for
	// a quorum that is gone.
	var wg sync.WaitGroup
	for _, h := range f.members {
		h.over = true
		if h.alive() {
			wg.Go(h.stopOrKill)
		}
	}
	wg.Wait()
}

func (f *fleet) name(i int) string    { return "m" + strconv.Itoa(i) }
func (f *fleet) address(i int) string { return fmt.Sprintf("10.99.0.%d", i+1) }

// port is the end of member i's cable that is in the switch.
func (f *fleet) port(i int) string { return "p" + strconv.Itoa(f.members[i].box) }

// hold starts a box of namespaces that lasts as long as the test.
func (f *fleet) hold() int {
	f.t.Helper()
	cmd := exec.Command(filepath.Join(top(), "test/lib/netbox.sh"), "hold")
	in, err := cmd.StdinPipe() // its end is the box's end, however the test ends
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		f.t.Fatalf("a box of namespaces says %q, %v", line, err)
	}
	return cmd.Process.Pid
}

func (f *fleet) netbox(args ...string) {
	f.t.Helper()
	if out, err := exec.Command(filepath.Join(top(), "test/lib/netbox.sh"), args...).CombinedOutput(); err != nil {
		f.t.Fatalf("netbox %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// form makes one cluster of all members: the first begins it, the others join.
func (f *fleet) form() {
	f.t.Helper()
	first := f.members[0]
	first.lxc("config", "set", "core.https_address", f.address(0)+":8443")
	first.lxc("cluster", "enable", f.name(0))
	for i := range f.members[1:] {
		f.join(i + 1)
	}
	// A member gets its vote a little after it has joined.
	first.eventually("the members to have their votes", func() bool {
		return strings.Count(first.lxc("cluster", "list", "--format", "csv"), "database") >= min(len(f.members), 3)+1
	})
}

// join makes member i part of the cluster of the first member.
func (f *fleet) join(i int) {
	f.t.Helper()
	h := f.members[i]
	out := f.members[0].lxc("cluster", "add", f.name(i), "--quiet")
	fields := strings.Fields(out)
	if len(fields) == 0 {
		f.t.Fatal("no join token")
	}
	preseed := fmt.Sprintf("cluster:\n  enabled: true\n  server_address: %s:8443\n  cluster_token: %s\n", f.address(i), fields[len(fields)-1])
	r := h.runIn(strings.NewReader(preseed), h.bin.lxd(), "init", "--preseed")
	if r.code != 0 {
		f.t.Fatalf("%s cannot join: %s%s\n%s", f.name(i), r.stdout, r.stderr, h.logTail())
	}
}

// leader is the member that leads the database, as a living member tells.
func (f *fleet) leader() int {
	f.t.Helper()
	leader := -1
	f.members[0].eventually("a leader", func() bool {
		for _, h := range f.members {
			if !h.alive() {
				continue
			}
			r := h.try("cluster", "list", "--format", "csv")
			for _, line := range strings.Split(r.stdout, "\n") {
				c := strings.Split(line, ",")
				if strings.Contains(line, "database-leader") && !strings.Contains(line, "OFFLINE") {
					if n, err := strconv.Atoi(strings.TrimPrefix(c[0], "m")); err == nil {
						leader = n
						return true
					}
				}
			}
		}
		return false
	})
	return leader
}

// unplug takes the cable of a member: no answer and no refusal comes from it any more.
func (f *fleet) unplug(i int) { f.link(i, "down") }

func (f *fleet) replug(i int) { f.link(i, "up") }

func (f *fleet) link(i int, state string) {
	f.t.Helper()
	out, err := exec.CommandContext(context.Background(), "nsenter", "--target", strconv.Itoa(f.sw), "--net", "--",
		"ip", "link", "set", f.port(i), state).CombinedOutput()
	if err != nil {
		f.t.Fatalf("cable of %s %s: %v\n%s", f.name(i), state, err, out)
	}
}

// nft runs rules in the network of member i.
func (f *fleet) nft(i int, rules string) {
	f.t.Helper()
	h := f.members[i]
	if r := h.runIn(strings.NewReader(rules), "nft", "-f", "-"); r.code != 0 {
		f.t.Fatalf("nft in %s: %s", f.name(i), r.stderr)
	}
}
