package instance

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/api"
)

// Routes are the endpoints under /1.0/instances, and the same under the older names.
func (s *Service) Routes() []rest.Route {
	all := rest.Route{Path: "/1.0/instances", Scope: rest.InProject}
	one := rest.Route{Path: "/1.0/instances/{name}", Scope: rest.InProject, Kind: entity.Instance, Where: rest.OnInstance}
	state, logs, logFile := one, one, one
	state.Path += "/state"
	logs.Path += "/logs"
	logFile.Path += "/logs/{file}"
	rebuild := one
	rebuild.Path += "/rebuild"
	rebuild.Extension = "instances_rebuild"
	body := func(v any) func(*rest.Route) { return func(r *rest.Route) { r.Body.Type = v } }
	reply := func(v any) func(*rest.Route) { return func(r *rest.Route) { r.Reply = v } }
	etag := func(r *rest.Route) { r.ETag = true }
	lists := func(r *rest.Route) { r.Lists = true }
	stream := func(r *rest.Route) { r.Body = rest.Body{Type: api.InstancesPost{}, Stream: true} } // or a backup
	placed := func(r *rest.Route) { r.Where = rest.OnPlacement }
	rs := []rest.Route{
		all.As(http.MethodGet, "List the instances", auth.ViewProject, s.handleList, reply([]api.Instance{}), lists),
		all.As(http.MethodPost, "Create an instance", auth.EditProject, s.handleCreate, stream, placed),
		all.As(http.MethodPut, "Change the state of all instances", auth.EditProject, s.handleStateAll, body(api.InstancesPut{})),
		one.As(http.MethodGet, "Show an instance", auth.ViewProject, s.handleGet, reply(api.Instance{}), etag),
		one.As(http.MethodPut, "Replace the configuration of an instance", auth.EditProject, s.handlePut, body(api.InstancePut{}), etag),
		one.As(http.MethodPatch, "Change the configuration of an instance", auth.EditProject, s.handlePatch, body(api.InstancePut{}), etag),
		one.As(http.MethodPost, "Rename an instance", auth.EditProject, s.handlePost, body(api.InstancePost{})),
		one.As(http.MethodDelete, "Delete an instance", auth.EditProject, s.handleDelete),
		rebuild.As(http.MethodPost, "Make an instance anew of another image, or of none", auth.EditProject, s.handleRebuild, body(api.InstanceRebuildPost{})),
		state.As(http.MethodGet, "Show what an instance does now", auth.ViewProject, s.handleState, reply(api.InstanceState{})),
		state.As(http.MethodPut, "Start, stop, restart, freeze or unfreeze an instance", auth.EditProject, s.handleStatePut, body(api.InstanceStatePut{})),
		logs.As(http.MethodGet, "List the log files of an instance", auth.ViewProject, s.handleLogs),
		logFile.As(http.MethodGet, "Read a log file of an instance", auth.ViewProject, s.handleLog),
		logFile.As(http.MethodDelete, "Delete a log file of an instance", auth.EditProject, s.handleLogDelete),
	}
	return append(append(WithLegacy(append(append(rs, s.snapshotRoutes()...), s.backupRoutes()...)), s.partRoutes()...), s.rescueRoutes()...)
}

// WithLegacy adds the paths under which LXD's older clients ask.
func WithLegacy(rs []rest.Route) []rest.Route {
	old := rest.Alias(rs, "/1.0/instances", "/1.0/containers")
	return append(append(rs, old...), rest.Alias(rs[:len(rs):len(rs)], "/1.0/instances", "/1.0/virtual-machines")...)
}
