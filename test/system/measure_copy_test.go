//go:build system && measure

package system

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMeasureStandstillOnDir copies a Debian that boots, logs and writes on a dir pool, and
// tells for how long it stood still for that, in all and at one time.
func TestMeasureStandstillOnDir(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	h.lxc("storage", "create", "other", "btrfs", "size=4GiB")
	h.lxc(append([]string{"image", "import", "--alias", "debian/12"}, debianImage(t)...)...)
	c := h.name("d12")
	h.lxc("launch", "debian/12", c, "--wait=ready", "--wait-timeout=55")
	h.inside(c, "cp -a /usr /usr2; for n in 1 2 3 4; do dd if=/dev/urandom of=/var/lib/data$n bs=1M count=64 2>/dev/null; done; sync")
	h.lxc("exec", c, "--", "sh", "-c", "cd /root; (while :; do date +%N >> a; date +%N >> b; done) > /dev/null 2>&1 &")
	out, _ := exec.Command("sh", "-c", "du -sm $0; find $0 | wc -l", filepath.Join(h.lxdDir(), "storage-pools/default/containers", c, "rootfs")).Output()
	t.Logf("MB and files: %s", strings.Join(strings.Fields(string(out)), " "))
	still := frozen(t, h.initPID(c))
	measure := func(what string, args ...string) {
		t.Helper()
		quit, done := make(chan struct{}), make(chan struct{})
		var s standstill
		go func() {
			defer close(done)
			s = watchStandstill(still, quit)
		}()
		took := timed(func() { h.lxc(args...) })
		close(quit)
		<-done
		t.Logf("%-22s took %7s, stood still %d times, at most %s, in all %s", what, took.Round(time.Millisecond),
			s.times, s.longest.Round(100*time.Microsecond), s.all.Round(100*time.Microsecond))
	}
	for range 2 {
		measure("snapshot", "snapshot", c)
		measure("copy", "copy", c, h.name("c1"), "--instance-only")
		measure("copy to btrfs", "copy", c, h.name("c2"), "--instance-only", "--storage", "other")
		measure("refresh", "copy", c, h.name("c1"), "--instance-only", "--refresh")
		measure("refresh on btrfs", "copy", c, h.name("c2"), "--instance-only", "--refresh")
		measure("export", "export", c, filepath.Join(t.TempDir(), "x.tar"), "--instance-only", "--compression", "none")
		h.lxc("delete", h.name("c1"), h.name("c2"))
	}
}
