package network

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/api"
)

// Routes are the endpoints under /1.0/networks.
func (s *Service) Routes() []rest.Route {
	const feature = "features.networks"
	all := rest.Route{Path: "/1.0/networks", Scope: rest.InProject, Feature: feature, Extension: "network"}
	one := rest.Route{Path: "/1.0/networks/{name}", Scope: rest.InProject, Feature: feature, Kind: entity.Network, Extension: "network", Where: rest.OnTarget}
	part := rest.Route{Path: "/internal/networks/{name}", Scope: rest.InProject, Kind: entity.Network}
	first := func(r *rest.Route) { r.Where = rest.OnLeader }
	put := func(r *rest.Route) { r.Body.Type, r.ETag, r.Where = api.NetworkPut{}, true, rest.OnTargetOrLeader }
	state, leases := one, one
	state.Path, state.Extension = one.Path+"/state", "network_state"
	leases.Path, leases.Extension = one.Path+"/leases", "network_leases"
	// Networks are the host's, bridges and lines for its dnsmasq: a project is not enough to change them.
	return []rest.Route{
		all.As(http.MethodGet, "List the networks", auth.ViewProject, s.list, func(r *rest.Route) { r.Reply = []api.Network{} }),
		all.As(http.MethodPost, "Create a network", auth.Admin, s.create, func(r *rest.Route) { r.Body.Type = api.NetworksPost{} }, first),
		one.As(http.MethodGet, "Show a network", auth.ViewProject, s.get, func(r *rest.Route) { r.Reply, r.ETag = api.Network{}, true }),
		one.As(http.MethodPut, "Replace the configuration of a network", auth.Admin, s.put, put),
		one.As(http.MethodPatch, "Change some of the configuration of a network", auth.Admin, s.patch, put),
		one.As(http.MethodPost, "Rename a network", auth.Admin, s.rename, func(r *rest.Route) { r.Body.Type = api.NetworkPost{} }, first),
		one.As(http.MethodDelete, "Delete a network", auth.Admin, s.delete, first),
		state.As(http.MethodGet, "Show how an interface does", auth.ViewProject, s.state, func(r *rest.Route) { r.Reply = api.NetworkState{} }),
		leases.As(http.MethodGet, "List the addresses that a network gave out", auth.ViewProject, s.leases, func(r *rest.Route) { r.Reply = []api.NetworkLease{} }),

		part.As(http.MethodPost, "Start this member's part of a network", auth.Member, s.handlePartMake),
		part.As(http.MethodPut, "Follow a change of a network", auth.Member, s.handlePartPut, func(r *rest.Route) { r.Body.Type = partPut{} }),
		part.As(http.MethodDelete, "Remove this member's part of a network", auth.Member, s.handlePartDelete),
	}
}
