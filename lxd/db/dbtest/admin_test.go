package dbtest

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/db"
	"sett/shared/errs"
)

func TestAdministratorsSQL(t *testing.T) {
	t.Parallel()
	Both(t, func(t *testing.T, d *db.DB) {
		got, err := d.Run(t.Context(), `PRAGMA foreign_keys=ON; INSERT INTO config (key, value) VALUES ('a;b', 'it''s'), ('c', NULL);
			SELECT key, value FROM config ORDER BY key; -- over; and out`)
		if err != nil {
			t.Fatal(err)
		}
		want := `[{exec [] [] 0} {exec [] [] 2} {select [key value] [[a;b it's] [c <nil>]] 0}]`
		if fmt.Sprint(got) != want {
			t.Errorf("%v", got)
		}
		_, err = d.Run(t.Context(), `DELETE FROM config; SELECT * FROM nowhere`)
		if !errs.Is(err, errs.KindInvalid) {
			t.Errorf("%v", err)
		}
		_, err = d.Run(t.Context(), `DELETE FROM config; DELETE FROM config RETURNING *`)
		if !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "RETURNING") {
			t.Errorf("%v", err)
		}
		for _, bad := range []string{"", " ; -- nothing", "PRAGMA foreign_keys=OFF", "BEGIN; DELETE FROM config; COMMIT", ".tables"} {
			if _, err := d.Run(t.Context(), bad); !errs.Is(err, errs.KindInvalid) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		got, err = d.Run(t.Context(), `SELECT count(*) FROM config`)
		if err != nil || fmt.Sprint(got[0].Rows) != "[[2]]" {
			t.Errorf("a failed call changed something: %v %v", got, err)
		}
		got, err = d.Run(t.Context(), `SELECT 1 WHERE 0`)
		if err != nil || got[0].Rows == nil || len(got[0].Rows) != 0 {
			t.Errorf("%v %v", got, err)
		}
		trigger := `CREATE TRIGGER tr AFTER INSERT ON config BEGIN UPDATE config SET value = CASE key WHEN 'x' THEN 1 ELSE 2 END WHERE key = new.key; SELECT 1; END`
		if _, err := d.Run(t.Context(), trigger+`; INSERT INTO config (key) VALUES ('x')`); err != nil {
			t.Error(err)
		}
		got, err = d.Run(t.Context(), `SELECT value FROM config WHERE key = 'x'`)
		if err != nil || fmt.Sprint(got[0].Rows) != "[[1]]" {
			t.Errorf("%v %v", got, err)
		}
	})
}

func TestDumpMakesTheSameDatabase(t *testing.T) {
	t.Parallel()
	Both(t, func(t *testing.T, d *db.DB) {
		Exec(t, d, `INSERT INTO config (key, value) VALUES ('a', 'two
lines; it''s'), ('b', NULL)`)
		Exec(t, d, stmtAdd, "m2", "x", "2020-01-01 00:00:00")
		text, err := d.Dump(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		pool, err := sql.Open("sqlite3", "file:"+filepath.Join(t.TempDir(), "copy"))
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		if _, err := pool.Exec(text); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		again, err := db.Open(pool, db.Options{}).Dump(t.Context(), false)
		if err != nil || again != text {
			t.Errorf("the copy differs: %v\n%s\n---\n%s", err, text, again)
		}
		schema, err := d.Dump(t.Context(), true)
		if err != nil || strings.Contains(schema, "INSERT INTO") || !strings.Contains(schema, "CREATE TABLE instances (") {
			t.Errorf("%v\n%s", err, schema)
		}
	})
}
