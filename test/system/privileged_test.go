//go:build system

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A privileged guest runs with the host's ids, and one can become so and cease to be
// so: its files keep their owners as it sees them.
func TestPrivilegedGuest(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"dir", "btrfs"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.setUp(driver)
			h.launch("c1", "-c", "security.privileged=true")
			in := func(script string) string {
				t.Helper()
				return strings.TrimSpace(h.lxc("exec", "c1", "--", "sh", "-c", script))
			}
			privileged := func(want bool) {
				t.Helper()
				if got := strings.Fields(in("cat /proc/1/uid_map")); (len(got) == 3 && got[1] == "0") != want {
					t.Errorf("the id map is %v", got)
				}
				if got := in("cat /proc/self/uid_map /proc/1/uid_map | sort -u | wc -l"); got != "1" {
					t.Error("a command has another map than init")
				}
			}
			owner := func(path, want string) {
				t.Helper()
				if got := in("stat -c %u:%g " + path); got != want {
					t.Errorf("%s belongs to %s, not %s", path, got, want)
				}
			}
			privileged(true)
			in("touch /root/mine; touch /root/his; chown 1000:1001 /root/his")
			// The host's own switches are out of its reach.
			for _, f := range []string{"/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper"} {
				if r := h.try("exec", "c1", "--", "sh", "-c", "[ ! -e "+f+" ] || echo x >"+f); r.code == 0 {
					if got := in("[ ! -e " + f + " ] || echo there"); got == "there" {
						t.Errorf("it wrote to %s", f)
					}
				}
			}
			if r := h.try("exec", "c1", "--", "mknod", "/root/disk", "b", "8", "0"); r.code == 0 {
				if r := h.try("exec", "c1", "--", "head", "-c", "1", "/root/disk"); r.code == 0 {
					t.Error("it read a disk of the host")
				}
			}
			// A folder of the host comes and goes, with the host's ids.
			src := t.TempDir()
			if err := os.Chown(src, 1000, 1001); err != nil {
				t.Fatal(err)
			}
			h.lxc("config", "device", "add", "c1", "share", "disk", "source="+src, "path=/share")
			owner("/share", "1000:1001")
			in("touch /share/new")
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(src, "new"), &st); err != nil || st.Uid != 0 {
				t.Errorf("on the host: %v, %v", st.Uid, err)
			}
			h.lxc("config", "device", "remove", "c1", "share")

			// From the next start on: the guest that runs stays what it is, and so do commands in it.
			h.lxc("config", "set", "c1", "security.privileged=false")
			privileged(true)
			become := func(v string) {
				t.Helper()
				h.lxc("stop", "c1", "--force")
				h.lxc("config", "set", "c1", "security.privileged="+v)
				h.lxc("start", "c1")
				h.waitBooted("c1")
			}
			become("false")
			privileged(false)
			owner("/root/mine", "0:0")
			owner("/root/his", "1000:1001")
			in("touch /root/later")
			become("true")
			privileged(true)
			owner("/root/his", "1000:1001")
			owner("/root/later", "0:0")
			h.lxc("delete", "--force", "c1")
		})
	}
}
