package nic

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"sett/lxd/device"
	"sett/lxd/host/netlink"
	"sett/lxd/host/nft"
)

const (
	filterFamily = "bridge"
	filterTable  = "lxd"
)

// filtered tells whether a nic has firewall chains of its own.
func filtered(c device.Config) bool {
	return keyMACFilter.Get(c) || keyIPv4Filter.Get(c) || keyIPv6Filter.Get(c)
}

// allowed is what packets from a nic may claim. A nil list is not looked at.
type allowed struct {
	mac  net.HardwareAddr
	ipv4 []netip.Prefix
	ipv6 []netip.Prefix
}

func (d *Device) filter(ctx context.Context, host string, l device.Lease) error {
	mac, err := net.ParseMAC(d.hwaddr())
	if err != nil {
		return err
	}
	c := d.env.Config
	a := allowed{mac: mac}
	if keyIPv4Filter.Get(c) {
		a.ipv4 = append(single(l.IPv4), prefixes(keyIPv4Routes.Get(c))...)
	}
	if keyIPv6Filter.Get(c) {
		a.ipv6 = append(single(l.IPv6), prefixes(keyIPv6Routes.Get(c))...)
	}
	suffix, err := d.chainSuffix(ctx, host)
	if err != nil {
		return err
	}
	chains := filterChains(suffix, host, a)
	if suffix == d.plainSuffix() {
		// It may have had the other name at its start, and those rules drop what is allowed now.
		for _, c := range chains {
			chains = append(chains, nft.Chain{Family: c.Family, Table: c.Table, Name: c.Name + "." + host})
		}
	}
	return nft.Replace(ctx, chains)
}

func single(v string) []netip.Prefix {
	out := []netip.Prefix{}
	if a, err := netip.ParseAddr(v); err == nil {
		out = append(out, netip.PrefixFrom(a, a.BitLen()))
	}
	return out
}

// unfilter removes the chains that watch hosts, under both names that they may have.
func (d *Device) unfilter(ctx context.Context, hosts []string) error {
	var names []string
	plain := d.plainSuffix()
	other, err := d.foreign(ctx, plain, hosts)
	if err != nil {
		return err
	}
	if !other {
		names = append(names, "in."+plain, "fwd."+plain)
	}
	for _, h := range hosts {
		names = append(names, "in."+plain+"."+h, "fwd."+plain+"."+h)
	}
	return nft.Remove(ctx, filterFamily, filterTable, names...)
}

// plainSuffix is "[PROJECT_]INSTANCE.DEVICE", which administrators look for.
func (d *Device) plainSuffix() string {
	s := d.env.Instance.Name + "." + d.env.Name
	if p := d.env.Instance.Project; p != "" && p != "default" {
		s = p + "_" + s
	}
	for _, c := range s {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.", c) {
			continue
		}
		// nft has no way to write other characters in a name.
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:8])
	}
	return s
}

// chainSuffix is the plain one, unless another daemon on this host has an instance
// of that name: taking its chains would open its filter.
func (d *Device) chainSuffix(ctx context.Context, host string) (string, error) {
	plain := d.plainSuffix()
	other, err := d.foreign(ctx, plain, []string{host})
	if other {
		return plain + "." + host, nil
	}
	return plain, err
}

// foreign tells whether the chain of a name watches an interface that exists and is not ours.
func (d *Device) foreign(ctx context.Context, suffix string, hosts []string) (bool, error) {
	text, err := nft.List(ctx, filterFamily, filterTable, "in."+suffix)
	if err != nil || text == "" {
		return false, err
	}
	_, rest, ok := strings.Cut(text, `iifname "`)
	if !ok {
		return false, nil
	}
	name, _, _ := strings.Cut(rest, `"`)
	return !slices.Contains(hosts, name) && netlink.Exists(name), nil
}

// filterChains renders the rules that drop what a nic may not send, to the host
// (in) and to other ports (fwd).
func filterChains(suffix, host string, a allowed) []nft.Chain {
	var rules []string
	from := fmt.Sprintf("iifname %q ", host)
	add := func(format string, args ...any) { rules = append(rules, from+fmt.Sprintf(format, args...)) }

	add("ether saddr != %s drop", a.mac)
	add("ether type arp arp saddr ether != %s drop", a.mac)
	if a.ipv4 != nil || a.ipv6 != nil {
		// Tagged frames would carry any address past the rules below.
		add("ether type { 8021q, 8021ad } drop")
	}
	if a.ipv4 != nil && a.ipv6 != nil {
		add("ether type != { arp, ip, ip6 } drop")
	}
	if a.ipv4 != nil {
		rules = append(rules, ipv4Rules(from, a.ipv4)...)
	}
	if a.ipv6 != nil {
		rules = append(rules, ipv6Rules(from, a.mac, a.ipv6)...)
	}
	var out []nft.Chain
	for _, h := range []struct{ chain, hook string }{{"in.", "input"}, {"fwd.", "forward"}} {
		out = append(out, nft.Chain{Family: filterFamily, Table: filterTable, Name: h.chain + suffix,
			Hook: "type filter hook " + h.hook + " priority filter", Rules: rules})
	}
	return out
}

func ipv4Rules(from string, may []netip.Prefix) []string {
	if len(may) == 0 {
		return []string{from + "ether type arp drop", from + "ether type ip drop"}
	}
	set := nftSet(may)
	return []string{
		from + "ether type arp arp saddr ip != " + set + " drop",
		// Who asks DHCP for an address has none yet.
		from + "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp dport 67 accept",
		from + "ip saddr != " + set + " drop",
	}
}

func ipv6Rules(from string, mac net.HardwareAddr, may []netip.Prefix) []string {
	if len(may) == 0 {
		return []string{from + "ether type ip6 drop"}
	}
	local := linkLocal(mac)
	var targets []string
	for _, p := range append([]netip.Prefix{netip.PrefixFrom(local, 128)}, may...) {
		if p.IsSingleIP() {
			b := p.Addr().As16()
			targets = append(targets, "0x"+hex.EncodeToString(b[:]))
		}
	}
	return []string{
		from + "icmpv6 type nd-router-advert drop",
		// The address that a neighbour advertisement is about lies behind 40 bytes of IPv6
		// and 8 of ICMPv6. Extension headers move it, and could show a harmless address in
		// its place; no honest guest sends them here.
		from + "icmpv6 type nd-neighbor-advert ip6 nexthdr != ipv6-icmp drop",
		from + "icmpv6 type nd-neighbor-advert @nh,384,128 != { " + strings.Join(targets, ", ") + " } drop",
		// Asking whether an address is taken, for routers and for DHCP comes before having one.
		from + "ip6 saddr :: ip6 daddr ff02::/16 icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } accept",
		from + "ip6 saddr fe80::/10 ip6 daddr ff02::2 icmpv6 type nd-router-solicit accept",
		from + "ip6 saddr fe80::/10 ip6 daddr ff02::1:2 udp dport 547 accept",
		from + "ip6 saddr != " + nftSet(append([]netip.Prefix{netip.PrefixFrom(local, 128)}, may...)) + " drop",
	}
}

func linkLocal(mac net.HardwareAddr) netip.Addr {
	b := [16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
	return netip.AddrFrom16(b)
}

func nftSet(ps []netip.Prefix) string {
	var out []string
	for _, p := range ps {
		if p.IsSingleIP() {
			out = append(out, p.Addr().String())
		} else {
			out = append(out, p.Masked().String())
		}
	}
	return "{ " + strings.Join(out, ", ") + " }"
}
