package storage

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/api"
)

// Routes are the endpoints under /1.0/storage-pools.
func (s *Service) Routes() []rest.Route {
	const pools, volumes = "/1.0/storage-pools", "/1.0/storage-pools/{name}/volumes"
	all := rest.Route{Path: pools}
	one := rest.Route{Path: pools + "/{name}", Kind: entity.StoragePool, Where: rest.OnTarget}
	res := rest.Route{Path: pools + "/{name}/resources", Kind: entity.StoragePool, Where: rest.OnTarget}
	part := rest.Route{Path: "/internal/storage-pools/{name}", Kind: entity.StoragePool}
	vols := rest.Route{Path: volumes, Scope: rest.InProject}
	typed := rest.Route{Path: volumes + "/{type}", Scope: rest.InProject}
	vol := rest.Route{Path: volumes + "/{type}/{volume}", Scope: rest.InProject, Kind: entity.StorageVolume, Where: rest.OnObject, Locate: s.locateVolume}
	state := rest.Route{Path: volumes + "/{type}/{volume}/state", Scope: rest.InProject, Where: rest.OnObject, Locate: s.locateVolume}

	snaps, snap := state, state
	snaps.Path = volumes + "/{type}/{volume}/snapshots"
	snap.Path = volumes + "/{type}/{volume}/snapshots/{snapshot}"

	post := func(r *rest.Route) { r.Body.Type = api.StorageVolumesPost{} }
	put := func(r *rest.Route) { r.Body.Type, r.ETag = api.StorageVolumePut{}, true }
	poolPut := func(r *rest.Route) { r.Body.Type, r.ETag = api.StoragePoolPut{}, true }
	list := func(r *rest.Route) { r.Reply, r.Lists = []api.StorageVolume{}, true }
	first := func(r *rest.Route) { r.Where = rest.OnLeader }
	shared := func(r *rest.Route) { r.Where = rest.OnTargetOrLeader }
	target := func(r *rest.Route) { r.Where = rest.OnTarget }
	return []rest.Route{
		all.As(http.MethodGet, "List the storage pools", auth.Trusted, s.list, func(r *rest.Route) { r.Reply = []api.StoragePool{} }),
		all.As(http.MethodPost, "Create a storage pool", auth.Admin, s.create, func(r *rest.Route) { r.Body.Type = api.StoragePoolsPost{} }, first),
		one.As(http.MethodGet, "Show a storage pool", auth.Trusted, s.get, func(r *rest.Route) { r.Reply, r.ETag = api.StoragePool{}, true }),
		one.As(http.MethodPut, "Replace the configuration of a storage pool", auth.Admin, s.put, poolPut, shared),
		one.As(http.MethodPatch, "Change some of the configuration of a storage pool", auth.Admin, s.patch, poolPut, shared),
		one.As(http.MethodDelete, "Delete a storage pool", auth.Admin, s.delete, first),
		res.As(http.MethodGet, "Show how full a storage pool is", auth.Trusted, s.resources, func(r *rest.Route) { r.Reply = api.ResourcesStoragePool{} }),
		part.As(http.MethodPost, "Make this member's part of a storage pool", auth.Member, s.handlePartMake),
		part.As(http.MethodPut, "Follow a change of a storage pool", auth.Member, s.handlePartPut, func(r *rest.Route) { r.Body.Type = partPut{} }),
		part.As(http.MethodDelete, "Remove this member's part of a storage pool", auth.Member, s.handlePartDelete),

		vols.As(http.MethodGet, "List the volumes of a storage pool", auth.ViewProject, s.listVolumes, list),
		vols.As(http.MethodPost, "Create a storage volume", auth.EditProject, s.createVolume, post, target),
		typed.As(http.MethodGet, "List the volumes of a type in a storage pool", auth.ViewProject, s.listVolumes, list),
		typed.As(http.MethodPost, "Create a storage volume of a type", auth.EditProject, s.createVolume, post, target),
		vol.As(http.MethodGet, "Show a storage volume", auth.ViewProject, s.getVolume, func(r *rest.Route) { r.Reply, r.ETag = api.StorageVolume{}, true }),
		vol.As(http.MethodPut, "Replace the configuration of a storage volume", auth.EditProject, s.changeVolume, put),
		vol.As(http.MethodPatch, "Change some of the configuration of a storage volume", auth.EditProject, s.changeVolume, put),
		vol.As(http.MethodPost, "Rename or move a storage volume", auth.EditProject, s.changeVolume, func(r *rest.Route) { r.Body.Type = api.StorageVolumePost{} }),
		vol.As(http.MethodDelete, "Delete a storage volume", auth.EditProject, s.deleteVolume),
		snaps.As(http.MethodGet, "List the snapshots of a storage volume", auth.ViewProject, s.listSnapshots,
			func(r *rest.Route) { r.Reply = []api.StorageVolumeSnapshot{} }),
		snap.As(http.MethodGet, "Show a snapshot of a storage volume", auth.ViewProject, s.getSnapshot,
			func(r *rest.Route) { r.Reply, r.ETag = api.StorageVolumeSnapshot{}, true }),
		state.As(http.MethodGet, "Show how much a storage volume uses", auth.ViewProject, s.volumeState,
			func(r *rest.Route) { r.Reply, r.Extension = api.StorageVolumeState{}, "storage_volume_state" }),
	}
}
