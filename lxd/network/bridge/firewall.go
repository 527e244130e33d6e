package bridge

import (
	"fmt"
	"net/netip"
	"strings"

	"sett/lxd/config"
	"sett/lxd/host/nft"
	"sett/lxd/network/driver"
)

const (
	family = "inet"
	table  = "lxd"
)

// chainNames are all chains that a bridge may have, in the order in which they are made.
func chainNames(network string) []string {
	return []string{"fwd." + network, "in." + network, "out." + network, "pstrt." + network}
}

// half is what the two address families have alike.
type half struct {
	prefix   netip.Prefix
	ok       bool // has an address
	firewall bool
	routing  bool
	nat      bool
	source   string // address for NAT, or ""
	after    bool
	dhcp     bool
}

func halves(c map[string]string) (v4, v6 half) {
	read := func(addr config.Key[string], fw, routing, nat, dhcp config.Key[bool], source, order config.Key[string]) half {
		h := half{firewall: fw.Get(c), routing: routing.Get(c), nat: nat.Get(c), source: source.Get(c), after: order.Get(c) == "after", dhcp: dhcp.Get(c)}
		h.prefix, h.ok = prefix(addr, c)
		return h
	}
	return read(keyIPv4, keyIPv4Firewall, keyIPv4Routing, keyIPv4NAT, keyIPv4DHCP, keyIPv4Source, keyIPv4Order),
		read(keyIPv6, keyIPv6Firewall, keyIPv6Routing, keyIPv6NAT, keyIPv6DHCP, keyIPv6Source, keyIPv6Order)
}

// chains renders the firewall of a network. Chains that have nothing to say come
// without rules, which removes them.
func chains(s driver.Spec) []nft.Chain {
	v4, v6 := halves(s.Config)
	var fwd, in, out, post []string
	dns := keyDNSMode.Get(s.Config) != "none"
	for _, f := range []struct {
		half
		ip          string // matches the family
		icmp        string
		inIC, outIC string
		server      int // the port of DHCP
	}{
		{v4, "ip version 4", "icmp", icmp4, icmp4, 67},
		{v6, "ip6 version 6", "icmpv6", icmp6In, icmp6Out, 547},
	} {
		// Without an address there is nothing to allow; but a network whose routing is
		// off must not forward this family either way.
		if !f.firewall {
			continue
		}
		if !f.routing {
			fwd = append(fwd, rule(`%s oifname "%s" reject`, f.ip, s.Name), rule(`%s iifname "%s" reject`, f.ip, s.Name))
		} else if f.ok {
			fwd = append(fwd, rule(`%s oifname "%s" accept`, f.ip, s.Name), rule(`%s iifname "%s" accept`, f.ip, s.Name))
		}
		if !f.ok {
			continue
		}
		if dns {
			in = append(in, rule(`%s iifname "%s" tcp dport 53 accept`, f.ip, s.Name), rule(`%s iifname "%s" udp dport 53 accept`, f.ip, s.Name))
			out = append(out, rule(`%s oifname "%s" tcp sport 53 accept`, f.ip, s.Name), rule(`%s oifname "%s" udp sport 53 accept`, f.ip, s.Name))
		}
		in = append(in, rule(`iifname "%s" %s type { %s } accept`, s.Name, f.icmp, f.inIC))
		out = append(out, rule(`oifname "%s" %s type { %s } accept`, s.Name, f.icmp, f.outIC))
		if f.dhcp {
			in = append(in, rule(`iifname "%s" udp dport %d accept`, s.Name, f.server))
			out = append(out, rule(`oifname "%s" udp sport %d accept`, s.Name, f.server))
		}
	}
	priority := "srcnat"
	for _, f := range []struct {
		half
		proto string
	}{{v4, "ip"}, {v6, "ip6"}} {
		if !f.ok || !f.nat {
			continue
		}
		action := "masquerade"
		if f.source != "" {
			action = "snat " + f.proto + " to " + f.source
		}
		net := f.prefix.Masked()
		post = append(post, rule(`%[1]s saddr %[2]s %[1]s daddr != %[2]s %[3]s`, f.proto, net, action))
		if f.after {
			priority = "srcnat + 10"
		}
	}
	hook := func(kind, hook, prio string) string {
		return fmt.Sprintf("type %s hook %s priority %s", kind, hook, prio)
	}
	n := chainNames(s.Name)
	return []nft.Chain{
		{Family: family, Table: table, Name: n[0], Hook: hook("filter", "forward", "filter"), Rules: fwd},
		{Family: family, Table: table, Name: n[1], Hook: hook("filter", "input", "filter"), Rules: in},
		{Family: family, Table: table, Name: n[2], Hook: hook("filter", "output", "filter"), Rules: out},
		{Family: family, Table: table, Name: n[3], Hook: hook("nat", "postrouting", priority), Rules: post},
	}
}

// What the bridge itself has to say and hear for the network to work. The lists
// leave out what would let guests redirect the host.
const (
	icmp4    = "destination-unreachable, time-exceeded, parameter-problem"
	icmp6In  = "destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report"
	icmp6Out = "destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report"
)

func rule(format string, args ...any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}
