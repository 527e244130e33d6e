package storage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/storage"
	"sett/shared/api"
	"sett/shared/errs"
)

// brought are two snapshots of a volume that comes from elsewhere.
func brought() []storage.Brought {
	return []storage.Brought{{Name: "s2", Taken: time.Unix(1e9, 0), Size: 2 << 30}, {Name: "s1", Taken: time.Unix(2e9, 0)}}
}

// fillAll writes the volume's and the snapshots' content as copies has it.
func fillAll(_ context.Context, dirs []string) error {
	for n, text := range []string{"third", "image", "second"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dirs[n], "rootfs"), 0o755),
			os.WriteFile(filepath.Join(dirs[n], "rootfs/file"), []byte(text), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// TestVolumesComeWithTheirSnapshots: all are there before any is filled, with limits, and
// none has its name before all are whole.
func TestVolumesComeWithTheirSnapshots(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake","config":{"volume.size":"1GiB"}}`)
	limits := 0
	f.kind.Break(func(step, _ string) error {
		if step == "quota" {
			limits++
		}
		return nil
	})
	f.must(f.FillVolume(ctx, vol("a"), storage.Bringing{Size: 3 << 30, Snapshots: brought()}, func(ctx context.Context, dirs []string) error {
		if limits != 3 || len(dirs) != 3 {
			t.Errorf("%d limits, %d folders", limits, len(dirs))
		}
		for _, name := range []string{"containers/a", "containers-snapshots/a/s2", "containers-snapshots/a/s1"} {
			if _, err := os.Lstat(filepath.Join(f.dir, "storage-pools/p", name)); err == nil {
				t.Errorf("%s is there before it is whole", name)
			}
		}
		return fillAll(ctx, dirs)
	}))
	f.holds("p", "a", "third", "s2", "image", "s1", "second")
	f.linked("a", "p")
	us, err := f.Usage(ctx, []storage.Volume{vol("a")})
	if err != nil || us[vol("a")].Total != 3<<30 {
		t.Errorf("usage %v, %v", us, err)
	}
	f.want(200, `"name":"a/s2"`, "GET", "/1.0/storage-pools/p/volumes?recursion=1", "")
	f.must(f.RestoreSnapshot(ctx, vol("a"), "s2", 0))
	f.must(f.DeleteVolume(ctx, vol("a")))
	f.nothingOf("p", "a")
}

func TestVolumeThatDoesNotComeWholeLeavesNothing(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, step := range []string{"make", "quota", "seal", "fill", "snapshot record", "link"} {
		for nth := range 3 {
			f := setup(t)
			f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
			left := nth
			f.kind.Break(func(s, _ string) error {
				if s != step {
					return nil
				}
				if left--; left < 0 {
					return boom
				}
				return nil
			})
			fill := fillAll
			switch step {
			case "fill":
				fill = func(ctx context.Context, dirs []string) error { return errors.Join(fillAll(ctx, dirs), boom) }
			case "snapshot record":
				dbtest.Exec(t, f.db, `CREATE TRIGGER boom BEFORE INSERT ON storage_volumes_snapshots WHEN NEW.name = 's1' BEGIN SELECT RAISE(ABORT, 'boom'); END`)
			case "link": // a file in the way
				f.must(os.WriteFile(filepath.Join(f.dir, "snapshots"), nil, 0o600))
			}
			snaps := brought()
			snaps[1].Size = 1 << 30
			err := f.FillVolume(t.Context(), vol("a"), storage.Bringing{Size: 1 << 30, Snapshots: snaps}, fill)
			if err == nil && step == "seal" && nth == 2 { // there are two snapshots
				continue
			}
			if err == nil || step != "link" && !strings.Contains(err.Error(), "boom") {
				t.Errorf("%s %d: %v", step, nth, err)
			}
			f.kind.Break(nil)
			f.nothingOf("p", "a")
			for _, d := range []string{"containers", "snapshots"} {
				if es, _ := os.ReadDir(filepath.Join(f.dir, d)); len(es) > 0 {
					t.Errorf("%s %d: left in %s: %v", step, nth, d, es)
				}
			}
			n, err := db.One[int](t.Context(), f.db, "SELECT COUNT(*) FROM storage_volumes_snapshots")
			if err != nil || n != 0 {
				t.Errorf("%s %d: %d records, %v", step, nth, n, err)
			}
		}
	}
}

// TestAdoptionIsAllOrNothing: behind the records there is no way back, so what can fail
// comes before.
func TestAdoptionIsAllOrNothing(t *testing.T) {
	t.Parallel()
	f := copies(t)
	ctx := t.Context()
	f.must(f.Disown(ctx, vol("a")))
	snaps := []storage.Brought{{Name: "s1", Taken: time.Now()}, {Name: "s2", Taken: time.Now()}}
	boom := errors.New("boom")
	if err := f.Adopt(ctx, vol("a"), snaps, func(context.Context, *db.Tx) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	links := filepath.Join(f.dir, "snapshots")
	f.must(os.Remove(links), os.WriteFile(links, nil, 0o600))
	if err := f.Adopt(ctx, vol("a"), snaps, nothing); err == nil {
		t.Error("it was taken in without its links")
	}
	f.must(os.Remove(links))
	dbtest.Exec(t, f.db, `UPDATE storage_pools SET state = 2 WHERE name = 'p'`)
	if err := f.Adopt(ctx, vol("a"), nil, nothing); !errs.Is(err, errs.KindUnavailable) {
		t.Errorf("into a pool that goes: %v", err)
	}
	dbtest.Exec(t, f.db, `UPDATE storage_pools SET state = 1`)
	n, err := db.One[int](ctx, f.db, "SELECT COUNT(*) FROM storage_volumes WHERE name = 'a'")
	if _, there := os.Lstat(filepath.Join(f.dir, "containers/a")); err != nil || n != 0 || there == nil {
		t.Errorf("%d records, %v, link %v", n, err, there)
	}
	f.must(f.Adopt(ctx, vol("a"), snaps, nothing))
	f.holds("p", "a", "third", "s1", "second", "s2", "image")
	f.linked("a", "p")
}

// TestALookThroughAnUnusablePoolNamesIt, and leaves nothing.
func TestALookThroughAnUnusablePoolNamesIt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	boom := errors.New("boom")
	f.kind.Break(func(step, _ string) error {
		if step == "mountpool" {
			return boom
		}
		return nil
	})
	for _, c := range []struct {
		post api.StoragePoolsPost
		want string
	}{
		{api.StoragePoolsPost{Name: "gone", Driver: "fake"}, "boom"},
		{api.StoragePoolsPost{Name: "gone", Driver: "nope"}, "Unknown storage driver"},
		{api.StoragePoolsPost{Name: "gone", Driver: "fake", StoragePoolPut: api.StoragePoolPut{Config: map[string]string{"nope": "1"}}}, "Unknown configuration key"},
	} {
		_, _, err := f.Look(t.Context(), c.post)
		if code := errs.Status(err); code != 400 ||
			!strings.HasPrefix(err.Error(), `Storage pool "gone" cannot be looked through: `) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %d %v", c.post, code, err)
		}
	}
	if es, _ := os.ReadDir(filepath.Join(f.dir, "storage-pools")); len(es) > 0 {
		t.Errorf("left %v", es)
	}
}
