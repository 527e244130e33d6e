//go:build system

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/idmap"
)

// Instances with ids of their own run with them, and ids that are mapped one by one
// reach the files of the host's user.
func TestIDMapsOfInstances(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.setUp("dir")
	h.launch("c1", "-c", "security.idmap.isolated=true")
	h.launch("c2", "-c", "security.idmap.isolated=true", "-c", "raw.idmap=both 1000 1000")
	in := func(name, script string) string {
		t.Helper()
		return strings.TrimSpace(h.lxc("exec", name, "--", "sh", "-c", script))
	}
	maps := map[string]string{}
	for _, c := range []string{"c1", "c2"} {
		f := strings.Fields(in(c, "head -1 /proc/self/uid_map"))
		if len(f) != 3 {
			t.Fatalf("%s: %v", c, f)
		}
		maps[c] = f[1]
		if got := in(c, "stat -c %u:%g /bin/busybox; touch /root/new; stat -c %u:%g /root/new"); got != "0:0\n0:0" {
			t.Errorf("%s: %q", c, got)
		}
	}
	if maps["c1"] == maps["c2"] {
		t.Errorf("both begin at %s", maps["c1"])
	}
	src := t.TempDir()
	if err := os.Chown(src, 1000, 1000); err != nil {
		t.Fatal(err)
	}
	h.lxc("config", "device", "add", "c2", "share", "disk", "source="+src, "path=/share")
	if got := in("c2", "stat -c %u:%g /share"); got != "1000:1000" {
		t.Errorf("the share belongs to %s", got)
	}
	h.lxc("exec", "c2", "--user", "1000", "--group", "1000", "--", "touch", "/share/new")
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(src, "new"), &st); err != nil || st.Uid != 1000 || st.Gid != 1000 {
		t.Errorf("on the host it belongs to %d:%d, %v", st.Uid, st.Gid, err)
	}
	before := maps["c1"]
	h.lxc("restart", "c1", "--force")
	h.waitBooted("c1")
	if f := strings.Fields(in("c1", "head -1 /proc/self/uid_map")); f[1] != before {
		t.Errorf("after a restart it begins at %s, not %s", f[1], before)
	}
	if r := h.try("config", "set", "c1", "raw.idmap", "both 0 0"); r.code == 0 {
		t.Error("the host's root was mapped")
	}
	h.lxc("delete", "--force", "c1", "c2")
}

// TestFilesOfOtherIdsAreMadeRight: what another server has left with ids of the host gets the
// guest's own before it starts, in one step.
func TestFilesOfOtherIdsAreMadeRight(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.setUp(driver)
			c := h.name("c1")
			h.launch(c)
			h.lxc("exec", c, "--", "sh", "-c", "echo x >/root/f; chown 12:34 /root/f; chmod 4755 /root/f; sync")
			h.lxc("stop", "--force", c)
			dir := filepath.Join(h.lxdDir(), "storage-pools/default/containers", c)
			m := idmap.Map{{UID: true, GID: true, HostID: 3000000, Range: 1 << 16}}
			if err := idmap.Shift(t.Context(), filepath.Join(dir, "rootfs"), nil, m); err != nil {
				t.Fatal(err)
			}
			r := h.run(h.bin.lxd(), "sql", "global", "UPDATE instances_config SET value = '"+m.String()+"' WHERE key = 'volatile.last_state.idmap'")
			if r.code != 0 {
				t.Fatalf("%s%s", r.stdout, r.stderr)
			}
			h.lxc("start", c)
			h.waitBooted(c)
			if got := strings.TrimSpace(h.lxc("exec", c, "--", "stat", "-c", "%u:%g %a", "/root/f")); got != "12:34 4755" {
				t.Errorf("inside it is %s", got)
			}
			if got := strings.TrimSpace(h.lxc("config", "get", c, "volatile.last_state.idmap")); got != "[]" {
				t.Errorf("it is noted as %s", got)
			}
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(dir, "rootfs/root/f"), &st); err != nil || st.Uid != 12 || st.Gid != 34 {
				t.Errorf("on disk it belongs to %d:%d, %v", st.Uid, st.Gid, err)
			}
			if _, err := os.Lstat(filepath.Join(dir, ".shifted")); !os.IsNotExist(err) {
				t.Errorf("the sign of the shift: %v", err)
			}
			h.lxc("delete", "--force", c)
		})
	}
}
