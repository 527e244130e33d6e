package daemon

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Connections that have not shown yet that a known caller is behind them are
// bounded: per address, so that one client cannot take all, and in all, where the
// oldest makes room for the newest. Those of known callers count no more.
const (
	strangersPerAddress = 128
	strangersInAll      = 2048
)

// gatekeeper counts the connections of strangers.
type gatekeeper struct {
	log *slog.Logger

	mu     sync.Mutex
	all    list.List // of *guarded, oldest first
	by     map[netip.Addr]int
	warned time.Time
}

func newGatekeeper(log *slog.Logger) *gatekeeper {
	return &gatekeeper{log: log, by: map[netip.Addr]int{}}
}

// guard wraps a listener.
func (g *gatekeeper) guard(l net.Listener) net.Listener { return guardedListener{l, g} }

type guardedListener struct {
	net.Listener
	g *gatekeeper
}

func (l guardedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if k := l.g.admit(c); k != nil {
			return k, nil
		}
		_ = c.Close()
	}
}

// admit takes a connection in, or returns nil where its address has too many.
func (g *gatekeeper) admit(c net.Conn) *guarded {
	k := &guarded{Conn: c, g: g, from: source(c.RemoteAddr())}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.by[k.from] >= strangersPerAddress {
		g.warn("Refused a connection: its address has too many that show no trusted certificate", k.from)
		return nil
	}
	if g.all.Len() >= strangersInAll {
		if old, ok := g.all.Front().Value.(*guarded); ok {
			g.warn("Closed the oldest connection of a stranger: there are too many", old.from)
			g.forget(old)
			go func() { _ = old.Conn.Close() }()
		}
	}
	g.by[k.from]++
	k.place = g.all.PushBack(k)
	return k
}

// warn tells at most once a minute, as attackers don't tire.
func (g *gatekeeper) warn(text string, from netip.Addr) {
	if now := time.Now(); now.Sub(g.warned) > time.Minute {
		g.warned = now
		g.log.Warn(text, "address", from)
	}
}

// forget stops counting a connection. The lock is held.
func (g *gatekeeper) forget(k *guarded) {
	if k.place == nil {
		return
	}
	g.all.Remove(k.place)
	k.place = nil
	if g.by[k.from]--; g.by[k.from] <= 0 {
		delete(g.by, k.from)
	}
}

// source is what a client cannot have many of: an IPv4 address, or an IPv6 subnet.
func source(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() && !ip.IsLoopback() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

// guarded is a connection that the gatekeeper counts until it is closed or proven.
type guarded struct {
	net.Conn
	g     *gatekeeper
	from  netip.Addr
	place *list.Element // nil when it counts no more
}

// proven notes that a known caller is at the other end.
func (k *guarded) proven() {
	k.g.mu.Lock()
	defer k.g.mu.Unlock()
	k.g.forget(k)
}

func (k *guarded) Close() error {
	k.proven()
	return k.Conn.Close()
}

type guardedKey struct{}

// withGuarded lets requests find the connection that they came over.
func withGuarded(ctx context.Context, c net.Conn) context.Context {
	t, ok := c.(*tls.Conn)
	if !ok {
		return ctx
	}
	k, ok := t.NetConn().(*guarded)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, guardedKey{}, k)
}

func proven(ctx context.Context) {
	if k, ok := ctx.Value(guardedKey{}).(*guarded); ok {
		k.proven()
	}
}
