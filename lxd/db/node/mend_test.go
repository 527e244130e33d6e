package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sett/lxd/db/migrations"
	"sett/lxd/db/node"
	"sett/lxd/dqlite"
)

const pageSize = 4096

var (
	whoWas    = node.Identity{ID: 3, Name: "m3", Address: "10.0.0.3:8443"}
	configWas = map[string]string{"core.https_address": "10.0.0.3:8443", "cluster.https_address": "10.0.0.3:8443"}
	nodesWere = []dqlite.Member{{ID: 1, Address: "10.0.0.1:8443", Role: dqlite.Voter}, {ID: 3, Address: "10.0.0.3:8443", Role: dqlite.Spare}}
)

func openNode(t *testing.T, dir string) (*node.DB, error) {
	t.Helper()
	if err := node.Inspect(t.Context(), filepath.Dir(dir), 1); err != nil {
		return nil, err
	}
	return node.Open(t.Context(), dir, "test", slog.New(slog.DiscardHandler))
}

// aMember makes LXD_DIR/database of a member with some history, and returns local.db.
func aMember(t *testing.T) (file []byte) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "database")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := openNode(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{d.SetIdentity(t.Context(), &whoWas), d.SetConfig(t.Context(), configWas), d.Members().Set(t.Context(), nodesWere), d.AddPatch(t.Context(), "one")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		_, err := d.Pool().ExecContext(t.Context(), `INSERT INTO operations_history (id, class, description, project, location, created_at, updated_at, ended_at, status, error,
			username, protocol, address, resources, metadata, log)
			VALUES (?, 'task', 'Starting instance', 'default', 'm3', ?2, ?2, NULL, 103, '', '', '', '', '{}', '{}', '[]')`, fmt.Sprint(i), time.Now())
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(filepath.Join(dir, node.FileName)); err != nil {
		t.Fatal(err)
	}
	return file
}

// isTheMember demands that nothing is forgotten but the history.
func isTheMember(t *testing.T, d *node.DB) {
	t.Helper()
	ctx := t.Context()
	who, err := d.Identity(ctx)
	if err != nil || who == nil || *who != whoWas {
		t.Errorf("it is %+v, %v", who, err)
	}
	if c, err := d.Config(ctx); err != nil || !maps.Equal(c, configWas) {
		t.Errorf("its configuration is %v, %v", c, err)
	}
	if ns, err := d.Members().Get(ctx); err != nil || !slices.Equal(ns, nodesWere) {
		t.Errorf("the nodes are %v, %v", ns, err)
	}
	if p, err := d.Patches(ctx); err != nil || !slices.Equal(p, []string{"one"}) {
		t.Errorf("the patches are %v, %v", p, err)
	}
	if err := d.SetNote(ctx, "x", "y"); err != nil {
		t.Errorf("it cannot be written: %v", err)
	}
}

// TestDamagedPages overwrites each page of a member's local database. The member is what
// it was, or it does not start, says which file is at fault, and has changed nothing.
func TestDamagedPages(t *testing.T) {
	t.Parallel()
	whole := aMember(t)
	pages := len(whole) / pageSize
	if pages < 20 {
		t.Fatalf("%d pages are too few", pages)
	}
	garbage := func(p []byte) { _, _ = rand.NewChaCha8([32]byte{}).Read(p) }
	mended, refused := 0, 0
	for name, harm := range map[string]func(page []byte){
		"garbage":          garbage,
		"zeros":            func(p []byte) { clear(p) },
		"half a page":      func(p []byte) { garbage(p[len(p)/2:]) },
		"a page's head":    func(p []byte) { garbage(p[:128]) },
		"of another place": func(p []byte) { copy(p, whole[(pages-2)*pageSize:(pages-1)*pageSize]) },
	} {
		for n := range pages {
			dir := filepath.Join(t.TempDir(), "database")
			path := filepath.Join(dir, node.FileName)
			file := bytes.Clone(whole)
			harm(file[n*pageSize : (n+1)*pageSize])
			if bytes.Equal(file, whole) {
				continue
			}
			put(t, path, file)
			put(t, filepath.Join(dir, "global", "snapshot"), []byte("the cluster's"))
			d, err := openNode(t, dir)
			if err != nil {
				refused++
				var newer *migrations.ErrNewer
				if !strings.Contains(err.Error(), path) && !errors.As(err, &newer) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s in page %d: %v", name, n+1, err)
				}
				if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, file) {
					t.Errorf("%s in page %d: a file that was refused is another one, %v", name, n+1, err)
				}
				continue
			}
			isTheMember(t, d)
			if t.Failed() {
				t.Fatalf("%s in page %d", name, n+1)
			}
			if kept, err := os.ReadFile(path + ".damaged"); err == nil {
				mended++
				if !bytes.Equal(kept, file) {
					t.Errorf("%s in page %d: the damaged file was changed", name, n+1)
				}
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d pages: %d mended, %d refused", pages, mended, refused)
	if mended < 2*pages || refused == 0 {
		t.Errorf("of %d pages %d were mended and %d refused", pages, mended, refused)
	}
}

// TestNoMemoryIsMapped: the daemon would be killed where the file system is full.
func TestNoMemoryIsMapped(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "database")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d, err := openNode(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.SetConfig(t.Context(), configWas); err != nil {
			t.Fatal(err)
		}
		var mode string
		if err := d.Pool().QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
			t.Errorf("journal %q: %v", mode, err)
		}
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil || bytes.Contains(maps, []byte(dir)) {
			t.Errorf("something of the database is mapped: %v", err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestInspectNeedsNoTemporaryFolder: it may be on the disk that is full.
func TestInspectNeedsNoTemporaryFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "database")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := openNode(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	// The note of a newer schema stands in the log only, as a daemon that is killed leaves it.
	if err := d.SetGlobalSchema(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(filepath.Dir(dir))); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", filepath.Join(killed, "missing"))
	if err := node.Inspect(t.Context(), killed, 5); err != nil {
		t.Error(err)
	}
	var newer *migrations.ErrNewer
	if err := node.Inspect(t.Context(), killed, 4); !errors.As(err, &newer) || newer.Has != 5 {
		t.Errorf("a newer schema in the log: %v", err)
	}
}

// TestDamagedLogOfTheLocalDatabase damages what a daemon that was killed has left beside
// the file: SQLite knows how far the log is whole.
func TestDamagedLogOfTheLocalDatabase(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "database")
	path := filepath.Join(dir, node.FileName)
	put(t, path, aMember(t))
	put(t, path+"-wal", bytes.Repeat([]byte("garbage "), 4096))
	put(t, path+"-shm", bytes.Repeat([]byte("garbage "), 4096))
	d, err := openNode(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	isTheMember(t, d)
}

func TestDatabaseThatIsDamagedWhileItIsOpenSaysSo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "database")
	path := filepath.Join(dir, node.FileName)
	whole := aMember(t)
	put(t, path, whole)
	d, err := openNode(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xfe}, len(whole)-pageSize), pageSize); err != nil {
		t.Fatal(err)
	}
	d.Pool().SetMaxIdleConns(0) // what was read before is remembered
	if _, err := d.Config(context.WithoutCancel(t.Context())); err == nil || !strings.Contains(err.Error(), "restart the daemon") {
		t.Errorf("a damaged database: %v", err)
	}
	_ = d.Close()
	if _, err := openNode(t, dir); err == nil || !strings.Contains(err.Error(), "Put a backup of the file in its place") {
		t.Errorf("nothing is left, and it says %v", err)
	}
}

func put(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
