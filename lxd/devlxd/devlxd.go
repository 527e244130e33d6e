package devlxd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/instance"
)

// Images is where guests get images from.
type Images interface {
	// Guest finds an image that any guest may have and returns how to send it.
	Guest(ctx context.Context, fingerprint string) (func(http.ResponseWriter, *http.Request) error, error)
}

// Caller is the guest at the other end of a connection.
type Caller struct {
	Instance int64 // id
	UID      int64 // of the process, on the host
}

// Deps are what the service is built from.
type Deps struct {
	Instances *instance.Service
	Images    Images
	Log       *slog.Logger
	Dir       string        // LXD_DIR
	Location  func() string // the name of this member, "none" when alone
	// Who finds the guest that connected; nil asks the kernel. Tests have no guests.
	Who func(*net.UnixConn) (Caller, error)
}

// Service is the API for guests.
type Service struct {
	Deps
	http *http.Server
	l    *listener
	hub  hub
	seen recent
	done chan struct{}

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup // handlers of event streams
}

// New makes the service and listens. Guests that connect wait until Serve.
func New(d Deps) (*Service, error) {
	s := &Service{Deps: d, done: make(chan struct{})}
	who := (&finder{instances: d.Instances}).who
	if d.Who != nil {
		who = func(c *net.UnixConn) (find, error) {
			w, err := d.Who(c)
			return func() (Caller, error) { return w, nil }, err
		}
	}
	l, err := listen(filepath.Join(instance.GuestDir(d.Dir), "sock"))
	if err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.l = &listener{UnixListener: l, who: who, guests: map[int64]*guest{}}
	s.http = &http.Server{Handler: s.routes(), ConnContext: withCaller, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(d.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return s.ctx }}
	d.Instances.Watch(s)
	return s, nil
}

// listen makes the socket. A file that is there already was left by another life of
// the daemon. Every process of a guest may connect: who gets answers is told later.
func listen(path string) (*net.UnixListener, error) {
	// The folder is the very same for all guests that run: they have it mounted.
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for guests: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o666); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// Serve begins to answer, when the instances that run are known.
func (s *Service) Serve() {
	go func() {
		defer close(s.done)
		if err := s.http.Serve(s.l); !errors.Is(err, http.ErrServerClosed) {
			s.Log.Error("The socket of the guests' API failed", "err", err)
		}
	}()
}

// Close ends the service, also one that was never served.
func (s *Service) Close() {
	s.stop()
	_ = s.http.Close()
	_ = s.l.Close()
	s.wg.Wait()
}

type callerKey struct{}

func withCaller(ctx context.Context, c net.Conn) context.Context {
	g, ok := c.(*conn)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, g)
}

const (
	// maxOpen is how many connections one guest may hold; strangers count as one guest.
	maxOpen = 32
	// maxBusy is how many requests of one guest are answered at a time.
	maxBusy = 4
)

// listener hands out connections of which it knows whose they are.
type listener struct {
	*net.UnixListener
	who func(*net.UnixConn) (find, error)

	mu     sync.Mutex
	guests map[int64]*guest // by instance; 0 for those that are no guests
}

// guest is what one guest holds of the daemon now.
type guest struct {
	open int           // connections
	busy chan struct{} // takes one for each request that is being answered
}

// Accept implements net.Listener. Connections beyond what a guest may hold are closed
// at once.
func (l *listener) Accept() (net.Conn, error) {
	for {
		u, err := l.AcceptUnix()
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
			return nil, &temporary{err}
		}
		if err != nil {
			return nil, err
		}
		c := &conn{UnixConn: u, l: l}
		if c.find, c.err = l.who(u); c.err == nil {
			c.caller, c.err = c.find()
		}
		if c.err != nil {
			c.caller = Caller{}
		}
		c.slot = c.caller.Instance
		if c.guest = l.take(c.slot); c.guest == nil {
			_ = u.Close()
			continue
		}
		return c, nil
	}
}

// take counts a connection; nil says that the guest has too many.
func (l *listener) take(id int64) *guest {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.guests[id]
	if g == nil {
		g = &guest{busy: make(chan struct{}, maxBusy)}
		l.guests[id] = g
	}
	if g.open >= maxOpen {
		return nil
	}
	g.open++
	return g
}

func (l *listener) release(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g := l.guests[id]; g != nil {
		if g.open--; g.open == 0 {
			delete(l.guests, id)
		}
	}
}

// temporary has the HTTP server try again a little later.
type temporary struct{ error }

func (temporary) Timeout() bool   { return false }
func (temporary) Temporary() bool { return true }

// conn is one connection and whose it is.
type conn struct {
	*net.UnixConn
	l      *listener
	find   find // nil for a process that is in no container at all
	caller Caller
	slot   int64 // under which it is counted
	guest  *guest
	err    error // why no guest was found
	once   sync.Once
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.UnixConn.Close()
	c.once.Do(func() { c.l.release(c.slot) })
	return err
}
