package cluster_test

import (
	"io"
	"net"
	"testing"
	"time"

	"sett/lxd/cluster"
)

// under is a connection over another one, such as one with TLS.
type under struct{ net.Conn }

func (u under) NetConn() net.Conn { return u.Conn }

// TestWhoReadsSlowlyIsNotSilent sends to somebody who does not read for longer than a
// dead machine may be silent.
func TestWhoReadsSlowlyIsNotSilent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 32 << 20
	got := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer c.Close()
		<-time.After(4 * time.Second)
		n, _ := io.Copy(io.Discard, c)
		got <- n
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cluster.NoticeSilence(under{under{c}})
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Errorf("the connection was given up: %v", err)
	}
	_ = c.Close()
	if n := <-got; n != size {
		t.Errorf("%d of %d bytes came through", n, size)
	}
}
