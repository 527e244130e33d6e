package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestNumbersInsideNamesAreOrderedByValue(t *testing.T) {
	t.Parallel()
	names := []string{"c10", "c2", "c1", "c02", "b", "c", "c1a", "c1-2", "c1-10"}
	slices.SortFunc(names, Natural)
	want := "b c c1 c1-2 c1-10 c1a c2 c02 c10"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEmptyCellsComeLast(t *testing.T) {
	t.Parallel()
	rows := [][]string{{"", "a"}, {"b", ""}, {"b", "a"}, {"a", "z"}}
	SortRows(rows)
	want := [][]string{{"a", "z"}, {"b", "a"}, {"b", ""}, {"", "a"}}
	if !slices.EqualFunc(rows, want, slices.Equal) {
		t.Errorf("got %v", rows)
	}
}

func TestTableKeepsItsShape(t *testing.T) {
	t.Parallel()
	table := Table{Header: []string{"name", "used_by"}, Rows: [][]string{{"ü", "10.0.0.1 (eth0)\n10.0.0.2 (eth1)"}, {"日本", ""}}}
	want := `+------+-----------------+
| NAME |     USED BY     |
+------+-----------------+
| ü    | 10.0.0.1 (eth0) |
|      | 10.0.0.2 (eth1) |
+------+-----------------+
| 日本 |                 |
+------+-----------------+
`
	var got bytes.Buffer
	if err := table.Render(&got, FormatTable); err != nil || got.String() != want {
		t.Errorf("%v\n%s", err, got.String())
	}
}

func TestWordsRespectQuotes(t *testing.T) {
	t.Parallel()
	got, err := Words(`exec @ARGS@ -- sh -c "echo 'a b'" ''`)
	want := []string{"exec", "@ARGS@", "--", "sh", "-c", "echo 'a b'", ""}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Words(`"open`); err == nil {
		t.Error("a quote needs its end")
	}
}

func TestCommandsOfTheTreeWinOverBuiltInAliases(t *testing.T) {
	t.Parallel()
	a := New()
	a.Getenv = func(string) string { return t.TempDir() }
	if err := a.loadConf(); err != nil {
		t.Fatal(err)
	}
	root := &cobra.Command{Use: "lxc"}
	root.AddCommand(&cobra.Command{Use: "list", Run: func(*cobra.Command, []string) {}})
	a.Conf.Aliases = map[string]string{"ll": "list -c n", "ll all": "list --all-projects", "list": "list -f csv", "of": "list @ARG2@ -c @ARG1@,@ARG1@", "in": "exec @ARG2@ @ARGS@ -- sh"}
	for in, want := range map[string]string{
		"ll c1":          "list -c n c1",
		"ll all":         "list --all-projects",
		"--project p ll": "--project p list -c n",
		"list c1":        "list -f csv c1",
		"of n c1 c2":     "list c1 -c n,n c2",
		"in -t c1":       "exec c1 -t -- sh",
		"shell c1":       "exec c1 -- su -l",
		"other":          "other",
		"":               "",
	} {
		got, err := a.expandAlias(root, strings.Fields(in))
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q became %q, %v, want %q", in, got, err, want)
		}
	}
	if _, err := a.expandAlias(root, []string{"of", "n"}); err == nil || !strings.Contains(err.Error(), "@ARG2@") {
		t.Errorf("an argument that is missing: %v", err)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	if !DotPrefix("u.b", "user.blah") || DotPrefix("u", "user.blah") || DotPrefix("b.u", "user.blah") {
		t.Error("each part must begin its part")
	}
	if !MatchValue("a.c", "abc") || MatchValue("b", "abc") || !MatchValue("b$|c$", "abc") || !MatchValue("[", "[") {
		t.Error("values match as a whole unless anchored")
	}
	if !MatchName("we", "web1") || MatchName("^we$", "web1") || !MatchName("w.b", "web1") {
		t.Error("names match from their beginning")
	}
}

func TestProgressIsSilentWithoutATerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &App{Out: &out}
	p := a.Progress("Working: %s")
	p.Update("50%")
	p.Done("finished")
	if out.Len() != 0 {
		t.Errorf("wrote %q", out.String())
	}
}

func TestProgressClearsItsLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &Progress{format: "Working: %s", w: &out}
	p.Update("100%")
	p.Update("9%")
	p.Done("")
	p.Update("late")
	want := "\rWorking: 100%\rWorking: 9%  \r           \r"
	if out.String() != want {
		t.Errorf("wrote %q", out.String())
	}
}

func TestTablesCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	tab := Table{Header: []string{"NAME"}, Rows: [][]string{{"\x1b[31meth0\r\nb\u009b2J\u202e\u2069\u200f"}}}
	for _, f := range []string{FormatTable, FormatCompact} {
		if err := tab.Render(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.String(); strings.ContainsAny(s, "\x1b\r\u009b\u202e\u2069\u200f") || !strings.Contains(s, "?[31meth0?") {
		t.Errorf("%q", s)
	}
}
