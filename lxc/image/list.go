package image

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

type column struct {
	title string
	value func(api.Image) string
}

// columns are what -c can name.
func columns() map[rune]column {
	return map[rune]column{
		'a': {i18n.G("ARCHITECTURE"), func(i api.Image) string { return i.Architecture }},
		'd': {i18n.G("DESCRIPTION"), func(i api.Image) string { return i.Properties["description"] }},
		'f': {i18n.G("FINGERPRINT"), func(i api.Image) string { return short(i.Fingerprint) }},
		'F': {i18n.G("FINGERPRINT"), func(i api.Image) string { return i.Fingerprint }},
		'l': {i18n.G("ALIAS"), shortestAlias},
		'L': {i18n.G("ALIASES"), func(i api.Image) string {
			var names []string
			for _, a := range i.Aliases {
				names = append(names, a.Name)
			}
			return strings.Join(names, "\n")
		}},
		'p': {i18n.G("PUBLIC"), func(i api.Image) string {
			if i.Public {
				return i18n.G("yes")
			}
			return i18n.G("no")
		}},
		's': {i18n.G("SIZE"), func(i api.Image) string { return fmt.Sprintf("%.2fMB", float64(i.Size)/1024/1024) }},
		't': {i18n.G("TYPE"), func(i api.Image) string {
			if i.Type == "" {
				return "CONTAINER"
			}
			return strings.ToUpper(i.Type)
		}},
		'u': {i18n.G("UPLOAD DATE"), func(i api.Image) string {
			return i.UploadedAt.UTC().Format("Jan 2, 2006 at 3:04pm (MST)")
		}},
	}
}

func shortestAlias(i api.Image) string {
	name := ""
	for n, a := range i.Aliases {
		if n == 0 || len(a.Name) < len(name) {
			name = a.Name
		}
	}
	if more := len(i.Aliases) - 1; more > 0 {
		name = fmt.Sprintf(i18n.G("%s (%d more)"), name, more)
	}
	return name
}

func (i image) list() *cobra.Command {
	var format *string
	var cols string
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:] [<filter>...]", Aliases: []string{"ls"}, Short: i18n.G("List images"),
		Long:    i18n.G("A filter is a part of an alias or of a fingerprint, or key=value, where the value\nof a property may be a regular expression.\n\nColumns: l alias (shortest), L all aliases, f fingerprint (short), F fingerprint,\np public, d description, a architecture, t type, s size, u upload date."),
		Example: "lxc image list\nlxc image list os=debian -c lfs",
	}, 0, -1, func(cmd *cobra.Command, args []string) error {
		target, filters := splitFilters(args)
		s, _, err := i.look(cmd, target)
		if err != nil {
			return err
		}
		picked, err := pickColumns(cols)
		if err != nil {
			return err
		}
		images, err := s.GetImages()
		if err != nil {
			return err
		}
		shown := []api.Image{}
		var t cli.Table
		for _, c := range picked {
			t.Header = append(t.Header, c.title)
		}
		for _, img := range images {
			if !matches(img, filters) {
				continue
			}
			shown = append(shown, img)
			var row []string
			for _, c := range picked {
				row = append(row, c.value(img))
			}
			t.Rows = append(t.Rows, row)
		}
		t.Raw = shown
		cli.SortRows(t.Rows)
		return t.Render(i.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	cmd.Flags().StringVarP(&cols, "columns", "c", "lfpdatsu", i18n.G("Columns")+"``")
	return cmd
}

func pickColumns(cols string) ([]column, error) {
	known := columns()
	var out []column
	for entry := range strings.SplitSeq(cols, ",") {
		if entry == "" {
			return nil, fmt.Errorf(i18n.G("Empty column entry (redundant, leading or trailing command) in '%s'"), cols)
		}
		for _, c := range entry {
			col, ok := known[c]
			if !ok {
				return nil, fmt.Errorf(i18n.G("Unknown column shorthand char '%c' in '%s'"), c, entry)
			}
			out = append(out, col)
		}
	}
	return out, nil
}

// matches reports whether an image passes all filters.
func matches(img api.Image, filters []string) bool {
	if len(filters) == 0 {
		return true
	}
	fields := map[string]any{}
	if b, err := json.Marshal(img); err == nil {
		_ = json.Unmarshal(b, &fields)
	}
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if ok && !matchesKey(img, fields, key, value) || !ok && !matchesWord(img, f) {
			return false
		}
	}
	return true
}

func matchesWord(img api.Image, word string) bool {
	for _, a := range img.Aliases {
		if strings.Contains(a.Name, word) {
			return true
		}
	}
	return strings.Contains(img.Fingerprint, word)
}

func matchesKey(img api.Image, fields map[string]any, key, value string) bool {
	for k, v := range img.Properties {
		if cli.DotPrefix(key, k) && cli.MatchValue(value, v) {
			return true
		}
	}
	v, ok := fields[key]
	return ok && fmt.Sprint(v) == value
}
