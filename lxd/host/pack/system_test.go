//go:build system

package pack_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/idmap"
	"sett/lxd/host/pack"
	"sett/lxd/host/unpack"
	"sett/lxd/host/unpack/child"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == child.Verb {
		os.Exit(child.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// portrait is all that there is to a tree, in lines.
func portrait(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		size := st.Size
		if d.IsDir() {
			size = 0
		}
		line := fmt.Sprintf("%s %o %d:%d %d %x %d.%d", strings.TrimPrefix(path, dir), st.Mode, st.Uid, st.Gid, size, st.Rdev, st.Mtim.Sec, st.Mtim.Nsec)
		if d.Type() != fs.ModeSymlink {
			for _, k := range []string{"user.a=b%", "security.capability", "system.posix_acl_access", "system.posix_acl_default"} {
				b := make([]byte, 200)
				if n, err := unix.Lgetxattr(path, k, b); err == nil {
					line += fmt.Sprintf(" %s=%x", k, b[:n])
				}
			}
		}
		out = append(out, line)
		return nil
	}))
	return strings.Join(out, "\n")
}

func special(t *testing.T) string {
	t.Helper()
	src := t.TempDir()
	p := func(n string) string { return filepath.Join(src, n) }
	must(t, os.Mkdir(p("d"), 0o750), os.WriteFile(p("d/f"), []byte("hello"), 0o644), os.Chown(p("d/f"), 65533, 42), unix.Chmod(p("d/f"), 0o6751),
		os.Link(p("d/f"), p("hard")), os.Symlink("/etc/passwd", p("link")), os.Lchown(p("link"), 7, 8), unix.Mkfifo(p("fifo"), 0o640),
		unix.Mknod(p("char"), unix.S_IFCHR|0o640, 0x103), unix.Mknod(p("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 70000))), os.Lchown(p("block"), 0, 6),
		os.WriteFile(p("big"), nil, 0o600), os.Truncate(p("big"), 64<<20), unix.Setxattr(p("big"), "user.a=b%", []byte("x\x00y"), 0))
	run(t, "setcap", "cap_net_raw+ep", p("big"))
	run(t, "setfacl", "-m", "u:1234:rw,g:77:x", p("big"))
	run(t, "setfacl", "-d", "-m", "u:1234:rwx", p("d"))
	for _, n := range []string{"char", "hard"} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, p(n), []unix.Timespec{{Sec: 1, Nsec: 5}, {Sec: 1e9, Nsec: 123456789}}, 0))
	}
	return src
}

func archiveOf(t *testing.T, src string, o pack.Options) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(file)
	must(t, err)
	w := pack.NewWriter(f)
	must(t, w.Tree(t.Context(), open(t, src), "rootfs", o), w.File("metadata.yaml", 0o644, []byte("x")), w.Close(), f.Close())
	return file
}

// TestWhatIsPackedIsWhatIsUnpacked packs a tree as it is, and one that had been shifted,
// and compares what tar makes of them.
func TestWhatIsPackedIsWhatIsUnpacked(t *testing.T) {
	t.Parallel()
	src := special(t)
	want := portrait(t, src)
	m := idmap.Map{{UID: true, GID: true, HostID: 5000000, Range: 1 << 16}}
	for _, name := range []string{"plain", "shifted"} {
		var o pack.Options
		if name == "shifted" {
			o.IDs.From = m
			must(t, idmap.Shift(t.Context(), src, nil, m))
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(src, "hard"), []unix.Timespec{{Sec: 1, Nsec: 5}, {Sec: 1e9, Nsec: 123456789}}, 0))
		}
		file := archiveOf(t, src, o)
		if fi, err := os.Stat(file); err != nil || fi.Size() > 1<<20 {
			t.Errorf("%s: %d bytes, %v", name, fi.Size(), err)
		}
		ours, tars := t.TempDir(), t.TempDir()
		must(t, unpack.Jail{}.Image(t.Context(), unpack.Image{Meta: file}, ours))
		run(t, "tar", "--numeric-owner", "--xattrs-include=*", "-xpf", file, "-C", tars)
		for who, dir := range map[string]string{"the jail": ours, "tar": tars} {
			dir = filepath.Join(dir, "rootfs")
			if got := portrait(t, dir); got != want {
				t.Errorf("%s, %s:\n%s\nwant\n%s", name, who, got, want)
			}
			var a, b, big unix.Stat_t
			must(t, unix.Lstat(dir+"/d/f", &a), unix.Lstat(dir+"/hard", &b), unix.Lstat(dir+"/big", &big))
			if a.Ino != b.Ino || big.Blocks > 100 {
				t.Errorf("%s, %s: inodes %d and %d, %d blocks", name, who, a.Ino, b.Ino, big.Blocks)
			}
		}
	}
}

// TestTheLongestNamesCanBeUnpacked packs what just fits.
func TestTheLongestNamesCanBeUnpacked(t *testing.T) {
	t.Parallel()
	src := filepath.Join(t.TempDir(), "x")
	must(t, os.Mkdir(src, 0o700))
	nest(t, src, strings.Repeat("d", 254), 16) // rootfs/ and 16 names of 255: 4087
	file, dst := archiveOf(t, src, pack.Options{}), t.TempDir()
	must(t, unpack.Jail{}.Image(t.Context(), unpack.Image{Meta: file}, dst))
	if n := strings.Count(run(t, "find", dst, "-name", "ddd*"), "\n"); n != 16 {
		t.Errorf("%d folders", n)
	}
}

// TestStrangeTimesAndIDs are what file systems can hold and no clock shows.
func TestStrangeTimesAndIDs(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	for n, sec := range []int64{-1 << 31, -62135596800, 1<<33 + 5, 1 << 40} {
		file := filepath.Join(src, fmt.Sprint(n))
		must(t, os.WriteFile(file, nil, 0o600), os.Truncate(file, int64(n%2)*1<<20), os.Chown(file, 1<<32-2, 1<<31),
			unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{{Sec: 1}, {Sec: sec, Nsec: 7}}, 0))
	}
	want := portrait(t, src)
	file, dst := archiveOf(t, src, pack.Options{}), t.TempDir()
	must(t, unpack.Jail{}.Image(t.Context(), unpack.Image{Meta: file}, dst))
	if got := portrait(t, filepath.Join(dst, "rootfs")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
