package dqlite

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// dial is how SQL reaches a member.
func (n *Node) dial(ctx context.Context, address string) (net.Conn, error) {
	c, err := n.reach(ctx, address)
	if err != nil {
		return nil, err
	}
	if address != n.opts.Address {
		n.answers.Store(&address)
		c = n.asked.add(c, address)
	}
	return &batched{Conn: c}, nil
}

// reach opens a connection: to our own engine by its socket, to others by Dial.
func (n *Node) reach(ctx context.Context, address string) (net.Conn, error) {
	if address == n.opts.Address {
		local := n.at()
		if local == "" {
			return nil, n.away()
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", local)
		if err != nil {
			return nil, err
		}
		return entrance{c, n}, nil
	}
	if n.opts.Dial == nil {
		return nil, errs.Internal("database member %s cannot be reached: this node stands alone", address)
	}
	return n.opts.Dial(ctx, address)
}

// dialRaft is how our engine reaches the engine of a member. It wants a plain
// socket, so what Dial returns (TLS, mostly) is bridged to one.
func (n *Node) dialRaft(ctx context.Context, address string) (net.Conn, error) {
	remote, err := n.reach(ctx, address)
	if err != nil {
		return nil, err
	}
	if u, ok := remote.(*net.UnixConn); ok {
		return u, nil
	}
	ours, theirs, err := socketpair()
	if err != nil {
		_ = remote.Close()
		return nil, err
	}
	n.bridges.Go(func() {
		n.bridge(remote, ours, newBeats(remote, beatEvery*n.opts.Latency), entrance{ours, n})
	})
	return theirs, nil
}

// Serve hands the engine a connection that another member opened and the daemon has
// authenticated. It returns when the connection ends.
func (n *Node) Serve(remote net.Conn) error {
	local, err := n.reach(n.ctx, n.opts.Address)
	if err != nil {
		_ = remote.Close()
		return fmt.Errorf("reach the database engine: %w", err)
	}
	in := newBeats(local, 0)
	in.snapshot = n.takes
	n.bridge(remote, local, remote, in)
	return nil
}

// bridge copies both ways until one side ends or the node is closed, to what writes to
// each of them. A raft or SQL connection has no use for being half open,
// so the first end ends both.
func (n *Node) bridge(a, b net.Conn, toA, toB io.Writer) {
	stop := context.AfterFunc(n.ctx, func() {
		_ = a.Close()
		_ = b.Close()
	})
	defer stop()
	done := make(chan struct{}, 2)
	run := func(dst io.Writer, src io.Reader) {
		_, _ = io.Copy(dst, src)
		done <- struct{}{}
	}
	go run(toA, b)
	go run(toB, a)
	<-done
	_ = a.Close()
	_ = b.Close()
	<-done
}

// socketpair makes two connected sockets that no child process inherits.
func socketpair() (net.Conn, net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		conns[i], err = net.FileConn(f)
		_ = f.Close()
		if err != nil {
			if i == 0 {
				_ = unix.Close(fds[1])
			} else {
				_ = conns[0].Close()
			}
			return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
		}
	}
	return conns[0], conns[1], nil
}

// keepFromChildren marks the engine's listening socket close-on-exec. libdqlite does
// not, and every program that the daemon starts would hold it, and could accept.
func keepFromChildren(local string) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("look for the database engine's socket: %w", err)
	}
	found := false
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		addr, err := unix.Getsockname(fd)
		if err != nil {
			continue // not a socket, or gone
		}
		if u, ok := addr.(*unix.SockaddrUnix); ok && u.Name == local {
			unix.CloseOnExec(fd)
			found = true
		}
	}
	if !found {
		return errs.Internal("the database engine does not listen on %s", local)
	}
	return nil
}
