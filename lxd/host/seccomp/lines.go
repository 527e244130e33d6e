package seccomp

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"sett/shared/errs"
)

// line is one line of a policy.
type line struct {
	section string // the kind of programs that it is for; "all" for every one
	name    string
	action  string // empty: what the list is for
	args    string // conditions; empty: every such call
}

func (l line) String() string {
	return strings.Join(strings.Fields(l.name+" "+l.action+" "+l.args), " ")
}

// lines reads what is written below [all].
func lines(text string) []line {
	var out []line
	section := "all"
	for s := range strings.Lines(text) {
		s, _, _ = strings.Cut(s, "#")
		f := strings.Fields(s)
		if len(f) == 0 {
			continue
		}
		if f[0][0] == '[' && strings.HasSuffix(f[0], "]") && len(f) == 1 {
			section = strings.ToLower(f[0][1 : len(f[0])-1])
			continue
		}
		l := line{section: section, name: f[0]}
		rest := strings.Join(f[1:], " ")
		if at := strings.IndexByte(rest, '['); at >= 0 {
			// liblxc takes no blanks in there.
			rest, l.args = strings.TrimSpace(rest[:at]), strings.ReplaceAll(rest[at:], " ", "")
		}
		l.action = rest
		out = append(out, l)
	}
	return out
}

// together reports whether two lines are about the same call of the same programs.
func (l line) together(o line) bool {
	return l.name == o.name && (l.section == o.section || l.section == "all" || o.section == "all")
}

// denies reports whether a line of a list of what is forbidden does so.
func (l line) denies() bool {
	return l.action != "allow" && l.action != "notify"
}

// contradiction finds two lines of one list of which one would mean nothing. libseccomp
// drops what is said on a part of a call as soon as something is said on all of it,
// before or after. Of two lines on all of a call it takes the first, and two on the same
// part it refuses.
func contradiction(all []line) error {
	for i, a := range all {
		for _, b := range all[:i] {
			if !a.together(b) || a.action == b.action {
				continue
			}
			switch {
			case a.args == b.args:
				return errs.Invalid("%q and %q are about the same calls and say different things; drop one of them", b, a)
			case a.args == "" || b.args == "":
				whole, part := a, b
				if b.args == "" {
					whole, part = b, a
				}
				return errs.Invalid("%q is about every such call, so that %q would mean nothing; drop one of them, or give both conditions", whole, part)
			}
		}
	}
	return nil
}

// only refuses lines of a list that say what holds without them: libseccomp does.
func only(text, not, list string) error {
	if err := CheckLines(text); err != nil {
		return err
	}
	for _, l := range lines(text) {
		if l.action == not {
			return errs.Invalid("%q says what is so anyway, as this is the list of the calls that are %s; drop the line", l, list)
		}
	}
	return nil
}

// CheckAllow refuses what is no list of what may be called.
func CheckAllow(text string) error { return only(text, "kill", "allowed") }

// CheckDeny refuses what is no list of what may not be called.
func CheckDeny(text string) error { return only(text, "allow", "forbidden") }

// Check refuses lines of the user's that would undo some of ours, or be undone by them.
func (p Policy) Check() error {
	if p.Raw != "" || p.Allow != "" { // of a list of what is allowed ours take what they need: see narrowed
		return nil
	}
	ours := lines(strings.Join(p.own(), "\n"))
	for _, l := range lines(p.Deny) {
		for _, o := range ours {
			if !l.together(o) || l.action == o.action || l.args != "" && o.args != "" || l.denies() && o.denies() {
				continue
			}
			return errs.Invalid("The line %q and the rule %q, which other settings ask for, are about the same calls and cannot both hold; take the line out, or undo those settings", l, o)
		}
	}
	return nil
}

// own are our rules in a list of what is forbidden.
func (p Policy) own() []string {
	out := append(p.Intercept.rules(), p.Rules...)
	if p.NoDefault {
		return out
	}
	for _, c := range denied {
		out = append(out, fmt.Sprintf("%s errno %d", c, enosys))
	}
	// What liblxc makes of reject_force_umount.
	return append(out, "umount2 errno 13 [1,1,SCMP_CMP_MASKED_EQ,1]")
}

// cube is a set of values: of those bits that the mask has, all are as in value.
type cube struct{ mask, value uint64 }

// minus takes a cube out of others, which stay without an overlap if they had none.
func minus(from []cube, c cube) []cube {
	var out []cube
	for _, f := range from {
		if (f.value^c.value)&f.mask&c.mask != 0 {
			out = append(out, f)
			continue
		}
		for left := c.mask &^ f.mask; left != 0; {
			bit := uint64(1) << (bits.Len64(left) - 1)
			out = append(out, cube{f.mask | bit, f.value | ^c.value&bit})
			f.mask, f.value, left = f.mask|bit, f.value|c.value&bit, left&^bit
		}
	}
	return out
}

// condition reads the condition of a rule of ours: "[argument,value,operator,mask]".
func condition(args string) (arg string, c cube) {
	f := strings.Split(strings.Trim(args, "[]"), ",")
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			panic("a rule of ours has the condition " + args)
		}
		return n
	}
	c.value, c.mask = number(f[1]), ^uint64(0)
	if f[2] == "SCMP_CMP_MASKED_EQ" {
		c.mask = number(f[3])
	}
	return f[0], c
}

// narrowed is a line of a list of what is allowed without the calls about which there are
// rules of ours, all on one argument: a line on every such call would undo them. Nothing
// is left where the call is ours altogether.
func narrowed(l line, ours []line) []line {
	rest, at := []cube{{}}, ""
	for _, o := range ours {
		if l.args != "" || !l.together(o) {
			continue
		}
		if o.args == "" {
			return nil
		}
		arg, c := condition(o.args)
		rest, at = minus(rest, c), arg
	}
	if at == "" {
		return []line{l}
	}
	var out []line
	for _, c := range rest {
		l.args = fmt.Sprintf("[%s,%d,SCMP_CMP_MASKED_EQ,%d]", at, c.value, c.mask)
		out = append(out, l)
	}
	return out
}
