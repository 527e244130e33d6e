package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
	"gopkg.in/yaml.v2"

	"sett/shared/i18n"
)

// Formats of lists.
const (
	FormatTable   = "table"
	FormatCSV     = "csv"
	FormatJSON    = "json"
	FormatYAML    = "yaml"
	FormatCompact = "compact"
)

// Table is a list to show: cells for people, Raw for programs.
type Table struct {
	Header []string
	Rows   [][]string
	Raw    any
}

// Render writes the table in a format.
func (t Table) Render(w io.Writer, format string) error {
	switch format {
	case FormatTable:
		return t.text(w)
	case FormatCompact:
		return t.compact(w)
	case FormatCSV:
		c := csv.NewWriter(w)
		if err := c.WriteAll(t.Rows); err != nil {
			return err
		}
		c.Flush()
		return c.Error()
	case FormatJSON:
		return json.NewEncoder(w).Encode(t.Raw)
	case FormatYAML:
		b, err := yaml.Marshal(t.Raw)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s", b)
		return err
	}
	return fmt.Errorf(i18n.G("Invalid format %q"), format)
}

// columns returns the width of each column and all rows split into lines.
func (t Table) columns() (widths []int, header []string, rows [][][]string) {
	n := len(t.Header)
	for _, r := range t.Rows {
		n = max(n, len(r))
	}
	widths = make([]int, n)
	for i, h := range t.Header {
		h = title(h)
		header = append(header, h)
		widths[i] = runewidth.StringWidth(h)
	}
	for len(header) < n {
		header = append(header, "")
	}
	for _, r := range t.Rows {
		row := make([][]string, n)
		for i := range n {
			cell := ""
			if i < len(r) {
				cell = r[i]
			}
			row[i] = strings.Split(cell, "\n")
			for l, line := range row[i] {
				line = Plain(line)
				row[i][l] = line
				widths[i] = max(widths[i], runewidth.StringWidth(line))
			}
		}
		rows = append(rows, row)
	}
	return widths, header, rows
}

// Stamp is how a time is shown to people, always in UTC; one that was never set is
// empty.
func Stamp(t time.Time) string {
	if t.Unix() <= 0 {
		return ""
	}
	return t.UTC().Format("2006/01/02 15:04 UTC")
}

// Plain takes what could steer a terminal out of a text. Guests name some of what is
// shown, their interfaces for example, and the kernel lets them use any character.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, s)
}

// title is how headers are shown: capitals, and words parted by spaces.
func title(s string) string {
	return strings.ToUpper(strings.TrimSpace(strings.ReplaceAll(s, "_", " ")))
}

func left(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-runewidth.StringWidth(s)))
}

func center(s string, width int) string {
	gap := max(0, width-runewidth.StringWidth(s))
	before := gap / 2
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", gap-before)
}

func (t Table) text(w io.Writer) error {
	widths, header, rows := t.columns()
	var b strings.Builder
	rule := func() {
		for _, n := range widths {
			b.WriteString("+" + strings.Repeat("-", n+2))
		}
		b.WriteString("+\n")
	}
	rule()
	if len(t.Header) > 0 {
		for i, h := range header {
			b.WriteString("| " + center(h, widths[i]) + " ")
		}
		b.WriteString("|\n")
		rule()
	}
	for _, row := range rows {
		for l := range height(row) {
			for i, lines := range row {
				line := ""
				if l < len(lines) {
					line = lines[l]
				}
				b.WriteString("| " + left(line, widths[i]) + " ")
			}
			b.WriteString("|\n")
		}
		rule()
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t Table) compact(w io.Writer) error {
	widths, header, rows := t.columns()
	var b strings.Builder
	if len(t.Header) > 0 {
		b.WriteByte(' ')
		for i, h := range header {
			b.WriteString(" " + center(h, widths[i]) + " ")
		}
		b.WriteString(" \n")
	}
	for _, row := range rows {
		for l := range height(row) {
			b.WriteByte(' ')
			for i, lines := range row {
				line := ""
				if l < len(lines) {
					line = lines[l]
				}
				b.WriteString(" " + left(line, widths[i]) + " ")
			}
			b.WriteString(" \n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func height(row [][]string) int {
	h := 1
	for _, lines := range row {
		h = max(h, len(lines))
	}
	return h
}

// SortRows orders rows by their cells from left to right, numbers inside words
// by their value; empty cells come last.
func SortRows(rows [][]string) {
	slices.SortStableFunc(rows, func(a, b []string) int {
		for i := range min(len(a), len(b)) {
			switch {
			case a[i] == b[i]:
				continue
			case a[i] == "":
				return 1
			case b[i] == "":
				return -1
			}
			return Natural(a[i], b[i])
		}
		return 0
	})
}

// Natural compares so that "c2" comes before "c10".
func Natural(a, b string) int {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		if !digit(a[i]) || !digit(b[j]) {
			if a[i] != b[j] {
				return int(a[i]) - int(b[j])
			}
			i, j = i+1, j+1
			continue
		}
		na, nb := number(a[i:]), number(b[j:])
		va, vb := strings.TrimLeft(na, "0"), strings.TrimLeft(nb, "0")
		if len(va) != len(vb) {
			return len(va) - len(vb)
		}
		if c := strings.Compare(va, vb); c != 0 {
			return c
		}
		if len(na) != len(nb) {
			return len(na) - len(nb)
		}
		i, j = i+len(na), j+len(nb)
	}
	return (len(a) - i) - (len(b) - j)
}

func number(s string) string {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return s[:n]
}

// FormatFlag adds -f/--format.
func FormatFlag(set interface {
	StringVarP(p *string, name, shorthand, value, usage string)
}) *string {
	format := new(string)
	set.StringVarP(format, "format", "f", FormatTable, i18n.G("Format (csv|json|table|yaml|compact)")+"``")
	return format
}
