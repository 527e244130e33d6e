package instance_test

import (
	"maps"
	"strings"
	"testing"

	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

// TestNICsHaveThePriorityOfTheirInstance unless they have one of their own, from the start
// on, changed live, plugged in later and after a restart of the daemon; a change that fails
// leaves what was.
func TestNICsHaveThePriorityOfTheirInstance(t *testing.T) {
	t.Parallel()
	w := setup(t)
	devices := map[string]map[string]string{"a": nic(), "b": nic("limits.priority", "2"), "z": nic("limits.priority", "0")}
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		r.Config = map[string]string{"limits.network.priority": "7"}
		r.Devices = devices
	}))
	set := func(value string) error {
		i := w.load("c1")
		c := maps.Clone(i.Config)
		own(c)
		c["limits.network.priority"] = value
		return w.s.Update(t.Context(), admin, i, instance.Change{Config: c, Devices: i.Devices, Profiles: []string{"default"}})
	}
	have := func(when string, want map[string]string) {
		t.Helper()
		got := map[string]string{}
		w.nics.mu.Lock()
		defer w.nics.mu.Unlock()
		for k, v := range w.nics.priority {
			got[strings.TrimPrefix(k, "c1.")] = v
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, not %v", when, got, want)
		}
	}
	w.ok(set("7"))
	w.ok(w.start("c1"))
	have("started", map[string]string{"a": "7", "b": "2", "z": "0"})
	started := w.load("c1").Config["volatile.a.hwaddr"]
	w.ok(set("3"))
	have("changed", map[string]string{"a": "3", "b": "2", "z": "0"})
	w.nics.fail["update  a"] = errs.Internal("boom")
	if err := set("4"); err == nil || w.load("c1").Config["limits.network.priority"] != "3" {
		t.Errorf("a change that fails: %v", err)
	}
	have("failed", map[string]string{"a": "3", "b": "2", "z": "0"})

	w.s.Close()
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	devices["c"] = nic()
	w.ok(w.change("c1", devices))
	have("plugged in", map[string]string{"a": "3", "b": "2", "z": "0", "c": "3"})
	devices["b"] = nic()
	w.ok(w.change("c1", devices))
	have("without its own", map[string]string{"a": "3", "b": "3", "z": "0", "c": "3"})
	w.nics.fail["update  a"] = errs.Internal("boom") // the last one
	if err := set("9"); err == nil {
		t.Error("a change that fails")
	}
	have("failed again", map[string]string{"a": "3", "b": "3", "z": "0", "c": "3"})
	w.ok(set(""))
	have("unset", map[string]string{"a": "", "b": "", "z": "0", "c": ""})
	if w.load("c1").Config["volatile.a.hwaddr"] != started || started == "" || w.load("c1").ExpandedDevices()["a"]["limits.priority"] != "" {
		t.Error("a nic was plugged in anew, or shows what is not its own")
	}

	for _, bad := range []string{"11", "-1", "high", "5.5"} {
		if err := set(bad); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "limits.network.priority") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
