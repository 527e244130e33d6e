//go:build system

package bridge

import (
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sett/lxd/host/netlink"
	"sett/lxd/host/netnstest"
	"sett/lxd/host/nft"
	"sett/lxd/host/sysctl"
	"sett/lxd/network/driver"
	"sett/lxd/network/driver/drivertest"
	"sett/shared/errs"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func name(*testing.T) string { return "t" + strings.ToLower(rand.Text()[:10]) }

func newDriver(t *testing.T) *Driver {
	d := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() { d.Close() })
	return d
}

func TestBridgePassesTheSuite(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Subject{New: func(t *testing.T) driver.Driver { return newDriver(t) }, Name: name})
}

// folder can be entered by the user that dnsmasq becomes.
func folder(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "net")
}

func start(t *testing.T, d *Driver, c map[string]string) driver.Spec {
	t.Helper()
	s := driver.Spec{Name: name(t), Dir: folder(t)}
	s.Seed = "test/" + s.Name
	var err error
	s.Config, err = d.Fill(t.Context(), driver.Spec{Name: s.Name, Config: c, New: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := New(slog.Default()).Delete(context.Background(), s); err != nil {
			t.Error(err)
		}
	})
	return s
}

func pid(t *testing.T, s driver.Spec) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir, "dnsmasq.pid"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually waits for what another process does.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(15 * time.Second)
	for !f() {
		select {
		case <-limit:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}

func TestServerSurvivesTheDaemonAndIsAdopted(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	s := start(t, d, nil)
	first := pid(t, s)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = newDriver(t)
	if err := d.Start(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if pid(t, s) != first {
		t.Error("the server was replaced")
	}
	// Adopted means watched: it comes back when it dies.
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server is started again", func() bool {
		b, _ := os.ReadFile(filepath.Join(s.Dir, "dnsmasq.pid"))
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil && n != first && syscall.Kill(n, 0) == nil
	})
	// Another configuration means another server.
	second := pid(t, s)
	next := s
	next.Config = map[string]string{"ipv4.address": s.Config["ipv4.address"], "ipv6.address": "none", "raw.dnsmasq": "log-queries"}
	if err := d.Update(t.Context(), s, next); err != nil {
		t.Fatal(err)
	}
	if pid(t, s) == second {
		t.Error("the server goes on as before")
	}
}

func TestStaleNumberIsNotBelieved(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	dir := folder(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Ourselves: if the driver believed the file, the test would end here.
	if err := os.WriteFile(filepath.Join(dir, "dnsmasq.pid"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(t.Context(), driver.Spec{Name: name(t), Dir: dir}); err != nil {
		t.Fatal(err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	s := driver.Spec{Name: name(t), Dir: folder(t), Seed: t.Name(), New: true, Config: map[string]string{
		"ipv4.address": "10.9.8.1/24", "ipv6.address": "none", "bridge.external_interfaces": "nosuchnic0"}}
	if err := d.Start(t.Context(), s); !errs.Is(err, errs.KindNotFound) {
		t.Fatalf("got %v", err)
	}
	if netlink.Exists(s.Name) {
		t.Error("the bridge is still there")
	}
	s.Config = map[string]string{"ipv4.address": "10.9.8.1/24", "ipv6.address": "none", "raw.dnsmasq": "no-such-option"}
	if err := d.Start(t.Context(), s); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "raw.dnsmasq") {
		t.Errorf("got %v", err)
	}
	if err := netlink.CreateVeth(netlink.Veth{Host: s.Name, Peer: name(t)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.Delete(s.Name) })
	delete(s.Config, "raw.dnsmasq")
	if err := d.Start(t.Context(), s); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a taken name: %v", err)
	}
	if err := d.Stop(t.Context(), s); err != nil {
		t.Error(err)
	}
	if !netlink.Exists(s.Name) {
		t.Error("Stop removed an interface that is no bridge")
	}
}

func TestTakenAddressIsRefused(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	a := start(t, d, map[string]string{"ipv6.address": "none"})
	s := driver.Spec{Name: name(t), Dir: folder(t), Seed: t.Name(), Config: map[string]string{"ipv4.address": a.Config["ipv4.address"], "ipv6.address": "none"}}
	if err := d.Start(t.Context(), s); !errs.Is(err, errs.KindConflict) || !strings.Contains(err.Error(), a.Name) {
		t.Errorf("got %v", err)
	}
	if netlink.Exists(s.Name) {
		t.Error("the bridge is still there")
	}
}

func TestOtherChainsStay(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	theirs := nft.Chain{Family: "inet", Table: "lxd", Name: "theirs." + name(t), Rules: []string{"counter accept"}}
	if err := nft.Replace(ctx, []nft.Chain{theirs}); err != nil {
		t.Fatal(err)
	}
	d := newDriver(t)
	s := start(t, d, map[string]string{"ipv6.address": "none"})
	have, err := nft.Chains(ctx, "inet", "lxd")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range chainNames(s.Name) {
		if !have[n] {
			t.Errorf("chain %s is missing", n)
		}
	}
	if err := d.Stop(ctx, s); err != nil {
		t.Fatal(err)
	}
	have, _ = nft.Chains(ctx, "inet", "lxd")
	for _, n := range chainNames(s.Name) {
		if have[n] {
			t.Errorf("chain %s stayed", n)
		}
	}
	if !have[theirs.Name] {
		t.Error("somebody else's chain is gone")
	}
}

func TestExternalInterfacesComeAndGo(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	a, b := name(t), name(t)
	if err := netlink.CreateVeth(netlink.Veth{Host: a, Peer: b}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.Delete(a) })
	s := start(t, d, map[string]string{"ipv6.address": "none", "bridge.external_interfaces": a, "ipv4.routes": "10.250.1.0/24"})
	if m, _ := netlink.Master(a); m != s.Name {
		t.Errorf("%s is a port of %q", a, m)
	}
	busy, err := netlink.Busy(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, p := range busy {
		found = found || p == netip.MustParsePrefix("10.250.1.0/24")
	}
	if !found {
		t.Errorf("the route is not there: %v", busy)
	}
	next := s
	next.Config = map[string]string{"ipv4.address": s.Config["ipv4.address"], "ipv6.address": "none"}
	if err := d.Update(t.Context(), s, next); err != nil {
		t.Fatal(err)
	}
	if m, _ := netlink.Master(a); m != "" {
		t.Errorf("%s is still a port of %q", a, m)
	}
}

// TestPortsOfAKilledUpdateAreLetGo has a daemon die after an update and before that was stored.
func TestPortsOfAKilledUpdateAreLetGo(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	a, b, c := name(t), name(t), name(t)
	for _, n := range []string{a, b, c} {
		if err := netlink.CreateVeth(netlink.Veth{Host: n, Peer: name(t)}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { netlink.Delete(n) })
	}
	s := start(t, d, map[string]string{"ipv6.address": "none", "bridge.external_interfaces": a})
	if err := netlink.Attach(c, s.Name); err != nil { // by somebody who knows of no daemon
		t.Fatal(err)
	}
	next := s
	next.Config = maps.Clone(s.Config)
	next.Config["bridge.external_interfaces"] = b
	if err := d.Update(t.Context(), s, next); err != nil {
		t.Fatal(err)
	}
	if m, _ := netlink.Master(b); m != s.Name {
		t.Errorf("%s is a port of %q", b, m)
	}
	d = newDriver(t)
	for range 2 {
		if err := d.Start(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		for port, want := range map[string]string{a: s.Name, b: "", c: s.Name} {
			if m, _ := netlink.Master(port); m != want {
				t.Errorf("%s is a port of %q, not of %q", port, m, want)
			}
		}
	}
}

func TestPortThatWasPulledKeepsNothingElse(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	a, b := name(t), name(t)
	if err := netlink.CreateVeth(netlink.Veth{Host: a, Peer: b}); err != nil {
		t.Fatal(err)
	}
	s := start(t, d, map[string]string{"ipv6.address": "none", "bridge.external_interfaces": a})
	if err := d.Stop(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := netlink.Delete(a); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	next := s
	next.Config = maps.Clone(s.Config)
	next.Config["bridge.mtu"] = "1400"
	if err := d.Update(t.Context(), s, next); err != nil {
		t.Error(err)
	}
	if st, err := d.State(t.Context(), s); err != nil || st.MTU != 1400 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestFailedUpdateBringsPortsBack has the first of two ports let go, and the rest fail.
func TestFailedUpdateBringsPortsBack(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	a, b := name(t), name(t)
	if err := netlink.CreateVeth(netlink.Veth{Host: a, Peer: b}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.Delete(a) })
	s := start(t, d, map[string]string{"ipv4.address": "10.77.9.1/24", "ipv6.address": "none", "bridge.external_interfaces": a, "ipv4.routes": "10.250.2.0/24"})
	server := pid(t, s)
	for what, c := range map[string]map[string]string{
		"a port that is not there":       {"ipv4.address": "10.77.9.2/24", "ipv6.address": "none", "bridge.external_interfaces": "nosuchnic0"},
		"an address that is taken":       {"ipv4.address": "127.0.0.1/8", "ipv6.address": "none"},
		"a route that is taken":          {"ipv4.address": "10.77.9.2/24", "ipv6.address": "none", "ipv4.routes": "10.77.9.0/24"},
		"lines that dnsmasq knows not":   {"ipv4.address": "10.77.9.2/24", "ipv6.address": "none", "raw.dnsmasq": "no-such-option"},
		"a server that does not come up": {"ipv4.address": "10.77.9.2/24", "ipv6.address": "none", "raw.dnsmasq": "conf-file=/nonexistent/file"},
	} {
		next := s
		next.Config = c
		if err := d.Update(t.Context(), s, next); err == nil {
			t.Errorf("%s: no error", what)
		}
		if m, _ := netlink.Master(a); m != s.Name {
			t.Errorf("%s: %s is a port of %q", what, a, m)
		}
		st, err := d.State(t.Context(), s)
		if err != nil || !slices.ContainsFunc(st.Addresses, func(a netlink.Address) bool { return a.Address == "10.77.9.1" }) || len(st.Addresses) != 1 {
			t.Errorf("%s: %+v, %v", what, st.Addresses, err)
		}
		busy, err := netlink.Busy(t.Context(), "")
		if err != nil || !slices.Contains(busy, netip.MustParsePrefix("10.250.2.0/24")) {
			t.Errorf("%s: the route is gone: %v", what, err)
		}
		if now := pid(t, s); syscall.Kill(now, 0) != nil {
			t.Errorf("%s: the server %d (%d before) does not run", what, now, server)
		}
	}
}

// breakOnce puts a program in the way of another one, whose first run fails.
func breakOnce(t *testing.T, program string) {
	t.Helper()
	real, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\nif mkdir " + dir + "/failed 2>/dev/null; then echo no such luck >&2; exit 1; fi\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, program), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestProgramsThatFailLeaveAllAsItWas is for what is done by programs, when a network is
// made and when it changes.
func TestProgramsThatFailLeaveAllAsItWas(t *testing.T) {
	for _, program := range []string{"nft", "dnsmasq"} {
		t.Run(program, func(t *testing.T) {
			ctx := t.Context()
			d := newDriver(t)
			port, peer := name(t), name(t)
			if err := netlink.CreateVeth(netlink.Veth{Host: port, Peer: peer}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { netlink.Delete(port) })
			old := start(t, d, map[string]string{"ipv4.address": "10.77.10.1/24", "ipv6.address": "none", "ipv4.nat": "true"})
			rules := func() string {
				text, err := nft.List(ctx, family, table, "pstrt."+old.Name)
				if err != nil {
					t.Fatal(err)
				}
				return text
			}
			before := rules()

			breakOnce(t, program)
			fresh := driver.Spec{Name: name(t), Dir: folder(t), Seed: t.Name(), Config: map[string]string{
				"ipv4.address": "10.77.11.1/24", "ipv6.address": "none", "bridge.external_interfaces": port}}
			if err := d.Start(ctx, fresh); err == nil || !strings.Contains(err.Error(), "no such luck") {
				t.Fatalf("got %v", err)
			}
			if netlink.Exists(fresh.Name) {
				t.Error("the bridge is still there")
			}
			if m, err := netlink.Master(port); m != "" || err != nil {
				t.Errorf("the port is still one, of %q: %v", m, err)
			}
			have, err := nft.Chains(ctx, family, table)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range chainNames(fresh.Name) {
				if have[c] {
					t.Errorf("chain %s stayed", c)
				}
			}

			breakOnce(t, program)
			next := old
			next.Config = map[string]string{"ipv4.address": "10.77.12.1/24", "ipv6.address": "none", "bridge.external_interfaces": port}
			if err := d.Update(ctx, old, next); err == nil || !strings.Contains(err.Error(), "no such luck") {
				t.Fatalf("got %v", err)
			}
			if st, err := d.State(ctx, old); err != nil || len(st.Addresses) != 1 || st.Addresses[0].Address != "10.77.10.1" {
				t.Errorf("addresses %+v, %v", st.Addresses, err)
			}
			if after := rules(); after != before {
				t.Errorf("the rules are\n%s\nnot\n%s", after, before)
			}
			if m, err := netlink.Master(port); m != "" || err != nil {
				t.Errorf("the port is still one, of %q: %v", m, err)
			}
			args, err := os.ReadFile("/proc/" + strconv.Itoa(pid(t, old)) + "/cmdline")
			if err != nil || !strings.Contains(string(args), "--listen-address=10.77.10.1") {
				t.Errorf("the server runs as %q, %v", args, err)
			}
		})
	}
}

// TestAnnouncementsOfGuestsAreNotBelieved: a guest that says it is a router must not
// become the host's.
func TestAnnouncementsOfGuestsAreNotBelieved(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	s := start(t, d, nil)
	start(t, d, nil) // has the host forward once more
	if v, err := sysctl.Get("net/ipv6/conf/" + s.Name + "/accept_ra"); err != nil || v != "0" {
		t.Errorf("accept_ra is %q, %v", v, err)
	}
	if v, err := sysctl.Get("net/ipv6/conf/lo/accept_ra"); err != nil || v == "1" {
		t.Errorf("the host's own interfaces do not follow routers any more: %q, %v", v, err)
	}
}

func TestServerBelongsToNobody(t *testing.T) {
	t.Parallel()
	s := start(t, newDriver(t), nil)
	out, err := exec.Command("ps", "-o", "user=", "-p", strconv.Itoa(pid(t, s))).Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(out)) == "root" {
		t.Error("the server runs as root")
	}
}

func TestPickKeepsTheLeaseAndNamesFollowTheMode(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newDriver(t)
	s := start(t, d, map[string]string{"ipv4.address": "10.77.5.1/24", "ipv6.address": "none"})
	lease := "9999999999 00:16:3e:01:02:03 10.77.5.123 c1 *\n"
	if err := os.WriteFile(filepath.Join(s.Dir, "dnsmasq.leases"), []byte(lease), 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := d.SetHost(ctx, s, driver.Host{Owner: "c1.eth0", Hostname: "c1", HWAddr: "00:16:3e:01:02:03", PickIPv4: true})
	if err != nil || h.IPv4 != netip.MustParseAddr("10.77.5.123") {
		t.Fatalf("%+v, %v", h, err)
	}
	file := filepath.Join(s.Dir, "dnsmasq.hosts", "c1.eth0")
	for _, c := range []struct{ mode, want string }{{"none", "00:16:3e:01:02:03,10.77.5.123"}, {"managed", "00:16:3e:01:02:03,10.77.5.123,c1"}} {
		next := s
		next.Config = map[string]string{"ipv4.address": "10.77.5.1/24", "ipv6.address": "none", "dns.mode": c.mode}
		if err := d.Update(ctx, s, next); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != c.want {
			t.Errorf("%s: %q, %v", c.mode, b, err)
		}
		s = next
	}
}

func TestPickLeavesLeasesOfOthersAlone(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	s := start(t, d, map[string]string{"ipv4.address": "10.77.6.1/24", "ipv6.address": "none", "ipv4.dhcp.ranges": "10.77.6.10-10.77.6.12"})
	leases := "9999999999 00:16:3e:01:02:03 10.77.6.10 * *\n9999999999 00:16:3e:01:02:04 10.77.6.11 * *\n"
	if err := os.WriteFile(filepath.Join(s.Dir, "dnsmasq.leases"), []byte(leases), 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := d.SetHost(t.Context(), s, driver.Host{Owner: "c9.eth0", Hostname: "c9", HWAddr: "00:16:3e:01:02:09", PickIPv4: true})
	if err != nil || h.IPv4 != netip.MustParseAddr("10.77.6.12") {
		t.Fatalf("%+v, %v", h, err)
	}
}

func TestBridgeOfAnotherDaemonIsLeftAlone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newDriver(t)
	s := start(t, d, map[string]string{"ipv4.address": "10.77.7.1/24", "ipv6.address": "none", "ipv4.nat": "true"})
	before, err := nft.List(ctx, family, table, "pstrt."+s.Name)
	if err != nil || before == "" {
		t.Fatal(before, err)
	}
	other := newDriver(t)
	theirs := driver.Spec{Name: s.Name, Dir: folder(t), Seed: "another daemon", Config: map[string]string{"ipv4.address": "10.77.8.1/24", "ipv6.address": "none"}}
	if err := other.Start(ctx, theirs); !errs.Is(err, errs.KindConflict) {
		t.Errorf("got %v", err)
	}
	if err := other.Delete(ctx, theirs); err != nil {
		t.Error(err)
	}
	if after, err := nft.List(ctx, family, table, "pstrt."+s.Name); err != nil || after != before {
		t.Errorf("the rules changed: %v\n%s", err, after)
	}
	if st, err := d.State(ctx, s); err != nil || !slices.ContainsFunc(st.Addresses, func(a netlink.Address) bool { return a.Address == "10.77.7.1" }) {
		t.Errorf("%+v, %v", st, err)
	}
	if err := d.Start(ctx, s); err != nil { // ours goes on
		t.Error(err)
	}
}

// TestLeaseEndsWithItsDevice has a client take an address by DHCP, and its device go.
func TestLeaseEndsWithItsDevice(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	s := start(t, d, map[string]string{"ipv6.address": "none"})
	mac := net.HardwareAddr{0x00, 0x16, 0x3e, 1, 2, 3}
	if _, err := d.SetHost(t.Context(), s, driver.Host{Owner: "c1.eth0", Hostname: "c1", HWAddr: mac.String()}); err != nil {
		t.Fatal(err)
	}
	host, guest := name(t), name(t)
	if err := netlink.CreateVeth(netlink.Veth{Host: host, Peer: guest, PeerHWAddr: mac}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.Delete(host) })
	for _, err := range []error{netlink.Attach(host, s.Name), netlink.SetUp(host), netlink.SetUp(guest)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "busybox", "udhcpc", "-i", guest, "-n", "-q", "-f", "-B", "-s", "/bin/true").CombinedOutput()
	if err != nil {
		t.Fatalf("no lease: %v\n%s", err, out)
	}
	leased := func() bool {
		all, err := d.Leases(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(all, func(l driver.Lease) bool { return l.HWAddr == mac.String() })
	}
	eventually(t, "the lease is seen", leased)
	if err := d.RemoveHost(t.Context(), s, "c1.eth0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the lease is given back", func() bool { return !leased() })
}

// TestRenamingThatBrokeOffLeavesNoBridge has a daemon killed between the start of a
// network under its new name and the note of that.
func TestRenamingThatBrokeOffLeavesNoBridge(t *testing.T) {
	t.Parallel()
	d := newDriver(t)
	s := start(t, d, map[string]string{"ipv6.address": "none"})
	half := s
	half.Name = name(t)
	half.Dir = filepath.Join(filepath.Dir(s.Dir), half.Name)
	if err := d.Stop(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.Dir, half.Dir); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	server := pid(t, half)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = newDriver(t)
	if err := d.Start(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if netlink.Exists(half.Name) || !netlink.Exists(s.Name) {
		t.Error("the bridge of the new name is there")
	}
	if _, err := os.Stat(half.Dir); !os.IsNotExist(err) {
		t.Errorf("its folder: %v", err)
	}
	eventually(t, "its server ends", func() bool { return syscall.Kill(server, 0) != nil })
	for _, c := range chainNames(half.Name) {
		if text, err := nft.List(t.Context(), family, table, c); err != nil || text != "" {
			t.Errorf("chain %s: %q, %v", c, text, err)
		}
	}
}
