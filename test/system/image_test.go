//go:build system

package system

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sett/test/lib/tinyimage"
)

// work runs a program that prepares something for a test.
func work(t *testing.T, dir, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

// unpackTiny lays the small image out in a folder: metadata.yaml, templates, rootfs.
func unpackTiny(t *testing.T) string {
	t.Helper()
	path, err := tiny()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	work(t, dir, "tar", "-xzf", path, "--numeric-owner")
	return dir
}

func TestImageFormats(t *testing.T) {
	src, out := unpackTiny(t), t.TempDir()
	var cases [][]string
	work(t, src, "tar", "-cf", out+"/image.tar", "metadata.yaml", "templates", "rootfs")
	work(t, src, "tar", "-cf", out+"/meta.tar", "metadata.yaml", "templates")
	work(t, src, "tar", "-C", "rootfs", "-cf", out+"/rootfs.tar", ".")
	work(t, src, "mksquashfs", "rootfs", out+"/rootfs.squashfs", "-noappend", "-quiet", "-no-progress")
	cases = append(cases,
		[]string{"image.tar"},
		[]string{"meta.tar", "rootfs.tar"},
		[]string{"meta.tar", "rootfs.squashfs"})
	for _, c := range []struct{ program, ext string }{{"gzip", "gz"}, {"xz", "xz"}, {"zstd", "zst"}, {"lz4", "lz4"}, {"bzip2", "bz2"}} {
		work(t, out, "sh", "-c", fmt.Sprintf("%s -c image.tar >image.tar.%s", c.program, c.ext))
		cases = append(cases, []string{"image.tar." + c.ext})
	}
	work(t, out, "sh", "-c", "xz -c meta.tar >meta.tar.xz")
	cases = append(cases, []string{"meta.tar.xz", "rootfs.squashfs"})

	h := newHost(t)
	h.setUp("dir")
	h.lxc("image", "delete", "tiny")
	for i, files := range cases {
		args := []string{"image", "import"}
		for _, f := range files {
			args = append(args, filepath.Join(out, f))
		}
		h.lxc(append(args, "--alias", "it")...)
		c := h.name(fmt.Sprintf("c%d", i))
		h.lxc("launch", "it", c)
		h.waitBooted(c)
		if got := h.lxc("exec", c, "--", "stat", "-c", "%u %a", "/home/user/mine", "/tmp"); got != "1000 640\n0 1777\n" {
			t.Errorf("%s: owners and modes %q", files, got)
		}
		h.lxc("delete", "--force", c)

		// What comes out is what went in.
		to := t.TempDir()
		h.lxc("image", "export", "it", to+"/")
		for _, f := range files {
			if !sameFileSomewhere(t, filepath.Join(out, f), to) {
				t.Errorf("the export has nothing equal to %s: %s", f, dirNames(to))
			}
		}
		h.lxc("image", "delete", "it")
	}
}

func sameFileSomewhere(t *testing.T, want, dir string) bool {
	t.Helper()
	w, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range dirNames(dir) {
		if g, _ := os.ReadFile(filepath.Join(dir, n)); bytes.Equal(w, g) {
			return true
		}
	}
	return false
}

// TestImageKeepsWhatFilesAre packs the things that careless unpacking loses.
func TestImageKeepsWhatFilesAre(t *testing.T) {
	src := unpackTiny(t)
	odd := filepath.Join(src, "rootfs/odd")
	if err := os.Mkdir(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	work(t, odd, "sh", "-ec", `
		cp ../bin/busybox capable; setcap cap_net_raw+ep capable
		echo x >acl; setfacl -m u:1000:rw acl
		echo x >attr; setfattr -n user.colour -v green attr
		echo x >one; ln one two
		mknod null c 1 3; mkfifo fifo
		truncate -s 64M sparse
		cp ../bin/busybox suid; chmod 4755 suid
		ln -s /etc/passwd link
		echo x >"$(printf 'new\nline')"
		chown 70000:70000 one`)
	out := t.TempDir()
	tarball, squash := out+"/i.tar.gz", out+"/r.squashfs"
	// Sparse files are named as such, or the tarball is 64 MB long.
	work(t, src, "tar", "-czSf", tarball, "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "metadata.yaml", "templates", "rootfs")
	work(t, src, "tar", "-cf", out+"/meta.tar", "metadata.yaml", "templates")
	work(t, odd, "setfacl", "-b", "acl") // squashfs has no ACLs
	work(t, src, "mksquashfs", "rootfs", squash, "-noappend", "-quiet", "-no-progress")

	for _, c := range []struct {
		name, driver string
		files        []string
	}{
		{"tar-on-dir", "dir", []string{tarball}},
		{"tar-on-btrfs", "btrfs", []string{tarball}},
		{"squashfs-on-btrfs", "btrfs", []string{out + "/meta.tar", squash}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.setUp(c.driver)
			h.lxc(append([]string{"image", "import", "--alias", "odd"}, c.files...)...)
			n := h.name("odd")
			h.lxc("launch", "odd", n)
			h.waitBooted(n)
			rootfs := filepath.Join(h.lxdDir(), "containers", n, "rootfs", "odd")
			say := func(program string, args ...string) string {
				cmd := exec.Command(program, args...)
				cmd.Dir = rootfs
				b, _ := cmd.CombinedOutput()
				return string(b)
			}
			for _, check := range []struct{ what, got, want string }{
				{"file capability", say("getcap", "capable"), "cap_net_raw=ep"},
				{"extended attribute", say("getfattr", "--only-values", "-n", "user.colour", "attr"), "green"},
				{"hard link", say("stat", "-c", "%h", "one", "two"), "2\n2\n"},
				{"owner beyond 16 bits", say("stat", "-c", "%u:%g", "one"), "70000:70000"},
				{"device node", say("stat", "-c", "%F %t %T", "null"), "character special file 1 3"},
				{"fifo", say("stat", "-c", "%F", "fifo"), "fifo"},
				{"set-uid bit", say("stat", "-c", "%a", "suid"), "4755"},
				{"symbolic link", say("readlink", "link"), "/etc/passwd"},
				{"name with a newline", say("sh", "-c", "ls | wc -l"), "12"},
				{"size of the sparse file", say("stat", "-c", "%s", "sparse"), "67108864"},
			} {
				if !strings.HasPrefix(strings.TrimPrefix(check.got, "capable "), check.want) {
					t.Errorf("%s: %q, want %q", check.what, check.got, check.want)
				}
			}
			if blocks := strings.TrimSpace(say("stat", "-c", "%b", "sparse")); len(blocks) > 3 {
				t.Errorf("the sparse file takes %s blocks", blocks)
			}
			if c.files[0] == tarball && !strings.Contains(say("getfacl", "-n", "acl"), "user:1000:rw-") {
				t.Errorf("the ACL is gone: %s", say("getfacl", "-n", "acl"))
			}
			// No host user can come near a set-uid file.
			if r := exec.Command("setpriv", "--reuid", "12345", "--clear-groups", rootfs+"/suid", "true"); r.Run() == nil {
				t.Error("a set-uid file of the container can be run by users of the host")
			}
			h.lxc("delete", "--force", n)
		})
	}
}

// TestHostileImages: whatever an archive says, nothing outside of its folder changes.
func TestHostileImages(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	victim := filepath.Join(h.dir, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 20) + strings.TrimPrefix(h.dir, "/")
	for name, entries := range map[string][]tar.Header{
		"name with dots": {{Name: "rootfs/" + up + "/dots", Typeflag: tar.TypeReg}},
		"absolute name":  {{Name: h.dir + "/absolute", Typeflag: tar.TypeReg}},
		"through a link": {
			{Name: "rootfs/way", Typeflag: tar.TypeSymlink, Linkname: h.dir},
			{Name: "rootfs/way/through", Typeflag: tar.TypeReg},
		},
		"over a link": {
			{Name: "rootfs/file", Typeflag: tar.TypeSymlink, Linkname: victim},
			{Name: "rootfs/file", Typeflag: tar.TypeReg},
		},
		"hard link out": {
			{Name: "rootfs/hard", Typeflag: tar.TypeLink, Linkname: up + "/victim"},
			{Name: "rootfs/hard", Typeflag: tar.TypeReg},
		},
		"rootfs is a link":    {{Name: "rootfs", Typeflag: tar.TypeSymlink, Linkname: h.dir}, {Name: "rootfs/below", Typeflag: tar.TypeReg}},
		"templates is a link": {{Name: "templates", Typeflag: tar.TypeSymlink, Linkname: h.dir}},
		"hostname is a link": {
			{Name: "rootfs/sbin/init", Typeflag: tar.TypeReg, Mode: 0o755},
			{Name: "rootfs/etc", Typeflag: tar.TypeSymlink, Linkname: h.dir},
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "evil.tar")
			writeTar(t, path, entries)
			r := h.try("image", "import", path, "--alias", "evil")
			if r.code == 0 {
				c := h.name("evil")
				h.try("launch", "evil", c)
				h.try("delete", "--force", c)
				h.lxc("image", "delete", "evil")
			}
			for _, n := range dirNames(h.dir) {
				switch n {
				case "lxd", "conf", "lxd.log", "lxd.out", "victim":
				default:
					t.Errorf("the archive made %s", n)
					os.RemoveAll(filepath.Join(h.dir, n))
				}
			}
			if b, _ := os.ReadFile(victim); string(b) != "untouched" {
				t.Errorf("the archive wrote to a file outside: %q", b)
			}
		})
	}
	for name, content := range map[string]string{
		"empty":       "",
		"not a tar":   strings.Repeat("no archive at all ", 1000),
		"half a tar":  halfOfTiny(t),
		"no metadata": tarOf(t, []tar.Header{{Name: "rootfs/sbin/init", Typeflag: tar.TypeReg}}, false),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "broken.tar")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			r := h.try("image", "import", path, "--alias", "broken")
			if r.code == 0 {
				// Reading the metadata may succeed where the rest is missing.
				if r := h.try("launch", "broken", h.name("broken")); r.code == 0 {
					t.Error("an instance was launched from it")
				}
				if s := h.state(h.name("broken")); s != "" {
					t.Errorf("the instance is there, %s", s)
				}
				h.lxc("image", "delete", "broken")
			} else if !strings.HasPrefix(r.stderr, "Error: ") || strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 {
				t.Errorf("not one plain sentence: %q", r.stderr)
			}
		})
	}
}

func halfOfTiny(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	if err := tinyimage.Write(&b, tinyimage.Options{Name: "half"}); err != nil {
		t.Fatal(err)
	}
	return b.String()[:b.Len()/2]
}

func writeTar(t *testing.T, path string, entries []tar.Header) {
	t.Helper()
	if err := os.WriteFile(path, []byte(tarOf(t, entries, true)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func tarOf(t *testing.T, entries []tar.Header, metadata bool) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if metadata {
		add(tar.Header{Name: "metadata.yaml", Typeflag: tar.TypeReg}, `architecture: x86_64
creation_date: 1700000000
templates:
  /etc/hostname:
    when: [create, start]
    template: hostname.tpl
`)
		add(tar.Header{Name: "templates/hostname.tpl", Typeflag: tar.TypeReg}, "evil")
	}
	for _, e := range entries {
		content := ""
		if e.Typeflag == tar.TypeReg {
			content = "evil"
		}
		add(e, content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestImageFromADirectory packs on the client's side, and takes no part for the whole.
func TestImageFromADirectory(t *testing.T) {
	src := unpackTiny(t)
	h := newHost(t)
	h.setUp("dir")
	h.lxc("image", "delete", "tiny")
	bad := t.TempDir()
	if err := os.WriteFile(bad+"/tar", []byte("#!/bin/sh\nhead -c 300000 /dev/urandom | gzip -c\necho something is wrong >&2\nexit 2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	was := h.env
	h.env = append(h.env, "PATH="+bad+":"+os.Getenv("PATH"))
	if r := h.try("image", "import", src); r.code == 0 || !strings.Contains(r.stderr, "something is wrong") {
		t.Errorf("with a tar that fails: exit %d, %q", r.code, r.stderr)
	}
	h.env = was
	if got := h.lxc("image", "list", "--format", "csv"); got != "" {
		t.Errorf("a part became an image: %s", got)
	}
	h.lxc("image", "import", src, "--alias", "it", "a=b")
	c := h.name("c1")
	h.lxc("launch", "it", c)
	h.waitBooted(c)
	if got := h.lxc("exec", c, "--", "stat", "-c", "%u %a", "/home/user/mine", "/tmp"); got != "1000 640\n0 1777\n" {
		t.Errorf("owners and modes %q", got)
	}
}
