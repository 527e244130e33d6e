// Package seccomp writes the system call policies of containers in the language
// of liblxc, and reads what the kernel says of a call that a policy hands to
// somebody else to answer. It knows which calls a guest must not make on a shared
// kernel and which can be made on its behalf, and nothing of where that is done.
package seccomp

import (
	"fmt"
	"slices"
	"strconv"
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
	rules := append(p.Intercept.rules(), p.Rules...)
	for _, r := range rules {
		b.WriteString(r + "\n")
	}
	// What users write comes last: sections of theirs do not swallow our rules. liblxc
	// knows no tabs, and no blanks before a name.
	section := "all"
	write := func(l line, usual string) {
		if l.args != "" && l.action == "" {
			l.action = usual // before conditions it has to be said
		}
		if l.section != section {
			section = l.section
			b.WriteString("[" + section + "]\n")
		}
		b.WriteString(l.String() + "\n")
	}
	ours := lines(strings.Join(rules, "\n"))
	for _, l := range lines(p.Allow) {
		for _, n := range narrowed(l, ours) {
			write(n, "allow")
		}
	}
	for _, l := range lines(p.Deny) {
		write(l, "kill")
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

// CheckLines refuses lines of which liblxc could make nothing, or not what they say.
func CheckLines(text string) error {
	if strings.ContainsRune(text, 0) {
		return errs.Invalid("it holds a zero byte")
	}
	all := lines(text)
	for _, l := range all {
		for _, r := range l.name {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' {
				return errs.Invalid("%q is no name of a system call; a line is NAME, or NAME and what happens, such as \"mkdir errno 1\"", l.name)
			}
		}
		what, number, _ := strings.Cut(l.action, " ")
		switch {
		case what != "" && !slices.Contains([]string{"allow", "errno", "kill", "trap", "notify"}, what):
			return errs.Invalid("%q is nothing that can happen to a system call; allow, errno NUMBER, kill, trap and notify are", what)
		case what == "errno":
			if n, err := strconv.Atoi(number); err != nil || n < 0 || n > 4095 {
				return errs.Invalid("%q needs the number of an error, such as \"%s errno 1\"", l, l.name)
			}
		case number != "":
			return errs.Invalid("%q says more than what happens; conditions stand in brackets", l)
		}
	}
	return contradiction(all)
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
	for l := range strings.Lines(rest) { // which liblxc is given as it is
		l, _, _ = strings.Cut(l, "#")
		_, conditions, _ := strings.Cut(strings.TrimSpace(l), "[")
		if strings.Contains(l, "\t") || strings.HasPrefix(l, " ") || strings.Contains(conditions, " ") {
			return errs.Invalid("liblxc knows no tabs, no blanks before a line, and none in brackets: %q", strings.TrimRight(l, "\r\n"))
		}
	}
	for _, l := range lines(rest) {
		if l.args != "" && l.action == "" {
			return errs.Invalid("%q has to say what happens before its conditions", l)
		}
	}
	return CheckLines(rest)
}
