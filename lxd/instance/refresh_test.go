package instance_test

import (
	"maps"
	"strings"
	"testing"

	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/shared/errs"
)

func TestRefreshBringsContentAndSnapshots(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2", refresh)) // there is none yet
	before := w.load("c2")
	w.ok(w.s.DeleteSnapshot(t.Context(), "default", "c1", "s1", nil))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s1"})) // another one of its name
	w.write("three")
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s2"}))
	_, err := w.s.CreateSnapshot(t.Context(), "default", "c2", instance.NewSnapshot{Name: "own"}, nil)
	w.ok(err)
	w.ok(w.copyOf("c1", "c2", refresh, alone))
	w.holds("pool", "c2", "three", "s1", "own")
	w.ok(w.copyOf("c1", "c2", refresh))
	all := w.holds("pool", "c2", "three", "s1", "s2")
	want := w.snapshots("s1", "s2")
	if !all[0].Created.Equal(want[0].Created) || !all[1].Created.Equal(want[1].Created) {
		t.Errorf("taken at %v and %v", all[0].Created, all[1].Created)
	}
	v := instance.Volume{Pool: "pool", Project: "default", Instance: "c2"}
	if b, _ := w.pools.read(v, "s1"); string(b) != "two" {
		t.Errorf("s1 holds %q", b)
	}
	after := w.load("c2")
	if !maps.Equal(before.Config, after.Config) {
		t.Errorf("was %v\nis %v", before.Config, after.Config)
	}
	w.ok(w.copyOf("c1", "c3", intoOther))
	w.write("four")
	w.ok(w.copyOf("c1", "c3", refresh))
	w.holds("other", "c3", "four", "s1", "s2")
	w.ok(w.start("c2"))
	if err := w.copyOf("c1", "c2", refresh); errs.Status(err) != 400 || !strings.Contains(err.Error(), "running") {
		t.Errorf("refresh of one that runs: %v", err)
	}
}

func TestFailedRefreshKeepsWhatWasThere(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2"))
	_, err := w.s.CreateSnapshot(t.Context(), "default", "c2", instance.NewSnapshot{Name: "own"}, nil)
	w.ok(err)
	w.write("three")
	w.pools.fail["refresh"] = errs.Internal("boom")
	if err := w.copyOf("c1", "c2", refresh); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Fatalf("got %v", err)
	}
	w.holds("pool", "c2", "two", "s1", "own")
	// Ids that are written otherwise on disk are made to fit, or nothing changes.
	dbtest.Exec(t, w.db, `UPDATE instances_config SET value = '[{"Isuid":true,"Isgid":true,"Hostid":1000000,"Nsid":0,"Maprange":65536}]'
		WHERE key = 'volatile.last_state.idmap' AND instance_id = (SELECT id FROM instances WHERE name = 'c1')`)
	if err := w.copyOf("c1", "c2", refresh); err == nil || !strings.Contains(err.Error(), "shifted") {
		t.Errorf("got %v", err)
	}
	w.holds("pool", "c2", "two", "s1", "own")
	w.ok(w.copyOf("c1", "c4"))
	if a, b := w.load("c1").Config, w.load("c4").Config; a["volatile.last_state.idmap"] != b["volatile.last_state.idmap"] {
		t.Errorf("the copy's ids are %q", b["volatile.last_state.idmap"])
	}
}

// TestRefreshByOlderClients: they end it by writing all that the source says, what the
// daemon has noted of it included, over what the copy says.
func TestRefreshByOlderClients(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2", intoOther))
	before := w.load("c2").Config
	w.ok(w.update(func(c *instance.Change) { c.Config["user.colour"] = "green" }))
	w.ok(w.copyOf("c1", "c2", refresh))
	put := func() error {
		i := w.load("c2")
		c := maps.Clone(w.load("c1").Config)
		maps.DeleteFunc(c, func(k, _ string) bool { return strings.HasPrefix(k, "volatile.sett_") })
		return w.s.Update(t.Context(), admin, i, instance.Change{Config: c, Devices: w.load("c1").Devices, Profiles: []string{"default"}})
	}
	w.ok(put())
	after := w.load("c2").Config
	for k, v := range before {
		if strings.HasPrefix(k, "volatile.") && k != "volatile.sett_pending" && after[k] != v {
			t.Errorf("%s was %q and is %q", k, v, after[k])
		}
	}
	if d := w.load("c2").Devices; after["user.colour"] != "green" || d["root"]["pool"] != "other" {
		t.Errorf("%v %v", after, d)
	}
	if err := put(); err == nil || !strings.Contains(err.Error(), "the daemon's own") {
		t.Errorf("without a refresh: %v", err)
	}
}

// TestRefreshOfOneWithoutARootDisk: it lacks one for a while.
func TestRefreshOfOneWithoutARootDisk(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2", alone))
	i := w.load("c2")
	c := maps.Clone(i.Config)
	delete(c, "volatile.sett_pending")
	w.ok(w.s.Update(t.Context(), admin, i, instance.Change{Config: c}))
	w.write("three")
	w.ok(w.copyOf("c1", "c2", refresh))
	w.holds("pool", "c2", "three", "s1")
	if err := w.copyOf("c2", "c3"); errs.Status(err) != 400 || !strings.Contains(err.Error(), "root") {
		t.Errorf("a copy of it: %v", err)
	}
	w.ok(w.copyOf("c2", "c3", intoOther))
	w.holds("other", "c3", "three", "s1")
}

// TestWhoWritesSoonAfterARefreshOnly: what is the copy's own is kept from those who end a
// refresh, and not from a change much later.
func TestWhoWritesSoonAfterARefreshOnly(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2"))
	w.ok(w.copyOf("c1", "c2", refresh))
	w.ok(w.s.Start(t.Context(), "default", "c2", nil))
	w.ok(w.s.Stop(t.Context(), "default", "c2", instance.StopOptions{Force: true}, nil))
	i := w.load("c2")
	c := instance.Change{Config: maps.Clone(i.Config), Profiles: []string{"default"},
		Devices: map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "other"}}}
	own(c.Config)
	if err := w.s.Update(t.Context(), admin, i, c); err == nil || !strings.Contains(err.Error(), "move the instance instead") {
		t.Errorf("another pool: %v", err)
	}
}
