package container

import (
	"path"
	"strings"

	"sett/shared/errs"
)

// ours are keys of liblxc that the engine relies on: another value would lose
// the container from our sight, reach files of the host on the guest's behalf, or
// put two containers into one place. A trailing dot stands for all below.
var ours = []string{
	"lxc.rootfs.path", "lxc.rootfs.mount", "lxc.rootfs.options", "lxc.rootfs.managed",
	"lxc.idmap", "lxc.cgroup.dir", "lxc.cgroup.dir.", "lxc.cgroup.relative",
	"lxc.ephemeral", "lxc.execute.cmd", "lxc.include", "lxc.uts.name", "lxc.hook.version",
	"lxc.log.file", "lxc.log.level", "lxc.log.syslog", "lxc.logfile", "lxc.loglevel", "lxc.console.logfile",
	"lxc.console.path", "lxc.namespace.", "lxc.monitor.", "lxc.start.auto", "lxc.start.delay",
	"lxc.start.order", "lxc.group", "lxc.id_map", "lxc.rootfs", "lxc.utsname", "lxc.tty.dir",
	"lxc.seccomp.profile", "lxc.seccomp.notify.", "lxc.hook",
}

// CheckRaw validates the lines of raw.lxc, whatever engine is to read them.
func CheckRaw(raw string) error {
	for line := range strings.Lines(raw) {
		if strings.ContainsRune(line, 0) {
			return errs.Invalid("raw.lxc holds a zero byte")
		}
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			return errs.Invalid("raw.lxc: line %q is not KEY = VALUE", line)
		}
		if !strings.HasPrefix(key, "lxc.") {
			return errs.Invalid("raw.lxc: %q is no key of liblxc; they all begin with lxc.", key)
		}
		for _, c := range key {
			if c == 0 || c == ' ' || c == '\t' || c == '\r' {
				return errs.Invalid("raw.lxc: key %q holds a blank", key)
			}
		}
		// Hooks run as the host's root, as all of raw.lxc may: who must not have that
		// must not have the key. Only ours have to stay.
		if strings.HasPrefix(key, "lxc.hook.") && strings.TrimSpace(value) == "" {
			return errs.Invalid("raw.lxc: %s cannot be emptied, because the daemon has hooks of its own", key)
		}
		if strings.HasPrefix(key, "lxc.prlimit.") {
			return errs.Invalid("raw.lxc: %s cannot be set here; use limits.kernel.%s", key, strings.TrimPrefix(key, "lxc.prlimit."))
		}
		if strings.HasPrefix(key, "lxc.net.") && !rawNetAllowed(key) {
			return errs.Invalid("raw.lxc: %s cannot be set here; use a device of type nic", key)
		}
		for _, o := range ours {
			if key == o || strings.HasSuffix(o, ".") && strings.HasPrefix(key, o) {
				return errs.Invalid("raw.lxc: %s cannot be set, because the daemon itself manages it", key)
			}
		}
	}
	return nil
}

// rawNetAllowed lets the addresses of interfaces through that exist already, as
// LXD does: lxc.net.N.ipv4.address and its like.
func rawNetAllowed(key string) bool {
	for _, p := range []string{"lxc.net.*.ipv4.address", "lxc.net.*.ipv4.gateway", "lxc.net.*.ipv6.address", "lxc.net.*.ipv6.gateway"} {
		if ok, err := path.Match(p, key); err == nil && ok {
			return true
		}
	}
	return false
}

// RawValue returns the last value that raw lines give a key.
func RawValue(raw, want string) string {
	out := ""
	for line := range strings.Lines(raw) {
		k, v, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && strings.EqualFold(strings.TrimSpace(k), want) {
			out = strings.TrimSpace(v)
		}
	}
	return out
}
