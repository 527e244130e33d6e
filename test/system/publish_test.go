//go:build system

package system

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rootfs is where the files of an instance are on this host.
func (h *host) rootfs(c string) string {
	dir, err := filepath.EvalSymlinks(filepath.Join(h.lxdDir(), "containers", c))
	if err != nil {
		h.t.Fatal(err)
	}
	return filepath.Join(dir, "rootfs")
}

// plant makes in an instance that does not run what an image has to keep, and what a
// hostile guest would make to harm the host.
func plant(t *testing.T, root string) {
	t.Helper()
	p := func(n string) string { return filepath.Join(root, "root/it", n) }
	for _, err := range []error{
		os.Mkdir(p(""), 0o750), os.Lchown(p(""), 12, 34),
		os.WriteFile(p("capable"), []byte("x"), 0o755), os.WriteFile(p("shared"), []byte("y"), 0o640), unix.Setxattr(p("shared"), "user.a=b", []byte("z"), 0),
		os.Link(p("shared"), p("twin")), os.Symlink("/etc/shadow", p("shadow")), os.Symlink("../../../../../../../../etc", p("etc")),
		unix.Mkfifo(p("fifo"), 0o600), unix.Mknod(p("null"), unix.S_IFCHR|0o666, 0x103), os.WriteFile(p("sparse"), nil, 0o600), os.Truncate(p("sparse"), 256<<20),
		os.WriteFile(p(strings.Repeat("n", 254)+"\n"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range [][]string{{"setcap", "cap_net_raw+ep", p("capable")}, {"setfacl", "-m", "u:1234:rw", p("shared")}} {
		work(t, "/", c[0], c[1:]...)
	}
}

// traits are what must be the same in an instance of the image.
func traits(t *testing.T, root string) string {
	t.Helper()
	var out strings.Builder
	dir := filepath.Join(root, "root/it")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintf(&out, "%q %o %d:%d %x", strings.TrimPrefix(path, dir), st.Mode, st.Uid, st.Gid, st.Rdev)
		if !d.IsDir() {
			fmt.Fprintf(&out, " %d bytes, %d names, %d.%d", st.Size, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec)
		}
		if l, err := os.Readlink(path); err == nil {
			fmt.Fprintf(&out, " -> %s", l)
		} else {
			for _, k := range []string{"user.a=b", "security.capability", "system.posix_acl_access"} {
				b := make([]byte, 100)
				if n, err := unix.Lgetxattr(path, k, b); err == nil {
					fmt.Fprintf(&out, " %s=%x", k, b[:n])
				}
			}
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPublish(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			clients(t, func(t *testing.T, client string) {
				h := newHost(t)
				h.client = client
				h.setUp(driver)
				c, d := h.name("c1"), h.name("d1")
				h.launch(c)
				if r := h.try("publish", c); r.code == 0 || !strings.Contains(r.stderr, "--force") {
					t.Errorf("of a running instance: exit %d, %q", r.code, r.stderr)
				}
				h.lxc("exec", c, "--", "sh", "-c", "echo one > /root/f")
				h.lxc("stop", "--force", c)
				plant(t, h.rootfs(c))
				want := traits(t, h.rootfs(c))
				h.lxc("start", c)
				h.waitBooted(c)
				h.lxc("snapshot", c, "snap")
				h.lxc("exec", c, "--", "sh", "-c", "echo two > /root/f")

				// A snapshot, while the instance goes on.
				before := h.initPID(c)
				h.lxc("publish", c+"/snap", "--alias", "web", "os=mine", "--public", "--expire", "2040-01-02T03:04:05Z")
				if h.initPID(c) != before {
					t.Error("the instance was restarted for its snapshot")
				}
				if got := h.lxc("image", "info", "web"); !strings.Contains(got, "os: mine") || !strings.Contains(got, "Public: yes") || !strings.Contains(got, "Expires: 2040/01/02") {
					t.Errorf("the image:\n%s", got)
				}
				h.lxc("launch", "web", d)
				h.waitBooted(d)
				if got := strings.TrimSpace(h.lxc("exec", d, "--", "cat", "/root/f")); got != "one" {
					t.Errorf("the file holds %q", got)
				}
				// As the guest sees them, the owners are the same.
				for _, x := range []string{c, d} {
					if got := strings.TrimSpace(h.lxc("exec", x, "--", "stat", "-c", "%u:%g", "/root/it", "/home/user/mine")); got != "12:34\n1000:1000" {
						t.Errorf("%s: owners %q", x, got)
					}
				}
				h.lxc("stop", "--force", d)
				if got := traits(t, h.rootfs(d)); got != want {
					t.Errorf("the files are\n%s\nwant\n%s", got, want)
				}
				if n := usage(t, filepath.Join(h.rootfs(d), "root/it/sparse")); n > 1<<20 {
					t.Errorf("the sparse file takes %d bytes", n)
				}

				// The instance itself, which is stopped for it and started again.
				h.lxc("publish", c, "--force", "--alias", "web", "--compression", "zstd -1")
				if s := h.state(c); s != "RUNNING" {
					t.Errorf("after publishing it is %s", s)
				}
				h.lxc("delete", "--force", d)
				h.lxc("launch", "web", d)
				h.waitBooted(d)
				if got := strings.TrimSpace(h.lxc("exec", d, "--", "cat", "/root/f")); got != "two" {
					t.Errorf("the file holds %q", got)
				}
				if r := h.try("publish", c+"/snap", "--compression", "sh"); r.code == 0 || !strings.Contains(r.stderr, "not known") {
					t.Errorf("with a shell: exit %d, %q", r.code, r.stderr)
				}
				if r := h.try("publish", c+"/nope"); r.code == 0 || !strings.Contains(strings.ToLower(r.stderr), "not found") {
					t.Errorf("of nothing: exit %d, %q", r.code, r.stderr)
				}
				// Ephemeral ones are still there afterwards, and ephemeral.
				e := h.name("e1")
				h.launch(e, "--ephemeral")
				h.lxc("publish", e, "-f", "--compression", "none", "x=y")
				if got := h.lxc("config", "show", e); !strings.Contains(got, "ephemeral: true") {
					t.Errorf("afterwards:\n%s", got)
				}
				if got := dirNames(filepath.Join(h.lxdDir(), "images")); len(got) != 4 {
					t.Errorf("images: %q", got)
				}
			})
		})
	}
}

func usage(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// TestAKilledPublishLeavesNothing kills the daemon while it packs.
func TestAKilledPublishLeavesNothing(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c)
	h.lxc("exec", c, "--", "sh", "-c", "head -c 200000000 /dev/urandom > /root/big")
	h.lxc("stop", "--force", c)
	for _, after := range []time.Duration{100, 400, 900, 1600} {
		h.killWhile(after*time.Millisecond, "publish", c, "--alias", "web", "--compression", "gzip -1")
		// Whole or not there at all.
		names := dirNames(filepath.Join(h.lxdDir(), "images"))
		for _, n := range names {
			if strings.HasPrefix(n, "lxd_build_") {
				t.Errorf("left behind: %s", n)
			}
		}
		if got := strings.Count(h.lxc("image", "list", "--format", "csv"), "\n"); got != len(names) {
			t.Errorf("%d images, files %q", got, names)
		}
		if out, err := exec.Command("pgrep", "-P", fmt.Sprint(h.pid()), "gzip").Output(); err == nil {
			t.Errorf("a compressor runs on: %s", out)
		}
	}
	h.lxc("start", c)
	h.waitBooted(c)
}

// TestPublishedImagesAreLXDs has LXD make an instance of an image of ours, and ours one of
// an image that LXD has published.
func TestPublishedImagesAreLXDs(t *testing.T) {
	j := newJudge(t)
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c)
	h.lxc("stop", "--force", c)
	plant(t, h.rootfs(c))
	want := traits(t, h.rootfs(c))
	h.lxc("publish", c, "--alias", "web", "--compression", "xz -1")
	dir := t.TempDir()
	h.lxc("image", "export", "web", dir+"/web")
	file := filepath.Join(dir, dirNames(dir)[0])
	j.must(judgeClient, "image", "import", file, "--alias", "web", "-q")
	j.must(judgeClient, "init", "web", c, "-q")
	if got := traits(t, filepath.Join(j.dir, "lxd/containers", c, "rootfs")); got != want {
		t.Errorf("LXD unpacks\n%s\nwant\n%s", got, want)
	}
	j.must(judgeClient, "start", c)
	j.must(judgeClient, "exec", c, "--", "cat", "/home/user/mine")
	j.must(judgeClient, "stop", "--force", c)

	// It cannot publish such names of attributes itself.
	if err := os.RemoveAll(filepath.Join(j.dir, "lxd/containers", c, "rootfs/root/it")); err != nil {
		t.Fatal(err)
	}
	j.must(judgeClient, "publish", c, "--alias", "theirs", "x=y", "-q")
	j.must(judgeClient, "image", "export", "theirs", dir+"/theirs", "-q")
	j.must(judgeClient, "delete", c)
	theirs, err := filepath.Glob(dir + "/theirs*")
	if err != nil || len(theirs) != 1 {
		t.Fatalf("%q, %v", theirs, err)
	}
	h.lxc("image", "import", theirs[0], "--alias", "theirs")
	d := h.name("d1")
	h.lxc("launch", "theirs", d)
	h.waitBooted(d)
	if got := h.lxc("exec", d, "--", "stat", "-c", "%u %a", "/home/user/mine", "/tmp"); got != "1000 640\n0 1777\n" {
		t.Errorf("owners and modes %q", got)
	}
	if b, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(b, []byte("\xfd7zXZ")) {
		t.Errorf("the image is not compressed as was asked, %v", err)
	}
}
