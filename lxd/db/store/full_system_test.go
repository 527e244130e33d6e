//go:build system

package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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

	if err := os.WriteFile(filler, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if free := int64(st.Bavail) * st.Bsize; free > 8<<20 {
		if err := os.WriteFile(filler, make([]byte, free-(8<<20)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, dir); !errs.Is(err, errs.KindUnavailable) {
		t.Errorf("start on a full disk: %v", err)
	}
}
