package cluster

import (
	"context"
	"net"
	"testing"
	"time"
)

// TestSparesAreReadyAndAlive has the other side close what is kept ready.
func TestSparesAreReadyAndAlive(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var d net.Dialer
	s := &spares{dial: func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", l.Addr().String()) }}
	take := func() net.Conn {
		t.Helper()
		c, err := s.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	first := take()
	there := map[string]net.Conn{} // by the address of this side
	for range spareCount + 1 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		there[c.RemoteAddr().String()] = c
	}
	wait := func() {
		t.Helper()
		for {
			s.mu.Lock()
			n := len(s.ready)
			s.mu.Unlock()
			if n == spareCount {
				return
			}
			<-time.After(time.Millisecond)
		}
	}
	wait()
	second := take()
	if there[second.LocalAddr().String()] == nil || second == first {
		t.Error("it was not one of those that were ready")
	}
	// All that were ready then are closed by the other side.
	for a, c := range there {
		if a != second.LocalAddr().String() {
			_ = c.Close()
		}
	}
	for range spareCount {
		c := take()
		go func() { _, _ = l.Accept() }()
		if there[c.LocalAddr().String()] != nil {
			t.Error("a dead connection was given out")
		}
	}
	s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready) > 0 {
		t.Errorf("%d are left", len(s.ready))
	}
}
