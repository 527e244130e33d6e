package project_test

import (
	"testing"

	"sett/lxd/auth"
	"sett/lxd/project"
	"sett/shared/errs"
)

func TestTheRestrictedDoNotReachTheHost(t *testing.T) {
	t.Parallel()
	bob := auth.Caller{Protocol: "tls", Username: "bob", Projects: []string{"default"}}
	type devices = map[string]map[string]string
	conf := func(k, v string) project.Spec { return project.Spec{Config: map[string]string{k: v}} }
	dev := func(kv ...string) project.Spec {
		d := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			d[kv[i]] = kv[i+1]
		}
		return project.Spec{Devices: devices{"d": d}}
	}
	for what, s := range map[string]project.Spec{
		"raw.lxc": conf("raw.lxc", "lxc.hook.pre-start = /bin/true"), "raw.idmap": conf("raw.idmap", "both 1000 1000"),
		"privileged": conf("security.privileged", "yes"), "modules": conf("linux.kernel_modules", "nbd"), "ids": conf("security.idmap.base", "100000"),
		"a policy": conf("raw.seccomp", "2\ndenylist\n"), "no policy": conf("security.syscalls.deny_default", "false"), "former no policy": conf("security.syscalls.blacklist_default", "0"),
		"a policy of few": conf("security.syscalls.allow", "read"), "a hole": conf("security.syscalls.deny", "mkdir\nopen_by_handle_at allow"),
		"a hole for tracers": conf("security.syscalls.deny", "ioctl trace"), "an answer by others": conf("security.syscalls.deny", "ioctl notify"),
		"nodes": conf("security.syscalls.intercept.mknod", "true"), "mounts": conf("security.syscalls.intercept.mount", "1"),
		"file systems": conf("security.syscalls.intercept.mount.allowed", "ext4"), "real time": conf("security.syscalls.intercept.sched_setscheduler", "true"),
		"an interface of the host": conf("volatile.eth0.host_name", "eth0"), "a noted id map": conf("volatile.last_state.idmap", "[]"),
		"a folder of the host": dev("type", "disk", "source", "/", "path", "/host"), "a bridge of the host": dev("type", "nic", "nictype", "bridged", "parent", "br0"),
		"routes on the host": dev("type", "nic", "network", "lxdbr0", "ipv4.routes", "0.0.0.0/0"), "a device node": dev("type", "unix-char", "path", "/dev/mem"),
	} {
		if err := project.CheckHost(bob, project.Spec{}, s); !errs.Is(err, errs.KindForbidden) {
			t.Errorf("%s: a restricted caller may: %v", what, err)
		}
		if err := project.CheckHost(bob, s, s); err != nil {
			t.Errorf("%s: what an administrator has set is in the way: %v", what, err)
		}
		if err := project.CheckHost(auth.Caller{Protocol: "unix", Admin: true}, project.Spec{}, s); err != nil {
			t.Errorf("%s: an administrator may not: %v", what, err)
		}
	}
	for what, s := range map[string]project.Spec{
		"limits": conf("limits.memory", "1GiB"), "unprivileged": conf("security.privileged", "false"), "mac": conf("volatile.eth0.hwaddr", "00:16:3e:00:00:01"),
		"fewer calls": conf("security.syscalls.deny", "# all\nmkdir errno 1\nptrace kill\nmount # none"), "no 32 bits": conf("security.syscalls.deny_compat", "true"), "the policy": conf("security.syscalls.deny_default", "true"),
		"no nodes":  conf("security.syscalls.intercept.mknod", "false"),
		"root disk": dev("type", "disk", "path", "/", "pool", "p"), "nic": dev("type", "nic", "network", "lxdbr0"), "none": dev("type", "none"),
	} {
		if err := project.CheckHost(bob, project.Spec{}, s); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
