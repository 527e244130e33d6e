package cluster

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// An exec through another member takes up to four upgraded connections, one after the
// other, none of which can be used again. A few connections that are ready before they
// are needed keep the time that it takes to make one out of what a client waits for.
const (
	// spareCount is how many connections are kept ready, once one has been needed.
	spareCount = 4
	// spareTime is how long. It is less than a listener gives a client to say what it
	// wants.
	spareTime = 5 * time.Second
	// sparePause is how long after one was taken others are made: to make them takes both
	// sides processor time, which who has taken it is waiting for.
	sparePause = 30 * time.Millisecond
)

type spare struct {
	net.Conn
	made time.Time
}

// good reports whether the other side still holds a connection. Had it ended it, the
// kernel would know.
func (s spare) good() bool {
	if time.Since(s.made) > spareTime {
		return false
	}
	c := s.Conn
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		return true
	}
	rc, err := t.SyscallConn()
	if err != nil {
		return false
	}
	const established = 1 // TCP_ESTABLISHED
	i, err := info(rc)
	return err == nil && i.State == established
}

// spares are connections to one peer that nobody uses yet.
type spares struct {
	dial func(context.Context) (net.Conn, error)

	mu     sync.Mutex
	ready  []spare // oldest first
	making int
	shut   bool
	expire *time.Timer
	paused bool // before what is missing is made
}

// take gives a connection, one that is ready where there is one, and has others made.
func (s *spares) take(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	var got net.Conn
	for got == nil && len(s.ready) > 0 {
		if s.ready[0].good() {
			got = s.ready[0].Conn
		} else {
			_ = s.ready[0].Close()
		}
		s.ready = s.ready[1:]
	}
	if !s.shut && !s.paused {
		s.paused = true
		time.AfterFunc(sparePause, s.refill)
	}
	s.mu.Unlock()
	if got != nil {
		return got, nil
	}
	return s.dial(ctx)
}

// refill begins what is missing. Each attempt ends by itself, within the time for a dial.
func (s *spares) refill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
	if s.shut {
		return
	}
	if s.expire == nil {
		s.expire = time.AfterFunc(spareTime, s.drop)
	} else {
		s.expire.Reset(spareTime)
	}
	for ; len(s.ready)+s.making < spareCount; s.making++ {
		go func() {
			c, err := s.dial(context.Background())
			s.mu.Lock()
			defer s.mu.Unlock()
			s.making--
			switch {
			case err != nil:
			case s.shut:
				_ = c.Close()
			default:
				s.ready = append(s.ready, spare{c, time.Now()})
			}
		}()
	}
}

// drop closes what nobody has needed for a while.
func (s *spares) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.ready {
		_ = c.Close()
	}
	s.ready = nil
}

// close ends it all.
func (s *spares) close() {
	s.mu.Lock()
	s.shut = true
	if s.expire != nil {
		s.expire.Stop()
	}
	s.mu.Unlock()
	s.drop()
}
