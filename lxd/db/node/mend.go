package node

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattn/go-sqlite3"

	"sett/lxd/db/migrations"
	"sett/shared/errs"
)

// Disks and file systems damage files. Most of local.db is the history of operations,
// which a server can do without; what it cannot do without fills a few pages. So a
// damaged file is replaced by a new one with what is whole of those, and kept beside it.
// Where they are not whole, the server does not start: a member that has forgotten who it
// is would begin a database of its own.

// keptName is what a damaged file is called from then on.
const keptName = FileName + ".damaged"

// damaged tells that SQLite cannot make sense of the file.
func damaged(err error) bool {
	var e sqlite3.Error
	if errors.As(err, &e) {
		return e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB
	}
	var u *unsound
	return errors.As(err, &u)
}

// unsound is what SQLite found wrong with a file.
type unsound struct{ what string }

func (u *unsound) Error() string { return u.what }

// sound reads the whole file, which is small, and compares the tables that are needed
// with their indexes.
func sound(ctx context.Context, pool *sql.DB) error {
	if err := check(ctx, pool, "quick_check(1)"); err != nil {
		return err
	}
	for _, n := range needed {
		if err := check(ctx, pool, "integrity_check("+n.table+")"); err != nil {
			return fmt.Errorf("table %s: %w", n.table, err)
		}
	}
	return nil
}

func check(ctx context.Context, pool *sql.DB, pragma string) error {
	var what string
	if err := pool.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&what); err != nil {
		return err
	}
	if what != "ok" {
		return &unsound{strings.ReplaceAll(strings.TrimPrefix(what, "*** in database main ***\n"), "\n", "; ")}
	}
	return nil
}

// mend replaces a damaged file.
func mend(ctx context.Context, path, by string, log *slog.Logger, cause error) error {
	kept := filepath.Join(filepath.Dir(path), keptName)
	rows, err := rescue(ctx, path)
	if err != nil {
		return errs.Internal("The local database %s is damaged (%v; of what is needed, %w), and was left as it is, like all else in %s. Put a backup of the file in its place. On a member of a cluster without a backup, remove this member by force from another one, and let it join again with an empty LXD_DIR",
			path, cause, err, filepath.Dir(path))
	}
	err = create(ctx, path, by, func(pool *sql.DB) error {
		for _, r := range rows {
			if _, err := pool.ExecContext(ctx, r.insert, r.values...); err != nil {
				return err
			}
		}
		return setAside(path, kept)
	})
	if err != nil {
		return fmt.Errorf("mend the damaged local database %s: %w", path, err)
	}
	log.Error("The local database was damaged. All that this server needs of it is in a new one; the history of operations is lost", "file", path, "damaged", kept, "damage", cause)
	return nil
}

// setAside gives a damaged file a second name, under which it stays when its place is
// taken. Its log must not stay for the file that comes.
func setAside(path, kept string) error {
	for _, ext := range []string{"", "-wal"} {
		if err := os.Remove(kept + ext); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Link(path, kept); err != nil {
		return err
	}
	if err := os.Rename(path+"-wal", kept+"-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(path + "-shm"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// row is a row of a table without which a server cannot be what it was.
type row struct {
	insert string
	values []any
}

// needed is how those tables are read, by no index, and written again.
var needed = []struct {
	table, read, insert string
	columns             int
}{
	{"config", `SELECT key, value FROM config NOT INDEXED`, `INSERT INTO config (key, value) VALUES (?, ?)`, 2},
	{"patches", `SELECT name, applied_at FROM patches NOT INDEXED ORDER BY id`, `INSERT INTO patches (name, applied_at) VALUES (?, ?)`, 2},
	{"raft_nodes", `SELECT id, address, role, name FROM raft_nodes NOT INDEXED`, `INSERT INTO raft_nodes (id, address, role, name) VALUES (?, ?, ?, ?)`, 4},
	{"sett", `SELECT key, value FROM sett NOT INDEXED`, `INSERT INTO sett (key, value) VALUES (?, ?)`, 2},
}

// rescue reads what must not be lost, all of it or nothing.
func rescue(ctx context.Context, path string) ([]row, error) {
	pool, err := open(path, "")
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	steps, err := Steps()
	if err != nil {
		return nil, err
	}
	has, err := migrations.Version(ctx, pool)
	if err != nil {
		return nil, err
	}
	if has != len(steps) {
		return nil, fmt.Errorf("it has schema version %d, and only %d can be mended", has, len(steps))
	}
	var out []row
	for _, n := range needed {
		if err := check(ctx, pool, "integrity_check("+n.table+")"); err != nil {
			return nil, fmt.Errorf("table %s: %w", n.table, err)
		}
		rows, err := readAll(ctx, pool, n.read, n.columns)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", n.table, err)
		}
		for _, values := range rows {
			out = append(out, row{n.insert, values})
		}
	}
	return out, nil
}

func readAll(ctx context.Context, pool *sql.DB, query string, columns int) ([][]any, error) {
	rows, err := pool.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out [][]any
	for rows.Next() {
		values, to := make([]any, columns), make([]any, columns)
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		out = append(out, values)
	}
	return out, rows.Err()
}
