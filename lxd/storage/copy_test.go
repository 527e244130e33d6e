package storage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/db"
	"sett/lxd/storage"
	"sett/shared/errs"
)

func inPool(pool, name string) storage.Volume {
	v := vol(name)
	v.Pool = pool
	return v
}

// copies is a server with two pools, and a volume with two snapshots in the first.
func copies(t *testing.T) *fixture {
	t.Helper()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"q","driver":"fake"}`)
	f.must(f.CreateFromImage(ctx, vol("a"), image, 0, unpack), f.CreateSnapshot(ctx, vol("a"), "s2", nil))
	f.file("containers/a", "second")
	f.must(f.CreateSnapshot(ctx, vol("a"), "s1", nil))
	f.file("containers/a", "third")
	return f
}

// holds checks the content of a volume and of its snapshots.
func (f *fixture) holds(pool, name, content string, snapshots ...string) {
	f.t.Helper()
	read := func(dir string) string {
		b, err := os.ReadFile(filepath.Join(f.dir, "storage-pools", pool, dir, "rootfs/file"))
		f.must(err)
		return string(b)
	}
	if got := read("containers/" + name); got != content {
		f.t.Errorf("%s holds %q, want %q", name, got, content)
	}
	for i := 0; i < len(snapshots); i += 2 {
		if got := read("containers-snapshots/" + name + "/" + snapshots[i]); got != snapshots[i+1] {
			f.t.Errorf("%s/%s holds %q, want %q", name, snapshots[i], got, snapshots[i+1])
		}
	}
	n, err := db.One[int](f.t.Context(), f.DB, "SELECT COUNT(*) FROM storage_volumes_snapshots AS s JOIN storage_volumes AS v ON v.id = s.storage_volume_id JOIN storage_pools AS p ON p.id = v.storage_pool_id WHERE v.name = ? AND p.name = ?", name, pool)
	if err != nil || n != len(snapshots)/2 {
		f.t.Errorf("%s has records of %d snapshots, %v", name, n, err)
	}
	ents, _ := os.ReadDir(filepath.Join(f.dir, "storage-pools", pool, "containers-snapshots", name))
	if len(ents) != len(snapshots)/2 {
		f.t.Errorf("%s has %v on disk", name, ents)
	}
}

// nothingOf checks that a volume left no trace.
func (f *fixture) nothingOf(pool, name string) {
	f.t.Helper()
	for _, dir := range []string{"containers", "containers-snapshots"} {
		if _, err := os.Lstat(filepath.Join(f.dir, "storage-pools", pool, dir, name)); !os.IsNotExist(err) {
			f.t.Errorf("%s/%s: %v", dir, name, err)
		}
	}
	n, err := db.One[int](f.t.Context(), f.DB, "SELECT COUNT(*) FROM storage_volumes AS v JOIN storage_pools AS p ON p.id = v.storage_pool_id WHERE v.name = ? AND p.name = ?", name, pool)
	if err != nil || n != 0 {
		f.t.Errorf("%d records of %s, %v", n, name, err)
	}
}

func (f *fixture) linked(name, pool string) {
	f.t.Helper()
	for _, dir := range []string{"containers", "snapshots"} {
		to, err := os.Readlink(filepath.Join(f.dir, dir, name))
		if err != nil || !strings.Contains(to, "storage-pools/"+pool+"/") {
			f.t.Errorf("%s/%s leads to %q, %v", dir, name, to, err)
		}
	}
}

func TestCopiesOfVolumes(t *testing.T) {
	t.Parallel()
	for _, pool := range []string{"p", "q"} {
		t.Run(pool, func(t *testing.T) {
			t.Parallel()
			f := copies(t)
			ctx := t.Context()
			held, resumed := 0, 0
			quiet := func(context.Context) (func(), error) { held++; return func() { resumed++ }, nil }
			f.must(f.CopyVolume(ctx, inPool(pool, "b"), vol("a"), storage.CopyOf{Snapshots: []string{"s2", "s1"}, Quiet: quiet}))
			f.holds(pool, "b", "third", "s1", "second", "s2", "image")
			f.linked("b", pool)
			if held != 2 || resumed != 2 {
				t.Errorf("held still %d times, let go %d times", held, resumed)
			}
			f.must(f.CopyVolume(ctx, inPool(pool, "c"), vol("a"), storage.CopyOf{Snapshot: "s1"}))
			f.holds(pool, "c", "second")
			if err := f.CopyVolume(ctx, inPool(pool, "b"), vol("a"), storage.CopyOf{}); !errs.Is(err, errs.KindConflict) {
				t.Errorf("onto another: %v", err)
			}
			for _, o := range []storage.CopyOf{{Snapshot: "no"}, {Snapshots: []string{"s1", "no"}}} {
				if err := f.CopyVolume(ctx, inPool(pool, "d"), vol("a"), o); !errs.Is(err, errs.KindNotFound) {
					t.Errorf("of a snapshot that is not there: %v", err)
				}
				f.nothingOf(pool, "d")
			}
			if err := f.CopyVolume(ctx, inPool(pool, "d"), vol("no"), storage.CopyOf{}); !errs.Is(err, errs.KindNotFound) {
				t.Errorf("of nothing: %v", err)
			}
			f.nothingOf(pool, "d")
			f.holds("p", "a", "third", "s1", "second", "s2", "image")
			// An instance that moves has a volume in both pools; the link is that of the old one.
			other := map[string]string{"p": "q", "q": "p"}[pool]
			f.must(f.CopyVolume(ctx, inPool(other, "b"), inPool(pool, "b"), storage.CopyOf{Snapshots: []string{"s2"}}))
			f.linked("b", pool)
			f.must(f.DeleteVolume(ctx, inPool(other, "b")))
			f.linked("b", pool)
			f.must(f.CopyVolume(ctx, inPool(other, "b"), inPool(pool, "b"), storage.CopyOf{Snapshots: []string{"s2"}}),
				f.DeleteVolume(ctx, inPool(pool, "b")), f.Link(ctx, inPool(other, "b")))
			f.linked("b", other)
			f.holds(other, "b", "third", "s2", "image")
		})
	}
}

func TestRefreshOfVolumes(t *testing.T) {
	t.Parallel()
	for _, pool := range []string{"p", "q"} {
		t.Run(pool, func(t *testing.T) {
			t.Parallel()
			f := copies(t)
			ctx := t.Context()
			f.must(f.CopyVolume(ctx, inPool(pool, "b"), vol("a"), storage.CopyOf{Snapshots: []string{"s2"}}))
			f.file("containers/a", "fourth")
			f.must(f.RefreshVolume(ctx, inPool(pool, "b"), vol("a"), storage.CopyOf{Snapshots: []string{"s1"}}))
			f.holds(pool, "b", "fourth", "s1", "second", "s2", "image")
			f.holds("p", "a", "fourth", "s1", "second", "s2", "image")
			f.file("containers/a", "fifth")
			boom := errors.New("boom")
			f.must(f.DeleteSnapshot(ctx, inPool(pool, "b"), "s1"))
			err := f.RefreshVolume(ctx, inPool(pool, "b"), vol("a"), storage.CopyOf{Snapshots: []string{"s1"},
				Ready: func(context.Context, string) error { return boom }})
			if !errors.Is(err, boom) {
				t.Errorf("got %v", err)
			}
			f.holds(pool, "b", "fourth", "s2", "image")
			if err := f.RefreshVolume(ctx, inPool(pool, "b"), vol("a"), storage.CopyOf{Snapshots: []string{"s2"}}); !errs.Is(err, errs.KindConflict) {
				t.Errorf("a snapshot twice: %v", err)
			}
			f.holds(pool, "b", "fourth", "s2", "image")
		})
	}
}

func TestFailedStepsOfACopyOfAVolume(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, pool := range []string{"p", "q"} {
		for _, step := range []string{"make", "clone", "seal"} {
			for nth := range 3 {
				f := copies(t)
				left := nth
				f.kind.Break(func(s, _ string) error {
					if s != step {
						return nil
					}
					left--
					if left == -1 {
						return boom
					}
					return nil
				})
				err := f.CopyVolume(t.Context(), inPool(pool, "b"), vol("a"), storage.CopyOf{Snapshots: []string{"s2", "s1"}})
				f.kind.Break(nil)
				if left >= 0 { // there are not that many of this step
					f.must(err)
					continue
				}
				if !errors.Is(err, boom) {
					t.Errorf("%s %d: %v", step, nth, err)
				}
				f.nothingOf(pool, "b")
				f.must(f.CopyVolume(t.Context(), inPool(pool, "b"), vol("a"), storage.CopyOf{Snapshots: []string{"s2", "s1"}}))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		f := copies(t)
		f.kind.Break(func(s, _ string) error {
			if s == "seal" { // a snapshot is whole
				cancel()
			}
			return nil
		})
		if err := f.CopyVolume(ctx, inPool(pool, "b"), vol("a"), storage.CopyOf{Snapshots: []string{"s2", "s1"}}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		f.nothingOf(pool, "b")
		cancel()
	}
}
