package dqlite

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// A leader that hangs, or whose link is down, ends no connections. The others elect
// another one within a second, while who waits for an answer of the first one waits
// for as long as he can. So as soon as somebody waits for longer than is usual, the
// node asks itself who leads, and cuts what this member has asked anybody else. While
// nobody waits, nothing is done.

const (
	// usual is how long an answer may take before there is a doubt.
	usual = 200 * time.Millisecond
	// watchEvery is how often a node asks itself who leads, as long as there is one.
	watchEvery = 200 * time.Millisecond
)

// asked are the connections over which this member's SQL goes to others.
type asked struct {
	doubt chan struct{} // has room for one word that somebody waits

	mu    sync.Mutex
	conns map[*askedConn]struct{}
	late  int // how many wait for longer than is usual
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

// wait counts who waits for long.
func (a *asked) wait(more int) {
	a.mu.Lock()
	a.late += more
	late := a.late
	a.mu.Unlock()
	if late > 0 {
		select {
		case a.doubt <- struct{}{}:
		default:
		}
	}
}

func (a *asked) waiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.late > 0
}

// Read implements net.Conn.
func (k *askedConn) Read(b []byte) (int, error) {
	late := time.AfterFunc(usual, func() { k.from.wait(1) })
	n, err := k.Conn.Read(b)
	if !late.Stop() {
		k.from.wait(-1)
	}
	return n, err
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

// watch looks after those who wait until the node is closed.
func (n *Node) watch() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.asked.doubt:
			n.follow()
		}
	}
}

// leads tells who leads, as far as this node knows. While it rests others must be asked, and
// one that hangs keeps them waiting.
func (n *Node) leads() (Member, error) {
	ask, within := n.Believed, time.Second
	if n.Resting() {
		ask, within = n.Leader, 3*time.Second
	}
	ctx, cancel := context.WithTimeout(n.ctx, within)
	defer cancel()
	return ask(ctx)
}

// follow cuts what was asked of others than the leader for as long as somebody waits.
func (n *Node) follow() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for n.asked.waiting() {
		l, err := n.leads()
		if err == nil && l.ID != 0 {
			n.asked.cut(l.Address)
		}
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
