package tree_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/host/tree"
)

func must(t *testing.T, errors ...error) {
	t.Helper()
	for _, err := range errors {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st
}

func TestCopyKeepsWhatAFileIs(t *testing.T) {
	t.Parallel()
	src, dst := t.TempDir(), t.TempDir()
	old := time.Unix(1e9, 12345)
	p := func(n string) string { return filepath.Join(src, n) }
	q := func(n string) string { return filepath.Join(dst, n) }
	must(t, os.MkdirAll(p("d/e"), 0o750), os.WriteFile(p("d/f"), []byte("hello"), 0o644), unix.Chmod(p("d/f"), 0o4751),
		os.Link(p("d/f"), p("hard")), os.Symlink("/etc/passwd", p("link")), unix.Mkfifo(p("fifo"), 0o600))
	f, err := os.Create(p("sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte("end"), 8<<20)
	must(t, err, f.Truncate(16<<20), f.Close())
	xattrs := unix.Setxattr(p("d/f"), "user.colour", []byte("blue"), 0) == nil
	must(t, os.Chtimes(p("d/f"), old, old), os.Chtimes(p("d"), old, old))

	must(t, tree.Copy(t.Context(), dst, src))

	if b, err := os.ReadFile(q("d/f")); err != nil || string(b) != "hello" {
		t.Errorf("content %q, %v", b, err)
	}
	a, b, d := stat(t, q("d/f")), stat(t, q("hard")), stat(t, q("d"))
	if a.Ino != b.Ino || a.Nlink != 2 {
		t.Error("the hard link is lost")
	}
	if a.Mode&0o7777 != 0o4751 || a.Mtim.Nano() != old.UnixNano() || d.Mtim.Nano() != old.UnixNano() {
		t.Errorf("mode %o, times %v", a.Mode, a.Mtim)
	}
	if l, err := os.Readlink(q("link")); err != nil || l != "/etc/passwd" {
		t.Errorf("link %q, %v", l, err)
	}
	if s := stat(t, q("sparse")); s.Size != 16<<20 || s.Blocks*512 > 1<<20 {
		t.Errorf("sparse: %d bytes in %d blocks", s.Size, s.Blocks)
	}
	if fi, err := os.Lstat(q("fifo")); err != nil || fi.Mode().Type() != fs.ModeNamedPipe {
		t.Errorf("pipe: %v, %v", fi, err)
	}
	if xattrs {
		buf := make([]byte, 10)
		if n, err := unix.Getxattr(q("d/f"), "user.colour", buf); err != nil || string(buf[:n]) != "blue" {
			t.Errorf("attribute %q, %v", buf[:max(n, 0)], err)
		}
	}
}

func TestCopyTakesOverWhatDidNotChange(t *testing.T) {
	t.Parallel()
	src, old, dst := t.TempDir(), filepath.Join(t.TempDir(), "old"), t.TempDir()
	p := func(n string) string { return filepath.Join(src, n) }
	must(t, os.Mkdir(p("d"), 0o755), os.Mkdir(old, 0o700))
	for _, n := range []string{"d/same", "size", "time", "mode", "attr", "gone", "kind"} {
		must(t, os.WriteFile(p(n), []byte("old"), 0o644))
	}
	must(t, tree.Copy(t.Context(), old, src))
	was := stat(t, p("time"))
	must(t, os.WriteFile(p("size"), []byte("longer"), 0o644), os.WriteFile(p("time"), []byte("new"), 0o644),
		os.Chtimes(p("time"), time.Unix(1e9, 0), time.Unix(0, was.Mtim.Nano()+1)), os.Chmod(p("mode"), 0o600), os.Remove(p("gone")),
		os.Remove(p("kind")), os.Mkdir(p("kind"), 0o700), os.WriteFile(p("added"), []byte("x"), 0o600))
	changed := []string{"size", "time", "mode"}
	if unix.Setxattr(p("attr"), "user.colour", []byte("blue"), 0) == nil {
		changed = append(changed, "attr")
	}
	count := int64(0)
	var mu sync.Mutex
	must(t, tree.CopyWith(t.Context(), dst, src, tree.Options{Like: old, Take: true, Count: func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		count += n
	}}))
	q := func(n string) string { return filepath.Join(dst, n) }
	if stat(t, q("d/same")).Ino != stat(t, filepath.Join(old, "d/same")).Ino {
		t.Error("a file that did not change was copied")
	}
	for _, n := range changed {
		if stat(t, q(n)).Ino == stat(t, filepath.Join(old, n)).Ino {
			t.Errorf("%s is still that of the old tree", n)
		}
	}
	for n, want := range map[string]string{"d/same": "old", "size": "longer", "time": "new", "mode": "old", "added": "x"} {
		if b, err := os.ReadFile(q(n)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", n, b, err)
		}
	}
	if _, err := os.Lstat(q("gone")); !os.IsNotExist(err) {
		t.Errorf("what is gone is there: %v", err)
	}
	if fi, err := os.Lstat(q("kind")); err != nil || !fi.IsDir() {
		t.Errorf("%v, %v", fi, err)
	}
	if count != 3*4+6+1 {
		t.Errorf("%d bytes were counted", count)
	}
	// Without leave to take anything the trees have nothing in common but bytes.
	next := t.TempDir()
	must(t, tree.CopyWith(t.Context(), next, src, tree.Options{Like: old}))
	if stat(t, filepath.Join(next, "d/same")).Nlink != 1 {
		t.Error("a file was taken without leave")
	}
}

func TestCopyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	src, dst := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "f"), nil, 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tree.Copy(ctx, dst, src); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// deepen nests folders until no path reaches the last one.
func deepen(t *testing.T, root string, n int) {
	t.Helper()
	fd, err := unix.Open(root, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	must(t, err)
	name := strings.Repeat("d", 100)
	for range n {
		must(t, unix.Mkdirat(fd, name, 0o700))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
}

func TestNoNestingIsTooDeepToRemove(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "x")
	must(t, os.Mkdir(root, 0o700))
	deepen(t, root, 1500)
	if err := tree.Copy(t.Context(), t.TempDir(), root); err == nil {
		t.Error("copied a tree without a bottom")
	}
	must(t, tree.Remove(t.Context(), root))
	if _, err := os.Lstat(root); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	must(t, tree.Remove(t.Context(), root))
}

// TestFilesWithSeveralNamesWhereNamesAreLong: what cannot be linked to by its path is a file
// of its own in the copy.
func TestFilesWithSeveralNamesWhereNamesAreLong(t *testing.T) {
	t.Parallel()
	root, dst := filepath.Join(t.TempDir(), "x"), filepath.Join(t.TempDir(), "y")
	must(t, os.Mkdir(root, 0o700), os.Mkdir(dst, 0o700))
	name := strings.Repeat("d", 250)
	fd, err := unix.Open(root, unix.O_DIRECTORY, 0)
	must(t, err)
	for range 20 {
		must(t, unix.Mkdirat(fd, name, 0o700))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		must(t, err, unix.Close(fd))
		fd = next
	}
	f, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY, 0o600)
	must(t, err, unix.Linkat(fd, "f", fd, "g", 0), unix.Close(f), unix.Close(fd))
	must(t, tree.Copy(t.Context(), dst, root))
	must(t, tree.CopyWith(t.Context(), t.TempDir(), root, tree.Options{Quiet: func(context.Context) (func(), error) { return func() {}, nil }}))
	fd, err = unix.Open(dst, unix.O_DIRECTORY, 0)
	must(t, err)
	for range 20 {
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		must(t, err, unix.Close(fd))
		fd = next
	}
	var a, b unix.Stat_t
	must(t, unix.Fstatat(fd, "f", &a, 0), unix.Fstatat(fd, "g", &b, 0), unix.Close(fd))
	must(t, tree.Remove(t.Context(), root), tree.Remove(t.Context(), dst))
}

func TestNoLinkLeadsOutside(t *testing.T) {
	t.Parallel()
	host, src, dst := t.TempDir(), t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "secret"), []byte("x"), 0o600), os.Symlink(host, filepath.Join(src, "d")))
	must(t, tree.Copy(t.Context(), dst, src))
	if fi, err := os.Lstat(filepath.Join(dst, "d")); err != nil || fi.Mode().Type() != fs.ModeSymlink {
		t.Errorf("%v, %v", fi, err)
	}
	must(t, tree.Remove(t.Context(), src))
	if _, err := os.Stat(filepath.Join(host, "secret")); err != nil {
		t.Error("the host's file is gone")
	}
	if err := tree.Copy(t.Context(), t.TempDir(), filepath.Join(dst, "d")); err == nil {
		t.Error("the root itself was followed")
	}
	if err := tree.Remove(t.Context(), filepath.Join(dst, "d")); err == nil {
		t.Error("a link was removed as a folder")
	}
}

// TestATreeThatChangesUnderTheCopy swaps what names stand for, as fast as it can. Nothing of
// the host's comes into a copy, nothing but files is opened, and every copy comes to its end.
func TestATreeThatChangesUnderTheCopy(t *testing.T) {
	t.Parallel()
	host, src := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "f"), []byte("the host's secret"), 0o600))
	p := func(n string) string { return filepath.Join(src, n) }
	for n := range 20 {
		for _, d := range []string{"d", "e"} {
			d = p(fmt.Sprint(d, n))
			must(t, os.Mkdir(d, 0o700), os.WriteFile(filepath.Join(d, "f"), []byte("guest"), 0o600))
		}
		must(t, os.Link(p(fmt.Sprintf("d%d/f", n)), p(fmt.Sprintf("e%d/g", n))))
	}
	must(t, os.Symlink(host, p("dirlink")), os.Symlink(filepath.Join(host, "f"), p("filelink")), unix.Mkfifo(p("pipe"), 0o600),
		os.WriteFile(p("file"), []byte("guest"), 0o600))
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	must(t, err)
	defer unix.Close(watch)
	_, err = unix.InotifyAddWatch(watch, p("pipe"), unix.IN_OPEN)
	must(t, err)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for _, swap := range [][2]string{{"dirlink", "e%"}, {"filelink", "d%/f"}, {"pipe", "file"}, {"d0/f", "d1"}} {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				for range 2 {
					_ = unix.Renameat2(unix.AT_FDCWD, p(swap[0]), unix.AT_FDCWD, p(strings.ReplaceAll(swap[1], "%", fmt.Sprint(n%20))), unix.RENAME_EXCHANGE)
				}
			}
		})
	}
	for range 20 {
		dst := t.TempDir()
		must(t, tree.Copy(t.Context(), dst, src))
		must(t, filepath.WalkDir(dst, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if strings.Contains(string(b), "secret") {
				t.Errorf("%s holds the host's file", path)
			}
			return err
		}))
	}
	if n, err := unix.Read(watch, make([]byte, 4096)); err != unix.EAGAIN {
		t.Errorf("the pipe was opened: %d, %v", n, err)
	}
}

func BenchmarkCopy(b *testing.B) {
	src := os.Getenv("SETT_TREE")
	if src == "" {
		b.Skip("SETT_TREE names no tree")
	}
	base := os.Getenv("SETT_TREE_DST")
	for i := 0; b.Loop(); i++ {
		dst, err := os.MkdirTemp(base, "copy")
		if err != nil {
			b.Fatal(err)
		}
		if err := tree.Copy(b.Context(), dst, src); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := tree.Remove(b.Context(), dst); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// TestCopyOfAFileThatGetsShorter: it is copied as it is at some moment, also when it gets
// shorter between two looks at where its holes are.
func TestCopyOfAFileThatGetsShorter(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	f, err := os.Create(filepath.Join(src, "f"))
	must(t, err)
	defer f.Close()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
			}
			for n := range int64(8) {
				_, _ = f.WriteAt([]byte("data"), (n+1)<<17)
			}
			_ = f.Truncate(0)
		}
	}()
	defer func() { close(quit); <-done }()
	dst := t.TempDir()
	for n := range 3000 {
		to := filepath.Join(dst, strconv.Itoa(n))
		must(t, os.Mkdir(to, 0o700))
		if err := tree.Copy(t.Context(), to, src); err != nil {
			t.Fatalf("copy %d: %v", n, err)
		}
		must(t, os.RemoveAll(to))
	}
}
