//go:build system

package system

import (
	"os"
	"os/exec"
	"path/filepath"
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
	if out := try("c3"); out != "0\n0\n0\n0\n" {
		t.Errorf("a guest that may nest: %q", out)
	}
	if r := h.try("config", "device", "override", "c3", "root", "size=200MiB"); r.code == 0 {
		t.Error("a limit was set that would not count what is there")
	}
	h.lxc("delete", "--force", "c1", "c2", "c3")
}
