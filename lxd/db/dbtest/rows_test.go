package dbtest

import (
	"context"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/shared/errs"
)

// TestRowsOfOneParameterAreAsIfWrittenOneByOne, to the last bit of their times.
func TestRowsOfOneParameterAreAsIfWrittenOneByOne(t *testing.T) {
	t.Parallel()
	const one db.Stmt = `INSERT INTO rows (at, name, n) VALUES (?, ?, ?)`
	const all db.Stmt = `INSERT INTO rows (at, name, n)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?)`
	Both(t, func(t *testing.T, d *db.DB) {
		if _, err := d.Run(t.Context(), `CREATE TABLE rows (id INTEGER PRIMARY KEY, at DATETIME, name TEXT, n INTEGER)`); err != nil {
			t.Fatal(err)
		}
		var rows [][]any
		for k, zone := range []*time.Location{time.UTC, time.FixedZone("east", 3600)} {
			for _, ns := range []int{0, 123456789, 120000000} {
				rows = append(rows, []any{time.Date(2030, 1, 2, 3, 4, 5, ns, zone), `"a" 'b'` + zone.String(), k})
			}
		}
		rows = append(rows, []any{nil, "", -1})
		text, err := db.JSONRows(rows)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			for _, r := range rows {
				if _, err := db.Exec(ctx, tx, one, append([]any(nil), r...)...); err != nil {
					return err
				}
			}
			_, err := db.Exec(ctx, tx, all, text)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		type row struct {
			Text string `db:"text"`
		}
		got, err := db.Select[row](t.Context(), d,
			`SELECT IFNULL(CAST(at AS TEXT), '-') || typeof(at) || name || typeof(name) || n || typeof(n) AS text FROM rows ORDER BY id`)
		if err != nil || len(got) != 2*len(rows) {
			t.Fatalf("%v, %v", got, err)
		}
		for k := range rows {
			if a, b := got[k].Text, got[len(rows)+k].Text; a != b {
				t.Errorf("%s became %s", a, b)
			}
		}
	})
	for what, r := range map[string][]any{"a NUL": {"a\x00b"}, "five digits": {time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		if _, err := db.JSONRows([][]any{r}); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
