package instance_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

func (w *world) rebuild(src api.InstanceSource) error {
	return w.s.Rebuild(w.t.Context(), admin, "default", "c1", src)
}

var alpine = api.InstanceSource{Type: "image", Alias: "alpine"}

func TestRebuildKeepsWhatIsNotTheImages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		r.Config = map[string]string{"user.a": "b", "image.mine": "x", "limits.memory": "64MiB"}
		r.Devices = map[string]map[string]string{"eth0": {"type": "nic", "network": "net"}}
	}))
	w.write("of debian")
	w.ok(w.start("c1"))
	if err := w.rebuild(alpine); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "must be stopped") {
		t.Errorf("of a running one: %v", err)
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.last_state.idmap', '[{"Isuid":true,"Isgid":true,"Hostid":5,"Nsid":0,"Maprange":9}]' FROM instances`)
	before := w.load("c1")
	w.ok(w.rebuild(alpine))
	w.content("of def")
	i := w.load("c1")
	for k, v := range map[string]string{"image.os": "Alpine", "image.release": "3", "image.mine": "", "volatile.base_image": "def", "volatile.apply_template": "create",
		"volatile.last_state.idmap": "[]", "volatile.sett_pending": "", "user.a": "b", "limits.memory": "64MiB", "volatile.uuid": before.Config["volatile.uuid"]} {
		if i.Config[k] != v {
			t.Errorf("%s is %q, want %q", k, i.Config[k], v)
		}
	}
	if i.Architecture != "i686" || i.Devices["eth0"]["network"] != "net" || i.ID != before.ID || i.Config["volatile.cloud-init.instance-id"] == before.Config["volatile.cloud-init.instance-id"] {
		t.Errorf("instance %+v", i)
	}
	w.ok(w.rebuild(api.InstanceSource{Type: "none"}))
	w.content("of ")
	if c := w.load("c1").Config; c["image.os"] != "" || c["volatile.base_image"] != "" || c["volatile.apply_template"] != "create" {
		t.Errorf("emptied: %v", c)
	}
}

func TestRebuildRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.write("of debian")
	for want, src := range map[string]api.InstanceSource{
		"has no type":          {},
		"source type \"copy\"": {Type: "copy"},
		"not found":            {Type: "image", Alias: "nope"},
		"cannot run here":      {Type: "image", Alias: "arm"},
	} {
		if err := w.rebuild(src); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", src, err)
		}
	}
	// Who has the project only may do it, though the daemon notes volatile keys.
	w.ok(w.s.Rebuild(t.Context(), auth.Caller{Protocol: "tls", Projects: []string{"default"}}, "default", "c1", alpine))
	w.write("of debian")
	w.ok(w.snapshot(instance.NewSnapshot{}))
	if err := w.rebuild(alpine); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "1 snapshots") {
		t.Errorf("with a snapshot: %v", err)
	}
	w.content("of debian")
	if c := w.load("c1").Config; c["volatile.sett_pending"] != "" {
		t.Errorf("config %v", c)
	}
}

func TestRebuildThatFailsLeavesWhatWas(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.write("of debian")
	w.pools.fail["rebuild"] = errs.Internal("the pool is full")
	if err := w.rebuild(alpine); err == nil || !strings.Contains(err.Error(), "the pool is full") {
		t.Fatalf("got %v", err)
	}
	w.content("of debian")
	if c := w.load("c1").Config; c["image.os"] != "Debian" || c["volatile.base_image"] != "abc" || c["volatile.sett_pending"] != "" {
		t.Errorf("config %v", c)
	}

	// The rows cannot be written once the content has changed: it is done again later.
	dbtest.Exec(t, w.db, `CREATE TRIGGER boom BEFORE UPDATE OF architecture ON instances BEGIN SELECT RAISE(ABORT, 'boom'); END`)
	if err := w.rebuild(alpine); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Fatalf("got %v", err)
	}
	dbtest.Exec(t, w.db, `DROP TRIGGER boom`)
	w.ok(w.start("c1"))
	w.content("of def")
	if c := w.load("c1").Config; c["image.os"] != "Alpine" || c["volatile.base_image"] != "def" || c["volatile.sett_pending"] != "" {
		t.Errorf("config %v", c)
	}
}

func TestRebuildCutOffByAKillIsEnded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.write("of debian")
	cut := func(what string) {
		t.Helper()
		dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', ? FROM instances`, what)
		w.s = w.service()
		w.ok(w.s.Recover(t.Context()))
		if p := w.load("c1").Config["volatile.sett_pending"]; p != "" {
			t.Errorf("%s is still to be done", p)
		}
	}
	cut("rebuild def")
	w.content("of def")
	if c := w.load("c1").Config; c["image.os"] != "Alpine" {
		t.Errorf("config %v", c)
	}
	// The image has been deleted since: what is there stays, and can be used.
	cut("rebuild 0123")
	w.content("of def")
	w.ok(w.start("c1"))
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	cut("rebuild ")
	w.content("of ")
}

func TestPublishedInstancesAndSnapshotsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(os.WriteFile(filepath.Join(w.pools.dir, "c1", "metadata.yaml"), []byte("architecture: x86_64\n"), 0o644))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "snap"}))
	publish := func(name string) (func(), error) {
		src, err := w.s.Publish(t.Context(), "default", name)
		if err != nil {
			return nil, err
		}
		if string(src.Metadata) != "architecture: x86_64\n" || src.Architecture != "x86_64" || !strings.HasSuffix(strings.TrimSuffix(src.Dir, "/snap"), "/c1") {
			t.Errorf("source %+v", src)
		}
		return src.Release, nil
	}
	busy := func(what string, err error) {
		t.Helper()
		if !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "publish is under way") {
			t.Errorf("%s: %v", what, err)
		}
	}
	release, err := publish("c1")
	w.ok(err)
	busy("start", w.start("c1"))
	busy("delete", w.s.Delete(t.Context(), "default", "c1", nil))
	_, err = publish("c1")
	busy("publish", err)
	release()
	release()

	release, err = publish("c1/snap")
	w.ok(err)
	w.ok(w.start("c1")) // goes on
	busy("delete of the snapshot", w.s.DeleteSnapshot(t.Context(), "default", "c1", "snap", nil))
	busy("rename of the snapshot", w.s.RenameSnapshot(t.Context(), "default", "c1", "snap", "other", nil))
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	busy("delete", w.s.Delete(t.Context(), "default", "c1", nil))
	busy("rename", w.s.Rename(t.Context(), "default", "c1", "c2", nil))
	busy("move", w.s.Move(t.Context(), admin, "default", "c1", instance.NewPlace{Pool: "other"}, nil))
	release()
	if w.pools.seen != 0 || w.pools.vols[instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}] != 0 {
		t.Errorf("still in use: %d snapshots, volumes %v", w.pools.seen, w.pools.vols)
	}

	w.ok(w.start("c1"))
	if _, err := publish("c1"); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "running") {
		t.Errorf("of a running one: %v", err)
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	for _, name := range []string{"nope", "c1/nope"} {
		if _, err := publish(name); !errs.Is(err, errs.KindNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.pools.fail["mount"] = errs.Internal("broken")
	if _, err := publish("c1"); err == nil {
		t.Error("published what cannot be mounted")
	}
	w.pools.fail["mount snapshot"] = errs.Internal("broken")
	if _, err := publish("c1/snap"); err == nil {
		t.Error("published what cannot be mounted")
	}
	dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.last_state.idmap', '[{"Isuid":true,"Isgid":true,"Hostid":5000,"Nsid":0,"Maprange":90}]' FROM instances`)
	src, err := w.s.Publish(t.Context(), "default", "c1")
	w.ok(err)
	if src.IDs.UID(5007) != 7 || src.IDs.GID(5008) != 8 {
		t.Errorf("owners are not turned into the guest's: %+v", src.IDs)
	}
	src.Release()
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.clean()
}
