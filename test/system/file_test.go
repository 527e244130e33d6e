//go:build system

package system

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fileClients are ours and, where it is installed, LXD's.
func fileClients(h *host) map[string]string {
	out := map[string]string{"ours": h.bin.lxc()}
	if p, err := exec.LookPath("/usr/bin/lxc"); err == nil {
		out["LXD's"] = p
	}
	return out
}

func TestFiles(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			for name, client := range fileClients(h) {
				c := h.name("f")
				h.client = client
				h.launch(c)
				for _, state := range []string{"running", "stopped"} {
					if state == "stopped" {
						h.lxc("stop", "--force", c)
					}
					h.filesOf(name+" client, "+state, c)
				}
				h.lxc("delete", c)
				h.client = h.bin.lxc()
			}
		})
	}
}

// filesOf pushes and pulls in all ways.
func (h *host) filesOf(what, c string) {
	h.t.Helper()
	t := h.t
	src, dst := t.TempDir(), t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		p := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("tree/a", "one", 0o640)
	write("tree/deep/b", strings.Repeat("two", 500_000), 0o755)
	if err := os.Symlink("a", filepath.Join(src, "tree/l")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(src, "tree/a"), 1000, 1001); err != nil {
		t.Fatal(err)
	}
	h.lxc("file", "push", "--recursive", "--create-dirs", filepath.Join(src, "tree"), c+"/srv/x")
	h.lxc("file", "pull", "--recursive", c+"/srv/x/tree", dst)
	if out, err := exec.Command("diff", "-r", "--no-dereference", filepath.Join(src, "tree/deep"), filepath.Join(dst, "tree/deep")).CombinedOutput(); err != nil {
		t.Errorf("%s: the tree came back changed: %v %s", what, err, out)
	}
	if to, err := os.Readlink(filepath.Join(dst, "tree/l")); err != nil || filepath.Base(to) != "a" {
		t.Errorf("%s: the link leads to %q, %v", what, to, err)
	}
	h.lxcIn("piped", "file", "push", "-", c+"/root/in", "--mode", "0600", "--uid", "7", "--gid", "8")
	if got := h.lxc("file", "pull", c+"/root/in", "-"); got != "piped" {
		t.Errorf("%s: pulled %q", what, got)
	}
	for _, f := range []struct{ name, uid, gid, mode string }{{"/root/in", "7", "8", "0600"}, {"/srv/x/tree/a", "1000", "1001", "0640"}} {
		hd := h.headers("/1.0/instances/" + c + "/files?path=" + f.name)
		if hd.Get("X-LXD-uid") != f.uid || hd.Get("X-LXD-gid") != f.gid || hd.Get("X-LXD-mode") != f.mode {
			t.Errorf("%s: %s is %v", what, f.name, hd)
		}
	}
	if h.client == h.bin.lxc() { // LXD's takes such modes for decimal numbers
		h.lxcIn("piped", "file", "push", "-", c+"/root/su", "--mode", "4755")
		h.lxcIn("again", "file", "push", "-", c+"/root/su")
		if hd := h.headers("/1.0/instances/" + c + "/files?path=/root/su"); hd.Get("X-LXD-mode") != "0755" {
			t.Errorf("%s: who writes to a set-id file leaves it so: %v", what, hd)
		}
		h.lxcIn("piped", "file", "push", "-", c+"/root/su2", "--mode", "4755")
		if hd := h.headers("/1.0/instances/" + c + "/files?path=/root/su2"); hd.Get("X-LXD-mode") != "4755" {
			t.Errorf("%s: a set-id file came as %v", what, hd)
		}
		h.lxc("file", "delete", c+"/root/su", c+"/root/su2")
	}
	if strings.HasSuffix(what, "running") {
		if got := h.lxc("file", "pull", c+"/proc/version", "-"); !strings.HasPrefix(got, "Linux") {
			t.Errorf("%s: a file of /proc says %q", what, got)
		}
	}
	h.lxc("file", "delete", c+"/root/in")
	if r := h.try("file", "pull", c+"/root/in", dst); r.code == 0 {
		t.Errorf("%s: a deleted file was pulled", what)
	}
	if r := h.try("file", "delete", c+"/srv/x/tree"); r.code == 0 {
		t.Errorf("%s: a full directory was deleted", what)
	}
	for _, f := range []string{"a", "l", "deep/b", "deep", ""} {
		h.lxc("file", "delete", c+"/srv/x/tree/"+f)
	}
}

// TestHostileFiles pushes to and pulls from a guest that wants to reach the host.
func TestHostileFiles(t *testing.T) {
	h := newHost(t)
	h.setUp("btrfs")
	c := h.name("evil")
	h.launch(c)
	secret := filepath.Join(h.dir, "secret")
	if err := os.WriteFile(secret, []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.lxc("exec", c, "--", "sh", "-c", "cd /root; ln -s "+secret+" abs; ln -s ../../../../../../.."+secret+" rel; ln -s / top; ln -s /proc/1/root proc; mkfifo fifo; "+
		"mkdir -p tree/d; ln -s "+secret+" tree/d/link; echo evil >tree/f; ln tree/f tree/hard")
	for _, p := range []string{"/root/abs", "/root/rel", "/root/top" + secret, "/root/proc" + secret, "/proc/1/root" + secret, "/root/fifo", "/dev/null"} {
		if r := h.try("file", "pull", c+p, "-"); r.code == 0 || strings.Contains(r.stdout, "host") {
			t.Errorf("pulled %s: %q", p, r.stdout)
		}
		h.runIn(strings.NewReader("evil"), h.client, "file", "push", "-", c+p)
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "host" {
		t.Errorf("the host's file: %q, %v", b, err)
	}
	// What a pull has brought does not lead the next one astray.
	dst := t.TempDir()
	h.lxc("file", "pull", "-r", c+"/root/tree", dst)
	h.lxc("exec", c, "--", "sh", "-c", "cd /root/tree; rm -r d; mkdir d; echo evil >d/link; rm hard; ln -s "+secret+" hard")
	h.lxc("file", "pull", "-r", c+"/root/tree", dst)
	h.lxc("exec", c, "--", "sh", "-c", "cd /root/tree; rm hard; echo evil >hard; rm -r d; ln -s "+h.dir+" d")
	h.try("file", "pull", "-r", c+"/root/tree", dst)
	h.lxc("exec", c, "--", "sh", "-c", "cd /root/tree; rm d; mkdir d; echo evil >d/secret")
	h.try("file", "pull", "-r", c+"/root/tree", dst)
	if b, err := os.ReadFile(secret); err != nil || string(b) != "host" {
		t.Errorf("the host's file after pulls: %q, %v", b, err)
	}
	h.lxc("delete", "--force", c)
}

func TestFilesOfSnapshots(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			c := h.name("s")
			h.launch(c)
			h.lxcIn("before", "file", "push", "-", c+"/root/f", "--uid", "5", "--gid", "6", "--mode", "0600")
			if code, a := h.request("POST", "/1.0/instances/"+c+"/snapshots", map[string]any{"name": "s0"}); code != 202 {
				t.Fatal(code, a.Error)
			}
			h.eventually("the snapshot", func() bool {
				code, _ := h.request("GET", "/1.0/instances/"+c+"/snapshots/s0", nil)
				return code == 200
			})
			h.lxcIn("after", "file", "push", "-", c+"/root/f")
			h.eventually("the file of the snapshot", func() bool {
				return h.try("file", "pull", "--snapshot", "s0", c+"/root/f", "-").stdout == "before"
			})
			hd := h.headers("/1.0/instances/" + c + "/snapshots/s0/files?path=/root/f")
			if hd.Get("X-LXD-uid") != "5" || hd.Get("X-LXD-gid") != "6" || hd.Get("X-LXD-mode") != "0600" {
				t.Errorf("%v", hd)
			}
			h.lxc("delete", "--force", c)
		})
	}
}

// headers asks for a file and returns what the answer says about it.
func (h *host) headers(path string) http.Header {
	h.t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", h.socket())
	}}}
	resp, err := c.Head("http://unix" + path)
	if err != nil {
		h.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.Header
}
