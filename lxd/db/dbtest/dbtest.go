package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	_ "github.com/mattn/go-sqlite3" // the "sqlite3" driver

	"sett/lxd/db"
	"sett/lxd/db/migrations"
)

// dsn opens a file as the daemon's databases behave: WAL, foreign keys on. It is
// never synced, for no test survives a power cut.
const dsn = "?_foreign_keys=on&_journal_mode=wal&_synchronous=off&_busy_timeout=5000"

// template makes the fresh schema once per test binary; each test gets a copy.
var template = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "dbtest-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "db")
	pool, err := sql.Open("sqlite3", "file:"+path+"?_foreign_keys=on&_synchronous=off")
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	steps, err := migrations.Global()
	if err != nil {
		return nil, err
	}
	if _, err := migrations.Apply(context.Background(), pool, steps, "dbtest"); err != nil {
		return nil, err
	}
	if err := pool.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// Open returns a database of its own for t: plain SQLite with the fresh schema, one
// member (id 1), the default project (id 1) and its default profile (id 1).
func Open(t testing.TB) *db.DB {
	t.Helper()
	data, err := template()
	if err != nil {
		t.Fatalf("make the fresh schema: %v", err)
	}
	return open(t, data)
}

// Empty returns a database without any table.
func Empty(t testing.TB) *db.DB {
	t.Helper()
	return open(t, nil)
}

func open(t testing.TB, data []byte) *db.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	pool, err := sql.Open("sqlite3", "file:"+path+dsn)
	if err != nil {
		t.Fatal(err)
	}
	d := db.Open(pool, db.Options{Member: func() int64 { return 1 }, Log: Log(t)})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close the test database: %v", err)
		}
	})
	return d
}

// At opens the database in a file, which the caller closes. Where there is none it is made,
// with the fresh schema. before and after, which may be nil, are told of what is executed;
// an error of before keeps it from that.
func At(t testing.TB, path string, before, after func(query string) error) *db.DB {
	t.Helper()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		data, err := template()
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatalf("make the fresh schema: %v", err)
		}
	}
	return db.Open(Watched(path, before, after), db.Options{})
}

// Exec changes the database behind the back of the code under test, for what a
// slice needs and another owns.
func Exec(t testing.TB, d *db.DB, s db.Stmt, args ...any) {
	t.Helper()
	err := d.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, s, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
}

// Log returns a logger that writes into the test's output.
func Log(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimRight(p, "\n")))
	return len(p), nil
}
