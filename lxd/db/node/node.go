package node

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/mattn/go-sqlite3"

	"sett/lxd/db"
	"sett/lxd/db/migrations"
	"sett/lxd/dqlite"
	"sett/shared/errs"
)

//go:embed local/*.sql
var files embed.FS

// Steps are the steps of the local database's schema.
func Steps() ([]migrations.Step, error) { return migrations.Load(files, "local") }

// FileName is the local database's name in the folder "database".
const FileName = "local.db"

// appID stands in the header of our files ("SETT"). It is how they are told from
// LXD's without opening them.
const appID = 0x53455454

// DB is the open local database.
type DB struct{ *db.DB }

// Open opens the local database in dir (LXD_DIR/database) and brings its schema up to
// date; by is the version of this program. A new file appears whole or not at all.
// Call Inspect before.
func Open(ctx context.Context, dir, by string, log *slog.Logger) (*DB, error) {
	path := filepath.Join(dir, FileName)
	if fi, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && fi.Size() == 0 {
		if err := create(ctx, path, by, nil); err != nil {
			return nil, fmt.Errorf("make the local database: %w", err)
		}
	}
	pool, err := openSound(ctx, path)
	if damaged(err) {
		if err := mend(ctx, path, by, log, err); err != nil {
			return nil, err
		}
		pool, err = openSound(ctx, path)
	}
	var sq sqlite3.Error
	if errors.As(err, &sq) && sq.SystemErrno == syscall.ENOSPC {
		return nil, errs.Unavailable("The file system of %s is full; free some space and start again: %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the local database: %w", err)
	}
	if err := migrate(ctx, pool, by); err != nil {
		return nil, errors.Join(fmt.Errorf("open the local database: %w", err), pool.Close())
	}
	return &DB{db.Open(pool, db.Options{Log: log})}, nil
}

// openSound opens a file in which nothing is damaged.
func openSound(ctx context.Context, path string) (*sql.DB, error) {
	pool, err := open(path, "_synchronous=normal&_foreign_keys=on")
	if err != nil {
		return nil, err
	}
	// The driver would set the journal before the lock.
	_, err = pool.ExecContext(ctx, "PRAGMA journal_mode = wal")
	if err == nil {
		err = sound(ctx, pool)
	}
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return pool, nil
}

// open opens a file over one connection, which keeps its lock: so SQLite needs no memory
// that it shares with others, in a file that is mapped. Where a file system is full that
// copies what is written, such as btrfs, the process that touches such memory is killed.
func open(path, params string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: params + "&_locking_mode=exclusive"}
	pool, err := sql.Open("sqlite3", u.String())
	if err == nil {
		pool.SetMaxOpenConns(1)
	}
	return pool, err
}

func migrate(ctx context.Context, pool *sql.DB, by string) error {
	steps, err := Steps()
	if err != nil {
		return err
	}
	_, err = migrations.Apply(ctx, pool, steps, by)
	return err
}

// create makes the file beside its place and moves it there. fill, which may be nil, is
// the last that is done before that.
func create(ctx context.Context, path, by string, fill func(*sql.DB) error) (err error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	pool, err := open(tmp, "_journal_mode=memory&_synchronous=off&_foreign_keys=on")
	if err != nil {
		return err
	}
	_, err = pool.ExecContext(ctx, "PRAGMA application_id = "+strconv.Itoa(appID))
	if err == nil {
		err = migrate(ctx, pool, by)
	}
	if err == nil && fill != nil {
		err = fill(pool)
	}
	if err := errors.Join(err, pool.Close()); err != nil {
		return err
	}
	return replace(tmp, path)
}

// replace moves a file that was written to its place, for good.
func replace(tmp, path string) error {
	f, err := os.Open(tmp)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

const (
	stmtConfig    db.Stmt = `SELECT key, value FROM config`
	stmtSetConfig db.Stmt = `INSERT INTO config (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`
	stmtDelConfig db.Stmt = `DELETE FROM config WHERE key = ?`
	stmtPatches   db.Stmt = `SELECT name FROM patches ORDER BY id`
	stmtAddPatch  db.Stmt = `INSERT INTO patches (name, applied_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`
	stmtNodes     db.Stmt = `SELECT id, address, role FROM raft_nodes ORDER BY id`
	stmtDelNodes  db.Stmt = `DELETE FROM raft_nodes WHERE id NOT IN (SELECT value FROM json_each(?))`
	stmtPutNode   db.Stmt = `INSERT INTO raft_nodes (id, address, role) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET address = excluded.address, role = excluded.role`
	stmtNote      db.Stmt = `SELECT value FROM sett WHERE key = ?`
	stmtDelNote   db.Stmt = `DELETE FROM sett WHERE key = ?`
	stmtSetNote   db.Stmt = `INSERT INTO sett (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`
)

// Config returns the member's own configuration.
func (d *DB) Config(ctx context.Context) (map[string]string, error) {
	type row struct{ Key, Value string }
	rows, err := db.Select[row](ctx, d.DB, stmtConfig)
	if err != nil {
		return nil, fmt.Errorf("load the member's configuration: %w", err)
	}
	out := map[string]string{}
	for _, r := range rows {
		out[r.Key] = r.Value
	}
	return out, nil
}

// SetConfig changes keys of the member's configuration; an empty value removes one.
func (d *DB) SetConfig(ctx context.Context, changes map[string]string) error {
	return d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		for k, v := range changes {
			var err error
			if v == "" {
				_, err = db.Exec(ctx, tx, stmtDelConfig, k)
			} else {
				_, err = db.Exec(ctx, tx, stmtSetConfig, k, v)
			}
			if err != nil {
				return fmt.Errorf("store the member's configuration: %w", err)
			}
		}
		return nil
	})
}

// Patches lists the patches that were applied to this member, first to last.
func (d *DB) Patches(ctx context.Context) ([]string, error) {
	return db.Select[string](ctx, d.DB, stmtPatches)
}

// AddPatch notes that a patch was applied.
func (d *DB) AddPatch(ctx context.Context, name string) error {
	return d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtAddPatch, name, time.Now())
		return err
	})
}

// Note returns a note of this program's; empty when there is none.
func (d *DB) Note(ctx context.Context, key string) (string, error) {
	has, err := db.Select[string](ctx, d.DB, stmtNote, key)
	if err != nil || len(has) == 0 {
		return "", err
	}
	return has[0], nil
}

// SetNote keeps a note of this program's; an empty one is dropped.
func (d *DB) SetNote(ctx context.Context, key, value string) error {
	return d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		if value == "" {
			_, err = db.Exec(ctx, tx, stmtDelNote, key)
		} else {
			_, err = db.Exec(ctx, tx, stmtSetNote, key, value)
		}
		return err
	})
}

const noteGlobalSchema = "global_schema"

// SetGlobalSchema notes the version of the shared database's schema.
func (d *DB) SetGlobalSchema(ctx context.Context, version int) error {
	has, err := db.Select[string](ctx, d.DB, stmtNote, noteGlobalSchema)
	if err != nil || len(has) == 1 && has[0] == strconv.Itoa(version) {
		return err
	}
	return d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtSetNote, noteGlobalSchema, strconv.Itoa(version))
		return err
	})
}

// Members is the table raft_nodes as the shared database's node wants it.
func (d *DB) Members() dqlite.Store { return members{d} }

type members struct{ d *DB }

// Get implements dqlite.Store.
func (m members) Get(ctx context.Context) ([]dqlite.Member, error) {
	type row struct {
		ID      int64 // raft's are unsigned; SQLite keeps the bits
		Address string
		Role    int
	}
	rows, err := db.Select[row](ctx, m.d.DB, stmtNodes)
	if err != nil {
		return nil, err
	}
	out := make([]dqlite.Member, len(rows))
	for i, r := range rows {
		out[i] = dqlite.Member{ID: uint64(r.ID), Address: r.Address, Role: dqlite.Role(r.Role)}
	}
	return out, nil
}

// Set implements dqlite.Store. Names that the daemon gave to members stay.
func (m members) Set(ctx context.Context, all []dqlite.Member) error {
	ids := make([]int64, len(all))
	for i, n := range all {
		ids[i] = int64(n.ID)
	}
	return m.d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.Exec(ctx, tx, stmtDelNodes, db.JSON(ids)); err != nil {
			return err
		}
		for _, n := range all {
			if _, err := db.Exec(ctx, tx, stmtPutNode, int64(n.ID), n.Address, int(n.Role)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Backup writes a copy of the database to path.
func (d *DB) Backup(ctx context.Context, path string) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("back up the local database: %w", err)
	}
	// Plain SQLite, so what the rules for the shared database forbid is fine here.
	if _, err := d.Pool().ExecContext(ctx, "VACUUM INTO ?", tmp); err != nil {
		return fmt.Errorf("back up the local database: %w", err)
	}
	if err := errors.Join(os.Chmod(tmp, 0o600), replace(tmp, path)); err != nil {
		return fmt.Errorf("back up the local database: %w", err)
	}
	return nil
}
