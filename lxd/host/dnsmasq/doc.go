// Package dnsmasq runs one DHCP and DNS server per network and keeps it alive.
//
// The servers are daemons of their own, so that a restart of ours interrupts no
// guest. They are found again by a pid file, of which nothing is believed before
// the command line of the process was compared; a pidfd then tells when they
// end, and they are started again, more slowly each time.
//
// A folder per server holds dnsmasq.pid, dnsmasq.leases, dnsmasq.raw and
// dnsmasq.hosts/, one file per known device.
package dnsmasq
