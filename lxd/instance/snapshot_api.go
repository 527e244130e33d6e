package instance

import (
	"context"
	"net/http"
	"time"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// snapshotRoutes are the endpoints below /1.0/instances/{name}/snapshots.
func (s *Service) snapshotRoutes() []rest.Route {
	all := rest.Route{Path: "/1.0/instances/{name}/snapshots", Scope: rest.InProject, Kind: entity.Instance, Where: rest.OnInstance}
	one := all
	one.Path += "/{snapshot}"
	body := func(v any) func(*rest.Route) { return func(r *rest.Route) { r.Body.Type = v } }
	reply := func(v any) func(*rest.Route) { return func(r *rest.Route) { r.Reply = v } }
	etag := func(r *rest.Route) { r.ETag = true }
	policy := all
	policy.Path = "/1.0/instances/{name}/retention"
	return []rest.Route{
		policy.As(http.MethodGet, "Show which snapshots a retention policy keeps", auth.ViewProject, s.handleRetention, reply([]api.InstanceSnapshotVerdict{})),
		all.As(http.MethodGet, "List the snapshots of an instance", auth.ViewProject, s.handleSnapshots, reply([]api.InstanceSnapshot{})),
		all.As(http.MethodPost, "Take a snapshot of an instance", auth.EditProject, s.handleSnapshotCreate, body(api.InstanceSnapshotsPost{})),
		one.As(http.MethodGet, "Show a snapshot of an instance", auth.ViewProject, s.handleSnapshot, reply(api.InstanceSnapshot{}), etag),
		one.As(http.MethodPut, "Replace what can change about a snapshot", auth.EditProject, s.handleSnapshotPut, body(api.InstanceSnapshotPut{}), etag),
		one.As(http.MethodPatch, "Change what can change about a snapshot", auth.EditProject, s.handleSnapshotPatch, body(api.InstanceSnapshotPut{}), etag),
		one.As(http.MethodPost, "Rename a snapshot", auth.EditProject, s.handleSnapshotPost, body(api.InstanceSnapshotPost{})),
		one.As(http.MethodDelete, "Delete a snapshot", auth.EditProject, s.handleSnapshotDelete),
	}
}

func (s *Service) renderSnapshot(i *Instance, sn *Snapshot, size map[string]int64) api.InstanceSnapshot {
	was := sn.of(i)
	names := make([]string, len(i.Profiles))
	for n, p := range i.Profiles {
		names[n] = p.Name
	}
	a := api.InstanceSnapshot{InstanceSnapshotPut: api.InstanceSnapshotPut{ExpiresAt: sn.Expires},
		Architecture: i.Architecture, Config: shown(sn.Config), CreatedAt: sn.Created, Devices: sn.Devices, Ephemeral: i.Ephemeral,
		ExpandedConfig: shown(was.ExpandedConfig()), ExpandedDevices: was.ExpandedDevices(), Name: sn.Name, Profiles: names, Stateful: sn.Stateful, Size: -1}
	if n, ok := size[sn.Name]; ok {
		a.Size = n
	}
	return a
}

// sizes tells what the snapshots of an instance take.
func (s *Service) sizes(ctx context.Context, i *Instance, all []*Snapshot) map[string]int64 {
	v, _, err := volume(i)
	if err != nil {
		return nil
	}
	names := make([]string, len(all))
	for n, sn := range all {
		names[n] = sn.Name
	}
	return s.Storage.SnapshotUsage(ctx, v, names)
}

func snapETag(sn *Snapshot) any { return []any{sn.Expires} }

func (s *Service) handleSnapshots(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	all, err := s.Snapshots(ctx, i)
	if err != nil {
		return nil, err
	}
	if r.Recursion() == 0 {
		urls := []string{}
		for _, sn := range all {
			urls = append(urls, sn.Ref(i).URL())
		}
		return rest.Sync(urls), nil
	}
	size := s.sizes(ctx, i, all)
	objs := []api.InstanceSnapshot{}
	for _, sn := range all {
		objs = append(objs, s.renderSnapshot(i, sn, size))
	}
	return rest.Sync(objs), nil
}

func (s *Service) handleSnapshotCreate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	req, err := rest.Decode[api.InstanceSnapshotsPost](r)
	if err != nil {
		return nil, err
	}
	if req.Stateful {
		return nil, errs.NotImplemented("Stateful snapshots are not implemented")
	}
	if req.Name != "" {
		if err := checkSnapshotName(req.Name); err != nil {
			return nil, err
		}
	}
	by := r.Caller().Requestor()
	return s.operation(ctx, r, i, doSnapshot, func(ctx context.Context, _ *op.Operation) error {
		_, err := s.CreateSnapshot(ctx, i.Project, i.Name, NewSnapshot{Name: req.Name, Expires: req.ExpiresAt}, by)
		return err
	})
}

func (s *Service) oneSnapshot(ctx context.Context, r *rest.Request) (*Instance, *Snapshot, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, nil, err
	}
	sn, err := s.Snapshot(ctx, i, r.Value(1))
	return i, sn, err
}

func (s *Service) handleSnapshot(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, sn, err := s.oneSnapshot(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(s.renderSnapshot(i, sn, s.sizes(ctx, i, []*Snapshot{sn})), snapETag(sn)), nil
}

func (s *Service) handleSnapshotPut(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.changeSnapshot(ctx, r, false)
}

func (s *Service) handleSnapshotPatch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.changeSnapshot(ctx, r, true)
}

func (s *Service) changeSnapshot(ctx context.Context, r *rest.Request, mergeIn bool) (rest.Response, error) {
	i, sn, err := s.oneSnapshot(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := r.CheckETag(snapETag(sn)); err != nil {
		return nil, err
	}
	var put api.InstanceSnapshotPut
	if mergeIn {
		put.ExpiresAt = sn.Expires
	}
	if err := rest.DecodeOnto(r, &put); err != nil {
		return nil, err
	}
	if put.ExpiresAt.Unix() == 0 { // another way to say never
		put.ExpiresAt = time.Time{}
	}
	by := r.Caller().Requestor()
	return s.operation(ctx, r, i, doSnapshotUpdate, func(ctx context.Context, _ *op.Operation) error {
		return s.ExpireSnapshot(ctx, i, sn, put.ExpiresAt, by)
	})
}

func (s *Service) handleSnapshotPost(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, sn, err := s.oneSnapshot(ctx, r)
	if err != nil {
		return nil, err
	}
	req, err := rest.Decode[api.InstanceSnapshotPost](r)
	if err != nil {
		return nil, err
	}
	if req.Migration {
		return nil, errs.NotImplemented("Copying snapshots to other servers is not implemented")
	}
	if err := checkSnapshotName(req.Name); err != nil {
		return nil, err
	}
	if _, err := s.Snapshot(ctx, i, req.Name); err == nil {
		return nil, taken(i, req.Name)
	}
	by := r.Caller().Requestor()
	return s.operation(ctx, r, i, doSnapshotRename, func(ctx context.Context, _ *op.Operation) error {
		return s.RenameSnapshot(ctx, i.Project, i.Name, sn.Name, req.Name, by)
	})
}

func (s *Service) handleSnapshotDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, sn, err := s.oneSnapshot(ctx, r)
	if err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	return s.operation(ctx, r, i, doSnapshotDelete, func(ctx context.Context, _ *op.Operation) error {
		return s.DeleteSnapshot(ctx, i.Project, i.Name, sn.Name, by)
	})
}

// handleRetention is a dry run of a policy: that of the instance, or one that the client
// thinks about.
func (s *Service) handleRetention(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	text := SnapshotKeep.Get(i.ExpandedConfig())
	if r.HasQuery("policy") {
		text = r.Query("policy")
	}
	rules, err := retention(text)
	if err != nil {
		return nil, err
	}
	all, err := s.Snapshots(ctx, i)
	if err != nil {
		return nil, err
	}
	out := []api.InstanceSnapshotVerdict{}
	for _, v := range judge(rules, all) {
		out = append(out, api.InstanceSnapshotVerdict{Name: v.Snapshot.Name, CreatedAt: v.Snapshot.Created, Keep: v.Keep, Reasons: v.Reasons})
	}
	return rest.Sync(out), nil
}
