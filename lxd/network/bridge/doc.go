// Package bridge runs managed bridges: a Linux bridge with addresses, DHCP and
// DNS by dnsmasq, NAT and firewall by nftables.
//
// Everything is named after the network: the interface, the firewall chains
// (fwd.NET, in.NET, out.NET, pstrt.NET in table inet lxd) and the folder of the
// DHCP server. Two daemons on a host meet in the interface's name first, where
// the kernel keeps them apart.
package bridge
