package dbtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"

	"sett/lxd/db"
	"sett/lxd/db/migrations"
	"sett/shared/errs"
)

// flaky is SQLite behind a connection that breaks: when breaks says so, a statement
// loses its connection before or after it took effect.
type flaky struct {
	sqlite3.SQLiteDriver
	dsn    string
	breaks func(query string) (before, after bool)
}

func (f *flaky) Driver() driver.Driver { return f }

func (f *flaky) Connect(context.Context) (driver.Conn, error) {
	c, err := f.SQLiteDriver.Open(f.dsn)
	if err != nil {
		return nil, err
	}
	return &flakyConn{c.(*sqlite3.SQLiteConn), f}, nil
}

type flakyConn struct {
	*sqlite3.SQLiteConn
	f *flaky
}

func (c *flakyConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	before, after := c.f.breaks(q)
	if before {
		return nil, driver.ErrBadConn
	}
	res, err := c.SQLiteConn.ExecContext(ctx, q, args)
	if after && err == nil {
		return nil, driver.ErrBadConn
	}
	return res, err
}

func openFlaky(t *testing.T, o db.Options, breaks func(string) (bool, bool)) *db.DB {
	t.Helper()
	f := &flaky{dsn: "file:" + filepath.Join(t.TempDir(), "db") + dsn, breaks: func(string) (bool, bool) { return false, false }}
	pool := sql.OpenDB(f)
	t.Cleanup(func() { _ = pool.Close() })
	steps, err := migrations.Global()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Apply(t.Context(), pool, steps, "test"); err != nil {
		t.Fatal(err)
	}
	f.breaks = breaks
	return db.Open(pool, o)
}

func TestLostCommitIsNeitherLostNorDoneTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		before, after bool
		runs          int
	}{
		{"lost on the way", true, false, 2},
		{"answer lost", false, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			broken := 0
			d := openFlaky(t, db.Options{Member: func() int64 { return 1 }}, func(q string) (bool, bool) {
				if q == "COMMIT" {
					if broken++; broken == 1 {
						return c.before, c.after
					}
				}
				return false, false
			})
			runs, hooks := 0, 0
			err := d.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				runs++
				tx.AfterCommit(func() { hooks++ })
				// Not idempotent by itself: the second time it would be a duplicate.
				_, err := db.Exec(ctx, tx, `INSERT INTO config (key, value) VALUES ('once', '1')`)
				return err
			})
			if err != nil || runs != c.runs || hooks != 1 {
				t.Fatalf("runs %d, hooks %d, %v", runs, hooks, err)
			}
			n, err := db.One[int](t.Context(), d, `SELECT count(*) FROM config`)
			if err != nil || n != 1 {
				t.Fatalf("%d rows, %v", n, err)
			}
		})
	}
}

func TestBrokenConnectionsAreRepeatedUntilTheDeadline(t *testing.T) {
	t.Parallel()
	fail := 5
	d := openFlaky(t, db.Options{Timeout: time.Minute}, func(q string) (bool, bool) {
		if q == "BEGIN IMMEDIATE" && fail > 0 {
			fail--
			return true, false
		}
		return false, false
	})
	put := func(ctx context.Context) error {
		return d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, stmtPut, "a", "b")
			return err
		})
	}
	if err := put(t.Context()); err != nil || fail != 0 {
		t.Fatalf("%d left, %v", fail, err)
	}
	fail = 1 << 30
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := put(ctx); !errs.Is(err, errs.KindUnavailable) {
		t.Fatalf("%v", err)
	}
}
