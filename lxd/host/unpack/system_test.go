//go:build system

package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"sett/lxd/host/pack"
	"sett/lxd/host/unpack"
	"sett/lxd/host/unpack/child"
	"sett/shared/errs"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == child.Verb {
		os.Exit(child.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func must(t *testing.T, errors ...error) {
	t.Helper()
	for _, err := range errors {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

// image makes a tree with everything in it that has to survive.
func image(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	p := func(n string) string { return filepath.Join(dir, n) }
	must(t, os.MkdirAll(p("rootfs/bin"), 0o755), os.Mkdir(p("templates"), 0o755),
		os.WriteFile(p("metadata.yaml"), []byte("architecture: x86_64\n"), 0o644),
		os.WriteFile(p("rootfs/bin/ping"), []byte("ping"), 0o755), os.Chown(p("rootfs/bin/ping"), 0, 42),
		unix.Chmod(p("rootfs/bin/ping"), 0o2755),
		os.Link(p("rootfs/bin/ping"), p("rootfs/bin/ping6")), os.Symlink("/etc/passwd", p("rootfs/link")),
		unix.Mknod(p("rootfs/null"), unix.S_IFCHR|0o666, 0x103), unix.Chmod(p("rootfs/null"), 0o666), os.WriteFile(p("rootfs/data"), nil, 0o600))
	run(t, "setcap", "cap_net_raw+ep", p("rootfs/bin/ping"))
	run(t, "setfacl", "-m", "u:1234:r", p("rootfs/data"))
	must(t, unix.Setxattr(p("rootfs/data"), "user.colour", []byte("blue"), 0))
	f, err := os.OpenFile(p("rootfs/data"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("end"), 32<<20)
	must(t, err, f.Close())
	return dir
}

func check(t *testing.T, dir string) {
	t.Helper()
	p := func(n string) string { return filepath.Join(dir, "rootfs", n) }
	var a, b, n, d unix.Stat_t
	must(t, unix.Lstat(p("bin/ping"), &a), unix.Lstat(p("bin/ping6"), &b), unix.Lstat(p("null"), &n), unix.Lstat(p("data"), &d))
	if a.Ino != b.Ino || a.Gid != 42 || a.Mode&0o7777 != 0o2755 {
		t.Errorf("ping: %+v, ping6: inode %d", a, b.Ino)
	}
	if n.Rdev != 0x103 || n.Mode != unix.S_IFCHR|0o666 {
		t.Errorf("device: %+v", n)
	}
	if d.Size != 32<<20+3 || d.Blocks > 4096 {
		t.Errorf("sparse: %d bytes, %d blocks", d.Size, d.Blocks)
	}
	for path, k := range map[string]string{
		p("bin/ping"): "security.capability", p("data"): "system.posix_acl_access", dir + "/rootfs/data": "user.colour",
	} {
		if n, err := unix.Getxattr(path, k, make([]byte, 100)); err != nil || n == 0 {
			t.Errorf("%s has no %s: %v", path, k, err)
		}
	}
	if l, err := os.Readlink(p("link")); err != nil || l != "/etc/passwd" {
		t.Errorf("link: %q, %v", l, err)
	}
}

// packed writes a tarball of some of what image has made.
func packed(t *testing.T, algorithm, src string, names ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(file)
	must(t, err)
	a, err := pack.ParseAlgorithm(algorithm)
	must(t, err)
	z, err := pack.Compress(t.Context(), a, f)
	must(t, err)
	w := pack.NewWriter(z)
	for _, n := range names {
		if b, err := os.ReadFile(filepath.Join(src, n)); err == nil {
			must(t, w.File(n, 0o644, b))
			continue
		}
		d, err := pack.OpenFolder(src, n)
		must(t, err, w.Tree(t.Context(), d, n, pack.Options{}), d.Close())
	}
	must(t, w.Close(), z.Close(), f.Close())
	return file
}

func TestEveryFormatKeepsEverything(t *testing.T) {
	t.Parallel()
	src := image(t)
	var jail unpack.Jail
	for _, a := range []string{"none", "gzip", "xz", "zstd", "lz4", "bzip2"} {
		t.Run(a, func(t *testing.T) {
			t.Parallel()
			dst := t.TempDir()
			must(t, jail.Image(t.Context(), unpack.Image{Meta: packed(t, a, src, "metadata.yaml", "templates", "rootfs")}, dst))
			check(t, dst)
		})
	}
	t.Run("split", func(t *testing.T) {
		t.Parallel()
		dst, root := t.TempDir(), filepath.Join(t.TempDir(), "root")
		run(t, "mksquashfs", filepath.Join(src, "rootfs"), root, "-quiet", "-no-progress")
		must(t, jail.Image(t.Context(), unpack.Image{Meta: packed(t, "xz", src, "metadata.yaml", "templates"), Rootfs: root}, dst))
		check(t, dst)
	})
}

func folder(name string) entry { return entry{name: name + "/", typ: tar.TypeDir} }

// TestFoldersOfATarballGoWhereTheyBelong: names are what they are, also those that mean
// something to tar, and there may be many.
func TestFoldersOfATarballGoWhereTheyBelong(t *testing.T) {
	t.Parallel()
	names := []string{`b/a\tb`, `b/a\`, "b/*", "b/[x]", "b/-n", "b/c d", "b/x", "b/xy"}
	for n := range 600 {
		names = append(names, fmt.Sprintf("b/%d-%s", n, strings.Repeat("long", 25)))
	}
	es := []entry{folder("b/other"), {name: "b/other/f", typ: tar.TypeReg, body: "x"}}
	into, all := map[string]string{}, t.TempDir()
	for i, n := range names {
		es = append(es, folder(n), entry{name: n + "/f", typ: tar.TypeReg, body: n}, entry{name: n + "/g", link: n + "/f", typ: tar.TypeLink})
		into[n] = filepath.Join(all, fmt.Sprint(i))
		must(t, os.Mkdir(into[n], 0o700))
	}
	must(t, unpack.Jail{}.Below(t.Context(), hostile(t, es...), into))
	for n, dir := range into {
		b, err := os.ReadFile(filepath.Join(dir, "f"))
		if err != nil || string(b) != n {
			t.Errorf("%s holds %q, %v", n, b, err)
		}
		var f, g unix.Stat_t
		if unix.Lstat(filepath.Join(dir, "f"), &f) != nil || unix.Lstat(filepath.Join(dir, "g"), &g) != nil || f.Ino != g.Ino {
			t.Errorf("%s: inodes %d and %d", n, f.Ino, g.Ino)
		}
		if es, _ := os.ReadDir(dir); len(es) != 2 {
			t.Errorf("%s holds %v", n, es)
		}
	}
}

func TestFoldersOfATarballReachNoOther(t *testing.T) {
	t.Parallel()
	for what, es := range map[string][]entry{
		"missing":      {folder("b/x")},
		"link between": {folder("b/x"), {name: "b/x/f", typ: tar.TypeReg, body: "x"}, folder("b/y"), {name: "b/y/f", link: "b/x/f", typ: tar.TypeLink}},
		"link for one": {{name: "b/x", link: "/usr", typ: tar.TypeSymlink}, {name: "b/x/sett-evil", typ: tar.TypeReg, body: "x"}, folder("b/y")},
		"file for one": {{name: "b/x", typ: tar.TypeReg, body: "x"}, folder("b/y")},
		"climbs":       {folder("b/x"), {name: "b/x/../y/f", typ: tar.TypeReg, body: "x"}, folder("b/y")},
		"by a link":    {folder("b/x"), {name: "b/x/l", link: "../y", typ: tar.TypeSymlink}, {name: "b/x/l/f", typ: tar.TypeReg, body: "x"}, folder("b/y")},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			x, y := t.TempDir(), t.TempDir()
			err := unpack.Jail{}.Below(t.Context(), hostile(t, es...), map[string]string{"b/x": x, "b/y": y})
			if !errs.Is(err, errs.KindInvalid) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if es, _ := os.ReadDir(y); len(es) > 0 {
				t.Errorf("the other one holds %v", es)
			}
			if _, err := os.Lstat("/usr/sett-evil"); err == nil {
				t.Error("the host's programs were changed")
			}
		})
	}
}

func TestACLOfANamedUser(t *testing.T) {
	t.Parallel()
	src, dst := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(src, "rootfs"), 0o755), os.WriteFile(filepath.Join(src, "rootfs/f"), nil, 0o600))
	run(t, "setfacl", "-m", "u:daemon:rw", filepath.Join(src, "rootfs/f"))
	for _, how := range [][]string{{"--acls"}, {"--acls", "--xattrs", "--xattrs-include=*"}} {
		file := filepath.Join(t.TempDir(), "image.tar")
		run(t, "tar", append(how, "-cf", file, "-C", src, "rootfs")...)
		must(t, os.RemoveAll(filepath.Join(dst, "rootfs")), unpack.Jail{}.Image(t.Context(), unpack.Image{Meta: file}, dst))
		out, err := exec.Command("getfacl", "-n", filepath.Join(dst, "rootfs/f")).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "user:1:rw-") {
			t.Errorf("%v: %v: %s", how, err, out)
		}
	}
}

type entry struct {
	name, link string
	typ        byte
	body       string
}

func hostile(t *testing.T, es ...entry) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range es {
		must(t, w.WriteHeader(&tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.typ, Mode: 0o4777, Size: int64(len(e.body)), Devmajor: 1, Devminor: 3}))
		_, err := w.Write([]byte(e.body))
		must(t, err)
	}
	must(t, w.Close())
	p := filepath.Join(t.TempDir(), "evil.tar")
	must(t, os.WriteFile(p, b.Bytes(), 0o600))
	return p
}

func TestHostileArchivesHitOnlyThemselves(t *testing.T) {
	t.Parallel()
	host := t.TempDir()
	victim := filepath.Join(host, "victim")
	root := entry{name: "rootfs/", typ: tar.TypeDir}
	for name, es := range map[string][]entry{
		"absolute":    {root, {name: victim, typ: tar.TypeReg, body: "x"}},
		"dots":        {root, {name: "rootfs/../../../../../../../.." + victim, typ: tar.TypeReg, body: "x"}},
		"symlink":     {root, {name: "rootfs/d", link: host, typ: tar.TypeSymlink}, {name: "rootfs/d/victim", typ: tar.TypeReg, body: "x"}},
		"relative":    {root, {name: "d", link: "../../../../../../../.." + host, typ: tar.TypeSymlink}, {name: "d/victim", typ: tar.TypeReg, body: "x"}},
		"hardlink":    {root, {name: "h", link: "/etc/hostname", typ: tar.TypeLink}, {name: "h", typ: tar.TypeReg, body: "x"}},
		"proc":        {root, {name: "p", link: "/proc/1/root", typ: tar.TypeSymlink}, {name: "p" + victim, typ: tar.TypeReg, body: "x"}},
		"usr":         {root, {name: "u", link: "/usr/bin", typ: tar.TypeSymlink}, {name: "u/sett-evil", typ: tar.TypeReg, body: "x"}},
		"root itself": {{name: "./", typ: tar.TypeDir}, root},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, _ := os.ReadFile("/etc/hostname")
			err := unpack.Jail{}.Image(t.Context(), unpack.Image{Meta: hostile(t, es...)}, t.TempDir())
			t.Logf("says: %v", err)
			if _, err := os.Lstat(victim); err == nil {
				t.Error("a file of the host was written")
			}
			if _, err := os.Lstat("/usr/bin/sett-evil"); err == nil {
				t.Error("the host's programs were changed")
			}
			if after, _ := os.ReadFile("/etc/hostname"); !bytes.Equal(before, after) {
				t.Error("a file of the host was changed")
			}
		})
	}
}

func TestRootfsThatIsALinkIsRefused(t *testing.T) {
	t.Parallel()
	a := hostile(t, entry{name: "rootfs", link: "/", typ: tar.TypeSymlink})
	for _, img := range []unpack.Image{{Meta: a}, {Meta: a, Rootfs: hostile(t, entry{name: "x", typ: tar.TypeReg})}} {
		if err := (unpack.Jail{}).Image(t.Context(), img, t.TempDir()); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("got %v", err)
		}
	}
}

func TestBrokenArchiveIsExplained(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"gzip": "\x1f\x8bnonsense", "squashfs": "hsqsnonsense", "text": "hello"} {
		p := filepath.Join(t.TempDir(), name)
		must(t, os.WriteFile(p, []byte(text), 0o600))
		err := unpack.Jail{}.Image(t.Context(), unpack.Image{Meta: p}, t.TempDir())
		if !errs.Is(err, errs.KindInvalid) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
}

// TestATarballIsUnpackedAsItComes: what is cut off, or breaks, is not taken for whole, and
// padding behind the end is read.
func TestATarballIsUnpackedAsItComes(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile(hostile(t, entry{name: "./", typ: tar.TypeDir}, folder("d"), entry{name: "d/f", typ: tar.TypeReg, body: strings.Repeat("x", 100000)}))
	must(t, err)
	dir := t.TempDir()
	in := bytes.NewReader(append(whole, make([]byte, 1<<20)...))
	must(t, unpack.Jail{}.Stream(t.Context(), in, dir))
	if b, err := os.ReadFile(filepath.Join(dir, "d/f")); err != nil || len(b) != 100000 || in.Len() != 0 {
		t.Errorf("%d bytes, %v; %d were not read", len(b), err, in.Len())
	}
	if err := (unpack.Jail{}).Stream(t.Context(), bytes.NewReader(whole[:50000]), t.TempDir()); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("half of it: %v", err)
	}
	boom := errors.New("boom")
	if err := (unpack.Jail{}).Stream(t.Context(), io.MultiReader(bytes.NewReader(whole[:50000]), iotest.ErrReader(boom)), t.TempDir()); !errors.Is(err, boom) {
		t.Errorf("it breaks: %v", err)
	}
	if err := (unpack.Jail{}).Stream(t.Context(), strings.NewReader("no tarball"), t.TempDir()); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("something else: %v", err)
	}
}

func TestCancelledUnpackEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := unpack.Jail{}.File(ctx, hostile(t, entry{name: "x", typ: tar.TypeReg}), t.TempDir())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFullDiskStopsTheWork(t *testing.T) {
	t.Parallel()
	dst := t.TempDir()
	must(t, unix.Mount("tmpfs", dst, "tmpfs", 0, "size=2m"))
	defer unix.Unmount(dst, unix.MNT_DETACH)
	big := hostile(t, entry{name: "rootfs/big", typ: tar.TypeReg, body: strings.Repeat("x", 4<<20)})
	err := unpack.Jail{}.File(t.Context(), big, dst)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
}
