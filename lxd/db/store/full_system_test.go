//go:build system

package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/db"
	"sett/shared/errs"
)

const stmtBlob db.Stmt = `INSERT INTO config (key, value) VALUES (?, hex(randomblob(?)))`

func TestFullDiskIsToldAndPasses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := mustOpen(t, dir)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	put := func(key string, size int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return s.Global.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, stmtBlob, key, size)
			return err
		})
	}
	var err error
	written := 0
	for ; written < 1000 && err == nil; written++ {
		err = put(fmt.Sprint(written), 100_000)
	}
	if !errs.Is(err, errs.KindUnavailable) {
		t.Fatalf("after %d writes: %v", written, err)
	}
	written--
	t.Log(err)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := put("room", 1000); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		n, err := db.One[int](t.Context(), s.Global, `SELECT count(*) FROM config`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(); n != written+1 {
		t.Errorf("%d rows of %d", n, written+1)
	}
	mustClose(t, s)

	// What the log had is held for the next start.
	fill(t, filler)
	s = mustOpen(t, dir)
	if n := count(); n != written+1 {
		t.Errorf("%d rows of %d after a start on a full disk", n, written+1)
	}
	mustClose(t, s)
	if err := os.Remove(filepath.Join(dir, "database", "global", "reserve")); err != nil {
		t.Fatal(err)
	}
	fill(t, filler)
	if _, err := open(t, dir); !errs.Is(err, errs.KindUnavailable) || !strings.Contains(err.Error(), "is full") {
		t.Errorf("start on a full disk with nothing held: %v", err)
	}
}

// fill makes a file as large as there is room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
