package instance_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sett/lxd/container/fake"
	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
)

// journal knows operations that another life of the daemon has left, and is told what became
// of them.
type journal struct {
	mu     sync.Mutex
	cut    []op.Entry
	became map[string]op.Outcome
}

func (j *journal) Began(op.Entry) {}
func (j *journal) Ended(op.Entry) {}

func (j *journal) Interrupted() []op.Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.cut
}

func (j *journal) Resolve(id string, o op.Outcome) (op.Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.became[id] = o
	return op.Entry{}, true
}

// TestRecoveryTellsWhatBecameOfOperations: for each state in which a kill may leave an
// instance, the outcome of the operation that was under way.
func TestRecoveryTellsWhatBecameOfOperations(t *testing.T) {
	t.Parallel()
	const id = "0b9fd08b-0000-8000-8000-000000000001"
	config := func(w *world, key, value string) {
		dbtest.Exec(w.t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, ?, ? FROM instances`, key, value)
	}
	running := func(w *world) { w.ok(w.start("c1")) }
	nothing := func(*world) {}
	backedUp := func(w *world) {
		o, err := w.s.PlanBackup(t.Context(), w.load("c1"), instance.NewBackup{Name: "b1"})
		w.ok(err)
		_, err = w.s.CreateBackup(t.Context(), "default", "c1", o, nil)
		w.ok(err)
	}
	for _, c := range []struct {
		name, what string
		left       func(w *world) // by the kill, beside an instance c1 that is whole and stopped
		done       bool
		text       string
	}{
		{"create that was whole", "Creating instance", nothing, true, "whole"},
		{"create that was not", "Creating instance", func(w *world) {
			w.ok(w.pools.Delete(t.Context(), instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}))
		}, false, "Rolled back"},
		{"create before its row", "Creating instance", func(w *world) { w.ok(w.s.Delete(t.Context(), "default", "c1", nil)) }, false, "Rolled back"},
		{"delete before its mark", "Deleting instance", nothing, false, "Rolled back"},
		{"delete after its mark", "Deleting instance", func(w *world) { config(w, "volatile.sett_pending", "delete") }, true, "gone"},
		{"delete that was over", "Deleting instance", func(w *world) { w.ok(w.s.Delete(t.Context(), "default", "c1", nil)) }, true, "gone"},
		{"delete that cannot go on", "Deleting instance", func(w *world) {
			config(w, "volatile.sett_pending", "delete")
			w.pools.fail["delete"] = errs.Internal("no disk")
		}, false, "not whole"},
		{"start that had not come up", "Starting instance", nothing, false, "Rolled back"},
		{"start that had", "Starting instance", running, true, "Running"},
		{"stop of one that runs on", "Stopping instance", running, false, "Rolled back"},
		{"stop that was over", "Stopping instance", nothing, true, "Stopped"},
		{"stop of an ephemeral one that went with it", "Stopping instance", func(w *world) { w.ok(w.s.Delete(t.Context(), "default", "c1", nil)) }, true, "gone"},
		{"restart that was over", "Restarting instance", running, true, "started again"},
		{"restart in the middle", "Restarting instance", nothing, false, "stopped"},
		{"freeze before it", "Freezing instance", running, false, "Rolled back"},
		{"freeze after it", "Freezing instance", func(w *world) {
			running(w)
			w.ok(w.s.Freeze(t.Context(), "default", "c1", nil))
		}, true, "Frozen"},
		{"rename that was cut off", "Renaming instance", func(w *world) { config(w, "volatile.sett_pending", "rename to c2") }, false, "Rolled back"},
		{"rename that was over", "Renaming instance", func(w *world) { config(w, "volatile.sett_done", id) }, true, "last step"},
		{"restore before its mark", "Restoring snapshot", nothing, false, "Rolled back"},
		{"restore that was cut off", "Restoring snapshot", func(w *world) {
			w.ok(w.snapshot(instance.NewSnapshot{Name: "s"}))
			config(w, "volatile.sett_pending", "restore s")
		}, true, "carried through"},
		{"restore that cannot go on", "Restoring snapshot", func(w *world) { config(w, "volatile.sett_pending", "restore nothing") }, false, "not whole"},
		{"change that was over", "Updating instance", func(w *world) { config(w, "volatile.sett_done", id) }, true, "last step"},
		{"change that was not", "Updating instance", func(w *world) { config(w, "volatile.sett_done", "another") }, false, "Rolled back"},
		{"scheduled snapshots", "Creating scheduled instance snapshots", nothing, false, "due again"},
		{"refresh", "Refreshing instance", nothing, false, "refresh it again"},
		{"import that was whole", "Restoring backup", nothing, true, "whole"},
		{"import that was not", "Restoring backup", func(w *world) { config(w, "volatile.sett_pending", "import") }, false, "Rolled back"},
		{"backup that was over", "Backing up instance", backedUp, true, "is there"},
		{"backup that was not", "Backing up instance", nothing, false, "nothing of the backup"},
		{"rename of a backup that was over", "Renaming instance backup", backedUp, true, "is there"},
		{"rename of a backup that was not", "Renaming instance backup", nothing, false, "name that it had"},
		{"delete of a backup that was over", "Removing instance backup", nothing, true, "nothing of the backup"},
		{"delete of a backup that was not", "Removing instance backup", backedUp, false, "is there"},
		{"delete of a backup between file and record", "Removing instance backup", func(w *world) {
			backedUp(w)
			w.ok(os.Remove(filepath.Join(w.s.Dir, "backups", "instances", "c1", "b1")))
		}, true, "nothing of the backup"},
		{"one whose state is not known", "Stopping instance", func(w *world) {
			running(w)
			w.engine.Fail(fake.Find, errs.Internal("no answer"))
		}, false, "not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			began := time.Now()
			w.ok(w.create("c1"))
			c.left(w)
			w.s.Close()
			w.s = w.service()
			j := &journal{became: map[string]op.Outcome{}, cut: []op.Entry{{Project: "default", Operation: api.Operation{ID: id, Class: "task", Description: c.what,
				CreatedAt: began, Resources: map[string][]string{"instances": {"/1.0/instances/c1"}, "backups": {"/1.0/backups/b1"}}}}}}
			w.ops.Keep(j)
			w.ok(w.s.Recover(t.Context()))
			if got := j.became[id]; got.Done != c.done || !strings.Contains(got.Text, c.text) {
				t.Errorf("it became %+v; want done %v with %q", got, c.done, c.text)
			}
		})
	}
}

func TestOutcomeOfOneForManyNamesThem(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, n := range []string{"c1", "c2", "c3"} {
		w.ok(w.create(n))
	}
	w.ok(w.start("c2"))
	w.s.Close()
	w.s = w.service()
	j := &journal{became: map[string]op.Outcome{}, cut: []op.Entry{{Project: "default", Operation: api.Operation{ID: "x", Description: "Starting instance",
		Resources: map[string][]string{"instances": {"/1.0/instances/c1", "/1.0/instances/c2", "/1.0/instances/c3"}}}}}}
	w.ops.Keep(j)
	w.ok(w.s.Recover(t.Context()))
	if got := j.became["x"]; got.Done || !strings.Contains(got.Text, "done for c2, and not for c1, c3") {
		t.Errorf("got %+v", got)
	}
}

// TestMendingIsNotTheLastStep: an operation that first ends what another one began has not
// done its own thing by that.
func TestMendingIsNotTheLastStep(t *testing.T) {
	t.Parallel()
	for _, pending := range []string{"restore s", "rebuild def", "rebuild "} {
		t.Run(pending, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.ok(w.create("c1"))
			w.ok(w.snapshot(instance.NewSnapshot{Name: "s"}))
			dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', ? FROM instances`, pending)
			o, err := w.ops.Start(t.Context(), op.Spec{Description: "Starting instance", Run: func(ctx context.Context, _ *op.Operation) error {
				return w.s.Start(ctx, "default", "c1", nil)
			}})
			w.ok(err)
			w.ok(o.Wait(t.Context()))
			if c := w.load("c1").Config; c["volatile.sett_pending"] != "" || c["volatile.sett_done"] == o.API().ID {
				t.Errorf("config %v", c)
			}
		})
	}
}

// TestMoveCutOffBeforeItsRename: half of what was asked for is done, and the history says so.
func TestMoveCutOffBeforeItsRename(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.pools.fail["rename"] = errs.Internal("killed")
	o, err := w.ops.Start(t.Context(), op.Spec{Description: "Migrating instance", Run: func(ctx context.Context, _ *op.Operation) error {
		return w.s.Move(ctx, admin, "default", "c1", instance.NewPlace{Pool: "other", Name: "c2"}, nil)
	}})
	w.ok(err)
	if err := o.Wait(t.Context()); err == nil {
		t.Fatal("it was renamed")
	}
	w.s.Close()
	w.s = w.service()
	j := &journal{became: map[string]op.Outcome{}, cut: []op.Entry{{Project: "default", Operation: api.Operation{ID: o.ID(), Description: "Migrating instance",
		Resources: map[string][]string{"instances": {"/1.0/instances/c1"}}}}}}
	w.ops.Keep(j)
	w.ok(w.s.Recover(t.Context()))
	if got := j.became[o.ID()]; got.Done || strings.Contains(got.Text, "before") || !strings.Contains(got.Text, `in pool "other" now, but keeps its name`) {
		t.Errorf("it became %+v", got)
	}
}
