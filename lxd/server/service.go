package server

import (
	"context"
	"maps"
	"sync"

	"sett/lxd/cluster/relay"
	"sett/lxd/config"
	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/lxd/op/history"
	"sett/shared/api"
	"sett/shared/undo"
)

var (
	stmtConfig     db.Stmt = `SELECT key, value FROM config`
	stmtConfigDrop db.Stmt = `DELETE FROM config WHERE key IN (SELECT value FROM json_each(?))`
	stmtConfigAdd  db.Stmt = `INSERT INTO config (key, value) SELECT key, value FROM json_each(?)`
)

type configRow struct {
	Key   string `db:"key"`
	Value string `db:"value"`
}

// Daemon is what the endpoints ask of the daemon itself.
type Daemon interface {
	// Environment describes the machine; it is cheap.
	Environment(ctx context.Context) api.ServerEnvironment
	// Ready is closed when the daemon has done all that its start takes.
	Ready() <-chan struct{}
	// WaitReady waits for that, and tells what is in the way when it gives up.
	WaitReady(ctx context.Context) error
	// Stop asks the daemon to end, instances included when all is true. done gives
	// the outcome once nothing runs any more.
	Stop(all, force bool) (done <-chan error)
	// SQL runs statements of an administrator's on the "local" or "global" database.
	SQL(ctx context.Context, database, query string) (any, error)
	// Dump writes a database as SQL text.
	Dump(ctx context.Context, database string, schemaOnly bool) (string, error)
}

// Follower goes along with a change of the configuration before it is stored; an
// error refuses the change. undo, which may be nil, takes back what it did when the
// change cannot be stored.
type Follower func(ctx context.Context, old, new map[string]string) (undo func(), err error)

// Deps are what the service asks others for.
type Deps struct {
	DB     *db.DB // the cluster's
	Local  *db.DB // this member's own
	Ops    *op.Manager
	Bus    *event.Bus
	Daemon Daemon
	Relay  *relay.Relay // the way to the other members
	// History remembers operations; nil: nothing does.
	History *history.Store
}

// Service answers for the server.
type Service struct {
	db        *db.DB
	local     *db.DB
	ops       *op.Manager
	history   *history.Store
	bus       *event.Bus
	daemon    Daemon
	relay     *relay.Relay
	mesh      mesh
	keys      config.Table
	followers []Follower

	change sync.Mutex // held from reading the configuration until what became of it is stored
	mu     sync.Mutex
	config map[string]string // as stored; nil until it has been read
	forgot int               // how often it was forgotten
}

// New makes the service.
func New(d Deps) *Service {
	return &Service{db: d.DB, local: d.Local, ops: d.Ops, history: d.History, bus: d.Bus, daemon: d.Daemon, relay: d.Relay, keys: Keys()}
}

// Follow adds somebody who goes along with changes. It is called before any request.
func (s *Service) Follow(f Follower) { s.followers = append(s.followers, f) }

// Config is the server's configuration: what the cluster shares, and the keys that
// belong to this member.
func (s *Service) Config(ctx context.Context) (map[string]string, error) {
	s.mu.Lock()
	known, forgot := s.config, s.forgot
	s.mu.Unlock()
	if known != nil {
		return maps.Clone(known), nil
	}
	// Not under the lock: without a leader, those who come would wait for each other too.
	c := map[string]string{}
	for _, d := range []*db.DB{s.db, s.local} {
		rows, err := db.Select[configRow](ctx, d, stmtConfig)
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			c[r.Key] = r.Value
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgot == forgot { // what was read may be old otherwise
		s.config = c
	}
	return maps.Clone(c), nil
}

// ownConfig is what of the configuration belongs to this member.
func (s *Service) ownConfig(ctx context.Context) (map[string]string, error) {
	rows, err := db.Select[configRow](ctx, s.local, stmtConfig)
	c := map[string]string{}
	for _, r := range rows {
		c[r.Key] = r.Value
	}
	return c, err
}

// Forget makes the next reader look into the database, after another member has
// changed the configuration.
func (s *Service) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = nil
	s.forgot++
}

// SetConfig replaces the server's configuration.
func (s *Service) SetConfig(ctx context.Context, c map[string]string, by *event.Requestor) error {
	if err := s.keys.Validate(c); err != nil {
		return err
	}
	maps.DeleteFunc(c, func(_, v string) bool { return v == "" })
	old, err := s.Config(ctx)
	if err != nil {
		return err
	}
	if err := s.keys.Seal(old, c); err != nil {
		return err
	}
	var u undo.Stack
	defer u.Run()
	for _, f := range s.followers {
		back, err := f(ctx, old, c)
		if err != nil {
			return err
		}
		if back != nil {
			u.Push(func() error { back(); return nil })
		}
	}
	shared, own := s.split(c)
	wasShared, wasOwn := s.split(old)
	for _, part := range []struct {
		db       *db.DB
		was, now map[string]string
	}{{s.local, wasOwn, own}, {s.db, wasShared, shared}} {
		if maps.Equal(part.was, part.now) {
			continue
		}
		if err := store(ctx, part.db, part.was, part.now); err != nil {
			return err
		}
		u.Push(func() error { return store(context.WithoutCancel(ctx), part.db, part.now, part.was) })
	}
	u.Commit()
	s.mu.Lock()
	s.config = maps.Clone(c)
	s.forgot++ // who has read the old one meanwhile does not keep it
	s.mu.Unlock()
	if !maps.Equal(wasShared, shared) {
		s.tellOthers(ctx)
	}
	s.bus.Lifecycle("config-updated", entity.New(entity.Server, ""), by, nil)
	return nil
}

// split parts what all members share from what is this member's own.
func (s *Service) split(c map[string]string) (shared, own map[string]string) {
	shared, own = map[string]string{}, map[string]string{}
	for k, v := range c {
		if i, ok := s.keys.Lookup(k); ok && i.Local {
			own[k] = v
		} else {
			shared[k] = v
		}
	}
	return shared, own
}

// store writes the keys that have changed and leaves the others alone: another member
// may be changing them at the same time.
func store(ctx context.Context, d *db.DB, was, now map[string]string) error {
	drop, add := config.Changed(was, now), map[string]string{}
	for _, k := range drop {
		if v, ok := now[k]; ok {
			add[k] = v
		}
	}
	return d.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.Exec(ctx, tx, stmtConfigDrop, db.JSON(drop)); err != nil || len(add) == 0 {
			return err
		}
		_, err := db.Exec(ctx, tx, stmtConfigAdd, db.JSONMap(add))
		return err
	})
}
