// Package clustertest is a cluster for tests of single slices: members over one
// database in memory, each with a handler of the test's, that reach each other without
// certificates.
package clustertest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
)

// mark tells the connections of members in tests.
const mark = "X-Test-Member"

// Member is one of the members.
type Member struct {
	Here    *cluster.Here
	Cluster *cluster.Cluster
	Relay   *relay.Relay
	// Down has it answer nobody.
	Down   atomic.Bool
	server *httptest.Server
	open   *listener
}

const (
	stmtFirst db.Stmt = `UPDATE nodes SET name = 'm1', address = 'm1.test:8443' WHERE id = 1`
	stmtMore  db.Stmt = `INSERT INTO nodes (id, name, address, schema, api_extensions) VALUES (?, ?, ?, 1, 0)`
)

// New makes n members, m1 to mn, in a database that holds a lone server so far.
func New(t testing.TB, d *db.DB, n int) []*Member {
	t.Helper()
	dbtest.Exec(t, d, stmtFirst)
	all := make([]*Member, n)
	for i := range all {
		name := fmt.Sprintf("m%d", i+1)
		m := cluster.Member{ID: int64(i + 1), Name: name, Address: name + ".test:8443"}
		if i > 0 {
			dbtest.Exec(t, d, stmtMore, m.ID, m.Name, m.Address)
		}
		here := cluster.Alone()
		here.Set(m)
		c := cluster.New(cluster.Options{DB: d, Here: here})
		var peers []cluster.Peer
		for j := range n {
			peers = append(peers, cluster.Peer{Name: fmt.Sprintf("m%d", j+1), Address: fmt.Sprintf("m%d.test:8443", j+1)})
		}
		c.SetPeers(peers)
		all[i] = &Member{Here: here, Cluster: c, Relay: relay.Over(c, func(to cluster.Member) http.RoundTripper { return wire{all, to} })}
	}
	return all
}

// Serve has the member answer with a handler until the end of the test.
func (m *Member) Serve(t testing.TB, h http.Handler) {
	t.Helper()
	m.server = httptest.NewUnstartedServer(h)
	l := &listener{Listener: m.server.Listener}
	m.server.Listener = l
	m.server.Start()
	m.open = l
	t.Cleanup(m.server.Close)
	t.Cleanup(m.Cut)
}

// listener remembers its connections, those that were upgraded among them.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

// Cut breaks the connections that the member has now.
func (m *Member) Cut() {
	m.open.mu.Lock()
	defer m.open.mu.Unlock()
	for _, c := range m.open.conns {
		_ = c.Close()
	}
	m.open.conns = nil
}

// URL is where clients of the test reach the member.
func (m *Member) URL() string { return m.server.URL }

// Caller is who calls: a member, or, for all others, who is given.
func Caller(other auth.Caller) func(*http.Request) (auth.Caller, error) {
	return func(r *http.Request) (auth.Caller, error) {
		if name := r.Header.Get(mark); name != "" {
			return auth.Caller{Protocol: auth.Cluster, Username: name, Admin: true}, nil
		}
		return other, nil
	}
}

// Mark makes a request one of a member's.
func Mark(r *http.Request) { r.Header.Set(mark, "somebody") }

type wire struct {
	all []*Member
	to  cluster.Member
}

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	for _, m := range w.all {
		if m.Here.Address() != w.to.Address {
			continue
		}
		if m.Down.Load() || m.server == nil {
			return nil, errors.New("connection refused")
		}
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host = "http", strings.TrimPrefix(m.server.URL, "http://")
		Mark(r)
		return http.DefaultTransport.RoundTrip(r)
	}
	return nil, errors.New("no such member")
}
