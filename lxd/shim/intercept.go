package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sett/lxd/shim/wire"
)

// Intercept starts the process that answers system calls of a container. It returns
// when that can be reached. The process lives on by itself; its file of state names it.
func (s *Shim) Intercept(ctx context.Context, req wire.InterceptRequest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := s.spawn(wire.VerbIntercept, nil, nil, nil)
	if err != nil {
		return err
	}
	free := c.bound(ctx)
	var ans wire.InterceptAnswer
	if err = wire.WriteJSON(c.sock, req); err == nil {
		err = wire.ReadJSON(c.sock, &ans)
	}
	if free() && err != nil {
		err = ctx.Err()
	}
	if err == nil && ans.Error != "" {
		err = errors.New(ans.Error)
	}
	c.end() // of the child that we know; it has left its work to one of its own
	if err != nil {
		return fmt.Errorf("start who answers system calls: %w", err)
	}
	return nil
}

// Reach opens a connection to who answers system calls, by its socket.
func Reach(path string) (*os.File, error) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: wire.SocketName(dir, path)}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("reach who answers system calls: %w", err)
	}
	return os.NewFile(uintptr(fd), "listener"), nil
}

// HandOver gives the filter of a container's init to who answers its calls. liblxc has
// put it into the monitor's hands, which never looks at it: there it stays as long as
// the container runs, and from there it is taken again should that process have died.
func HandOver(path string, init, monitor int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", init))
	if err != nil {
		return err
	}
	defer ns.Close()
	filter, err := filterOf(monitor)
	if err != nil {
		return fmt.Errorf("find the container's filter: %w", err)
	}
	defer unix.Close(filter)
	conn, err := Reach(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	return unix.Sendmsg(int(conn.Fd()), []byte{wire.ListenFirst}, unix.UnixRights(filter, int(ns.Fd())), nil, unix.MSG_NOSIGNAL)
}

// filterOf copies the one descriptor of a process that leads to a filter.
func filterOf(pid int) (int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return -1, err
	}
	hold, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(hold)
	for _, e := range fds {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err != nil || to != "anon_inode:seccomp notify" {
			continue
		}
		var n int
		if _, err := fmt.Sscan(e.Name(), &n); err != nil {
			continue
		}
		return unix.PidfdGetfd(hold, n, 0)
	}
	return -1, unix.ENOENT
}
