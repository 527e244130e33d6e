package network

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
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/network/driver"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// How long other members have to do their part, and to tell of their leases.
const (
	tellTime  = 20 * time.Second
	leaseTime = time.Second
)

// view is what of a network's configuration somebody sees or changes. In a cluster
// each member has keys of its own, which are no part of what all share.
type view int

const (
	viewAll    view = iota // of a server that stands alone
	viewShared             // what all members have alike
	viewMember             // a member's own, named by ?target=
)

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
	if v == viewAll {
		return put, nil
	}
	for k, val := range put {
		i, _ := t.Lookup(k)
		switch {
		case v == viewShared && i.Local && val != old[k]:
			return nil, errs.Invalid("Config key %q is cluster member specific; name the member with --target", k)
		case v == viewMember && !i.Local && val != old[k]:
			return nil, errs.Invalid("Config key %q may not be used as member-specific key", k)
		}
	}
	shared, own := split(t, old)
	if v == viewShared {
		shared, _ = split(t, put)
	} else {
		_, own = split(t, put)
	}
	maps.Copy(shared, own)
	return shared, nil
}

// split parts the keys that all members share from those that each has of its own.
func split(t config.Table, c map[string]string) (shared, own map[string]string) {
	shared, own = map[string]string{}, map[string]string{}
	for k, v := range c {
		if i, _ := t.Lookup(k); i.Local {
			own[k] = v
		} else {
			shared[k] = v
		}
	}
	return shared, own
}

func internalPath(n Network) string {
	return "/internal/networks/" + url.PathEscape(n.Name) + "?project=" + url.QueryEscape(n.Project)
}

// partPut tells a member to follow a change of the shared configuration, of which the
// database has the new one.
type partPut struct {
	Old map[string]string `json:"old"`
}

// createIn makes a network: on this server, when there is no other one; or notes what
// the member that ?target= names brings to it; or, without that, on all members.
func (s *Service) createIn(ctx context.Context, n Network, r *rest.Request) error {
	target, by := r.Query("target"), r.Caller().Requestor()
	if !s.Here.Clustered() {
		if target != "" {
			return errs.Invalid("Target only allowed when clustered")
		}
		return s.Create(ctx, n, by)
	}
	if target != "" {
		return s.Define(ctx, n, target)
	}
	ms, err := s.Relay.Members(ctx)
	if err != nil {
		return err
	}
	if len(ms) > 1 {
		return s.CreateEverywhere(ctx, n, by)
	}
	if _, err := s.Load(ctx, n.Project, n.Name); err == nil { // told of before
		return s.CreateEverywhere(ctx, n, by)
	}
	return s.Create(ctx, n, by)
}

// checkNew refuses what no new network can be, and gives it its type.
func (s *Service) checkNew(n *Network) (driver.Driver, error) {
	if err := checkName(n.Name); err != nil {
		return nil, err
	}
	if n.Type == "" {
		n.Type = "bridge"
	}
	d, err := s.driver(n.Type)
	if err != nil {
		return nil, err
	}
	if n.Project != entity.DefaultProject {
		return nil, errs.Invalid("Networks of type %q can be in the default project only", n.Type)
	}
	return d, nil
}

// Define notes what a member brings to a network that is to be made: its own keys. The
// network is made on all members at once, by CreateEverywhere.
func (s *Service) Define(ctx context.Context, n Network, target string) error {
	d, err := s.checkNew(&n)
	if err != nil {
		return err
	}
	n.Config = clean(n.Config)
	for k := range n.Config {
		if i, ok := d.Keys(n.Config).Lookup(k); !ok || !i.Local {
			return errs.Invalid("Config key %q may not be used as member-specific key", k)
		}
	}
	if err := s.validate(d, n); err != nil {
		return err
	}
	m, err := s.Relay.Member(ctx, target)
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, "defining network "+n.Name, n.Name)
	if err != nil {
		return err
	}
	defer unlock()
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		have, err := s.one(ctx, tx, n.Project, n.Name)
		switch {
		case errs.Is(err, errs.KindNotFound):
			if have.ID, err = db.Insert(ctx, tx, stmtCreate, n.Name, n.Description, n.Type, n.Project); err != nil {
				return err
			}
		case err != nil:
			return err
		case have.State == created:
			return errs.Conflict("The network already exists")
		case have.Type != n.Type:
			return errs.Invalid("The network %q is defined with the type %q", n.Name, have.Type)
		}
		err = db.ExecOne(ctx, tx, stmtJoin, have.ID, m.ID, pending)
		if errors.Is(err, db.ErrDuplicate) {
			return errs.Conflict("The network is already defined on member %q", m.Name)
		}
		if err != nil {
			return err
		}
		return setOwn(ctx, tx, have.ID, m.ID, n.Config)
	})
}

// CreateEverywhere makes a network on all members, each of which was told of it before.
// Where a member fails, its own part is taken back, the others keep theirs, and the
// network is in error: it can be created once more, or be deleted.
func (s *Service) CreateEverywhere(ctx context.Context, n Network, by *event.Requestor) error {
	d, err := s.checkNew(&n)
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, "creating network "+n.Name, n.Name)
	if err != nil {
		return err
	}
	defer unlock()
	others, err := s.Relay.Whole(ctx)
	if err != nil {
		return err
	}
	if n, err = s.claimDefined(ctx, d, n); err != nil {
		return err
	}
	if err := s.makePart(ctx, n.Project, n.Name); err != nil {
		s.settle(ctx, n, errored)
		return err
	}
	failed := s.Relay.Tell(ctx, others, tellTime, func(cluster.Member) relay.Request {
		return relay.Request{Method: http.MethodPost, Path: internalPath(n)}
	})
	if err := relay.Join(failed); err != nil {
		s.settle(ctx, n, errored)
		return fmt.Errorf("Network %q is not made on all members; create it again, or delete it: %w", n.Name, err)
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := setState(ctx, tx, n.ID, created); err != nil {
			return err
		}
		tx.AfterCommit(func() { s.Bus.Lifecycle("network-created", n.Ref(), by, map[string]any{"type": n.Type}) })
		return nil
	})
}

// claimDefined checks that a network has been defined on all members, and stores the
// shared keys that it gets now, with what is picked where they leave something open.
func (s *Service) claimDefined(ctx context.Context, d driver.Driver, n Network) (Network, error) {
	n.Config = clean(n.Config)
	for k := range n.Config {
		if i, _ := d.Keys(n.Config).Lookup(k); i.Local {
			return n, errs.Invalid("Config key %q is cluster member specific", k)
		}
	}
	s.picking.Lock()
	defer s.picking.Unlock()
	have, err := s.Load(ctx, n.Project, n.Name)
	if errs.Is(err, errs.KindNotFound) {
		return n, errs.Invalid("Network not pending on any node (use --target <node> first)")
	}
	if err != nil {
		return n, err
	}
	if have.State == created {
		return n, errs.Conflict("The network is already created")
	}
	if have.Type != n.Type {
		return n, errs.Invalid("The network %q is defined with the type %q", n.Name, have.Type)
	}
	ms, err := s.Relay.Members(ctx)
	if err != nil {
		return n, err
	}
	var lacking []string
	for _, m := range ms {
		if !slices.ContainsFunc(have.members, func(x member) bool { return x.ID == m.ID }) {
			lacking = append(lacking, m.Name)
		}
	}
	if len(lacking) > 0 {
		return n, errs.Invalid("Network not defined on nodes: %s", strings.Join(lacking, ", "))
	}
	have.Description = n.Description
	// What an attempt before this one has picked is in use where that went well.
	maps.Copy(have.Config, n.Config)
	if have, err = s.fill(ctx, d, have); err != nil {
		return n, err
	}
	return have, s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.ExecOne(ctx, tx, stmtDescribe, have.Description, have.ID); err != nil {
			return err
		}
		return s.setConfig(ctx, tx, have)
	})
}

// settle notes how a network stands when that cannot be part of something larger.
func (s *Service) settle(ctx context.Context, n Network, to int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return setState(ctx, tx, n.ID, to) }); err != nil {
		s.Log.Error("Could not note how a network stands", "network", n.Name, "err", err)
	}
}

// makePart starts this member's part of a network that is defined here. A part that
// was made before is brought to what the network is now.
func (s *Service) makePart(ctx context.Context, project, name string) error {
	n, err := s.one(ctx, s.DB, project, name)
	if err != nil {
		return err
	}
	d, err := s.driver(n.Type)
	if err != nil {
		return err
	}
	back := context.WithoutCancel(ctx)
	var u undo.Stack
	u.OnError = func(err error) { s.Log.Error("Could not undo the creation of a network", "network", name, "err", err) }
	defer u.Run()
	switch n.here {
	case none:
		return errs.Invalid("Network %q is not defined on member %q", name, s.Here.Name())
	case unsettled:
		return errs.Unavailable("Network %q is being made or removed on member %q", name, s.Here.Name())
	case pending:
		if _, err := s.Host.State(ctx, name); err == nil {
			return errs.Conflict("Network interface %q already exists", name)
		}
		if err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.setHere(ctx, tx, n.ID, unsettled) }); err != nil {
			return err
		}
		u.Push(func() error {
			return s.DB.Update(back, func(ctx context.Context, tx *db.Tx) error { return s.setHere(ctx, tx, n.ID, pending) })
		})
		u.Push(func() error { return d.Delete(back, s.spec(n)) })
	}
	spec := s.spec(n)
	spec.New = n.here == pending
	if err := d.Start(ctx, spec); err != nil {
		return fmt.Errorf("Network %q: %w", name, err)
	}
	if err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.setHere(ctx, tx, n.ID, created) }); err != nil {
		return err
	}
	u.Commit()
	s.note(n.ID, nil)
	return nil
}

// deleteOthers removes the parts of the other members. All that have one must be there.
func (s *Service) deleteOthers(ctx context.Context, n Network) error {
	others, err := s.Relay.Others(ctx)
	if err != nil {
		return err
	}
	var off []string
	var have []cluster.Member
	for _, m := range others {
		i := slices.IndexFunc(n.members, func(x member) bool { return x.ID == m.ID })
		switch {
		case i < 0 || n.members[i].State == pending:
		case !s.Relay.Online(m):
			off = append(off, m.Name)
		default:
			have = append(have, m)
		}
	}
	if len(off) > 0 {
		return errs.Unavailable("Network %q is also on the cluster members %s, which are offline", n.Name, strings.Join(off, ", "))
	}
	if len(have) == 0 {
		return nil
	}
	s.settle(ctx, n, errored)
	failed := s.Relay.Tell(ctx, have, tellTime, func(cluster.Member) relay.Request {
		return relay.Request{Method: http.MethodDelete, Path: internalPath(n)}
	})
	if err := relay.Join(failed); err != nil {
		return fmt.Errorf("Network %q is not deleted on all members; delete it again: %w", n.Name, err)
	}
	return nil
}

// The endpoints with which one member tells another one to do its part.

func (s *Service) handlePartMake(ctx context.Context, r *rest.Request) (rest.Response, error) {
	unlock, err := s.lock(ctx, "creating network "+r.Name(), r.Name())
	if err != nil {
		return nil, err
	}
	defer unlock()
	return rest.Empty(), s.makePart(ctx, r.Project().Name, r.Name())
}

func (s *Service) handlePartPut(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[partPut](r)
	if err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, "updating network "+r.Name(), r.Name())
	if err != nil {
		return nil, err
	}
	defer unlock()
	n, err := s.one(ctx, s.DB, r.Project().Name, r.Name())
	if err != nil || n.here != created {
		return rest.Empty(), err
	}
	d, err := s.driver(n.Type)
	if err != nil {
		return nil, err
	}
	old := n
	old.Config = clean(b.Old)
	_, own := split(d.Keys(n.Config), n.Config)
	maps.Copy(old.Config, own)
	err = d.Update(ctx, s.spec(old), s.spec(n))
	s.note(n.ID, err)
	return rest.Empty(), err
}

func (s *Service) handlePartDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return rest.Empty(), s.deletePart(ctx, r.Project().Name, r.Name())
}

// deletePart is dropPart for those who do not hold the lock.
func (s *Service) deletePart(ctx context.Context, project, name string) error {
	unlock, err := s.lock(ctx, "deleting network "+name, name)
	if err != nil {
		return err
	}
	defer unlock()
	n, err := s.one(ctx, s.DB, project, name)
	if err != nil {
		return err
	}
	return s.dropPart(ctx, n)
}

// dropPart removes this member's part of a network.
func (s *Service) dropPart(ctx context.Context, n Network) error {
	if n.here == none {
		return nil
	}
	if n.here != pending {
		d, err := s.driver(n.Type)
		if err != nil {
			return err
		}
		if err := d.Delete(ctx, s.spec(n)); err != nil {
			return err
		}
	}
	s.note(n.ID, nil)
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtPart, n.ID, s.Here.ID())
		return err
	})
}

// leasesElsewhere asks the other members for the addresses that their parts of a
// network gave out. Those that do not answer in time are left out: what one has is
// better than an error.
func (s *Service) leasesElsewhere(ctx context.Context, r *rest.Request, n Network) []api.NetworkLease {
	if r.Alone() {
		return nil
	}
	others, err := s.Relay.Others(ctx)
	if err != nil {
		log.From(ctx).Warn("Could not ask other members for their leases", "network", n.Name, "err", err)
		return nil
	}
	q := relay.Request{Method: http.MethodGet, Path: n.Ref().Path() + "/leases?project=" + url.QueryEscape(r.Project().Name), As: r.Identity()}
	var out []api.NetworkLease
	for _, a := range relay.Gather[[]api.NetworkLease](ctx, s.Relay, others, leaseTime, q) {
		if a.Err != nil {
			log.From(ctx).Warn("A member does not tell its leases", "member", a.Member.Name, "network", n.Name, "err", a.Err)
		}
		for _, l := range a.Value {
			if l.Location != "" { // gateways are the same everywhere
				out = append(out, l)
			}
		}
	}
	return out
}

// JoinConfig lists what a server that joins must say about its part of each network:
// the keys that this member has set of its own.
func (s *Service) JoinConfig(ctx context.Context) ([]api.ClusterMemberConfigKey, error) {
	var w db.Where
	all, err := s.load(ctx, s.DB, &w)
	if err != nil {
		return nil, err
	}
	out := []api.ClusterMemberConfigKey{}
	for _, n := range all {
		d, err := s.driver(n.Type)
		if err != nil {
			return nil, err
		}
		for _, i := range d.Keys(n.Config).Keys() {
			if i.Local && !i.Volatile && n.Config[i.Name] != "" {
				out = append(out, api.ClusterMemberConfigKey{Entity: "network", Name: n.Name, Key: i.Name,
					Description: fmt.Sprintf("%q property for network %q", i.Name, n.Name)})
			}
		}
	}
	return out, nil
}

// CreateHere makes this member's part of every network of the cluster that it has just
// become a member of. given are the keys that the administrator said for it. Where one
// fails, those that were made are taken back.
func (s *Service) CreateHere(ctx context.Context, given []api.ClusterMemberConfigKey) error {
	var u undo.Stack
	u.OnError = func(err error) { s.Log.Warn("Could not take back a network", "err", err) }
	defer u.Run()
	var w db.Where
	all, err := s.load(ctx, s.DB, &w)
	if err != nil {
		return err
	}
	for _, n := range all {
		if n.State != created || n.here == created {
			continue // what is not whole is told to this member when it is made whole
		}
		d, err := s.driver(n.Type)
		if err != nil {
			return err
		}
		own := map[string]string{}
		for _, g := range given {
			if g.Entity != "network" || g.Name != n.Name || g.Value == "" {
				continue
			}
			if i, ok := d.Keys(n.Config).Lookup(g.Key); !ok || !i.Local {
				return errs.Invalid("Network %q: %q is no key that each member has of its own", n.Name, g.Key)
			}
			own[g.Key] = g.Value
		}
		if err := s.joinOne(ctx, n, own, &u); err != nil {
			return err
		}
	}
	u.Commit()
	return nil
}

// DeleteHere removes this member's part of every network: it is about to be no member.
func (s *Service) DeleteHere(ctx context.Context) error {
	var w db.Where
	all, err := s.load(ctx, s.DB, &w)
	if err != nil {
		return err
	}
	var failed []error
	for _, n := range all {
		failed = append(failed, s.deletePart(ctx, n.Project, n.Name))
	}
	return errors.Join(failed...)
}

func (s *Service) joinOne(ctx context.Context, n Network, own map[string]string, u *undo.Stack) error {
	unlock, err := s.lock(ctx, "creating network "+n.Name, n.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if n.here == none {
		err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := db.ExecOne(ctx, tx, stmtJoin, n.ID, s.Here.ID(), pending); err != nil {
				return err
			}
			return setOwn(ctx, tx, n.ID, s.Here.ID(), own)
		})
		if err != nil {
			return err
		}
	}
	if err := s.makePart(ctx, n.Project, n.Name); err != nil {
		return err
	}
	u.Push(func() error { return s.deletePart(context.WithoutCancel(ctx), n.Project, n.Name) })
	return nil
}
