package store_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/lxd/db/node"
	"sett/lxd/db/store"
	"sett/lxd/dqlite"
)

const (
	put   db.Stmt = `INSERT INTO config (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`
	row   db.Stmt = `INSERT INTO nodes (id, name, address, schema, api_extensions) VALUES (?, ?, ?, 99, 0)`
	known db.Stmt = `UPDATE nodes SET schema = 99`
	keys  db.Stmt = `SELECT key FROM config ORDER BY key`
)

// machine is a server whose database others can call.
type machine struct {
	t    *testing.T
	dir  string
	addr string
	s    *store.Store
	node atomic.Pointer[store.Store] // s for who takes connections
	l    net.Listener
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir(), addr: l.Addr().String(), l: l}
	m.open()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = m.node.Load().Node().Serve(c) }()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		_ = m.s.Close(context.Background())
	})
	return m
}

func (m *machine) open() {
	m.t.Helper()
	var err error
	m.s, err = store.Open(m.t.Context(), store.Options{Dir: m.dir, Version: "test", Dial: func(ctx context.Context, a string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", a)
	}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.node.Store(m.s)
}

func (m *machine) put(key string) {
	m.t.Helper()
	err := m.s.Global.Update(m.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, put, key, "x")
		return err
	})
	if err != nil {
		m.t.Fatalf("write %s: %v", key, err)
	}
}

func (m *machine) want(all ...string) {
	m.t.Helper()
	got, err := db.Select[string](m.t.Context(), m.s.Global, keys)
	if err != nil || len(got) != len(all) {
		m.t.Fatalf("has %v, want %v: %v", got, all, err)
	}
	for i := range all {
		if got[i] != all[i] {
			m.t.Fatalf("has %v, want %v", got, all)
		}
	}
}

func (m *machine) enable() {
	m.t.Helper()
	err := m.s.Global.Update(m.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, known)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.s.Enable(m.t.Context(), node.Identity{ID: 1, Name: "m1", Address: m.addr}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) join(id int64, others ...*machine) (keep, undo func(context.Context) error) {
	m.t.Helper()
	err := others[0].s.Global.Update(m.t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, row, id, m.addr, m.addr)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	keep, undo, err = m.s.Join(m.t.Context(), node.Identity{ID: id, Name: "m", Address: m.addr}, members(others...))
	if err != nil {
		m.t.Fatal(err)
	}
	return keep, undo
}

func members(all ...*machine) []dqlite.Member {
	var out []dqlite.Member
	for i, o := range all {
		out = append(out, dqlite.Member{ID: uint64(i + 1), Address: o.addr})
	}
	return out
}

func TestServersBecomeACluster(t *testing.T) {
	t.Parallel()
	a, b, c := newMachine(t), newMachine(t), newMachine(t)
	a.put("a")
	b.put("b")
	a.enable()
	a.want("a")
	for i, m := range []*machine{b, c} {
		keep, _ := m.join(int64(i+2), a)
		if err := errors.Join(keep(t.Context()), m.s.DropOld()); err != nil {
			t.Fatal(err)
		}
		if err := a.s.Node().Assign(t.Context(), uint64(i+2), dqlite.Voter); err != nil {
			t.Fatal(err)
		}
		m.want("a")
	}
	if _, err := os.Stat(filepath.Join(b.dir, "database", "global.alone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the database from before is kept: %v", err)
	}
	c.put("c")
	all, err := a.s.Node().Members(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*machine{a, b, c} {
		m.want("a", "c")
		if err := m.s.Local.Members().Set(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}

	// The leader goes, and comes back as what it was.
	if err := a.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.put("d")
	a.open()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := a.s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	a.want("a", "c", "d")

	// One leaves, and has nothing left of it.
	if err := b.s.Node().Remove(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if err := c.s.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	c.want()
	c.put("own")
	a.want("a", "c", "d")
	if who, err := c.s.Local.Identity(ctx); err != nil || who != nil {
		t.Errorf("after leaving it is %+v, %v", who, err)
	}
}

func TestEnableAndJoinAreTakenBack(t *testing.T) {
	t.Parallel()
	a, b := newMachine(t), newMachine(t)
	a.put("a")
	b.put("b")
	back, err := a.s.Enable(t.Context(), node.Identity{ID: 1, Name: "m1", Address: a.addr})
	if err != nil {
		t.Fatal(err)
	}
	a.s.SetFull("a cluster without room")
	if err := back(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.put("a2")
	a.want("a", "a2")
	a.enable()
	a.put("a3") // what was said of another database does not count
	a.want("a", "a2", "a3")

	_, undo := b.join(2, a)
	b.want("a", "a2", "a3")
	if err := a.s.Node().Remove(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.want("b")
	b.put("b2")

	// Nobody is there.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	nobody := []dqlite.Member{{ID: 1, Address: "127.0.0.1:1"}}
	if _, _, err := b.s.Join(ctx, node.Identity{ID: 2, Name: "m", Address: b.addr}, nobody); err == nil {
		t.Fatal("joined nobody")
	}
	b.want("b", "b2")
	if turn, err := b.s.Local.Note(t.Context(), "turn"); err != nil || turn != "" {
		t.Errorf("a note is left: %q %v", turn, err)
	}
}

// TestAnOldFolderIsNeverPutBack: what an earlier join has set aside, and was killed before
// it could remove, is not what a later one goes back to.
func TestAnOldFolderIsNeverPutBack(t *testing.T) {
	t.Parallel()
	b := newMachine(t)
	b.put("b")
	old := filepath.Join(b.dir, "database", "global.alone")
	reopen := func(turn string) {
		t.Helper()
		if err := b.s.Local.SetNote(t.Context(), "turn", turn); err != nil {
			t.Fatal(err)
		}
		if err := b.s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.open()
		b.want("b")
	}
	stale := func() {
		t.Helper()
		if err := os.MkdirAll(old, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	stale()
	reopen("")
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is kept: %v", err)
	}
	// Killed in the next join, before the folder in use was set aside.
	stale()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.s.Join(ctx, node.Identity{ID: 2, Name: "m", Address: b.addr}, nil); err == nil {
		t.Fatal("joined nobody")
	}
	reopen("joining")
}

func TestKilledInTheMiddleOfJoiningStandsAlone(t *testing.T) {
	t.Parallel()
	a, b := newMachine(t), newMachine(t)
	b.put("b")
	a.enable()
	b.join(2, a)
	// Neither keep nor undo: the daemon was killed.
	if err := b.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.want("b")
	if err := a.s.Local.SetNote(t.Context(), "turn", "turning"); err != nil {
		t.Fatal(err)
	}
	if err := a.s.Node().Remove(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	a.put("a")
	if err := a.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.open()
	a.want("a")
	if who, err := a.s.Local.Identity(t.Context()); err != nil || who != nil {
		t.Errorf("it is still %+v, %v", who, err)
	}
}
