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

	"sett/lxd/auth"
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
	known  map[string]map[*guarded]bool // by the fingerprint that was trusted
	warned time.Time
}

func newGatekeeper(log *slog.Logger) *gatekeeper {
	return &gatekeeper{log: log, by: map[netip.Addr]int{}, known: map[string]map[*guarded]bool{}}
}

// cut closes the connections of certificates that are trusted no more, or for less: what
// goes on over them, a shell or a stream of events, was allowed to somebody else. One
// of them may be waiting for the answer to the very change, so they have a moment.
func (g *gatekeeper) cut(fingerprints []string) {
	g.mu.Lock()
	var all []*guarded
	for _, f := range fingerprints {
		for k := range g.known[f] {
			all = append(all, k)
		}
	}
	g.mu.Unlock()
	if len(all) > 0 {
		time.AfterFunc(cutAfter, func() {
			for _, k := range all {
				_ = k.Close()
			}
		})
	}
}

// cutAfter is how long an answer to a change of trust may take to leave.
const cutAfter = time.Second

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
	who   string        // the fingerprint that was trusted, if any
}

// NetConn is the connection below, for those who must reach the kernel's.
func (k *guarded) NetConn() net.Conn { return k.Conn }

// proven notes that a known caller is at the other end, and by which certificate.
func (k *guarded) proven(fingerprint string) {
	k.g.mu.Lock()
	defer k.g.mu.Unlock()
	k.g.forget(k)
	if fingerprint == "" || k.who == fingerprint {
		return
	}
	k.who = fingerprint
	if k.g.known[fingerprint] == nil {
		k.g.known[fingerprint] = map[*guarded]bool{}
	}
	k.g.known[fingerprint][k] = true
}

func (k *guarded) Close() error {
	k.g.mu.Lock()
	k.g.forget(k)
	if all := k.g.known[k.who]; all != nil {
		if delete(all, k); len(all) == 0 {
			delete(k.g.known, k.who)
		}
	}
	k.g.mu.Unlock()
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

// proven notes who stands behind the connection of a request.
func proven(ctx context.Context, c auth.Caller) {
	k, ok := ctx.Value(guardedKey{}).(*guarded)
	if !ok {
		return
	}
	fingerprint := ""
	if c.Protocol == "tls" {
		fingerprint = c.Username
	}
	k.proven(fingerprint)
}
