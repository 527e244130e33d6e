package nic

import (
	"context"
	"fmt"
	"net"

	"sett/lxd/device"
	"sett/lxd/host/nft"
)

// forwardFamily is that of the chains in which packets that the host routes are seen.
const forwardFamily = "inet"

// prioritize has packets that come out of the instance bear the priority of a configuration
// on the host. What the guest itself gives them is lost when they leave its namespace.
func (d *Device) prioritize(ctx context.Context, r resolved, host string, c device.Config) error {
	mac, err := net.ParseMAC(d.hwaddr()) // which users may have written
	if err != nil {
		return err
	}
	if err := nft.Replace(ctx, priorityChains(host, r.parent, mac.String(), keyNetPriority.Get(c))); err != nil {
		return fmt.Errorf("%s takes nftables with the families bridge and inet: %w", keyNetPriority.Name(), err)
	}
	return nil
}

// deprioritize removes the chains of hosts.
func deprioritize(ctx context.Context, hosts []string) error {
	var chains []nft.Chain
	for _, h := range hosts {
		chains = append(chains, priorityChains(h, "", "", 0)...)
	}
	if len(chains) == 0 {
		return nil
	}
	return nft.Replace(ctx, chains)
}

// priorityChains are named after the host's end, which no two nics of a machine share. At a
// port of a bridge packets are marked when the bridge gets them, and not at the ingress of
// the interface, which those that limits.egress keeps waiting never come by again. Routing
// gives IPv4 packets another priority (net.ipv4.ip_forward_update_priority), so they are
// marked once more after it, where the port is forgotten and the MAC address is not.
func priorityChains(host, parent, mac string, priority int64) []nft.Chain {
	out := []nft.Chain{
		{Family: filterFamily, Table: filterTable, Name: "prio." + host, Hook: "type filter hook prerouting priority filter"},
		{Family: forwardFamily, Table: filterTable, Name: "prio." + host, Hook: "type filter hook forward priority filter"},
	}
	if priority == 0 {
		return out
	}
	// nft writes priorities as traffic control does its classes: two halves, in hexadecimal.
	set := fmt.Sprintf(" meta priority set %x:%x", priority>>16, priority&0xffff)
	port := fmt.Sprintf("iifname %q", host)
	routed := port
	if parent != "" {
		routed = fmt.Sprintf("iifname %q ether saddr %s", parent, mac)
	}
	out[0].Rules, out[1].Rules = []string{port + set}, []string{routed + set}
	return out
}
