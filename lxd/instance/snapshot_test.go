package instance_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sett/lxd/auth"
	"sett/lxd/container"
	"sett/lxd/container/fake"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

// The pools' snapshots are copies of one file of the volume.

func (p *pools) snap(v instance.Volume, name string) string {
	dir := filepath.Join(p.dir, ".snapshots")
	if v.Pool != "pool" {
		dir = filepath.Join(dir, "."+v.Pool)
	}
	return filepath.Join(dir, v.Instance, name)
}

func (p *pools) CreateSnapshot(ctx context.Context, v instance.Volume, name string, quiet func(context.Context) (func(), error)) error {
	if quiet != nil {
		resume, err := quiet(ctx)
		if err != nil {
			return err
		}
		defer resume()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("snapshot", v); err != nil {
		return err
	}
	if p.during != nil {
		p.during()
	}
	if _, err := os.Lstat(p.snap(v, name)); err == nil {
		return errs.Conflict("Snapshot %q already exists", name)
	}
	b, err := os.ReadFile(filepath.Join(p.at(v), "content"))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(p.snap(v, name)), 0o700), os.WriteFile(p.snap(v, name), b, 0o600))
}

func (p *pools) DeleteSnapshot(_ context.Context, v instance.Volume, name string) error {
	if err := p.did("delete snapshot", v); err != nil {
		return err
	}
	if err := os.Remove(p.snap(v, name)); !os.IsNotExist(err) {
		return err
	}
	return nil
}

func (p *pools) RenameSnapshot(ctx context.Context, v instance.Volume, name, to string, also func(context.Context, *db.Tx) error) error {
	if err := p.did("rename snapshot", v); err != nil {
		return err
	}
	if err := os.Rename(p.snap(v, name), p.snap(v, to)); err != nil {
		if _, there := os.Lstat(p.snap(v, to)); there != nil {
			return err
		}
	}
	if err := p.did("rename snapshot record", v); err != nil {
		return err // as if it were killed: the data has moved
	}
	return p.db.Update(ctx, also)
}

// mounted is where a snapshot looks like a volume.
func (p *pools) mounted(v instance.Volume, name string) string {
	return filepath.Join(p.dir, ".mounted", v.Instance, name)
}

func (p *pools) MountSnapshot(_ context.Context, v instance.Volume, name string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("mount snapshot", v); err != nil {
		return "", err
	}
	b, err := os.ReadFile(p.snap(v, name))
	if err != nil {
		return "", err
	}
	p.seen++
	dir := p.mounted(v, name)
	if b, err := os.ReadFile(filepath.Join(p.at(v), "metadata.yaml")); err == nil {
		defer func() { _ = os.WriteFile(filepath.Join(dir, "metadata.yaml"), b, 0o600) }()
	}
	return dir, errors.Join(os.MkdirAll(filepath.Join(dir, "rootfs"), 0o700), os.WriteFile(filepath.Join(dir, "content"), b, 0o600))
}

func (p *pools) UnmountSnapshot(_ context.Context, v instance.Volume, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen--
	return os.RemoveAll(p.mounted(v, name))
}

func (p *pools) Rebuild(_ context.Context, v instance.Volume, fingerprint string, _ int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("rebuild", v); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, v.Instance, "content"), []byte("of "+fingerprint), 0o600)
}

// fillSnapshots keeps what was written where the snapshots look like volumes.
func (p *pools) fillSnapshots(v instance.Volume, snaps []instance.Brought) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, sn := range snaps {
		if err := p.did("fill snapshot", v); err != nil {
			return err
		}
		b, err := os.ReadFile(filepath.Join(p.mounted(v, sn.Name), "content"))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(p.snap(v, sn.Name)), 0o700), os.WriteFile(p.snap(v, sn.Name), b, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

func (p *pools) RestoreSnapshot(_ context.Context, v instance.Volume, name string, _ int64) error {
	if err := p.did("restore", v); err != nil {
		return err
	}
	b, err := os.ReadFile(p.snap(v, name))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.at(v), "content"), b, 0o600)
}

func (p *pools) SnapshotUsage(context.Context, instance.Volume, []string) map[string]int64 {
	return nil
}

func (w *world) write(text string) {
	w.t.Helper()
	w.ok(os.WriteFile(filepath.Join(w.pools.dir, "c1", "content"), []byte(text), 0o600))
}

func (w *world) content(want string) {
	w.t.Helper()
	if b, err := os.ReadFile(filepath.Join(w.pools.dir, "c1", "content")); err != nil || string(b) != want {
		w.t.Errorf("content %q, %v; want %q", b, err, want)
	}
}

func (w *world) snapshot(o instance.NewSnapshot) error {
	_, err := w.s.CreateSnapshot(w.t.Context(), "default", "c1", o, nil)
	return err
}

func (w *world) snapshots(want ...string) []*instance.Snapshot {
	w.t.Helper()
	all, err := w.s.Snapshots(w.t.Context(), w.load("c1"))
	w.ok(err)
	var got []string
	for _, sn := range all {
		got = append(got, sn.Name)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("snapshots %v, want %v", got, want)
	}
	ents, _ := os.ReadDir(filepath.Join(w.pools.dir, ".snapshots", "c1"))
	var disk []string
	for _, e := range ents {
		disk = append(disk, e.Name())
	}
	slices.Sort(want)
	if !slices.Equal(disk, want) {
		w.t.Errorf("on disk %v, want %v", disk, want)
	}
	return all
}

func (w *world) restore(name string) error {
	return w.s.Restore(w.t.Context(), admin, "default", "c1", name)
}

func (w *world) update(f func(*instance.Change)) error { return w.updateAs(admin, f) }

func (w *world) updateAs(as auth.Caller, f func(*instance.Change)) error {
	i := w.load("c1")
	c := instance.Change{Config: maps.Clone(i.Config), Devices: i.Devices, Profiles: []string{"default"}, Description: i.Description}
	own(c.Config)
	f(&c)
	return w.s.Update(w.t.Context(), as, i, c)
}

func TestSnapshotsKeepAndBringBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) { r.Config = map[string]string{"user.a": "1"}; r.Description = "one" }))
	w.write("one")
	never, soon := time.Time{}, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	w.ok(w.snapshot(instance.NewSnapshot{}))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "b", Expires: &soon}))
	w.ok(w.snapshot(instance.NewSnapshot{Expires: &never}))
	all := w.snapshots("snap0", "b", "snap1")
	if !all[1].Expires.Equal(soon) || !all[0].Expires.IsZero() || all[0].Config["user.a"] != "1" || all[0].Description != "one" {
		t.Errorf("got %+v", all)
	}
	if err := w.snapshot(instance.NewSnapshot{Name: "b"}); !errs.Is(err, errs.KindConflict) {
		t.Errorf("a name twice: %v", err)
	}
	w.write("two")
	w.ok(w.update(func(c *instance.Change) {
		c.Config["user.a"], c.Description = "2", "two"
		c.Devices = map[string]map[string]string{"tmp": {"type": "disk", "source": t.TempDir(), "path": "/mnt"}}
	}))
	w.ok(w.restore("c1/snap0")) // as clients may write it
	w.content("one")
	if i := w.load("c1"); i.Config["user.a"] != "1" || i.Description != "one" || len(i.Devices) != 0 || i.Config["volatile.sett_pending"] != "" {
		t.Errorf("got %+v", i)
	}
	if err := w.restore("nope"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("got %v", err)
	}
	w.ok(w.s.RenameSnapshot(t.Context(), "default", "c1", "b", "a", nil))
	if err := w.s.RenameSnapshot(t.Context(), "default", "c1", "a", "snap0", nil); !errs.Is(err, errs.KindConflict) {
		t.Errorf("got %v", err)
	}
	w.ok(w.s.DeleteSnapshot(t.Context(), "default", "c1", "snap0", nil))
	w.snapshots("a", "snap1")
	w.ok(w.s.ExpireSnapshot(t.Context(), w.load("c1"), w.snapshots("a", "snap1")[0], never, nil))
	if sn := w.snapshots("a", "snap1")[0]; !sn.Expires.IsZero() {
		t.Errorf("it still expires at %s", sn.Expires)
	}
	var got []string
	for len(w.events.C()) > 0 {
		e := (<-w.events.C()).Metadata.(api.EventLifecycle)
		got = append(got, strings.TrimPrefix(e.Action, "instance-")+" "+strings.TrimPrefix(e.Source, "/1.0/instances/"))
	}
	want := "created c1, snapshot-created c1/snapshots/snap0, snapshot-created c1/snapshots/b, snapshot-created c1/snapshots/snap1, updated c1, " +
		"restored c1, snapshot-renamed c1/snapshots/a, snapshot-deleted c1/snapshots/snap0, snapshot-updated c1/snapshots/a"
	if strings.Join(got, ", ") != want {
		t.Errorf("events %s\n  want %s", strings.Join(got, ", "), want)
	}
}

func TestRunningGuestIsHeldForASnapshotAndRestarted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.write("one")
	w.ok(w.start("c1"))
	id := w.load("c1").ID
	w.pools.during = func() {
		if st := w.guest("c1").State(); st != container.Frozen {
			t.Errorf("the guest was %s", st)
		}
		if w.s.State(id) != instance.Running {
			t.Error("clients see it")
		}
	}
	w.ok(w.snapshot(instance.NewSnapshot{}))
	w.pools.during = nil
	if st := w.guest("c1").State(); st != container.Running {
		t.Errorf("afterwards the guest is %s", st)
	}
	w.pools.fail["snapshot"] = errs.Internal("the pool is full")
	if err := w.snapshot(instance.NewSnapshot{}); err == nil {
		t.Error("it worked")
	}
	w.engine.Fail(fake.Freeze, errs.Internal("no freezer"))
	if err := w.snapshot(instance.NewSnapshot{}); err == nil {
		t.Error("it worked")
	}
	if st := w.guest("c1").State(); st != container.Running {
		t.Errorf("after failures the guest is %s", st)
	}
	w.snapshots("snap0")
	w.write("two")
	w.ok(w.restore("snap0"))
	w.content("one")
	w.is("c1", instance.Running)
	if len(w.engine.Starts()) != 2 {
		t.Errorf("%d starts", len(w.engine.Starts()))
	}
	// A restore that fails brings the old one up again.
	w.pools.fail["restore"] = errs.Internal("the disk is broken")
	if err := w.restore("snap0"); err == nil {
		t.Error("it worked")
	}
	w.is("c1", instance.Running)
	if p := w.load("c1").Config["volatile.sett_pending"]; p != "" {
		t.Errorf("marked %q", p)
	}
}

func TestFaultsOfSnapshotsLeaveNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.write("one")
	refuse := func(on string, do func() error) {
		t.Helper()
		dbtest.Exec(t, w.db, db.Stmt("CREATE TRIGGER no BEFORE "+on+" BEGIN SELECT RAISE(ABORT, 'no'); END"))
		if err := do(); err == nil {
			t.Error("it worked")
		}
		dbtest.Exec(t, w.db, "DROP TRIGGER no")
	}
	refuse("INSERT ON instances_snapshots", func() error { return w.snapshot(instance.NewSnapshot{}) })
	w.snapshots()
	w.ok(w.snapshot(instance.NewSnapshot{}))
	// What could not be taken back does not keep the name.
	w.ok(os.WriteFile(w.pools.snap(instance.Volume{Instance: "c1"}, "snap1"), nil, 0o600))
	w.ok(w.snapshot(instance.NewSnapshot{}))
	w.snapshots("snap0", "snap1")

	rename := func() error { return w.s.RenameSnapshot(t.Context(), "default", "c1", "snap0", "z", nil) }
	w.pools.fail["rename snapshot"] = errs.Internal("broken")
	if rename() == nil {
		t.Error("it worked")
	}
	w.snapshots("snap0", "snap1")
	w.pools.fail["rename snapshot record"] = errs.Internal("broken")
	if rename() == nil {
		t.Error("it worked")
	}
	w.snapshots("snap0", "snap1")

	del := func() error { return w.s.DeleteSnapshot(t.Context(), "default", "c1", "snap1", nil) }
	refuse("DELETE ON instances_snapshots", del)
	w.ok(del()) // again
	w.snapshots("snap0")
}

func TestRestoreCutOffByAKillIsEnded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) { r.Config = map[string]string{"user.a": "1"} }))
	w.write("one")
	w.ok(w.snapshot(instance.NewSnapshot{}))
	w.write("two")
	w.ok(w.update(func(c *instance.Change) { c.Config["user.a"] = "2" }))
	dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', 'restore snap0' FROM instances`)
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.content("one")
	if c := w.load("c1").Config; c["user.a"] != "1" || c["volatile.sett_pending"] != "" {
		t.Errorf("config %v", c)
	}

	// The rename of a snapshot of one that runs.
	w.ok(w.start("c1"))
	w.ok(os.Rename(w.pools.snap(instance.Volume{Instance: "c1"}, "snap0"), w.pools.snap(instance.Volume{Instance: "c1"}, "z")))
	dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', 'rename snapshot snap0/z' FROM instances`)
	// And of one that was held still in that moment.
	w.ok(os.WriteFile(filepath.Join(w.dir, "run", "c1", "held"), nil, 0o600))
	p, err := w.s.Process(w.load("c1"))
	w.ok(err)
	w.ok(p.Freeze(t.Context()))
	w.s.Close()
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.is("c1", instance.Running)
	if st := w.guest("c1").State(); st != container.Running {
		t.Errorf("the guest is %s", st)
	}
	w.snapshots("snap0")
}

func TestSnapshotOfAGuestThatIsEnding(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.ok(os.RemoveAll(filepath.Join(w.dir, "run", "c1"))) // what goes first
	w.ok(w.snapshot(instance.NewSnapshot{}))
	w.snapshots("snap0")
	if st := w.guest("c1").State(); st != container.Running {
		t.Errorf("the guest is %s", st)
	}
}

func TestSnapshotsComeAndGoByThemselves(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		r.Config = map[string]string{"snapshots.schedule": "* * * * *", "snapshots.pattern": "auto-%d", "snapshots.expiry": "1H", "snapshots.schedule.stopped": "false"}
	}))
	w.write("one")
	run := func(name string) {
		t.Helper()
		for _, j := range w.s.Jobs() {
			if j.Name == name {
				w.ok(j.Run(t.Context()))
			}
		}
	}
	now := time.Now()
	w.ok(w.s.TakeScheduled(t.Context(), now.Add(-2*time.Minute), now, map[int64]bool{}))
	w.snapshots() // it does not run
	w.ok(w.start("c1"))
	w.ok(w.s.TakeScheduled(t.Context(), now.Add(-2*time.Minute), now, map[int64]bool{}))
	sn := w.snapshots("auto-0")[0]
	if d := time.Until(sn.Expires); d < 55*time.Minute || d > time.Hour {
		t.Errorf("it goes in %s", d)
	}
	minute := now.Truncate(time.Minute)
	w.ok(w.s.TakeScheduled(t.Context(), minute, minute.Add(30*time.Second), map[int64]bool{})) // not yet again
	w.snapshots("auto-0")
	run("delete expired snapshots")
	w.snapshots("auto-0")
	w.ok(w.s.ExpireSnapshot(t.Context(), w.load("c1"), sn, now.Add(-time.Second), nil))
	run("delete expired snapshots")
	w.snapshots()

	w.ok(w.update(func(c *instance.Change) { c.Config["snapshots.schedule"] = "@startup, @never" }))
	w.ok(w.s.TakeScheduled(t.Context(), now.AddDate(-1, 0, 0), now, map[int64]bool{}))
	w.snapshots()
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.start("c1"))
	w.snapshots("auto-0")
	for key, values := range map[string][]string{
		"snapshots.schedule":  {"@often", "* * *", "61 * * * *", "@daily, 0 0 * * *"},
		"snapshots.pattern":   {"%d%d", "a/b", "{{ password }}", "{% include '/etc/passwd' %}"},
		"snapshots.retention": {"7", "daily=0", "daily=x", "sometimes=3", "daily=1 daily=2"},
		"snapshots.expiry":    {"1", "d", "1x", "1d 2d", "1d,2w"},
	} {
		for _, v := range values {
			if err := w.update(func(c *instance.Change) { c.Config[key] = v }); errs.Status(err) != 400 {
				t.Errorf("%s=%s: %v", key, v, err)
			}
		}
	}
}

func TestRetentionKeepsOneOfEachPeriod(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		r.Config = map[string]string{"snapshots.schedule": "@hourly", "snapshots.schedule.stopped": "true"}
	}))
	w.write("one")
	now := time.Now()
	take := func(age time.Duration) {
		t.Helper()
		w.ok(w.s.TakeScheduled(t.Context(), now.Add(-2*time.Hour), now, map[int64]bool{}))
		dbtest.Exec(t, w.db, `UPDATE instances_snapshots SET creation_date = ? WHERE id = (SELECT max(id) FROM instances_snapshots)`, now.Add(-age))
	}
	noon := time.Date(now.Year(), now.Month(), now.Day(), 12, 0, 0, 0, now.Location()).AddDate(0, 0, -1)
	since := now.Sub(noon)
	for _, age := range []time.Duration{since + 48*time.Hour, since + 24*time.Hour, since + 2*time.Hour, since + time.Hour, since + 10*time.Minute, since + 5*time.Minute} {
		take(age)
	}
	w.ok(w.snapshot(instance.NewSnapshot{Name: "mine"}))
	names := []string{"snap0", "snap1", "snap2", "snap3", "snap4", "snap5", "mine"}
	w.snapshots(slices.Clone(names)...)
	for _, c := range []struct{ policy, keeps string }{
		{"", "mine snap5 snap4 snap3 snap2 snap1 snap0"},
		{"last=2", "mine snap5 snap4"},
		{"daily=2", "mine snap5 snap1"},
		{"hourly=2,daily=9", "mine snap5 snap2 snap1 snap0"},
	} {
		got, err := w.s.Judge(t.Context(), w.load("c1"), c.policy)
		w.ok(err)
		if strings.Join(got, " ") != c.keeps {
			t.Errorf("%s keeps %v, want %s", c.policy, got, c.keeps)
		}
	}
	w.ok(w.update(func(c *instance.Change) { c.Config["snapshots.retention"] = "daily=2" }))
	for _, j := range w.s.Jobs() {
		if j.Name == "prune snapshots" {
			w.ok(j.Run(t.Context()))
		}
	}
	w.snapshots("snap1", "snap5", "mine")
	w.ok(w.restore("snap5"))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "by hand"})) // its origin was of the schedule
	got, err := w.s.Judge(t.Context(), w.load("c1"), "last=1")
	if err != nil || !slices.Contains(got, "by hand") || len(got) != 3 {
		t.Errorf("kept %v, %v", got, err)
	}
}

// TestTheRestrictedStayOffTheHost asks for the host in each of the ways that write an
// instance, below the handlers.
func TestTheRestrictedStayOffTheHost(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bob := auth.Caller{Protocol: "tls", Username: "bob", Projects: []string{"default"}}
	reach := map[string]string{"raw.lxc": "lxc.mount.auto = sys:rw"}
	if _, err := w.s.PlanCreate(t.Context(), bob, "default", api.InstancesPost{Name: "b1",
		InstancePut: api.InstancePut{Config: reach}, Source: api.InstanceSource{Type: "none"}}); !errs.Is(err, errs.KindForbidden) {
		t.Errorf("create: got %v", err)
	}
	p, err := w.s.PlanCreate(t.Context(), bob, "default", api.InstancesPost{Name: "c1", Source: api.InstanceSource{Type: "image", Alias: "debian"}})
	w.ok(err)
	w.ok(w.s.Create(t.Context(), p, nil))
	give := func(c *instance.Change) { c.Config["raw.lxc"] = reach["raw.lxc"] }
	if err := w.updateAs(bob, give); !errs.Is(err, errs.KindForbidden) {
		t.Errorf("update: got %v", err)
	}
	// What an administrator has given may stay, but not come back by a snapshot.
	w.ok(w.update(give))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s1"}))
	w.ok(w.updateAs(bob, func(c *instance.Change) { c.Config["user.a"] = "b" }))
	w.ok(w.update(func(c *instance.Change) { delete(c.Config, "raw.lxc") }))
	if err := w.s.Restore(t.Context(), bob, "default", "c1", "s1"); !errs.Is(err, errs.KindForbidden) {
		t.Errorf("restore: got %v", err)
	}
	w.ok(w.s.Restore(t.Context(), admin, "default", "c1", "s1"))
}

// TestBusyInstanceGetsItsSnapshotLater and not only when its schedule comes again.
func TestBusyInstanceGetsItsSnapshotLater(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", with("snapshots.schedule", "0 3 1 1 *", "snapshots.schedule.stopped", "true")))
	year := time.Date(time.Now().Year(), 1, 1, 3, 0, 0, 0, time.Local)
	owed := map[int64]bool{}
	unlock, err := w.s.Locks.Lock(t.Context(), "test", w.load("c1").Ref())
	w.ok(err)
	w.ok(w.s.TakeScheduled(t.Context(), year.Add(-time.Minute), year, owed))
	w.snapshots()
	unlock()
	w.ok(w.s.TakeScheduled(t.Context(), year, year.Add(time.Minute), owed))
	w.snapshots("snap0")
	w.ok(w.s.TakeScheduled(t.Context(), year.Add(time.Minute), year.Add(2*time.Minute), owed))
	w.snapshots("snap0")
	// What goes wrong for another reason is not tried every minute.
	w.pools.fail["snapshot"] = errs.Internal("the pool is full")
	w.ok(w.s.TakeScheduled(t.Context(), year.Add(-time.Minute), year, owed))
	w.ok(w.s.TakeScheduled(t.Context(), year, year.Add(time.Minute), owed))
	w.snapshots("snap0")
}

// TestGuestThatIsNotLetGoCanBeUnfrozen: it stands still, and that is its state then.
func TestGuestThatIsNotLetGoCanBeUnfrozen(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.write("one")
	w.ok(w.start("c1"))
	w.engine.Fail(fake.Unfreeze, errs.Internal("no"))
	w.ok(w.snapshot(instance.NewSnapshot{}))
	w.is("c1", instance.Frozen)
	w.ok(w.s.Unfreeze(t.Context(), "default", "c1", nil))
	w.is("c1", instance.Running)
	// A freeze that somebody asks for now outlives the daemon.
	w.ok(w.s.Freeze(t.Context(), "default", "c1", nil))
	w.s.Close()
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.is("c1", instance.Frozen)
}
