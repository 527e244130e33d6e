package instance_test

import (
	"strings"
	"testing"

	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

func TestFailedCreateLeavesNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pools.fail["create"] = errs.Invalid("the pool is full")
	if err := w.create("c1"); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v", err)
	}
	w.clean()
	w.ok(w.create("c1")) // the name is free again
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("taken"))
	for name, c := range map[string]struct {
		name string
		req  func(*api.InstancesPost)
		code int
		text string
	}{
		"taken name":      {"taken", nil, 409, "already exists"},
		"bad name":        {"a b", nil, 400, "letters, digits"},
		"digit first":     {"1a", nil, 400, "begin with a letter"},
		"unknown key":     {"x", func(r *api.InstancesPost) { r.Config = map[string]string{"limits.cpus": "1"} }, 400, "limits.cpus"},
		"unbuilt key":     {"x", func(r *api.InstancesPost) { r.Config = map[string]string{"raw.apparmor": "x"} }, 501, "raw.apparmor"},
		"missing image":   {"x", func(r *api.InstancesPost) { r.Source.Alias = "nope" }, 404, "nope"},
		"missing profile": {"x", func(r *api.InstancesPost) { r.Profiles = []string{"nope"} }, 404, "nope"},
		"no root disk":    {"x", func(r *api.InstancesPost) { r.Profiles = []string{} }, 400, "root device"},
		"virtual machine": {"x", func(r *api.InstancesPost) { r.Type = "virtual-machine" }, 501, "irtual machines"},
		"unbuilt source":  {"x", func(r *api.InstancesPost) { r.Source.Type = "migration" }, 501, "migration"},
		"missing pool": {"x", func(r *api.InstancesPost) {
			r.Devices = map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "p2"}}
		}, 404, "p2"},
		"foreign cpu":      {"x", func(r *api.InstancesPost) { r.Architecture = "riscv64" }, 400, "riscv64"},
		"daemon's own key": {"x", func(r *api.InstancesPost) { r.Config = map[string]string{"volatile.sett_pending": "delete"} }, 400, "daemon's own"},
		"clashing devices": {"x", func(r *api.InstancesPost) {
			r.Devices = map[string]map[string]string{"a": {"type": "disk", "path": "/m", "source": "/"}, "b": {"type": "disk", "path": "/m", "source": "/"}}
		}, 400, `both want "/m"`},
		"unbuilt device": {"x", func(r *api.InstancesPost) { r.Devices = map[string]map[string]string{"g": {"type": "gpu"}} }, 501, "gpu"},
	} {
		f := c.req
		if f == nil {
			f = func(*api.InstancesPost) {}
		}
		err := w.create(c.name, f)
		if err == nil || errs.Status(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %d with %q", name, err, c.code, c.text)
		}
	}
	if all, _ := w.s.List(t.Context(), ""); len(all) != 1 {
		t.Errorf("%d instances", len(all))
	}
}

func TestGeneratedNamesAreFreeAndValid(t *testing.T) {
	t.Parallel()
	w := setup(t)
	seen := map[string]bool{}
	for range 20 {
		p, err := w.s.PlanCreate(t.Context(), admin, "default", api.InstancesPost{Source: api.InstanceSource{Type: "none"}})
		w.ok(err)
		w.ok(w.s.Create(t.Context(), p, nil))
		if n := p.Instance.Name; seen[n] || instance.CheckName(n) != nil {
			t.Errorf("name %q", n)
		} else {
			seen[n] = true
		}
	}
}
