package project

import (
	"maps"
	"slices"
	"strings"

	"sett/lxd/auth"
	"sett/lxd/config"
	"sett/shared/errs"
)

// Spec is what an instance or a profile says of itself.
type Spec struct {
	Config  map[string]string
	Devices map[string]map[string]string
}

// CheckHost refuses what would give a restricted caller the host: who holds a project
// must not become the host's root by an instance in it. What an administrator has
// written before may stay.
func CheckHost(c auth.Caller, was, now Spec) error {
	if c.Admin {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(now.Config)) {
		if v := now.Config[k]; v != "" && v != was.Config[k] && reachesHost(k, v) {
			return errs.Forbidden("Configuration key %q reaches the host; only administrators of the server may set it", k)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(now.Devices)) {
		if d := now.Devices[n]; !maps.Equal(d, was.Devices[n]) && deviceReachesHost(d) {
			return errs.Forbidden("Device %q reaches the host; only administrators of the server may add or change it", n)
		}
	}
	return nil
}

func reachesHost(key, value string) bool {
	switch key {
	case "security.privileged":
		on, err := config.ParseBool(value)
		return err != nil || on
	case "linux.kernel_modules", "security.idmap.base":
		return true
	}
	if rest, ok := strings.CutPrefix(key, "security.syscalls."); ok {
		return callReachesHost(rest, value)
	}
	if strings.HasPrefix(key, "volatile.") {
		// The daemon believes what it has noted itself: names of interfaces that it will
		// remove, ids that files belong to.
		return !strings.HasSuffix(key, ".hwaddr") && !strings.HasSuffix(key, ".name")
	}
	return strings.HasPrefix(key, "raw.")
}

// callReachesHost is about system calls: root of the host must not act for a guest, and
// what is forbidden to all guests stays so. To forbid more is everybody's right.
func callReachesHost(key, value string) bool {
	on, err := config.ParseBool(value)
	switch key {
	case "deny_default", "blacklist_default":
		return err != nil || !on
	case "allow", "whitelist":
		return true
	case "deny", "blacklist":
		for line := range strings.Lines(value) {
			// Whoever traces a call that is traced has it made after all.
			line, _, _ = strings.Cut(line, "#")
			f := strings.Fields(line)
			if len(f) > 1 && f[1][0] != '[' && !slices.Contains([]string{"errno", "kill", "trap"}, f[1]) {
				return true
			}
		}
		return false
	case "deny_compat", "blacklist_compat":
		return false
	}
	return err != nil || on
}

func deviceReachesHost(d map[string]string) bool {
	switch d["type"] {
	case "none":
		return false
	case "disk": // the root disk, and volumes of pools
		return d["pool"] == ""
	case "nic": // on a network that the server manages, with no routes of its own
		return d["network"] == "" || d["ipv4.routes"] != "" || d["ipv6.routes"] != ""
	}
	return true
}
