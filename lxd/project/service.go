package project

import (
	"context"
	"strings"

	"sett/lxd/config"
	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/errs"
)

// Project is a project as stored.
type Project struct {
	ID          int64
	Name        string
	Description string
	Config      map[string]string
}

// The features that say what a project has of its own.
var (
	Images   = config.Bool("features.images", false, config.Doc("Whether the project has images and aliases of its own"))
	Profiles = config.Bool("features.profiles", false, config.Doc("Whether the project has profiles of its own"))
	Volumes  = config.Bool("features.storage.volumes", false, config.Doc("Whether the project has storage volumes of its own"))
	Networks = config.Bool("features.networks", false, config.Doc("Whether the project has networks of its own"))
)

// Keys are the configuration keys of projects.
func Keys() config.Table {
	return config.NewTable(Images, Profiles, Volumes, Networks,
		config.Any("user.*", config.Doc("Free text of the user's")))
}

// Service reads projects.
type Service struct{ db *db.DB }

// New makes the service.
func New(d *db.DB) *Service { return &Service{db: d} }

// Load returns one project.
func (s *Service) Load(ctx context.Context, name string) (Project, error) {
	var w db.Where
	all, err := load(ctx, s.db, w.Eq("name", name))
	if err != nil {
		return Project{}, err
	}
	if len(all) == 0 {
		return Project{}, errs.NotFound("Project %q not found", name)
	}
	return all[0], nil
}

// List returns all projects by name.
func (s *Service) List(ctx context.Context) ([]Project, error) {
	return load(ctx, s.db, nil)
}

// Chain gives the request chain what it needs of a project. The default project
// has every feature and cannot go away, so it costs no query.
func (s *Service) Chain(ctx context.Context, name string) (rest.Project, error) {
	if name == entity.DefaultProject {
		return rest.Project{Name: name, Features: map[string]bool{
			Images.Name(): true, Profiles.Name(): true, Volumes.Name(): true, Networks.Name(): true}}, nil
	}
	p, err := s.Load(ctx, name)
	if err != nil {
		return rest.Project{}, err
	}
	f := map[string]bool{}
	for k, v := range p.Config {
		if on, err := config.ParseBool(v); err == nil && on && strings.HasPrefix(k, "features.") {
			f[k] = true
		}
	}
	return rest.Project{Name: name, Features: f}, nil
}

// UsedBy lists the URLs of what lives in a project, or, without a name, in each.
func (s *Service) UsedBy(ctx context.Context, name string) (map[string][]string, error) {
	rows, err := db.Select[usedRow](ctx, s.db, stmtUsedBy, name)
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, r := range rows {
		out[r.Project] = append(out[r.Project], entity.New(entity.Kind(r.Kind), r.Project, r.Name).URL())
	}
	return out, nil
}
