package project

import (
	"context"

	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

func (s *Service) list(ctx context.Context, r *rest.Request) (rest.Response, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	var used map[string][]string
	if r.Recursion() > 0 {
		if used, err = s.UsedBy(ctx, ""); err != nil {
			return nil, err
		}
	}
	names := []string{}
	objs := []api.Project{}
	for _, p := range all {
		if !r.Caller().CanSee(p.Name) {
			continue
		}
		names = append(names, p.Name)
		objs = append(objs, render(p, used))
	}
	if r.Recursion() > 0 {
		return rest.Sync(objs), nil
	}
	return rest.Sync(rest.URLs(r.Path(), "", names)), nil
}

func (s *Service) get(ctx context.Context, r *rest.Request) (rest.Response, error) {
	if !r.Caller().CanSee(r.Name()) {
		return nil, errs.Forbidden("not authorized")
	}
	p, err := s.Load(ctx, r.Name())
	if err != nil {
		return nil, err
	}
	used, err := s.UsedBy(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(render(p, used), []any{p.Description, p.Config}), nil
}

func (s *Service) unbuilt(context.Context, *rest.Request) (rest.Response, error) {
	return nil, errs.NotImplemented("Changing projects is not implemented; all things live in the default project")
}

func render(p Project, used map[string][]string) api.Project {
	u := used[p.Name]
	if u == nil {
		u = []string{}
	}
	return api.Project{ProjectPut: api.ProjectPut{Config: p.Config, Description: p.Description}, Name: p.Name, UsedBy: u}
}
