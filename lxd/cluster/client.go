package cluster

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"sett/shared/errs"
)

// How long a member may take to answer at all. Members stand in one network; what
// takes longer than this is gone, and others wait for the verdict.
const (
	DialTime = time.Second
	// NotifyTime bounds what Notify waits for one member.
	NotifyTime = 3 * time.Second
)

// ErrUnreached is what a call ends with that got no connection: nobody was asked anything.
var ErrUnreached = errors.New("the member was not reached")

// unreached is why; that is what it says.
type unreached struct{ error }

func (u unreached) Unwrap() error { return u.error }

func (unreached) Is(err error) bool { return err == ErrUnreached }

func clientKey(p Peer) string { return p.Address + " " + p.Fingerprint() }

// Client calls a member: as this member, and sure of the other's certificate. It
// speaks HTTP/1.1, so connections can be upgraded. A request's own context bounds
// how long it takes; that nobody is there shows within about a second.
func (c *Cluster) Client(m Member) *http.Client {
	p, err := c.peerAt(m.Address)
	if err != nil {
		return &http.Client{Transport: failing{unreached{err}}}
	}
	k := clientKey(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl := c.clients[k]; cl != nil {
		return cl
	}
	sp := &spares{dial: func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, p) }}
	c.spares[k] = sp
	cl := &http.Client{
		Transport: &transport{connect: sp.take, Transport: &http.Transport{
			DialTLSContext:      func(ctx context.Context, _, _ string) (net.Conn, error) { return sp.take(ctx) },
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
			WriteBufferSize:     32 << 10,
			ReadBufferSize:      32 << 10,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.clients[k] = cl
	return cl
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// Dial opens a connection to the member at an address, with TLS both ways.
func (c *Cluster) Dial(ctx context.Context, address string) (net.Conn, error) {
	p, err := c.peerAt(address)
	if err != nil {
		return nil, err
	}
	return c.dial(ctx, p)
}

func (c *Cluster) dial(ctx context.Context, p Peer) (net.Conn, error) {
	cfg, err := c.tlsTo(p)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, DialTime)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return nil, errs.Wrap(errs.KindUnavailable, unreached{err})
	}
	NoticeSilence(raw)
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, errs.Wrap(errs.KindUnavailable, unreached{err})
	}
	return conn, nil
}

// tlsTo is how this member calls a peer: it shows its own certificate and takes no
// other one for the peer than the one that is known. Names and dates don't count.
func (c *Cluster) tlsTo(p Peer) (*tls.Config, error) {
	own, err := c.o.Identity.Own()
	if err != nil {
		return nil, err
	}
	cfg := Pinned(p.Fingerprint())
	cfg.ServerName = ServerName
	cfg.ClientSessionCache = c.sessionsOf(p)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	return cfg, nil
}

// sessionsOf remembers TLS sessions with a peer. Connections that are upgraded cannot be
// used again, so there are many; to take a session up anew spares both sides the
// signatures, which are most of what a connection costs. The certificates are those of
// the first handshake and are checked again.
func (c *Cluster) sessionsOf(p Peer) tls.ClientSessionCache {
	k := clientKey(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.sessions[k]
	if s == nil {
		s = tls.NewLRUClientSessionCache(4)
		c.sessions[k] = s
	}
	return s
}

// Pinned is a TLS configuration for calling a server of which only the fingerprint
// of its certificate is known.
func Pinned(fingerprint string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		InsecureSkipVerify: true, // the next lines verify more than names and dates
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errs.Forbidden("The other side shows no certificate")
			}
			sum := sha256.Sum256(s.PeerCertificates[0].Raw)
			if fingerprint == "" || hex.EncodeToString(sum[:]) != fingerprint {
				return errs.Forbidden("The other side shows a certificate that is not the one of the member that was called")
			}
			return nil
		},
	}
}

// MemberError is what a member answered instead of doing as it was told.
type MemberError struct {
	Member Member
	Err    error
}

func (e MemberError) Error() string { return "Cluster member " + e.Member.Name + ": " + e.Err.Error() }

func (e MemberError) Unwrap() error { return e.Err }

// Notify calls f for every other member, all at once, and returns what went wrong
// when all have answered or their time is over. Members that are offline are not
// waited for.
func (c *Cluster) Notify(ctx context.Context, f func(ctx context.Context, m Member) error) []MemberError {
	others, err := c.Others(ctx)
	if err != nil {
		return []MemberError{{Member: c.o.Here.Member(), Err: err}}
	}
	out := make([]error, len(others))
	var wg sync.WaitGroup
	for i, m := range others {
		if !c.Online(m) {
			out[i] = errs.Unavailable("It is offline")
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, NotifyTime)
			defer cancel()
			out[i] = f(ctx, m)
		})
	}
	wg.Wait()
	var failed []MemberError
	for i, err := range out {
		if err != nil {
			failed = append(failed, MemberError{others[i], err})
		}
	}
	return failed
}
