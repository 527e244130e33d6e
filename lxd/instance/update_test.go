package instance_test

import (
	"maps"
	"testing"

	"sett/lxd/instance"
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
