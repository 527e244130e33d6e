// Package disk is the device of file systems: the root disk, whose volume the
// instance slice mounts itself, and folders or files of the host that appear
// inside. Custom volumes come with a later issue and are refused by name.
package disk
