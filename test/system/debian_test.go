//go:build system

package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDebianBoots is the promise of the project: a whole system, booted by systemd,
// unprivileged, with an address from our bridge.
func TestDebianBoots(t *testing.T) {
	build := exec.Command(filepath.Join(top(), "test/run/mkimage.sh"), filepath.Join(top(), "build/images"))
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("build the image: %v", err)
	}
	files := strings.Fields(string(out))
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			h.lxc(append([]string{"image", "import", "--alias", "debian/12"}, files...)...)
			c := h.name("d12")
			h.lxc("launch", "debian/12", c, "--wait=ready", "--wait-timeout=55")
			h.seen()
			switch s := strings.TrimSpace(h.try("exec", c, "--", "systemctl", "is-system-running").stdout); s {
			case "running":
			case "degraded":
				t.Fatalf("systemd is degraded:\n%s", h.lxc("exec", c, "--", "systemctl", "--failed", "--no-pager"))
			default:
				t.Errorf("ready, and systemd says %q", s)
			}
			h.ipv4(c)
			if out := h.lxc("exec", c, "--", "systemd-detect-virt"); strings.TrimSpace(out) != "lxc" {
				t.Errorf("systemd-detect-virt says %q", out)
			}
			if out := h.lxc("exec", c, "--", "stat", "-c", "%U", "/", "/etc/passwd"); out != "root\nroot\n" {
				t.Errorf("owners: %q", out)
			}
			h.lxc("restart", c)
			h.eventually("systemd to be up again", func() bool {
				return strings.TrimSpace(h.try("exec", c, "--", "systemctl", "is-system-running", "--wait").stdout) == "running"
			})
			h.seen()
			h.lxc("stop", c)
			h.noTraces(c)
		})
	}
}
