//go:build system

package netlink

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sett/lxd/host/netnstest"
	"sett/shared/errs"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func name() string { return "t" + strings.ToLower(rand.Text()[:10]) }

func veth(t *testing.T) (host, peer string) {
	t.Helper()
	host, peer = name(), name()
	if err := CreateVeth(Veth{Host: host, Peer: peer, MTU: 1400}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Delete(host) })
	return host, peer
}

func TestVethPair(t *testing.T) {
	t.Parallel()
	host, peer := veth(t)
	if err := CreateVeth(Veth{Host: host, Peer: name()}); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a taken name: %v", err)
	}
	if m, err := MTU(peer); err != nil || m != 1400 {
		t.Errorf("MTU %d, %v", m, err)
	}
	st, err := Get(t.Context(), host)
	if err != nil || st.Kind != "veth" || st.Type != "broadcast" || st.HWAddr == "" {
		t.Errorf("%+v, %v", st, err)
	}
	all, err := Interfaces(t.Context())
	if err != nil || !slices.Contains(all, Interface{host, "unknown"}) || !slices.Contains(all, Interface{"lo", "loopback"}) {
		t.Errorf("%v, %v", all, err)
	}
	for range 2 {
		if err := Delete(host); err != nil {
			t.Fatal(err)
		}
	}
	if Exists(peer) {
		t.Error("the peer stayed")
	}
	if _, err := Get(context.Background(), host); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("state of nothing: %v", err)
	}
}

func TestSyncAddressesAndRoutes(t *testing.T) {
	t.Parallel()
	host, _ := veth(t)
	if err := SetUp(host); err != nil {
		t.Fatal(err)
	}
	a, b := netip.MustParsePrefix("10.66.1.1/24"), netip.MustParsePrefix("fd42:66::1/64")
	for _, want := range [][]netip.Prefix{{a, b}, {b}, nil} {
		if err := SyncAddresses(host, want); err != nil {
			t.Fatal(err)
		}
		got, err := GlobalAddresses(host)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, want %v, %v", got, want, err)
		}
	}
	static, device := netip.MustParsePrefix("10.66.7.0/24"), netip.MustParsePrefix("10.66.8.0/24")
	if err := SyncRoutes(host, []netip.Prefix{static}); err != nil {
		t.Fatal(err)
	}
	if err := AddRoutes(host, []netip.Prefix{device}); err != nil {
		t.Fatal(err)
	}
	if err := SyncRoutes(host, nil); err != nil {
		t.Fatal(err)
	}
	busy, err := Busy(t.Context(), "")
	if err != nil || slices.Contains(busy, static) || !slices.Contains(busy, device) {
		t.Errorf("after the sync: %v, %v", busy, err)
	}
	for range 2 {
		if err := RemoveRoutes(host, []netip.Prefix{device}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRoutesOfOthersStay asks for routes that lead elsewhere already, the host's default
// route for one.
func TestRoutesOfOthersStay(t *testing.T) {
	t.Parallel()
	theirs, _ := veth(t)
	ours, _ := veth(t)
	for _, i := range []string{theirs, ours} {
		if err := SetUp(i); err != nil {
			t.Fatal(err)
		}
	}
	l, err := link(theirs)
	if err != nil {
		t.Fatal(err)
	}
	free := []netip.Prefix{netip.MustParsePrefix("10.67.1.0/24"), netip.MustParsePrefix("fd42:67:1::/64")}
	for _, p := range []netip.Prefix{netip.MustParsePrefix("10.67.2.0/24"), netip.MustParsePrefix("fd42:67:2::/64"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")} {
		if err := nl.RouteAdd(route(l, p, unix.RTPROT_DHCP)); err != nil {
			t.Fatal(p, err)
		}
		// With one before it that is free: all or none.
		if err := AddRoutes(ours, append(slices.Clone(free), p)); !errs.Is(err, errs.KindConflict) {
			t.Errorf("%s of a device: %v", p, err)
		}
		if err := SyncRoutes(ours, []netip.Prefix{p}); !errs.Is(err, errs.KindConflict) {
			t.Errorf("%s of a network: %v", p, err)
		}
		if err := RemoveRoutes(ours, []netip.Prefix{p}); err != nil {
			t.Error(err)
		}
		left, err := routes(&nl.Route{LinkIndex: l.Attrs().Index, Protocol: unix.RTPROT_DHCP}, nl.RT_FILTER_OIF|nl.RT_FILTER_PROTOCOL)
		if err != nil || len(left) != 1 {
			t.Errorf("%s: the host's routes are %v, %v", p, left, err)
		}
		for _, r := range left {
			if err := nl.RouteDel(&r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := AddRoutes(ours, free); err != nil {
		t.Errorf("what a refusal had begun with is not free: %v", err)
	}
	static := []netip.Prefix{netip.MustParsePrefix("10.67.3.0/24")}
	for range 2 {
		if err := SyncRoutes(ours, static); err != nil {
			t.Error(err)
		}
	}
}

func TestHelpersAreNotShared(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, n := range []string{"veth01234567", "veth01234568", "web-01234567", "app-01234567", "01234567", "ab", "averylonghost15"} {
		h := helper(n)
		if err := CheckName(h); err != nil {
			t.Errorf("%s: %v", n, err)
		}
		if other := seen[h]; other != "" {
			t.Errorf("%s and %s share %s", n, other, h)
		}
		seen[h] = n
	}
}

func TestShapeBothWays(t *testing.T) {
	t.Parallel()
	host, _ := veth(t)
	for _, c := range []struct{ send, receive int64 }{{10e6, 20e6}, {5e6, 0}, {0, 7e6}, {0, 0}} {
		if err := Shape(host, c.send, c.receive); err != nil {
			t.Fatal(err)
		}
		for _, i := range []struct {
			name string
			bits int64
		}{{host, c.send}, {helper(host), c.receive}} {
			l, err := link(i.name)
			if err != nil && i.bits == 0 {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			classes, err := nl.ClassList(l, 0)
			if err != nil {
				t.Fatal(err)
			}
			var rate uint64
			for _, c := range classes {
				if h, ok := c.(*nl.HtbClass); ok {
					rate = h.Rate * 8
				}
			}
			if rate != uint64(i.bits) {
				t.Errorf("%+v: %s is limited to %d", c, i.name, rate)
			}
		}
	}
	if Exists(helper(host)) {
		t.Error("the helper stayed")
	}
}

func TestBridgePorts(t *testing.T) {
	t.Parallel()
	host, _ := veth(t)
	br := name()
	if made, err := EnsureBridge(BridgeSpec{Name: br, MTU: 1500}); err != nil || !made {
		t.Fatal(made, err)
	}
	t.Cleanup(func() { DeleteBridge(br, "") })
	if made, err := EnsureBridge(BridgeSpec{Name: br, MTU: 1500}); err != nil || made {
		t.Error(made, err)
	}
	if _, err := EnsureBridge(BridgeSpec{Name: host, MTU: 1500}); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a veth as a bridge: %v", err)
	}
	if err := Attach(host, br); err != nil {
		t.Fatal(err)
	}
	if err := Isolate(host, true); err != nil {
		t.Error(err)
	}
	st, err := Get(t.Context(), br)
	if err != nil || st.Bridge == nil || !slices.Equal(st.Bridge.UpperDevices, []string{host}) || st.Bridge.ID == "" {
		t.Errorf("%+v, %+v, %v", st, st.Bridge, err)
	}
	if err := DeleteBridge(host, ""); err != nil || !Exists(host) {
		t.Errorf("DeleteBridge of a veth: %v", err)
	}
	if err := Detach(host); err != nil {
		t.Error(err)
	}
	if m, _ := Master(host); m != "" {
		t.Errorf("still a port of %q", m)
	}
}

// TestListsWhileInterfacesComeAndGo asks for lists that are long enough to be told in
// pieces, while somebody else changes them.
func TestListsWhileInterfacesComeAndGo(t *testing.T) {
	br := name()
	if _, err := EnsureBridge(BridgeSpec{Name: br}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { DeleteBridge(br, "") })
	for range 40 {
		host, _ := veth(t)
		if err := Attach(host, br); err != nil {
			t.Fatal(err)
		}
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n := name()
			if err := CreateVeth(Veth{Host: n, Peer: name()}); err != nil {
				t.Error(err)
				return
			}
			if err := Delete(n); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
	for range 60 {
		st, err := Get(t.Context(), br)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Bridge.UpperDevices) != 40 {
			t.Fatalf("%d ports of 40", len(st.Bridge.UpperDevices))
		}
		if _, err := Interfaces(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := Busy(t.Context(), br); err != nil {
			t.Fatal(err)
		}
	}
}
