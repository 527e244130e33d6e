package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"sett/shared/errs"
	"sett/shared/i18n"
)

func (e *env) sqlCommand() *cobra.Command {
	return &cobra.Command{
		// Hidden as in LXD: the databases are not an interface to build on.
		Hidden: true,
		Use:    "sql <local|global> <query>", Short: i18n.G("Run SQL on a database of the daemon"),
		Long: i18n.G(`Run SQL on a database of the daemon.

"local" is what this member keeps for itself, "global" what all members of a
cluster share; a server that stands alone has both. Several statements may be
parted by semicolons. The daemon refuses what would damage the database.

Special queries:
  -         read the query from standard input
  .dump     write the database out as SQL
  .schema   the same without rows
  .sync     write the global database to files that sqlite3 can read`),
		Example: `  lxd sql global "SELECT name FROM instances"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errs.Invalid(i18n.G("Missing required arguments: a database (local or global) and a query"))
			}
			if args[0] != "local" && args[0] != "global" {
				return errs.Invalid(i18n.G("Invalid database type %q; use local or global"), args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return e.sql(cmd.Context(), args[0], args[1]) },
	}
}

// sqlResult is what one statement gave.
type sqlResult struct {
	Type         string   `json:"type"`
	Columns      []string `json:"columns"`
	Rows         [][]any  `json:"rows"`
	RowsAffected int64    `json:"rows_affected"`
}

func (e *env) sql(ctx context.Context, database, query string) error {
	if query == "-" {
		b, err := io.ReadAll(e.in)
		if err != nil {
			return fmt.Errorf(i18n.G("read the query from standard input: %w"), err)
		}
		query = string(b)
	}
	c, err := e.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Disconnect()
	if query == ".dump" || query == ".schema" {
		q := url.Values{"database": {database}}
		if query == ".schema" {
			q.Set("schema", "1")
		}
		r, _, err := c.RawQuery(http.MethodGet, "/internal/sql?"+q.Encode(), nil, "")
		if err != nil {
			return err
		}
		var dump struct{ Text string }
		if err := json.Unmarshal(r.Metadata, &dump); err != nil {
			return err
		}
		_, err = io.WriteString(e.out, dump.Text)
		return err
	}
	r, _, err := c.RawQuery(http.MethodPost, "/internal/sql", map[string]string{"database": database, "query": query}, "")
	if err != nil {
		return err
	}
	var all struct{ Results []sqlResult }
	// Numbers stay as they were written; as floats long ones would lose digits.
	d := json.NewDecoder(bytes.NewReader(r.Metadata))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return err
	}
	_, err = io.WriteString(e.out, sqlText(all.Results))
	return err
}

func sqlText(all []sqlResult) string {
	var b strings.Builder
	for i, r := range all {
		if len(all) > 1 {
			fmt.Fprintf(&b, "=> Query %d:\n\n", i)
		}
		if r.Type == "select" {
			sqlTable(&b, r)
		} else {
			fmt.Fprintf(&b, "Rows affected: %d\n", r.RowsAffected)
		}
		if len(all) > 1 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// sqlTable draws a table; a cell of several lines makes its row higher.
func sqlTable(b *strings.Builder, r sqlResult) {
	widths := make([]int, len(r.Columns))
	grow := func(i int, s string) {
		if n := len([]rune(s)); n > widths[i] {
			widths[i] = n
		}
	}
	for i, c := range r.Columns {
		grow(i, c)
	}
	rows := make([][][]string, len(r.Rows))
	for n, row := range r.Rows {
		rows[n] = make([][]string, len(r.Columns))
		for i := range r.Columns {
			if i >= len(row) {
				continue
			}
			rows[n][i] = strings.Split(strings.TrimSuffix(fmt.Sprint(row[i]), "\n"), "\n")
			for _, l := range rows[n][i] {
				grow(i, l)
			}
		}
	}
	rule := func() {
		for _, w := range widths {
			b.WriteString("+" + strings.Repeat("-", w+2))
		}
		b.WriteString("+\n")
	}
	cell := func(i int, before int, s string) {
		after := widths[i] - len([]rune(s)) - before
		b.WriteString("| " + strings.Repeat(" ", before) + s + strings.Repeat(" ", after) + " ")
	}
	rule()
	for i, c := range r.Columns {
		cell(i, (widths[i]-len([]rune(c)))/2, c)
	}
	b.WriteString("|\n")
	rule()
	for _, row := range rows {
		high := 1
		for _, c := range row {
			high = max(high, len(c))
		}
		for l := range high {
			for i, c := range row {
				s := ""
				if l < len(c) {
					s = c[l]
				}
				cell(i, 0, s)
			}
			b.WriteString("|\n")
		}
	}
	rule()
}
