package instance_test

import (
	"maps"
	"strings"
	"testing"

	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

// TestInstancesMayLoseTheirRootDiskForAWhile goes from one set of profiles to another
// by way of none, as clients do that add and remove them one by one.
func TestInstancesMayLoseTheirRootDiskForAWhile(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	become := func(profiles ...string) error {
		i := w.load("c1")
		c := instance.Change{Config: maps.Clone(i.Config), Devices: i.Devices, Profiles: profiles}
		maps.DeleteFunc(c.Config, func(k, _ string) bool { return strings.HasPrefix(k, "volatile.sett_") })
		return w.s.Update(t.Context(), admin, i, c)
	}
	w.ok(become())
	noRoot := func(err error) {
		t.Helper()
		if !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "No root device") {
			t.Errorf("got %v", err)
		}
	}
	noRoot(w.start("c1"))
	noRoot(w.snapshot(instance.NewSnapshot{Name: "s1"}))
	w.is("c1", instance.Stopped)
	w.ok(become()) // another change, with nothing to go by but what was remembered
	w.ok(w.s.Rename(t.Context(), "default", "c1", "c2", nil))
	w.ok(w.s.Rename(t.Context(), "default", "c2", "c1", nil))
	w.ok(become("default"))
	if pool, ok := w.load("c1").Config["volatile.sett_pool"]; ok {
		t.Errorf("pool %q is still remembered", pool)
	}
	w.ok(w.start("c1"))
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(become())
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.clean()
	// Who never had one does not come into being, and a profile does not take it away.
	noRoot(w.create("c3", func(r *api.InstancesPost) { r.Profiles = []string{} }))
}
