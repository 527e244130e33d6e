//go:build system

package tree_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/tree"
)

func TestRemoveTakesLockedFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "x")
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o700), os.WriteFile(filepath.Join(dir, "a/f"), nil, 0o600))
	for _, n := range []string{"a/f", "a/b", "a"} {
		if out, err := exec.Command("chattr", "+i", filepath.Join(dir, n)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	must(t, tree.Remove(t.Context(), dir))
}

func TestCopyKeepsOwnersNodesCapabilitiesAndACLs(t *testing.T) {
	t.Parallel()
	src, dst := t.TempDir(), t.TempDir()
	p := func(n string) string { return filepath.Join(src, n) }
	must(t, os.WriteFile(p("f"), []byte("x"), 0o755), os.Chown(p("f"), 42, 43), unix.Mknod(p("null"), unix.S_IFCHR|0o640, 0x103),
		os.Lchown(p("null"), 5, 6), os.Symlink("x", p("l")), os.Lchown(p("l"), 7, 8))
	for _, c := range [][]string{{"setcap", "cap_net_raw+ep", p("f")}, {"setfacl", "-m", "u:1234:rw", p("f")}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	must(t, tree.Copy(t.Context(), dst, src))
	for _, n := range []string{"f", "null", "l"} {
		a, b := stat(t, p(n)), stat(t, filepath.Join(dst, n))
		if a.Uid != b.Uid || a.Gid != b.Gid || a.Mode != b.Mode || a.Rdev != b.Rdev {
			t.Errorf("%s: %+v became %+v", n, a, b)
		}
	}
	for _, k := range []string{"security.capability", "system.posix_acl_access"} {
		a, b := make([]byte, 100), make([]byte, 100)
		n, err1 := unix.Getxattr(p("f"), k, a)
		m, err2 := unix.Getxattr(filepath.Join(dst, "f"), k, b)
		if err1 != nil || err2 != nil || string(a[:n]) != string(b[:m]) {
			t.Errorf("%s: %x, %v and %x, %v", k, a[:max(n, 0)], err1, b[:max(m, 0)], err2)
		}
	}
}

func TestSpreadMarksFoldersOfExt4(t *testing.T) {
	t.Parallel()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, 16<<20))
	for _, c := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	flags := func() string {
		out, err := exec.Command("lsattr", "-d", dir).Output()
		must(t, err)
		flags, _, _ := strings.Cut(string(out), " ")
		return flags
	}
	before := flags()
	tree.Spread(dir)
	if before == flags() || !strings.Contains(flags(), "T") || !strings.Contains(flags(), "e") {
		t.Errorf("the flags were %s and are %s", before, flags())
	}
	tree.Spread("/proc/self") // knows no flags
}
