package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/config"
	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/rest"
	"sett/lxd/storage/driver"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
)

// How long other members have for their part of a pool: to follow a change, and to make
// or remove what the pool lives on.
const (
	tellTime = 10 * time.Second
	makeTime = 2 * time.Minute
)

// view is what of a pool's configuration somebody sees or changes. In a cluster each
// member has keys of its own, which are no part of what all share.
type view int

const (
	viewAll    view = iota // of a server that stands alone
	viewShared             // what all members have alike
	viewMember             // a member's own, named by ?target=
)

// viewOf is the view that a request asks for.
func (s *Service) viewOf(r *rest.Request) view {
	switch {
	case !s.Here.Clustered():
		return viewAll
	case r.Query("target") != "":
		return viewMember
	}
	return viewShared
}

// merge makes the whole configuration out of what there was and what a caller with
// this view wants.
func (v view) merge(t config.Table, old, put map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for k, val := range put {
		i, _ := t.Lookup(k)
		switch {
		case v == viewShared && i.Local && val != old[k]:
			return nil, errs.Invalid("Config key %q is cluster member specific; name the member with --target", k)
		case v == viewMember && !i.Local && val != old[k]:
			return nil, errs.Invalid("Config key %q may not be used as member-specific key", k)
		}
		out[k] = val
	}
	for k, val := range old {
		if i, _ := t.Lookup(k); v == viewShared && i.Local || v == viewMember && !i.Local {
			out[k] = val
		}
	}
	return out, nil
}

func internalPath(pool string) string {
	return "/internal/storage-pools/" + url.PathEscape(pool)
}

// partPut tells a member to follow a change of the shared configuration.
type partPut struct {
	Changed []string `json:"changed"`
}

// DefinePool notes what a member brings to a pool that is to be made: its own keys. The
// pool is made on all members at once, by CreateEverywhere, when each has been told.
func (s *Service) DefinePool(ctx context.Context, p Pool, member string) error {
	if err := s.checkNew(&p); err != nil {
		return err
	}
	kind, err := s.Drivers.Kind(p.Driver)
	if err != nil {
		return err
	}
	for k := range p.Config {
		if i, ok := kind.PoolKeys().Lookup(k); !ok || !i.Local {
			return errs.Invalid("Config key %q may not be used as member-specific key", k)
		}
	}
	if err := driver.ValidatePool(kind, p.Config); err != nil {
		return err
	}
	m, err := s.Relay.Member(ctx, member)
	if err != nil {
		return err
	}
	unlock, err := s.Locks.Lock(ctx, "Defining storage pool", ref(p.Name))
	if err != nil {
		return err
	}
	defer unlock()
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		have, err := s.loadPool(ctx, tx, p.Name)
		switch {
		case errs.Is(err, errs.KindNotFound):
			if have.ID, err = db.Insert(ctx, tx, stmtPoolCreate, p.Name, p.Driver, p.Description); err != nil {
				return err
			}
		case err != nil:
			return err
		case have.state == stateCreated:
			return errs.Conflict("The storage pool %q already exists", p.Name)
		case have.Driver != p.Driver:
			return errs.Invalid("The storage pool %q is defined with the driver %q", p.Name, have.Driver)
		}
		_, err = db.Exec(ctx, tx, stmtPoolNode, have.ID, m.ID, int64(statePending))
		if errors.Is(err, db.ErrDuplicate) {
			return errs.Conflict("The storage pool already defined on member %q", m.Name)
		}
		if err != nil {
			return err
		}
		return storeLocal(ctx, tx, have.ID, m.ID, p.Config)
	})
}

// CreateEverywhere makes a pool on all members, each of which was told of it before.
// Where a member fails, its own part is taken back, the others keep theirs, and the pool
// is in error: it can be created once more, which leaves out what is there already, or
// be deleted.
func (s *Service) CreateEverywhere(ctx context.Context, p Pool, by *event.Requestor) error {
	if err := s.checkNew(&p); err != nil {
		return err
	}
	unlock, err := s.Locks.Lock(ctx, "Creating storage pool", ref(p.Name))
	if err != nil {
		return err
	}
	defer unlock()
	have, err := s.claimDefined(ctx, p)
	if err != nil {
		return err
	}
	others, err := s.Relay.Whole(ctx)
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.ExecOne(ctx, tx, stmtPoolText, p.Description, have.ID); err != nil {
			return err
		}
		return s.storeConfig(ctx, tx, have)
	})
	if err != nil {
		return err
	}
	if err := s.makePart(ctx, p.Name); err != nil {
		s.settle(ctx, have, stateErrored)
		return err
	}
	failed := s.Relay.Tell(ctx, others, makeTime, func(cluster.Member) relay.Request {
		return relay.Request{Method: http.MethodPost, Path: internalPath(p.Name)}
	})
	if err := relay.Join(failed); err != nil {
		s.settle(ctx, have, stateErrored)
		return fmt.Errorf("Storage pool %q is not made on all members; create it again, or delete it: %w", p.Name, err)
	}
	if err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return setState(ctx, tx, have.ID, stateCreated) }); err != nil {
		return err
	}
	s.Bus.Lifecycle("storage-pool-created", ref(p.Name), by, map[string]any{"driver": p.Driver})
	return nil
}

// claimDefined checks that a pool has been defined on all members, and returns it with
// the shared keys that it gets now.
func (s *Service) claimDefined(ctx context.Context, p Pool) (Pool, error) {
	kind, err := s.Drivers.Kind(p.Driver)
	if err != nil {
		return p, err
	}
	for k := range p.Config {
		if i, _ := kind.PoolKeys().Lookup(k); i.Local {
			return p, errs.Invalid("Config key %q is cluster member specific", k)
		}
	}
	have, err := s.Load(ctx, p.Name)
	if errs.Is(err, errs.KindNotFound) {
		return p, errs.Invalid("Pool not pending on any node (use --target <node> first)")
	}
	if err != nil {
		return p, err
	}
	if have.state == stateCreated {
		return p, errs.Conflict("The storage pool is already created")
	}
	if have.Driver != p.Driver {
		return p, errs.Invalid("The storage pool %q is defined with the driver %q", p.Name, have.Driver)
	}
	ms, err := s.Relay.Members(ctx)
	if err != nil {
		return p, err
	}
	var lacking []string
	for _, m := range ms {
		if !slices.ContainsFunc(have.members, func(x poolMember) bool { return x.ID == m.ID }) {
			lacking = append(lacking, m.Name)
		}
	}
	if len(lacking) > 0 {
		return p, errs.Invalid("Pool not defined on nodes: %s", strings.Join(lacking, ", "))
	}
	have.Description = p.Description
	_, local := split(kind.PoolKeys(), have.Config)
	have.Config = maps.Clone(p.Config)
	maps.Copy(have.Config, local)
	_, err = s.validate(ctx, have)
	return have, err
}

// partners lists the other members that have made their part of a pool. All of them
// must be there to change it.
func (s *Service) partners(ctx context.Context, p Pool) ([]cluster.Member, error) {
	others, err := s.Relay.Others(ctx)
	if err != nil {
		return nil, err
	}
	var out []cluster.Member
	var off []string
	for _, m := range others {
		i := slices.IndexFunc(p.members, func(x poolMember) bool { return x.ID == m.ID })
		switch {
		case i < 0 || p.members[i].State == statePending:
		case !s.Relay.Online(m):
			off = append(off, m.Name)
		default:
			out = append(out, m)
		}
	}
	if len(off) > 0 {
		return nil, errs.Unavailable("Storage pool %q is also on the cluster members %s, which are offline", p.Name, strings.Join(off, ", "))
	}
	return out, nil
}

// makePart makes this member's part of a pool that is defined here. What is made already
// stays as it is.
func (s *Service) makePart(ctx context.Context, name string) error {
	p, err := s.Load(ctx, name)
	switch {
	case err != nil:
		return err
	case p.here == stateNone:
		return errs.Invalid("Storage pool %q is not defined on member %q", name, s.Here.Name())
	case p.here == stateCreated && s.lookup(name) != nil:
		return nil
	case p.here == stateUnsettled:
		return errs.Unavailable("Storage pool %q is being made or removed on member %q", name, s.Here.Name())
	}
	if _, err := s.validate(ctx, p); err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = func(err error) { s.Log.Warn("Could not take back a storage pool", "pool", name, "err", err) }
	defer u.Run()
	if err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.setHere(ctx, tx, p.ID, stateUnsettled) }); err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			// With the keys as they were given, not as a half-made pool has filled them in.
			kind, err := s.Drivers.Kind(p.Driver)
			if err != nil {
				return err
			}
			_, local := split(kind.PoolKeys(), p.Config)
			if err := storeLocal(ctx, tx, p.ID, s.Here.ID(), local); err != nil {
				return err
			}
			return s.setHere(ctx, tx, p.ID, statePending)
		})
	})
	rt, err := s.makeHere(ctx, p, &u, nil)
	if err != nil {
		return err
	}
	u.Commit()
	s.keep(name, rt)
	return nil
}

// The endpoints with which one member tells another one to do its part.

func (s *Service) handlePartMake(ctx context.Context, r *rest.Request) (rest.Response, error) {
	unlock, err := s.Locks.Lock(ctx, "Creating storage pool", ref(r.Name()))
	if err != nil {
		return nil, err
	}
	defer unlock()
	return rest.Empty(), s.makePart(ctx, r.Name())
}

func (s *Service) handlePartPut(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[partPut](r)
	if err != nil {
		return nil, err
	}
	unlock, err := s.Locks.Lock(ctx, "Updating storage pool", ref(r.Name()))
	if err != nil {
		return nil, err
	}
	defer unlock()
	p, err := s.Load(ctx, r.Name())
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.applyHere(ctx, p, b.Changed)
}

func (s *Service) handlePartDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	unlock, err := s.Locks.Lock(ctx, "Deleting storage pool", ref(r.Name()))
	if err != nil {
		return nil, err
	}
	defer unlock()
	p, err := s.Load(ctx, r.Name())
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.dropHere(ctx, p)
}

// JoinConfig lists what a server that joins must say about its part of each pool: the
// keys that this member has set of its own.
func (s *Service) JoinConfig(ctx context.Context) ([]api.ClusterMemberConfigKey, error) {
	ps, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	out := []api.ClusterMemberConfigKey{}
	for _, p := range ps {
		kind, err := s.Drivers.Kind(p.Driver)
		if err != nil {
			return nil, err
		}
		for _, i := range kind.PoolKeys().Keys() {
			if i.Local && !i.Volatile && p.Config[i.Name] != "" {
				out = append(out, api.ClusterMemberConfigKey{Entity: "storage-pool", Name: p.Name, Key: i.Name,
					Description: fmt.Sprintf("%q property for storage pool %q", i.Name, p.Name)})
			}
		}
	}
	return out, nil
}

// CreateHere makes this member's part of every pool of the cluster that it has just
// become a member of. given are the keys that the administrator said for it; what he
// did not say, the drivers choose. Where one fails, those that were made are taken back.
func (s *Service) CreateHere(ctx context.Context, given []api.ClusterMemberConfigKey) error {
	var u undo.Stack
	u.OnError = func(err error) { s.Log.Warn("Could not take back a storage pool", "err", err) }
	defer u.Run()
	ps, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.state != stateCreated || p.here == stateCreated {
			continue // what is not whole is told to this member when it is made whole
		}
		kind, err := s.Drivers.Kind(p.Driver)
		if err != nil {
			return err
		}
		own := map[string]string{}
		for _, g := range given {
			if g.Entity != "storage-pool" || g.Name != p.Name || g.Value == "" {
				continue
			}
			if i, ok := kind.PoolKeys().Lookup(g.Key); !ok || !i.Local {
				return errs.Invalid("Storage pool %q: %q is no key that each member has of its own", p.Name, g.Key)
			}
			own[g.Key] = g.Value
		}
		if err := s.joinPool(ctx, p, own, &u); err != nil {
			return fmt.Errorf("Storage pool %q: %w", p.Name, err)
		}
	}
	u.Commit()
	return nil
}

// DeleteHere removes this member's part of every pool: it is about to be no member.
func (s *Service) DeleteHere(ctx context.Context) error {
	ps, err := s.List(ctx)
	if err != nil {
		return err
	}
	var all []error
	for _, p := range ps {
		all = append(all, s.dropHere(ctx, p))
	}
	return errors.Join(all...)
}

func (s *Service) joinPool(ctx context.Context, p Pool, own map[string]string, u *undo.Stack) error {
	unlock, err := s.Locks.Lock(ctx, "Creating storage pool", ref(p.Name))
	if err != nil {
		return err
	}
	defer unlock()
	if p.here == stateNone {
		err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, stmtPoolNode, p.ID, s.Here.ID(), int64(statePending))
			if err != nil {
				return err
			}
			return storeLocal(ctx, tx, p.ID, s.Here.ID(), own)
		})
		if err != nil {
			return err
		}
	}
	if err := s.makePart(ctx, p.Name); err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		p, err := s.Load(ctx, p.Name)
		if err != nil {
			return err
		}
		return s.dropHere(ctx, p)
	})
	return nil
}
