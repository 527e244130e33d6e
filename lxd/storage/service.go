package storage

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/lock"
	"sett/lxd/op"
	"sett/lxd/storage/driver"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Deps are what the service works with.
type Deps struct {
	DB      *db.DB
	Bus     *event.Bus
	Locks   *lock.Manager
	Ops     *op.Manager // in whose history a clean-up is noted; may be nil
	Drivers *driver.Registry
	Log     *slog.Logger
	Dir     string        // LXD_DIR
	Here    *cluster.Here // this member
	Relay   *relay.Relay  // the way to the others
}

// Service holds the rules of storage pools and volumes.
type Service struct {
	Deps

	mu    sync.Mutex
	pools map[string]*pool // of this member, made or being made
	work  sync.WaitGroup
}

// New makes the service. Start makes it know the pools.
func New(d Deps) *Service { return &Service{Deps: d, pools: map[string]*pool{}} }

func ref(name string) entity.Ref { return entity.New(entity.StoragePool, "", name) }

// Load returns one pool.
func (s *Service) Load(ctx context.Context, name string) (Pool, error) {
	return s.loadPool(ctx, s.DB, name)
}

// List returns all pools by name.
func (s *Service) List(ctx context.Context) ([]Pool, error) { return s.loadPools(ctx, s.DB, nil) }

// user is something that keeps a pool in use.
type user struct {
	url   string
	image bool
}

// usersOf lists what uses each of the pools, by URL.
func (s *Service) usersOf(ctx context.Context, q db.Querier, ps ...Pool) (map[int64][]user, error) {
	ids := make([]int64, len(ps))
	names := map[int64]string{}
	for i, p := range ps {
		ids[i] = p.ID
		names[p.ID] = p.Name
	}
	rows, err := db.Select[userRow](ctx, q, stmtPoolUsers, db.JSON(ids), db.JSON(ids))
	if err != nil {
		return nil, err
	}
	out := map[int64][]user{}
	for _, r := range rows {
		u := user{}
		switch {
		case r.Type < 0:
			u.url = entity.New(entity.Profile, r.Project, r.Name).URL()
		default:
			t := types()[r.Type]
			u.url, u.image = userURL(Volume{Pool: names[r.Pool], Type: t, Project: r.Project, Name: r.Name}), t == driver.Image
		}
		out[r.Pool] = append(out[r.Pool], u)
	}
	for _, us := range out {
		slices.SortFunc(us, func(a, b user) int { return strings.Compare(a.url, b.url) })
	}
	return out, nil
}

// userURL is what stands behind a volume: its instance, its image, or itself.
func userURL(v Volume) string {
	switch v.Type {
	case driver.Image:
		return entity.New(entity.Image, "", v.Name).URL()
	case driver.Container, driver.VirtualMachine:
		return entity.New(entity.Instance, v.Project, v.Name).URL()
	}
	return v.Ref().URL()
}

// CheckName refuses names that cannot be a folder and part of a URL.
func CheckName(name string) error {
	switch {
	case name == "":
		return errs.Invalid("No name provided")
	case strings.Contains(name, "/"):
		return errs.Invalid("Storage pool names may not contain slashes")
	case name[0] == '.' || len(name) > 128 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }):
		return errs.Invalid("Invalid storage pool name %q", name)
	}
	return nil
}

func (s *Service) env(p Pool) driver.Env {
	log := s.Log.With("pool", p.Name)
	return driver.Env{Pool: p.Name, Config: maps.Clone(p.Config), Dir: s.Dir,
		Logf: func(format string, args ...any) { logf(log, format, args...) }}
}

// validate checks a configuration by the driver's tables and rules.
func (s *Service) validate(ctx context.Context, p Pool) (driver.Kind, error) {
	kind, err := s.Drivers.Kind(p.Driver)
	if err != nil {
		return nil, err
	}
	if err := driver.ValidatePool(kind, p.Config); err != nil {
		return nil, err
	}
	return kind, kind.Validate(ctx, s.env(p))
}

// CreatePool makes a pool on a server that stands alone, or is the only member. A daemon
// that dies on the way finds the pending record when it starts again and removes what
// there is.
func (s *Service) CreatePool(ctx context.Context, p Pool, by *event.Requestor) error {
	if err := s.checkNew(&p); err != nil {
		return err
	}
	if _, err := s.validate(ctx, p); err != nil {
		return err
	}
	unlock, err := s.Locks.Lock(ctx, "Creating storage pool", ref(p.Name))
	if err != nil {
		return err
	}
	defer unlock()

	var u undo.Stack
	u.OnError = func(err error) { s.Log.Warn("Could not take back a storage pool", "pool", p.Name, "err", err) }
	defer u.Run()
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.insertPool(ctx, tx, &p) })
	if err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return s.dropPool(ctx, p.ID)
	})
	rt, err := s.makeHere(ctx, p, &u, func(ctx context.Context, tx *db.Tx) error { return setState(ctx, tx, p.ID, stateCreated) })
	if err != nil {
		return err
	}
	u.Commit()
	s.keep(p.Name, rt)
	s.Bus.Lifecycle("storage-pool-created", ref(p.Name), by, map[string]any{"driver": p.Driver})
	return nil
}

// checkNew refuses what no new pool can be.
func (s *Service) checkNew(p *Pool) error {
	if err := CheckName(p.Name); err != nil {
		return err
	}
	if p.Driver == "" {
		return errs.Invalid("No driver provided")
	}
	p.Config = maps.Clone(p.Config)
	if p.Config == nil {
		p.Config = map[string]string{}
	}
	return nil
}

// makeHere makes this member's part of a pool whose record says that it is unsettled
// here, and settles that together with what also says.
func (s *Service) makeHere(ctx context.Context, p Pool, u *undo.Stack, also func(context.Context, *db.Tx) error) (*pool, error) {
	drv, err := s.Drivers.New(ctx, p.Driver, s.env(p))
	if err != nil {
		return nil, err
	}
	more, err := drv.CreatePool(ctx)
	if err != nil {
		return nil, err
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return drv.DeletePool(ctx)
	})
	p.Config = maps.Clone(p.Config)
	maps.Copy(p.Config, more)
	if err := drv.UpdatePool(ctx, maps.Clone(p.Config), nil); err != nil {
		return nil, err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.storeConfig(ctx, tx, p); err != nil {
			return err
		}
		if err := s.setHere(ctx, tx, p.ID, stateCreated); err != nil || also == nil {
			return err
		}
		return also(ctx, tx)
	})
	return mounted(drv), err
}

// cleanup is a context for taking things back, which must happen although the request
// has ended, but not take for ever.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}

func (s *Service) dropPool(ctx context.Context, id int64) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtPoolDelete, id)
		return err
	})
}

// UpdatePool replaces what a pool's configuration says. change sees the pool under the
// lock, before anything has changed, and says what it becomes.
func (s *Service) UpdatePool(ctx context.Context, name string, v view, by *event.Requestor, change func(Pool) (api.StoragePoolPut, error)) error {
	unlock, err := s.Locks.Lock(ctx, "Updating storage pool", ref(name))
	if err != nil {
		return err
	}
	defer unlock()
	old, err := s.Load(ctx, name)
	if err != nil {
		return err
	}
	put, err := change(old)
	if err != nil {
		return err
	}
	p := old
	p.Description = put.Description
	p.Config = map[string]string{}
	for k, v := range put.Config {
		if v != "" {
			p.Config[k] = v
		}
	}
	kind, err := s.Drivers.Kind(p.Driver)
	if err != nil {
		return err
	}
	if p.Config, err = v.merge(kind.PoolKeys(), old.Config, p.Config); err != nil {
		return err
	}
	// What cannot change at all comes first: its reason is the plainer one.
	d, err := kind.PoolKeys().Diff(old.Config, p.Config)
	if err != nil {
		return err
	}
	if _, err := s.validate(ctx, p); err != nil {
		return err
	}
	// All or none: members that are not there now cannot follow.
	others, err := s.Relay.Whole(ctx)
	if err != nil {
		return err
	}
	if err := s.applyHere(ctx, p, d.Changed); err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		tx.AfterCommit(func() { s.Bus.Lifecycle("storage-pool-updated", ref(p.Name), by, nil) })
		if v == viewMember { // what all share is changed by the leader meanwhile, maybe
			_, local := split(kind.PoolKeys(), p.Config)
			return storeLocal(ctx, tx, p.ID, s.Here.ID(), local)
		}
		if err := db.ExecOne(ctx, tx, stmtPoolText, p.Description, p.ID); err != nil {
			return err
		}
		return s.storeConfig(ctx, tx, p)
	})
	if err != nil || v == viewMember || len(d.Changed) == 0 {
		return err
	}
	failed := s.Relay.Tell(ctx, others, tellTime, func(cluster.Member) relay.Request {
		return relay.Request{Method: http.MethodPut, Path: internalPath(p.Name), Body: partPut{Changed: d.Changed}}
	})
	if err := relay.Join(failed); err != nil {
		return fmt.Errorf("The change is stored; members that are told of it too late follow at their next start: %w", err)
	}
	return nil
}

// applyHere has this member's part of a pool follow its configuration.
func (s *Service) applyHere(ctx context.Context, p Pool, changed []string) error {
	if len(changed) == 0 || p.here != stateCreated {
		return nil
	}
	rt, err := s.open(ctx, p.Name)
	if err != nil {
		return err
	}
	return rt.drv.UpdatePool(ctx, maps.Clone(p.Config), changed)
}

// DeletePool removes a pool that nothing uses from all members, with what images have
// cached in it.
func (s *Service) DeletePool(ctx context.Context, name string, by *event.Requestor) error {
	unlock, err := s.Locks.Lock(ctx, "Deleting storage pool", ref(name))
	if err != nil {
		return err
	}
	defer unlock()
	p, err := s.Load(ctx, name)
	if err != nil {
		return err
	}
	others, err := s.partners(ctx, p)
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		users, err := s.usersOf(ctx, tx, p)
		if err != nil {
			return err
		}
		for _, u := range users[p.ID] {
			if !u.image {
				return errs.Invalid("The storage pool is currently in use")
			}
		}
		// From here on nobody puts anything into it.
		return setState(ctx, tx, p.ID, stateErrored)
	})
	if err != nil {
		return err
	}
	failed := s.Relay.Tell(ctx, others, makeTime, func(cluster.Member) relay.Request {
		return relay.Request{Method: http.MethodDelete, Path: internalPath(name)}
	})
	if err := relay.Join(failed); err != nil {
		return fmt.Errorf("Storage pool %q is not deleted on all members; delete it again: %w", name, err)
	}
	if err := s.dropHere(ctx, p); err != nil {
		if len(p.members) == 1 { // it is there as before
			s.settle(ctx, p, stateCreated)
		}
		return err
	}
	if err := s.dropPool(ctx, p.ID); err != nil {
		return err
	}
	s.Bus.Lifecycle("storage-pool-deleted", ref(name), by, nil)
	return nil
}

// dropHere removes this member's part of a pool.
func (s *Service) dropHere(ctx context.Context, p Pool) error {
	if p.here == stateNone {
		return nil
	}
	if p.here == statePending { // nothing was made
		return s.offHere(ctx, p)
	}
	rt, err := s.runtime(ctx, p)
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.setHere(ctx, tx, p.ID, stateUnsettled) })
	if err != nil {
		return err
	}
	s.forget(p.Name)
	if err := rt.drv.DeletePool(ctx); err != nil {
		// It may be half gone; but it is there, and can be deleted again. Who wants to use
		// it mounts it anew, and learns then what is left of it.
		rt.spoil(fmt.Errorf("its deletion has failed: %w", err))
		ctx, cancel := cleanup(ctx)
		defer cancel()
		s.keep(p.Name, rt)
		if e := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.setHere(ctx, tx, p.ID, stateCreated) }); e != nil {
			s.Log.Error("Could not note that a storage pool is still there", "pool", p.Name, "err", e)
		}
		return err
	}
	return s.offHere(ctx, p)
}

func (s *Service) offHere(ctx context.Context, p Pool) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtPoolOffNode, p.ID, s.Here.ID())
		return err
	})
}

// settle notes how a pool stands when that cannot be part of something larger.
func (s *Service) settle(ctx context.Context, p Pool, to state) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return setState(ctx, tx, p.ID, to) }); err != nil {
		s.Log.Error("Could not note how a storage pool stands", "pool", p.Name, "err", err)
	}
}

// Resources says how full a pool is.
func (s *Service) Resources(ctx context.Context, name string) (driver.Resources, error) {
	if _, err := s.Load(ctx, name); err != nil {
		return driver.Resources{}, err
	}
	p, err := s.open(ctx, name)
	if err != nil {
		return driver.Resources{}, err
	}
	return p.drv.Resources(ctx)
}

// InUse names the drivers of the pools that there are, and their versions, the way
// /1.0 shows them: joined by " | ".
func (s *Service) InUse(ctx context.Context) (names, versions string, err error) {
	ps, err := db.Select[poolRow](ctx, s.DB, stmtPools) // every client asks for /1.0 first: one statement
	if err != nil {
		return "", "", err
	}
	used := map[string]bool{}
	for _, p := range ps {
		used[p.Driver] = true
	}
	var ns, vs []string
	for _, i := range s.Drivers.Supported(ctx) {
		if used[i.Name] {
			ns, vs = append(ns, i.Name), append(vs, i.Version)
		}
	}
	return strings.Join(ns, " | "), strings.Join(vs, " | "), nil
}
