package drivertest

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sett/lxd/host/netlink"
	"sett/lxd/network/driver"
	"sett/shared/errs"
)

// Subject is a driver under test.
type Subject struct {
	New  func(t *testing.T) driver.Driver
	Name func(t *testing.T) string // a name that is free on the host
}

// Run runs the suite. The networks that it makes are gone afterwards.
func Run(t *testing.T, sub Subject) {
	t.Run("FillPicksSubnetsThatAreFree", sub.fill)
	t.Run("LifeCycle", sub.lifeCycle)
	t.Run("HostsHaveLeases", sub.hosts)
	t.Run("HostsAreRefused", sub.badHosts)
	t.Run("ValidateRefusesNonsense", sub.validate)
}

func (sub Subject) start(t *testing.T, d driver.Driver) driver.Spec {
	t.Helper()
	ctx := t.Context()
	s := driver.Spec{Name: sub.Name(t), Dir: filepath.Join(t.TempDir(), "net"), Seed: t.Name()}
	made := s
	made.New = true
	c, err := d.Fill(ctx, made, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Config = c
	if err := d.Keys(c).Validate(c); err != nil {
		t.Fatalf("what Fill made is not valid: %v", err)
	}
	if err := d.Validate(s); err != nil {
		t.Fatalf("what Fill made is not valid: %v", err)
	}
	if err := d.Start(ctx, s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's context has ended by now, and the network must go all the same.
		if err := d.Delete(context.Background(), s); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (sub Subject) fill(t *testing.T) {
	t.Parallel()
	d := sub.driver(t)
	a := sub.start(t, d)
	b := sub.start(t, d)
	for _, p := range driver.Subnets(a.Config) {
		for _, q := range driver.Subnets(b.Config) {
			if p.Overlaps(q) {
				t.Errorf("two networks got %v and %v", p, q)
			}
		}
	}
	in := map[string]string{"ipv4.address": "none", "ipv6.address": "none", "user.x": "y"}
	c, err := d.Fill(t.Context(), driver.Spec{Name: "x", Config: in}, nil)
	if err != nil || c["ipv4.address"] != "none" || c["ipv4.nat"] != "" || c["user.x"] != "y" {
		t.Errorf("Fill changed what was said: %v, %v", c, err)
	}
	// What somebody took out of a network that exists stays out; "auto" is a wish.
	c, err = d.Fill(t.Context(), driver.Spec{Name: "x", Config: map[string]string{"ipv6.address": "auto"}}, nil)
	if v, ok := c["ipv4.address"]; err != nil || ok || c["ipv6.address"] == "auto" {
		t.Errorf("an existing network got IPv4 address %q and IPv6 address %q, %v", v, c["ipv6.address"], err)
	}
	if len(in) != 3 {
		t.Errorf("Fill changed its input: %v", in)
	}
}

func (sub Subject) lifeCycle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := sub.driver(t)
	s := sub.start(t, d)
	st, err := d.State(ctx, s)
	if err != nil || !st.Up {
		t.Fatalf("state %+v, %v", st, err)
	}
	if err := d.Start(ctx, s); err != nil {
		t.Errorf("a second start: %v", err)
	}
	again, _ := d.State(ctx, s)
	if again.HWAddr != st.HWAddr || st.HWAddr == "" {
		t.Errorf("the address went from %q to %q", st.HWAddr, again.HWAddr)
	}
	p4 := netip.MustParsePrefix(s.Config["ipv4.address"])
	if !slices.ContainsFunc(st.Addresses, func(a netlink.Address) bool { return a.Address == p4.Addr().String() }) {
		t.Errorf("%v lacks %v", st.Addresses, p4)
	}

	next := s
	next.Config = map[string]string{"ipv4.address": "none", "ipv6.address": s.Config["ipv6.address"], "ipv6.nat": "true"}
	if err := d.Update(ctx, s, next); err != nil {
		t.Fatal(err)
	}
	st, err = d.State(ctx, next)
	if err != nil || slices.ContainsFunc(st.Addresses, func(a netlink.Address) bool { return a.Address == p4.Addr().String() }) {
		t.Errorf("after the update: %+v, %v", st.Addresses, err)
	}

	for range 2 {
		if err := d.Stop(ctx, next); err != nil {
			t.Fatal(err)
		}
		if _, err := d.State(ctx, next); !errs.Is(err, errs.KindNotFound) {
			t.Errorf("state of a stopped network: %v", err)
		}
	}
	for range 2 {
		if err := d.Delete(ctx, next); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(s.Dir); err == nil {
		t.Error("the folder outlived Delete")
	}
}

func (sub Subject) hosts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := sub.driver(t)
	s := sub.start(t, d)
	addr := netip.MustParsePrefix(s.Config["ipv4.address"]).Addr().Next()
	h := driver.Host{Owner: "c1.eth0", Hostname: "c1", HWAddr: "00:16:3e:01:02:03", IPv4: addr}
	if _, err := d.SetHost(ctx, s, h); err != nil {
		t.Fatal(err)
	}
	if _, err := d.SetHost(ctx, s, h); err != nil {
		t.Errorf("the same again: %v", err)
	}
	all, err := d.Leases(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	want := driver.Lease{Hostname: "c1", HWAddr: h.HWAddr, Address: addr, Type: driver.Static}
	if !slices.Contains(all, want) {
		t.Errorf("%v lacks %v", all, want)
	}
	gw := driver.Gateways(s)
	if len(gw) != 2 || !slices.Contains(all, gw[0]) || !slices.Contains(all, gw[1]) {
		t.Errorf("%v lacks the gateways %v", all, gw)
	}
	other := driver.Host{Owner: "c2.eth0", Hostname: "c2", HWAddr: "00:16:3e:01:02:04", IPv4: addr}
	if _, err := d.SetHost(ctx, s, other); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a taken address: %v", err)
	}
	next := s
	next.Config = map[string]string{"ipv4.address": netip.PrefixFrom(addr, 24).String(), "ipv6.address": "none"}
	if err := d.Update(ctx, s, next); !errs.Is(err, errs.KindConflict) {
		t.Errorf("the network with the address of a host: %v", err)
	}
	same := driver.Host{Owner: "p_c1.eth0", Hostname: "C1", HWAddr: "00:16:3e:01:02:04"}
	if _, err := d.SetHost(ctx, s, same); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a taken name: %v", err)
	}
	mac := driver.Host{Owner: "c4.eth0", Hostname: "c4", HWAddr: h.HWAddr}
	if _, err := d.SetHost(ctx, s, mac); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a taken MAC address: %v", err)
	}
	picked := driver.Host{Owner: "c3.eth0", Hostname: "c3", HWAddr: "00:16:3e:01:02:05", PickIPv4: true, PickIPv6: true}
	got, err := d.SetHost(ctx, s, picked)
	if err != nil || !got.IPv4.IsValid() || !got.IPv6.IsValid() || got.IPv4 == addr {
		t.Fatalf("picked %+v, %v", got, err)
	}
	if again, err := d.SetHost(ctx, s, picked); err != nil || again.IPv4 != got.IPv4 || again.IPv6 != got.IPv6 {
		t.Errorf("picked %+v and then %+v, %v", got, again, err)
	}
	for range 2 {
		if err := d.RemoveHost(ctx, s, "c1.eth0"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.SetHost(ctx, s, other); err != nil {
		t.Errorf("the address is free again: %v", err)
	}
	all, _ = d.Leases(ctx, s)
	if slices.Contains(all, want) {
		t.Errorf("the lease is still there: %v", all)
	}
}

func (sub Subject) badHosts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := sub.driver(t)
	s := sub.start(t, d)
	gw := netip.MustParsePrefix(s.Config["ipv4.address"]).Addr()
	good := driver.Host{Owner: "c1.eth0", Hostname: "c1", HWAddr: "00:16:3e:01:02:03", IPv4: gw.Next()}
	for name, change := range map[string]func(*driver.Host){
		"owner with a slash":     func(h *driver.Host) { h.Owner = "../c1.eth0" },
		"no owner":               func(h *driver.Host) { h.Owner = "" },
		"hidden owner":           func(h *driver.Host) { h.Owner = ".." },
		"host name with a comma": func(h *driver.Host) { h.Hostname = "c1,ignore" },
		"host name with a line":  func(h *driver.Host) { h.Hostname = "c1\n00:16:3e:00:00:00,x" },
		"no MAC address":         func(h *driver.Host) { h.HWAddr = "*" },
		"MAC address in dashes":  func(h *driver.Host) { h.HWAddr = "00-16-3e-01-02-03" },
		"the gateway":            func(h *driver.Host) { h.IPv4 = gw },
		"outside of the subnet":  func(h *driver.Host) { h.IPv4 = netip.MustParseAddr("192.0.2.1") },
	} {
		h := good
		change(&h)
		if _, err := d.SetHost(ctx, s, h); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	all, err := d.Leases(ctx, s)
	if err != nil || len(all) != 2 {
		t.Errorf("refused hosts left %v, %v", all, err)
	}
}

func (sub Subject) validate(t *testing.T) {
	t.Parallel()
	d := sub.driver(t)
	for _, c := range []map[string]string{
		{"ipv4.address": "10.0.0.300/24"},
		{"ipv6.address": "fd42::1"},
		{"no.such.key": "1"},
	} {
		if d.Keys(c).Validate(c) == nil && d.Validate(driver.Spec{Name: "x1", Config: c}) == nil {
			t.Errorf("%v was accepted", c)
		}
	}
}

func (sub Subject) driver(t *testing.T) driver.Driver {
	t.Helper()
	d := sub.New(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
