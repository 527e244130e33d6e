package driver

import (
	"crypto/rand"
	"net/netip"

	"sett/shared/errs"
)

// Subnets returns the prefixes that a configuration keeps busy on the host.
func Subnets(c map[string]string) []netip.Prefix {
	var out []netip.Prefix
	for _, k := range []string{"ipv4.address", "ipv6.address"} {
		if p, err := netip.ParsePrefix(c[k]); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// FreeIPv4 picks a random 10.x.y.1/24 that meets none of the prefixes in used.
func FreeIPv4(used []netip.Prefix) (netip.Prefix, error) {
	var b [2]byte
	rand.Read(b[:])
	// Walk all 65,536 candidates from a random one on, so that a crowded host still
	// gets an answer and an honest error.
	start := int(b[0])<<8 | int(b[1])
	for i := range 1 << 16 {
		n := (start + i) & 0xffff
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}), 24)
		if free(p, used) {
			return p, nil
		}
	}
	return netip.Prefix{}, errs.Conflict("No free IPv4 subnet is left in 10.0.0.0/8; set ipv4.address")
}

// FreeIPv6 picks a random fd42:...::1/64 that meets none of the prefixes in used.
func FreeIPv6(used []netip.Prefix) (netip.Prefix, error) {
	for range 100 {
		a := [16]byte{0xfd, 0x42}
		rand.Read(a[2:8])
		a[15] = 1
		if p := netip.PrefixFrom(netip.AddrFrom16(a), 64); free(p, used) {
			return p, nil
		}
	}
	return netip.Prefix{}, errs.Conflict("No free IPv6 subnet was found in fd42::/16; set ipv6.address")
}

func free(p netip.Prefix, used []netip.Prefix) bool {
	for _, u := range used {
		// A default route covers everything and keeps nothing busy.
		if u.Bits() > 0 && u.Overlaps(p) {
			return false
		}
	}
	return true
}
