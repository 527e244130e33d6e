package instance_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v2"

	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/lxd/instance/backup"
	"sett/shared/api"
	"sett/shared/errs"
)

func (w *world) backup(o instance.NewBackup) (string, error) {
	w.t.Helper()
	i := w.load("c1")
	o, err := w.s.PlanBackup(w.t.Context(), i, o)
	if err != nil {
		return "", err
	}
	b, err := w.s.CreateBackup(w.t.Context(), "default", "c1", o, nil)
	if err != nil {
		return "", err
	}
	return w.backupFile("c1", b.Name), nil
}

func (w *world) backupFile(instance, name string) string {
	return filepath.Join(w.dir, "backups", "instances", instance, name)
}

// spooled are the files in the folder of backups that are on their way.
func (w *world) spooled() []string {
	all, _ := filepath.Glob(filepath.Join(w.dir, "backups", "lxd_*"))
	return all
}

// entries are the names in an archive that is not compressed.
func entries(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]string{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(b)
	}
}

func TestABackupHoldsAllAndComesBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", twoNICs, func(r *api.InstancesPost) { r.Config = map[string]string{"user.a": "1", "limits.memory": "64MiB"} }))
	w.write("one")
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s0"}))
	w.write("two")
	soon := time.Now().Add(time.Hour)
	path, err := w.backup(instance.NewBackup{Compression: "none", Expires: soon})
	w.ok(err)
	got := entries(t, path)
	if got["backup/container/content"] != "two" || got["backup/snapshots/s0/content"] != "one" || !strings.Contains(got["backup/container/backup.yaml"], "name: c1") {
		t.Errorf("the archive holds %v", slices.Sorted(maps.Keys(got)))
	}
	var x backup.Index
	w.ok(yaml.Unmarshal([]byte(got["backup/index.yaml"]), &x))
	if x.Name != "c1" || x.Pool != "pool" || x.Backend != "dir" || x.Type != "container" || x.Optimized || !slices.Equal(x.Snapshots, []string{"s0"}) ||
		x.Config.Container.Config["volatile.last_state.idmap"] != "[]" || x.Config.Container.ExpandedDevices["root"]["pool"] != "pool" {
		t.Errorf("index %s", got["backup/index.yaml"])
	}
	if _, ok := x.Config.Container.Config["volatile.sett_pending"]; ok {
		t.Error("the daemon's own marks are in the index")
	}
	list, err := w.s.Backups(t.Context(), w.load("c1"))
	w.ok(err)
	if len(list) != 1 || list[0].Name != "backup0" || list[0].Expires.Unix() != soon.Unix() {
		t.Errorf("backups %+v", list)
	}
	// Under its own name it is a conflict; the archive stays good.
	if err := w.importFile(path, instance.ImportOptions{}); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a second c1: %v", err)
	}
	w.ok(w.importFile(path, instance.ImportOptions{Name: "c2"}))
	was, now := w.load("c1"), w.load("c2")
	if now.Config["user.a"] != "1" || now.Config["volatile.uuid"] == was.Config["volatile.uuid"] || now.Config["volatile.sett_pending"] != "" ||
		now.Config["volatile.a.hwaddr"] == was.Config["volatile.a.hwaddr"] || now.Config["volatile.a.hwaddr"] == "" || !now.Created.Equal(was.Created) {
		t.Errorf("config was\n%v and is\n%v", was.Config, now.Config)
	}
	if b, _ := os.ReadFile(filepath.Join(w.pools.dir, "c2", "content")); string(b) != "two" {
		t.Errorf("content %q", b)
	}
	snaps, err := w.s.Snapshots(t.Context(), now)
	w.ok(err)
	if b, _ := os.ReadFile(w.pools.snap(instance.Volume{Pool: "pool", Instance: "c2"}, "s0")); len(snaps) != 1 || snaps[0].Name != "s0" || string(b) != "one" {
		t.Errorf("snapshots %v, content %q", snaps, b)
	}
	w.ok(w.start("c2"))
	w.ok(w.stop("c2", instance.StopOptions{Force: true}))
	w.ok(w.s.Restore(t.Context(), admin, "default", "c2", "s0"))
	if got := w.load("c2"); got.Config["volatile.a.hwaddr"] != now.Config["volatile.a.hwaddr"] || got.Config["volatile.uuid"] != now.Config["volatile.uuid"] {
		t.Errorf("the snapshot is still the first one's: %v", got.Config)
	}
	// Deleted with its instance, the file that somebody downloads stays whole.
	f, err := os.Open(path)
	w.ok(err)
	defer f.Close()
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.ok(w.s.Delete(t.Context(), "default", "c2", nil))
	w.clean()
	copied := filepath.Join(t.TempDir(), "copy")
	b, err := io.ReadAll(f)
	w.ok(err)
	w.ok(os.WriteFile(copied, b, 0o600))
	w.ok(w.importFile(copied, instance.ImportOptions{}))
	if again := w.load("c1"); again.Config["volatile.uuid"] != was.Config["volatile.uuid"] || again.Config["volatile.a.hwaddr"] != was.Config["volatile.a.hwaddr"] {
		t.Errorf("it came back as another: %v", again.Config)
	}
}

func TestBackupsHaveNamesAndAnEnd(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	for _, name := range []string{"a/b", ".x", "a b"} {
		if _, err := w.backup(instance.NewBackup{Name: name}); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, err := w.backup(instance.NewBackup{Compression: "rot13"}); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("a compression: %v", err)
	}
	if _, err := w.backup(instance.NewBackup{Optimized: true}); !errs.Is(err, errs.KindNotImplemented) {
		t.Errorf("optimized: %v", err)
	}
	_, err := w.backup(instance.NewBackup{Compression: "none"})
	w.ok(err)
	_, err = w.backup(instance.NewBackup{Name: "old", Compression: "none", Expires: time.Now().Add(-time.Minute)})
	w.ok(err)
	if _, err := w.backup(instance.NewBackup{Name: "old"}); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a name twice: %v", err)
	}
	i := w.load("c1")
	w.ok(w.s.RenameBackup(t.Context(), i, "backup0", "kept", nil))
	if err := w.s.RenameBackup(t.Context(), i, "kept", "old", nil); !errs.Is(err, errs.KindConflict) {
		t.Errorf("renamed onto another: %v", err)
	}
	w.ok(w.s.DropOldBackups(t.Context(), time.Now()))
	has := func(want ...string) {
		t.Helper()
		all, err := w.s.Backups(t.Context(), w.load(i.Name))
		w.ok(err)
		var names, files []string
		for _, b := range all {
			names = append(names, b.Name)
		}
		es, _ := os.ReadDir(filepath.Join(w.dir, "backups", "instances", i.Name))
		for _, e := range es {
			files = append(files, e.Name())
		}
		if !slices.Equal(names, want) || !slices.Equal(files, want) {
			t.Errorf("backups %v, files %v, want %v", names, files, want)
		}
	}
	has("kept")
	w.ok(w.s.Rename(t.Context(), "default", "c1", "c2", nil))
	i.Name = "c2"
	has("kept")
	w.ok(w.s.DeleteBackup(t.Context(), w.load("c2"), "kept", nil))
	has()
	w.ok(w.s.Delete(t.Context(), "default", "c2", nil))
	w.clean()
}

func TestWhatIsBeingBackedUpStaysWhereItIs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s0"}))
	w.ok(w.create("c0"))
	_, err := w.s.CreateSnapshot(t.Context(), "default", "c0", instance.NewSnapshot{Name: "s0"}, nil) // another one of this name
	w.ok(err)
	o, err := w.s.PlanBackup(t.Context(), w.load("c1"), instance.NewBackup{Compression: "none"})
	w.ok(err)
	asked := false
	big := make([]byte, 4<<20)
	w.ok(os.WriteFile(filepath.Join(w.pools.dir, "c1", "big"), big, 0o600))
	o.Progress = func(int64) {
		if asked {
			return
		}
		asked = true
		for what, err := range map[string]error{
			"delete":             w.s.Delete(t.Context(), "default", "c1", nil),
			"rename":             w.s.Rename(t.Context(), "default", "c1", "c2", nil),
			"delete a snapshot":  w.s.DeleteSnapshot(t.Context(), "default", "c1", "s0", nil),
			"rename a snapshot":  w.s.RenameSnapshot(t.Context(), "default", "c1", "s0", "s1", nil),
			"restore a snapshot": w.s.Restore(t.Context(), admin, "default", "c1", "s0"),
			"refresh":            w.copyOf("c0", "c1", refresh),
		} {
			if err == nil || !strings.Contains(err.Error(), "a backup of it is being made") {
				t.Errorf("%s: %v", what, err)
			}
		}
		w.ok(w.start("c1"))
		w.ok(w.snapshot(instance.NewSnapshot{Name: "s1"}))
		w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	}
	_, err = w.s.CreateBackup(t.Context(), "default", "c1", o, nil)
	w.ok(err)
	if !asked {
		t.Error("nobody was told of the progress")
	}
	w.ok(w.s.DeleteSnapshot(t.Context(), "default", "c1", "s0", nil))
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.ok(w.s.Delete(t.Context(), "default", "c0", nil))
	w.clean()
}

func TestFailedStepsOfABackupLeaveNothing(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	for _, at := range []string{"mount", "hold", "mount snapshot", "record", "cancel"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.ok(w.create("c1"))
			w.ok(w.snapshot(instance.NewSnapshot{Name: "s0"}))
			w.pools.fail[at] = boom
			o, err := w.s.PlanBackup(t.Context(), w.load("c1"), instance.NewBackup{Compression: "gzip"})
			w.ok(err)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			switch at {
			case "record":
				dbtest.Exec(t, w.db, `CREATE TRIGGER boom BEFORE INSERT ON instances_backups BEGIN SELECT RAISE(ABORT, 'boom'); END`)
			case "cancel":
				w.ok(os.WriteFile(filepath.Join(w.pools.dir, "c1", "big"), make([]byte, 4<<20), 0o600))
				o.Progress = func(int64) { cancel() }
			}
			_, err = w.s.CreateBackup(ctx, "default", "c1", o, nil)
			if at == "mount" { // the file beside the instance is not what the backup lives from
				w.ok(err)
				return
			}
			if err == nil || at != "cancel" && !strings.Contains(err.Error(), "boom") || at == "cancel" && !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			all, err := w.s.Backups(t.Context(), w.load("c1"))
			w.ok(err)
			if es, _ := os.ReadDir(filepath.Join(w.dir, "backups", "instances")); len(all)+len(es)+len(w.spooled())+w.pools.holds != 0 {
				t.Errorf("left: %v, %v, %v, %d held", all, es, w.spooled(), w.pools.holds)
			}
			if at == "record" {
				dbtest.Exec(t, w.db, `DROP TRIGGER boom`)
			}
			_, err = w.backup(instance.NewBackup{Compression: "gzip"})
			w.ok(err)
		})
	}
}

func TestADeadDaemonsBackupsAreSweptAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	good, err := w.backup(instance.NewBackup{Name: "good", Compression: "none"})
	w.ok(err)
	lost, err := w.backup(instance.NewBackup{Name: "lost", Compression: "none"})
	w.ok(err)
	w.ok(os.Remove(lost))
	for _, f := range []string{"lxd_export_1", "lxd_import_1", "instances/c1/half", "instances/gone/half"} {
		path := filepath.Join(w.dir, "backups", f)
		w.ok(os.MkdirAll(filepath.Dir(path), 0o700))
		w.ok(os.WriteFile(path, nil, 0o600))
	}
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	all, err := w.s.Backups(t.Context(), w.load("c1"))
	w.ok(err)
	if len(all) != 1 || all[0].Name != "good" || len(w.spooled()) != 0 {
		t.Errorf("backups %v, left %v", all, w.spooled())
	}
	if _, err := os.Lstat(good); err != nil {
		t.Error(err)
	}
	if files, _ := filepath.Glob(filepath.Join(w.dir, "backups", "instances", "*", "*")); len(files) != 2 { // the good one, and that of an instance of which nobody knows
		t.Errorf("files %v", files)
	}
}

// TestBackupsHaveTheirNamesFromTheBeginning: two that ask at the same time get two.
func TestBackupsHaveTheirNamesFromTheBeginning(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	plan := func(name string) (instance.NewBackup, error) {
		return w.s.PlanBackup(t.Context(), w.load("c1"), instance.NewBackup{Name: name, Compression: "none"})
	}
	a, err := plan("")
	w.ok(err)
	b, err := plan("")
	w.ok(err)
	if a.Name != "backup0" || b.Name != "backup1" {
		t.Errorf("names %q and %q", a.Name, b.Name)
	}
	if _, err := plan("backup0"); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a name that is taken: %v", err)
	}
	a.Drop()
	_, err = w.s.CreateBackup(t.Context(), "default", "c1", b, nil)
	w.ok(err)
	if a, err = plan(""); err != nil || a.Name != "backup0" {
		t.Errorf("a name that was given back: %q, %v", a.Name, err)
	}
	a.Drop()
	_, err = w.backup(instance.NewBackup{Name: "backup0", Compression: "none"})
	w.ok(err)
}

// TestNoRenameWhileABackupChanges: the files of backups lie in a folder of the instance's
// name.
func TestNoRenameWhileABackupChanges(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	_, err := w.backup(instance.NewBackup{Name: "b", Compression: "none"})
	w.ok(err)
	was := w.load("c1")
	unlock, err := w.locks.TryLock("delete of a backup", (&instance.Backup{Name: "b"}).Ref(was))
	w.ok(err)
	for what, err := range map[string]error{
		"rename": w.s.Rename(t.Context(), "default", "c1", "c2", nil),
		"delete": w.s.Delete(t.Context(), "default", "c1", nil),
	} {
		if !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), `Backup "b" of instance "c1" is busy: delete of a backup`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	unlock()
	w.ok(w.s.Rename(t.Context(), "default", "c1", "c2", nil))
	// Who has looked at it before does not touch what is elsewhere now.
	if err := w.s.DeleteBackup(t.Context(), was, "b", nil); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("delete: %v", err)
	}
	if err := w.s.RenameBackup(t.Context(), was, "b", "n", nil); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("rename: %v", err)
	}
	if _, err := os.Lstat(w.backupFile("c2", "b")); err != nil {
		t.Error(err)
	}
	w.ok(w.s.DeleteBackup(t.Context(), w.load("c2"), "b", nil))
}

func TestTheFileBesideAnInstanceTellsWhatItIs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) { r.Config = map[string]string{"user.a": "1"} }))
	w.ok(w.s.KeepFiles(t.Context()))
	read := func(name string) *backup.Config {
		t.Helper()
		c, err := backup.Load(filepath.Join(w.pools.dir, name))
		w.ok(err)
		return c
	}
	if c := read("c1"); c.Container.Config["user.a"] != "1" || c.Pool.Name != "pool" || c.Volume.Name != "c1" || c.Profiles[0].Name != "default" {
		t.Errorf("it says %+v", c)
	}
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s0"}))
	i := w.load("c1")
	c := maps.Clone(i.Config)
	delete(c, "volatile.sett_pending")
	c["user.a"] = "2"
	w.ok(w.s.Update(t.Context(), admin, i, instance.Change{Config: c, Profiles: []string{"default"}}))
	w.ok(w.s.Rename(t.Context(), "default", "c1", "c2", nil))
	w.ok(w.s.KeepFiles(t.Context()))
	if c := read("c2"); c.Container.Name != "c2" || c.Container.Config["user.a"] != "2" || len(c.Snapshots) != 1 || c.VolumeSnapshots[0].Name != "s0" {
		t.Errorf("it says %+v", c)
	}
	// A guest cannot make the daemon write elsewhere.
	outside := filepath.Join(t.TempDir(), "outside")
	w.ok(os.WriteFile(outside, []byte("mine"), 0o600))
	file := filepath.Join(w.pools.dir, "c2", "backup.yaml")
	w.ok(errors.Join(os.Remove(file), os.Symlink(outside, file)))
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.ok(w.s.KeepFiles(t.Context()))
	if b, _ := os.ReadFile(outside); string(b) != "mine" {
		t.Errorf("the file outside holds %q", b)
	}
	if c := read("c2"); c.Container.Name != "c2" {
		t.Errorf("it says %+v", c)
	}
	w.ok(w.s.Delete(t.Context(), "default", "c2", nil))
	w.ok(w.s.KeepFiles(t.Context()))
	w.clean()
}
