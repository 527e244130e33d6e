package instance_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/auth"
	"sett/lxd/db/dbtest"
	"sett/lxd/host/unpack"
	"sett/lxd/instance"
	"sett/lxd/instance/backup"
	"sett/shared/api"
	"sett/shared/errs"
)

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
