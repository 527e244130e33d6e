package instance_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sett/lxd/container/fake"
	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

func with(kv ...string) func(*api.InstancesPost) {
	return func(p *api.InstancesPost) {
		p.Config = map[string]string{}
		for n := 0; n < len(kv); n += 2 {
			p.Config[kv[n]] = kv[n+1]
		}
	}
}

// names of the containers in the order of their starts.
func (w *world) starts() []string {
	var out []string
	for _, s := range w.engine.Starts() {
		out = append(out, s.ID.Name)
	}
	return out
}

// idle waits until nobody is at work on an instance.
func (w *world) idle(name string) {
	w.t.Helper()
	unlock, err := w.s.Locks.Lock(w.t.Context(), "test", w.load(name).Ref())
	w.ok(err)
	unlock()
}

func TestAutostartGoesByPriority(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("a", with("boot.autostart", "true", "boot.autostart.priority", "1")))
	w.ok(w.create("b", with("boot.autostart", "true", "boot.autostart.priority", "5", "boot.autostart.delay", "1")))
	w.ok(w.create("c", with("boot.autostart", "true")))
	w.ok(w.create("d", with("boot.autostart", "true")))
	w.ok(w.create("e", with("boot.autostart", "false")))
	begun := time.Now()
	w.s.Autostart(t.Context())
	got := w.starts()
	slices.Sort(got[2:])
	if strings.Join(got, " ") != "b a c d" {
		t.Errorf("started %v", w.starts())
	}
	if took := time.Since(begun); took < time.Second {
		t.Errorf("no pause after the one that wants it: %s", took)
	}
	w.is("e", instance.Stopped)
}

func TestAutostartIsParallel(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, n := range []string{"a", "b", "c"} {
		w.ok(w.create(n, with("boot.autostart", "true")))
	}
	// Each waits for the others in the middle of its start.
	w.pools.meet = &sync.WaitGroup{}
	w.pools.meet.Add(3)
	w.s.Autostart(t.Context())
	for _, n := range []string{"a", "b", "c"} {
		w.is(n, instance.Running)
	}
	w.pools.meet = nil
}

func TestFallenInstanceRises(t *testing.T) {
	t.Parallel()
	w := setup(t)
	pauses := make(chan int, 16)
	w.pause = func(falls int) time.Duration {
		pauses <- falls
		return time.Millisecond
	}
	w.s = w.service()
	w.ok(w.create("c1", with("boot.autorestart", "true")))
	w.ok(w.create("c2"))
	w.ok(w.start("c1"))
	w.ok(w.start("c2"))
	w.guest("c2").Halt()
	w.is("c2", instance.Stopped)
	for n := 1; n <= 3; n++ {
		w.guest("c1").Halt()
		if got := <-pauses; got != n {
			t.Errorf("fall %d counts as %d", n, got)
		}
		w.is("c1", instance.Running)
	}
	// A start that fails is a fall too.
	w.engine.Fail(fake.Start, errs.Internal("no"))
	w.guest("c1").Halt()
	if a, b := <-pauses, <-pauses; a != 4 || b != 5 {
		t.Errorf("falls %d and %d", a, b)
	}
	w.is("c1", instance.Running)
	// What somebody asks for is no fall.
	w.idle("c1")
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.is("c1", instance.Stopped)
	if w.load("c1").Config["volatile.last_state.power"] != "STOPPED" || len(pauses) != 0 {
		t.Error("a stop that was asked for was not the end")
	}
}

func TestStopEndsThePause(t *testing.T) {
	t.Parallel()
	w := setup(t)
	waiting := make(chan struct{}, 4)
	w.pause = func(int) time.Duration {
		waiting <- struct{}{}
		return time.Hour
	}
	w.s = w.service()
	w.ok(w.create("c1", with("boot.autorestart", "true")))
	w.ok(w.start("c1"))
	w.guest("c1").Halt()
	<-waiting
	w.is("c1", instance.Stopped)
	if w.load("c1").Config["volatile.last_state.power"] != "RUNNING" {
		t.Error("a daemon that went now would forget to start it")
	}
	w.ok(w.stop("c1", instance.StopOptions{}))
	if w.load("c1").Config["volatile.last_state.power"] != "STOPPED" {
		t.Error("it is still to run")
	}
	if err := w.stop("c1", instance.StopOptions{}); errs.Status(err) != 400 {
		t.Errorf("a second stop: %v", err)
	}
	// A start does not wait, and the pause does not outlive it.
	w.ok(w.start("c1"))
	w.guest("c1").Halt()
	<-waiting
	w.ok(w.start("c1"))
	w.is("c1", instance.Running)
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	if err := w.stop("c1", instance.StopOptions{}); errs.Status(err) != 400 {
		t.Errorf("a stop after the pause: %v", err)
	}
}

func TestPauseGrows(t *testing.T) {
	t.Parallel()
	var got []time.Duration
	for n := 1; n < 10; n++ {
		got = append(got, instance.Pause(n)/time.Second)
	}
	if !slices.Equal(got, []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}) {
		t.Errorf("%d", got)
	}
}

func TestStartNeedsItsKernelModules(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", with("linux.kernel_modules", "sett_no_such_module")))
	err := w.start("c1")
	if errs.Status(err) != 400 || !strings.Contains(err.Error(), `"sett_no_such_module"`) {
		t.Errorf("got %v", err)
	}
	w.is("c1", instance.Stopped)
	if err := w.create("c2", with("linux.kernel_modules", "--remove")); errs.Status(err) != 400 {
		t.Errorf("a name that is an option: %v", err)
	}
}

func TestProtectionOfIDs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", with("security.protection.shift", "true")))
	w.ok(w.start("c1")) // its files keep their ids
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	dbtest.Exec(t, w.db, `UPDATE instances_config SET value = '[{"Isuid":true,"Isgid":true,"Hostid":5,"Nsid":0,"Maprange":5}]' WHERE key = 'volatile.last_state.idmap'`)
	if err := w.start("c1"); errs.Status(err) != 400 || !strings.Contains(err.Error(), "security.protection.shift") {
		t.Errorf("got %v", err)
	}
	w.is("c1", instance.Stopped)
}

func TestProtectionFromDeletion(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", with("security.protection.delete", "true")))
	if err := w.s.Delete(t.Context(), "default", "c1", nil); errs.Status(err) != 403 || !strings.Contains(err.Error(), "security.protection.delete") {
		t.Errorf("got %v", err)
	}
	w.is("c1", instance.Stopped)
	w.ok(w.start("c1"))
}

// What the keys forbid comes on top of what the volume's file system makes necessary.
func TestPolicyReachesTheEngine(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", with("security.syscalls.deny", "mkdir errno 1", "security.syscalls.intercept.mknod", "true")))
	w.ok(w.start("c1"))
	if p := w.guest("c1").Spec().Seccomp; p.Deny != "mkdir errno 1" || !p.Intercept.Mknod || p.NoDefault || p.Empty() {
		t.Errorf("%+v", p)
	}
	w.ok(w.create("c2", with("security.syscalls.deny_compat", "true")))
	dbtest.Exec(t, w.db, `UPDATE instances SET architecture = 'i686' WHERE name = 'c2'`)
	if err := w.start("c2"); errs.Status(err) != 400 || !strings.Contains(err.Error(), "security.syscalls.deny_compat") {
		t.Errorf("32-bit programs that may not run: %v", err)
	}
	w.is("c2", instance.Stopped)
}

// TestInstanceRenamedInItsPauseRises under its new name.
func TestInstanceRenamedInItsPauseRises(t *testing.T) {
	t.Parallel()
	w := setup(t)
	pausing, over := make(chan struct{}), make(chan struct{})
	w.pause = func(int) time.Duration {
		close(pausing)
		<-over
		return 0
	}
	w.s = w.service()
	w.ok(w.create("c1", with("boot.autorestart", "true")))
	w.ok(w.start("c1"))
	w.guest("c1").Halt()
	<-pausing
	w.is("c1", instance.Stopped)
	w.ok(w.s.Rename(t.Context(), "default", "c1", "c2", nil))
	close(over)
	w.is("c2", instance.Running)
}

// TestRisingTakesNoSnapshots: one that falls or reboots again and again would fill the pool
// with them.
func TestRisingTakesNoSnapshots(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pause = func(int) time.Duration { return 0 }
	w.s = w.service()
	w.ok(w.create("c1", with("boot.autorestart", "true", "snapshots.schedule", "@startup")))
	w.ok(w.start("c1"))
	for n := 2; n < 6; n++ {
		if n%2 == 0 {
			w.guest("c1").Halt()
		} else {
			w.guest("c1").Reboot()
		}
		for len(w.engine.Starts()) < n {
			<-time.After(time.Millisecond)
		}
		w.idle("c1")
	}
	w.snapshots("snap0")
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.start("c1"))
	w.snapshots("snap0", "snap1")
}
