package idmap_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/host/idmap"
)

func host(t *testing.T, subuid, subgid string) *idmap.Host {
	t.Helper()
	d := t.TempDir()
	for n, s := range map[string]string{"subuid": subuid, "subgid": subgid} {
		if s != "" {
			if err := os.WriteFile(filepath.Join(d, n), []byte(s), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return idmap.NewHostAt(filepath.Join(d, "subuid"), filepath.Join(d, "subgid"))
}

func TestMapTakesRootsLargestRanges(t *testing.T) {
	t.Parallel()
	m, err := host(t, "joe:1:99999999\nroot:100000:65536\nroot:1000000:1000000000\n# x\nbroken\n", "0:200000:70000\n").Map()
	if err != nil {
		t.Fatal(err)
	}
	want := idmap.Map{{UID: true, HostID: 1000000, Range: 1000000000}, {GID: true, HostID: 200000, Range: 70000}}
	if !m.Equal(want) {
		t.Errorf("got %s", m)
	}
}

func TestMissingRangesAreNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ uid, gid, want string }{
		{"", "", "subuid and "},
		{"root:1000000:65536\n", "joe:1:70000\n", "subgid,"},
		{"root:1000000:1000\n", "root:1000000:65536\n", "subuid,"},
	} {
		_, err := host(t, c.uid, c.gid).Map()
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "usermod --add-subuids") {
			t.Errorf("%q %q: %v", c.uid, c.gid, err)
		}
	}
}
