// Package disk is the device of file systems: the root disk, whose volume the
// instance slice mounts itself, and folders or files of the host that appear
// inside. Custom volumes and block devices are refused by name.
package disk
