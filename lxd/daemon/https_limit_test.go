package daemon

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"sett/lxd/auth"
)

// conn is a connection from an address.
type conn struct {
	net.Conn
	from   string
	closed chan struct{}
}

func from(address string) *conn { return &conn{from: address, closed: make(chan struct{})} }

func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from)) }

func (c *conn) Close() error {
	close(c.closed)
	return nil
}

func isClosed(c *conn) bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

func TestOneAddressCannotTakeAllConnections(t *testing.T) {
	t.Parallel()
	g := newGatekeeper(slog.New(slog.DiscardHandler))
	var all []*guarded
	for range strangersPerAddress {
		k := g.admit(from("10.0.0.1:1"))
		if k == nil {
			t.Fatal("refused too early")
		}
		all = append(all, k)
	}
	if g.admit(from("10.0.0.1:2")) != nil {
		t.Error("one more was let in")
	}
	if g.admit(from("10.0.0.2:1")) == nil {
		t.Error("another address was refused")
	}
	// A known caller counts no more, nor does one that has left.
	all[0].proven("")
	if g.admit(from("10.0.0.1:3")) == nil {
		t.Error("refused though one of them is known by now")
	}
	if err := all[1].Close(); err != nil || g.admit(from("10.0.0.1:4")) == nil {
		t.Error("refused though one has left", err)
	}
	// A subnet of IPv6 is one client.
	for i := range strangersPerAddress {
		_ = i
		g.admit(from("[fd42::1]:1"))
	}
	if g.admit(from("[fd42::2]:1")) != nil || g.admit(from("[fd43::1]:1")) == nil {
		t.Error("subnets are not told apart")
	}
}

func TestTheOldestStrangerMakesRoom(t *testing.T) {
	t.Parallel()
	g := newGatekeeper(slog.New(slog.DiscardHandler))
	known, oldest := from("10.0.0.1:1"), from("10.0.0.2:1")
	g.admit(known).proven("f00")
	g.admit(oldest)
	for i := range strangersInAll {
		if g.admit(from(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1).String())) == nil {
			t.Fatal("refused")
		}
	}
	<-oldest.closed
	if isClosed(known) || g.all.Len() != strangersInAll {
		t.Errorf("the known one is closed: %v; %d strangers", isClosed(known), g.all.Len())
	}
}

func TestCutClosesByCertificate(t *testing.T) {
	t.Parallel()
	g := newGatekeeper(slog.New(slog.DiscardHandler))
	one, other := from("10.0.0.1:1"), from("10.0.0.1:2")
	a, b := g.admit(one), g.admit(other)
	a.proven("aa")
	a.proven("aa")
	b.proven("bb")
	g.cut([]string{"aa", "cc"})
	<-one.closed
	if isClosed(other) {
		t.Error("closed another certificate's connection")
	}
	if err := b.Close(); err != nil || len(g.known["bb"]) != 0 {
		t.Errorf("a closed connection is remembered: %v %v", g.known, err)
	}
	proven(t.Context(), auth.Caller{Protocol: "tls"}) // a request that came over no such connection
}
