package idmap_test

import (
	"math"
	"testing"

	"sett/lxd/host/idmap"
)

func TestMapKeepsTheFormOfVolatileKeys(t *testing.T) {
	t.Parallel()
	const s = `[{"Isuid":true,"Isgid":false,"Hostid":1000000,"Nsid":0,"Maprange":1000000000},{"Isuid":false,"Isgid":true,"Hostid":1000000,"Nsid":0,"Maprange":1000000000}]`
	m, err := idmap.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	if m.String() != s {
		t.Errorf("became %s", m)
	}
	both := idmap.Map{{UID: true, GID: true, NSID: 0, HostID: 1000000, Range: 1000000000}}
	if !m.Equal(both) {
		t.Error("an entry for both kinds differs from two entries")
	}
	if m, err = idmap.Parse("[]"); err != nil || !m.Empty() || m.String() != "[]" {
		t.Errorf("empty map: %v, %v", m, err)
	}
	for _, bad := range []string{"x", `[{"Isuid":true,"Hostid":1,"Nsid":0,"Maprange":1}]`} {
		if _, err := idmap.Parse(bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestMapTranslatesBothWays(t *testing.T) {
	t.Parallel()
	m := idmap.Map{
		{UID: true, GID: true, NSID: 0, HostID: 100000, Range: 1000},
		{UID: true, NSID: 1000, HostID: 1000, Range: 1},
		{UID: true, GID: true, NSID: 1001, HostID: 101001, Range: 64535},
	}
	for _, c := range []struct{ in, out int64 }{{0, 100000}, {999, 100999}, {1000, 1000}, {1001, 101001}} {
		if got, ok := m.HostUID(c.in); !ok || got != c.out {
			t.Errorf("uid %d: %d %v", c.in, got, ok)
		}
		if got, ok := m.GuestUID(c.out); !ok || got != c.in {
			t.Errorf("host uid %d: %d %v", c.out, got, ok)
		}
	}
	if _, ok := m.HostGID(1000); ok {
		t.Error("gid 1000 is not mapped")
	}
	if _, ok := m.GuestUID(0); ok {
		t.Error("host root is not mapped")
	}
}

func TestOverlappingMapsAreRefused(t *testing.T) {
	t.Parallel()
	for _, m := range []idmap.Map{
		{{UID: true, GID: true, NSID: 0, HostID: 10, Range: 10}, {UID: true, GID: true, NSID: 5, HostID: 100, Range: 10}},
		{{UID: true, GID: true, NSID: 0, HostID: 10, Range: 10}, {UID: true, GID: true, NSID: 50, HostID: 15, Range: 10}},
		{{UID: true, GID: true, NSID: 0, HostID: 10, Range: 0}},
		{{UID: true, GID: true, NSID: 1, HostID: 10, Range: math.MaxInt64}}, // the sums are negative
	} {
		if m.Check() == nil {
			t.Errorf("%v was taken", m)
		}
	}
}
