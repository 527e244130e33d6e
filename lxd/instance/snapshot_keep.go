package instance

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sett/shared/errs"
)

// A retention policy says how many snapshots to keep: "last=3 hourly=24 daily=7
// weekly=4 monthly=12 yearly=2". Of each hour, day and so on that has any, the newest
// one stands for it. A policy is looked at when snapshots are pruned, never when they
// are taken, so that a change of it holds for those that there are. It is about
// snapshots of the schedule alone: what a person has taken goes by hand or expires.

type rule struct {
	kind string
	n    int
}

// periods name the time in which a snapshot falls, for each kind of a rule.
var periods = map[string]func(t time.Time) string{
	"last":   func(t time.Time) string { return t.Format(time.RFC3339Nano) },
	"hourly": func(t time.Time) string { return t.Format("2006-01-02 15") },
	"daily":  func(t time.Time) string { return t.Format("2006-01-02") },
	"weekly": func(t time.Time) string {
		y, w := t.ISOWeek()
		return fmt.Sprintf("%d-%d", y, w)
	},
	"monthly": func(t time.Time) string { return t.Format("2006-01") },
	"yearly":  func(t time.Time) string { return t.Format("2006") },
}

func checkRetention(v string) error {
	_, err := retention(v)
	return err
}

// retention reads a policy; nil keeps all.
func retention(v string) ([]rule, error) {
	var out []rule
	seen := map[string]bool{}
	for _, f := range strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' || r == '\n' }) {
		kind, count, ok := strings.Cut(f, "=")
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 1 || n > 100000 || periods[kind] == nil {
			return nil, errs.Invalid("%q is no rule of a retention policy such as \"last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=2\"", f)
		}
		if seen[kind] {
			return nil, errs.Invalid("The retention policy has two rules %q", kind)
		}
		seen[kind] = true
		out = append(out, rule{kind, n})
	}
	return out, nil
}

// Verdict says what a policy makes of a snapshot.
type Verdict struct {
	Snapshot *Snapshot
	Keep     bool
	Reasons  []string // the rules that keep it, or why none is asked
}

// judge applies a policy to the snapshots of an instance, newest first.
func judge(rules []rule, all []*Snapshot) []Verdict {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *Snapshot) int { return b.Created.Compare(a.Created) })
	out := make([]Verdict, len(all))
	for n, sn := range all {
		out[n].Snapshot = sn
		switch {
		case sn.Config[volScheduled] == "":
			out[n].Keep, out[n].Reasons = true, []string{"manual"}
		case len(rules) == 0:
			out[n].Keep, out[n].Reasons = true, []string{"no policy"}
		}
	}
	for _, r := range rules {
		had := map[string]bool{}
		for n := range out {
			sn := out[n].Snapshot
			p := periods[r.kind](sn.Created.Local())
			if sn.Config[volScheduled] == "" || had[p] || len(had) == r.n {
				continue
			}
			had[p] = true
			out[n].Keep = true
			out[n].Reasons = append(out[n].Reasons, r.kind)
		}
	}
	return out
}
