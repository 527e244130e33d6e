package instance_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v2"

	"sett/lxd/auth"
	"sett/lxd/db/dbtest"
	"sett/lxd/host/unpack"
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

func (w *world) importFile(path string, o instance.ImportOptions) error {
	return w.importAs(admin, path, o)
}

func (w *world) importAs(as auth.Caller, path string, o instance.ImportOptions) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := w.s.PlanImport(w.t.Context(), as, "default", f, o)
	if err != nil {
		return err
	}
	return w.s.Import(w.t.Context(), p, nil)
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

func TestFailedStepsOfAnImportLeaveNothing(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	for _, at := range []string{"add a", "add b", "create", "unpack backup/container", "unpack backup/snapshots/s0", "fill snapshot", "record", "full"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			var failing bool
			w.broken = func(img unpack.Image) error {
				switch {
				case failing && "unpack "+img.Rootfs == at:
					return boom
				case failing && at == "full":
					return fmt.Errorf("%w: boom", unix.ENOSPC)
				}
				return nil
			}
			w.s = w.service()
			w.ok(w.create("c1", twoNICs))
			w.ok(w.snapshot(instance.NewSnapshot{Name: "s0"}))
			path, err := w.backup(instance.NewBackup{Compression: "zstd"})
			w.ok(err)
			kept := filepath.Join(t.TempDir(), "kept")
			w.ok(os.Link(path, kept))
			w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
			failing = true
			w.nics.fail[at], w.pools.fail[at] = boom, boom
			if at == "record" {
				dbtest.Exec(t, w.db, `CREATE TRIGGER boom BEFORE INSERT ON instances_snapshots BEGIN SELECT RAISE(ABORT, 'boom'); END`)
			}
			if err := w.importFile(kept, instance.ImportOptions{}); err == nil || !strings.Contains(err.Error(), "boom") {
				t.Fatalf("got %v", err)
			}
			w.clean()
			if joined, used := w.nics.holds(); joined+used != 0 {
				t.Errorf("%d devices joined, %d in use", joined, used)
			}
			if es, _ := os.ReadDir(w.pools.dir); slices.ContainsFunc(es, func(e os.DirEntry) bool { return e.Name() == "c1" }) {
				t.Error("the volume's folder is left")
			}
			failing = false
			if at == "record" {
				dbtest.Exec(t, w.db, `DROP TRIGGER boom`)
			}
			w.ok(w.importFile(kept, instance.ImportOptions{}))
		})
	}
}

func TestAKilledImportIsTakenBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s0"}))
	// As it looks when the volume and some of the snapshots are there.
	dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', 'import' FROM instances`)
	dbtest.Exec(t, w.db, `DELETE FROM instances_snapshots`)
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.clean()
}

// archiveOf makes a backup by hand.
func archiveOf(t *testing.T, x *backup.Index, more ...tar.Header) string {
	t.Helper()
	text, err := backup.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	return rawArchive(t, string(text), more...)
}

func rawArchive(t *testing.T, index string, more ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, text string) {
		h.Size = int64(len(text))
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if index != "" {
		add(tar.Header{Name: "backup/index.yaml", Typeflag: tar.TypeReg}, index)
	}
	for _, h := range more {
		add(h, "")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "backup.tar")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func index(name string, more ...func(*backup.Index)) *backup.Index {
	c := &api.Instance{Name: name}
	c.Architecture, c.Profiles, c.Config, c.Devices = "x86_64", []string{"default"}, map[string]string{}, map[string]map[string]string{}
	x := &backup.Index{Name: name, Backend: "dir", Pool: "pool", Type: "container", Config: &backup.Config{Container: c}}
	for _, f := range more {
		f(x)
	}
	return x
}

func rootfs(folder string) tar.Header {
	return tar.Header{Name: folder + "/rootfs/", Typeflag: tar.TypeDir}
}

func TestBackupsOfStrangersAreLookedThrough(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bob := auth.Caller{Protocol: "tls", Username: "bob", Projects: []string{"default"}}
	conf := func(k, v string) func(*backup.Index) {
		return func(x *backup.Index) { x.Config.Container.Config[k] = v }
	}
	snap := func(name string, config map[string]string) func(*backup.Index) {
		return func(x *backup.Index) {
			x.Snapshots = append(x.Snapshots, name)
			x.Config.Snapshots = append(x.Config.Snapshots, &api.InstanceSnapshot{Name: name, Config: config})
		}
	}
	dev := func(d map[string]string) func(*backup.Index) {
		return func(x *backup.Index) { x.Config.Container.Devices["d"] = d }
	}
	for _, c := range []struct {
		what string
		as   auth.Caller
		kind errs.Kind
		says string
		path string
	}{
		{"no tarball", admin, errs.KindInvalid, "not a tarball", filepath.Join(w.dir, "x")},
		{"no index", admin, errs.KindInvalid, "missing index.yaml", rawArchive(t, "", rootfs("backup/container"))},
		{"names that climb out", admin, errs.KindInvalid, "..", rawArchive(t, "", tar.Header{Name: "backup/../../etc/passwd", Typeflag: tar.TypeReg})},
		{"an index that is a link", admin, errs.KindInvalid, "missing index.yaml", rawArchive(t, "", tar.Header{Name: "backup/index.yaml", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})},
		{"nonsense", admin, errs.KindInvalid, "not right", rawArchive(t, "name: [")},
		{"a bomb", admin, errs.KindInvalid, "not right", rawArchive(t, bomb())},
		{"nothing in it", admin, errs.KindInvalid, "names no instance", rawArchive(t, "{}\n")},
		{"no configuration", admin, errs.KindInvalid, "no configuration", rawArchive(t, "name: c1\n", rootfs("backup/container"))},
		{"a virtual machine", admin, errs.KindNotImplemented, "Virtual machines", archiveOf(t, index("c1", func(x *backup.Index) { x.Type = "virtual-machine" }))},
		{"a name", admin, errs.KindInvalid, "instance name", archiveOf(t, index("../c1"))},
		{"a profile", admin, errs.KindNotFound, "rofile", archiveOf(t, index("c1", func(x *backup.Index) { x.Config.Container.Profiles = []string{"nope"} }))},
		{"an unknown key", admin, errs.KindInvalid, "no.such", archiveOf(t, index("c1", conf("no.such", "1")))},
		{"another machine", admin, errs.KindInvalid, "cannot run here", archiveOf(t, index("c1", func(x *backup.Index) { x.Config.Container.Architecture = "s390x" }))},
		{"a snapshot's name", admin, errs.KindInvalid, "", archiveOf(t, index("c1", snap("../s0", nil)))},
		{"a snapshot twice", admin, errs.KindInvalid, "twice", archiveOf(t, index("c1", snap("s0", nil), snap("s0", nil)))},
		{"a snapshot of which nothing is told", admin, errs.KindInvalid, "no configuration of snapshot", archiveOf(t, index("c1", func(x *backup.Index) { x.Snapshots = []string{"s0"} }))},
		{"raw.lxc", bob, errs.KindForbidden, "raw.lxc", archiveOf(t, index("c1", conf("raw.lxc", "lxc.x=y")))},
		{"raw.lxc in a snapshot", bob, errs.KindForbidden, "raw.lxc", archiveOf(t, index("c1", snap("s0", map[string]string{"raw.lxc": "lxc.x=y"})))},
		{"privileged", bob, errs.KindForbidden, "security.privileged", archiveOf(t, index("c1", conf("security.privileged", "true")))},
		{"a folder of the host", bob, errs.KindForbidden, "reaches the host", archiveOf(t, index("c1", dev(map[string]string{"type": "disk", "source": "/", "path": "/host"})))},
		{"ids of the host", bob, errs.KindForbidden, "ids", archiveOf(t, index("c1", conf("volatile.last_state.idmap", `[{"Isuid":true,"Isgid":true,"Hostid":0,"Nsid":0,"Maprange":1000}]`)))},
		{"ids of the host in a snapshot", bob, errs.KindForbidden, "ids", archiveOf(t, index("c1", snap("s0", map[string]string{"volatile.last_state.idmap": `[{"Isuid":true,"Isgid":true,"Hostid":0,"Nsid":0,"Maprange":1000}]`})))},
		{"no root file system", admin, errs.KindInvalid, "backup/container/rootfs", archiveOf(t, index("c1"), tar.Header{Name: "backup/container/x", Typeflag: tar.TypeReg})},
		{"a link for one", admin, errs.KindInvalid, "backup/container/rootfs", archiveOf(t, index("c1"), tar.Header{Name: "backup/container/rootfs", Typeflag: tar.TypeSymlink, Linkname: "/"})},
		{"optimized", admin, errs.KindNotImplemented, "optimized", archiveOf(t, index("c1", func(x *backup.Index) { x.Optimized = true }))},
	} {
		if c.what == "no tarball" {
			w.ok(os.WriteFile(c.path, []byte("hello"), 0o600))
		}
		if err := w.importAs(c.as, c.path, instance.ImportOptions{}); !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.what, err)
		}
		w.clean()
	}
	// What was true elsewhere is not believed, and what is harmless is taken.
	w.ok(w.importAs(bob, archiveOf(t, index("c1", conf("volatile.last_state.power", "RUNNING"), conf("volatile.eth0.host_name", "eth0"),
		conf("volatile.eth0.hwaddr", "00:16:3e:00:00:01"), conf("volatile.idmap.next", "[]"), conf("user.x", "y")), rootfs("backup/container"),
		tar.Header{Name: "backup/container/backup.yaml", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), instance.ImportOptions{}))
	c := w.load("c1").Config
	if c["volatile.last_state.power"] != "" || c["volatile.eth0.host_name"] != "" || c["volatile.eth0.hwaddr"] == "" || c["user.x"] != "y" || !strings.Contains(c["volatile.idmap.next"], "1000000") {
		t.Errorf("config %v", c)
	}
	fi, err := os.Lstat(filepath.Join(w.pools.dir, "c1", "backup.yaml"))
	if err != nil || !fi.Mode().IsRegular() {
		t.Errorf("backup.yaml is %v, %v", fi, err)
	}
}

// TestAnImportKeepsToTheSizeOfItsDisk: the limits are there before the content, and what
// does not fit is told in one sentence and leaves nothing.
func TestAnImportKeepsToTheSizeOfItsDisk(t *testing.T) {
	t.Parallel()
	w := setup(t)
	full := false
	w.broken = func(unpack.Image) error {
		if full {
			return fmt.Errorf("%w: boom", unix.EDQUOT)
		}
		return nil
	}
	w.s = w.service()
	sized := func(x *backup.Index) {
		root := func(size string) map[string]map[string]string {
			return map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "pool", "size": size}}
		}
		x.Config.Container.Devices = root("1GiB")
		x.Snapshots = []string{"larger", "smaller", "none"}
		x.Config.Snapshots = []*api.InstanceSnapshot{{Name: "larger", Devices: root("2GiB")}, {Name: "smaller", Devices: root("10MiB")}, {Name: "none"}}
	}
	path := archiveOf(t, index("c1", sized), rootfs("backup/snapshots/larger"), rootfs("backup/snapshots/smaller"), rootfs("backup/snapshots/none"), rootfs("backup/container"))
	full = true
	if err := w.importFile(path, instance.ImportOptions{}); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "larger than the size limit of its root disk") {
		t.Errorf("got %v", err)
	}
	w.clean()
	full = false
	w.ok(w.importFile(path, instance.ImportOptions{}))
	var sizes []int64
	for _, sn := range w.pools.brought {
		sizes = append(sizes, sn.Size)
	}
	if got := w.pools.size[instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}]; got != 1<<30 || !slices.Equal(sizes, []int64{2 << 30, 1 << 30, 1 << 30}) {
		t.Errorf("size %d, of the snapshots %d", got, sizes)
	}
	bad := archiveOf(t, index("c2", sized, func(x *backup.Index) { x.Config.Snapshots[0].Devices["root"]["size"] = "lots" }))
	if err := w.importFile(bad, instance.ImportOptions{}); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "lots") {
		t.Errorf("a size that is none: %v", err)
	}
}

func TestBackupsHoldSoManySnapshots(t *testing.T) {
	t.Parallel()
	w := setup(t)
	many := func(x *backup.Index) { x.Snapshots = make([]string, backup.MaxSnapshots+1) }
	if err := w.importFile(archiveOf(t, index("c1", many)), instance.ImportOptions{}); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "1001 snapshots") {
		t.Errorf("import: %v", err)
	}
	w.ok(w.create("c1"))
	dbtest.Exec(t, w.db, `WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1001)
		INSERT INTO instances_snapshots (instance_id, name, creation_date, stateful) SELECT i.id, 's' || x, CURRENT_TIMESTAMP, 0 FROM instances AS i, n`)
	if _, err := w.backup(instance.NewBackup{Compression: "none"}); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "--instance-only") {
		t.Errorf("export: %v", err)
	}
	_, err := w.backup(instance.NewBackup{Compression: "none", InstanceOnly: true})
	w.ok(err)
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

// bomb is a small text that stands for a large one.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for n := 1; n < 12; n++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", n, n, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", n-1), 10), ","))
	}
	b.WriteString("name: *a11\n")
	return b.String()
}

func TestAnImportFindsItsPool(t *testing.T) {
	t.Parallel()
	w := setup(t)
	elsewhere := func(x *backup.Index) {
		x.Pool = "gone"
		x.Config.Container.Devices["root"] = map[string]string{"type": "disk", "path": "/", "pool": "gone", "size": "1GiB"}
		x.Snapshots = []string{"s0"}
		x.Config.Snapshots = []*api.InstanceSnapshot{{Name: "c1/s0", Devices: maps.Clone(x.Config.Container.Devices)}}
	}
	path := archiveOf(t, index("c1", elsewhere), rootfs("backup/snapshots/s0"), rootfs("backup/container"))
	if err := w.importFile(path, instance.ImportOptions{Pool: "nope"}); !errs.Is(err, errs.KindNotFound) || !strings.Contains(err.Error(), `"nope"`) {
		t.Errorf("an unknown pool: %v", err)
	}
	w.ok(w.importFile(path, instance.ImportOptions{}))
	if d := w.load("c1").Devices["root"]; d["pool"] != "pool" || d["size"] != "1GiB" {
		t.Errorf("root %v", d)
	}
	if sn := w.snapshots("s0")[0]; sn.Devices["root"]["pool"] != "pool" {
		t.Errorf("the snapshot's devices %v", sn.Devices)
	}
	w.ok(w.s.Restore(t.Context(), admin, "default", "c1", "s0"))
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
