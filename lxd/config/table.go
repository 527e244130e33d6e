package config

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"sett/shared/errs"
)

// Table is a set of keys that may stand in one map.
type Table struct {
	exact    map[string]Info
	families []Info // "user.*", longest prefix first
}

// NewTable makes a table. Two declarations of one name are a bug.
func NewTable(keys ...Declared) Table {
	t := Table{exact: map[string]Info{}}
	for _, k := range keys {
		t.add(k.Info())
	}
	t.sort()
	return t
}

// With returns a table that has the keys of others as well.
func (t Table) With(others ...Table) Table {
	n := Table{exact: map[string]Info{}}
	for _, o := range append([]Table{t}, others...) {
		for _, i := range o.exact {
			n.add(i)
		}
		for _, i := range o.families {
			n.add(i)
		}
	}
	n.sort()
	return n
}

func (t *Table) add(i Info) {
	if strings.HasSuffix(i.Name, "*") {
		t.families = append(t.families, i)
		return
	}
	if _, ok := t.exact[i.Name]; ok {
		panic(fmt.Sprintf("configuration key %q declared twice", i.Name))
	}
	t.exact[i.Name] = i
}

func (t *Table) sort() {
	slices.SortFunc(t.families, func(a, b Info) int { return len(b.Name) - len(a.Name) })
}

// Lookup finds the declaration that covers a key. A "*" inside a family's name
// stands for one or more characters, the one at its end for the rest.
func (t Table) Lookup(name string) (Info, bool) {
	if i, ok := t.exact[name]; ok {
		return i, true
	}
	for _, f := range t.families {
		if p := strings.TrimSuffix(f.Name, "*"); !strings.Contains(p, "*") {
			if strings.HasPrefix(name, p) && len(name) > len(p) {
				return f, true
			}
		}
	}
	return Info{}, false
}

// Keys lists all declarations by name.
func (t Table) Keys() []Info {
	var out []Info
	for _, i := range t.exact {
		out = append(out, i)
	}
	out = append(out, t.families...)
	sort.Slice(out, func(a, b int) bool { return out[a].Name < out[b].Name })
	return out
}

// Validate checks every key of a map and returns all that is wrong, not the first only.
func (t Table) Validate(m map[string]string) error {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	sort.Strings(names)
	var all []error
	for _, k := range names {
		i, ok := t.Lookup(k)
		if !ok {
			all = append(all, errs.Invalid("Unknown configuration key %q", k))
			continue
		}
		if err := i.validate(k, m[k]); err != nil {
			all = append(all, err)
		}
	}
	return join(all)
}

func join(all []error) error {
	if len(all) == 0 {
		return nil
	}
	if len(all) == 1 {
		return all[0]
	}
	texts := make([]string, len(all))
	for i, e := range all {
		texts[i] = e.Error()
	}
	return &errs.Error{Kind: errs.KindOf(all[0]), Err: errors.New(strings.Join(texts, "; "))}
}

// Diff is what lies between two maps.
type Diff struct {
	Changed []string // all keys that differ, sorted
	Live    []string // of those, what takes effect at once
	Later   []string // of those, what waits for the next start
}

// Diff compares two maps and refuses changes of fixed keys.
func (t Table) Diff(old, new map[string]string) (Diff, error) {
	var d Diff
	var all []error
	for _, k := range Changed(old, new) {
		d.Changed = append(d.Changed, k)
		i, _ := t.Lookup(k)
		switch {
		case i.Fixed:
			all = append(all, errs.Invalid("Configuration key %q cannot be changed", k))
		case i.Live:
			d.Live = append(d.Live, k)
		default:
			d.Later = append(d.Later, k)
		}
	}
	return d, join(all)
}

// Changed lists the keys whose values differ; an absent key equals an empty one.
func Changed(old, new map[string]string) []string {
	var out []string
	for k, v := range new {
		if old[k] != v {
			out = append(out, k)
		}
	}
	for k, v := range old {
		if _, ok := new[k]; !ok && v != "" {
			out = append(out, k)
		}
	}
	sort.Strings(out)
	return out
}

// Seal replaces secrets that have changed by the form in which they are stored.
func (t Table) Seal(old, new map[string]string) error {
	for k, v := range new {
		i, ok := t.Lookup(k)
		if !ok || i.seal == nil || v == "" || v == old[k] {
			continue
		}
		sealed, err := i.seal(v)
		if err != nil {
			return fmt.Errorf("Configuration key %q: %w", k, err)
		}
		new[k] = sealed
	}
	return nil
}

// Redact returns a copy in which the values of secret keys are replaced by true,
// the form in which LXD shows that something is set.
func (t Table) Redact(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if i, ok := t.Lookup(k); ok && i.Secret && v != "" {
			out[k] = true
			continue
		}
		out[k] = v
	}
	return out
}
