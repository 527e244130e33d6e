package instance_test

import (
	"strings"
	"testing"

	"sett/lxd/host/idmap"
	"sett/lxd/instance"
	"sett/shared/api"
)

func TestIsolatedInstancesShareNoIDs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	with := func(cfg map[string]string) func(*api.InstancesPost) {
		return func(r *api.InstancesPost) {
			if r.Config == nil {
				r.Config = map[string]string{}
			}
			for k, v := range cfg {
				r.Config[k] = v
			}
		}
	}
	first := func(name string) int64 {
		t.Helper()
		m := w.guest(name).Spec().IDMap
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		id, ok := m.HostUID(0)
		if g, gok := m.HostGID(0); !ok || !gok || g != id {
			t.Fatalf("%s: %v", name, m)
		}
		if base := w.load(name).Config["volatile.idmap.base"]; base == "" {
			t.Errorf("%s: no base is stored", name)
		}
		return id
	}
	iso := map[string]string{"security.idmap.isolated": "true"}
	w.ok(w.create("shared"))
	w.ok(w.create("a", with(iso)))
	w.ok(w.create("b", with(iso), with(map[string]string{"security.idmap.size": "131072"})))
	w.ok(w.create("c", with(iso)))
	for _, n := range []string{"shared", "a", "b", "c"} {
		w.ok(w.start(n))
	}
	const base = 1000000
	for name, want := range map[string]int64{"shared": base, "a": base + 65536, "b": base + 2*65536, "c": base + 4*65536} {
		if got := first(name); got != want {
			t.Errorf("%s begins at %d, not %d", name, got, want)
		}
	}
	// It keeps them from start to start; a gap is used again.
	w.ok(w.stop("a", instance.StopOptions{Force: true}))
	w.ok(w.start("a"))
	if got := first("a"); got != base+65536 {
		t.Errorf("the second time it begins at %d", got)
	}
	// One by number, which is taken or outside.
	for id, want := range map[string]string{"1065536": "Another instance", "1": "no 65536 ids", "3000000": "no 65536 ids"} {
		w.ok(w.create("d"+id, with(iso), with(map[string]string{"security.idmap.base": id})))
		if err := w.start("d" + id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("base %s: %v", id, err)
		}
	}
}

func TestRawIDMap(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		r.Config = map[string]string{"raw.idmap": "both 1000 1000\nuid 50 60"}
	}))
	w.ok(w.start("c1"))
	m := w.guest("c1").Spec().IDMap
	for guest, want := range map[int64]int64{0: 1000000, 60: 50, 1000: 1000, 1001: 1001001} {
		if got, ok := m.HostUID(guest); !ok || got != want {
			t.Errorf("%d is %d, not %d", guest, got, want)
		}
	}
	if cur, err := idmap.Parse(w.load("c1").Config["volatile.idmap.current"]); err != nil || !cur.Equal(m) {
		t.Errorf("stored: %v, %v", cur, err)
	}
}
