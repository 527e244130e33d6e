package storage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/shared/errs"
)

// file reads or writes the one file of the image in a volume.
func (f *fixture) file(dir, write string) string {
	f.t.Helper()
	p := filepath.Join(f.dir, "storage-pools/p", dir, "rootfs/file")
	if write != "" {
		f.must(os.WriteFile(p, []byte(write), 0o644))
	}
	b, err := os.ReadFile(p)
	f.must(err)
	return string(b)
}

func nothing(context.Context, *db.Tx) error { return nil }

func TestSnapshotsOfVolumes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.must(f.CreateFromImage(ctx, vol("a"), image, 0, unpack), f.CreateSnapshot(ctx, vol("a"), "s1", nil))
	f.file("containers/a", "new")
	f.must(f.CreateSnapshot(ctx, vol("a"), "s2", func(context.Context) (func(), error) { return func() {}, nil }))
	if got := f.file("containers-snapshots/a/s1", "") + f.file("containers-snapshots/a/s2", ""); got != "imagenew" {
		t.Errorf("they hold %q", got)
	}
	if l, err := os.Readlink(filepath.Join(f.dir, "snapshots/a")); err != nil || !strings.HasSuffix(l, "containers-snapshots/a") {
		t.Errorf("link %q, %v", l, err)
	}
	f.want(200, `["/1.0/storage-pools/p/volumes/container/a","/1.0/storage-pools/p/volumes/container/a/snapshots/s1","/1.0/storage-pools/p/volumes/container/a/snapshots/s2"]`,
		"GET", "/1.0/storage-pools/p/volumes/container", "")
	f.want(200, `"name":"a/s1","type":"container","used_by":["/1.0/instances/a/snapshots/s1"]`, "GET", "/1.0/storage-pools/p/volumes?recursion=1", "")
	f.want(200, `["/1.0/storage-pools/p/volumes/container/a/snapshots/s1","/1.0/storage-pools/p/volumes/container/a/snapshots/s2"]`,
		"GET", "/1.0/storage-pools/p/volumes/container/a/snapshots", "")
	f.want(200, `"name":"a/s1"`, "GET", "/1.0/storage-pools/p/volumes/container/a/snapshots?recursion=1", "")
	f.want(200, `"name":"s2"`, "GET", "/1.0/storage-pools/p/volumes/container/a/snapshots/s2", "")
	f.want(404, "not found", "GET", "/1.0/storage-pools/p/volumes/container/a/snapshots/no", "")
	f.want(404, "not found", "GET", "/1.0/storage-pools/p/volumes/container/no/snapshots", "")
	if err := f.CreateSnapshot(ctx, vol("a"), "s1", nil); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a name twice: %v", err)
	}
	if err := f.CreateSnapshot(ctx, vol("no"), "s1", nil); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	if err := f.CreateSnapshot(ctx, vol("a"), "..", nil); err == nil {
		t.Error("a name that leads out of the pool was taken")
	}
	f.must(f.RestoreSnapshot(ctx, vol("a"), "s1", 0))
	if got := f.file("containers/a", ""); got != "image" {
		t.Errorf("restored %q", got)
	}
	dir, err := f.MountSnapshot(ctx, vol("a"), "s2")
	f.must(err, f.UnmountSnapshot(ctx, vol("a"), "s2"))
	if !strings.HasSuffix(dir, "containers-snapshots/a/s2") {
		t.Errorf("mounted at %s", dir)
	}
	f.must(f.RenameVolume(ctx, vol("a"), "b"), f.RenameSnapshot(ctx, vol("b"), "s1", "old", nothing), f.RenameSnapshot(ctx, vol("b"), "s1", "old", nothing))
	f.want(200, `volumes/container/b/snapshots/old"`, "GET", "/1.0/storage-pools/p/volumes", "")
	f.must(f.DeleteSnapshot(ctx, vol("b"), "old"), f.DeleteSnapshot(ctx, vol("b"), "old"))
	f.must(f.DeleteVolume(ctx, vol("b"))) // takes the other one along
	f.want(200, `["/1.0/storage-pools/p/volumes/image/`+image+`"]`, "GET", "/1.0/storage-pools/p/volumes", "")
	for _, d := range []string{"snapshots", "storage-pools/p/containers-snapshots"} {
		if es, _ := os.ReadDir(filepath.Join(f.dir, d)); len(es) > 0 {
			t.Errorf("left in %s: %v", d, es)
		}
	}
}

func TestSnapshotThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.must(f.CreateFromImage(ctx, vol("a"), image, 0, unpack))
	bad := errors.New("broken")
	for _, step := range []string{"clone", "seal"} {
		f.kind.Break(func(s, path string) error {
			if s == step && (step == "clone" || strings.Contains(path, "-snapshots")) {
				return bad
			}
			return nil
		})
		if err := f.CreateSnapshot(ctx, vol("a"), "s", nil); !errors.Is(err, bad) {
			t.Errorf("%s: %v", step, err)
		}
		f.kind.Break(nil)
		f.want(200, `["/1.0/storage-pools/p/volumes/container/a"]`, "GET", "/1.0/storage-pools/p/volumes/container", "")
		if es, _ := os.ReadDir(filepath.Join(f.dir, "storage-pools/p/containers-snapshots")); len(es) > 0 {
			t.Errorf("%s: left %v", step, es)
		}
	}
	f.must(f.CreateSnapshot(ctx, vol("a"), "s", nil))
	if err := f.RenameSnapshot(ctx, vol("a"), "s", "t", func(context.Context, *db.Tx) error { return bad }); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
	if got := f.file("containers-snapshots/a/s", ""); got != "image" {
		t.Errorf("it holds %q", got)
	}
	f.kind.Break(func(s, _ string) error {
		if s == "clone" {
			return bad
		}
		return nil
	})
	f.file("containers/a", "kept")
	if err := f.RestoreSnapshot(ctx, vol("a"), "s", 0); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
	if got := f.file("containers/a", ""); got != "kept" {
		t.Errorf("a restore that failed left %q", got)
	}
	dbtest.Exec(t, f.db, `DELETE FROM storage_volumes_snapshots`)
	f.kind.Break(nil)
	f.must(f.DeleteSnapshot(ctx, vol("a"), "s")) // as after a delete that was cut off
	if es, _ := os.ReadDir(filepath.Join(f.dir, "storage-pools/p/containers-snapshots")); len(es) > 0 {
		t.Errorf("left %v", es)
	}
}
