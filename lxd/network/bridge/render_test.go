package bridge

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/host/nft"
	"sett/lxd/network/driver"
	"sett/shared/errs"
)

var update = flag.Bool("update", false, "write the golden files")

var cases = map[string]map[string]string{
	"default": {"ipv4.address": "10.1.2.1/24", "ipv4.nat": "true", "ipv6.address": "fd42:1:2:3::1/64", "ipv6.nat": "true"},
	"v4only":  {"ipv4.address": "10.1.2.1/24", "ipv6.address": "none"},
	"none":    {"ipv4.address": "none", "ipv6.address": "none"},
	"closed":  {"ipv4.address": "10.1.2.1/24", "ipv4.routing": "false", "ipv4.dhcp": "false", "ipv6.address": "none", "ipv6.firewall": "false", "dns.mode": "none"},
	"nofw":    {"ipv4.address": "10.1.2.1/24", "ipv4.firewall": "false", "ipv6.address": "none", "ipv4.nat": "true", "ipv4.nat.address": "192.0.2.7", "ipv4.nat.order": "after"},
	"full": {
		"ipv4.address": "10.1.0.1/16", "ipv4.dhcp.ranges": "10.1.1.1-10.1.1.9, 10.1.2.1-10.1.2.9", "ipv4.dhcp.expiry": "45m", "ipv4.dhcp.gateway": "10.1.0.254",
		"ipv6.address": "fd42::1/80", "ipv6.dhcp.stateful": "true", "dns.domain": "example.org", "dns.search": "a.example.org,b.example.org",
		"bridge.mtu": "1400", "raw.dnsmasq": "log-queries",
	},
	"slaac": {"ipv4.address": "none", "ipv6.address": "fd42::1/64", "ipv6.dhcp": "false"},
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s differs (run with -update and read the diff):\n%s", file, got)
	}
}

func TestFirewallAndServerOfEachKindOfNetwork(t *testing.T) {
	t.Parallel()
	for name, c := range cases {
		s := driver.Spec{Name: "br0", Dir: "/var/lib/lxd/networks/br0", Config: c}
		if err := keys().Validate(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		golden(t, name+".nft", nft.Script(chains(s)))
		v, needed := server(s)
		text := strings.Join(v.Args, "\n") + "\n---\n" + v.Raw
		if !needed {
			text = "no server\n"
		}
		golden(t, name+".dnsmasq", text)
	}
}

func TestHWAddrIsStableAndDiffers(t *testing.T) {
	t.Parallel()
	mac := func(s driver.Spec) string {
		a, err := hwaddr(s)
		if err != nil {
			t.Fatal(err)
		}
		return a.String()
	}
	a := mac(driver.Spec{Name: "br0", Seed: "one"})
	if a != mac(driver.Spec{Name: "br0", Seed: "one", Config: map[string]string{"ipv4.address": "none"}}) {
		t.Error("the same network got two addresses")
	}
	if a == mac(driver.Spec{Name: "br0", Seed: "two"}) || a == mac(driver.Spec{Name: "br1", Seed: "one"}) {
		t.Error("two networks got one address")
	}
	set := map[string]string{"bridge.hwaddr": "00:16:3e:aa:bb:cc", "volatile.bridge.hwaddr": "00:16:3e:00:00:01"}
	if got := mac(driver.Spec{Config: set}); got != "00:16:3e:aa:bb:cc" {
		t.Errorf("got %s", got)
	}
}

func TestKeysRefuse(t *testing.T) {
	t.Parallel()
	d := &Driver{}
	for _, c := range []struct {
		key, value string
		status     int
	}{
		{"ipv4.address", "10.0.0.0/24", 400}, {"ipv4.address", "fd42::1/64", 400}, {"ipv6.address", "fd42::1", 400},
		{"ipv4.dhcp.ranges", "10.0.0.9-10.0.0.1", 400}, {"ipv4.dhcp.expiry", "soon", 400}, {"ipv4.dhcp.expiry", "1h\nx", 400},
		{"bridge.mtu", "100", 400}, {"bridge.hwaddr", "01:00:5e:00:00:01", 400}, {"bridge.external_interfaces", "eth0,a/b", 400},
		{"dns.domain", "a b", 400}, {"dns.mode", "yes", 400}, {"ipv4.routes", "10.0.0.1/8", 400}, {"nope", "1", 400},
		{"bridge.driver", "openvswitch", 501}, {"bridge.driver", "x", 400}, {"bridge.mode", "fan", 501},
		{"fan.underlay_subnet", "auto", 501}, {"tunnel.x.protocol", "vxlan", 501}, {"maas.subnet.ipv4", "x", 501},
		{"security.acls", "x", 501}, {"security.acls.default.ingress.action", "drop", 501}, {"dns.zone.forward", "x", 501},
		{"bgp.peers.x.address", "10.0.0.1", 501}, {"ipv4.ovn.ranges", "10.0.0.1-10.0.0.2", 501},
	} {
		err := d.Keys(nil).Validate(map[string]string{c.key: c.value})
		if err == nil || errs.Status(err) != c.status {
			t.Errorf("%s=%q: %v (%d)", c.key, c.value, err, errs.Status(err))
		}
	}
	for _, c := range []map[string]string{
		{"ipv4.address": "10.0.0.1/24", "ipv4.dhcp.ranges": "10.0.1.1-10.0.1.9"},
		{"ipv6.address": "fd42::1/48", "ipv6.dhcp.stateful": "true"},
		{"ipv6.address": "fd42::1/48", "ipv6.dhcp.stateful": "true", "ipv6.dhcp.ranges": "fd42::10-fd42::20"},
	} {
		if err := d.Validate(driver.Spec{Name: "br0", Config: c}); errs.Status(err) != 400 {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func TestExpiryTakesWhatDnsmasqTakes(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"1h", "45m", "120", "3d", "1w", "infinite"} {
		if _, err := expiry(v); err != nil {
			t.Errorf("%s: %v", v, err)
		}
	}
	for _, v := range []string{"", "-1h", "1h30m", "1.5h", "h", "1y", "0"} {
		if _, err := expiry(v); err == nil {
			t.Errorf("%q was accepted", v)
		}
	}
}
