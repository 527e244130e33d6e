package instance

import (
	"reflect"
	"strings"
	"testing"

	"sett/lxd/host/seccomp"
)

func TestSyscallKeysMakeAPolicy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  map[string]string
		want seccomp.Policy
	}{
		"none":        {nil, seccomp.Policy{}},
		"deny":        {map[string]string{"security.syscalls.deny": "mkdir errno 1\n", "security.syscalls.deny_default": "false"}, seccomp.Policy{Deny: "mkdir errno 1", NoDefault: true}},
		"former deny": {map[string]string{"security.syscalls.blacklist": "mkdir", "security.syscalls.blacklist_default": "false", "security.syscalls.blacklist_compat": "true"}, seccomp.Policy{Deny: "mkdir", NoDefault: true, NoCompat: true}},
		"allow":       {map[string]string{"security.syscalls.allow": "read\nwrite"}, seccomp.Policy{Allow: "read\nwrite"}},
		"former":      {map[string]string{"security.syscalls.whitelist": "read"}, seccomp.Policy{Allow: "read"}},
		"raw":         {map[string]string{"raw.seccomp": "2\ndenylist\n[all]\n"}, seccomp.Policy{Raw: "2\ndenylist\n[all]\n"}},
		"intercept": {map[string]string{"security.syscalls.intercept.mknod": "true", "security.syscalls.intercept.mount": "1", "security.syscalls.intercept.mount.allowed": "ext4,xfs", "security.syscalls.intercept.mount.shift": "yes"},
			seccomp.Policy{Intercept: seccomp.Intercept{Mknod: true, Mount: true, Allowed: []string{"ext4", "xfs"}, Shift: true}}},
		"nothing to mount": {map[string]string{"security.syscalls.intercept.mount": "true"}, seccomp.Policy{}},
		"privileged": {map[string]string{"security.privileged": "true", "security.syscalls.intercept.mknod": "true", "security.syscalls.intercept.sysinfo": "true"},
			seccomp.Policy{Intercept: seccomp.Intercept{Sysinfo: true}}},
	} {
		got := policy(c.cfg)
		if len(got.Intercept.FUSE) == 0 {
			got.Intercept.FUSE = nil
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
		s := &Service{keys: Keys()}
		if err := s.CheckConfig(c.cfg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What LXD takes is taken, and what contradicts itself is refused as there.
func TestSyscallKeysThatContradict(t *testing.T) {
	t.Parallel()
	s := &Service{keys: Keys()}
	for _, c := range []struct {
		a, b, want string
	}{
		{"security.syscalls.allow=read", "security.syscalls.deny=mount", "unset one"},
		{"security.syscalls.allow=read", "security.syscalls.deny_default=true", "unset one"},
		{"security.syscalls.allow=read", "security.syscalls.deny_compat=true", "unset one"},
		{"security.syscalls.whitelist=read", "security.syscalls.deny=mount", "unset one"},
		{"security.syscalls.whitelist=read", "security.syscalls.allow=write", "former name"},
		{"security.syscalls.blacklist_default=true", "security.syscalls.deny_default=true", "former name"},
		{"security.syscalls.deny=mount", "security.syscalls.blacklist_default=true", ""},
		{"raw.seccomp=2\ndenylist\n", "security.syscalls.deny=mount", "whole policy"},
		{"raw.seccomp=2\ndenylist\n", "security.syscalls.blacklist_default=true", "whole policy"},
		{"raw.seccomp=2\ndenylist\n", "security.syscalls.intercept.mknod=true", ""},
		{"raw.seccomp=junk", "user.a=b", "raw.seccomp"},
		{"security.syscalls.deny=mknod errno 1", "security.syscalls.intercept.mknod=true", "security.syscalls.deny: The line"},
		{"security.syscalls.blacklist=mknod errno 1", "security.syscalls.intercept.mknod=true", "security.syscalls.blacklist: The line"},
		{"security.syscalls.allow=mknod", "security.syscalls.intercept.mknod=true", ""},
		{"security.syscalls.deny=read errno 1\nread kill", "user.a=b", "same calls"},
		{"security.syscalls.deny=foo bar", "user.a=b", "security.syscalls.deny"},
		{"security.syscalls.intercept.mount.allowed=overlay", "user.a=b", "overlay"},
		{"security.syscalls.intercept.mount.fuse=ext4", "user.a=b", "ext4=fuse2fs"},
		{"security.syscalls.intercept.bpf=true", "user.a=b", "not implemented"},
		{"security.syscalls.intercept.bpf.devices=true", "user.a=b", "not implemented"},
		{"security.syscalls.intercept.mknod=maybe", "user.a=b", "maybe"},
	} {
		cfg := map[string]string{}
		for _, kv := range []string{c.a, c.b} {
			k, v, _ := strings.Cut(kv, "=")
			cfg[k] = v
		}
		err := s.CheckConfig(cfg)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s and %s: %v", c.a, c.b, err)
		}
	}
}
