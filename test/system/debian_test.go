//go:build system

package system

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// debianImage builds the image of a whole Debian, where that has not been done, and
// returns its files.
func debianImage(t *testing.T) []string {
	t.Helper()
	build := exec.Command(filepath.Join(top(), "test/run/mkimage.sh"), filepath.Join(top(), "build/images"))
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("build the image: %v", err)
	}
	return strings.Fields(string(out))
}

// TestDebianBoots is the promise of the project: a whole system, booted by systemd,
// unprivileged, with an address from our bridge.
func TestDebianBoots(t *testing.T) {
	files := debianImage(t)
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

// runc is a container engine of Debian's release that the image is made of, without
// anything that is not in the image already.
var runc = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sett-runc-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("sh", "-c", "apt-get download runc >&2 && dpkg-deb -x runc_*.deb . && cat usr/sbin/runc")
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, said.String())
	}
	return string(out), nil
})

// A container engine runs in an instance that may nest, and what it unpacks has nodes
// and marks of overlayfs in it.
func TestEngineRunsInside(t *testing.T) {
	if b, err := os.ReadFile("/etc/os-release"); err != nil || !strings.Contains(string(b), "VERSION_CODENAME=bookworm") {
		t.Skip("this host's packages are not of the release that the image is made of")
	}
	engine, err := runc()
	if err != nil {
		t.Fatal(err)
	}
	calls, err := guestsys()
	if err != nil {
		t.Fatal(err, calls)
	}
	busybox, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	files := debianImage(t)
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			h.lxc(append([]string{"image", "import", "--alias", "debian/12"}, files...)...)
			c := h.name("d12")
			h.lxc("launch", "debian/12", c, "--wait=ready", "--wait-timeout=55", "-c", "security.nesting=true",
				"-c", "security.syscalls.intercept.mknod=true", "-c", "security.syscalls.intercept.setxattr=true", "-c", "security.syscalls.intercept.mount=true",
				"-c", "security.syscalls.intercept.mount.allowed=ext4", "-c", "security.syscalls.intercept.sysinfo=true")
			h.seen()
			if s := strings.TrimSpace(h.try("exec", c, "--", "systemctl", "is-system-running").stdout); s != "running" {
				t.Errorf("systemd says %q, with its calls intercepted", s)
			}
			h.lxc("exec", c, "--", "mkdir", "-p", "/bundle/lower/bin", "/bundle/upper", "/bundle/work", "/bundle/rootfs")
			h.place(c, "/usr/local/bin/runc", engine)
			h.place(c, "/bundle/lower/bin/busybox", string(busybox))
			h.place(c, "/bundle/lower/bin/guestsys", calls)
			const script = "busybox id -u; busybox hostname; echo x >/dev/null && echo null; " +
				"/bin/guestsys mknod /made 020666 1 3; echo x >/made && echo made; busybox grep -c overlay /proc/mounts; busybox cat /proc/1/comm"
			h.place(c, "/bundle/lower/said", script)
			for _, line := range []string{
				// What engines do when they unpack the layers of an image.
				"mkdir /bundle/lower/hidden && ln -s busybox /bundle/lower/bin/sh",
				"/bundle/lower/bin/guestsys opaque /bundle/lower/hidden | grep ok",
				"/bundle/lower/bin/guestsys mknod /bundle/lower/gone 020000 0 0 | grep ok",
				"/bundle/lower/bin/guestsys mknod /bundle/lower/null 020666 1 3 | grep ok",
				"mount -t overlay -o lowerdir=/bundle/lower,upperdir=/bundle/upper,workdir=/bundle/work none /bundle/rootfs",
				"cd /bundle && runc spec && sed -i 's/\"terminal\": true/\"terminal\": false/; s/\"readonly\": true/\"readonly\": false/; s#\"sh\"#\"sh\", \"/said\"#; s/\"CAP_KILL\"/\"CAP_KILL\", \"CAP_MKNOD\"/' config.json",
			} {
				if r := h.try("exec", c, "--", "sh", "-c", line); r.code != 0 {
					t.Fatalf("%s: %s%s", line, r.stdout, r.stderr)
				}
			}
			r := h.try("exec", c, "--", "sh", "-c", "cd /bundle && runc run t1")
			if want := "0\nrunc\nnull\nok\nmade\n1\nsh\n"; r.stdout != want {
				t.Errorf("the engine's container said %q %q, not %q", r.stdout, r.stderr, want)
			}
			h.lxc("delete", "--force", c)
			h.noTraces(c)
		})
	}
}
