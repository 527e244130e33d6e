package profile

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/api"
)

// Routes are the endpoints under /1.0/profiles.
func (s *Service) Routes() []rest.Route {
	const feature = "features.profiles"
	all := rest.Route{Path: "/1.0/profiles", Scope: rest.InProject, Feature: feature}
	one := rest.Route{Path: "/1.0/profiles/{name}", Scope: rest.InProject, Feature: feature, Kind: entity.Profile}
	return []rest.Route{
		all.As(http.MethodGet, "List the profiles", auth.ViewProject, s.list, func(r *rest.Route) { r.Reply, r.Lists = []api.Profile{}, true }),
		all.As(http.MethodPost, "Create a profile", auth.EditProject, s.create, func(r *rest.Route) { r.Body.Type = api.ProfilesPost{} }),
		one.As(http.MethodGet, "Show a profile", auth.ViewProject, s.get, func(r *rest.Route) { r.Reply, r.ETag = api.Profile{}, true }),
		one.As(http.MethodPut, "Replace what a profile says", auth.EditProject, s.put, func(r *rest.Route) { r.Body.Type, r.ETag = api.ProfilePut{}, true }),
		one.As(http.MethodPatch, "Change some of what a profile says", auth.EditProject, s.patch, func(r *rest.Route) { r.Body.Type, r.ETag = api.ProfilePut{}, true }),
		one.As(http.MethodPost, "Rename a profile", auth.EditProject, s.rename, func(r *rest.Route) { r.Body.Type = api.ProfilePost{} }),
		one.As(http.MethodDelete, "Delete a profile", auth.EditProject, s.delete),
	}
}
