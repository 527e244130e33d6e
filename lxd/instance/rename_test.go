package instance_test

import (
	"os"
	"path/filepath"
	"testing"

	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/shared/errs"
)

// there checks under which of two names everything of an instance is.
func (w *world) there(name, not string) {
	w.t.Helper()
	i := w.load(name)
	if p := i.Config["volatile.sett_pending"]; p != "" && p != "create" {
		w.t.Errorf("still marked: %q", p)
	}
	if _, err := w.s.Load(w.t.Context(), "default", not); !errs.Is(err, errs.KindNotFound) {
		w.t.Errorf("%s: %v", not, err)
	}
	w.pools.mu.Lock()
	defer w.pools.mu.Unlock()
	if v := (instance.Volume{Pool: "pool", Project: "default", Instance: name}); len(w.pools.vols) != 1 || !hasKey(w.pools.vols, v) {
		w.t.Errorf("volumes %v, want that of %s", w.pools.vols, name)
	}
	for _, d := range []string{"logs", "devices"} {
		ents, _ := os.ReadDir(filepath.Join(w.dir, d))
		if len(ents) != 1 || ents[0].Name() != name {
			w.t.Errorf("in %s: %v, want %s", d, ents, name)
		}
	}
}

func TestRenameThatFailsIsTakenBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.pools.fail["rename"] = errs.Internal("the disk is broken")
	if err := w.s.Rename(t.Context(), "default", "c1", "c2", nil); err == nil {
		t.Error("it worked")
	}
	w.there("c1", "c2")
	// The last step: the row cannot get the name.
	dbtest.Exec(t, w.db, `CREATE TRIGGER no BEFORE UPDATE OF name ON instances BEGIN SELECT RAISE(ABORT, 'no'); END`)
	if err := w.s.Rename(t.Context(), "default", "c1", "c2", nil); err == nil {
		t.Error("it worked")
	}
	w.there("c1", "c2")
	dbtest.Exec(t, w.db, `DROP TRIGGER no`)
	w.ok(w.s.Rename(t.Context(), "default", "c1", "c2", nil))
	w.there("c2", "c1")
}

// What a member has left behind of an instance that went to another one, or that is gone there.
func TestRenameOntoAVolumeThatWasLeft(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c2"))
	v := instance.Volume{Pool: "pool", Project: "default", Instance: "c2"}
	left := w.pools.vols[v]
	w.ok(w.s.Delete(t.Context(), "default", "c2", nil))
	w.pools.vols[v] = left
	w.ok(w.create("c1"))
	if err := w.s.Rename(t.Context(), "default", "c1", "c2", nil); !errs.Is(err, errs.KindConflict) {
		t.Errorf("its name is taken: %v", err)
	}
	if !hasKey(w.pools.vols, v) {
		t.Error("it is gone")
	}
	delete(w.pools.vols, v)
	w.there("c1", "c2")
	w.pools.vols[v] = left
	w.ok(w.start("c1"))
}

func TestRenameCutOffByAKillIsTakenBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	mark := func() {
		dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', 'rename to c2' FROM instances`)
	}
	mark()
	w.s = w.service()
	w.ok(w.s.Recover(t.Context())) // killed before the first step
	w.there("c1", "c2")

	half := func() {
		mark()
		w.ok(w.pools.Rename(t.Context(), instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}, "c2"))
		w.ok(os.Rename(filepath.Join(w.dir, "logs/c1"), filepath.Join(w.dir, "logs/c2")))
	}
	half()
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.there("c1", "c2")

	// What cannot be taken back at the start is taken back before the next use.
	half()
	w.pools.fail["rename"] = errs.Internal("the pool is not there")
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	if got := w.load("c1").Config["volatile.sett_pending"]; got != "rename to c2" {
		t.Errorf("the mark is %q", got)
	}
	w.ok(w.start("c1"))
	w.there("c1", "c2")
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.clean()
}
