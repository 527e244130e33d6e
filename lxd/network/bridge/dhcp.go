package bridge

import (
	"fmt"
	"net/netip"
	"strings"

	"sett/lxd/host/dnsmasq"
	"sett/lxd/network/driver"
	"sett/shared/validate"
)

// server says how the network's DHCP and DNS server runs; needed is false when
// the network has no use for one.
func server(s driver.Spec) (v dnsmasq.Server, needed bool) {
	c := s.Config
	p4, ok4 := prefix(keyIPv4, c)
	p6, ok6 := prefix(keyIPv6, c)
	dns := keyDNSMode.Get(c) != "none"
	// Router advertisements come from this server too, so that an IPv6 address alone
	// is a reason to run it.
	if !ok6 && !(ok4 && (dns || keyIPv4DHCP.Get(c))) {
		return v, false
	}
	args := []string{"--interface=" + s.Name, "--dhcp-rapid-commit", "--quiet-dhcp", "--quiet-dhcp6", "--quiet-ra", "--dhcp-no-override", "--dhcp-authoritative"}
	if !dns {
		args = append(args, "--port=0")
	}
	if mtu := keyMTU.Get(c); mtu != 1500 {
		args = append(args, fmt.Sprintf("--dhcp-option-force=26,%d", mtu))
	}
	if ok4 {
		args = append(args, "--listen-address="+p4.Addr().String())
		if keyIPv4DHCP.Get(c) {
			if gw := keyIPv4Gateway.Get(c); gw != "" {
				args = append(args, "--dhcp-option-force=3,"+gw)
			}
			args = append(args, dhcp4(p4, c)...)
		}
	}
	if ok6 {
		args = append(args, "--listen-address="+p6.Addr().String(), "--enable-ra")
		args = append(args, dhcp6(s.Name, p6, c)...)
	}
	if search := list(keyDNSSearch.Get(c)); len(search) > 0 {
		args = append(args, "--dhcp-option=option:domain-search,"+strings.Join(search, ","),
			"--dhcp-option=option6:domain-search,"+strings.Join(search, ","))
	}
	if keyDNSMode.Get(c) == "managed" {
		// Only the daemon gives names. A guest that asks for one, perhaps under further MAC
		// addresses that it makes for itself, must not answer for another's.
		args = append(args, "--dhcp-ignore-names")
	}
	if dns {
		d := keyDNSDomain.Get(c)
		args = append(args, "--domain="+d, "--interface-name=_gateway."+d+","+s.Name, "--server=/"+d+"/")
	}
	raw := keyRaw.Get(c)
	if !strings.HasSuffix(raw, "\n") {
		raw += "\n"
	}
	return dnsmasq.Server{Dir: s.Dir, Args: args, Raw: raw}, true
}

func dhcp4(p netip.Prefix, c map[string]string) (args []string) {
	expiry := keyIPv4Expiry.Get(c)
	set := list(keyIPv4Ranges.Get(c))
	for _, r := range set {
		if first, last, err := validate.IPRange(r); err == nil {
			args = append(args, fmt.Sprintf("--dhcp-range=%s,%s,%s", first, last, expiry))
		}
	}
	if len(set) == 0 && p.Bits() <= 30 {
		first, last := driver.Inside(p)
		args = append(args, fmt.Sprintf("--dhcp-range=%s,%s,%s", first, last, expiry))
	}
	return args
}

func dhcp6(name string, p netip.Prefix, c map[string]string) (args []string) {
	switch {
	case keyIPv6DHCP.Get(c) && keyStateful.Get(c):
		expiry := keyIPv6Expiry.Get(c)
		set := list(keyIPv6Ranges.Get(c))
		for _, r := range set {
			if first, last, err := validate.IPRange(r); err == nil {
				args = append(args, fmt.Sprintf("--dhcp-range=%s,%s,%d,%s", first, last, p.Bits(), expiry))
			}
		}
		if len(set) == 0 && p.Bits() <= 126 {
			first, last := driver.Inside(p)
			args = append(args, fmt.Sprintf("--dhcp-range=%s,%s,%d,%s", first, last, p.Bits(), expiry))
		}
		return args
	case p.Bits() != 64:
		// Guests make addresses of their own only in a /64, and dnsmasq refuses to
		// announce anything else.
		return nil
	case keyIPv6DHCP.Get(c):
		return []string{"--dhcp-range=::,constructor:" + name + ",ra-stateless,ra-names"}
	}
	return []string{"--dhcp-range=::,constructor:" + name + ",ra-only"}
}
