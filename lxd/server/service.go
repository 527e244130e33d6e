package server

import (
	"context"
	"maps"
	"sync"

	"sett/lxd/config"
	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/api"
)

var (
	stmtConfig      db.Stmt = `SELECT key, value FROM config`
	stmtConfigClear db.Stmt = `DELETE FROM config`
	stmtConfigAdd   db.Stmt = `INSERT INTO config (key, value) SELECT key, value FROM json_each(?)`
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
	// Stop asks the daemon to end, instances included when all is true. done gives
	// the outcome once nothing runs any more.
	Stop(all, force bool) (done <-chan error)
	// SQL runs statements of an administrator's on the "local" or "global" database.
	SQL(ctx context.Context, database, query string) (any, error)
	// Dump writes a database as SQL text.
	Dump(ctx context.Context, database string, schemaOnly bool) (string, error)
}

// Service answers for the server.
type Service struct {
	db     *db.DB
	ops    *op.Manager
	bus    *event.Bus
	daemon Daemon
	keys   config.Table

	change sync.Mutex // held from reading the configuration until what became of it is stored
	mu     sync.Mutex
	config map[string]string // as stored; nil until it has been read
}

// New makes the service.
func New(d *db.DB, ops *op.Manager, bus *event.Bus, daemon Daemon) *Service {
	return &Service{db: d, ops: ops, bus: bus, daemon: daemon, keys: Keys()}
}

// Config is the server's configuration.
func (s *Service) Config(ctx context.Context) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config != nil {
		return maps.Clone(s.config), nil
	}
	rows, err := db.Select[configRow](ctx, s.db, stmtConfig)
	if err != nil {
		return nil, err
	}
	s.config = map[string]string{}
	for _, r := range rows {
		s.config[r.Key] = r.Value
	}
	return maps.Clone(s.config), nil
}

// SetConfig replaces the server's configuration.
func (s *Service) SetConfig(ctx context.Context, c map[string]string, by *event.Requestor) error {
	if err := s.keys.Validate(c); err != nil {
		return err
	}
	maps.DeleteFunc(c, func(_, v string) bool { return v == "" })
	err := s.db.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.Exec(ctx, tx, stmtConfigClear); err != nil {
			return err
		}
		if len(c) == 0 {
			return nil
		}
		_, err := db.Exec(ctx, tx, stmtConfigAdd, db.JSONMap(c))
		return err
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.config = maps.Clone(c)
	s.mu.Unlock()
	s.bus.Lifecycle("config-updated", entity.New(entity.Server, ""), by, nil)
	return nil
}
