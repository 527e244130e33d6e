package instance_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

// forgetAll is what the loss of the database looks like: volumes of which nobody knows.
func (w *world) forgetAll() {
	w.t.Helper()
	w.ok(w.s.KeepFiles(w.t.Context()))
	w.pools.lost = map[instance.Volume][]string{}
	for v := range w.pools.vols {
		w.pools.lost[v] = nil
		es, _ := os.ReadDir(filepath.Join(w.pools.dir, ".snapshots", v.Instance))
		for _, e := range es {
			w.pools.lost[v] = append(w.pools.lost[v], e.Name())
		}
	}
	clear(w.pools.vols)
	dbtest.Exec(w.t, w.db, `DELETE FROM instances`)
	dbtest.Exec(w.t, w.db, `INSERT INTO storage_pools (name, driver, description, state) VALUES ('pool', 'dir', '', 1)`)
	dbtest.Exec(w.t, w.db, `INSERT INTO networks (project_id, name, description, state, type) SELECT id, 'n', '', 1, 0 FROM projects WHERE name = 'default'`)
	for _, d := range []string{"logs", "devices"} {
		w.ok(os.RemoveAll(filepath.Join(w.dir, d)))
	}
	if joined, _ := w.nics.holds(); joined > 0 {
		clear(w.nics.joined)
	}
	w.s = w.service()
	w.ok(w.s.Recover(w.t.Context()))
}

func TestLostInstancesAreTakenInAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", twoNICs, func(r *api.InstancesPost) { r.Config = map[string]string{"user.a": "1"}; r.Description = "mine" }))
	w.ok(w.create("c2"))
	w.write("one")
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s0"}))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "late"}))
	w.ok(w.start("c1"))
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	was := w.load("c1")
	w.forgetAll()
	w.ok(w.s.Rescue(t.Context(), nil))
	now := w.load("c1")
	if now.Config["user.a"] != "1" || now.Description != "mine" || now.Config["volatile.uuid"] != was.Config["volatile.uuid"] || !now.Created.Equal(was.Created) ||
		now.Config["volatile.a.hwaddr"] != was.Config["volatile.a.hwaddr"] || len(now.Profiles) != 1 {
		t.Errorf("it was\n%+v and is\n%+v", was, now)
	}
	if joined, _ := w.nics.holds(); joined != 2 {
		t.Errorf("%d devices joined", joined)
	}
	all, err := w.s.Snapshots(t.Context(), now)
	w.ok(err)
	if len(all) != 2 || all[0].Name != "s0" || all[1].Name != "late" {
		t.Errorf("snapshots %v", all)
	}
	w.ok(w.start("c1"))
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.s.Rescue(t.Context(), nil)) // and once more: there is nothing
	for _, n := range []string{"c1", "c2"} {
		w.ok(w.s.Delete(t.Context(), "default", n, nil))
	}
	w.clean()
}

// TestBackupsOutliveTheDatabase: the start of a daemon that knows no instances leaves their
// backups alone, and a recovery takes them in.
func TestBackupsOutliveTheDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s0"}))
	_, err := w.backup(instance.NewBackup{Name: "whole", Compression: "gzip"})
	w.ok(err)
	_, err = w.backup(instance.NewBackup{Name: "part", InstanceOnly: true, Compression: "none"})
	w.ok(err)
	w.forgetAll()
	w.ok(w.s.Rescue(t.Context(), nil))
	for range 2 { // at once, and after another start
		all, err := w.s.Backups(t.Context(), w.load("c1"))
		w.ok(err)
		if len(all) != 2 {
			t.Fatalf("%d backups", len(all))
		}
		for _, b := range all {
			if b.InstanceOnly != (b.Name == "part") || b.Created.IsZero() || b.Optimized {
				t.Errorf("backup %+v", b)
			}
			w.ok(w.importFile(w.backupFile("c1", b.Name), instance.ImportOptions{Name: "of-" + b.Name}))
			w.ok(w.s.Delete(t.Context(), "default", "of-"+b.Name, nil))
		}
		w.s = w.service()
		w.ok(w.s.Recover(t.Context()))
	}
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.clean()
}

func TestARunningContainerIsTakenInAsItRuns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.forgetAll()
	w.ok(w.s.Rescue(t.Context(), nil))
	w.is("c1", instance.Running)
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.clean()
}

func TestWhatIsMissingIsToldBeforeARecovery(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dbtest.Exec(t, w.db, `INSERT INTO profiles (name, description, project_id) SELECT 'web', '', id FROM projects`)
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		r.Profiles = []string{"default", "web"}
		r.Devices = map[string]map[string]string{"a": nic("network", "gone")}
	}))
	w.ok(w.create("c2"))
	w.forgetAll()
	dbtest.Exec(t, w.db, `DELETE FROM profiles WHERE name = 'web'`)
	w.ok(os.Remove(filepath.Join(w.pools.dir, "c2", "backup.yaml"))) // nobody but root writes to it
	w.ok(os.WriteFile(filepath.Join(w.pools.dir, "c2", "backup.yaml"), []byte("container: ["), 0o600))
	found, err := w.s.LookForLost(t.Context())
	w.ok(err)
	if len(found.UnknownVolumes) != 1 || found.UnknownVolumes[0].Name != "c1" || len(found.Unusable) != 1 || !strings.Contains(found.Unusable[0], `"c2"`) ||
		strings.Join(found.DependencyErrors, "; ") != `Profile "web" in project "default"; Network "gone" in project "default"` {
		t.Errorf("found %+v", found)
	}
	if err := w.s.Rescue(t.Context(), nil); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), `Profile "web"`) {
		t.Errorf("got %v", err)
	}
	w.clean()
}

func TestFailedStepsOfARecoveryLeaveTheVolumes(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	for _, at := range []string{"look", "adopt", "add a", "add b"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.ok(w.create("c1", twoNICs))
			w.forgetAll()
			w.nics.fail[at], w.pools.fail[at] = boom, boom
			if err := w.s.Rescue(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "boom") {
				t.Fatalf("got %v", err)
			}
			w.clean()
			if _, err := os.Lstat(filepath.Join(w.pools.dir, "c1", "rootfs")); err != nil {
				t.Error(err)
			}
			delete(w.nics.fail, at)
			delete(w.pools.fail, at)
			w.ok(w.s.Rescue(t.Context(), nil))
			w.ok(w.start("c1"))
		})
	}
}

// TestScheduledSnapshotsComeBackAsSuch: as ones taken by hand, no retention policy would
// ever prune them again.
func TestScheduledSnapshotsComeBackAsSuch(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		r.Config = map[string]string{"snapshots.schedule": "* * * * *", "snapshots.pattern": "auto-%d", "snapshots.schedule.stopped": "true"}
	}))
	w.write("one")
	now := time.Now()
	w.ok(w.s.TakeScheduled(t.Context(), now.Add(-2*time.Minute), now, map[int64]bool{}))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "hand"}))
	path, err := w.backup(instance.NewBackup{Compression: "none"})
	w.ok(err)
	w.ok(w.importFile(path, instance.ImportOptions{Name: "c2"}))
	look := func(when string) {
		t.Helper()
		for _, c := range []string{"c1", "c2"} {
			all, err := w.s.Snapshots(t.Context(), w.load(c))
			w.ok(err)
			if len(all) != 2 || all[0].Config["volatile.sett_scheduled"] != "true" || all[1].Config["volatile.sett_scheduled"] != "" {
				t.Errorf("%s: snapshots of %s %+v", when, c, all)
			}
		}
	}
	look("imported")
	w.forgetAll()
	w.ok(w.s.Rescue(t.Context(), nil))
	look("recovered")
}
