// Package sysinfo describes the machine's hardware as the kernel shows it in /sys and
// /proc, with what udev remembers of disks and the lists of PCI and USB names where they
// are installed. It runs no program and opens no device. What is missing or unreadable
// stays empty: a machine without a folder in /sys is a smaller machine, not an error.
package sysinfo
