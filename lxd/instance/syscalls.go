package instance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sett/lxd/config"
	"sett/lxd/host/seccomp"
	"sett/shared/errs"
)

// checkSyscalls refuses keys for system calls that contradict each other.
func checkSyscalls(cfg map[string]string) error {
	set := func(ks ...config.Declared) string {
		for _, k := range ks {
			if name := k.Info().Name; cfg[name] != "" {
				return name
			}
		}
		return ""
	}
	for _, pair := range [][2]config.Declared{{SyscallsAllow, oldAllow}, {SyscallsDeny, oldDeny}, {SyscallsDefault, oldDefault}, {SyscallsCompat, oldCompat}} {
		if now, old := set(pair[0]), set(pair[1]); now != "" && old != "" {
			return errs.Invalid("%q is the former name of %q; set one of them only", old, now)
		}
	}
	allow := set(SyscallsAllow, oldAllow)
	deny := set(SyscallsDeny, oldDeny, SyscallsDefault, oldDefault, SyscallsCompat, oldCompat)
	if allow != "" && deny != "" {
		return errs.Invalid("%q names all that an instance may call and leaves nothing to %q; unset one of them", allow, deny)
	}
	if raw := set(SyscallsRaw); raw != "" && allow+deny != "" {
		return errs.Invalid("%q is the whole policy and leaves nothing to %q; unset one of them", raw, allow+deny)
	}
	if err := policy(cfg).Check(); err != nil {
		return fmt.Errorf("%s: %w", set(SyscallsDeny, oldDeny), err)
	}
	return nil
}

// syscalls fills in what the instance may call.
func (st *starting) syscalls(context.Context) error {
	cfg := st.i.ExpandedConfig()
	p := policy(cfg)
	if p.NoCompat && slices.Contains([]string{"i686", "armv7l"}, st.i.Architecture) {
		return errs.Invalid("An instance of architecture %s has 32-bit programs only, which %s forbids to run; unset it", st.i.Architecture, SyscallsCompat.Name())
	}
	// Lines of ours that earlier steps have found to be needed stay.
	p.Rules = st.spec.Seccomp.Rules
	st.spec.Seccomp = p
	return p.Check()
}

// policy is what the keys of an instance make of it.
func policy(cfg map[string]string) seccomp.Policy {
	p := seccomp.Policy{
		Raw:       SyscallsRaw.Get(cfg),
		Allow:     strings.TrimSpace(SyscallsAllow.Get(cfg) + oldAllow.Get(cfg)),
		Deny:      strings.TrimSpace(SyscallsDeny.Get(cfg) + oldDeny.Get(cfg)),
		NoDefault: !SyscallsDefault.Get(cfg) || !oldDefault.Get(cfg),
		NoCompat:  SyscallsCompat.Get(cfg) || oldCompat.Get(cfg),
		Intercept: seccomp.Intercept{Sysinfo: InterceptSysinfo.Get(cfg)},
	}
	if Privileged.Get(cfg) {
		return p // its root is the host's, who needs nobody's help
	}
	i := &p.Intercept
	i.Mknod, i.Setxattr, i.Sched = InterceptMknod.Get(cfg), InterceptSetxattr.Get(cfg), InterceptSched.Get(cfg)
	// The values have been checked when they were stored.
	i.Allowed, _ = seccomp.ParseMountAllowed(MountAllowed.Get(cfg))
	i.FUSE, _ = seccomp.ParseMountFUSE(MountFUSE.Get(cfg))
	i.Mount = InterceptMount.Get(cfg) && len(i.Allowed)+len(i.FUSE) > 0
	i.Shift = MountShift.Get(cfg)
	return p
}
