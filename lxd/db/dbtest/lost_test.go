package dbtest

import (
	"context"
	"database/sql/driver"
	"path/filepath"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/shared/errs"
)

// openFlaky opens SQLite behind a connection that breaks: when breaks says so, a statement
// loses its connection before or after it took effect.
func openFlaky(t *testing.T, o db.Options, breaks func(string) (before, after bool)) *db.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	fresh := At(t, path, nil, nil)
	if err := fresh.Close(); err != nil {
		t.Fatal(err)
	}
	broken := false // by the statement that runs; these tests have one at a time
	pool := Watched(path, func(q string) error {
		var before bool
		if before, broken = breaks(q); before {
			return driver.ErrBadConn
		}
		return nil
	}, func(string) error {
		if broken {
			return driver.ErrBadConn
		}
		return nil
	})
	t.Cleanup(func() { _ = pool.Close() })
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

// TestLostCommitIsKnownAlsoWhereThereIsNoRoom: what was committed is not said to be refused.
func TestLostCommitIsKnownAlsoWhereThereIsNoRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		before, after bool
		rows          int
	}{
		{"lost on the way", true, false, 0},
		{"answer lost", false, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			isFull := false
			full := func() error {
				if isFull {
					return errs.Unavailable("no room")
				}
				return nil
			}
			d := openFlaky(t, db.Options{Member: func() int64 { return 1 }, Full: full}, func(q string) (bool, bool) {
				if q == "COMMIT" && !isFull {
					isFull = true
					return c.before, c.after
				}
				return false, false
			})
			runs, hooks := 0, 0
			put := func() error {
				return d.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
					runs++
					tx.AfterCommit(func() { hooks++ })
					_, err := db.Exec(ctx, tx, `INSERT INTO config (key, value) VALUES ('once', '1')`)
					return err
				})
			}
			err := put()
			if runs != 1 || hooks != c.rows || (err == nil) != (c.rows == 1) || err != nil && err.Error() != "no room" {
				t.Errorf("runs %d, hooks %d, %v", runs, hooks, err)
			}
			if n, err := db.One[int](t.Context(), d, `SELECT count(*) FROM config`); err != nil || n != c.rows {
				t.Errorf("%d rows, %v", n, err)
			}
			if err := put(); err == nil || runs != 1 {
				t.Errorf("the next one: runs %d, %v", runs, err)
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
