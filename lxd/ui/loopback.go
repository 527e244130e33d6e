package ui

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"sett/shared/errs"
)

// loopback is the listener of a server that has no network address. It speaks plain
// HTTP, which never leaves the machine, and knows nobody but by a session's cookie.
type loopback struct {
	id   string // goes into sessions, which are good on this listener only
	url  string
	http *http.Server
	done chan struct{}
}

type listenerKey struct{}

// listenerOf is the id of the listener that a request came by when sessions are bound
// to it, or "".
func listenerOf(ctx context.Context) string {
	id, _ := ctx.Value(listenerKey{}).(string)
	return id
}

// listenLoopback listens on an address of 127/8 that is this daemon's own. Cookies know
// hosts and no ports: on 127.0.0.1 the browser would show ours to whatever other local
// users serve there.
func listenLoopback(name string) (net.Listener, error) {
	sum := sha256.Sum256([]byte("web interface of " + name))
	own := net.IPv4(127, 64+sum[0]%128, sum[1], 1+sum[2]%254)
	l, err := net.Listen("tcp4", net.JoinHostPort(own.String(), "0"))
	if err != nil { // not every system answers on all of 127/8
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	return l, err
}

// serveLoopback starts the listener unless it runs, and returns its URL.
func (s *Service) serveLoopback() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.api == nil {
		return "", errs.Unavailable("LXD is shutting down")
	}
	if s.local != nil {
		return s.local.url, nil
	}
	l, err := s.deps.Listen()
	if err != nil {
		return "", errs.Unavailable("Cannot listen on loopback for the web interface: %v", err)
	}
	var b [16]byte
	_, _ = rand.Read(b[:])
	lo := &loopback{id: hex.EncodeToString(b[:]), url: "http://" + l.Addr().String() + "/ui/", done: make(chan struct{})}
	lo.http = &http.Server{
		Handler:           guardHost(s.api),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, listenerKey{}, lo.id)
		},
	}
	go func() {
		defer close(lo.done)
		if err := lo.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.deps.Log.Error("The listener of the web interface failed", "err", err)
		}
	}()
	s.deps.Log.Info("Serving the web interface on loopback", "url", lo.url)
	s.local = lo
	return lo.url, nil
}

// listens reports whether sessions of a listener can be used still: those of the network
// always, those of loopback as long as that listener is there.
func (s *Service) listens(listener string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return listener == "" || s.local != nil && s.local.id == listener
}

// guardHost refuses requests for names that are not loopback's: a name of an
// attacker's that resolves to loopback makes his page and ours one origin.
func guardHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "This listener answers on loopback only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Serve gives the web interface the API, with its pages before it, to serve on
// loopback when somebody asks for a link.
func (s *Service) Serve(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.api = h
}

// Close ends the listener on loopback.
func (s *Service) Close(ctx context.Context) {
	s.mu.Lock()
	lo := s.local
	s.local, s.closed = nil, true
	s.mu.Unlock()
	if lo == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if lo.http.Shutdown(ctx) != nil {
		_ = lo.http.Close()
	}
	<-lo.done
}
