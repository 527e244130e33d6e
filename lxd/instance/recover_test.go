package instance_test

import (
	"strings"
	"testing"

	"sett/lxd/container/fake"
	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

func TestDaemonRestartFindsWhatRuns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, n := range []string{"run", "froze", "died", "off"} {
		w.ok(w.create(n))
	}
	for _, n := range []string{"run", "froze", "died"} {
		w.ok(w.start(n))
	}
	w.ok(w.s.Freeze(t.Context(), "default", "froze", nil))
	w.s.Close()
	w.guest("died").Halt()
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.is("run", instance.Running)
	w.is("froze", instance.Frozen)
	w.is("died", instance.Stopped)
	w.is("off", instance.Stopped)
	w.ok(w.stop("run", instance.StopOptions{Force: true}))
	w.ok(w.stop("froze", instance.StopOptions{Force: true}))
	w.s.Autostart(t.Context()) // "died" ran when it was last seen, the others were stopped since
	w.is("died", instance.Running)
	w.is("run", instance.Stopped)
}

func TestInterruptedWorkIsFinishedOrTakenBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("half"))
	w.ok(w.create("going"))
	w.ok(w.create("whole"))
	w.s.Close()
	for n, p := range map[string]string{"half": "create", "going": "delete"} {
		dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', ? FROM instances WHERE name = ?`, p, n)
	}
	delete(w.pools.vols, instance.Volume{Pool: "pool", Project: "default", Instance: "half"})
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	all, err := w.s.List(t.Context(), "")
	w.ok(err)
	if len(all) != 1 || all[0].Name != "whole" || all[0].Config["volatile.sett_pending"] != "" || len(w.pools.vols) != 1 {
		t.Errorf("left: %d instances, volumes %v", len(all), w.pools.vols)
	}
}

func TestWhatCannotBeLookedAtIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.s.Close()
	w.engine.Fail(fake.Find, errs.Internal("no answer"), errs.Internal("still none"))
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.is("c1", instance.Errored)
	if err := w.s.Delete(t.Context(), "default", "c1", nil); err == nil || !strings.Contains(err.Error(), "Cannot tell") {
		t.Errorf("delete without an answer: %v", err)
	}
	if err := w.s.Delete(t.Context(), "default", "c1", nil); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("delete of what runs after all: %v", err)
	}
	w.is("c1", instance.Running)
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.clean()
}

// TestWhatIsHalfGoneCanOnlyGo: nobody makes an instance whole again of which a part is
// deleted already.
func TestWhatIsHalfGoneCanOnlyGo(t *testing.T) {
	t.Parallel()
	for _, pending := range []string{"delete", "import"} {
		w := setup(t)
		w.ok(w.create("c1"))
		w.ok(w.snapshot(instance.NewSnapshot{Name: "s"}))
		w.mark(pending)
		for what, err := range map[string]error{
			"start":              w.start("c1"),
			"snapshot":           w.snapshot(instance.NewSnapshot{}),
			"restore":            w.restore("s"),
			"rename":             w.s.Rename(t.Context(), "default", "c1", "c2", nil),
			"move":               w.move(instance.NewPlace{Pool: "other"}),
			"rebuild":            w.rebuild(api.InstanceSource{Type: "none"}),
			"copy":               w.copyOf("c1", "c3"),
			"delete of snapshot": w.s.DeleteSnapshot(t.Context(), "default", "c1", "s", nil),
		} {
			if errs.Status(err) != 400 || !strings.Contains(err.Error(), "not whole") {
				t.Errorf("%s of one with the mark %q: %v", what, pending, err)
			}
		}
		w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
		w.clean()
	}
}

// TestWhatCannotBeMendedCanBeDeleted, for as long as everything of it is where it should be.
func TestWhatCannotBeMendedCanBeDeleted(t *testing.T) {
	t.Parallel()
	for _, pending := range []string{"restore nothing", "rename snapshot a/b"} {
		w := setup(t)
		w.ok(w.create("c1"))
		w.mark(pending)
		if err := w.start("c1"); err == nil || !strings.Contains(err.Error(), "not whole") {
			t.Errorf("start with the mark %q: %v", pending, err)
		}
		w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
		w.clean()
	}
}

// mark makes a kill in the middle of something of which it leaves this mark.
func (w *world) mark(pending string) {
	w.t.Helper()
	dbtest.Exec(w.t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', ? FROM instances`, pending)
}
