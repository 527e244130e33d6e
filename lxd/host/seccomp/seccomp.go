// Package seccomp writes the system call policies of containers in the language
// of liblxc. It knows which calls a guest must not make on a shared kernel, and
// nothing of where the policy is used.
package seccomp

import (
	"fmt"
	"strings"
)

// Policy is what a container may not call. The zero value is the default policy,
// so that forgetting to choose one leaves the guest confined.
type Policy struct {
	// NoDefault leaves out our own list.
	NoDefault bool
	// Rules are further lines in liblxc's version 2 format ("NAME ACTION ...").
	Rules []string
	// Raw, when set, is the whole policy in place of everything above.
	Raw string
}

// denied are calls that reach beyond a container whatever its user namespace
// says: they load code into the kernel, replace it, or open files by handle,
// past every mount that hides them. The answer is ENOSYS, as from a kernel that
// was built without them: programs cope with that better than with EPERM.
var denied = []string{
	"kexec_load", "kexec_file_load", "open_by_handle_at",
	"init_module", "finit_module", "delete_module",
}

const enosys = 38

// Empty reports whether the policy forbids nothing at all.
func (p Policy) Empty() bool { return p.NoDefault && len(p.Rules) == 0 && p.Raw == "" }

// Text is the policy for liblxc, or "" when there is nothing to forbid.
func (p Policy) Text() string {
	if p.Raw != "" {
		return p.Raw
	}
	if p.Empty() {
		return ""
	}
	var b strings.Builder
	b.WriteString("2\ndenylist\n")
	if !p.NoDefault {
		b.WriteString("reject_force_umount\n")
	}
	b.WriteString("[all]\n")
	if !p.NoDefault {
		for _, c := range denied {
			fmt.Fprintf(&b, "%s errno %d\n", c, enosys)
		}
	}
	for _, r := range p.Rules {
		b.WriteString(strings.TrimSpace(r) + "\n")
	}
	return b.String()
}

// DenyIoctl is a rule by which an ioctl answers with an errno. The kernel looks at 32
// bits of the request and a filter sees 64, so the others are masked out.
func DenyIoctl(request uint32, errno int) string {
	return fmt.Sprintf("ioctl errno %d [1,%d,SCMP_CMP_MASKED_EQ,4294967295]", errno, request)
}
