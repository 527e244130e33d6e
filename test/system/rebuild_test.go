//go:build system

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRebuild(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			c := h.name("c1")
			h.launch(c, "-c", "user.a=b")
			h.lxc("exec", c, "--", "sh", "-c", "echo one > /root/f")
			h.lxc("publish", c, "--force", "--alias", "web", "description=the web")
			h.lxc("exec", c, "--", "sh", "-c", "echo two > /root/f")
			if r := h.try("rebuild", "web", c); r.code == 0 || !strings.Contains(r.stderr, "must be stopped") {
				t.Errorf("of a running instance: exit %d, %q", r.code, r.stderr)
			}
			address := h.lxc("config", "get", c, "volatile.eth0.hwaddr")
			h.lxc("rebuild", "web", c, "--force")
			h.waitBooted(c)
			if got := strings.TrimSpace(h.lxc("exec", c, "--", "cat", "/root/f", "/etc/hostname")); got != "one\n"+c {
				t.Errorf("the files hold %q", got)
			}
			if got := h.lxc("config", "get", c, "volatile.eth0.hwaddr"); got != address {
				t.Errorf("its address was %q and is %q", address, got)
			}
			if got := h.lxc("config", "show", c); !strings.Contains(got, "image.description: the web") || !strings.Contains(got, "user.a: b") {
				t.Errorf("config\n%s", got)
			}
			h.lxc("snapshot", c)
			h.lxc("stop", "--force", c)
			if r := h.try("rebuild", "tiny", c); r.code == 0 || !strings.Contains(r.stderr, "snapshots") {
				t.Errorf("with snapshots: exit %d, %q", r.code, r.stderr)
			}
			h.lxc("delete", c+"/snap0")
			h.lxc("rebuild", c, "--empty")
			if got := dirNames(h.rootfs(c)); len(got) != 0 {
				t.Errorf("the empty root holds %q", got)
			}
			if r := h.try("start", c); r.code == 0 {
				t.Error("an instance without files has started")
			}
			// A daemon that is killed meanwhile ends it, or takes it back.
			for _, after := range []time.Duration{0, 20, 60, 150} {
				h.killWhile(after*time.Millisecond, "rebuild", "web", c)
				h.lxc("rebuild", "tiny", c)
				if _, err := os.Stat(filepath.Join(h.rootfs(c), "root/f")); err == nil {
					t.Error("the files are of the other image")
				}
			}
			h.lxc("start", c)
			h.waitBooted(c)
			h.lxc("delete", "--force", c)
			h.noTraces(c)
		})
	}
}
