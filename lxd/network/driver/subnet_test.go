package driver_test

import (
	"net/netip"
	"testing"

	"sett/lxd/network/driver"
)

func TestFreeIPv4AvoidsWhatIsUsed(t *testing.T) {
	t.Parallel()
	// All but one /24 are taken, by prefixes of many sizes, and a default route does not count.
	used := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	for i := range 256 {
		for j := range 256 {
			if i == 77 && j == 3 {
				continue
			}
			if i != 77 {
				used = append(used, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16))
				break
			}
			used = append(used, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(j), 128}), 25))
		}
	}
	p, err := driver.FreeIPv4(used)
	if err != nil || p.String() != "10.77.3.1/24" {
		t.Fatalf("got %v, %v", p, err)
	}
	if _, err := driver.FreeIPv4(append(used, netip.MustParsePrefix("10.77.3.9/32"))); err == nil {
		t.Fatal("a full range gave an answer")
	}
}

func TestFreeIPv6IsAULA(t *testing.T) {
	t.Parallel()
	p, err := driver.FreeIPv6(nil)
	if err != nil || p.Bits() != 64 || !netip.MustParsePrefix("fd42::/16").Contains(p.Addr()) || p.Addr().As16()[15] != 1 {
		t.Fatalf("got %v, %v", p, err)
	}
}
