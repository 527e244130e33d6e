package storage

import (
	"context"

	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

func (s *Service) list(ctx context.Context, r *rest.Request) (rest.Response, error) {
	ps, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	if r.Recursion() == 0 {
		names := make([]string, len(ps))
		for i, p := range ps {
			names[i] = p.Name
		}
		return rest.Sync(rest.URLs(r.Path(), "", names)), nil
	}
	users, err := s.usersOf(ctx, s.DB, ps...)
	if err != nil {
		return nil, err
	}
	out := make([]api.StoragePool, len(ps))
	for i, p := range ps {
		out[i] = shownTo(r, s.render(p, users[p.ID], s.viewOf(r)))
	}
	return rest.Sync(out), nil
}

func (s *Service) create(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[api.StoragePoolsPost](r)
	if err != nil {
		return nil, err
	}
	p := Pool{Name: b.Name, Driver: b.Driver, Description: b.Description, Config: b.Config}
	if err := s.createIn(ctx, p, r); err != nil {
		return nil, err
	}
	return rest.Created(ref(b.Name).URL()), nil
}

// createIn makes a pool: on this server, when there is no other one; or notes what the
// member that ?target= names brings to it; or, without that, on all members.
func (s *Service) createIn(ctx context.Context, p Pool, r *rest.Request) error {
	target, by := r.Query("target"), r.Caller().Requestor()
	if !s.Here.Clustered() {
		if target != "" {
			return errs.Invalid("Target only allowed when clustered")
		}
		return s.CreatePool(ctx, p, by)
	}
	if target != "" {
		return s.DefinePool(ctx, p, target)
	}
	ms, err := s.Relay.Members(ctx)
	if err != nil {
		return err
	}
	if len(ms) > 1 {
		return s.CreateEverywhere(ctx, p, by)
	}
	// The only member needs no second request; but one that was told of the pool before is
	// to make that.
	if _, err := s.Load(ctx, p.Name); err == nil {
		return s.CreateEverywhere(ctx, p, by)
	}
	return s.CreatePool(ctx, p, by)
}

func (s *Service) get(ctx context.Context, r *rest.Request) (rest.Response, error) {
	p, err := s.Load(ctx, r.Name())
	if err != nil {
		return nil, err
	}
	users, err := s.usersOf(ctx, s.DB, p)
	if err != nil {
		return nil, err
	}
	o := s.render(p, users[p.ID], s.viewOf(r))
	return rest.SyncETag(shownTo(r, o), etag(o)), nil
}

// shownTo leaves out what is none of the restricted's business: where on the host a
// pool lies, and what others keep in it.
func shownTo(r *rest.Request, p api.StoragePool) api.StoragePool {
	if !r.Caller().Admin {
		p.Config, p.UsedBy = nil, r.Visible(p.UsedBy)
	}
	return p
}

func (s *Service) put(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(api.StoragePool) (api.StoragePoolPut, error) { return rest.Decode[api.StoragePoolPut](r) })
}

func (s *Service) patch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(p api.StoragePool) (api.StoragePoolPut, error) {
		b := p.StoragePoolPut
		err := rest.DecodeOnto(r, &b)
		return b, err
	})
}

func (s *Service) change(ctx context.Context, r *rest.Request, body func(api.StoragePool) (api.StoragePoolPut, error)) (rest.Response, error) {
	v := s.viewOf(r)
	return rest.Empty(), s.UpdatePool(ctx, r.Name(), v, r.Caller().Requestor(), func(old Pool) (api.StoragePoolPut, error) {
		shown := s.render(old, nil, v)
		if err := r.CheckETag(etag(shown)); err != nil {
			return api.StoragePoolPut{}, err
		}
		return body(shown)
	})
}

func (s *Service) delete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return rest.Empty(), s.DeletePool(ctx, r.Name(), r.Caller().Requestor())
}

func (s *Service) resources(ctx context.Context, r *rest.Request) (rest.Response, error) {
	res, err := s.Resources(ctx, r.Value(0))
	if err != nil {
		return nil, err
	}
	return rest.Sync(api.ResourcesStoragePool{
		Space:  api.ResourcesStoragePoolSpace{Used: res.SpaceUsed, Total: res.SpaceTotal},
		Inodes: api.ResourcesStoragePoolInodes{Used: res.InodesUsed, Total: res.InodesTotal},
	}), nil
}

// render copies, so that a PATCH decoded on top changes nothing but the copy. The list
// of users is null when there are none: that is how LXD writes it.
func (s *Service) render(p Pool, users []user, v view) api.StoragePool {
	o := api.StoragePool{Name: p.Name, Driver: p.Driver, Status: s.status(p, v), Locations: []string{}}
	o.Description, o.Config = p.Description, map[string]string{}
	kind, err := s.Drivers.Kind(p.Driver)
	for k, val := range p.Config {
		if v == viewShared && err == nil {
			if i, _ := kind.PoolKeys().Lookup(k); i.Local {
				continue
			}
		}
		o.Config[k] = val
	}
	for _, u := range users {
		o.UsedBy = append(o.UsedBy, u.url)
	}
	for _, m := range p.members {
		o.Locations = append(o.Locations, m.Name)
	}
	return o
}

// status is how a pool stands: here, or with all members.
func (s *Service) status(p Pool, v view) string {
	st := p.state
	if v == viewMember {
		st = p.here
	}
	rt := s.lookup(p.Name)
	switch {
	case st == statePending, st == stateUnsettled, st == stateNone:
		return api.StoragePoolStatusPending
	case st == stateErrored:
		return api.StoragePoolStatusErrored
	case v != viewShared && (rt == nil || rt.state() != nil):
		return api.StoragePoolStatusUnavailable
	}
	return api.StoragePoolStatusCreated
}

// etag is what a change of the pool is told by.
func etag(p api.StoragePool) any { return []any{p.Name, p.Driver, p.Config} }
