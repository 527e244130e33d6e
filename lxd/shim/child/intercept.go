package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/host/cgroup"
	"sett/lxd/host/process"
	"sett/lxd/host/seccomp"
	"sett/lxd/shim/child/nsenter"
	"sett/lxd/shim/wire"
)

// atOnce bounds how many calls of one container are worked on. A guest that makes its
// own file systems hang makes its own calls wait.
const atOnce = 64

// interceptor answers system calls of one container. It outlives the daemon that has
// started it, so that no call ever waits for a daemon to come back.
type interceptor struct {
	req    wire.InterceptRequest
	group  cgroup.Group
	layout *cgroup.Layout
	table  []byte   // mapped from a file: see pending
	slots  chan int // those of the table that are free

	mu      sync.Mutex
	userNS  inode // the container's
	started time.Duration
	open    int
	left    []seccomp.Notification // by one before us, without an answer

	shims shims
}

// ticks of a clock, in which /proc tells times, make a second on every Linux.
const ticks = 100

// inode tells one file of the kernel's from all others.
type inode struct{ dev, ino uint64 }

func intercept(sock *os.File) {
	var req wire.InterceptRequest
	if err := wire.ReadJSON(sock, &req); err != nil {
		os.Exit(125)
	}
	i := &interceptor{req: req, slots: make(chan int, atOnce)}
	l, err := i.begin()
	ans := wire.InterceptAnswer{}
	if err != nil {
		ans.Error = err.Error()
	}
	if werr := wire.WriteJSON(sock, ans); werr != nil || err != nil {
		os.Exit(1)
	}
	_ = sock.Close()
	i.accept(l)
}

// begin does what can fail while the daemon is there to hear of it.
func (i *interceptor) begin() (*os.File, error) {
	var err error
	if i.layout, err = cgroup.Detect(); err != nil {
		return nil, err
	}
	i.group = i.layout.Group(i.req.Group)
	if err := i.pending(); err != nil {
		return nil, fmt.Errorf("note what waits: %w", err)
	}
	l, err := listen(i.req.Socket)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", i.req.Socket, err)
	}
	s, err := process.ReadStat(os.Getpid())
	if err != nil {
		return nil, err
	}
	return l, writeTask(i.req.State, wire.Task{PID: os.Getpid(), Start: s.Start})
}

// pending maps the table of calls that have been read and not answered. The kernel tells
// of each call once: should this process be killed, the next one finds them here, or
// they would wait for as long as their callers live.
func (i *interceptor) pending() error {
	f, err := os.OpenFile(i.req.Pending, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	const size = atOnce * seccomp.NotificationSize
	if err := f.Truncate(size); err != nil {
		return err
	}
	if i.table, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	for n := range atOnce {
		if call, err := seccomp.ParseNotification(i.slot(n)); err == nil {
			i.left = append(i.left, call)
		}
		clear(i.slot(n))
		i.slots <- n
	}
	return nil
}

func (i *interceptor) slot(n int) []byte {
	return i.table[n*seccomp.NotificationSize:][:seccomp.NotificationSize]
}

func writeTask(path string, t wire.Task) error {
	body, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return writeFile(path, body)
}

// listen makes a socket, by way of its folder: the path of a socket must be short.
func listen(path string) (*os.File, error) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	_ = unix.Unlinkat(dir, filepath.Base(path), 0)
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: wire.SocketName(dir, path)}); err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// accept takes filters until the last one has nobody left under it.
func (i *interceptor) accept(l *os.File) {
	conn, err := l.SyscallConn()
	if err != nil {
		os.Exit(1)
	}
	for {
		var fd int
		var aerr error
		err := conn.Read(func(s uintptr) bool {
			fd, _, aerr = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return !errors.Is(aerr, unix.EAGAIN)
		})
		if err != nil {
			os.Exit(1)
		}
		switch {
		case aerr == nil:
			go i.take(os.NewFile(uintptr(fd), "connection"))
		case errors.Is(aerr, unix.EMFILE), errors.Is(aerr, unix.ENFILE), errors.Is(aerr, unix.ENOBUFS), errors.Is(aerr, unix.ENOMEM):
			time.Sleep(100 * time.Millisecond) // what it has of them a guest may have used up
		}
	}
}

// take reads what comes on one connection.
func (i *interceptor) take(c *os.File) {
	defer c.Close()
	for {
		kind, files, err := message(c)
		if err != nil {
			return
		}
		switch {
		case kind == wire.ListenFirst && len(files) == 2:
			i.begun(files[1])
			_ = files[1].Close()
			i.again(files[0])
			i.serve(files[0])
		case kind == wire.ListenMore && len(files) == 1:
			i.serve(files[0])
		default:
			for _, f := range files {
				_ = f.Close()
			}
		}
	}
}

// message reads one byte and the descriptors that come with it.
func message(c *os.File) (byte, []*os.File, error) {
	conn, err := c.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4*2))
	var n, oobn int
	var rerr error
	err = conn.Read(func(fd uintptr) bool {
		n, oobn, _, _, rerr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return !errors.Is(rerr, unix.EAGAIN)
	})
	if err = errors.Join(err, rerr); err != nil {
		return 0, nil, err
	}
	if n == 0 {
		return 0, nil, io.EOF
	}
	var files []*os.File
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return 0, nil, err
	}
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			_ = unix.SetNonblock(fd, true)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return buf[0], files, nil
}

// begun notes whose calls these are, and goes where the container's monitor is: what
// ends that ends us, and what ends the daemon's unit does not.
func (i *interceptor) begun(userNS *os.File) {
	var st unix.Stat_t
	conn, err := userNS.SyscallConn()
	if err == nil {
		_ = conn.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) })
	}
	if err != nil {
		return
	}
	var state wire.State
	if b, err := os.ReadFile(i.req.Container); err == nil {
		_ = json.Unmarshal(b, &state)
	}
	i.mu.Lock()
	i.userNS = inode{st.Dev, st.Ino}
	i.started = time.Duration(state.Init.Start) * (time.Second / ticks)
	i.mu.Unlock()
	for _, dir := range i.layout.Group(i.req.Monitor).Dirs() {
		for _, pid := range []int{os.Getpid(), nsenter.ActorPID()} {
			// Not every hierarchy has such a group.
			if f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0); err == nil {
				_, _ = f.WriteString(strconv.Itoa(pid))
				_ = f.Close()
			}
		}
	}
}

// again answers what one before us has left, as far as this filter has asked it. What
// that one may have done already is tried once more.
func (i *interceptor) again(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	i.mu.Lock()
	left := i.left
	i.left = nil
	i.mu.Unlock()
	for _, n := range left {
		if w := (waiting{n, conn}); w.valid() {
			slot := <-i.slots
			copy(i.slot(slot), n.Bytes())
			go i.reply(w, slot)
		}
	}
}

// serve answers what one filter asks, on its own, until nobody is under it any more.
func (i *interceptor) serve(f *os.File) {
	i.mu.Lock()
	i.open++
	i.mu.Unlock()
	go func() {
		i.listen(f)
		_ = f.Close()
		i.mu.Lock()
		i.open--
		last := i.open == 0 && i.userNS != inode{}
		i.mu.Unlock()
		if last {
			os.Exit(0) // init's filter is among them: the container has ended
		}
	}()
}
