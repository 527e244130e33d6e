package client

import (
	"net/http"

	"sett/shared/api"
)

// ProjectClient works with projects.
type ProjectClient interface {
	GetProjectNames() ([]string, error)
	GetProjects() ([]api.Project, error)
	GetProject(name string) (*api.Project, string, error)
	CreateProject(req api.ProjectsPost) error
	UpdateProject(name string, put api.ProjectPut, ETag string) error
	DeleteProject(name string) error
	RenameProject(name string, req api.ProjectPost) (Operation, error)
	GetProjectState(name string) (*api.ProjectState, error)
}

// GetProjectNames lists the names of the projects.
func (r *ProtocolLXD) GetProjectNames() ([]string, error) {
	p := path("projects")
	return names(r, p, p)
}

// GetProjects lists the projects.
func (r *ProtocolLXD) GetProjects() ([]api.Project, error) {
	return list[api.Project](r, path("projects")+"?recursion=1")
}

// GetProject returns a project.
func (r *ProtocolLXD) GetProject(name string) (*api.Project, string, error) {
	return fetch[api.Project](r, path("projects", name))
}

// CreateProject makes a project.
func (r *ProtocolLXD) CreateProject(req api.ProjectsPost) error {
	return r.exec(http.MethodPost, path("projects"), req, "")
}

// UpdateProject replaces what can be changed about a project.
func (r *ProtocolLXD) UpdateProject(name string, put api.ProjectPut, etag string) error {
	return r.exec(http.MethodPut, path("projects", name), put, etag)
}

// DeleteProject removes a project.
func (r *ProtocolLXD) DeleteProject(name string) error {
	return r.exec(http.MethodDelete, path("projects", name), nil, "")
}

// RenameProject renames a project and all that names it.
func (r *ProtocolLXD) RenameProject(name string, req api.ProjectPost) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, path("projects", name), req, "")
	return op, err
}

// GetProjectState tells how much of its limits a project uses.
func (r *ProtocolLXD) GetProjectState(name string) (*api.ProjectState, error) {
	s, _, err := fetch[api.ProjectState](r, path("projects", name, "state"))
	return s, err
}
