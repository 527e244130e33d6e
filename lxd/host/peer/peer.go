package peer

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Namespace identifies a pid namespace while somebody lives in it.
type Namespace struct {
	dev, ino uint64
}

// Peer is the process that connected.
type Peer struct {
	PID      int // as this process sees it; 0 when it cannot
	UID, GID uint32
	// Namespaces are the pid namespaces that the process lives in, its own first, up
	// to the one of this process.
	Namespaces []Namespace
}

// Of asks the kernel who connected.
func Of(c *net.UnixConn) (Peer, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var cerr, ferr error
	pidfd := -1
	if err := rc.Control(func(fd uintptr) {
		if cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); cerr != nil {
			return
		}
		pidfd, ferr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	}); err != nil {
		return Peer{}, err
	}
	if cerr != nil {
		return Peer{}, fmt.Errorf("ask who connected: %w", cerr)
	}
	p := Peer{PID: int(cred.Pid), UID: cred.Uid, GID: cred.Gid}
	if p.PID <= 0 {
		return p, os.ErrProcessDone
	}
	if errors.Is(ferr, unix.ENOPROTOOPT) {
		// Before Linux 6.5 there is the number only. We ask at once, so that there is
		// no time for the number to become another process's.
		pidfd, ferr = unix.PidfdOpen(p.PID, 0)
	}
	if ferr != nil {
		return p, os.ErrProcessDone
	}
	defer func() { _ = unix.Close(pidfd) }()
	if p.Namespaces, err = above(p.PID); err != nil {
		return p, err
	}
	// What has been read belongs to the process if it is still there to have that number.
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		return p, os.ErrProcessDone
	}
	return p, nil
}

// maxDepth is how deep the kernel nests pid namespaces.
const maxDepth = 33

// above walks from the pid namespace of a process to ours.
func above(pid int) ([]Namespace, error) {
	fd, err := openNS(pid)
	if err != nil {
		return nil, err
	}
	var out []Namespace
	for range maxDepth {
		n, err := identify(fd)
		if err != nil {
			_ = unix.Close(fd)
			return nil, err
		}
		out = append(out, n)
		up, err := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		_ = unix.Close(fd)
		if errors.Is(err, unix.EPERM) {
			return out, nil // this one is ours; what lies above is not shown
		}
		if err != nil {
			return nil, fmt.Errorf("find the pid namespace above: %w", err)
		}
		fd = up
	}
	_ = unix.Close(fd)
	return nil, errors.New("the pid namespaces do not end")
}

func openNS(pid int) (int, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/pid", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return -1, os.ErrProcessDone
	}
	if err != nil {
		return -1, fmt.Errorf("read the pid namespace of process %d: %w", pid, err)
	}
	return fd, nil
}

func identify(fd int) (Namespace, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Namespace{}, err
	}
	return Namespace{st.Dev, st.Ino}, nil
}

// NamespaceOf is the pid namespace of a process. The caller sees to it that the number
// is still that of the process it means.
func NamespaceOf(pid int) (Namespace, error) {
	fd, err := openNS(pid)
	if err != nil {
		return Namespace{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	return identify(fd)
}
