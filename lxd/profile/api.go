package profile

import (
	"context"

	"sett/lxd/entity"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/shared/api"
)

func (s *Service) list(ctx context.Context, r *rest.Request) (rest.Response, error) {
	all, err := r.AllProjects()
	if err != nil {
		return nil, err
	}
	in := r.Effective()
	if all {
		in = ""
	}
	ps, err := s.List(ctx, in)
	if err != nil {
		return nil, err
	}
	urls := []string{}
	objs := []api.Profile{}
	used := map[int64][]string{}
	if r.Recursion() > 0 {
		if used, err = s.UsedBy(ctx, ps...); err != nil {
			return nil, err
		}
	}
	for _, p := range ps {
		// Those of the effective project are the caller's to use, whoever owns them.
		if !all || r.Caller().CanSee(p.Project) {
			urls = append(urls, rest.URLs(r.Path(), p.Project, []string{p.Name})...)
			o := render(p, used)
			o.UsedBy = r.Visible(o.UsedBy)
			objs = append(objs, o)
		}
	}
	if r.Recursion() > 0 {
		return rest.Sync(objs), nil
	}
	return rest.Sync(urls), nil
}

func (s *Service) create(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[api.ProfilesPost](r)
	if err != nil {
		return nil, err
	}
	p := Profile{Project: r.Effective(), Name: b.Name, Description: b.Description, Config: b.Config, Devices: b.Devices}
	if err := project.CheckHost(r.Caller(), project.Spec{}, p.spec()); err != nil {
		return nil, err
	}
	if err := s.Create(ctx, p, r.Caller().Requestor()); err != nil {
		return nil, err
	}
	return rest.Created(p.Ref().URL()), nil
}

func (s *Service) get(ctx context.Context, r *rest.Request) (rest.Response, error) {
	p, err := s.Load(ctx, r.Effective(), r.Name())
	if err != nil {
		return nil, err
	}
	used, err := s.UsedBy(ctx, p)
	if err != nil {
		return nil, err
	}
	o := render(p, used)
	o.UsedBy = r.Visible(o.UsedBy)
	return rest.SyncETag(o, etag(p)), nil
}

func (s *Service) put(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(Profile) (api.ProfilePut, error) { return rest.Decode[api.ProfilePut](r) })
}

func (s *Service) patch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(p Profile) (api.ProfilePut, error) {
		b := render(p, nil).ProfilePut
		err := rest.DecodeOnto(r, &b)
		return b, err
	})
}

func (s *Service) change(ctx context.Context, r *rest.Request, body func(Profile) (api.ProfilePut, error)) (rest.Response, error) {
	return rest.Empty(), s.Update(ctx, r.Effective(), r.Name(), func(old Profile) (Profile, error) {
		if err := r.CheckETag(etag(old)); err != nil {
			return Profile{}, err
		}
		b, err := body(old)
		if err != nil {
			return Profile{}, err
		}
		p := Profile{Description: b.Description, Config: b.Config, Devices: b.Devices}
		return p, project.CheckHost(r.Caller(), old.spec(), p.spec())
	}, r.Caller().Requestor())
}

func (p Profile) spec() project.Spec { return project.Spec{Config: p.Config, Devices: p.Devices} }

func (s *Service) rename(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[api.ProfilePost](r)
	if err != nil {
		return nil, err
	}
	if err := s.Rename(ctx, r.Effective(), r.Name(), b.Name, r.Caller().Requestor()); err != nil {
		return nil, err
	}
	return rest.Created(entity.New(entity.Profile, r.Effective(), b.Name).URL()), nil
}

func (s *Service) delete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return rest.Empty(), s.Delete(ctx, r.Effective(), r.Name(), r.Caller().Requestor())
}

// render copies, so that a PATCH decoded on top changes nothing but the copy.
func render(p Profile, used map[int64][]string) api.Profile {
	o := api.Profile{ProfilePut: api.ProfilePut{Config: map[string]string{}, Description: p.Description, Devices: map[string]map[string]string{}},
		Name: p.Name, UsedBy: used[p.ID]}
	for k, v := range p.Config {
		o.Config[k] = v
	}
	for k, v := range p.Devices {
		o.Devices[k] = v
	}
	if o.UsedBy == nil {
		o.UsedBy = []string{}
	}
	return o
}

// etag is what a change of the profile is told by.
func etag(p Profile) any { return []any{p.Config, p.Description, p.Devices} }
