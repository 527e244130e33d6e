package instance_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"sett/lxd/container/fake"
	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/shared/errs"
)

func (w *world) move(to instance.NewPlace) error {
	return w.s.Move(w.t.Context(), admin, "default", "c1", to, nil)
}

func TestMoveBetweenPools(t *testing.T) {
	t.Parallel()
	w := original(t)
	before := w.load("c1")
	w.ok(w.move(instance.NewPlace{Pool: "other"}))
	w.holds("other", "c1", "two", "s1")
	after := w.load("c1")
	if after.ID != before.ID || after.Devices["root"]["pool"] != "other" || len(w.pools.vols) != 1 {
		t.Errorf("%d %v, volumes %v", after.ID, after.Devices, w.pools.vols)
	}
	delete(before.Config, "volatile.sett_pending")
	if !maps.Equal(before.Config, after.Config) {
		t.Errorf("was %v\nis %v", before.Config, after.Config)
	}
	w.ok(w.s.Restore(t.Context(), admin, "default", "c1", "s1"))
	if err := w.move(instance.NewPlace{Pool: "nope"}); errs.Status(err) != 404 {
		t.Errorf("to a pool that is not there: %v", err)
	}
	w.ok(w.copyOf("c1", "c2"))
	if err := w.move(instance.NewPlace{Pool: "pool", Name: "c2"}); errs.Status(err) != 409 {
		t.Errorf("to a name that is taken: %v", err)
	}
	w.ok(w.start("c1"))
	if err := w.move(instance.NewPlace{Pool: "pool"}); errs.Status(err) != 400 || !strings.Contains(err.Error(), "running") {
		t.Errorf("of one that runs: %v", err)
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.move(instance.NewPlace{Pool: "pool", Name: "c9"}))
	w.holds("pool", "c9", "one", "s1")
	w.ok(w.s.Rename(t.Context(), "default", "c9", "c1", nil))
	w.ok(w.move(instance.NewPlace{Pool: "other", Only: true}))
	w.holds("other", "c1", "one")
	// Into the same pool with another name is a rename.
	w.ok(w.move(instance.NewPlace{Pool: "other", Name: "c8"}))
	w.holds("other", "c8", "one")
}

// TestMoveToTheSamePool copies nothing; from then on the instance says itself where it is.
func TestMoveToTheSamePool(t *testing.T) {
	t.Parallel()
	w := original(t)
	if _, own := w.load("c1").Devices["root"]; own {
		t.Fatal("the profile should say where it is")
	}
	boom := errs.Internal("boom")
	w.pools.fail["copy"] = boom
	w.ok(w.move(instance.NewPlace{Pool: "pool"}))
	w.holds("pool", "c1", "two", "s1")
	if d := w.load("c1").Devices; d["root"]["pool"] != "pool" {
		t.Errorf("devices %v", d)
	}
	w.ok(w.move(instance.NewPlace{Pool: "pool"}))
	w.ok(w.start("c1"))
	if err := w.move(instance.NewPlace{Pool: "pool"}); errs.Status(err) != 400 || !strings.Contains(err.Error(), "running") {
		t.Errorf("of one that runs: %v", err)
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.pools.fail["delete snapshot"] = boom
	if err := w.move(instance.NewPlace{Pool: "pool", Only: true}); !errors.Is(err, boom) {
		t.Errorf("when its snapshots cannot go: %v", err)
	}
	w.holds("pool", "c1", "two", "s1")
	delete(w.pools.fail, "delete snapshot")
	w.ok(w.move(instance.NewPlace{Pool: "pool", Name: "c2", Only: true}))
	w.holds("pool", "c2", "two")
}

func TestFailedStepsOfAMove(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	t.Run("copy", func(t *testing.T) {
		t.Parallel()
		w := original(t)
		before := w.load("c1")
		w.pools.fail["copy"] = boom
		if err := w.move(instance.NewPlace{Pool: "other"}); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Fatalf("got %v", err)
		}
		after := w.load("c1")
		w.holds("pool", "c1", "two", "s1")
		delete(before.Config, "volatile.sett_pending")
		if !maps.Equal(before.Config, after.Config) || len(after.Devices) != len(before.Devices) || len(w.pools.vols) != 1 {
			t.Errorf("was %v\nis %v, volumes %v", before.Config, after.Config, w.pools.vols)
		}
		w.ok(w.move(instance.NewPlace{Pool: "other"}))
	})
	for _, at := range []string{"delete", "link"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := original(t)
			w.pools.fail[at] = boom
			w.ok(w.move(instance.NewPlace{Pool: "other"})) // what is left goes later
			if !strings.HasPrefix(w.load("c1").Config["volatile.sett_pending"], "move ") {
				t.Error("nothing tells of what is left")
			}
			w.ok(w.start("c1"))
			w.holds("other", "c1", "two", "s1")
			if len(w.pools.vols) != 1 || w.load("c1").Config["volatile.sett_pending"] != "" {
				t.Errorf("volumes %v", w.pools.vols)
			}
		})
	}
	t.Run("rename", func(t *testing.T) {
		t.Parallel()
		w := original(t)
		w.pools.fail["rename"] = boom
		if err := w.move(instance.NewPlace{Pool: "other", Name: "c2"}); err == nil || !strings.Contains(err.Error(), "in pool \"other\" now") {
			t.Fatalf("got %v", err)
		}
		w.holds("other", "c1", "two", "s1")
	})
}

// TestKilledMove: the daemon died before the rows named the new pool, or after.
func TestKilledMove(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{false, true} {
		w := original(t)
		from, into := instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}, instance.Volume{Pool: "other", Project: "default", Instance: "c1"}
		if done {
			w.pools.fail["delete"] = errs.Internal("killed")
			w.ok(w.move(instance.NewPlace{Pool: "other"}))
		} else {
			w.ok(w.pools.Copy(t.Context(), into, from, instance.CopyOf{Snapshots: []string{"s1"}}))
			dbtest.Exec(t, w.db, `UPDATE instances_config SET value = 'move pool/other' WHERE key = 'volatile.sett_pending'`)
		}
		w.s.Close()
		w.s = w.service()
		w.ok(w.s.Recover(t.Context()))
		want, pool := from, "pool"
		if done {
			want, pool = into, "other"
		}
		w.holds(pool, "c1", "two", "s1")
		if len(w.pools.vols) != 1 || !hasKey(w.pools.vols, want) || w.load("c1").Config["volatile.sett_pending"] != "" {
			t.Errorf("volumes %v, %v", w.pools.vols, w.load("c1").Config)
		}
	}
}

// TestNobodyReachesFilesThatAreMoved: what is written into the old ones would be lost.
func TestNobodyReachesFilesThatAreMoved(t *testing.T) {
	t.Parallel()
	w := original(t)
	reach := func() error {
		f, err := w.s.OpenFiles(t.Context(), w.load("c1"))
		if err == nil {
			f.Kill() // it is not to wait for the next one
		}
		return err
	}
	asked := false
	w.pools.during = func() {
		asked = true
		w.pools.mu.Unlock() // so that others get on
		defer w.pools.mu.Lock()
		if err := reach(); errs.Status(err) != 503 {
			t.Errorf("in the middle of the move: %v", err)
		}
	}
	w.ok(w.move(instance.NewPlace{Pool: "other"}))
	w.pools.during = nil
	if !asked {
		t.Error("nobody asked")
	}
	w.ok(reach())
	// Who asks before it and gets there after it has the old ones too.
	i := w.load("c1")
	reached, release := w.engine.Hold(fake.Files)
	result := make(chan error, 1)
	go func() {
		_, err := w.s.OpenSnapshotFiles(t.Context(), i, "s1")
		result <- err
	}()
	<-reached
	release()
	w.ok(<-result) // of a snapshot nobody writes
	reached, release = w.engine.Hold(fake.Files)
	go func() {
		_, err := w.s.OpenFiles(t.Context(), i)
		result <- err
	}()
	<-reached
	w.ok(w.move(instance.NewPlace{Pool: "pool"}))
	release()
	if err := <-result; errs.Status(err) != 503 {
		t.Errorf("late: %v", err)
	}
}
