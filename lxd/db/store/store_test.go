package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/lxd/db/migrations"
	"sett/lxd/db/node"
	"sett/lxd/dqlite"
)

const (
	stmtSet db.Stmt = `INSERT INTO config (key, value) VALUES (?, ?)`
	stmtGet db.Stmt = `SELECT value FROM config WHERE key = ?`
)

func open(t *testing.T, dir string) (*Store, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return Open(ctx, Options{Dir: dir, Version: "test"})
}

func mustOpen(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := open(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func set(t *testing.T, d *db.DB, key, value string) {
	t.Helper()
	err := d.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtSet, key, value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, d *db.DB, key string) string {
	t.Helper()
	v, err := db.Select[string](t.Context(), d, stmtGet, key)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(v, ",")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// print is a fingerprint of all that is in a directory.
func print(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(h, path, d.Type())
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			h.Write(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestDatabasesComeBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if _, err := open(t, dir); err == nil || !strings.Contains(err.Error(), "Another daemon runs on") {
		t.Errorf("second daemon: %v", err)
	}
	set(t, s.Global, "a", "global")
	if err := s.Local.SetConfig(t.Context(), map[string]string{"a": "local", "gone": "x"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Local.SetConfig(t.Context(), map[string]string{"gone": ""}); err != nil {
		t.Fatal(err)
	}
	if err := s.Local.AddPatch(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	s.SetMember(1)
	set(t, s.Global, "b", "marked")
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "database/global/db.bin")); err != nil || fi.Size() == 0 {
		t.Errorf("sync: %v", err)
	}
	mustClose(t, s)
	s = mustOpen(t, dir)
	defer mustClose(t, s)
	cfg, err := s.Local.Config(t.Context())
	if err != nil || len(cfg) != 1 || cfg["a"] != "local" {
		t.Errorf("%v %v", cfg, err)
	}
	if p, err := s.Local.Patches(t.Context()); err != nil || len(p) != 1 {
		t.Errorf("%v %v", p, err)
	}
	if get(t, s.Global, "a") != "global" || get(t, s.Global, "b") != "marked" {
		t.Error("global config is gone")
	}
}

func TestMembersKeepRaftsIDs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := node.Open(t.Context(), dir, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := l.Members()
	all, err := m.Get(t.Context())
	if err != nil || len(all) != 0 {
		t.Fatalf("%v %v", all, err)
	}
	all = []dqlite.Member{{ID: 1, Address: "a"}, {ID: 1<<63 + 7, Address: "b", Role: 2}}
	if err := m.Set(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if err := m.Set(t.Context(), all[1:]); err != nil {
		t.Fatal(err)
	}
	got, err := m.Get(t.Context())
	if err != nil || len(got) != 1 || got[0] != all[1] {
		t.Errorf("%v %v", got, err)
	}
}

func TestForeignDirectoriesAreRefusedUntouched(t *testing.T) {
	t.Parallel()
	sqlite := func(t *testing.T, path string) {
		// The header of a file that LXD's SQLite wrote: no application id.
		head := make([]byte, 4096)
		copy(head, "SQLite format 3\x00")
		write(t, path, string(head))
	}
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string)
		want string
	}{
		"LXD": {func(t *testing.T, dir string) {
			sqlite(t, filepath.Join(dir, "database/local.db"))
			write(t, filepath.Join(dir, "database/global/metadata1"), "x")
		}, "written by LXD"},
		"LXD 2":   {func(t *testing.T, dir string) { sqlite(t, filepath.Join(dir, "lxd.db")) }, "written by LXD"},
		"half":    {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "database/global/metadata1"), "x") }, "written by LXD or is damaged"},
		"rubbish": {func(t *testing.T, dir string) { write(t, filepath.Join(dir, "database/local.db"), "hello") }, "is not a database"},
		"newer local": {func(t *testing.T, dir string) {
			newer(t, dir, `INSERT INTO schema VALUES (99, 'x', '2030-01-01', 'v9')`)
		}, "newer"},
		"newer global": {func(t *testing.T, dir string) {
			newer(t, dir, `UPDATE sett SET value = '99' WHERE key = 'global_schema'`)
		}, "newer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c.make(t, dir)
			before := print(t, dir)
			_, err := open(t, dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "left as it") {
				t.Errorf("%v", err)
			}
			if print(t, dir) != before {
				t.Error("the directory was touched")
			}
		})
	}
}

// newer makes a directory that a later version of this program has used and not
// closed: part of local.db is in its log.
func newer(t *testing.T, dir, change string) {
	t.Helper()
	src := t.TempDir()
	s := mustOpen(t, src)
	if _, err := s.Local.Pool().ExecContext(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(src)); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "database/local.db-wal")); err != nil || fi.Size() == 0 {
		t.Fatalf("no log: %v", err)
	}
	mustClose(t, s)
}

func TestNewerGlobalSchemaIsRefusedWithoutTheNote(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if _, err := s.Node().DB().ExecContext(t.Context(), `INSERT INTO schema VALUES (99, 'x', '2030-01-01', 'v9')`); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	_, err := open(t, dir)
	var e *migrations.ErrNewer
	if !errors.As(err, &e) || e.Has != 99 {
		t.Errorf("%v", err)
	}
}

// TestMembersWaitForEachOtherToBeUpdated: a member that has several steps more than others
// tells so before it waits for them, or all would wait for all. Those that do not run
// are not waited for.
func TestMembersWaitForEachOtherToBeUpdated(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, t.TempDir())
	defer mustClose(t, s)
	known := len(s.steps)
	update := func(stmt db.Stmt, args ...any) {
		t.Helper()
		err := s.Global.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, stmt, args...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	update(`UPDATE nodes SET schema = ?`, known)
	update(`INSERT INTO nodes (id, name, address, schema, api_extensions) VALUES (2, 'other', 'b:1', ?, 0)`, known)
	s.SetMember(1)
	runs := true
	s.o.Announce = func(context.Context) error {
		update(`UPDATE nodes SET schema = ? WHERE id = 1`, len(s.steps))
		return nil
	}
	s.o.Runs = func(_ context.Context, address string) bool { return runs && address == "b:1" }
	for range 2 {
		n := len(s.steps) + 1
		s.steps = append(s.steps, migrations.Step{Version: n, Name: "more", SQL: fmt.Sprintf("CREATE TABLE more%d (x)", n)})
	}
	version := func() int {
		t.Helper()
		v, err := migrations.Version(t.Context(), s.Node().DB())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if err := s.prepareGlobal(t.Context()); err == nil || !strings.Contains(err.Error(), `"other"`) || version() != known {
		t.Fatalf("with an old member that runs: %v, schema %d", err, version())
	}
	if got, err := db.One[int](t.Context(), s.Global, `SELECT schema FROM nodes WHERE id = 1`); err != nil || got != known+2 {
		t.Errorf("it has told of schema %d, %v", got, err)
	}
	runs = false
	if err := s.prepareGlobal(t.Context()); err != nil || version() != known+2 {
		t.Fatalf("with an old member that is away: %v, schema %d", err, version())
	}
	// A version that knows less than the step before does not write to it.
	s.steps = s.steps[:known]
	s.o.Announce = func(context.Context) error { t.Error("wrote to a database that is too new"); return nil }
	var newer *migrations.ErrNewer
	if err := s.prepareGlobal(t.Context()); !errors.As(err, &newer) {
		t.Errorf("%v", err)
	}
}

func TestPatchesRunOnceWithABackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := mustOpen(t, dir)
	set(t, s.Global, "a", "1")
	mustClose(t, s)
	global, local := filepath.Join(dir, "database/patch.global.sql"), filepath.Join(dir, "database/patch.local.sql")

	write(t, global, "UPDATE config SET value = '2' WHERE key = 'a';\n-- done\nINSERT INTO config (key) VALUES ('b');")
	write(t, local, "INSERT INTO config (key, value) VALUES ('l', '1')")
	s = mustOpen(t, dir)
	if get(t, s.Global, "a") != "2" || get(t, s.Local.DB, "l") != "1" {
		t.Error("the patches were not applied")
	}
	mustClose(t, s)
	for _, f := range []string{global, local} {
		if _, err := os.Stat(f); !os.IsNotExist(err) {
			t.Errorf("%s is still there", f)
		}
	}
	bak, err := os.ReadDir(filepath.Join(dir, "database/global.bak"))
	if err != nil || len(bak) < 2 {
		t.Errorf("backup: %v %v", bak, err)
	}
	pool, err := sql.Open("sqlite3", filepath.Join(dir, "database/local.db.bak"))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	var n int
	if err := pool.QueryRow(`SELECT count(*) FROM config`).Scan(&n); err != nil || n != 0 {
		t.Errorf("local backup has %d keys, %v", n, err)
	}

	for _, bad := range []string{
		"UPDATE config SET value = '3'; INSERT INTO nowhere VALUES (1)",
		"UPDATE config SET value = '3'; INSERT INTO config (key) VALUES ('z') RETURNING key",
	} {
		write(t, global, bad)
		if _, err := open(t, dir); err == nil || !strings.Contains(err.Error(), "patch.global.sql failed") {
			t.Fatalf("%v", err)
		}
		if _, err := os.Stat(global); err != nil {
			t.Error(err)
		}
	}
	if err := os.Remove(global); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir)
	defer mustClose(t, s)
	if get(t, s.Global, "a") != "2" {
		t.Error("a failed patch left something behind")
	}
}
