package lxc

import (
	"path/filepath"
	"strings"

	"sett/lxd/container"
)

// slug is a container's name among all containers of all projects and daemons of
// this host. Instance names have no dots and underscores, so that two containers
// never share one.
func slug(id container.ID) string {
	return id.Daemon + "." + id.Project + "_" + id.Name
}

func payloadGroup(id container.ID) string { return "lxd.payload." + slug(id) }
func monitorGroup(id container.ID) string { return "lxd.monitor." + slug(id) }

// pivotGroup is where liblxc moves the monitor to while it removes its group.
func pivotGroup(id container.ID) string { return "lxd.pivot." + slug(id) }

// paths are the engine's files of one container.
type paths struct{ dir string }

func (p paths) config() string   { return filepath.Join(p.dir, "lxc.conf") }
func (p paths) policy() string   { return filepath.Join(p.dir, "seccomp") }
func (p paths) filter() string   { return filepath.Join(p.dir, "seccomp.bpf") }
func (p paths) state() string    { return filepath.Join(p.dir, "state.json") }
func (p paths) answers() string  { return filepath.Join(p.dir, "answers") }
func (p paths) answerer() string { return filepath.Join(p.dir, "answers.json") }
func (p paths) pending() string  { return filepath.Join(p.dir, "answers.pending") }
func (p paths) starting() string { return filepath.Join(p.dir, "starting") }
func (p paths) reboot() string   { return filepath.Join(p.dir, "reboot") }
func (p paths) nics() string     { return filepath.Join(p.dir, "nics.json") }
func (p paths) stage() string    { return filepath.Join(p.dir, "mounts") }

// lock is where liblxc keeps its lock file of a container.
func (p paths) lock() string { return filepath.Join("/run/lxc/lock", p.dir) }

// field writes one field of a line in the manner of fstab.
func field(s string) string {
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(s)
}
