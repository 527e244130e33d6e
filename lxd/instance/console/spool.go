package console

import (
	"fmt"
	"sync"
)

// spoolSize is how far a client may lag behind.
const spoolSize = 1 << 20

// spool keeps what the console prints until the client takes it. It never makes the
// console wait: the process that copies the guest's output, and does all else for
// the guest, would wait with it. A client that is too slow misses something and is
// told so.
type spool struct {
	mu     sync.Mutex
	more   sync.Cond
	buf    []byte
	missed int
	closed bool
}

func newSpool() *spool {
	s := &spool{}
	s.more.L = &s.mu
	return s
}

// Write takes everything, at once.
func (s *spool) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf)+len(b) > spoolSize || s.missed > 0 {
		s.missed += len(b) // in one piece, until the client has caught up
	} else {
		s.buf = append(s.buf, b...)
	}
	s.more.Signal()
	return len(b), nil
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.more.Broadcast()
}

// next waits for output; nil is the end.
func (s *spool) next() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) == 0 && s.missed == 0 && !s.closed {
		s.more.Wait()
	}
	if len(s.buf) > 0 {
		n := min(len(s.buf), 32<<10)
		b := s.buf[:n:n]
		s.buf = s.buf[n:]
		return b
	}
	if s.missed > 0 {
		n := s.missed
		s.missed = 0
		return fmt.Appendf(nil, "\r\n[%d bytes left out: the client is too slow]\r\n", n)
	}
	return nil
}
