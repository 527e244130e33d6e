package instance_test

import (
	"slices"
	"strings"
	"testing"

	"sett/lxd/container/fake"
	"sett/lxd/instance"
	"sett/shared/errs"
)

func TestShutdownStopsAllAndRemembersThem(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, n := range []string{"a", "b"} {
		w.ok(w.create(n))
		w.ok(w.start(n))
	}
	w.s.Shutdown(t.Context(), false)
	w.is("a", instance.Stopped)
	w.is("b", instance.Stopped)
	if err := w.start("a"); errs.Status(err) != 503 {
		t.Errorf("started while the host goes down: %v", err)
	}
	w.s.Close()
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.s.Autostart(t.Context())
	w.is("a", instance.Running)
	w.is("b", instance.Running)
}

func TestShutdownGoesByPriority(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for n, priority := range map[string]string{"last": "-1", "a": "0", "b": "0", "second": "3", "first": "10"} {
		w.ok(w.create(n, with("boot.stop.priority", priority)))
		w.ok(w.start(n))
	}
	w.pools.mu.Lock()
	w.pools.calls = nil
	w.pools.mu.Unlock()
	w.s.Shutdown(t.Context(), false)
	w.pools.mu.Lock()
	defer w.pools.mu.Unlock()
	var order []string
	for _, c := range w.pools.calls {
		if n, ok := strings.CutPrefix(c, "unmount "); ok {
			order = append(order, n)
		}
	}
	if len(order) == 5 {
		slices.Sort(order[2:4]) // together
	}
	if got := strings.Join(order, " "); got != "first second a b last" {
		t.Errorf("stopped %s", got)
	}
}

// TestShutdownLooksAgain at instances of which nobody knew whether they run.
func TestShutdownLooksAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.s.Close()
	v := instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}
	w.pools.vols[v] = 0 // the users of it went with the daemon
	w.engine.Fail(fake.Find, errs.Internal("no answer"))
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.is("c1", instance.Errored)
	w.s.Shutdown(t.Context(), false)
	w.is("c1", instance.Stopped)
	if n := w.pools.vols[v]; len(w.engine.Running()) != 0 || n != 0 {
		t.Errorf("it runs on, or its volume is mounted: %d times", n)
	}
	if w.load("c1").Config["volatile.last_state.power"] != "RUNNING" {
		t.Error("it is not to run again")
	}
}

// TestHurryDoesNotWaitForWhoGaveUp: a stop that cannot kill the guest it was to kill ends, and
// so does the one that asked for it.
func TestHurryDoesNotWaitForWhoGaveUp(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.guest("c1").IgnoreShutdown()
	w.engine.Fail(fake.Kill, errs.Internal("no"))
	patient := make(chan error, 1)
	go func() { patient <- w.stop("c1", instance.StopOptions{Timeout: -1}) }()
	w.is("c1", instance.Stopping)
	for len(patient) == 0 { // until the first one waits for the guest, the second one is busy
		if err := w.stop("c1", instance.StopOptions{Force: true}); err != nil && !strings.Contains(err.Error(), "busy") {
			t.Fatal(err)
		}
	}
	if err := <-patient; err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("got %v", err)
	}
	for w.s.State(w.load("c1").ID) != instance.Stopped {
		if err := w.stop("c1", instance.StopOptions{Force: true}); err != nil && !strings.Contains(err.Error(), "busy") {
			t.Fatal(err)
		}
	}
}
