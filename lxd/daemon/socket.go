package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"

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
	// Nobody gets in between the socket's birth and its final mode.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
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

type peerKey struct{}

// withPeer notes who is at the other end of a connection, as the kernel tells it.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
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
