package nic

import (
	"context"
	"flag"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sett/lxd/device"
	"sett/lxd/host/nft"
	"sett/shared/errs"
)

var update = flag.Bool("update", false, "write the golden files")

// nets is the networks of a test.
type nets struct {
	all    map[string]device.Network
	leases map[string]device.Lease
	err    error
	during func() // is called by SetLease
}

func (n *nets) Network(_ context.Context, _, name string) (device.Network, error) {
	if v, ok := n.all[name]; ok {
		return v, nil
	}
	return device.Network{}, errs.NotFound("Network not found")
}

func (n *nets) SetLease(_ context.Context, network string, l device.Lease) (device.Lease, error) {
	if n.during != nil {
		n.during()
	}
	if n.err != nil {
		return l, n.err
	}
	if l.PickIPv4 {
		l.IPv4 = "10.1.2.77"
	}
	n.leases[network+"/"+l.Instance+"."+l.Device] = l
	return l, nil
}

func (n *nets) RemoveLease(_ context.Context, network string, l device.Lease) error {
	delete(n.leases, network+"/"+l.Instance+"."+l.Device)
	return nil
}

func services(name string) (device.Services, *nets) {
	n := &nets{leases: map[string]device.Lease{}, all: map[string]device.Network{
		name: {Name: name, Type: "bridge", Status: "Created", Config: map[string]string{
			"ipv4.address": "10.1.2.1/24", "ipv6.address": "fd42::1/64"}},
		"nodhcp":  {Name: "nodhcp", Type: "bridge", Status: "Created", Config: map[string]string{"ipv4.address": "10.1.3.1/24", "ipv4.dhcp": "false"}},
		"pending": {Name: "pending", Type: "bridge", Status: "Pending"},
		"macvlan": {Name: "macvlan", Type: "macvlan", Status: "Created"},
	}}
	return device.Services{Networks: n}, n
}

func TestValidation(t *testing.T) {
	t.Parallel()
	svc, _ := services("br0")
	reg := device.NewRegistry(New())
	for _, c := range []struct {
		config string
		status int // 0: accepted
		text   string
	}{
		{"network=br0", 0, ""},
		{"network=br0 name=eth0 hwaddr=00:16:3e:01:02:03 ipv4.address=10.1.2.9 limits.ingress=10Mbit limits.egress=1Gbit user.x=y boot.priority=1", 0, ""},
		{"nictype=bridged parent=unmanaged0 mtu=1400 host_name=v0 queue.tx.length=100 security.port_isolation=true", 0, ""},
		{"nictype=bridged parent=br0 ipv4.address=10.1.2.9", 0, ""},
		{"nictype=p2p ipv4.routes=10.9.0.0/24,10.9.1.0/24 ipv6.routes=fd43::/64", 0, ""},
		{"network=br0 security.ipv4_filtering=true ipv4.address=none", 0, ""},
		{"", 400, "network"},
		{"nictype=foo", 400, "foo"},
		{"nictype=macvlan parent=eth0", 501, "macvlan"}, {"nictype=sriov parent=eth0", 501, "sriov"}, {"nictype=routed", 501, "routed"},
		{"network=macvlan", 501, "macvlan"},
		{"network=nope", 404, "nope"}, {"network=pending", 400, "not fully created"},
		{"network=br0 nictype=bridged", 400, `Cannot use "nictype" property`}, {"network=br0 parent=br0", 400, `"parent"`},
		{"nictype=bridged", 400, "parent"},
		{"network=br0 vlan=1", 400, "vlan"}, {"nictype=bridged parent=br0 vlan=1", 501, "vlan"},
		{"network=br0 ipv4.address=10.9.9.9", 400, "not within"}, {"network=br0 ipv4.address=10.1.2.1", 400, "assigned"},
		{"network=br0 ipv4.address=x", 400, "ipv4.address"}, {"network=br0 ipv6.address=fd42::9", 400, "stateful"},
		{"network=nodhcp ipv4.address=10.1.3.9", 400, "DHCP is disabled"}, {"network=nodhcp ipv6.address=fd42::9", 400, "DHCP is disabled"},
		{"network=br0 ipv4.address=none", 400, "none"},
		{"nictype=bridged parent=unmanaged0 security.ipv4_filtering=true", 400, "security.ipv4_filtering"},
		{"nictype=bridged parent=unmanaged0 ipv4.address=10.0.0.1", 400, "managed"},
		{"network=br0 hwaddr=01:00:00:00:00:01", 400, "hwaddr"}, {"network=br0 name=way-too-long-a-name", 400, "name"},
		{"network=br0 limits.max=fast", 400, "limits.max"}, {"network=br0 limits.egress=7bit", 400, "limits.egress"}, {"network=br0 limits.egress=0", 0, ""},
		{"network=br0 limits.priority=0", 0, ""}, {"nictype=p2p limits.priority=4294967295", 0, ""},
		{"network=br0 limits.priority=4294967296", 400, "limits.priority"}, {"network=br0 limits.priority=65536", 400, "1:0"}, {"network=br0 limits.priority=65552", 0, ""},
		{"network=br0 limits.priority=-1", 400, "limits.priority"}, {"nictype=p2p limits.priority=high", 400, "limits.priority"},
		{"network=br0 foo=bar", 400, "foo"},
		{"nictype=p2p parent=br0", 400, "parent"}, {"nictype=p2p ipv4.address=10.0.0.1", 400, "ipv4.address"},
	} {
		conf := device.Config{"type": "nic"}
		for _, kv := range strings.Fields(c.config) {
			k, v, _ := strings.Cut(kv, "=")
			conf[k] = v
		}
		err := reg.Validate(t.Context(), svc, "default", "eth0", conf)
		switch {
		case c.status == 0 && err != nil:
			t.Errorf("%q: %v", c.config, err)
		case c.status != 0 && (err == nil || errs.Status(err) != c.status || !strings.Contains(err.Error(), c.text)):
			t.Errorf("%q: got %v, want %d about %q", c.config, err, c.status, c.text)
		}
	}
}

func TestAddSettlesAddressAndName(t *testing.T) {
	t.Parallel()
	svc, n := services("br0")
	vol := map[string]string{}
	env := device.Env{Instance: device.Instance{Project: "default", Name: "c1"}, Name: "eth7", Config: device.Config{"type": "nic", "network": "br0"},
		GuestNames: []string{"eth0", "eth2"}, Services: svc,
		SaveVolatile: func(_ context.Context, m map[string]string) error {
			for k, v := range m {
				vol[k] = v
			}
			return nil
		}}
	d, err := New().New(env)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.(device.Adder).Add(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^00:16:3e:..:..:..$`).MatchString(vol["hwaddr"]) || vol["name"] != "eth1" {
		t.Errorf("volatile %v", vol)
	}
	if l := n.leases["br0/c1.eth7"]; l.HWAddr != vol["hwaddr"] {
		t.Errorf("leases %v", n.leases)
	}
	was := vol["hwaddr"]
	if err := d.(device.Adder).Add(t.Context()); err != nil || vol["hwaddr"] != was {
		t.Errorf("again: %v, %v", vol, err)
	}
	// Another nic was given the name since.
	env.GuestNames, env.Volatile = []string{"eth0", "eth1", "eth2"}, maps.Clone(vol)
	if d, err = New().New(env); err != nil {
		t.Fatal(err)
	}
	if err := d.(device.Adder).Add(t.Context()); err != nil || vol["hwaddr"] != was || vol["name"] != "eth3" {
		t.Errorf("with its name taken: %v, %v", vol, err)
	}
	for range 2 {
		if err := d.(device.Remover).Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(n.leases) != 0 {
		t.Errorf("leases %v", n.leases)
	}
	n.err = errs.Conflict("taken")
	if err := d.(device.Adder).Add(t.Context()); !errs.Is(err, errs.KindConflict) {
		t.Errorf("got %v", err)
	}
}

func TestWrittenHWAddrIsChecked(t *testing.T) {
	t.Parallel()
	svc, n := services("br0")
	for _, v := range []string{"x", "00-16-3e-01-02-03", "01:16:3e:01:02:03", "00:16:3e:01:02:03:04:05"} {
		d, err := New().New(device.Env{Instance: device.Instance{Project: "default", Name: "c1"}, Name: "eth0",
			Config: device.Config{"type": "nic", "network": "br0"}, Volatile: map[string]string{"hwaddr": v}, Services: svc})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.(device.Adder).Add(t.Context()); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "volatile.eth0.hwaddr") {
			t.Errorf("%q: %v", v, err)
		}
	}
	if len(n.leases) > 0 {
		t.Errorf("leases %v", n.leases)
	}
}

func TestFilterRules(t *testing.T) {
	t.Parallel()
	mac, _ := net.ParseMAC("00:16:3e:01:02:03")
	v4 := []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("10.9.0.0/24")}
	v6 := []netip.Prefix{netip.MustParsePrefix("fd42::5/128")}
	for name, a := range map[string]allowed{
		"mac": {mac: mac}, "ipv4": {mac: mac, ipv4: v4}, "ipv6": {mac: mac, ipv6: v6},
		"all": {mac: mac, ipv4: v4, ipv6: v6}, "nothing": {mac: mac, ipv4: []netip.Prefix{}, ipv6: []netip.Prefix{}},
	} {
		got := nft.Script(filterChains("c1.eth0", "veth01234567", a))
		file := filepath.Join("testdata", name+".nft")
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
			t.Errorf("%s differs (run with -update and read the diff):\n%s", file, got)
		}
	}
}

func TestPriorityRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		parent           string
		priority         int64
		bridged, forward string
	}{
		{"br0", 7, `iifname "v0" meta priority set 0:7`, `iifname "br0" ether saddr 00:16:3e:01:02:03 meta priority set 0:7`},
		{"", 1<<32 - 1, `iifname "v0" meta priority set ffff:ffff`, `iifname "v0" meta priority set ffff:ffff`},
		{"br0", 0, "", ""},
	} {
		got := priorityChains("v0", c.parent, "00:16:3e:01:02:03", c.priority)
		if rules := strings.Join(got[0].Rules, ";"); got[0].Family != "bridge" || rules != c.bridged {
			t.Errorf("%+v: %s %s", c, got[0].Family, rules)
		}
		if rules := strings.Join(got[1].Rules, ";"); got[1].Family != "inet" || rules != c.forward {
			t.Errorf("%+v: %s %s", c, got[1].Family, rules)
		}
	}
}

func TestChainNamesCarryTheProject(t *testing.T) {
	t.Parallel()
	suffix := func(project, name, dev string) string {
		return (&Device{env: device.Env{Instance: device.Instance{Project: project, Name: name}, Name: dev}}).plainSuffix()
	}
	if got := suffix("default", "c1", "eth0"); got != "c1.eth0" {
		t.Errorf("got %q", got)
	}
	if got := suffix("web", "c1", "eth0"); got != "web_c1.eth0" {
		t.Errorf("got %q", got)
	}
	if got := suffix("a b;", "c1", "eth0"); strings.ContainsAny(got, " ;") {
		t.Errorf("got %q", got)
	}
}
