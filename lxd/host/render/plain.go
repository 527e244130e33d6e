package render

import "strings"

// plain renders a template that only names values, as nearly all do that write a host
// name. That takes no language and so no child; ok tells whether it is one.
func plain(j Job, f File) (text string, ok bool) {
	if len(f.Source) > MaxSource || strings.Contains(f.Source, "{%") || strings.Contains(f.Source, "{#") {
		return "", false
	}
	var b strings.Builder
	rest := f.Source
	for {
		before, after, found := strings.Cut(rest, "{{")
		b.WriteString(before)
		if !found {
			return b.String(), b.Len() <= MaxOutput
		}
		name, after, found := strings.Cut(after, "}}")
		v, known := lookUp(j, f, strings.Trim(name, " "))
		if !found || !known || b.Len() > MaxOutput {
			return "", false
		}
		b.WriteString(v)
		rest = after
	}
}

// lookUp finds a value by its plain name. What is missing is empty, as in the language.
func lookUp(j Job, f File, name string) (string, bool) {
	switch name {
	case "trigger":
		return f.Trigger, true
	case "path":
		return f.Path, true
	}
	of, key, ok := strings.Cut(name, ".")
	if !ok || key == "" || strings.ContainsFunc(key, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }) {
		return "", false
	}
	switch of {
	case "instance", "container":
		return j.Instance[key], true
	case "properties":
		return f.Properties[key], true
	}
	return "", false
}
