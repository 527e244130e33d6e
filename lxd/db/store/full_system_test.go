//go:build system

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
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
	for _, kind := range []string{"tmpfs", "ext4", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			fullDisk(t, kind)
		})
	}
}

// small mounts a small file system.
func small(t *testing.T, kind string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	mount := []string{"mount", "-t", "tmpfs", "-o", "size=64m", "small", dir}
	if kind != "tmpfs" {
		image := filepath.Join(t.TempDir(), "image")
		run(t, "truncate", "-s", "320M", image)
		run(t, "mkfs."+kind, "-q", image)
		mount = []string{"mount", "-t", kind, "-o", "loop", image, dir}
	}
	run(t, mount...)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

func fullDisk(t *testing.T, kind string) {
	dir := small(t, kind)
	s := mustOpen(t, dir)
	filler := filepath.Join(dir, "filler")
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filler, make([]byte, int(st.Bavail)*int(st.Bsize)-(20<<20)), 0o600); err != nil {
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
	count := func(want int) {
		t.Helper()
		n, err := db.One[int](t.Context(), s.Global, `SELECT count(*) FROM config`)
		if err != nil || n != want {
			t.Fatalf("%d rows of %d: %v", n, want, err)
		}
	}
	count(written)
	mustClose(t, s)

	// It is read again although there is less than nothing: that much is held.
	fill(t, filler)
	s = mustOpen(t, dir)
	count(written)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	// btrfs takes a while to count what was removed.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		err := put("room", 1000)
		if err == nil {
			break
		}
		if n == 200 {
			t.Fatal(err)
		}
		<-tick.C
	}
	count(written + 1)
	mustClose(t, s)

	held, err := filepath.Glob(filepath.Join(dir, "database", "global", "open-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(held, filepath.Join(dir, "database", "global", "reserve")) {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	run(t, "sync", "-f", dir)
	fill(t, filler)
	if _, err := open(t, dir); !errs.Is(err, errs.KindUnavailable) || !strings.Contains(err.Error(), "is full") {
		t.Errorf("start on a full disk with nothing held: %v", err)
	}
}

// TestAnIdleServerStartsOnAFullDisk fills the disk of a server that has written nothing
// since it was started with room.
func TestAnIdleServerStartsOnAFullDisk(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tmpfs", "ext4", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := small(t, kind)
			s := mustOpen(t, dir)
			set(t, s.Global, "a", "1")
			mustClose(t, s)
			for i := range 3 {
				s := mustOpen(t, dir)
				if got := get(t, s.Global, "a"); got != "1" {
					t.Errorf("start %d: %q", i, got)
				}
				taken(t, dir)
				fill(t, filepath.Join(dir, fmt.Sprint("open", i)))
				mustClose(t, s)
				fill(t, filepath.Join(dir, fmt.Sprint("closed", i)))
			}
		})
	}
}

// taken waits until the log has two segments, which are made one after the other.
func taken(t *testing.T, dir string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		names, err := filepath.Glob(filepath.Join(dir, "database", "global", "open-*"))
		if err != nil {
			t.Fatal(err)
		}
		whole := 0
		for _, name := range names {
			if fi, err := os.Stat(name); err == nil && fi.Size() == 8<<20 {
				whole++
			}
		}
		if whole >= 2 {
			return
		}
		<-tick.C
	}
	t.Fatal("the log has taken no room")
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
