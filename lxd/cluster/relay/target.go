package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"sett/shared/errs"
)

// Target is another member, and the way to it.
type Target struct {
	Name string
	// URL is where its API begins: "https://10.0.0.2:8443".
	URL *url.URL
	// Via sends requests, with this member's certificate and over connections that
	// are kept. It must speak HTTP/1.1, the only one that can be upgraded.
	Via http.RoundTripper
	// Alive, when there is one, is asked now and then whether the member still
	// answers. What waits for a member that does not is given up.
	Alive func() bool
	// Guessed marks a member that may not have what a request is about any more. When it
	// has done nothing, Forward returns ErrElsewhere, and the client has been told nothing.
	Guessed bool
}

// ErrElsewhere is what a guess that was wrong ends with.
var ErrElsewhere = errors.New("what the request is about may be on another member")

// look is how often a waiting request asks whether its member is still alive.
const look = time.Second

// gone is the error for a member that does not answer.
func (t Target) gone(err error) error {
	return errs.Wrap(errs.KindUnavailable, &goneError{t.Name, err})
}

type goneError struct {
	name string
	err  error
}

func (e *goneError) Error() string {
	return fmt.Sprintf("Cluster member %q does not answer: %v", e.name, e.err)
}

func (e *goneError) Unwrap() error { return e.err }

var errNotAlive = errors.New("it has sent no sign of life for too long")

// watched is a context that ends, with errNotAlive, when the member is found dead.
func (t Target) watched(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if t.Alive == nil {
		return ctx, func() { cancel(nil) }
	}
	go func() {
		tick := time.NewTicker(look)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if !t.Alive() {
					cancel(errNotAlive)
				}
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Forward hands a client's request over and its answer back, as they come: nothing
// is held until it is whole. An upgraded connection is passed on in both directions,
// each of which may end on its own. Errors that are told before the answer has begun
// are returned; later ones break the connection off, as the member's own would.
func (t Target) Forward(w http.ResponseWriter, r *http.Request, as Identity, log *slog.Logger) error {
	if t.Alive != nil && !t.Alive() {
		return t.gone(errNotAlive)
	}
	ctx, done := t.watched(r.Context())
	defer done()
	var failed error
	rp := httputil.ReverseProxy{
		Transport:     t.Via,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(t.URL)
			// As the client has it: what a browser says of its origin is compared with it.
			pr.Out.Host = pr.In.Host
			pr.Out.Header.Del("Authorization")
			pr.Out.Header.Del("Cookie")
			as.Mark(pr.Out.Header)
		},
		ModifyResponse: func(resp *http.Response) error {
			if t.Guessed && resp.Header.Get(headerElsewhere) != "" {
				return ErrElsewhere
			}
			Strip(resp.Header)
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	}
	rp.ServeHTTP(&writer{ResponseWriter: w}, r.WithContext(ctx))
	switch {
	case failed == nil:
		return nil
	case r.Context().Err() != nil:
		return r.Context().Err()
	case failed == ErrElsewhere:
		return failed
	case context.Cause(ctx) != nil:
		return t.gone(context.Cause(ctx))
	}
	return t.gone(plain(failed))
}

// plain is the reason without the URL and the method in front, which say nothing to
// a client that knows of no second request.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	// A connection that has been silent for too long was closed on our side.
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return errLate
	}
	return err
}

var errLate = errors.New("no answer in time")

// writer gives hijacked connections the bytes that were read ahead of time: a client
// may send before it has been told that the protocol was changed.
type writer struct{ http.ResponseWriter }

func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil || rw.Reader.Buffered() == 0 {
		return c, rw, err
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return c, rw, err
	}
	return &ahead{Conn: c, early: append([]byte(nil), early...)}, rw, nil
}

type ahead struct {
	net.Conn
	early []byte
}

func (a *ahead) Read(b []byte) (int, error) {
	if len(a.early) > 0 {
		n := copy(b, a.early)
		a.early = a.early[n:]
		return n, nil
	}
	return a.Conn.Read(b)
}

// CloseWrite ends one direction.
func (a *ahead) CloseWrite() error {
	if c, ok := a.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errs.Internal("A connection of type %T cannot be closed for writing only", a.Conn)
}

// drop reads a body to its end, within bounds, so that the connection can be used again.
func drop(b io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, b, 64<<10)
	_ = b.Close()
}
