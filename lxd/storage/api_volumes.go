package storage

import (
	"context"
	"slices"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/lxd/storage/driver"
	"sett/shared/api"
	"sett/shared/errs"
)

// parseType reads the type of volumes in a path.
func parseType(s string) (driver.VolumeType, error) {
	if t := driver.VolumeType(s); slices.Contains(types(), t) {
		return t, nil
	}
	return "", errs.Invalid("Invalid storage volume type name %q", s)
}

// projectOf is the project in which a request finds volumes of a type: custom volumes
// may be shared with the default project, cached images always are.
func projectOf(r *rest.Request, t driver.VolumeType) string {
	switch t {
	case driver.Image:
		return entity.DefaultProject
	case driver.Custom:
		return r.Project().Effective(project.Volumes.Name())
	}
	return r.Project().Name
}

func (s *Service) listVolumes(ctx context.Context, r *rest.Request) (rest.Response, error) {
	pool := r.Value(0)
	all, err := r.AllProjects()
	if err != nil {
		return nil, err
	}
	filter, err := r.Filter()
	if err != nil {
		return nil, err
	}
	want := types()
	if v := r.Value(1); v != "" {
		t, err := parseType(v)
		if err != nil {
			return nil, err
		}
		want = []driver.VolumeType{t}
	}
	if _, err := s.Load(ctx, pool); err != nil {
		return nil, err
	}
	var w db.Where
	vs, err := s.loadVolumes(ctx, w.Eq("p.name", pool))
	if err != nil {
		return nil, err
	}
	if vs, err = s.withSnapshots(ctx, pool, vs); err != nil {
		return nil, err
	}
	objs := []api.StorageVolume{}
	for _, v := range vs {
		t := driver.VolumeType(v.Type)
		if !slices.Contains(want, t) || !all && v.Project != projectOf(r, t) || all && !r.Caller().CanSee(v.Project) {
			continue
		}
		objs = append(objs, v)
	}
	if objs, err = rest.Keep(filter, objs); err != nil {
		return nil, err
	}
	if r.Recursion() > 0 {
		return rest.Sync(objs), nil
	}
	urls := []string{}
	for _, v := range objs {
		location := ""
		if s.Here.Clustered() {
			location = v.Location
		}
		urls = append(urls, volumeURL(pool, v, location))
	}
	return rest.Sync(urls), nil
}

// loadVolumes reads volumes as the API shows them: two statements, however many.
func (s *Service) loadVolumes(ctx context.Context, w *db.Where) ([]api.StorageVolume, error) {
	rows, err := db.SelectWhere[volumeRow](ctx, s.DB, stmtVolumes, w, "ORDER BY v.type, projects.name, v.name")
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	cfg, err := db.Maps(ctx, s.DB, stmtVolumeConfig, db.JSON(ids))
	if err != nil {
		return nil, err
	}
	out := make([]api.StorageVolume, len(rows))
	for i, r := range rows {
		t := types()[r.Type]
		o := api.StorageVolume{Name: r.Name, Type: string(t), Location: r.Node, ContentType: string(driver.Filesystem),
			Project: r.Project, CreatedAt: r.Created, UsedBy: []string{}}
		if r.Content == 1 {
			o.ContentType = string(driver.Block)
		}
		if t != driver.Custom {
			o.UsedBy = append(o.UsedBy, userURL(Volume{Pool: r.Pool, Type: t, Project: r.Project, Name: r.Name}))
		}
		o.Description, o.Config = r.Description, cfg[r.ID]
		if o.Config == nil {
			o.Config = map[string]string{}
		}
		delete(o.Config, passing)
		out[i] = o
	}
	return out, nil
}

// locateVolume finds the member on which the volume of a path is. Volumes of one name
// may be on several; then the request has to say which one it means.
func (s *Service) locateVolume(ctx context.Context, r *rest.Request) (int64, error) {
	if t := r.Query("target"); t != "" {
		m, err := s.Relay.Member(ctx, t)
		return m.ID, err
	}
	t, err := parseType(r.Value(1))
	if err != nil {
		return 0, err
	}
	nodes, err := db.Select[int64](ctx, s.DB, stmtVolumeNodes, r.Value(0), projectOf(r, t), number(t), r.Value(2))
	switch {
	case err != nil || len(nodes) == 0:
		return 0, err
	case len(nodes) == 1:
		return nodes[0], nil
	case r.Relayed(), slices.Contains(nodes, 0), t == driver.Image && slices.Contains(nodes, s.Here.ID()):
		return 0, nil
	}
	return 0, errs.Invalid("More than one cluster member has a volume %q of type %q; name one with --target", r.Value(2), t)
}

// volumeOf finds the volume that a path names.
func (s *Service) volumeOf(ctx context.Context, r *rest.Request) (Volume, api.StorageVolume, error) {
	t, err := parseType(r.Value(1))
	if err != nil {
		return Volume{}, api.StorageVolume{}, err
	}
	v := Volume{Pool: r.Value(0), Type: t, Project: projectOf(r, t), Name: r.Value(2)}
	if _, err := s.Load(ctx, v.Pool); err != nil {
		return v, api.StorageVolume{}, err
	}
	var w db.Where
	w.Eq("p.name", v.Pool).Eq("projects.name", v.Project).Eq("v.type", number(t)).Eq("v.name", v.Name).
		Is("(v.node_id IS NULL OR v.node_id = ?)", s.Here.ID())
	vs, err := s.loadVolumes(ctx, &w)
	if err != nil {
		return v, api.StorageVolume{}, err
	}
	if len(vs) == 0 {
		return v, api.StorageVolume{}, errs.NotFound("Storage volume %q of type %q not found in pool %q", v.Name, t, v.Pool)
	}
	return v, vs[0], nil
}

func (s *Service) getVolume(ctx context.Context, r *rest.Request) (rest.Response, error) {
	_, o, err := s.volumeOf(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(o, []any{o.Name, o.Type, o.Config}), nil
}

func (s *Service) volumeState(ctx context.Context, r *rest.Request) (rest.Response, error) {
	v, _, err := s.volumeOf(ctx, r)
	if err != nil {
		return nil, err
	}
	us, err := s.Usage(ctx, []Volume{v})
	if err != nil {
		return nil, err
	}
	o := api.StorageVolumeState{}
	if u, ok := us[v]; ok {
		o.Usage = &api.StorageVolumeStateUsage{Used: uint64(u.Used), Total: max(u.Total, 0)}
	}
	return rest.Sync(o), nil
}

func (s *Service) createVolume(ctx context.Context, r *rest.Request) (rest.Response, error) {
	if _, err := s.Load(ctx, r.Value(0)); err != nil {
		return nil, err
	}
	if r.Header("Content-Type") != "application/octet-stream" {
		b, err := rest.Decode[api.StorageVolumesPost](r)
		if err != nil {
			return nil, err
		}
		t := b.Type
		if v := r.Value(1); v != "" {
			t = v
		}
		if t != "" && t != string(driver.Custom) {
			return nil, errs.Invalid("Storage volumes of type %q cannot be created with the storage API", t)
		}
	}
	return nil, errs.NotImplemented("Custom storage volumes are not implemented")
}

func (s *Service) changeVolume(ctx context.Context, r *rest.Request) (rest.Response, error) {
	v, _, err := s.volumeOf(ctx, r)
	if err != nil {
		return nil, err
	}
	return nil, errs.NotImplemented("Changing storage volumes of type %q is not implemented", v.Type)
}

func (s *Service) deleteVolume(ctx context.Context, r *rest.Request) (rest.Response, error) {
	v, _, err := s.volumeOf(ctx, r)
	if err != nil {
		return nil, err
	}
	switch v.Type {
	case driver.Image:
		return rest.Empty(), s.dropImage(ctx, v.Pool, v.Name)
	case driver.Custom:
		return nil, errs.NotImplemented("Custom storage volumes are not implemented")
	}
	return nil, errs.Invalid("Storage volumes of type %q cannot be deleted with the storage API", v.Type)
}
