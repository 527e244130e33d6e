//go:build system

package nic

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sett/lxd/config"
	"sett/lxd/device"
	"sett/lxd/host/netlink"
	"sett/lxd/host/netnstest"
	"sett/lxd/host/nft"
	"sett/lxd/host/sysctl"
	"sett/shared/errs"
	"sett/shared/undo"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func unique() string { return "t" + strings.ToLower(rand.Text()[:10]) }

func bridge(t *testing.T) string {
	t.Helper()
	br := unique()
	if _, err := netlink.EnsureBridge(netlink.BridgeSpec{Name: br, MTU: 1450}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.SetUp(br); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.DeleteBridge(br, "") })
	return br
}

type rig struct {
	vol map[string]string
	env device.Env
}

func newRig(svc device.Services, c device.Config) *rig {
	r := &rig{vol: map[string]string{}}
	c["type"] = "nic"
	r.env = device.Env{Instance: device.Instance{Project: "default", Name: unique()}, Name: "eth0", Config: c, Services: svc,
		SaveVolatile: func(_ context.Context, m map[string]string) error {
			for k, v := range m {
				if v == "" {
					delete(r.vol, k)
				} else {
					r.vol[k] = v
				}
			}
			return nil
		}}
	return r
}

// device makes the device anew, as a restarted daemon would.
func (r *rig) device(t *testing.T) *Device {
	t.Helper()
	r.env.Volatile = maps.Clone(r.vol)
	d, err := New().New(r.env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		again, _ := New().New(device.Env{Instance: r.env.Instance, Name: r.env.Name, Config: r.env.Config, Services: r.env.Services, Volatile: r.vol, SaveVolatile: r.env.SaveVolatile})
		if err := again.PostStop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d.(*Device)
}

func (r *rig) start(t *testing.T, d *Device) string {
	t.Helper()
	var u undo.Stack
	p, err := d.Start(t.Context(), &u)
	if err != nil {
		u.Run()
		t.Fatal(err)
	}
	u.Commit()
	if len(p.NICs) != 1 {
		t.Fatalf("plug %+v", p)
	}
	return p.NICs[0].HostName
}

func TestBridgedLifeCycle(t *testing.T) {
	t.Parallel()
	br := bridge(t)
	svc, n := services(br)
	r := newRig(svc, device.Config{"network": br, "ipv4.routes": "10.200.7.0/24", "limits.max": "10Mbit", "security.mac_filtering": "true", "security.ipv4_filtering": "true", "security.ipv6_filtering": "true", "security.port_isolation": "true"})
	d := r.device(t)
	peer := r.start(t, d)
	host := r.vol["host_name"]
	if m, _ := netlink.Master(host); m != br {
		t.Errorf("%s is a port of %q", host, m)
	}
	if !strings.HasPrefix(host, "veth") || len(host) != 12 {
		t.Errorf("host name %q", host)
	}
	st, err := netlink.Get(t.Context(), peer)
	if err != nil || st.HWAddr != r.vol["hwaddr"] || st.MTU != 1450 {
		t.Errorf("peer %+v, %v", st, err)
	}
	if l := n.leases[br+"/"+r.env.Instance.Name+".eth0"]; l.IPv4 != "10.1.2.77" {
		t.Errorf("leases %+v", n.leases)
	}
	chain := "in." + d.plainSuffix()
	if text, err := nft.List(t.Context(), "bridge", "lxd", chain); err != nil || !strings.Contains(text, "10.1.2.77") || !strings.Contains(text, host) {
		t.Errorf("chain %s: %v\n%s", chain, err, text)
	}

	// A new configuration, live.
	old := maps.Clone(r.env.Config)
	r.env.Config = device.Config{"type": "nic", "network": br, "limits.ingress": "5Mbit"}
	d = r.device(t)
	if err := d.Update(t.Context(), old, []string{"ipv4.routes", "limits.max", "limits.ingress", "security.mac_filtering", "security.ipv4_filtering", "security.ipv6_filtering"}); err != nil {
		t.Fatal(err)
	}
	if text, _ := nft.List(t.Context(), "bridge", "lxd", chain); text != "" {
		t.Errorf("the filter stayed:\n%s", text)
	}
	// Nothing is taken out by its name inside: the guest decides what bears that.
	if out, err := d.Stop(t.Context()); err != nil || len(out.NICs) != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	// A daemon that restarts knows enough to clean up, twice.
	d = r.device(t)
	for range 2 {
		if err := d.PostStop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []string{host, peer, "ifb" + host[4:]} {
		if netlink.Exists(i) {
			t.Errorf("%s stayed", i)
		}
	}
	if r.vol["host_name"] != "" || r.vol["hwaddr"] == "" {
		t.Errorf("volatile %v", r.vol)
	}
}

func TestKilledDaemonIsCleanedUpAfter(t *testing.T) {
	t.Parallel()
	br := bridge(t)
	r := newRig(device.Services{}, device.Config{"nictype": "bridged", "parent": br})
	r.env.Instance.DevicesDir = filepath.Join(t.TempDir(), "devices")
	// The slice stores volatile keys after all devices have started, so a daemon that
	// is killed before that has stored nothing.
	save := r.env.SaveVolatile
	r.env.SaveVolatile = func(context.Context, map[string]string) error { return nil }
	peer := r.start(t, r.device(t))
	r.env.SaveVolatile = save
	for range 2 {
		if err := r.device(t).PostStop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if netlink.Exists(peer) {
		t.Error("the pair stayed")
	}
	if es, err := os.ReadDir(r.env.Instance.DevicesDir); err != nil || len(es) != 0 {
		t.Errorf("left %v, %v", es, err)
	}
}

func TestDeviceThatWasNeverStoredIsSweptAway(t *testing.T) {
	t.Parallel()
	br := bridge(t)
	r := newRig(device.Services{}, device.Config{"nictype": "bridged", "parent": br, "limits.max": "10Mbit", "security.mac_filtering": "true"})
	r.env.Instance.DevicesDir = filepath.Join(t.TempDir(), "devices")
	d := r.device(t)
	peer := r.start(t, d)
	host := r.vol["host_name"]
	k := New()
	if err := k.Sweep(t.Context(), r.env.Instance, func(string) bool { return true }); err != nil || !netlink.Exists(peer) {
		t.Fatalf("a device that is known: %v", err)
	}
	for range 2 {
		if err := k.Sweep(t.Context(), r.env.Instance, func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []string{peer, host, "ifb" + host[4:]} {
		if netlink.Exists(i) {
			t.Errorf("%s stayed", i)
		}
	}
	if text, _ := nft.List(t.Context(), "bridge", "lxd", "in."+d.plainSuffix()); text != "" {
		t.Errorf("the filter stayed:\n%s", text)
	}
	if es, err := os.ReadDir(r.env.Instance.DevicesDir); err != nil || len(es) != 0 {
		t.Errorf("left %v, %v", es, err)
	}
}

func TestStartFailsWithNothingLeft(t *testing.T) {
	t.Parallel()
	br := bridge(t)
	svc, n := services(br)
	n.err = errors.New("no lease today")
	r := newRig(svc, device.Config{"network": br, "security.mac_filtering": "true"})
	r.env.Instance.DevicesDir = filepath.Join(t.TempDir(), "devices")
	var u undo.Stack
	if _, err := r.device(t).Start(t.Context(), &u); !errors.Is(err, n.err) {
		t.Fatalf("got %v", err)
	}
	if err := u.Revert(); err != nil {
		t.Error(err)
	}
	if netlink.Exists(r.vol["host_name"]) {
		t.Error("the pair stayed")
	}
	if names, err := os.ReadDir(r.env.Instance.DevicesDir); err != nil || len(names) > 0 {
		t.Errorf("left %v, %v", names, err)
	}
	r = newRig(svc, device.Config{"nictype": "bridged", "parent": "nosuchbr0"})
	if _, err := r.device(t).Start(t.Context(), &u); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("no bridge: %v", err)
	}
	r = newRig(svc, device.Config{"nictype": "p2p", "host_name": br})
	if _, err := r.device(t).Start(t.Context(), &u); !errs.Is(err, errs.KindConflict) {
		t.Errorf("taken host_name: %v", err)
	}
	if !netlink.IsBridge(br) {
		t.Error("somebody else's interface is gone")
	}
}

func TestPointToPoint(t *testing.T) {
	t.Parallel()
	host := unique()
	r := newRig(device.Services{}, device.Config{"nictype": "p2p", "host_name": host, "ipv4.routes": "10.201.1.0/24", "mtu": "1300", "name": "lan0"})
	d := r.device(t)
	peer := r.start(t, d)
	if m, err := netlink.MTU(peer); err != nil || m != 1300 {
		t.Errorf("MTU %d, %v", m, err)
	}
	busy, err := netlink.Busy(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, p := range busy {
		found = found || p.String() == "10.201.1.0/24"
	}
	if !found {
		t.Errorf("no route: %v", busy)
	}
	// The guest is no router of the host's, whatever it announces.
	if v, err := sysctl.Get("net/ipv6/conf/" + host + "/accept_ra"); err != nil || v != "0" {
		t.Errorf("accept_ra is %q, %v", v, err)
	}
	if d.guestName() != "lan0" {
		t.Errorf("guest name %q", d.guestName())
	}
	// A crash after the pair was made: the next start replaces it.
	r.start(t, r.device(t))
	if !netlink.Exists(host) || netlink.Exists(peer) {
		t.Error("the second start did not replace the pair")
	}
}

// routed tells whether the host has a route.
func routed(t *testing.T, to string) bool {
	t.Helper()
	busy, err := netlink.Busy(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(busy, netip.MustParsePrefix(to))
}

// rateOf is what may leave the host through an interface, in bits per second.
func rateOf(t *testing.T, name string) (rate uint64) {
	t.Helper()
	l, err := nl.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	classes, err := nl.ClassList(l, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range classes {
		if h, ok := c.(*nl.HtbClass); ok {
			rate = h.Rate * 8
		}
	}
	return rate
}

func TestFailedUpdateLeavesAllAsItWas(t *testing.T) {
	t.Parallel()
	br := bridge(t)
	svc, n := services(br)
	old := device.Config{"type": "nic", "network": br, "limits.max": "10Mbit", "ipv4.routes": "10.202.1.0/24", "ipv4.address": "10.1.2.40"}
	r := newRig(svc, maps.Clone(old))
	r.start(t, r.device(t))
	taken := newRig(device.Services{}, device.Config{"nictype": "p2p", "ipv4.routes": "10.202.9.0/24"})
	taken.start(t, taken.device(t))
	for name, c := range map[string]struct {
		lease error
		route string
		want  errs.Kind
	}{
		"a lease that is refused":  {errs.Conflict("taken"), "10.202.2.0/24", errs.KindConflict},
		"a route of somebody else": {nil, "10.202.2.0/24,10.202.9.0/24", errs.KindConflict},
	} {
		n.err = c.lease
		r.env.Config = device.Config{"type": "nic", "network": br, "limits.max": "5Mbit", "ipv4.routes": c.route, "ipv4.address": "10.1.2.50"}
		err := r.device(t).Update(t.Context(), old, []string{"limits.max", "ipv4.routes", "ipv4.address"})
		n.err = nil
		if !errs.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if rate := rateOf(t, r.vol["host_name"]); rate != 10e6 {
			t.Errorf("%s: the limit is %d", name, rate)
		}
		if !routed(t, "10.202.1.0/24") || routed(t, "10.202.2.0/24") || !routed(t, "10.202.9.0/24") {
			t.Errorf("%s: the routes are others", name)
		}
		if l := n.leases[br+"/"+r.env.Instance.Name+".eth0"]; l.IPv4 != "10.1.2.40" {
			t.Errorf("%s: the lease is %+v", name, l)
		}
	}
	r.env.Config = old
}

// TestKilledUpdateIsTakenBack has a daemon die in an update, or after it and before that was
// stored. The next one knows the old configuration.
func TestKilledUpdateIsTakenBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for at, settled := range map[string]bool{"at its first step": true, "at its end": true, "at its end, and nobody settles": false} {
		br := bridge(t)
		svc, n := services(br)
		old := device.Config{"type": "nic", "network": br, "limits.max": "10Mbit", "limits.priority": "4", "ipv4.routes": "10.206.1.0/24", "ipv4.address": "10.1.2.40"}
		r := newRig(svc, maps.Clone(old))
		r.env.Instance.DevicesDir = filepath.Join(t.TempDir(), "devices")
		d := r.device(t)
		r.start(t, d)
		host, filter := r.vol["host_name"], "in."+d.plainSuffix()
		if in, err := r.device(t).Settle(ctx); !in || err != nil {
			t.Errorf("%s: with nothing to settle: %v, %v", at, in, err)
		}
		r.env.Config = device.Config{"type": "nic", "network": br, "limits.max": "5Mbit", "limits.priority": "6", "ipv4.routes": "10.206.2.0/24", "ipv4.address": "10.1.2.50", "security.mac_filtering": "true"}
		dying := r.device(t)
		var life sync.WaitGroup
		life.Go(func() {
			if at == "at its first step" {
				n.during = runtime.Goexit // no error comes back, so nothing is taken back
			}
			if err := dying.Update(ctx, old, config.Changed(old, dying.env.Config)); err != nil {
				t.Error(err)
			}
		})
		life.Wait()
		n.during = nil
		if text, _ := nft.List(ctx, "bridge", "lxd", filter); (text == "") != (at == "at its first step") {
			t.Errorf("%s: the filter is\n%s", at, text)
		}
		r.env.Config = old
		if !settled {
			if err := r.device(t).PostStop(ctx); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if in, err := r.device(t).Settle(ctx); in != settled || err != nil {
				t.Errorf("%s: %v, %v", at, in, err)
			}
		}
		if text, err := nft.List(ctx, "bridge", "lxd", filter); err != nil || text != "" {
			t.Errorf("%s: the filter stayed: %v\n%s", at, err, text)
		}
		if routed(t, "10.206.1.0/24") != settled || routed(t, "10.206.2.0/24") {
			t.Errorf("%s: the routes are others", at)
		}
		text, err := nft.List(ctx, "bridge", "lxd", "prio."+host)
		if err != nil || strings.Contains(text, " 0:4") != settled || strings.Contains(text, " 0:6") {
			t.Errorf("%s: the priority: %v\n%s", at, err, text)
		}
		if settled {
			if l := n.leases[br+"/"+r.env.Instance.Name+".eth0"]; l.IPv4 != "10.1.2.40" {
				t.Errorf("%s: the lease is %+v", at, l)
			}
			if rate := rateOf(t, host); rate != 10e6 {
				t.Errorf("%s: the limit is %d", at, rate)
			}
		}
		if err := r.device(t).PostStop(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestKilledMoveToAnotherNetworkIsTakenBack has a daemon die after it has plugged a nic into
// another network, and before that was stored.
func TestKilledMoveToAnotherNetworkIsTakenBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	br, other := bridge(t), bridge(t)
	svc, n := services(br)
	n.all[other] = device.Network{Name: other, Type: "bridge", Status: "Created", Config: map[string]string{"ipv4.address": "10.1.4.1/24"}}
	old := device.Config{"type": "nic", "network": br}
	r := newRig(svc, maps.Clone(old))
	r.env.Instance.DevicesDir = filepath.Join(t.TempDir(), "devices")
	r.start(t, r.device(t))
	if err := netlink.Delete(r.vol["host_name"]); err != nil {
		t.Fatal(err)
	}
	for _, unplugged := range []string{"half", "wholly"} {
		if in, err := r.device(t).Settle(ctx); in || err != nil {
			t.Errorf("unplugged %s: %v, %v", unplugged, in, err)
		}
		if err := r.device(t).PostStop(ctx); err != nil {
			t.Fatal(err)
		}
	}
	r.env.Config = device.Config{"type": "nic", "network": other, "security.mac_filtering": "true", "limits.priority": "3", "ipv4.routes": "10.207.1.0/24"}
	d := r.device(t)
	r.start(t, d)
	host := r.vol["host_name"]
	r.env.Config = old
	if in, err := r.device(t).Settle(ctx); in || err != nil {
		t.Errorf("plugged into another network: %v, %v", in, err)
	}
	if netlink.Exists(host) || routed(t, "10.207.1.0/24") {
		t.Error("the pair or its route stayed")
	}
	for _, c := range []string{"in." + d.plainSuffix(), "prio." + host} {
		if text, err := nft.List(ctx, "bridge", "lxd", c); err != nil || text != "" {
			t.Errorf("chain %s: %v\n%s", c, err, text)
		}
	}
	if l, ok := n.leases[other+"/"+r.env.Instance.Name+".eth0"]; ok {
		t.Errorf("the other network keeps %+v", l)
	}
	r.start(t, r.device(t))
	if m, _ := netlink.Master(r.vol["host_name"]); m != br {
		t.Errorf("it is a port of %q", m)
	}
	// What an earlier version of the daemon noted.
	if err := os.WriteFile(r.device(t).noteFile(), []byte(r.vol["host_name"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if in, err := r.device(t).Settle(ctx); !in || err != nil {
		t.Errorf("by an old note: %v, %v", in, err)
	}
}

// TestFilterThatCannotBeWritten has the firewall fail when a nic starts, and when it
// changes.
func TestFilterThatCannotBeWritten(t *testing.T) {
	testBrokenFirewall(t, "security.mac_filtering", "true")
}

func TestPriorityThatCannotBeGiven(t *testing.T) { testBrokenFirewall(t, "limits.priority", "5") }

func testBrokenFirewall(t *testing.T, key, value string) {
	br := bridge(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nft"), []byte("#!/bin/sh\necho no such luck >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	old := device.Config{"type": "nic", "nictype": "bridged", "parent": br, "limits.max": "10Mbit", "ipv4.routes": "10.204.1.0/24"}
	r := newRig(device.Services{}, maps.Clone(old))
	r.start(t, r.device(t))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	r.env.Config = device.Config{"type": "nic", "nictype": "bridged", "parent": br, "limits.max": "5Mbit", "ipv4.routes": "10.204.2.0/24", key: value}
	err := r.device(t).Update(t.Context(), old, []string{"limits.max", "ipv4.routes", key})
	if err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("got %v", err)
	}
	if rate := rateOf(t, r.vol["host_name"]); rate != 10e6 || !routed(t, "10.204.1.0/24") || routed(t, "10.204.2.0/24") {
		t.Errorf("the limit is %d, or the routes are others", rate)
	}
	r.env.Config = old
	second := newRig(device.Services{}, device.Config{"nictype": "bridged", "parent": br, "limits.max": "10Mbit", key: value})
	var u undo.Stack
	if _, err := second.device(t).Start(t.Context(), &u); err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "nft")); err != nil { // it works again
		t.Fatal(err)
	}
	if err := u.Revert(); err != nil {
		t.Error(err)
	}
	host := second.vol["host_name"]
	if netlink.Exists(host) || netlink.Exists("ifb"+host[4:]) {
		t.Error("the pair or its helper stayed")
	}
}

// TestRouteOfAnotherInstanceStays starts a second one with the same route, and again.
func TestRouteOfAnotherInstanceStays(t *testing.T) {
	t.Parallel()
	br := bridge(t)
	const to = "10.203.1.0/24"
	first := newRig(device.Services{}, device.Config{"nictype": "bridged", "parent": br, "ipv4.routes": to})
	first.start(t, first.device(t))
	second := newRig(device.Services{}, device.Config{"nictype": "bridged", "parent": br, "ipv4.routes": to})
	second.env.Instance.DevicesDir = filepath.Join(t.TempDir(), "devices")
	for range 2 {
		var u undo.Stack
		if _, err := second.device(t).Start(t.Context(), &u); !errs.Is(err, errs.KindConflict) {
			t.Fatalf("got %v", err)
		}
		if err := u.Revert(); err != nil {
			t.Error(err)
		}
		second.vol = map[string]string{"hwaddr": second.vol["hwaddr"], "name": second.vol["name"]} // as a start that failed is not stored
		if !routed(t, to) {
			t.Error("the route of the first one is gone")
		}
	}
}

// TestPriorityReachesTheHostsQueues counts packets by their priority where they leave the
// host: through another port of the bridge, and by routing. Those that were kept waiting by a
// limit bear it too.
func TestPriorityReachesTheHostsQueues(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	br, out := bridge(t), unique()
	far := newRig(device.Services{}, device.Config{"nictype": "p2p", "host_name": out})
	if err := netlink.SetUp(far.start(t, far.device(t))); err != nil {
		t.Fatal(err)
	}
	if l, err := nl.LinkByName(out); err != nil {
		t.Fatal(err)
	} else if err := nl.LinkSetARPOff(l); err != nil { // nobody answers at the far end
		t.Fatal(err)
	}
	if err := netlink.AddRoutes(out, []netip.Prefix{netip.MustParsePrefix("10.205.9.0/24")}); err != nil {
		t.Fatal(err)
	}
	listener := newRig(device.Services{}, device.Config{"nictype": "bridged", "parent": br})
	to := listener.start(t, listener.device(t))
	if err := netlink.SetUp(to); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]device.Config{
		"bridged": {"nictype": "bridged", "parent": br, "limits.egress": "100Mbit"},
		"p2p":     {"nictype": "p2p", "host_name": unique()},
	} {
		c["limits.priority"] = "5"
		r := newRig(device.Services{}, c)
		r.env.Instance.DevicesDir = filepath.Join(t.TempDir(), "devices")
		peer := r.start(t, r.device(t))
		host, via := r.vol["host_name"], br
		if c["nictype"] == "p2p" {
			via = host
		}
		if err := netlink.SetUp(peer); err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/" + via + "/rp_filter": "0", "net/ipv4/conf/" + via + "/forwarding": "1"} {
			if err := sysctl.Set(k, v); err != nil {
				t.Fatal(err)
			}
		}
		if err := netlink.AddRoutes(via, []netip.Prefix{netip.MustParsePrefix("10.205.1.0/24")}); err != nil {
			t.Fatal(err)
		}
		if via == br {
			for _, i := range []string{host, listener.vol["host_name"]} {
				reads(t, filepath.Join("/sys/class/net", i, "brport/state"), "3") // forwarding
			}
		}
		gateway, err := netlink.Get(ctx, via)
		if err != nil {
			t.Fatal(err)
		}
		tx := packetSocket(t, peer)
		passes := func(priority string) {
			t.Helper()
			watch := []nft.Chain{{Family: "inet", Table: unique(), Name: "routed", Hook: "type filter hook postrouting priority filter",
				Rules: []string{fmt.Sprintf("oifname %q ip daddr 10.205.9.3 meta priority %s counter", out, priority)}}}
			const head, addresses = "4500001c00000000ff11", "0acd01030acd0903" // from 10.205.1.3 to 10.205.9.3
			from := strings.ReplaceAll(r.vol["hwaddr"], ":", "")
			frames := []string{strings.ReplaceAll(gateway.HWAddr, ":", "") + from + "0800" + head + checksum(unhex(t, head+"0000"+addresses)) + addresses + "0035003500080000"}
			if via == br {
				watch = append(watch, nft.Chain{Family: "bridge", Table: watch[0].Table, Name: "bridged", Hook: "type filter hook postrouting priority filter",
					Rules: []string{fmt.Sprintf("oifname %q ether type 0x88b5 meta priority %s counter", listener.vol["host_name"], priority)}})
				// No IP: hosts may have that go by the rules for routing on its way through a bridge.
				frames = append(frames, "ffffffffffff"+from+"88b5"+strings.Repeat("00", 46))
			}
			if err := nft.Replace(ctx, watch); err != nil {
				t.Fatal(err)
			}
			for i, frame := range frames {
				counts(t, watch[i], func() {
					if _, err := unix.Write(tx, unhex(t, frame)); err != nil {
						t.Fatal(err)
					}
				})
			}
			for _, w := range watch {
				if err := nft.Remove(ctx, w.Family, w.Table, w.Name); err != nil {
					t.Error(err)
				}
			}
		}
		passes("0:5")
		for _, next := range []struct{ key, seen string }{{"65543", "1:7"}, {"0", "0:0"}, {"3", "0:3"}} {
			old := maps.Clone(r.env.Config)
			r.env.Config = maps.Clone(old)
			r.env.Config["limits.priority"] = next.key
			if err := r.device(t).Update(ctx, old, []string{"limits.priority"}); err != nil {
				t.Fatal(err)
			}
			passes(next.seen)
		}
		if err := netlink.RemoveRoutes(via, []netip.Prefix{netip.MustParsePrefix("10.205.1.0/24")}); err != nil {
			t.Fatal(err)
		}
		// A daemon that is started anew takes it away.
		if err := r.device(t).PostStop(ctx); err != nil {
			t.Error(err)
		}
		for _, f := range []string{"bridge", "inet"} {
			if text, err := nft.List(ctx, f, "lxd", "prio."+host); err != nil || text != "" {
				t.Errorf("%s: chain of the family %s: %v\n%s", name, f, err, text)
			}
		}
	}
}

// counts sends until the one rule of a chain has counted something.
func counts(t *testing.T, c nft.Chain, send func()) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for {
		send()
		text, err := nft.List(t.Context(), c.Family, c.Table, c.Name)
		if err != nil {
			t.Fatal(err)
		}
		if _, n, ok := strings.Cut(text, "counter packets "); ok && n[0] != '0' {
			return
		}
		select {
		case <-limit:
			t.Fatalf("nothing came to\n%s", text)
		case <-tick.C:
		}
	}
}

// frame sends raw frames on one end of a pair and says which of them arrive at another.
func TestFilterDropsForgedFrames(t *testing.T) {
	t.Parallel()
	br := bridge(t)
	r := newRig(device.Services{}, device.Config{"nictype": "bridged", "parent": br, "hwaddr": "00:16:3e:01:02:03",
		"security.mac_filtering": "true", "security.ipv4_filtering": "true", "ipv4.address": "10.3.3.3", "security.ipv6_filtering": "true", "ipv6.address": "fd42::3"})
	from := r.start(t, r.device(t))
	listener := newRig(device.Services{}, device.Config{"nictype": "bridged", "parent": br})
	to := listener.start(t, listener.device(t))
	for _, i := range []string{from, to} {
		if err := netlink.SetUp(i); err != nil {
			t.Fatal(err)
		}
	}
	// A link whose carrier the kernel has not noticed yet drops silently.
	for _, i := range []string{from, to} {
		reads(t, filepath.Join("/sys/class/net", i, "operstate"), "up")
	}
	for _, i := range []string{r.vol["host_name"], listener.vol["host_name"]} {
		reads(t, filepath.Join("/sys/class/net", i, "brport/state"), "3") // forwarding
	}
	tx, rx := packetSocket(t, from), packetSocket(t, to)
	own, forged := "00163e010203", "00163e0102ff"
	ip := func(src string) string {
		// The bridge itself looks at IPv4 headers on some hosts, so the checksum is right.
		const head, dst = "4500001c000000004011", "0a030301"
		sum := checksum(unhex(t, head+"0000"+src+dst))
		return "0800" + head + sum + src + dst + "0035003500080000"
	}
	for _, c := range []struct {
		name, frame string
		arrives     bool
	}{
		{"own IPv4 packet", own + ip("0a030303"), true},
		{"forged MAC address", forged + ip("0a030303"), false},
		{"forged IPv4 address", own + ip("0a030304"), false},
		{"own ARP", own + "0806" + "0001080006040002" + own + "0a030303" + own + "0a030301", true},
		{"ARP for somebody else", own + "0806" + "0001080006040002" + own + "0a030304" + own + "0a030301", false},
		{"ARP for somebody else, as if on another kind of network", own + "0806" + "0006080006040002" + own + "0a030304" + own + "0a030301", false},
		{"ARP with a forged MAC address", own + "0806" + "0001080006040002" + forged + "0a030303" + own + "0a030301", false},
		{"VLAN tag around a forged packet", own + "81000001" + ip("0a030304"), false},
		{"another protocol", own + "88cc" + "0000", false},
		{"own IPv6 packet", own + "86dd" + "6000000000083b40" + "fd420000000000000000000000000003" + "fd420000000000000000000000000001" + "0000000000000000", true},
		{"advertisement of the own address", own + "86dd" + "6000000000203aff" + "fd420000000000000000000000000003" + "ff020000000000000000000000000001" +
			"8800000020000000" + "fd420000000000000000000000000003" + "0201" + own, true},
		{"advertisement of another's address", own + "86dd" + "6000000000203aff" + "fd420000000000000000000000000003" + "ff020000000000000000000000000001" +
			"8800000020000000" + "fd420000000000000000000000000004" + "0201" + own, false},
		// An option of 32 bytes between the headers shows the own address where that of the
		// advertisement is looked for.
		{"advertisement behind an extension header", own + "86dd" + "60000000004000ff" + "fd420000000000000000000000000003" + "ff020000000000000000000000000001" +
			"3a031e1c00000000" + "fd420000000000000000000000000003" + "0000000000000000" + "8800000020000000" + "fd420000000000000000000000000004" + "0201" + own, false},
		{"forged IPv6 address", own + "86dd" + "6000000000083b40" + "fd420000000000000000000000000004" + "fd420000000000000000000000000001" + "0000000000000000", false},
	} {
		frame := unhex(t, "ffffffffffff"+c.frame)
		marker := unhex(t, "ffffffffffff"+own+ip("0a030303"))
		rand.Read(marker[len(marker)-8:])
		for _, f := range [][]byte{frame, marker} {
			if _, err := unix.Write(tx, f); err != nil {
				t.Fatal(err)
			}
		}
		// Frames of one port stay in order: what has not come before the marker was dropped.
		got := false
		for {
			b := receive(t, rx)
			if bytes.HasPrefix(b, marker) {
				break
			}
			got = got || bytes.HasPrefix(b, frame)
		}
		if got != c.arrives {
			t.Errorf("%s: arrived %v", c.name, got)
		}
	}
}

// reads waits until a file says something.
func reads(t *testing.T, file, want string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for {
		b, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(b)) == want {
			return
		}
		select {
		case <-limit:
			t.Fatalf("%s never says %s: %s, %v", file, want, b, err)
		case <-tick.C:
		}
	}
}

func packetSocket(t *testing.T, name string) int {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	const all = 0x0300 // ETH_P_ALL in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	return fd
}

func receive(t *testing.T, fd int) []byte {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	b := make([]byte, 2000)
	for {
		n, err := unix.Read(fd, b)
		if err == nil {
			return b[:n]
		}
		if !errors.Is(err, unix.EINTR) || time.Now().After(limit) {
			t.Fatal("nothing arrived:", err)
		}
	}
}

func checksum(b []byte) string {
	var n uint32
	for i := 0; i < len(b); i += 2 {
		n += uint32(b[i])<<8 | uint32(b[i+1])
	}
	n = n&0xffff + n>>16
	n = n&0xffff + n>>16
	return fmt.Sprintf("%04x", ^uint16(n))
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b := make([]byte, len(s)/2)
	for i := range b {
		hi, lo := strings.IndexByte("0123456789abcdef", s[2*i]), strings.IndexByte("0123456789abcdef", s[2*i+1])
		b[i] = byte(hi<<4 | lo)
	}
	return b
}

func TestEqualNamesOfTwoDaemonsMeetNot(t *testing.T) {
	t.Parallel()
	br := bridge(t)
	c := device.Config{"nictype": "bridged", "parent": br, "security.mac_filtering": "true"}
	a := newRig(device.Services{}, maps.Clone(c))
	b := newRig(device.Services{}, maps.Clone(c))
	b.env.Instance.Name = a.env.Instance.Name
	da, db := a.device(t), b.device(t)
	a.start(t, da)
	b.start(t, db)
	if err := b.device(t).PostStop(t.Context()); err != nil {
		t.Fatal(err)
	}
	host := a.vol["host_name"]
	if text, err := nft.List(t.Context(), "bridge", "lxd", "in."+da.plainSuffix()); err != nil || !strings.Contains(text, host) {
		t.Errorf("the first one lost its filter: %v\n%s", err, text)
	}
	if _, err := os.Stat(filepath.Join("/proc/sys/net/ipv4/conf", host)); err != nil {
		t.Error(err)
	}
	// When the first one has gone, the second one takes the plain name at its next change,
	// and leaves none of its old rules behind.
	db = b.device(t)
	b.start(t, db)
	if err := a.device(t).PostStop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.device(t).Update(t.Context(), c, []string{"security.mac_filtering"}); err != nil {
		t.Fatal(err)
	}
	host = b.vol["host_name"]
	if text, err := nft.List(t.Context(), "bridge", "lxd", "in."+db.plainSuffix()); err != nil || !strings.Contains(text, host) {
		t.Errorf("the second one has no filter: %v\n%s", err, text)
	}
	if text, err := nft.List(t.Context(), "bridge", "lxd", "in."+db.plainSuffix()+"."+host); err != nil || text != "" {
		t.Errorf("the old rules stayed: %v\n%s", err, text)
	}
}

// TestWhatUsersWriteIntoVolatileKeys: they may say what they like of the instance's own
// interface. Neither another one nor the firewall suffers from it.
func TestWhatUsersWriteIntoVolatileKeys(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	br := bridge(t)
	table := unique()
	add := "\nadd table inet " + table + "\n#"
	owned := func(what string) {
		t.Helper()
		if err := exec.CommandContext(ctx, "nft", "delete", "table", "inet", table).Run(); err == nil {
			t.Errorf("%s: it writes the firewall", what)
		}
	}
	victim := newRig(device.Services{}, device.Config{"nictype": "bridged", "parent": br, "limits.max": "10Mbit"})
	victim.start(t, victim.device(t))
	other := victim.vol["host_name"]
	for what, forge := range map[string]func(r *rig){
		"another's host_name": func(r *rig) { r.vol["host_name"] = other },
		"rules for host_name": func(r *rig) { r.vol["host_name"] = "x" + add },
		"rules for hwaddr":    func(r *rig) { r.vol["hwaddr"] = "00:16:3e:01:02:03 accept" + add },
	} {
		old := device.Config{"type": "nic", "nictype": "bridged", "parent": br, "limits.max": "20Mbit", "limits.priority": "4"}
		r := newRig(device.Services{}, maps.Clone(old))
		r.env.Instance.DevicesDir = filepath.Join(t.TempDir(), "devices")
		r.start(t, r.device(t))
		own, mac := r.vol["host_name"], r.vol["hwaddr"]
		forge(r)
		r.env.Config["limits.priority"], r.env.Config["limits.max"] = "6", "30Mbit"
		_ = r.device(t).Update(ctx, old, []string{"limits.max", "limits.priority"})
		owned(what + ", in an update")
		if rate := rateOf(t, other); rate != 10e6 {
			t.Errorf("%s: the other interface is limited to %d", what, rate)
		}
		_, _ = r.device(t).Settle(ctx)
		if err := r.device(t).PostStop(ctx); err != nil {
			t.Errorf("%s: stopping: %v", what, err)
		}
		owned(what + ", when it stops")
		if netlink.Exists(own) || !netlink.Exists(other) {
			t.Errorf("%s: own %v, other %v", what, netlink.Exists(own), netlink.Exists(other))
		}
		// Of one that does not run, or came by an import.
		forge(r)
		var u undo.Stack
		if _, err := r.device(t).Start(ctx, &u); (err == nil) != (r.vol["hwaddr"] == mac) {
			t.Errorf("%s: starting: %v", what, err)
		}
		owned(what + ", when it starts")
		if !netlink.Exists(other) {
			t.Fatalf("%s: the other interface is gone", what)
		}
		r.vol["hwaddr"] = mac
		if err := r.device(t).PostStop(ctx); err != nil {
			t.Error(err)
		}
	}
}
