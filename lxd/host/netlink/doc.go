// Package netlink is the daemon's view of the kernel's network interfaces:
// bridges, veth pairs, addresses, routes, counters, traffic control.
//
// All calls act in the network namespace of the calling process and need no
// programs. Removing what is not there is no error.
package netlink
