package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// listenUnix makes the API socket. A socket file that nobody listens on is what a
// killed daemon left; the lock on the databases has shown that there is no other.
func listenUnix(path, group string) (net.Listener, error) {
	if len(path) > 107 {
		return nil, errs.Invalid("The path %s is too long for a socket (%d characters, 107 fit); choose a shorter LXD_DIR", path, len(path))
	}
	gid := -1
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			return nil, errs.Invalid("There is no group %q to give the API socket to: %v", group, err)
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, err
		}
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	// Nobody gets in between the socket's birth and its final mode: the file gets the mode
	// that the socket has when it is bound. A umask would be that of all threads.
	born := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var mode error
		err := c.Control(func(fd uintptr) { mode = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, mode)
	}}
	l, err := born.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the API socket: %w", err)
	}
	if err := os.Chown(path, 0, gid); err != nil && os.Getuid() == 0 {
		_ = l.Close()
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// localListener hands out connections of this machine as localConns.
type localListener struct{ net.Listener }

// Accept implements net.Listener.
func (l localListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if u, ok := c.(*net.UnixConn); ok && err == nil {
		return &localConn{UnixConn: u}, nil
	}
	return c, err
}

// localConn is a connection into which the kernel can move what lies in files: no bytes
// of them come by here.
type localConn struct {
	*net.UnixConn
	before func() // what is to be done before a read that waits
}

// BeforeRead implements ws.Waiting, for the one who reads.
func (c *localConn) BeforeRead(f func()) { c.before = f }

// Read implements io.Reader.
func (c *localConn) Read(b []byte) (int, error) {
	if c.before != nil {
		if n := c.there(b); n > 0 {
			return n, nil
		}
		c.before()
	}
	return c.UnixConn.Read(b)
}

// there takes what has come already, without waiting. Whatever else there is to say, the
// next read says.
func (c *localConn) there(b []byte) int {
	conn, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = conn.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), b) })
	return n
}

// sender moves bytes into a socket that does not block, as sendfile does.
type sender interface {
	SendTo(socket int) (int, error)
}

// ReadFrom implements io.ReaderFrom.
func (c *localConn) ReadFrom(r io.Reader) (int64, error) {
	s, ok := r.(sender)
	if !ok {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	conn, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	for total := int64(0); ; {
		n := 0
		var serr error
		err := conn.Write(func(fd uintptr) bool {
			n, serr = s.SendTo(int(fd))
			return !errors.Is(serr, unix.EAGAIN)
		})
		total += int64(n)
		if errors.Is(serr, unix.EINTR) {
			continue
		}
		if err = errors.Join(err, serr); err != nil || n == 0 {
			return total, err
		}
	}
}

type peerKey struct{}

// withPeer notes who is at the other end of a connection, as the kernel tells it.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*localConn)
	if !ok {
		return ctx
	}
	rc, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if err := rc.Control(func(fd uintptr) { cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

func username(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if uid == 0 {
		return "root"
	}
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}
