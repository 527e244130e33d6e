package server

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/api"
)

// Routes are the endpoints of the server, of operations and of events.
func (s *Service) Routes() []rest.Route {
	root := rest.Route{Path: "/", EarlyOK: true}
	one := rest.Route{Path: "/1.0", EarlyOK: true, Kind: entity.Server, Where: rest.OnTarget}
	ops := rest.Route{Path: "/1.0/operations", Scope: rest.InProject, LateOK: true}
	o := rest.Route{Path: "/1.0/operations/{id}", Kind: entity.Operation, Where: rest.OnOperation, LateOK: true}
	wait, ws := o, o
	wait.Path += "/wait"
	ws.Path += "/websocket"
	internal := rest.Route{EarlyOK: true, LateOK: true}
	ready, shutdown, sql := internal, internal, internal
	ready.Path, shutdown.Path, sql.Path = "/internal/ready", "/internal/shutdown", "/internal/sql"
	return append([]rest.Route{
		root.As(http.MethodGet, "List the versions of the API", auth.Public, s.handleRoot, func(r *rest.Route) { r.Reply = []string{} }),
		one.As(http.MethodGet, "Show the server and its environment", auth.Public, s.handleGet, func(r *rest.Route) { r.Reply, r.ETag = api.Server{}, true }),
		one.As(http.MethodPut, "Replace the server's configuration", auth.Admin, s.handlePut, func(r *rest.Route) { r.Body.Type, r.ETag, r.EarlyOK = api.ServerPut{}, true, false }),
		one.As(http.MethodPatch, "Change the server's configuration", auth.Admin, s.handlePatch, func(r *rest.Route) { r.Body.Type, r.ETag, r.EarlyOK = api.ServerPut{}, true, false }),
		rest.Route{Path: "/1.0/resources", Where: rest.OnTarget}.As(http.MethodGet, "Show the machine's hardware", auth.Admin, s.handleResources, func(r *rest.Route) { r.Reply = api.Resources{} }),
		rest.Route{Path: "/1.0/events", Scope: rest.InProject, LateOK: true}.As(http.MethodGet, "Follow what happens, over a websocket", auth.ViewProject, s.handleEvents, func(r *rest.Route) { r.Lists = true }),
		ops.As(http.MethodGet, "List the operations", auth.ViewProject, s.handleOps, func(r *rest.Route) { r.Lists = true }),
		o.As(http.MethodGet, "Show an operation", auth.Trusted, s.handleOp, func(r *rest.Route) { r.Reply = api.Operation{} }),
		o.As(http.MethodDelete, "Cancel an operation", auth.Trusted, s.handleOpCancel),
		wait.As(http.MethodGet, "Wait for an operation", auth.Public, s.handleOpWait, func(r *rest.Route) { r.Reply = api.Operation{} }),
		ws.As(http.MethodGet, "Connect a websocket of an operation", auth.Public, s.handleOpWebsocket),
		ready.As(http.MethodGet, "Wait until the daemon is ready", auth.Admin, s.handleReady),
		shutdown.As(http.MethodPut, "Stop the daemon and its instances", auth.Admin, s.handleShutdown),
		sql.As(http.MethodPost, "Run SQL on a database of the daemon", auth.Admin, s.handleSQL, func(r *rest.Route) { r.EarlyOK = false }),
		sql.As(http.MethodGet, "Dump a database of the daemon", auth.Admin, s.handleDump, func(r *rest.Route) { r.EarlyOK = false }),
	}, s.partRoutes()...)
}
