package child

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"sett/lxd/host/seccomp"
	"sett/lxd/shim/wire"
)

// What seccomp's descriptor is told, from <linux/seccomp.h>.
const (
	notifReceive = 0xc0502100
	notifSend    = 0xc0182101
	notifValid   = 0x40082102
)

// listen reads the calls of one filter and has each answered in a goroutine of its own.
func (i *interceptor) listen(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	for {
		// Filters wait without a place among the calls that are worked on: there are as
		// many as commands that run.
		if err := asked(conn); err != nil {
			return
		}
		slot := <-i.slots
		n, err := receive(conn, i.slot(slot))
		if err != nil || n == nil {
			clear(i.slot(slot))
			i.slots <- slot
		}
		if err != nil {
			return
		}
		if n != nil {
			go i.reply(waiting{*n, conn}, slot)
		}
	}
}

// reply answers a call, which is noted in a slot until then.
func (i *interceptor) reply(w waiting, slot int) {
	w.answer(i.decide(w))
	clear(i.slot(slot))
	i.slots <- slot
}

// events are what a filter has to say now; none while nobody calls.
func events(fd uintptr) int16 {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, _ := unix.Poll(p, 0); n <= 0 {
		return 0
	}
	return p[0].Revents
}

// asked waits until a filter asks; io.EOF when nobody is under it any more.
func asked(conn syscall.RawConn) error {
	var over bool
	err := conn.Read(func(fd uintptr) bool {
		e := events(fd)
		over = e != 0 && e&unix.POLLIN == 0
		return e != 0
	})
	if over {
		return io.EOF
	}
	return err
}

// receive has the kernel write a call to buf; nil for one that has gone again.
func receive(conn syscall.RawConn, buf []byte) (*seccomp.Notification, error) {
	errno := unix.ENOENT
	err := conn.Control(func(fd uintptr) {
		// Without a call the kernel would wait for the next one, and a place with it.
		if events(fd)&unix.POLLIN != 0 {
			clear(buf)
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, notifReceive, uintptr(unsafe.Pointer(&buf[0])))
		}
	})
	switch {
	case err != nil:
		return nil, err
	case errno == unix.ENOENT || errno == unix.EINTR: // the caller was killed
		return nil, nil
	case errno != 0:
		return nil, errno
	}
	n, err := seccomp.ParseNotification(buf)
	if err != nil {
		return nil, nil // of a process that we cannot see: the kernel ends that wait with it
	}
	return &n, nil
}

// waiting is a call with the filter that asks about it.
type waiting struct {
	seccomp.Notification
	conn syscall.RawConn
}

// valid reports whether the caller waits still, so that all that was looked at under
// its number was really its own.
func (w waiting) valid() bool {
	var errno syscall.Errno
	id := w.ID
	err := w.conn.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, notifValid, uintptr(unsafe.Pointer(&id)))
	})
	return err == nil && errno == 0
}

func (w waiting) answer(a seccomp.Answer) {
	b := a.Bytes(w.ID)
	_ = w.conn.Control(func(fd uintptr) {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, notifSend, uintptr(unsafe.Pointer(&b[0])))
		if errno == unix.EINVAL && a.Continue { // before Linux 5.5
			b = seccomp.Answer{Errno: int(unix.EPERM)}.Bytes(w.ID)
			_, _, _ = unix.Syscall(unix.SYS_IOCTL, fd, notifSend, uintptr(unsafe.Pointer(&b[0])))
		}
	})
}

// caller is the thread that waits, by its folder in /proc. What is opened there
// belongs to it as long as the call is valid afterwards.
type caller struct {
	dir    *os.Root
	tid    int
	status map[string]string
	userNS inode
	caps   uint64
}

func (w waiting) caller() (*caller, error) {
	dir, err := os.OpenRoot("/proc/" + strconv.Itoa(w.TID))
	if err != nil {
		return nil, err
	}
	c := &caller{dir: dir, tid: w.TID, status: map[string]string{}}
	b, err := dir.ReadFile("status")
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	for line := range bytes.Lines(b) {
		if k, v, ok := strings.Cut(string(line), ":"); ok {
			c.status[k] = strings.TrimSpace(v)
		}
	}
	c.caps, err = strconv.ParseUint(c.status["CapEff"], 16, 64)
	var ns unix.Stat_t
	if err == nil {
		err = unix.Stat(c.path("ns/user"), &ns)
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	c.userNS = inode{ns.Dev, ns.Ino}
	return c, nil
}

func (c *caller) close() { _ = c.dir.Close() }

// path is for what os.Root does not follow: the links of /proc that are none.
func (c *caller) path(name string) string { return fmt.Sprintf("/proc/%d/%s", c.tid, name) }

func (c *caller) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Open(c.path(name), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// files opens several of its links.
func (c *caller) files(names ...string) ([]*os.File, error) {
	var out []*os.File
	for _, n := range names {
		flags := unix.O_PATH
		if strings.HasPrefix(n, "ns/") {
			flags = unix.O_RDONLY
		}
		f, err := c.open(n, flags)
		if err != nil {
			closeAll(out)
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// label is the AppArmor profile that confines the caller; empty where none does.
func (c *caller) label() (string, error) {
	b, err := c.dir.ReadFile("attr/apparmor/current")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) { // the kernel has it not, or not on
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(b)), " (")
	if name == "unconfined" {
		return "", nil
	}
	return name, nil
}

func closeAll(fs []*os.File) {
	for _, f := range fs {
		_ = f.Close()
	}
}

// field picks one number of a line of /proc/PID/status.
func (c *caller) field(name string, n int) string {
	if f := strings.Fields(c.status[name]); n < len(f) {
		return f[n]
	}
	return ""
}

// identity is what the finder becomes.
func (c *caller) identity(f *wire.Fields) {
	const fs = 3 // real, effective, saved, and that of files
	f.Add(wire.TagUID, c.field("Uid", fs))
	f.Add(wire.TagGID, c.field("Gid", fs))
	for _, g := range strings.Fields(c.status["Groups"]) {
		f.Add(wire.TagGroup, g)
	}
	f.Add(wire.TagCaps, strconv.FormatUint(c.caps, 10))
	mask, err := strconv.ParseUint(c.status["Umask"], 8, 32)
	if err != nil {
		mask = 0o077
	}
	f.AddInt(wire.TagUmask, int64(mask))
}
