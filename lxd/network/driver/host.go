package driver

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"sett/shared/errs"
)

// FillSubnets sets the addresses that are missing or "auto", and turns NAT on for
// those, because a subnet that nobody chose is one that nobody routes.
func FillSubnets(c map[string]string, used []netip.Prefix) (map[string]string, error) {
	out := maps.Clone(c)
	if out == nil {
		out = map[string]string{}
	}
	for _, f := range []struct {
		family string
		pick   func([]netip.Prefix) (netip.Prefix, error)
	}{{"ipv4", FreeIPv4}, {"ipv6", FreeIPv6}} {
		if v := out[f.family+".address"]; v != "" && v != "auto" {
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

// CheckHost refuses hosts whose names cannot stand in files, whose addresses lie
// outside of the network, are the network's own, or belong to one of others.
func CheckHost(s Spec, h Host, others []Host) error {
	if h.Owner == "" || strings.ContainsAny(h.Owner, "/\n\x00") || h.Owner[0] == '.' {
		return errs.Invalid("%q cannot own an address", h.Owner)
	}
	if strings.ContainsAny(h.Hostname, ", \t\n#=\x00") {
		return errs.Invalid("%q is no host name", h.Hostname)
	}
	if _, err := net.ParseMAC(h.HWAddr); err != nil {
		return errs.Invalid("%q is no MAC address", h.HWAddr)
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
			return errs.Conflict("IP address %q is network %q's own", f.addr, s.Name)
		}
		for _, o := range others {
			if o.Owner != h.Owner && (o.IPv4 == f.addr || o.IPv6 == f.addr) {
				return errs.Conflict("IP address %q already defined on %q", f.addr, o.Owner)
			}
		}
	}
	return nil
}
