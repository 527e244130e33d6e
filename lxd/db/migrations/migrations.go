package migrations

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"sett/shared/errs"
)

//go:embed global/*.sql
var global embed.FS

// Step is one change of the schema.
type Step struct {
	Version int
	Name    string
	SQL     string
}

// Global returns the steps of the database that all members share.
func Global() ([]Step, error) { return Load(global, "global") }

// Load reads the steps in a folder of files.
func Load(files fs.FS, dir string) ([]Step, error) {
	entries, err := fs.ReadDir(files, dir)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, e := range entries {
		num, name, ok := strings.Cut(strings.TrimSuffix(e.Name(), ".sql"), "_")
		v, err := strconv.Atoi(num)
		if !ok || err != nil {
			return nil, errs.Internal("migration %s is not named NNNN_name.sql", e.Name())
		}
		text, err := fs.ReadFile(files, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		steps = append(steps, Step{Version: v, Name: name, SQL: string(text)})
	}
	slices.SortFunc(steps, func(a, b Step) int { return a.Version - b.Version })
	for i, s := range steps {
		if s.Version != i+1 {
			return nil, errs.Internal("migration %d is missing", i+1)
		}
	}
	return steps, nil
}

const createSchema = `CREATE TABLE IF NOT EXISTS schema (
    version    INTEGER PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL,
    applied_at DATETIME NOT NULL,
    applied_by TEXT NOT NULL
)`

// Apply brings a database to the last step. by tells who does it (the version of
// this program). It returns the version that the database had before. A newer
// database is refused with ErrNewer before anything is written.
func Apply(ctx context.Context, pool *sql.DB, steps []Step, by string) (from int, err error) {
	return applyTo(ctx, pool, steps, by, len(steps))
}

// ApplyShared is Apply for a database that members of this version, the one before
// and the next may have open at once. Steps only add to the schema until no member
// can be left that knows no better, so one step more than is known does no harm.
func ApplyShared(ctx context.Context, pool *sql.DB, steps []Step, by string) (from int, err error) {
	return applyTo(ctx, pool, steps, by, len(steps)+1)
}

func applyTo(ctx context.Context, pool *sql.DB, steps []Step, by string, newest int) (from int, err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	from, err = Version(ctx, conn)
	if err != nil {
		return 0, err
	}
	if from > newest {
		return from, &ErrNewer{Has: from, Known: len(steps)}
	}
	if from > len(steps) {
		return from, nil
	}
	for _, s := range steps[from:] {
		if err := insist(ctx, func() error { return apply(ctx, conn, s, by) }); err != nil {
			return from, fmt.Errorf("database schema step %d (%s): %w", s.Version, s.Name, err)
		}
	}
	return from, nil
}

// insist repeats f while the database is busy: with a checkpoint after the step
// before, or with a step that another member takes.
func insist(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil || !strings.Contains(err.Error(), "database is locked") && !strings.Contains(err.Error(), "checkpoint in progress") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func apply(ctx context.Context, conn *sql.Conn, s Step, by string) (err error) {
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	if s.Version == 1 {
		if _, err := conn.ExecContext(ctx, createSchema); err != nil {
			return err
		}
	}
	// Another member may have been faster since we looked.
	has, err := Version(ctx, conn)
	if err != nil {
		return err
	}
	if has < s.Version {
		if _, err := conn.ExecContext(ctx, s.SQL); err != nil {
			return err
		}
		_, err = conn.ExecContext(ctx, `INSERT INTO schema (version, name, applied_at, applied_by) VALUES (?, ?, ?, ?)`,
			s.Version, s.Name, time.Now().UTC(), by)
		if err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(ctx, "COMMIT")
	return err
}

// Querier is what Version reads with: a pool or a connection.
type Querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Version returns the last step that a database has taken; 0 when it is empty.
func Version(ctx context.Context, q Querier) (int, error) {
	var n int
	if err := q.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema'`).Scan(&n); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, nil
	}
	var v sql.NullInt64
	err := q.QueryRowContext(ctx, `SELECT max(version) FROM schema`).Scan(&v)
	return int(v.Int64), err
}

// ErrNewer refuses a database that a newer version of this program has written.
type ErrNewer struct{ Has, Known int }

func (e *ErrNewer) Error() string {
	return fmt.Sprintf("The database has schema version %d, but this version knows only up to %d; it was left as it is. Install the version that wrote it, or a newer one", e.Has, e.Known)
}
