package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"sett/lxd/certificate"
	"sett/lxd/cluster"
	"sett/lxd/member"
	"sett/lxd/server"
	"sett/shared/errs"
	"sett/shared/validate"
)

// https is the API's face on the network: one HTTP server whose listener may move
// from address to address while connections go on.
type https struct {
	log  *slog.Logger
	http *http.Server
	gate *gatekeeper

	mu      sync.Mutex
	address string // as configured
	l       net.Listener
	closed  bool
	wg      sync.WaitGroup
}

func newHTTPS(ctx context.Context, log *slog.Logger, h http.Handler, id *certificate.Identity) *https {
	s := &https{log: log, gate: newGatekeeper(log)}
	s.http = &http.Server{
		Handler: h, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx }, ConnContext: withGuarded,
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			// Certificates sign themselves; whether one is known is asked for each request.
			ClientAuth: tls.RequestClientCert,
			GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if h.ServerName == cluster.ServerName {
					return &id.Server().TLS, nil
				}
				return &id.Network().TLS, nil
			},
			NextProtos: []string{"h2", "http/1.1"},
		},
		// Bodies and answers may take as long as they need, from those who are known;
		// the chain bounds what strangers send.
		ReadHeaderTimeout: 10 * time.Second, // the TLS handshake too
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 256, SendPingTimeout: 30 * time.Second, WriteByteTimeout: 30 * time.Second},
	}
	return s
}

// Move listens on another address, or on none when it is empty. Connections over
// the old one go on: the client that asked for the move waits on one of them. When
// the new address cannot be had, the old one stays.
func (s *https) Move(ctx context.Context, address string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || address == s.address && (s.l != nil) == (address != "") {
		return nil
	}
	if address == "" {
		s.drop()
		return nil
	}
	l, err := listen(ctx, address)
	if errors.Is(err, syscall.EADDRINUSE) && s.l != nil {
		// It may be ourselves in our way, as "[::]:8443" is in that of "10.0.0.1:8443".
		old := s.address
		s.drop()
		if l, err = listen(ctx, address); err != nil {
			if back, berr := listen(ctx, old); berr == nil {
				s.serve(old, back)
			} else {
				s.log.Error("Lost the network address of the API", "address", old, "err", berr)
			}
		}
	}
	if err != nil {
		return errs.Invalid("Cannot listen on %q: %v", address, err)
	}
	s.drop()
	s.serve(address, l)
	return nil
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	hostPort, err := validate.ListenAddress(address)
	if err != nil {
		return nil, err
	}
	// A name may have to be resolved.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return (&net.ListenConfig{}).Listen(ctx, "tcp", hostPort)
}

// drop stops listening; connections go on. The lock is held.
func (s *https) drop() {
	if s.l != nil {
		_ = s.l.Close()
	}
	s.address, s.l = "", nil
}

// serve lets a listener in. The lock is held.
func (s *https) serve(address string, l net.Listener) {
	s.address, s.l = address, l
	s.log.Info("Listening on the network", "address", l.Addr())
	s.wg.Go(func() {
		err := s.http.ServeTLS(s.gate.guard(l), "", "")
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("The API on the network failed", "address", l.Addr(), "err", err)
		}
	})
}

// Address is where the API listens, with the true port; nil when it does not.
func (s *https) Address() *net.TCPAddr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l == nil {
		return nil
	}
	a, _ := s.l.Addr().(*net.TCPAddr)
	return a
}

// Close ends everything; the context bounds how long requests may go on.
func (s *https) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	s.drop()
	s.mu.Unlock()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	s.wg.Wait()
}

// retryListen is how often an address that could not be had is tried again.
const retryListen = 10 * time.Second

// startHTTPS begins to listen where the configuration says. An address that cannot
// be had, as its interface is not up yet or another program has it, is no reason
// for the daemon not to start: it is tried again until it is there or another one
// is configured.
func (d *Daemon) startHTTPS() {
	try := func() (done bool, err error) {
		// This member's own keys are enough, and there even when the database is not.
		c, err := d.st.Local.Config(d.ctx)
		if err != nil {
			return false, err
		}
		clients, members := server.HTTPSAddress.Get(c), d.membersAddress(c)
		if clients == "" && members == "" || d.https.Address() != nil && (members == "" || covers(clients, members)) { // somebody has configured another one
			return true, nil
		}
		return false, d.arrange(d.ctx, clients, members)
	}
	if _, err := try(); err != nil {
		d.log.Warn("The API is not on the network; trying again", "every", retryListen, "err", err)
		d.wg.Go(func() {
			t := time.NewTicker(retryListen)
			defer t.Stop()
			for {
				select {
				case <-d.ctx.Done():
					return
				case <-t.C:
				}
				if done, err := try(); done || err == nil {
					return
				}
			}
		})
	}
}

// followHTTPS moves the listener along with the configuration.
func (d *Daemon) followHTTPS(ctx context.Context, old, new map[string]string) (undo func(), err error) {
	from, to := server.HTTPSAddress.Get(old), server.HTTPSAddress.Get(new)
	if d.here.Clustered() && member.HTTPSAddress.Get(old) != member.HTTPSAddress.Get(new) {
		return nil, errs.Invalid("The address of a member cannot be changed while it is in a cluster; remove it from the cluster and let it join again")
	}
	if from == to {
		return nil, nil
	}
	members := d.membersAddress(new)
	if err := d.arrange(ctx, to, members); err != nil {
		return nil, err
	}
	return func() {
		if err := d.arrange(context.WithoutCancel(ctx), from, members); err != nil {
			d.log.Error("Could not listen on the old address again", "address", from, "err", err)
		}
	}, nil
}

// addresses are the host:port pairs under which clients reach the API.
func (d *Daemon) addresses() []string {
	out := []string{}
	for _, l := range []*https{d.https, d.peers} {
		if a := l.Address(); a != nil {
			out = append(out, expand(a)...)
		}
	}
	return out
}
