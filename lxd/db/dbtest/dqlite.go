package dbtest

import (
	"context"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/lxd/db/migrations"
	"sett/lxd/dqlite"
)

// Dqlite returns a database like Open's, but on a real node. It costs some 60 ms:
// for the tests that are about dqlite itself.
func Dqlite(t testing.TB) *db.DB {
	t.Helper()
	n, err := dqlite.Start(dqlite.Options{Dir: t.TempDir(), Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close the test node: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := n.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	steps, err := migrations.Global()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Apply(ctx, n.DB(), steps, "dbtest"); err != nil {
		t.Fatal(err)
	}
	return db.Open(n.DB(), db.Options{Member: func() int64 { return 1 }, Log: Log(t)})
}

// Both runs a test on plain SQLite and on a real node.
func Both(t *testing.T, f func(t *testing.T, d *db.DB)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, Open(t)) })
	t.Run("dqlite", func(t *testing.T) { t.Parallel(); f(t, Dqlite(t)) })
}
