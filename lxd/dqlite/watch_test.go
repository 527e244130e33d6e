package dqlite

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/canonical/go-dqlite/client"
)

// TestCutConnectionIsLost: the driver drops connections whose error is of one type
// only, and TLS does not give it that one.
func TestCutConnectionIsLost(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	var a asked
	c := a.add(tls.Client(ours, &tls.Config{InsecureSkipVerify: true}), "10.0.0.1:8443")
	other, otherEnd := net.Pipe()
	defer otherEnd.Close()
	kept := a.add(other, "10.0.0.2:8443")
	a.cut("10.0.0.2:8443")

	_, err := c.Write([]byte("x"))
	if _, ok := err.(*net.OpError); !ok || !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write to a cut connection fails with %T %v", err, err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closing it again: %v", err)
	}
	if _, open := a.conns[kept.(*askedConn)]; !open || len(a.conns) != 1 {
		t.Errorf("%d connections are left", len(a.conns))
	}
	if err := kept.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhoWaitsForLongIsNoticed(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	a := asked{doubt: make(chan struct{}, 1)}
	c := a.add(ours, "10.0.0.1:8443")
	read := make(chan error)
	for range 2 {
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		<-a.doubt
		if !a.waiting() {
			t.Error("nobody waits")
		}
		if _, err := theirs.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err != nil {
			t.Error(err)
		}
		if a.waiting() {
			t.Error("somebody waits still")
		}
	}
	go func() { _, _ = theirs.Write([]byte("x")) }()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	select {
	case <-a.doubt:
		t.Error("an answer that came at once is doubted")
	default:
	}
}

// TestANodeThatRestsCutsWhatItAskedOfALeaderThatHangs: others tell it who leads now.
func TestANodeThatRestsCutsWhatItAskedOfALeaderThatHangs(t *testing.T) {
	t.Parallel()
	members := client.NewInmemNodeStore()
	if err := members.Set(t.Context(), []Member{{ID: 9, Address: "hangs:1"}, {ID: 1, Address: "a:1"}}); err != nil {
		t.Fatal(err)
	}
	leads := start(t, Options{Dir: t.TempDir(), Address: "a:1", Members: client.NewInmemNodeStore(), Dial: (&network{}).dial})
	w := &network{}
	w.set("a:1", leads)
	var hung atomic.Bool
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		if address == "hangs:1" && !hung.Swap(true) {
			ours, theirs := net.Pipe()
			t.Cleanup(func() { _ = theirs.Close() })
			return ours, nil
		}
		return w.dial(ctx, address)
	}
	n, err := Start(Options{Dir: t.TempDir(), ID: 2, Address: "b:1", Members: members, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	if err := n.Rest(); err != nil {
		t.Fatal(err)
	}
	c, err := n.dial(t.Context(), "hangs:1")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	select {
	case err := <-read:
		if err == nil {
			t.Error("it has answered")
		}
	case <-time.After(10 * time.Second):
		t.Error("it is waited for")
	}
}

// TestTheSearchForALeaderBeginsWithWhoHasAnswered: a dial to a dead member takes a second.
func TestTheSearchForALeaderBeginsWithWhoHasAnswered(t *testing.T) {
	t.Parallel()
	members := client.NewInmemNodeStore()
	if err := members.Set(t.Context(), []Member{{ID: 8, Address: "dead:1"}, {ID: 9, Address: "dead:2"}, {ID: 1, Address: "a:1"}}); err != nil {
		t.Fatal(err)
	}
	w := &network{}
	w.set("a:1", start(t, Options{Dir: t.TempDir(), Address: "a:1", Members: client.NewInmemNodeStore(), Dial: w.dial}))
	var dead atomic.Int64
	n, err := Start(Options{Dir: t.TempDir(), ID: 2, Address: "b:1", Members: members, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		if address != "a:1" {
			dead.Add(1)
		}
		return w.dial(ctx, address)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	if err := n.Rest(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if l, err := n.Leader(t.Context()); err != nil || l.ID != 1 {
			t.Fatalf("%+v, %v", l, err)
		}
	}
	if d := dead.Load(); d != 2 {
		t.Errorf("two dead members were called %d times", d)
	}
}
