package idmap

import "testing"

func TestRawEntriesWin(t *testing.T) {
	t.Parallel()
	base := Map{{UID: true, HostID: 100000, Range: 65536}, {GID: true, HostID: 100000, Range: 65536}}
	raw, err := ParseRaw("both 1000 1000\nuid 2000-2009 500-509\n\ngid 100000 7\n")
	if err != nil {
		t.Fatal(err)
	}
	m := base.With(raw)
	if err := m.Check(); err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	for _, c := range []struct{ guest, uid, gid int64 }{
		{0, 100000, -1}, {1, 100001, 100001}, {7, 100007, 100000}, {499, 100499, 100499}, {500, 2000, 100500}, {509, 2009, 100509},
		{510, 100510, 100510}, {999, 100999, 100999}, {1000, 1000, 1000}, {1001, 101001, 101001}, {65535, 165535, 165535},
	} {
		u, uok := m.HostUID(c.guest)
		g, gok := m.HostGID(c.guest)
		if !uok {
			u = -1
		}
		if !gok {
			g = -1
		}
		if u != c.uid || g != c.gid {
			t.Errorf("%d is %d:%d, not %d:%d", c.guest, u, g, c.uid, c.gid)
		}
	}
	for _, bad := range []string{"user 1 1", "uid 1", "uid 1 1 1", "uid x 1", "uid 5-3 5-3", "uid 1-2 1-3", "both 0 0", "uid -1 1", "uid 4294967295 1"} {
		if m, err := ParseRaw(bad); err == nil {
			t.Errorf("%q: %v", bad, m)
		}
	}
}

func TestPart(t *testing.T) {
	t.Parallel()
	base := Map{{UID: true, HostID: 100000, Range: 200000}, {GID: true, HostID: 500000, Range: 200000}}
	m, err := base.Part(65536, 65536)
	if err != nil || m.Check() != nil {
		t.Fatal(m, err)
	}
	if u, _ := m.HostUID(0); u != 165536 {
		t.Errorf("uid %d", u)
	}
	if g, _ := m.HostGID(1); g != 565537 {
		t.Errorf("gid %d", g)
	}
	for _, o := range []int64{-1, 200000 - 65535} {
		if m, err := base.Part(o, 65536); err == nil {
			t.Errorf("%d: %v", o, m)
		}
	}
}
