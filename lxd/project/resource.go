package project

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/api"
)

// Routes are the endpoints under /1.0/projects.
func (s *Service) Routes() []rest.Route {
	return []rest.Route{
		{Method: http.MethodGet, Path: "/1.0/projects", Summary: "List the projects", Handler: s.list,
			Need: auth.Trusted, Reply: []api.Project{}},
		{Method: http.MethodPost, Path: "/1.0/projects", Summary: "Create a project", Handler: s.unbuilt,
			Need: auth.Admin, Body: rest.Body{Type: api.ProjectsPost{}}},
		{Method: http.MethodGet, Path: "/1.0/projects/{name}", Summary: "Show a project", Handler: s.get,
			Need: auth.Trusted, Kind: entity.Project, Reply: api.Project{}, ETag: true},
		{Method: http.MethodPut, Path: "/1.0/projects/{name}", Summary: "Replace the configuration of a project", Handler: s.unbuilt,
			Need: auth.Admin, Kind: entity.Project, Body: rest.Body{Type: api.ProjectPut{}}, ETag: true},
		{Method: http.MethodPatch, Path: "/1.0/projects/{name}", Summary: "Change the configuration of a project", Handler: s.unbuilt,
			Need: auth.Admin, Kind: entity.Project, Body: rest.Body{Type: api.ProjectPut{}}, ETag: true},
	}
}
