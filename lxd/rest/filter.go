package rest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"sett/shared/errs"
)

// Filter is a parsed ?filter=: words "field op value" joined by and/or, read from
// left to right. A value may be a regular expression. The zero value lets everything
// through.
type Filter struct {
	clauses []clause
}

type clause struct {
	or, not, ne  bool
	field, value string
	pattern      *regexp.Regexp // nil: the value is none
}

// hits reports whether a value is the one of the clause, or fits it as a pattern for all
// of it. Upper and lower case are the same.
func (c clause) hits(v string) bool {
	return strings.EqualFold(v, c.value) || c.pattern != nil && c.pattern.MatchString(v)
}

// pattern is what the value of a clause means as a regular expression; one that says
// itself where it begins or ends stays as it is.
func pattern(value string) *regexp.Regexp {
	if !strings.ContainsAny(value, "^$") {
		value = "^(?:" + value + ")$"
	}
	re, err := regexp.Compile("(?i)" + value)
	if err != nil {
		return nil
	}
	return re
}

// Empty reports whether the filter lets everything through.
func (f Filter) Empty() bool { return len(f.clauses) == 0 }

// ParseFilter reads the text of a filter.
func ParseFilter(s string) (Filter, error) {
	var f Filter
	words, err := splitWords(s)
	if err != nil || len(words) == 0 {
		return f, err
	}
	for i := 0; i < len(words); {
		var c clause
		if len(f.clauses) > 0 {
			switch strings.ToLower(words[i]) {
			case "and":
			case "or":
				c.or = true
			default:
				return f, errs.Invalid("Invalid filter: %q stands where \"and\" or \"or\" was expected", words[i])
			}
			i++
		}
		if i < len(words) && strings.EqualFold(words[i], "not") {
			c.not = true
			i++
		}
		if i+3 > len(words) {
			return f, errs.Invalid("Invalid filter: a clause needs a field, an operator and a value")
		}
		c.field = words[i]
		switch strings.ToLower(words[i+1]) {
		case "eq":
		case "ne":
			c.ne = true
		default:
			return f, errs.Invalid("Invalid filter: unknown operator %q (use eq or ne)", words[i+1])
		}
		c.value, c.pattern = words[i+2], pattern(words[i+2])
		i += 3
		f.clauses = append(f.clauses, c)
	}
	return f, nil
}

// splitWords splits at blanks; double quotes keep blanks and are dropped.
func splitWords(s string) ([]string, error) {
	var out []string
	var b strings.Builder
	in, have := false, false
	for _, c := range s {
		switch {
		case c == '"':
			in, have = !in, true
		case c == ' ' && !in:
			if have {
				out = append(out, b.String())
				b.Reset()
				have = false
			}
		default:
			b.WriteRune(c)
			have = true
		}
	}
	if in {
		return nil, errs.Invalid("Invalid filter: a quote is not closed")
	}
	if have {
		out = append(out, b.String())
	}
	return out, nil
}

// Match reports whether an object, as its JSON shows it, passes.
func (f Filter) Match(obj any) (bool, error) {
	if f.Empty() {
		return true, nil
	}
	b, err := json.Marshal(obj)
	if err != nil {
		return false, err
	}
	var m any
	if err := json.Unmarshal(b, &m); err != nil {
		return false, err
	}
	res := true
	for i, c := range f.clauses {
		v, ok := field(m, c.field)
		hit := ok && c.hits(v)
		if c.ne {
			hit = !hit
		}
		if c.not {
			hit = !hit
		}
		switch {
		case i == 0:
			res = hit
		case c.or:
			res = res || hit
		default:
			res = res && hit
		}
	}
	return res, nil
}

// field looks up a dotted path. Keys of config hold dots themselves, so the rest
// of the path is tried as one key before it is split.
func field(v any, path string) (string, bool) {
	m, ok := v.(map[string]any)
	if !ok {
		return "", false
	}
	if x, ok := m[path]; ok {
		switch x := x.(type) {
		case string:
			return x, true
		case map[string]any, []any, nil:
			return "", false
		default:
			return fmt.Sprint(x), true
		}
	}
	for i := 0; i < len(path); i++ {
		if path[i] != '.' {
			continue
		}
		if sub, ok := m[path[:i]]; ok {
			if s, ok := field(sub, path[i+1:]); ok {
				return s, true
			}
		}
	}
	return "", false
}

// Keep drops what does not pass.
func Keep[T any](f Filter, objs []T) ([]T, error) {
	if f.Empty() {
		return objs, nil
	}
	out := objs[:0:0]
	for _, o := range objs {
		ok, err := f.Match(o)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, o)
		}
	}
	return out, nil
}
