package instance_test

import (
	"strings"
	"testing"
	"time"

	"sett/lxd/container/fake"
	"sett/lxd/event"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

func TestLifeOfAnInstance(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		r.Config = map[string]string{"environment.A": "b", "limits.memory": "64MiB"}
	}))
	i := w.load("c1")
	if i.Config["image.os"] != "Debian" || i.Config["volatile.base_image"] != "abc" || i.Config["volatile.uuid"] == "" {
		t.Errorf("config %v", i.Config)
	}
	w.ok(w.start("c1"))
	w.is("c1", instance.Running)
	spec := w.engine.Starts()[0]
	if spec.Hostname != "c1" || !spec.Rootfs.Idmapped || spec.IDMap.Empty() || spec.Limits.Memory != 64<<20 || len(spec.InitEnv) != 1 || spec.InitEnv[0] != "A=b" {
		t.Errorf("spec %+v", spec)
	}
	if c := w.load("c1").Config; c["volatile.last_state.power"] != "RUNNING" || c["volatile.last_state.idmap"] != "[]" || !strings.Contains(c["volatile.idmap.current"], "1000000") {
		t.Errorf("config %v", c)
	}
	if err := w.start("c1"); errs.Status(err) != 400 || !strings.Contains(err.Error(), "already running") {
		t.Errorf("second start: %v", err)
	}
	w.ok(w.s.Freeze(t.Context(), "default", "c1", nil))
	w.is("c1", instance.Frozen)
	w.ok(w.s.Unfreeze(t.Context(), "default", "c1", nil))
	if err := w.s.Delete(t.Context(), "default", "c1", nil); err == nil {
		t.Error("a running instance was deleted")
	}
	if err := w.s.Rename(t.Context(), "default", "c1", "c2", nil); err == nil {
		t.Error("a running instance was renamed")
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	if w.load("c1").Config["volatile.last_state.power"] != "STOPPED" {
		t.Error("power was not noted")
	}
	w.ok(w.s.Rename(t.Context(), "default", "c1", "c2", nil))
	w.ok(w.start("c2"))
	w.ok(w.stop("c2", instance.StopOptions{Timeout: -1}))
	w.ok(w.s.Delete(t.Context(), "default", "c2", nil))
	w.clean()
	var got []string
	for len(w.events.C()) > 0 {
		got = append(got, (<-w.events.C()).Metadata.(event.Lifecycle).Action)
	}
	want := "instance-created instance-started instance-paused instance-resumed instance-stopped instance-renamed instance-started instance-shutdown instance-deleted"
	if strings.Join(got, " ") != want {
		t.Errorf("events %v", got)
	}
}

func TestFailedStartIsTakenBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	before := w.load("c1").Config
	for _, fail := range []func(){
		func() { w.pools.fail["mount"] = errs.Internal("no mount") },
		func() { w.engine.Fail(fake.Start, errs.Internal("no init")) },
	} {
		fail()
		if err := w.start("c1"); err == nil {
			t.Fatal("started")
		}
		w.is("c1", instance.Stopped)
		if n := w.pools.vols[instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}]; n > 0 {
			t.Errorf("%d mounts left", n)
		}
		if p := w.load("c1").Config["volatile.last_state.power"]; p != before["volatile.last_state.power"] {
			t.Errorf("power %q stayed", p)
		}
	}
	w.ok(w.start("c1"))
}

func TestGuestThatEndsOrRebootsByItself(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.guest("c1").Reboot()
	for len(w.engine.Starts()) < 2 {
		<-time.After(time.Millisecond)
	}
	w.is("c1", instance.Running)
	w.guest("c1").Halt()
	w.is("c1", instance.Stopped)

	w.ok(w.create("e1", func(r *api.InstancesPost) { r.Ephemeral = true }))
	w.ok(w.start("e1"))
	w.guest("e1").Halt()
	w.vanishes("e1")
}

// vanishes waits for the end of an ephemeral instance.
func (w *world) vanishes(name string) {
	w.t.Helper()
	for range 500 {
		if _, err := w.s.Load(w.t.Context(), "default", name); errs.Is(err, errs.KindNotFound) {
			return
		}
		<-time.After(2 * time.Millisecond)
	}
	w.t.Errorf("the ephemeral instance %s stayed", name)
}

func TestRestartKeepsEphemeralInstances(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("e1", func(r *api.InstancesPost) { r.Ephemeral = true }))
	w.ok(w.start("e1"))
	w.ok(w.s.Restart(t.Context(), "default", "e1", instance.StopOptions{Force: true}, nil))
	w.is("e1", instance.Running)
	w.ok(w.stop("e1", instance.StopOptions{Force: true}))
	w.clean()
}

func TestLostSightOfAGuestTakesNothingFromIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	odd := errs.Internal("the socket broke")
	w.engine.Fail(fake.Wait, odd, odd)
	w.engine.Fail(fake.Find, odd)
	w.ok(w.start("c1"))
	v := instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}
	mounted := func() int {
		w.pools.mu.Lock()
		defer w.pools.mu.Unlock()
		return w.pools.vols[v]
	}
	for w.engine.Pending(fake.Wait) > 0 { // until it has been lost and found twice
		<-time.After(time.Millisecond)
		if n := mounted(); n != 1 || w.s.State(w.load("c1").ID) != instance.Running {
			t.Fatalf("mounted %d times", n)
		}
	}
	w.guest("c1").Halt()
	w.is("c1", instance.Stopped)
	if n := mounted(); n != 0 {
		t.Errorf("mounted %d times", n)
	}
	w.engine.Fail(fake.Wait, odd)
	w.ok(w.start("c1"))
	if err := w.stop("c1", instance.StopOptions{Timeout: time.Minute}); err != nil {
		t.Errorf("a stop through the new handle: %v", err)
	}
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.clean()
}

// TestRebootOutlivesTheDaemon: who reboots is to run, also when nobody is there to start it
// again at once; but not one that cannot start.
func TestRebootOutlivesTheDaemon(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	power := func() string { return w.load("c1").Config["volatile.last_state.power"] }
	unlock, err := w.s.Locks.Lock(t.Context(), "test", w.load("c1").Ref())
	w.ok(err)
	w.guest("c1").Reboot()
	w.is("c1", instance.Stopped)
	if power() != "RUNNING" {
		t.Errorf("between the two it is %s", power())
	}
	unlock()
	w.is("c1", instance.Running)
	w.engine.Fail(fake.Start, errs.Internal("no"))
	w.guest("c1").Reboot()
	for power() != "STOPPED" {
		<-time.After(time.Millisecond)
	}
	w.is("c1", instance.Stopped)
}
