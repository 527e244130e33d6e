// Package seccomp writes the system call policies of containers in the language
// of liblxc, and reads what the kernel says of a call that a policy hands to
// somebody else to answer. It knows which calls a guest must not make on a shared
// kernel and which can be made on its behalf, and nothing of where that is done.
package seccomp

import (
	"fmt"
	"slices"
	"strings"

	"sett/shared/errs"
)

// Policy is what a container may not call. The zero value is the default policy,
// so that forgetting to choose one leaves the guest confined.
type Policy struct {
	// NoDefault leaves out our own list.
	NoDefault bool
	// Allow, when set, turns the policy round: only these lines may be called, and our
	// own list has nothing left to forbid.
	Allow string
	// Deny are the user's lines, in liblxc's version 2 format ("NAME ACTION ...").
	Deny string
	// Rules are ours, in the same format.
	Rules []string
	// Raw, when set, is the whole policy in place of everything above.
	Raw string
	// NoCompat forbids calls in the manner of 32-bit programs, whatever else is said.
	// The text has no words for it: whoever loads the policy has to see to it.
	NoCompat bool
	// Intercept are the calls that somebody else answers.
	Intercept Intercept
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
func (p Policy) Empty() bool {
	return p.NoDefault && p.Allow == "" && p.Deny == "" && len(p.Rules) == 0 && p.Raw == "" && !p.NoCompat && !p.Intercept.any()
}

// Text is the policy for liblxc, or "" when there is nothing to forbid.
func (p Policy) Text() string {
	if p.Raw != "" {
		return p.Raw
	}
	if p.Empty() {
		return ""
	}
	var b strings.Builder
	kind, own := "denylist", !p.NoDefault
	if p.Allow != "" {
		kind, own = "allowlist", false
	}
	b.WriteString("2\n" + kind + "\n")
	if own {
		b.WriteString("reject_force_umount\n")
	}
	b.WriteString("[all]\n")
	if own {
		for _, c := range denied {
			fmt.Fprintf(&b, "%s errno %d\n", c, enosys)
		}
	}
	for _, r := range append(p.Intercept.rules(), p.Rules...) {
		b.WriteString(strings.TrimSpace(r) + "\n")
	}
	// What users write comes last: sections of theirs do not swallow our rules.
	for _, lines := range []string{p.Allow, p.Deny} {
		if lines = strings.TrimSpace(lines); lines != "" {
			b.WriteString(lines + "\n")
		}
	}
	return b.String()
}

// Listens reports whether there are calls that wait until somebody answers them: ours,
// or such as the user's own lines name.
func (p Policy) Listens() bool {
	text := p.Text()
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 && f[1] == "notify" {
			return true
		}
	}
	return false
}

// DenyIoctl is a rule by which an ioctl answers with an errno. The kernel looks at 32
// bits of the request and a filter sees 64, so the others are masked out.
func DenyIoctl(request uint32, errno int) string {
	return fmt.Sprintf("ioctl errno %d [1,%d,SCMP_CMP_MASKED_EQ,4294967295]", errno, request)
}

// CheckLines refuses lines of which liblxc could make nothing.
func CheckLines(lines string) error {
	if strings.ContainsRune(lines, 0) {
		return errs.Invalid("it holds a zero byte")
	}
	for line := range strings.Lines(lines) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '[' && line[len(line)-1] == ']' {
			continue
		}
		f := strings.Fields(line)
		for _, r := range f[0] {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' {
				return errs.Invalid("%q is no name of a system call; a line is NAME, or NAME and what happens, such as \"mkdir errno 1\"", f[0])
			}
		}
		if len(f) > 1 && f[1][0] != '[' && !slices.Contains([]string{"allow", "errno", "kill", "trap", "trace", "notify"}, f[1]) {
			return errs.Invalid("%q is nothing that can happen to a system call; allow, errno, kill, trap, trace and notify are", f[1])
		}
	}
	return nil
}

// CheckRaw refuses what is no policy for liblxc.
func CheckRaw(raw string) error {
	version, rest, _ := strings.Cut(raw, "\n")
	kind, rest, _ := strings.Cut(rest, "\n")
	word := ""
	if f := strings.Fields(kind); len(f) > 0 {
		word = f[0]
	}
	switch v := strings.TrimSpace(version); {
	case v != "1" && v != "2":
		return errs.Invalid("it does not begin with a line that says the format, 2 or 1")
	case !slices.Contains([]string{"allowlist", "denylist", "whitelist", "blacklist"}, word):
		return errs.Invalid("its second line is neither denylist nor allowlist")
	case v == "1": // numbers
		if strings.ContainsRune(raw, 0) {
			return errs.Invalid("it holds a zero byte")
		}
		return nil
	}
	return CheckLines(rest)
}
