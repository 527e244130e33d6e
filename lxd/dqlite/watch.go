package dqlite

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/canonical/go-dqlite/client"
)

// A leader that hangs, or whose link is down, ends no connections. The others elect
// another one within a second, while who waits for an answer of the first one waits
// for as long as he can. So each node watches who leads, and cuts what this member
// has asked anybody else.

// watchEvery is how often a node asks itself who leads.
const watchEvery = 200 * time.Millisecond

// asked are the connections over which this member's SQL goes to others.
type asked struct {
	mu    sync.Mutex
	conns map[*askedConn]struct{}
}

type askedConn struct {
	net.Conn
	from    *asked
	address string
}

func (a *asked) add(c net.Conn, address string) net.Conn {
	k := &askedConn{Conn: c, from: a, address: address}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns == nil {
		a.conns = map[*askedConn]struct{}{}
	}
	a.conns[k] = struct{}{}
	return k
}

// Close implements net.Conn. A connection that was cut is closed a second time by its
// user, to whom that is no error.
func (k *askedConn) Close() error {
	k.from.mu.Lock()
	_, open := k.from.conns[k]
	delete(k.from.conns, k)
	k.from.mu.Unlock()
	if !open {
		return nil
	}
	return k.Conn.Close()
}

// Write implements net.Conn. What was cut must look like a lost connection to the
// driver, which knows those by their type and throws them away: TLS has a plain error
// for writes after Close, with which a pool would keep the connection for ever. Nothing
// was sent, so the driver may try again elsewhere.
func (k *askedConn) Write(b []byte) (int, error) {
	n, err := k.Conn.Write(b)
	var op *net.OpError
	if n == 0 && errors.Is(err, net.ErrClosed) && !errors.As(err, &op) {
		err = &net.OpError{Op: "write", Net: "tcp", Addr: k.RemoteAddr(), Err: err}
	}
	return n, err
}

// cut ends all connections to members other than one.
func (a *asked) cut(but string) {
	a.mu.Lock()
	var gone []*askedConn
	for k := range a.conns {
		if k.address != but {
			gone = append(gone, k)
		}
	}
	a.mu.Unlock()
	for _, k := range gone {
		// A deadline would not do: the driver sets one of its own for each call, and the
		// next one is a ROLLBACK.
		_ = k.Close()
	}
}

// watch follows the leader until the node is closed.
func (n *Node) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var c *client.Client
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	var leader uint64
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		ctx, cancel := context.WithTimeout(n.ctx, time.Second)
		var err error
		if c == nil {
			c, err = client.New(ctx, n.opts.Address, client.WithDialFunc(n.dial), client.WithLogFunc(n.log))
		}
		var l *Member
		if err == nil {
			l, err = c.Leader(ctx)
		}
		cancel()
		switch {
		case err != nil:
			if c != nil {
				_ = c.Close()
				c = nil
			}
		case l != nil && l.ID != 0 && l.ID != leader:
			if leader != 0 {
				n.asked.cut(l.Address)
			}
			leader = l.ID
		}
	}
}
