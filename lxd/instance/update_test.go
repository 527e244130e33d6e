package instance_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"sett/lxd/container/fake"
	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/lxd/op"
	"sett/lxd/profile"
	"sett/shared/api"
	"sett/shared/errs"
)

func TestFreshInstanceTakesAnUpdate(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	i := w.load("c1")
	c := instance.Change{Config: map[string]string{"user.x": "y"}, Profiles: []string{"default"}}
	for k, v := range i.Config {
		if k != "volatile.sett_pending" { // clients do not see it
			c.Config[k] = v
		}
	}
	w.ok(w.s.Update(t.Context(), admin, i, c))
	if got := w.load("c1").Config; got["user.x"] != "y" || got["volatile.sett_pending"] != "" {
		t.Errorf("config %v", got)
	}
}

func TestUpdateFollowsLive(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	i := w.load("c1")
	c := instance.Change{Config: map[string]string{"limits.memory": "32MiB"}, Devices: map[string]map[string]string{"d": {"type": "disk", "path": "/mnt", "source": w.dir}}, Profiles: []string{"default"}}
	for k, v := range i.Config {
		c.Config[k] = v
	}
	w.ok(w.s.Update(t.Context(), admin, i, c))
	g := w.guest("c1")
	if g.Limits().Memory != 32<<20 {
		t.Errorf("limits %+v", g.Limits())
	}
	if ms := g.Mounts(); len(ms) != 2 || ms[0].Target != "dev/lxd" || ms[1].Target != "mnt" {
		t.Errorf("mounts %+v", ms)
	}
	i = w.load("c1")
	// What holds from the next start on is stored, and the guest stays what it is.
	c.Config["security.privileged"] = "true"
	w.ok(w.s.Update(t.Context(), admin, i, c))
	i = w.load("c1")
	if i.Config["security.privileged"] != "true" || w.s.IDMap(i).Empty() {
		t.Errorf("privileged %q, mapped as %v", i.Config["security.privileged"], w.s.IDMap(i))
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.start("c1"))
	if ids := w.s.IDMap(w.load("c1")); !ids.Empty() {
		t.Errorf("after the next start the instance is mapped as %v", ids)
	}
	g, i = w.guest("c1"), w.load("c1")
	c.Config = maps.Clone(i.Config)
	delete(c.Config, "security.privileged")
	c.Devices = nil
	w.ok(w.s.Update(t.Context(), admin, i, c))
	if ms := g.Mounts(); len(ms) != 1 {
		t.Errorf("mounts %+v", ms)
	}
	c.Config["security.devlxd"] = "false"
	w.ok(w.s.Update(t.Context(), admin, i, c))
	if ms := g.Mounts(); len(ms) != 0 {
		t.Errorf("mounts %+v", ms)
	}
	c.Config["volatile.uuid"] = "x"
	if err := w.s.Update(t.Context(), admin, w.load("c1"), c); errs.Status(err) != 400 {
		t.Errorf("got %v", err)
	}
}

// TestUpdateKeepsWhatIsNotedMeanwhile: a guest that ends by itself in the middle of a change
// waits for nobody, and what is noted of its end is true afterwards.
func TestUpdateKeepsWhatIsNotedMeanwhile(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) { r.Devices = map[string]map[string]string{"a": nic("live", "1")} }))
	w.ok(w.start("c1"))
	dbtest.Exec(t, w.db, `INSERT INTO instances_config (instance_id, key, value) SELECT id, 'volatile.a.host_name', 'veth0' FROM instances`)
	w.nics.during = func(step string) {
		if step == "update 2 a" {
			w.guest("c1").Halt()
			w.is("c1", instance.Stopped)
		}
	}
	w.ok(w.change("c1", map[string]map[string]string{"a": nic("live", "2")}))
	i := w.load("c1")
	if c := i.Config; c["volatile.last_state.power"] != "STOPPED" || c["volatile.a.host_name"] != "" || c["volatile.a.hwaddr"] == "" {
		t.Errorf("config %v", c)
	}
	if i.Devices["a"]["live"] != "2" {
		t.Errorf("devices %v", i.Devices)
	}
}

// TestUpdateOfWhatHasChangedMeanwhile: between the request and its turn others may have
// been at the instance.
func TestUpdateOfWhatHasChangedMeanwhile(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.update(func(*instance.Change) {})) // takes the mark of the create away
	seen := w.load("c1")
	late := func(exact bool) error {
		c := instance.Change{Config: maps.Clone(seen.Config), Profiles: []string{"default"}, Exact: exact}
		c.Config["user.late"] = "1"
		return w.s.Update(t.Context(), admin, seen, c)
	}
	// What the daemon notes is no change.
	o, err := w.ops.Start(t.Context(), op.Spec{Run: func(ctx context.Context, _ *op.Operation) error {
		_, err := w.s.CreateSnapshot(ctx, "default", "c1", instance.NewSnapshot{}, nil)
		return err
	}})
	w.ok(err)
	w.ok(o.Wait(t.Context()))
	w.ok(w.start("c1"))
	w.ok(late(true))
	if c := w.load("c1").Config; c["user.late"] != "1" || c["volatile.last_state.power"] != "RUNNING" {
		t.Errorf("config %v", c)
	}
	// By now the instance says something else than was seen.
	if err := late(true); errs.Status(err) != 412 || !strings.Contains(err.Error(), "meanwhile") {
		t.Errorf("got %v", err)
	}
	w.ok(late(false))
}

// TestWhatHasAnotherNameMeanwhileIsLeftAlone: the lock that was waited for is not its own.
func TestWhatHasAnotherNameMeanwhileIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2"))
	req := api.InstancesPost{Name: "c2", Source: api.InstanceSource{Type: "copy", Source: "c1", Refresh: true}}
	p, err := w.s.PlanCreate(t.Context(), admin, "default", req)
	w.ok(err)
	p.Drop()
	seen := w.load("c2")
	w.ok(w.s.Refreshable(t.Context(), p, seen))
	w.ok(w.s.Rename(t.Context(), "default", "c2", "c3", nil))
	if err := w.s.Refreshable(t.Context(), p, seen); errs.Status(err) != 404 {
		t.Errorf("refresh: %v", err)
	}
	c := instance.Change{Config: maps.Clone(seen.Config), Devices: seen.Devices, Profiles: []string{"default"}}
	own(c.Config)
	c.Config["user.colour"] = "green"
	if err := w.s.Update(t.Context(), admin, seen, c); errs.Status(err) != 404 {
		t.Errorf("update: %v", err)
	}
	if got := w.load("c3").Config["user.colour"]; got != "blue" {
		t.Errorf("it is %s", got)
	}
}

func TestUpdateOfOneThatCannotBeLookedAt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.s.Close()
	w.engine.Fail(fake.Find, errs.Internal("no answer"), errs.Internal("still none"), errs.Internal("none"))
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.is("c1", instance.Errored)
	limit := func(c *instance.Change) { c.Config["limits.memory"] = "32MiB" }
	if err := w.update(limit); err == nil || !strings.Contains(err.Error(), "Cannot tell") {
		t.Errorf("got %v", err)
	}
	if err := w.s.Rename(t.Context(), "default", "c1", "c2", nil); err == nil || !strings.Contains(err.Error(), "Cannot tell") {
		t.Errorf("got %v", err)
	}
	w.ok(w.update(limit))
	if w.guest("c1").Limits().Memory != 32<<20 {
		t.Error("the guest did not follow")
	}
}

// TestProfileThatNoLongerFits: the instance has changed after it was asked whether it could
// take the profile.
func TestProfileThatNoLongerFits(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	unlock, err := w.s.Locks.Lock(t.Context(), "test", w.load("c1").Ref())
	w.ok(err)
	result := make(chan error, 1)
	go func() {
		result <- w.s.Profiles.Update(t.Context(), "default", "default", func(p profile.Profile) (profile.Profile, error) {
			p.Devices = maps.Clone(p.Devices)
			p.Devices["d"] = map[string]string{"type": "disk", "path": "/mnt", "source": w.dir}
			return p, nil
		}, nil)
	}()
	for { // until it is stored
		p, err := w.s.Profiles.Load(t.Context(), "default", "default")
		w.ok(err)
		if p.Devices["d"] != nil {
			break
		}
		<-time.After(time.Millisecond)
	}
	dbtest.Exec(t, w.db, `INSERT INTO instances_devices (instance_id, name, type) SELECT id, 'mine', 'disk' FROM instances`)
	dbtest.Exec(t, w.db, `INSERT INTO instances_devices_config (instance_device_id, key, value) SELECT id, 'path', '/mnt' FROM instances_devices UNION SELECT id, 'source', '/' FROM instances_devices`)
	unlock()
	if err := <-result; err == nil || !strings.Contains(err.Error(), `both want "/mnt"`) {
		t.Errorf("got %v", err)
	}
	for _, m := range w.guest("c1").Mounts() {
		if m.Target == "mnt" {
			t.Error("it was mounted")
		}
	}
}

// TestBusyInstanceKeepsNoOtherFromItsProfile: the others follow while it is waited for.
func TestBusyInstanceKeepsNoOtherFromItsProfile(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, n := range []string{"a", "b"} {
		w.ok(w.create(n))
		w.ok(w.start(n))
	}
	unlock, err := w.s.Locks.Lock(t.Context(), "test", w.load("a").Ref())
	w.ok(err)
	result := make(chan error, 1)
	go func() {
		result <- w.s.Profiles.Update(t.Context(), "default", "default", func(p profile.Profile) (profile.Profile, error) {
			p.Config = map[string]string{"limits.processes": "77"}
			return p, nil
		}, nil)
	}()
	late := time.After(30 * time.Second)
	for w.guest("b").Limits().Processes != 77 {
		select {
		case <-time.After(time.Millisecond):
		case <-late:
			t.Fatal("b does not follow")
		}
	}
	unlock()
	w.ok(<-result)
	if got := w.guest("a").Limits().Processes; got != 77 {
		t.Errorf("a has %d", got)
	}
}

// TestInstancesWaitUnlockedForTheirTurn: a profile that very many follow, one of them slowly,
// keeps nobody from the others.
func TestInstancesWaitUnlockedForTheirTurn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const all, turns = 10, 8
	for n := range all {
		name := fmt.Sprintf("c%d", n)
		w.ok(w.create(name))
		w.ok(w.start(name))
	}
	reached, goOn := make(chan struct{}, 100), make(chan struct{})
	w.nics.during = func(string) {
		reached <- struct{}{}
		<-goOn
	}
	result := make(chan error, 1)
	go func() {
		result <- w.s.Profiles.Update(t.Context(), "default", "default", func(p profile.Profile) (profile.Profile, error) {
			p.Devices = maps.Clone(p.Devices)
			p.Devices["a"] = nic()
			return p, nil
		}, nil)
	}()
	for range turns {
		<-reached
	}
	locked := 0
	for n := range all {
		if _, ok := w.s.Locks.Holder(w.load(fmt.Sprintf("c%d", n)).Ref()); ok {
			locked++
		}
	}
	if locked != turns {
		t.Errorf("%d are locked while %d follow", locked, turns)
	}
	close(goOn)
	w.ok(<-result)
	if _, inUse := w.nics.holds(); inUse != all {
		t.Errorf("%d of %d have followed", inUse, all)
	}
}
