//go:build system

package lxc_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/host/guestfs"
	"sett/lxd/host/idmap"
	"sett/shared/errs"
)

func fileServer(t *testing.T, e container.Engine, tree container.FileTree) *guestfs.Client {
	t.Helper()
	conn, err := e.Files(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	c := guestfs.NewClient(conn)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func contents(t *testing.T, c *guestfs.Client, name string) (string, error) {
	t.Helper()
	o, err := c.Open(name)
	if err != nil || o.Type != guestfs.File {
		return "", err
	}
	var b bytes.Buffer
	_, err = o.Copy(&b, 0, -1)
	return b.String(), err
}

// TestFilesHaveTheGuestsIDs writes and reads in a tree that runs and in one that does
// not, with each way in which ids get to the disk.
func TestFilesHaveTheGuestsIDs(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	for name, m := range map[string]struct {
		ids      idmap.Map
		idmapped bool
		onDisk   uint32
	}{"privileged": {nil, false, 1000}, "idmapped": {unprivileged, true, 1000}, "shifted": {unprivileged, false, base + 1000}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(t, m.ids, m.idmapped)
			work := func(c *guestfs.Client, file string) {
				t.Helper()
				made, err := c.Write(file, guestfs.Owner{UID: 1000, GID: 1001, Mode: 0o4640}, false, strings.NewReader("hello"))
				if err != nil || !made {
					t.Fatal(made, err)
				}
				if got, err := contents(t, c, file); err != nil || got != "hello" {
					t.Errorf("%q, %v", got, err)
				}
				o, err := c.Open(file)
				if err != nil {
					t.Fatal(err)
				}
				if o.UID != 1000 || o.GID != 1001 || o.Mode != 0o4640 {
					t.Errorf("%+v", o.Info)
				}
				if err := o.Skip(); err != nil {
					t.Error(err)
				}
				var st unix.Stat_t
				if err := unix.Stat(filepath.Join(s.Rootfs.Path, file), &st); err != nil || st.Uid != m.onDisk || st.Mode != unix.S_IFREG|0o4640 {
					t.Errorf("on disk: %d, %o, %v", st.Uid, st.Mode, err)
				}
			}
			tree := container.FileTree{Root: s.Rootfs.Path, IDMap: m.ids, Idmapped: m.idmapped}
			work(fileServer(t, e, tree), "/stopped")

			tree.ReadOnly = true
			c := fileServer(t, e, tree)
			if got, err := contents(t, c, "/stopped"); err != nil || got != "hello" {
				t.Errorf("read-only: %q, %v", got, err)
			}
			if _, err := c.Write("/stopped", guestfs.Owner{UID: -1, GID: -1, Mode: -1}, false, strings.NewReader("x")); !errs.Is(err, errs.KindForbidden) {
				t.Errorf("write to a read-only tree: %v", err)
			}

			p := start(t, e, s)
			work(fileServer(t, e, container.FileTree{Process: p}), "/running")
			expect(t, p, "busybox stat -c '%u %g %a' /stopped /running", "1000 1001 4640\n1000 1001 4640")
			// What is mounted inside is seen, and belongs to who it does inside.
			sh(t, p, "echo x >/dev/shm/f 2>/dev/null || { busybox mkdir -p /tmp/m; busybox mount -t tmpfs none /tmp/m; }; echo in >/tmp/m/f")
			if got, err := contents(t, fileServer(t, e, container.FileTree{Process: p}), "/proc/1/comm"); err != nil || got == "" {
				t.Errorf("a file of /proc, whose size is 0: %q, %v", got, err)
			}
		})
	}
}

// TestFilesNeverReachTheHost asks for everything that could lead out of a tree.
func TestFilesNeverReachTheHost(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]idmap.Map{"privileged": nil, "unprivileged": unprivileged} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(t, m, m != nil)
			up := strings.Repeat("../", 40)
			for n, to := range map[string]string{"abs": secret, "up": up + secret, "link": "/proc/1/root" + secret, "self": "/proc/self/fd/3", "dir": up} {
				if err := os.Symlink(to, filepath.Join(s.Rootfs.Path, n)); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Mknod(filepath.Join(s.Rootfs.Path, "disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(filepath.Join(s.Rootfs.Path, "fifo"), 0o666); err != nil {
				t.Fatal(err)
			}
			p := start(t, e, s)
			for _, tree := range []container.FileTree{{Process: p}, {Root: s.Rootfs.Path, IDMap: m, Idmapped: m != nil}} {
				c := fileServer(t, e, tree)
				for _, n := range []string{"/dir" + secret, "/dir/proc/1/root" + secret, "/proc/1/root" + secret, "/proc/self/root" + secret, "/disk", "/fifo", "/dev/null"} {
					if got, err := contents(t, c, n); err == nil {
						t.Errorf("%s: read %q", n, got)
					}
				}
				for _, n := range []string{"/abs", "/up", "/link", "/self", "/disk", "/fifo", "/dir" + secret} {
					_, _ = c.Write(n, guestfs.Owner{UID: 0, GID: 0, Mode: -1}, false, strings.NewReader("evil"))
				}
			}
			if b, err := os.ReadFile(secret); err != nil || string(b) != "host" {
				t.Errorf("the host's file: %q, %v", b, err)
			}
		})
	}
}

// TestClosedFileServerLeavesNothing: it ends in the middle of a transfer, and the
// container's files can be taken away then.
func TestClosedFileServerLeavesNothing(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	s := spec(t, unprivileged, true)
	conn, err := e.Files(t.Context(), container.FileTree{Root: s.Rootfs.Path, IDMap: unprivileged, Idmapped: true})
	if err != nil {
		t.Fatal(err)
	}
	c := guestfs.NewClient(conn)
	done := make(chan error, 1)
	go func() {
		_, err := c.Write("/f", guestfs.Owner{UID: -1, GID: -1, Mode: -1}, false, forever{})
		done <- err
	}()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if st, err := os.Stat(filepath.Join(s.Rootfs.Path, "f")); err == nil && st.Size() > 1<<20 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is written")
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("an endless upload has succeeded")
	}
}

type forever struct{}

func (forever) Read(b []byte) (int, error) { return len(b), nil }

// What is pushed to a guest's memory is memory of the guest's, in the sight of its limits.
func TestPushesToMemoryAreCounted(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	s := spec(t, unprivileged, true)
	s.Limits = container.Limits{Memory: 64 << 20, MemorySwap: -1}
	p := start(t, e, s)
	sh(t, p, "busybox mkdir -p /mem; busybox mount -t tmpfs none /mem")
	used := func() int64 {
		t.Helper()
		u, err := p.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return u.Memory
	}
	keep := guestfs.Owner{UID: -1, GID: -1, Mode: -1}
	const some = 16 << 20
	before := used()
	c := fileServer(t, e, container.FileTree{Process: p})
	if _, err := c.Write("/mem/some", keep, false, bytes.NewReader(make([]byte, some))); err != nil {
		t.Fatal(err)
	}
	if now := used(); now < before+some {
		t.Errorf("%d bytes in use after %d and a push of %d", now, before, some)
	}
	if got, err := contents(t, c, "/mem/some"); err != nil || len(got) != some {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := c.Write("/mem/all", keep, false, bytes.NewReader(make([]byte, 128<<20))); err == nil {
		t.Error("more was written to memory than the container may have")
	}
	expect(t, p, "busybox ls /mem", "all\nsome")
	if err := p.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := fileServer(t, e, container.FileTree{Process: p}).Write("/mem/frozen", keep, false, strings.NewReader("x")); err != nil {
		t.Errorf("a push to a frozen container: %v", err)
	}
}
