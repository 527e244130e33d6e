//go:build system

package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// restless swaps, for ever, what names in /root/it stand for: folders, links to the host's
// files and folders, pipes and files.
const restless = `cd /root/it; while :; do
	rm -rf d; mkdir d; echo guest >d/secret; echo guest >d/f; rm -f x; echo guest >x
	rm -rf d; ln -s %[1]s d; rm -f x; ln -s %[1]s/secret x
	rm -f d x; mkfifo d; mkfifo x; ln x y; rm -f d x y; ln twin x; mkdir d; ln -s ../../../../../../..%[1]s/secret d/f; busybox usleep 1000
done >/dev/null 2>&1 &`

// TestNoVerbIsLedAstray reads and writes, in all ways, the files of a guest that wants to
// get at the host's, while it swaps them. All that the guest has is its own.
func TestNoVerbIsLedAstray(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			c, d := h.name("evil"), h.name("d1")
			prey := filepath.Join(h.dir, "prey")
			secret := filepath.Join(prey, "secret")
			if err := os.Mkdir(prey, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(secret, []byte("the host's own"), 0o666); err != nil {
				t.Fatal(err)
			}
			safe := func(what string) {
				t.Helper()
				if b, err := os.ReadFile(secret); err != nil || string(b) != "the host's own" {
					t.Errorf("%s: the host's file holds %q, %v", what, b, err)
				}
				if got := dirNames(prey); len(got) != 1 {
					t.Errorf("%s: the host's folder holds %q", what, got)
				}
			}
			clean := func(what string, files ...string) {
				t.Helper()
				for _, f := range files {
					if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte("the host's own")) {
						t.Errorf("%s: %s holds the host's file", what, f)
					}
				}
			}
			h.launch(c)
			h.lxc("stop", "--force", c)
			root := h.rootfs(c)
			plant(t, root)
			// A path that is as deep as it is long, and a device of the host's in a folder that is read.
			deep := filepath.Join(root, "root/deep")
			for range 14 {
				deep = filepath.Join(deep, strings.Repeat("d", 255))
			}
			if err := os.MkdirAll(deep, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mknod(filepath.Join(root, "root/disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))); err != nil {
				t.Fatal(err)
			}
			work(t, "/", "chmod", "-R", "a+rwX", filepath.Join(root, "root"))
			// A template that is written to where the links lead.
			meta := h.lxc("config", "metadata", "show", c)
			meta += "\n  /root/it/d/f:\n    when: [start]\n    template: evil.tpl\n  /root/it/x:\n    when: [start]\n    template: evil.tpl\n" +
				"  /root/it/" + strings.Repeat("n", 255) + ":\n    when: [start]\n    template: evil.tpl\n"
			if !strings.Contains(meta, "templates:\n") {
				t.Fatalf("metadata\n%s", meta)
			}
			h.lxcIn("evil\n", "config", "template", "edit", c, "evil.tpl")
			h.lxcIn(meta, "config", "metadata", "edit", c)
			src, dst := t.TempDir(), t.TempDir()
			for _, f := range []string{"d/secret", "d/f", "x"} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(src, "it", f)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(src, "it", f), []byte("evil"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for round := range 2 {
				h.lxc("start", c)
				h.waitBooted(c)
				safe("templates")
				h.lxc("exec", c, "--", "sh", "-c", fmt.Sprintf(restless, prey))
				for n := range 3 {
					for _, f := range []string{"/root/it/d/secret", "/root/it/d/f", "/root/it/x"} {
						if r := h.try("file", "pull", c+f, "-"); strings.Contains(r.stdout, "own") {
							t.Errorf("pulled %q", r.stdout)
						}
						h.runIn(strings.NewReader("evil"), h.client, "file", "push", "-", c+f)
					}
					to := filepath.Join(dst, fmt.Sprint(round, n))
					if err := os.Mkdir(to, 0o700); err != nil {
						t.Fatal(err)
					}
					h.try("file", "pull", "-r", c+"/root/it", to)
					clean("pull", filepath.Join(to, "it/d/secret"), filepath.Join(to, "it/d/f"), filepath.Join(to, "it/x"))
					h.try("file", "push", "-r", filepath.Join(src, "it"), c+"/root")
					h.try("file", "delete", c+"/root/it/d/secret")
				}
				safe("push and pull")
				file := filepath.Join(h.dir, "evil.tar")
				h.lxc("export", c, file, "--compression", "none")
				clean("export", file)
				h.lxc("snapshot", c, "s")
				h.lxc("publish", c+"/s", "--alias", "evil", "--compression", "none")
				for _, f := range dirNames(filepath.Join(h.lxdDir(), "images")) {
					clean("publish", filepath.Join(h.lxdDir(), "images", f))
				}
				h.lxc("copy", c, d, "--allow-inconsistent")
				safe("export, publish and copy")
				for _, make := range [][]string{nil, {"import", file, d}, {"init", "evil", d}} {
					if make != nil {
						h.lxc(make...)
					}
					// What is in the way of its templates is its own fault.
					if r := h.try("start", d); r.code == 0 {
						h.waitBooted(d)
					} else if !strings.Contains(r.stderr, "Failed to render templates") {
						t.Errorf("start of what was made of it: %s", r.stderr)
					}
					safe("a start of what was made of it")
					h.lxc("delete", "--force", d)
				}
				h.try("restore", c, "s")
				safe("restore")
				h.try("stop", "--force", c)
				h.lxc("delete", c+"/s")
				h.lxc("image", "delete", "evil")
				for _, f := range []string{"d", "x", "y"} {
					if err := os.RemoveAll(filepath.Join(h.rootfs(c), "root/it", f)); err != nil {
						t.Fatal(err)
					}
				}
			}
			h.lxc("delete", c)
			safe("the delete")
		})
	}
}
