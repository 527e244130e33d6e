package bridge

import (
	"net/netip"
	"strings"
	"time"

	"sett/lxd/config"
	"sett/lxd/host/netlink"
	"sett/shared/errs"
	"sett/shared/validate"
)

// The keys of a bridge. All take effect at once: the driver brings the host to
// what the configuration says whenever that changes.
var (
	keyMTU      = config.Int("bridge.mtu", 1500, config.Live(), config.Group("bridge"), config.Check(between(1280, 65535)), config.Doc("Largest packet on the bridge"))
	keyHWAddr   = config.String("bridge.hwaddr", "", config.Live(), config.Group("bridge"), config.Check(validate.HWAddr), config.Doc("MAC address of the bridge"))
	keyExternal = config.String("bridge.external_interfaces", "", config.Live(), config.Local(), config.Group("bridge"), config.Check(validate.Each(netlink.CheckName)), config.Doc("Network interfaces of the host to be ports, separated by commas"))
	keyDriver   = config.New("bridge.driver", "string", "native", "native", word("native", "openvswitch"), config.Group("bridge"), config.Doc("What makes the bridge; native stands for the kernel's own"))
	keyMode     = config.New("bridge.mode", "string", "standard", "standard", word("standard", "fan"), config.Group("bridge"), config.Doc("How the bridge works"))

	keyVolatileHWAddr = config.String("volatile.bridge.hwaddr", "", config.Volatile(), config.Check(validate.HWAddr), config.Doc("MAC address that an earlier version has stored"))

	keyIPv4       = address("ipv4.address", validate.IPv4Interface)
	keyIPv6       = address("ipv6.address", validate.IPv6Interface)
	keyIPv4NAT    = config.Bool("ipv4.nat", false, config.Live(), config.Group("ipv4"), config.Doc("Whether guests reach the outside under the host's address"))
	keyIPv6NAT    = config.Bool("ipv6.nat", false, config.Live(), config.Group("ipv6"), config.Doc("Whether guests reach the outside under the host's address"))
	keyIPv4Order  = config.Enum("ipv4.nat.order", "before", []string{"before", "after"}, config.Live(), config.Group("ipv4"), config.Doc("Whether NAT comes before or after the host's own rules"))
	keyIPv6Order  = config.Enum("ipv6.nat.order", "before", []string{"before", "after"}, config.Live(), config.Group("ipv6"), config.Doc("Whether NAT comes before or after the host's own rules"))
	keyIPv4Source = config.String("ipv4.nat.address", "", config.Live(), config.Group("ipv4"), config.Check(validate.IPv4), config.Doc("Address that guests appear under; without it, that of the outgoing interface"))
	keyIPv6Source = config.String("ipv6.nat.address", "", config.Live(), config.Group("ipv6"), config.Check(validate.IPv6), config.Doc("Address that guests appear under; without it, that of the outgoing interface"))

	keyIPv4DHCP    = config.Bool("ipv4.dhcp", true, config.Live(), config.Group("ipv4"), config.Doc("Whether to give out addresses by DHCP"))
	keyIPv6DHCP    = config.Bool("ipv6.dhcp", true, config.Live(), config.Group("ipv6"), config.Doc("Whether to give out more than a prefix by DHCP"))
	keyIPv4Ranges  = ranges("ipv4.dhcp.ranges", true)
	keyIPv6Ranges  = ranges("ipv6.dhcp.ranges", false)
	keyIPv4Expiry  = config.New("ipv4.dhcp.expiry", "string", "1h", "1h", expiry, config.Live(), config.Group("ipv4"), config.Doc("How long an address is given for, such as 45m or 1h"))
	keyIPv6Expiry  = config.New("ipv6.dhcp.expiry", "string", "1h", "1h", expiry, config.Live(), config.Group("ipv6"), config.Doc("How long an address is given for, such as 45m or 1h"))
	keyIPv4Gateway = config.String("ipv4.dhcp.gateway", "", config.Live(), config.Group("ipv4"), config.Check(validate.IPv4), config.Doc("Gateway that guests are told; without it, the bridge"))
	keyStateful    = config.Bool("ipv6.dhcp.stateful", false, config.Live(), config.Group("ipv6"), config.Doc("Whether guests get their IPv6 addresses by DHCP"))

	keyIPv4Firewall = config.Bool("ipv4.firewall", true, config.Live(), config.Group("ipv4"), config.Doc("Whether to write firewall rules for this network"))
	keyIPv6Firewall = config.Bool("ipv6.firewall", true, config.Live(), config.Group("ipv6"), config.Doc("Whether to write firewall rules for this network"))
	keyIPv4Routing  = config.Bool("ipv4.routing", true, config.Live(), config.Group("ipv4"), config.Doc("Whether packets may pass between the bridge and the rest"))
	keyIPv6Routing  = config.Bool("ipv6.routing", true, config.Live(), config.Group("ipv6"), config.Doc("Whether packets may pass between the bridge and the rest"))
	keyIPv4Routes   = config.String("ipv4.routes", "", config.Live(), config.Group("ipv4"), config.Check(validate.Each(validate.IPv4Prefix)), config.Doc("Further subnets that lie behind the bridge, separated by commas"))
	keyIPv6Routes   = config.String("ipv6.routes", "", config.Live(), config.Group("ipv6"), config.Check(validate.Each(validate.IPv6Prefix)), config.Doc("Further subnets that lie behind the bridge, separated by commas"))

	keyDNSMode   = config.Enum("dns.mode", "managed", []string{"none", "managed", "dynamic"}, config.Live(), config.Group("dns"), config.Doc("Whether DNS knows guests by instance name (managed), by what they say (dynamic), or not"))
	keyDNSDomain = config.String("dns.domain", "lxd", config.Live(), config.Group("dns"), config.Check(validate.Domain), config.Doc("Domain of the guests' names"))
	keyDNSSearch = config.String("dns.search", "", config.Live(), config.Group("dns"), config.Check(validate.Each(validate.Domain)), config.Doc("Search domains that guests are told, separated by commas"))

	keyRaw = config.String("raw.dnsmasq", "", config.Live(), config.Group("raw"), config.Check(noNUL), config.Doc("Lines to add to dnsmasq's configuration"))
)

// The table as a function keeps the package free of state that starts with the process.
func keys() config.Table {
	return config.NewTable(
		keyMTU, keyHWAddr, keyExternal, keyDriver, keyMode, keyVolatileHWAddr,
		keyIPv4, keyIPv6, keyIPv4NAT, keyIPv6NAT, keyIPv4Order, keyIPv6Order, keyIPv4Source, keyIPv6Source,
		keyIPv4DHCP, keyIPv6DHCP, keyIPv4Ranges, keyIPv6Ranges, keyIPv4Expiry, keyIPv6Expiry, keyIPv4Gateway, keyStateful,
		keyIPv4Firewall, keyIPv6Firewall, keyIPv4Routing, keyIPv6Routing, keyIPv4Routes, keyIPv6Routes,
		keyDNSMode, keyDNSDomain, keyDNSSearch, keyRaw,
		config.Any("user.*", config.Live(), config.Doc("Free text")),
		config.Unbuilt("bgp.*"), config.Unbuilt("fan.*"), config.Unbuilt("tunnel.*"), config.Unbuilt("maas.*"),
		config.Unbuilt("security.acls"), config.Unbuilt("security.acls.*"), config.Unbuilt("dns.zone.*"),
		config.Unbuilt("ipv4.ovn.ranges"), config.Unbuilt("ipv6.ovn.ranges"),
	)
}

func address(name string, check func(string) error) config.Key[string] {
	return config.String(name, "", config.Live(), config.Group(name[:4]),
		config.Check(validate.Or(check, "none", "auto")),
		config.Doc("Address of the bridge with its prefix length, none, or auto for a free subnet"))
}

func ranges(name string, v4 bool) config.Key[string] {
	return config.String(name, "", config.Live(), config.Group(name[:4]), config.Check(validate.Each(func(v string) error {
		first, _, err := validate.IPRange(v)
		if err == nil && first.Is4() != v4 {
			err = errs.Invalid("%q is not of the right family", v)
		}
		return err
	})), config.Doc("Addresses to give out, FIRST-LAST, separated by commas"))
}

// word takes one of some words, of which only the first is built.
func word(built string, others ...string) func(string) (string, error) {
	return func(v string) (string, error) {
		if v == built {
			return v, nil
		}
		for _, o := range others {
			if v == o {
				return "", errs.NotImplemented("%q is not implemented; only %q is", v, built)
			}
		}
		return "", errs.Invalid("%q is not one of %s", v, strings.Join(append([]string{built}, others...), ", "))
	}
}

// expiry reads what dnsmasq takes for a lease time: seconds, or a number with a unit.
func expiry(v string) (string, error) {
	if v == "infinite" {
		return v, nil
	}
	d := v
	for _, u := range []struct {
		suffix string
		hours  int
	}{{"d", 24}, {"w", 168}} {
		if n, ok := strings.CutSuffix(v, u.suffix); ok {
			d = n + "h"
		}
	}
	if strings.Trim(d, "0123456789") == "" {
		d += "s"
	}
	if p, err := time.ParseDuration(d); err != nil || p <= 0 || strings.Trim(d[:len(d)-1], "0123456789") != "" {
		return "", errs.Invalid("%q is not a lease time (such as 45m, 1h or infinite)", v)
	}
	return v, nil
}

func between(low, high int64) func(string) error {
	return func(v string) error {
		n, err := config.Int("", 0).Parse(v)
		if err != nil || n < low || n > high {
			return errs.Invalid("%q is not between %d and %d", v, low, high)
		}
		return nil
	}
}

func noNUL(v string) error {
	if strings.ContainsRune(v, 0) {
		return errs.Invalid("the text holds a NUL character")
	}
	return nil
}

// list splits what commas separate.
func list(v string) []string {
	var out []string
	for _, p := range strings.Split(v, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// prefix reads an address key; ok is false for none, auto and what is unset.
func prefix(k config.Key[string], c map[string]string) (p netip.Prefix, ok bool) {
	p, err := netip.ParsePrefix(k.Get(c))
	return p, err == nil
}
