package validate

import (
	"net"
	"net/netip"
	"strings"

	"sett/shared/errs"
)

// IPv4 checks an address such as 10.0.0.1.
func IPv4(v string) error {
	if a, err := netip.ParseAddr(v); err != nil || !a.Is4() {
		return errs.Invalid("%q is not an IPv4 address", v)
	}
	return nil
}

// IPv6 checks an address such as fd42::1.
func IPv6(v string) error {
	if a, err := netip.ParseAddr(v); err != nil || !a.Is6() || a.Zone() != "" {
		return errs.Invalid("%q is not an IPv6 address", v)
	}
	return nil
}

// IPv4Interface checks an address with its subnet, 10.0.0.1/24.
func IPv4Interface(v string) error {
	p, err := netip.ParsePrefix(v)
	if err != nil || !p.Addr().Is4() {
		return errs.Invalid("%q is not an IPv4 address with a prefix length (such as 10.0.0.1/24)", v)
	}
	if p.Bits() < 31 && p.Addr() == p.Masked().Addr() {
		return errs.Invalid("%q is the address of the subnet, not of an interface in it", v)
	}
	return unicast(p.Addr())
}

// IPv6Interface checks an address with its subnet, fd42::1/64.
func IPv6Interface(v string) error {
	p, err := netip.ParsePrefix(v)
	if err != nil || !p.Addr().Is6() {
		return errs.Invalid("%q is not an IPv6 address with a prefix length (such as fd42::1/64)", v)
	}
	if p.Bits() < 127 && p.Addr() == p.Masked().Addr() {
		return errs.Invalid("%q is the address of the subnet, not of an interface in it", v)
	}
	return unicast(p.Addr())
}

// unicast refuses what no network can have: a bridge with a loopback address takes
// that away from the host's own programs.
func unicast(a netip.Addr) error {
	if a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return errs.Invalid("%q is no address that a network can have", a)
	}
	return nil
}

// IPv4Prefix checks a subnet, 10.0.0.0/24.
func IPv4Prefix(v string) error {
	if p, err := netip.ParsePrefix(v); err != nil || !p.Addr().Is4() || p.Masked() != p {
		return errs.Invalid("%q is not an IPv4 subnet (such as 10.0.0.0/24)", v)
	}
	return nil
}

// IPv6Prefix checks a subnet, fd42::/64.
func IPv6Prefix(v string) error {
	if p, err := netip.ParsePrefix(v); err != nil || !p.Addr().Is6() || p.Masked() != p {
		return errs.Invalid("%q is not an IPv6 subnet (such as fd42::/64)", v)
	}
	return nil
}

// HWAddr checks a MAC address that one interface may have.
func HWAddr(v string) error {
	a, err := net.ParseMAC(v)
	if err != nil || len(a) != 6 || len(v) != 17 || strings.ContainsAny(v, "-.") {
		return errs.Invalid("%q is not a MAC address (such as 00:16:3e:01:02:03)", v)
	}
	if a[0]&1 != 0 {
		return errs.Invalid("%q is a multicast address, which no interface can have", v)
	}
	return nil
}

// IPRange reads "A-B", or a single address, of one family.
func IPRange(v string) (first, last netip.Addr, err error) {
	a, b, two := strings.Cut(v, "-")
	first, err = netip.ParseAddr(strings.TrimSpace(a))
	last = first
	if err == nil && two {
		last, err = netip.ParseAddr(strings.TrimSpace(b))
	}
	if err != nil || first.Is4() != last.Is4() || last.Less(first) {
		return first, last, errs.Invalid("%q is not a range of addresses (such as 10.0.0.10-10.0.0.20)", v)
	}
	return first, last, nil
}

// Each makes a check of one value into one of a list that commas separate.
func Each(check func(string) error) func(string) error {
	return func(v string) error {
		for _, p := range strings.Split(v, ",") {
			if err := check(strings.TrimSpace(p)); err != nil {
				return err
			}
		}
		return nil
	}
}

// Or makes a check that some words pass too.
func Or(check func(string) error, words ...string) func(string) error {
	return func(v string) error {
		for _, w := range words {
			if v == w {
				return nil
			}
		}
		return check(v)
	}
}

// Domain checks a DNS name, of a host or of a domain.
func Domain(v string) error {
	if len(v) > 253 {
		return errs.Invalid("Domain name %q is longer than 253 characters", v)
	}
	for _, label := range strings.Split(v, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return errs.Invalid("%q is not a domain name", v)
		}
		for _, c := range label {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
				continue
			}
			return errs.Invalid("%q is not a domain name", v)
		}
	}
	return nil
}
