package driver

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"sett/shared/errs"
	"sett/shared/validate"
)

// FillSubnets sets the addresses that are "auto", or missing in a new network, and
// turns NAT on for those, because a subnet that nobody chose is one that nobody routes.
func FillSubnets(s Spec, used []netip.Prefix) (map[string]string, error) {
	out := maps.Clone(s.Config)
	if out == nil {
		out = map[string]string{}
	}
	for _, f := range []struct {
		family string
		pick   func([]netip.Prefix) (netip.Prefix, error)
	}{{"ipv4", FreeIPv4}, {"ipv6", FreeIPv6}} {
		if v := out[f.family+".address"]; v != "auto" && (v != "" || !s.New) {
			continue
		}
		p, err := f.pick(used)
		if err != nil {
			return nil, err
		}
		out[f.family+".address"] = p.String()
		if out[f.family+".nat"] == "" {
			out[f.family+".nat"] = "true"
		}
	}
	return out, nil
}

// Gateways are the leases of the network itself.
func Gateways(s Spec) []Lease {
	var out []Lease
	for _, k := range []string{"ipv4.address", "ipv6.address"} {
		if p, err := netip.ParsePrefix(s.Config[k]); err == nil {
			out = append(out, Lease{Hostname: s.Name + ".gw", Address: p.Addr(), Type: Gateway})
		}
	}
	return out
}

// CheckGateways refuses addresses of the network itself that one of its hosts has.
func CheckGateways(s Spec, hosts []Host) error {
	for _, g := range Gateways(s) {
		for _, h := range hosts {
			if h.IPv4 == g.Address || h.IPv6 == g.Address {
				return errs.Conflict("Address %s belongs to %q; network %q needs another one", g.Address, h.Owner, s.Name)
			}
		}
	}
	return nil
}

// StaticLeases are the leases of hosts with fixed addresses, by owner.
func StaticLeases(hosts []Host) []Lease {
	slices.SortFunc(hosts, func(a, b Host) int { return strings.Compare(a.Owner, b.Owner) })
	var out []Lease
	for _, h := range hosts {
		for _, a := range []netip.Addr{h.IPv4, h.IPv6} {
			if a.IsValid() {
				out = append(out, Lease{Hostname: h.Hostname, HWAddr: h.HWAddr, Address: a, Type: Static})
			}
		}
	}
	return out
}

// Pick chooses the first address from first to last that nobody in others and not
// the network itself has.
func Pick(first, last netip.Addr, s Spec, others []Host) (netip.Addr, error) {
	taken := map[netip.Addr]bool{}
	for _, g := range Gateways(s) {
		taken[g.Address] = true
	}
	for _, o := range others {
		taken[o.IPv4], taken[o.IPv6] = true, true
	}
	for a := first; a.IsValid() && !last.Less(a); a = a.Next() {
		if !taken[a] {
			return a, nil
		}
	}
	return netip.Addr{}, errs.Conflict("Network %q has no free address left between %s and %s", s.Name, first, last)
}

// Choose fills in the addresses that a host wants picked. pool says between which
// addresses the driver gives out fixed ones in a subnet; an IPv6 /64 for which it
// returns nothing leaves the choice to the guest's MAC address.
func Choose(s Spec, h Host, others []Host, pool func(netip.Prefix) (first, last netip.Addr)) (Host, error) {
	mac, err := net.ParseMAC(h.HWAddr)
	if err != nil || len(mac) != 6 {
		return h, errs.Invalid("%q is no MAC address", h.HWAddr)
	}
	for _, f := range []struct {
		key  string
		pick bool
		at   *netip.Addr
		was  func(Host) netip.Addr
	}{
		{"ipv4.address", h.PickIPv4, &h.IPv4, func(o Host) netip.Addr { return o.IPv4 }},
		{"ipv6.address", h.PickIPv6, &h.IPv6, func(o Host) netip.Addr { return o.IPv6 }},
	} {
		p, err := netip.ParsePrefix(s.Config[f.key])
		if !f.pick || f.at.IsValid() || err != nil {
			continue
		}
		if i := slices.IndexFunc(others, func(o Host) bool { return o.Owner == h.Owner }); i >= 0 && f.was(others[i]).IsValid() && p.Contains(f.was(others[i])) {
			*f.at = f.was(others[i])
			continue
		}
		first, last := pool(p)
		if !first.IsValid() {
			if p.Bits() == 64 {
				*f.at = EUI64(p, mac)
			}
			continue
		}
		if *f.at, err = Pick(first, last, s, others); err != nil {
			return h, err
		}
	}
	h.PickIPv4, h.PickIPv6 = false, false
	return h, nil
}

// Inside returns the first and last address of a subnet that guests may have:
// without the subnet's own and the one after it, which by custom is the gateway's,
// and without the last of IPv4, the broadcast address.
func Inside(p netip.Prefix) (first, last netip.Addr) {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ = netip.AddrFromSlice(b)
	if p.Addr().Is4() {
		last = last.Prev()
	}
	return p.Masked().Addr().Next().Next(), last
}

// EUI64 is the address that a guest with this MAC address makes for itself in a /64.
func EUI64(p netip.Prefix, mac net.HardwareAddr) netip.Addr {
	b := p.Masked().Addr().As16()
	copy(b[8:], []byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
	return netip.AddrFrom16(b)
}

// CheckHost refuses hosts whose names cannot stand in files, whose addresses lie
// outside of the network, are the network's own, or belong to one of others.
func CheckHost(s Spec, h Host, others []Host) error {
	if h.Owner == "" || strings.ContainsAny(h.Owner, "/\n\x00") || h.Owner[0] == '.' {
		return errs.Invalid("%q cannot own an address", h.Owner)
	}
	if strings.ContainsAny(h.Hostname, ", \t\n#=\x00") {
		return errs.Invalid("%q is no host name", h.Hostname)
	}
	// One way of writing it only, so that equal ones are found.
	if err := validate.HWAddr(h.HWAddr); err != nil {
		return err
	}
	for _, o := range others {
		if o.Owner != h.Owner && h.Hostname != "" && strings.EqualFold(o.Hostname, h.Hostname) {
			return errs.Conflict("Instance DNS name %q already used on network", h.Hostname)
		}
		if o.Owner != h.Owner && strings.EqualFold(o.HWAddr, h.HWAddr) {
			return errs.Conflict("MAC address %q already defined on %q", h.HWAddr, o.Owner)
		}
	}
	for _, f := range []struct {
		addr netip.Addr
		key  string
	}{{h.IPv4, "ipv4.address"}, {h.IPv6, "ipv6.address"}} {
		if !f.addr.IsValid() {
			continue
		}
		p, err := netip.ParsePrefix(s.Config[f.key])
		if err != nil {
			return errs.Invalid("Cannot give out %s: network %q has no %s", f.addr, s.Name, f.key)
		}
		if !p.Contains(f.addr) {
			return errs.Invalid("Device IP address %q not within network %q subnet", f.addr, s.Name)
		}
		if p.Addr() == f.addr {
			return errs.Conflict("IP address %q is assigned to managed network %q", f.addr, s.Name)
		}
		for _, o := range others {
			if o.Owner != h.Owner && (o.IPv4 == f.addr || o.IPv6 == f.addr) {
				return errs.Conflict("IP address %q already defined on %q", f.addr, o.Owner)
			}
		}
	}
	return nil
}
