package guestfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

var keep = Owner{-1, -1, -1}

// serve starts a server on a folder and returns a client of it. Beside the folder lies
// a file that nobody may reach.
func serve(t *testing.T) (root string, c *Client) {
	t.Helper()
	return serveAs(t, byFile)
}

// bothWays runs a test on servers that hand files over, whatever they lie on, and on those
// that send what is in them.
func bothWays(t *testing.T, test func(t *testing.T, root string, c *Client)) {
	t.Parallel()
	for name, w := range map[string]way{"handed over": byFile, "sent": byData} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, c := serveAs(t, w)
			test(t, root, c)
		})
	}
}

func serveAs(t *testing.T, w way) (root string, c *Client) {
	t.Helper()
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b, err := os.ReadFile(filepath.Join(dir, "secret"))
		es, _ := os.ReadDir(dir)
		if err != nil || string(b) != "of the host" || len(es) != 2 {
			t.Errorf("the host was touched: %q, %v, %v", b, err, es)
		}
	})
	return root, dial(t, root, w)
}

// way is how the content of files comes to the client.
type way int

const (
	byFile way = iota // the open file comes
	byData            // the bytes come
)

func dial(t *testing.T, root string, w way) *Client {
	t.Helper()
	r, err := OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	all := func(*os.File, uint64) bool { return true }
	r.hands = all
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	half := func() { _ = unix.Shutdown(fds[1], unix.SHUT_RD) }
	conns := make([]io.ReadWriteCloser, 2)
	for i, fd := range fds {
		conns[i] = &Socket{File: os.NewFile(uintptr(fd), "pair")}
		if w == byData {
			conns[i] = struct{ io.ReadWriteCloser }{conns[i]}
		}
	}
	done := make(chan error, 1)
	go func() {
		done <- Serve(conns[1], r, half)
		_ = r.Close()
	}()
	t.Cleanup(func() {
		_ = conns[0].Close()
		<-done
	})
	c := NewClient(conns[0])
	c.takes = all
	return c
}

func read(t *testing.T, c *Client, name string) (string, error) {
	t.Helper()
	o, err := c.Open(name)
	if err != nil {
		return "", err
	}
	if o.Type != File {
		return o.Type + " " + o.Target + strings.Join(o.Names, ","), nil
	}
	var b bytes.Buffer
	_, err = o.Copy(&b, 0, -1)
	return b.String(), err
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilesComeAndGo(t *testing.T) {
	bothWays(t, func(t *testing.T, root string, c *Client) {
		big := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
		made, err := c.Write("/f", Owner{-1, -1, 0o4751}, false, bytes.NewReader(big))
		if err != nil || !made {
			t.Fatal(made, err)
		}
		fi, err := os.Stat(filepath.Join(root, "f"))
		if err != nil || fi.Mode() != 0o751|os.ModeSetuid {
			t.Errorf("%v, %v", fi.Mode(), err)
		}
		if s, err := read(t, c, "f"); err != nil || s != string(big) {
			t.Errorf("%d bytes, %v", len(s), err)
		}
		o, err := c.Open("/f")
		ok(t, err)
		if o.Mode != 0o4751 || o.Size != int64(len(big)) || o.UID != os.Getuid() || time.Since(o.Modified) > time.Hour {
			t.Errorf("%+v", o.Info)
		}
		var b bytes.Buffer
		if n, err := o.Copy(&b, 16, 10); err != nil || n != 10 || b.String() != "0123456789" {
			t.Errorf("a part: %q, %v", &b, err)
		}
		o, err = c.Open("/f")
		ok(t, err)
		ok(t, o.Skip())

		// An existing file keeps what it is.
		made, err = c.Write("/f", Owner{-1, -1, 0o600}, false, strings.NewReader("one"))
		if err != nil || made {
			t.Error(made, err)
		}
		_, err = c.Write("/f", keep, true, strings.NewReader(" two"))
		ok(t, err)
		if s, _ := read(t, c, "/f"); s != "one two" {
			t.Errorf("%q", s)
		}
		if _, err := c.Write("/none", keep, true, strings.NewReader("x")); !errs.Is(err, errs.KindNotFound) {
			t.Errorf("append to nothing: %v", err)
		}

		for want := range []int{1, 0} {
			made, err := c.Mkdir("/d", Owner{-1, -1, 0o711})
			if err != nil || made != (want == 0) {
				t.Error(made, err)
			}
			made, err = c.Symlink("/d/l", "../f", keep)
			if err != nil || made != (want == 0) {
				t.Error(made, err)
			}
		}
		if _, err := c.Mkdir("/f", keep); !errs.Is(err, errs.KindConflict) {
			t.Errorf("a folder over a file: %v", err)
		}
		if _, err := c.Symlink("/d/l", "other", keep); !errs.Is(err, errs.KindConflict) {
			t.Errorf("another link: %v", err)
		}
		if s, err := read(t, c, "/d"); err != nil || s != "directory l" {
			t.Errorf("%q, %v", s, err)
		}
		if s, err := read(t, c, "/d/l"); err != nil || s != "symlink ../f" {
			t.Errorf("%q, %v", s, err)
		}
		if err := c.Remove("/d"); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("a full folder: %v", err)
		}
		ok(t, c.Remove("/d/l"))
		ok(t, c.Remove("/d"))
		ok(t, c.Remove("/f"))
		if err := c.Remove("/f"); !errs.Is(err, errs.KindNotFound) {
			t.Errorf("twice: %v", err)
		}
		for _, n := range []string{"/", "", "..", "/.."} {
			if err := c.Remove(n); !errs.Is(err, errs.KindInvalid) {
				t.Errorf("remove %q: %v", n, err)
			}
		}
	})
}

func TestLinksLeadNowhereElse(t *testing.T) {
	t.Parallel()
	root, c := serve(t)
	ok(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
	ok(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("guest"), 0o644))
	for name, to := range map[string]string{"abs": "/etc", "up": "../../../../etc", "out": "../secret", "host": filepath.Join(filepath.Dir(root), "secret"),
		"loop": "loop", "magic": "/proc/self/root", "outdir": "..", "new": "../made"} {
		ok(t, os.Symlink(to, filepath.Join(root, name)))
	}
	for _, n := range []string{"/abs/passwd", "/up/passwd", "/../etc/passwd", "outdir/etc/passwd"} {
		if s, err := read(t, c, n); err != nil || s != "guest" {
			t.Errorf("%s: %q, %v", n, s, err)
		}
	}
	for _, n := range []string{"/outdir/secret", "/loop/x", "/magic/etc", "/host/x"} {
		if s, err := read(t, c, n); err == nil {
			t.Errorf("%s: %q", n, s)
		}
	}
	for _, n := range []string{"/out", "/host", "/new", "/outdir/made"} {
		_, err := c.Write(n, keep, false, strings.NewReader("evil"))
		_ = err // inside the root they may lead somewhere; serve looks at the outside
	}
	if b, err := os.ReadFile(filepath.Join(root, "made")); err != nil || string(b) != "evil" {
		t.Errorf("a link to nowhere is made where it leads inside: %q, %v", b, err)
	}
	_, err := c.Symlink("/outdir/l", "/x", keep)
	ok(t, err)
	_, err = c.Mkdir("/outdir/d", keep)
	ok(t, err)
	ok(t, c.Remove("/outdir/l"))
	ok(t, c.Remove("/outdir/d"))
	ok(t, c.Remove("/out")) // the link itself
}

func TestWhatIsNoFileIsRefusedAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T, root string, c *Client) {
		ok(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o666))
		l, err := net.Listen("unix", filepath.Join(root, "s"))
		ok(t, err)
		defer l.Close()
		for _, n := range []string{"/fifo", "/s"} {
			if s, err := read(t, c, n); !errs.Is(err, errs.KindInvalid) {
				t.Errorf("read %s: %q, %v", n, s, err)
			}
			for _, add := range []bool{false, true} {
				if _, err := c.Write(n, keep, add, strings.NewReader("x")); !errs.Is(err, errs.KindInvalid) {
					t.Errorf("write %s: %v", n, err)
				}
			}
			ok(t, c.Remove(n))
		}
		if _, err := c.Write("/", keep, false, strings.NewReader("x")); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("write the root: %v", err)
		}
		for _, n := range []string{strings.Repeat("n", 300), strings.Repeat("d/", 3000) + "f", "a\x00b"} {
			if _, err := read(t, c, n); err == nil {
				t.Errorf("read a name of %d bytes", len(n))
			}
			if _, err := c.Write(n, keep, false, strings.NewReader("x")); err == nil {
				t.Errorf("wrote a name of %d bytes", len(n))
			}
		}
	})
}

// TestTreeThatChangesUnderTheReader lets a guest swap a folder for a link to the
// outside as fast as it can.
func TestTreeThatChangesUnderTheReader(t *testing.T) {
	bothWays(t, func(t *testing.T, root string, c *Client) {
		ok(t, os.Mkdir(filepath.Join(root, "d"), 0o755))
		ok(t, os.WriteFile(filepath.Join(root, "d/secret"), []byte("guest"), 0o644))
		ok(t, os.Symlink("..", filepath.Join(root, "l")))
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, "d"), unix.AT_FDCWD, filepath.Join(root, "l"), unix.RENAME_EXCHANGE)
				}
			}
		}()
		defer func() { close(stop); <-done }()
		for i := range 500 {
			if s, err := read(t, c, "/d/secret"); err == nil && s != "guest" {
				t.Fatalf("read %q", s)
			}
			_, _ = c.Write("/d/secret", keep, false, strings.NewReader("guest"))
			if i%10 == 0 {
				_, _ = c.Symlink("/d/link", "x", keep)
				_, _ = c.Mkdir("/d/dir", keep)
				_ = c.Remove("/d/link")
				_ = c.Remove("/d/dir")
			}
		}
	})
}

// endless fails after a while, as a client does that goes away.
type endless struct{ n int }

func (e *endless) Read(b []byte) (int, error) {
	if e.n--; e.n < 0 {
		return 0, errors.New("gone")
	}
	return len(b), nil
}

func TestBrokenUploadIsNoSuccess(t *testing.T) {
	bothWays(t, func(t *testing.T, _ string, c *Client) {
		if _, err := c.Write("/f", keep, false, &endless{3}); err == nil || err.Error() != "gone" {
			t.Errorf("got %v", err)
		}
	})
}

func TestBrokenUploadLeavesTheServerInOrder(t *testing.T) {
	t.Parallel()
	_, c := serve(t)
	if _, err := c.Write("/f", keep, false, &endless{3}); err == nil {
		t.Error("half a file was a whole one")
	}
	if !c.Ready() {
		t.Error("another request cannot follow")
	}
	_, err := c.Write("/f", Owner{-1, -1, 0o600}, false, strings.NewReader("whole"))
	ok(t, err)
	if s, err := read(t, c, "/f"); err != nil || s != "whole" {
		t.Errorf("%q, %v", s, err)
	}
}

// slow is a client that takes no more.
type slow struct{ begun, more chan struct{} }

func (s *slow) Write(b []byte) (int, error) {
	select {
	case s.begun <- struct{}{}:
	default:
	}
	<-s.more
	return len(b), nil
}

func TestClosedClientHoldsNoFile(t *testing.T) {
	t.Parallel()
	name := ""
	t.Cleanup(func() { // when the server, which is in this process, has ended
		all, _ := filepath.Glob("/proc/self/fd/*")
		for _, l := range all {
			if to, _ := os.Readlink(l); to == name {
				t.Error("a descriptor of the file is left")
			}
		}
	})
	root, c := serve(t)
	name = filepath.Join(root, "f")
	ok(t, os.WriteFile(name, make([]byte, 8<<20), 0o644))
	o, err := c.Open("/f")
	ok(t, err)
	s := &slow{make(chan struct{}, 1), make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := o.Copy(s, 0, -1)
		ended <- err
	}()
	<-s.begun
	ok(t, c.Close())
	if o.h != nil && o.h.f != nil {
		t.Error("the file is held while the client takes its time")
	}
	close(s.more)
	if err := <-ended; err == nil {
		t.Error("half a file was a whole one")
	}
}

// A file is made with the mode that its open asks for, as sshfs does.
func TestSFTPMakesPrivateFilesPrivate(t *testing.T) {
	t.Parallel()
	root, c := serve(t)
	conn, err := c.SFTP()
	ok(t, err)
	defer conn.Close()
	say := func(kind byte, fields ...any) {
		t.Helper()
		var b bytes.Buffer
		for _, f := range append([]any{kind}, fields...) {
			if s, is := f.(string); is {
				ok(t, binary.Write(&b, binary.BigEndian, uint32(len(s))))
				f = []byte(s)
			}
			ok(t, binary.Write(&b, binary.BigEndian, f))
		}
		_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(b.Len())), b.Bytes()...))
		ok(t, err)
		var n uint32
		ok(t, binary.Read(conn, binary.BigEndian, &n))
		_, err = io.CopyN(io.Discard, conn, int64(n))
		ok(t, err)
	}
	const open, write, create, mode = 3, 2, 8, 4
	say(1, uint32(3)) // version
	say(open, uint32(1), "/secret", uint32(write|create), uint32(mode), uint32(0o100600))
	say(open, uint32(2), "/usual", uint32(write|create), uint32(0))
	for name, want := range map[string]os.FileMode{"secret": 0o600, "usual": 0o644} {
		if fi, err := os.Stat(filepath.Join(root, name)); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
	}
}

func TestSFTP(t *testing.T) {
	t.Parallel()
	root, c := serve(t)
	conn, err := c.SFTP()
	ok(t, err)
	s, err := sftp.NewClientPipe(conn, conn)
	ok(t, err)
	defer s.Close()
	ok(t, s.MkdirAll("/a/b"))
	f, err := s.Create("/a/b/f")
	ok(t, err)
	_, err = f.Write(bytes.Repeat([]byte("x"), 100_000))
	ok(t, err)
	ok(t, f.Chmod(0o600))
	ok(t, f.Close())
	ok(t, s.Truncate("/a/b/f", 5))
	ok(t, s.Chmod("/a/b/f", 0o640))
	ok(t, s.Chtimes("/a/b/f", time.Unix(1, 0), time.Unix(2, 0)))
	ok(t, s.Symlink("/a/b/f", "/l"))
	ok(t, s.Link("/a/b/f", "/hard"))
	if to, err := s.ReadLink("/l"); err != nil || to != "/a/b/f" {
		t.Errorf("%q, %v", to, err)
	}
	fi, err := s.Stat("/l")
	if err != nil || fi.Size() != 5 || fi.Mode() != 0o640 || fi.ModTime().Unix() != 2 {
		t.Errorf("%v, %v", fi, err)
	}
	if fi, err = s.Lstat("/l"); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("%v, %v", fi, err)
	}
	es, err := s.ReadDir("/")
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	if err != nil || strings.Join(names, " ") != "a hard l" {
		t.Errorf("%v, %v", names, err)
	}
	if err := s.Rename("/hard", "/l"); err == nil {
		t.Error("a rename replaced something")
	}
	ok(t, s.PosixRename("/hard", "/l"))
	if _, err := s.StatVFS("/"); err != nil {
		t.Error(err)
	}
	ok(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o666))
	if _, err := s.Open("/fifo"); err == nil {
		t.Error("a FIFO was opened")
	}
	ok(t, os.Symlink("../secret", filepath.Join(root, "out")))
	if f, err := s.Open("/out"); err == nil {
		b, _ := io.ReadAll(f)
		t.Errorf("read %q", b)
	}
	if _, err := s.Open("/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	ok(t, s.Remove("/a/b/f"))
	ok(t, s.RemoveDirectory("/a/b"))
}

// A server among a guest's processes writes to memory as one of them, and only then.
func TestWritesToMemoryAreTheGuests(t *testing.T) {
	t.Parallel()
	r, err := OpenRoot(t.TempDir())
	ok(t, err)
	defer r.Close()
	joined := 0
	r.Join = func() { joined++ }
	memory, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	ok(t, err)
	f := os.NewFile(uintptr(memory), "memory")
	defer f.Close()
	pipe, w, err := os.Pipe()
	ok(t, err)
	defer pipe.Close()
	defer w.Close()
	for i, c := range []struct {
		f    *os.File
		want int
	}{{w, 0}, {f, 1}, {f, 1}} {
		if r.written(c.f); joined != c.want {
			t.Errorf("%d: joined %d times", i, joined)
		}
	}
}
