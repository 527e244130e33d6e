package cli

import (
	"regexp"
	"strings"
)

// DotPrefix reports whether each dotted part of short begins the part of full in
// its place: "u.n" stands for "user.name".
func DotPrefix(short, full string) bool {
	s, f := strings.Split(short, "."), strings.Split(full, ".")
	if len(s) != len(f) {
		return false
	}
	for i := range f {
		if !strings.HasPrefix(f[i], s[i]) {
			return false
		}
	}
	return true
}

// MatchValue reports whether a filter's value, which may be a regular expression,
// matches. Without anchors it must match the whole.
func MatchValue(pattern, value string) bool {
	p := pattern
	if !strings.ContainsAny(pattern, "^$") {
		p = "^" + pattern + "$"
	}
	re, err := regexp.Compile(p)
	if err != nil {
		return pattern == value
	}
	return re.MatchString(value)
}

// MatchName is MatchValue for names, whose beginning is enough.
func MatchName(pattern, name string) bool {
	p := pattern
	if !strings.ContainsAny(pattern, "^$") {
		p = "^" + pattern + "($|.*)"
	}
	re, err := regexp.Compile(p)
	if err == nil && re.MatchString(name) {
		return true
	}
	return strings.HasPrefix(name, pattern)
}
