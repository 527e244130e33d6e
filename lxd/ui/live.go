package ui

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"sett/lxd/db"
)

// CheckEvery is how often open websockets are compared with the sessions that opened
// them. What this member ends itself ends at once; this is for sessions that expire,
// that another member has ended, or whose owner has lost its rights.
const CheckEvery = 10 * time.Second

// live are the connections that outlast their request: websockets. They end with
// their session.
type live struct {
	mu    sync.Mutex
	conns map[string]map[*liveConn]bool // by the hash of the session's secret
}

type liveConn struct {
	net.Conn
	forget func()
}

func (c *liveConn) Close() error {
	c.forget()
	return c.Conn.Close()
}

func (l *live) add(hash string, c net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	lc := &liveConn{Conn: c}
	lc.forget = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns[hash], lc)
		if len(l.conns[hash]) == 0 {
			delete(l.conns, hash)
		}
	}
	if l.conns == nil {
		l.conns = map[string]map[*liveConn]bool{}
	}
	if l.conns[hash] == nil {
		l.conns[hash] = map[*liveConn]bool{}
	}
	l.conns[hash][lc] = true
	return lc
}

// end closes the connections of a session.
func (l *live) end(hash string) {
	l.mu.Lock()
	var all []*liveConn
	for c := range l.conns[hash] {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

func (l *live) hashes() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for h := range l.conns {
		out = append(out, h)
	}
	return out
}

// watch makes the websocket that a request becomes end with the session of its cookie.
func (s *Service) watch(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if r.Header.Get("Upgrade") == "" {
		return w
	}
	cookie, err := r.Cookie(s.cookieName(r.TLS != nil))
	if err != nil {
		return w
	}
	return &watched{ResponseWriter: w, live: &s.live, hash: hashOf(cookie.Value)}
}

type watched struct {
	http.ResponseWriter
	live *live
	hash string
}

// Unwrap lets http.ResponseController reach what is not here.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker.
func (w *watched) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, b, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return w.live.add(w.hash, c), b, nil
}

// Check closes the websockets of sessions that are over.
func (s *Service) Check(ctx context.Context) error {
	hashes := s.live.hashes()
	if len(hashes) == 0 {
		return nil
	}
	rows, err := sessions(ctx, s.deps.DB, &db.Where{})
	if err != nil {
		return err
	}
	good := map[string]bool{}
	for _, r := range rows {
		if _, ok := s.deps.Caller(ctx, r.Protocol, r.Username); ok && s.now().Before(r.Expires) {
			good[r.Hash] = true
		}
	}
	for _, h := range hashes {
		if !good[h] {
			s.live.end(h)
		}
	}
	return nil
}
