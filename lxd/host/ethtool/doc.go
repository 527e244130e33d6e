// Package ethtool asks the drivers of network interfaces what they know of their
// cable: speed, duplex, port, firmware. No file in /sys tells it.
package ethtool
