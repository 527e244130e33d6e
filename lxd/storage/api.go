package storage

import (
	"context"

	"sett/lxd/rest"
	"sett/shared/api"
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
		out[i] = s.render(p, users[p.ID])
	}
	return rest.Sync(out), nil
}

func (s *Service) create(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[api.StoragePoolsPost](r)
	if err != nil {
		return nil, err
	}
	p := Pool{Name: b.Name, Driver: b.Driver, Description: b.Description, Config: b.Config}
	if err := s.CreatePool(ctx, p, r.Caller().Requestor()); err != nil {
		return nil, err
	}
	return rest.Created(ref(b.Name).URL()), nil
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
	return rest.SyncETag(s.render(p, users[p.ID]), etag(p)), nil
}

func (s *Service) put(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(Pool) (api.StoragePoolPut, error) { return rest.Decode[api.StoragePoolPut](r) })
}

func (s *Service) patch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(p Pool) (api.StoragePoolPut, error) {
		b := s.render(p, nil).StoragePoolPut
		err := rest.DecodeOnto(r, &b)
		return b, err
	})
}

func (s *Service) change(ctx context.Context, r *rest.Request, body func(Pool) (api.StoragePoolPut, error)) (rest.Response, error) {
	old, err := s.Load(ctx, r.Name())
	if err != nil {
		return nil, err
	}
	if err := r.CheckETag(etag(old)); err != nil {
		return nil, err
	}
	b, err := body(old)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.UpdatePool(ctx, old, b, r.Caller().Requestor())
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
func (s *Service) render(p Pool, users []user) api.StoragePool {
	o := api.StoragePool{Name: p.Name, Driver: p.Driver, Status: api.StoragePoolStatusCreated, Locations: []string{s.Here.Location()}}
	o.Description, o.Config = p.Description, map[string]string{}
	for k, v := range p.Config {
		o.Config[k] = v
	}
	for _, u := range users {
		o.UsedBy = append(o.UsedBy, u.url)
	}
	rt := s.lookup(p.Name)
	switch {
	case p.state == statePending:
		o.Status = api.StoragePoolStatusPending
	case rt == nil || rt.state() != nil:
		o.Status = api.StoragePoolStatusUnavailable
	}
	return o
}

// etag is what a change of the pool is told by.
func etag(p Pool) any { return []any{p.Name, p.Driver, p.Config} }
