//go:build system

package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A guest gets round the size limit of its volume by subvolumes of its own no more
// than by anything else. One without a limit that may nest keeps them.
func TestGuestStaysInItsVolume(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.setUp("btrfs")
	tool := filepath.Join(h.dir, "subvol")
	cmd := exec.Command("go", "build", "-o", tool, "sett/test/lib/subvol")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	body, err := os.ReadFile(tool)
	if err != nil {
		t.Fatal(err)
	}
	try := func(name string) string {
		t.Helper()
		to := filepath.Join(h.lxdDir(), "storage-pools/default/containers", name, "rootfs/subvol")
		if err := os.WriteFile(to, body, 0o755); err != nil {
			t.Fatal(err)
		}
		return h.lxc("exec", name, "--", "/subvol")
	}
	h.launch("c1")
	if out := try("c1"); out != "25\n25\n25\n25\n" {
		t.Errorf("a guest that may not nest: %q", out)
	}
	h.launch("c2", "-c", "security.nesting=true", "-d", "root,size=200MiB")
	if out := try("c2"); out != "25\n25\n25\n25\n" {
		t.Errorf("a guest with a limit: %q", out)
	}
	h.launch("c3", "-c", "security.nesting=true")
	h.launch("c4", "-c", "security.nesting=true")
	if r := h.try("config", "device", "override", "c4", "root", "size=200MiB"); r.code == 0 || !strings.Contains(r.stderr, "stop it first") {
		t.Errorf("a limit for one that runs and may get round it: exit %d, %s", r.code, r.stderr)
	}
	h.lxc("stop", "--force", "c4")
	h.lxc("config", "device", "override", "c4", "root", "size=200MiB")
	h.lxc("start", "c4")
	h.waitBooted("c4")
	if out := try("c4"); out != "25\n25\n25\n25\n" {
		t.Errorf("a guest that has got a limit: %q", out)
	}
	if out := try("c3"); out != "0\n0\n0\n0\n" {
		t.Errorf("a guest that may nest: %q", out)
	}
	if r := h.try("config", "device", "override", "c3", "root", "size=200MiB"); r.code == 0 {
		t.Error("a limit was set that would not count what is there")
	}
	// A limit that the pool gives is one like any other.
	h.lxc("storage", "set", "default", "volume.size=200MiB")
	h.launch("c5", "-c", "security.nesting=true")
	if out := try("c5"); out != "25\n25\n25\n25\n" {
		t.Errorf("a guest with the limit of its pool: %q", out)
	}
	h.lxc("delete", "--force", "c1", "c2", "c3", "c4", "c5")
}
