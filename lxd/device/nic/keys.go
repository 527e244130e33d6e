package nic

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"sett/lxd/config"
	"sett/lxd/device"
	"sett/lxd/host/netlink"
	"sett/shared/errs"
	"sett/shared/units"
	"sett/shared/validate"
)

var (
	keyNICType  = config.String("nictype", "", config.Doc("bridged or p2p; not beside network"))
	keyNetwork  = config.String("network", "", config.Doc("Managed network to plug into"))
	keyParent   = config.String("parent", "", config.Check(netlink.CheckName), config.Doc("Bridge on the host to plug into"))
	keyName     = config.String("name", "", config.Check(netlink.CheckName), config.Doc("Name of the interface inside"))
	keyHWAddr   = config.String("hwaddr", "", config.Check(validate.HWAddr), config.Doc("MAC address; without it, one is picked and kept"))
	keyMTU      = config.Int("mtu", 0, config.Check(between(68, 65535)), config.Doc("Largest packet; without it, that of the bridge"))
	keyHostName = config.String("host_name", "", config.Check(netlink.CheckName), config.Doc("Name of the host's end; without it, a random one"))
	keyQueue    = config.Int("queue.tx.length", 0, config.Check(between(0, 1<<31-1)), config.Doc("Length of the transmit queue"))
	keyPriority = config.Int("boot.priority", 0, config.Live(), config.Check(between(0, 1<<32-1)), config.Doc("Order among boot devices; means nothing to containers"))

	keyIngress = rate("limits.ingress", "Largest rate into the instance, such as 100Mbit")
	keyEgress  = rate("limits.egress", "Largest rate out of the instance, such as 100Mbit")
	keyMax     = rate("limits.max", "Stands for limits.ingress and limits.egress")

	keyNetPriority = config.Int("limits.priority", 0, config.Live(), config.Check(checkNetPriority), config.Doc("Priority that packets out of the instance have in the queues of the host (skb->priority); without it, limits.network.priority of the instance"))

	keyIPv4       = config.String("ipv4.address", "", config.Live(), config.Check(validate.Or(validate.IPv4, "none")), config.Doc("Address that DHCP gives to the instance"))
	keyIPv6       = config.String("ipv6.address", "", config.Live(), config.Check(validate.Or(validate.IPv6, "none")), config.Doc("Address that DHCP gives to the instance"))
	keyIPv4Routes = config.String("ipv4.routes", "", config.Live(), config.Check(validate.Each(validate.IPv4Prefix)), config.Doc("Subnets behind the instance that the host routes to it, separated by commas"))
	keyIPv6Routes = config.String("ipv6.routes", "", config.Live(), config.Check(validate.Each(validate.IPv6Prefix)), config.Doc("Subnets behind the instance that the host routes to it, separated by commas"))

	keyMACFilter  = config.Bool("security.mac_filtering", false, config.Live(), config.Doc("Whether to drop packets under another MAC address"))
	keyIPv4Filter = config.Bool("security.ipv4_filtering", false, config.Live(), config.Doc("Whether to drop packets under another IPv4 address"))
	keyIPv6Filter = config.Bool("security.ipv6_filtering", false, config.Live(), config.Doc("Whether to drop packets under another IPv6 address"))
	keyIsolation  = config.Bool("security.port_isolation", false, config.Doc("Whether to keep apart from other isolated ports of the bridge"))
)

func common() config.Table {
	return config.NewTable(keyNICType, keyName, keyHWAddr, keyMTU, keyHostName, keyQueue, keyPriority,
		keyIngress, keyEgress, keyMax, keyNetPriority, keyIPv4Routes, keyIPv6Routes, config.Any("user.*", config.Live()))
}

func bridged() config.Table {
	return common().With(config.NewTable(keyNetwork, keyParent, keyIPv4, keyIPv6, keyMACFilter, keyIPv4Filter, keyIPv6Filter, keyIsolation,
		config.Unbuilt("vlan"), config.Unbuilt("vlan.tagged"), config.Unbuilt("ipv4.routes.external"), config.Unbuilt("ipv6.routes.external"),
		config.Unbuilt("maas.subnet.ipv4"), config.Unbuilt("maas.subnet.ipv6")))
}

// others are LXD's nic types that are not built.
var others = []string{"macvlan", "ipvlan", "physical", "sriov", "ovn", "routed"}

// resolved is a nic's configuration with its network looked up.
type resolved struct {
	typ     string // bridged or p2p
	parent  string // bridge, or ""
	network *device.Network
}

// resolve finds out what a configuration plugs into.
func resolve(ctx context.Context, svc device.Services, project string, c device.Config) (resolved, error) {
	network, typ := c["network"], c["nictype"]
	if network != "" {
		for _, k := range []string{"nictype", "parent", "mtu", "vlan", "maas.subnet.ipv4", "maas.subnet.ipv6"} {
			if c[k] != "" {
				return resolved{}, errs.Invalid("Cannot use %q property in conjunction with \"network\" property", k)
			}
		}
		if svc.Networks == nil {
			return resolved{}, errs.Internal("Network %q cannot be looked up here", network)
		}
		n, err := svc.Networks.Network(ctx, project, network)
		if err != nil {
			return resolved{}, errs.Wrap(errs.KindOf(err), errs.Invalid("Failed to load network %q for project %q: %w", network, project, err))
		}
		if n.Status == "Pending" {
			return resolved{}, errs.Invalid("Specified network is not fully created")
		}
		if n.Type != "bridge" {
			return resolved{}, errs.NotImplemented("Devices on networks of type %q are not implemented", n.Type)
		}
		return resolved{typ: "bridged", parent: n.Name, network: &n}, nil
	}
	switch {
	case typ == "p2p":
		return resolved{typ: typ}, nil
	case typ == "bridged":
		r := resolved{typ: typ, parent: c["parent"]}
		if r.parent == "" {
			return r, errs.Invalid("Invalid value for device option \"parent\": Required value")
		}
		// A managed bridge is one however it is named. Networks of the default project
		// alone are interfaces of the host.
		if svc.Networks != nil {
			if n, err := svc.Networks.Network(ctx, "default", r.parent); err == nil && n.Type == "bridge" {
				r.network = &n
			} else if err != nil && !errs.Is(err, errs.KindNotFound) {
				return r, err
			}
		}
		return r, nil
	case slices.Contains(others, typ):
		return resolved{}, errs.NotImplemented("Devices of nictype %q are not implemented", typ)
	case typ == "":
		return resolved{}, errs.Invalid("A nic needs \"network\" or \"nictype\"")
	}
	return resolved{}, errs.Invalid("Unsupported nictype %q", typ)
}

// check says what the key table cannot.
func check(r resolved, c device.Config) error {
	if r.network != nil && c["hwaddr"] != "" && strings.EqualFold(r.network.Config["bridge.hwaddr"], c["hwaddr"]) {
		return errs.Invalid("MAC address %q is the network's own", c["hwaddr"])
	}
	for _, f := range []struct {
		addr   config.Key[string]
		filter config.Key[bool]
		dhcp   string
	}{{keyIPv4, keyIPv4Filter, "ipv4.dhcp"}, {keyIPv6, keyIPv6Filter, "ipv6.dhcp"}} {
		v := f.addr.Get(c)
		if v == "" {
			if f.filter.Get(c) && r.network == nil {
				return errs.Invalid("%s requires %q when the parent %q is not a managed network", f.filter.Name(), f.addr.Name(), r.parent)
			}
			continue
		}
		if v == "none" {
			if !f.filter.Get(c) {
				return errs.Invalid("Cannot have %s as none unless using %s", f.addr.Name(), f.filter.Name())
			}
			continue
		}
		if r.network == nil {
			if !f.filter.Get(c) {
				return errs.Invalid("Cannot use %q without a managed network", f.addr.Name())
			}
			continue
		}
		if err := fits(v, f.addr.Name(), f.dhcp, *r.network); err != nil {
			return err
		}
	}
	return nil
}

// fits says whether a managed network can give an address to a device.
func fits(v, key, dhcp string, n device.Network) error {
	p, err := netip.ParsePrefix(n.Config[key])
	if on := n.Config[dhcp]; err != nil || on != "" && !isTrue(on) {
		return errs.Invalid("Cannot specify %q when DHCP is disabled on network %q", key, n.Name)
	}
	if key == "ipv6.address" && !isTrue(n.Config["ipv6.dhcp.stateful"]) {
		return errs.Invalid("Cannot specify %q when DHCP or \"ipv6.dhcp.stateful\" are disabled on network %q", key, n.Name)
	}
	a, err := netip.ParseAddr(v)
	if err != nil || !p.Contains(a) {
		return errs.Invalid("Device IP address %q not within network %q subnet", v, n.Name)
	}
	if p.Addr() == a {
		return errs.Invalid("IP address %q is assigned to managed network %q", v, n.Name)
	}
	return nil
}

func isTrue(v string) bool { b, err := config.ParseBool(v); return err == nil && b }

func rate(name, doc string) config.Key[int64] {
	return config.New(name, "rate", 0, "", func(v string) (int64, error) {
		n, err := units.ParseBitSizeString(v)
		// The kernel counts in bytes per second.
		if err != nil || n < 0 || n > 0 && n < 8 {
			return 0, errs.Invalid("%q is not a rate (such as 100Mbit)", v)
		}
		return n, nil
	}, config.Live(), config.Doc(doc))
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

// checkNetPriority refuses those that lead around the limits of others: to the kernel's htb,
// the number of a whole queueing discipline means to send at once.
func checkNetPriority(v string) error {
	if err := between(0, 1<<32-1)(v); err != nil {
		return err
	}
	if n, _ := config.Int("", 0).Parse(v); n > 0 && n&0xffff == 0 {
		return errs.Invalid("%q stands for %x:0, which is a queueing discipline and no class of one", v, n>>16)
	}
	return nil
}

// prefixes reads a list of subnets that validation has passed.
func prefixes(vs ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, v := range vs {
		for _, f := range strings.Split(v, ",") {
			if p, err := netip.ParsePrefix(strings.TrimSpace(f)); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}
