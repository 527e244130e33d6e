package pack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/host/idmap"
	"sett/lxd/host/pack"
	"sett/shared/archive"
	"sett/shared/errs"
)

func must(t *testing.T, errors ...error) {
	t.Helper()
	for _, err := range errors {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// packed is a tree as an archive.
func packed(t *testing.T, dir string, o pack.Options) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pack.NewWriter(&b)
	must(t, w.Tree(t.Context(), open(t, dir), "rootfs/", o), w.Close())
	return b.Bytes()
}

type entry struct {
	*tar.Header
	content []byte
}

func read(t *testing.T, b []byte) map[string]entry {
	t.Helper()
	out := map[string]entry{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		must(t, err)
		content, err := io.ReadAll(r)
		must(t, err)
		if _, ok := out[h.Name]; ok {
			t.Errorf("%q is there twice", h.Name)
		}
		out[h.Name] = entry{h, content}
	}
}

func TestATreeIsPackedAsItIs(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	p := func(n string) string { return filepath.Join(src, n) }
	old := time.Unix(-5, 123000000)
	strange := "new\nline \xff\xfe" + strings.Repeat("n", 200)
	must(t, os.MkdirAll(p("d/e"), 0o750), os.WriteFile(p("d/f"), []byte("hello"), 0o644), unix.Chmod(p("d/f"), 0o4751), os.Link(p("d/f"), p("hard")),
		os.Symlink("/etc/passwd", p("link")), unix.Mkfifo(p("fifo"), 0o640), os.WriteFile(p(strange), nil, 0o600), os.WriteFile(p("skipped"), nil, 0o600),
		os.Chtimes(p("d/f"), old, old), unix.Setxattr(p("d/e"), "user.a=b%", []byte("v\x00\xff"), 0))
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(s)
	must(t, unix.Bind(s, &unix.SockaddrUnix{Name: p("socket")}))

	var told int64
	got := read(t, packed(t, src, pack.Options{
		IDs:      idmap.Shifter{To: idmap.Map{{UID: true, GID: true, HostID: 5000000, Range: 1 << 16}}},
		Skip:     func(n string) bool { return n == "skipped" },
		Progress: func(n int64) { told = n },
	}))

	if told != 5 {
		t.Errorf("told of %d bytes", told)
	}
	for n, typ := range map[string]byte{"": tar.TypeDir, "d/": tar.TypeDir, "d/e/": tar.TypeDir, "link": tar.TypeSymlink, "fifo": tar.TypeFifo, strange: tar.TypeReg} {
		if e, ok := got["rootfs/"+n]; !ok || e.Typeflag != typ {
			t.Errorf("%q: %+v", n, e.Header)
		} else if e.Uid != 5000000+os.Getuid() && os.Getuid() < 1<<16 {
			t.Errorf("%q belongs to %d", n, e.Uid)
		}
	}
	if len(got) != 8 {
		t.Errorf("%d entries", len(got))
	}
	f, h := got["rootfs/d/f"], got["rootfs/hard"]
	if f.Header != nil && f.Typeflag == tar.TypeLink {
		f, h = h, f
	}
	if string(f.content) != "hello" || f.Mode != 0o4751 || !f.ModTime.Equal(old) || h.Typeflag != tar.TypeLink || h.Linkname != f.Name {
		t.Errorf("file %+v, link %+v", f.Header, h.Header)
	}
	if e := got["rootfs/link"]; e.Linkname != "/etc/passwd" {
		t.Errorf("link to %q", e.Linkname)
	}
	if e := got["rootfs/d/e/"]; e.PAXRecords["SCHILY.xattr.user.a%3Db%25"] != "v\x00\xff" {
		t.Errorf("attributes %q", e.PAXRecords)
	}
}

func TestHolesStayHoles(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	sparse := func(name string, size int64, at ...int64) {
		f, err := os.Create(filepath.Join(src, name))
		must(t, err, f.Truncate(size))
		for _, n := range at {
			_, err := f.WriteAt([]byte("data"), n)
			must(t, err)
		}
		must(t, f.Close())
	}
	sparse("middle", 8<<20, 1<<20, 4<<20)
	sparse("end", 4<<20+4, 4<<20)
	sparse("nothing", 3<<20)
	var many []int64
	for n := range int64(12000) {
		many = append(many, n*20<<10)
	}
	sparse("many", 12000*20<<10, many...)
	must(t, os.WriteFile(filepath.Join(src, "after"), []byte("x"), 0o600))

	b := packed(t, src, pack.Options{Skip: func(n string) bool { return n == "many" }})
	if len(b) > 1<<20 {
		t.Errorf("the archive has %d bytes", len(b))
	}
	got := read(t, b)
	for n, e := range got {
		if e.Typeflag == tar.TypeDir {
			continue
		}
		want, err := os.ReadFile(filepath.Join(src, strings.TrimPrefix(n, "rootfs/")))
		if err != nil || !bytes.Equal(want, e.content) {
			t.Errorf("%s differs: %d bytes became %d, %v", n, len(want), len(e.content), err)
		}
	}
	if len(got) != 5 {
		t.Errorf("%d entries", len(got))
	}
	// More parts than a reader takes.
	var sum counter
	w := pack.NewWriter(&sum)
	must(t, w.Tree(t.Context(), open(t, src), "", pack.Options{Skip: func(n string) bool { return n != "many" }}), w.Close())
	if sum < 11999*20<<10 {
		t.Errorf("a file of many small holes takes %d bytes", sum)
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// hook is called before each write.
type hook struct {
	io.Writer
	f func([]byte)
}

func (h hook) Write(p []byte) (int, error) { h.f(p); return h.Writer.Write(p) }

func TestAFileThatChangesSizeKeepsTheFirstOne(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int64{"shrinks": 100, "grows": 3 << 20} {
		src := t.TempDir()
		file := filepath.Join(src, "f")
		must(t, os.WriteFile(file, bytes.Repeat([]byte("x"), 1<<20), 0o600))
		var b bytes.Buffer
		var once sync.Once
		w := pack.NewWriter(hook{&b, func(p []byte) {
			if bytes.Contains(p, []byte("xxxx")) { // the contents are on their way
				once.Do(func() { must(t, os.Truncate(file, size)) })
			}
		}})
		must(t, w.Tree(t.Context(), open(t, src), "", pack.Options{}), w.Close())
		if got := read(t, b.Bytes())["f"]; len(got.content) != 1<<20 {
			t.Errorf("%s: %d bytes", name, len(got.content))
		}
	}
}

// TestWhatGetsAnotherNameMeanwhileIsThere: a folder can take long, and a log that is
// turned over while it is read must not be met under neither of its names.
func TestWhatGetsAnotherNameMeanwhileIsThere(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	p := func(n string) string { return filepath.Join(src, n) }
	var logs []string // whichever is read first, there are some before and some behind it
	for n := range 10 {
		logs = append(logs, "log"+strconv.Itoa(n))
		must(t, os.WriteFile(p(logs[n]), []byte("old "+logs[n]), 0o600))
	}
	must(t, os.MkdirAll(p("d/sub"), 0o700), os.WriteFile(p("d/f"), []byte("f"), 0o600))
	<-time.After(20 * time.Millisecond) // more than the clock of files goes on by at a time
	turn := func() {
		for _, n := range logs {
			must(t, os.Rename(p(n), p(n+".0")), os.WriteFile(p(n), []byte("new "+n), 0o600))
		}
		must(t, os.Rename(p("d"), p("e")), os.Rename(p("e"), p("d")), os.WriteFile(p("came0"), nil, 0o600))
	}
	var b bytes.Buffer
	var once sync.Once
	w := pack.NewWriter(&b)
	must(t, w.Tree(t.Context(), open(t, src), "", pack.Options{Progress: func(int64) { once.Do(turn) }}), w.Close())
	got := read(t, b.Bytes())
	for _, n := range logs {
		if old, now := got[n+".0"], got[n]; string(now.content) != "old "+n && string(old.content) != "old "+n {
			t.Errorf("what was %s is not there: it holds %q, and what it was called then %q", n, now.content, old.content)
		} else if old.Header != nil && now.Header == nil {
			t.Errorf("%s is not there", n)
		}
	}
	if _, ok := got["came0"]; !ok || got["d/f"].Header == nil || got["d/sub/"].Header == nil || got["e/f"].Header != nil {
		t.Errorf("there are %v", slices.Sorted(maps.Keys(got)))
	}
}

// TestNothingButFilesIsOpened watches a pipe: a host that opens what guests made may
// hang, or start a device.
func TestNothingButFilesIsOpened(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	pipe := filepath.Join(src, "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK)
	must(t, err)
	defer unix.Close(watch)
	_, err = unix.InotifyAddWatch(watch, pipe, unix.IN_OPEN)
	must(t, err)
	packed(t, src, pack.Options{})
	buf := make([]byte, 4096)
	if n, err := unix.Read(watch, buf); err != unix.EAGAIN {
		t.Errorf("the pipe was opened: %d, %v", n, err)
	}
	fd, err := unix.Open(pipe, unix.O_RDONLY|unix.O_NONBLOCK, 0) // the watch works
	must(t, err)
	unix.Close(fd)
	if n, err := unix.Read(watch, buf); err != nil || n == 0 {
		t.Errorf("the watch sees nothing: %v", err)
	}
}

// TestATreeThatChangesUnderTheReader swaps what names stand for, as fast as it can.
// No name may ever be read as the host's file, and every archive must be whole.
func TestATreeThatChangesUnderTheReader(t *testing.T) {
	t.Parallel()
	host, src := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "f"), []byte("the host's secret"), 0o600))
	p := func(n string) string { return filepath.Join(src, n) }
	for n := range 20 {
		for _, d := range []string{"d", "e"} {
			d = p(d + strconv.Itoa(n))
			must(t, os.Mkdir(d, 0o700), os.WriteFile(filepath.Join(d, "f"), []byte("guest"), 0o600))
		}
	}
	must(t, os.Symlink(host, p("dirlink")), os.Symlink(filepath.Join(host, "f"), p("filelink")), unix.Mkfifo(p("pipe"), 0o600),
		os.WriteFile(p("file"), []byte("guest"), 0o600))
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
				other := strings.ReplaceAll(swap[1], "%", strconv.Itoa(n%20))
				for range 2 {
					_ = unix.Renameat2(unix.AT_FDCWD, p(swap[0]), unix.AT_FDCWD, p(other), unix.RENAME_EXCHANGE)
				}
				_ = os.WriteFile(p("passing"), []byte("x"), 0o600)
				_ = os.Remove(p("passing"))
			}
		})
	}
	for range 100 {
		var b bytes.Buffer
		w := pack.NewWriter(&b)
		must(t, w.Tree(t.Context(), open(t, src), "rootfs", pack.Options{}), w.Close())
		if bytes.Contains(b.Bytes(), []byte("secret")) {
			t.Fatal("the host's file is in the archive")
		}
		for r := tar.NewReader(&b); ; {
			if _, err := r.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// nest makes folders inside each other and a file in the last one.
func nest(t *testing.T, dir, name string, n int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	must(t, err)
	for range n {
		must(t, unix.Mkdirat(fd, name, 0o700))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	f, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY, 0o600)
	must(t, err)
	unix.Close(f)
	unix.Close(fd)
	t.Cleanup(func() { // deeper than os.RemoveAll of other tests' folders must go
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
}

func TestDeepTrees(t *testing.T) {
	t.Parallel()
	long := filepath.Join(t.TempDir(), "long") // by what is in it, not where it is
	must(t, os.Mkdir(long, 0o700))
	nest(t, long, "d", 1200)
	if got := read(t, packed(t, long, pack.Options{})); len(got) != 1202 {
		t.Errorf("%d entries", len(got))
	}
	tooLong := filepath.Join(t.TempDir(), "long")
	must(t, os.Mkdir(tooLong, 0o700))
	nest(t, tooLong, strings.Repeat("d", 250), 50)
	w := pack.NewWriter(io.Discard)
	err := w.Tree(t.Context(), open(t, tooLong), "rootfs", pack.Options{})
	var at *os.PathError
	if !errors.As(err, &at) || !errs.Is(err, errs.KindInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestPackingEndsWithItsContextAndWithItsOutput(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "f"), bytes.Repeat([]byte("x"), 1<<20), 0o600))
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	w := pack.NewWriter(io.Discard)
	if err := w.Tree(ctx, open(t, src), "", pack.Options{Progress: func(int64) { cancel(why) }}); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	w = pack.NewWriter(&limited{left: 5000})
	if err := w.Tree(t.Context(), open(t, src), "", pack.Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

// limited is a disk that gets full.
type limited struct{ left int }

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, unix.ENOSPC
	}
	return len(p), nil
}

func TestCompression(t *testing.T) {
	t.Parallel()
	in := bytes.Repeat([]byte("some text, again and again "), 1<<15)
	for _, s := range []string{"none", "gzip", "gzip -9", "bzip2", "xz -1", "zstd -3 -T0", "lz4"} {
		a, err := pack.ParseAlgorithm(s)
		must(t, err)
		var b bytes.Buffer
		z, err := pack.Compress(t.Context(), a, &b)
		must(t, err)
		_, err = z.Write(in)
		must(t, err, z.Close())
		r, err := archive.Decompress(a.Format(), &b)
		must(t, err)
		if out, err := io.ReadAll(r); err != nil || !bytes.Equal(out, in) {
			t.Errorf("%s: %d bytes, %v", s, len(out), err)
		}
	}
	for _, s := range []string{"", "sh", "sh -c id", "/bin/gzip", "gzip -S /etc", "gzip file", "gzip --suffix=x", "none -9", "zstd -o /x", "xz --files=/x",
		"zstd -D/etc/passwd", "zstd --patch-from=/etc/passwd", "gzip;id", "zstd -T0000000"} {
		if _, err := pack.ParseAlgorithm(s); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestCompressionTellsTheCause(t *testing.T) {
	t.Parallel()
	a, err := pack.ParseAlgorithm("gzip -1")
	must(t, err)
	noise := make([]byte, 4<<20)
	for n := range noise {
		noise[n] = byte(n * n >> 7)
	}
	z, err := pack.Compress(t.Context(), a, &limited{left: 100})
	must(t, err)
	for range 50 {
		if _, err = z.Write(noise); err != nil {
			break
		}
	}
	if err := z.Close(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("full: %v", err)
	}
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	z, err = pack.Compress(ctx, a, io.Discard)
	must(t, err)
	cancel(why)
	if err := z.Close(); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
}
