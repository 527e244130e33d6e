package member

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/cluster"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/api"
)

// PathPeek is where a server with a token asks what it must bring.
const PathPeek = "/internal/cluster/peek"

// What members say to each other.
const (
	pathDatabase    = "/internal/database"
	pathAccept      = "/internal/cluster/accept"
	pathRaftNode    = "/internal/cluster/raft-node/{address}"
	pathWithdraw    = "/internal/cluster/withdraw"
	pathPeers       = "/internal/cluster/peers"
	pathRefresh     = "/internal/cluster/refresh"
	pathHeartbeat   = "/internal/cluster/heartbeat"
	pathRoom        = "/internal/cluster/room"
	pathToken       = "/internal/cluster/token"
	pathLeave       = "/internal/cluster/leave"
	pathReset       = "/internal/cluster/reset"
	pathCertificate = "/internal/cluster/certificate"
)

// Routes are the endpoints under /1.0/cluster, and those between members.
func (s *Service) Routes() []rest.Route {
	top := rest.Route{Path: "/1.0/cluster", Extension: "clustering"}
	cert := rest.Route{Path: "/1.0/cluster/certificate", Extension: "clustering_update_cert"}
	all := rest.Route{Path: "/1.0/cluster/members", Extension: "clustering"}
	one := rest.Route{Path: "/1.0/cluster/members/{name}", Kind: entity.Member, Extension: "clustering"}
	put := func(r *rest.Route) { r.Body.Type, r.ETag, r.Where = api.ClusterMemberPut{}, true, rest.OnLeader }
	state := rest.Route{Path: "/1.0/cluster/members/{name}/state", Kind: entity.Member}
	groups := rest.Route{Path: "/1.0/cluster/groups"}
	group := rest.Route{Path: "/1.0/cluster/groups/{name}"}
	out := []rest.Route{
		top.As(http.MethodGet, "Show this server as a member of a cluster", auth.Trusted, s.getCluster, func(r *rest.Route) { r.Reply, r.ETag = api.Cluster{}, true }),
		top.As(http.MethodPut, "Make a cluster, or join one", auth.Admin, s.putCluster, func(r *rest.Route) { r.Body.Type, r.ETag = api.ClusterPut{}, true }),
		cert.As(http.MethodPut, "Replace the certificate that all members show", auth.Admin, s.putCertificate, func(r *rest.Route) { r.Body.Type = api.ClusterCertificatePut{} }),
		all.As(http.MethodGet, "List the members", auth.Trusted, s.listMembers, func(r *rest.Route) { r.Reply = []api.ClusterMember{} }),
		all.As(http.MethodPost, "Make a token with which a server may join", auth.Admin, s.postMembers, func(r *rest.Route) { r.Body.Type = api.ClusterMembersPost{} }),
		one.As(http.MethodGet, "Show a member", auth.Trusted, s.getMember, func(r *rest.Route) { r.Reply, r.ETag = api.ClusterMember{}, true }),
		one.As(http.MethodPut, "Replace what a member is given", auth.Admin, s.putMember, put),
		one.As(http.MethodPatch, "Change some of what a member is given", auth.Admin, s.patchMember, put),
		one.As(http.MethodPost, "Rename a member", auth.Admin, s.postMember, func(r *rest.Route) { r.Body.Type = api.ClusterMemberPost{} }),
		one.As(http.MethodDelete, "Remove a member", auth.Admin, s.deleteMember),
		state.As(http.MethodPost, "Evacuate or restore a member (not implemented)", auth.Admin, unbuilt("Evacuating and restoring members"), func(r *rest.Route) { r.Body.Type = api.ClusterMemberStatePost{} }),
		groups.As(http.MethodGet, "List the groups of members", auth.Trusted, s.listGroups),
		groups.As(http.MethodPost, "Create a group of members (not implemented)", auth.Admin, unbuilt("Groups of cluster members"), func(r *rest.Route) { r.Body.Type = api.ClusterGroupsPost{} }),
		group.As(http.MethodGet, "Show a group of members (not implemented)", auth.Trusted, unbuilt("Groups of cluster members")),
		group.As(http.MethodPut, "Replace a group of members (not implemented)", auth.Admin, unbuilt("Groups of cluster members")),
		group.As(http.MethodPatch, "Change a group of members (not implemented)", auth.Admin, unbuilt("Groups of cluster members")),
		group.As(http.MethodPost, "Rename a group of members (not implemented)", auth.Admin, unbuilt("Groups of cluster members")),
		group.As(http.MethodDelete, "Delete a group of members (not implemented)", auth.Admin, unbuilt("Groups of cluster members")),
	}
	return append(out, s.internal()...)
}

// internal are the routes between members. They answer while the daemon comes up and
// goes down: the others need it for the database.
func (s *Service) internal() []rest.Route {
	at := func(path string) rest.Route { return rest.Route{Path: path, EarlyOK: true, LateOK: true} }
	body := func(v any) func(*rest.Route) { return func(r *rest.Route) { r.Body.Type = v } }
	// Servers that want to join are strangers with a secret.
	small := func(v any) func(*rest.Route) {
		return func(r *rest.Route) { r.Body.Type, r.Body.Limit, r.EarlyOK, r.LateOK = v, 16<<10, false, false }
	}
	return []rest.Route{
		at(pathDatabase).As(http.MethodGet, "Talk to the database of this member", auth.Member, s.database),
		at(pathAccept).As(http.MethodPost, "Let a server with a token in", auth.Public, s.postAccept, small(acceptRequest{})),
		at(PathPeek).As(http.MethodPost, "Tell a server with a token what it must bring", auth.Public, s.postPeek, small(TokenRequest{})),
		rest.Route{Path: pathRaftNode}.As(http.MethodDelete, "Remove a member from the database's own members", auth.Admin, s.deleteRaftNode),
		at(pathWithdraw).As(http.MethodPost, "Forget the server that asks: it could not join", auth.Member, s.postWithdraw),
		at(pathPeers).As(http.MethodGet, "List the certificates of the members", auth.Member, s.getPeers, func(r *rest.Route) { r.Reply = []cluster.Peer{} }),
		at(pathRefresh).As(http.MethodPost, "Look into the database again", auth.Member, s.postRefresh),
		at(pathHeartbeat).As(http.MethodPost, "Hear from the leader", auth.Member, s.postHeartbeat, body(heartbeat{})),
		at(pathRoom).As(http.MethodGet, "Tell whether the database of this member is short of room", auth.Member, s.getRoom, func(r *rest.Route) { r.Reply = heard{} }),
		at(pathToken).As(http.MethodPost, "Check or use a join token of this member", auth.Member, s.postToken, body(TokenRequest{})),
		at(pathLeave).As(http.MethodPost, "Put pools and networks away before this member is removed", auth.Member, s.postLeave),
		at(pathReset).As(http.MethodPost, "Stand alone again, after the cluster has forgotten this member", auth.Member, s.postReset),
		at(pathCertificate).As(http.MethodPut, "Take the certificate that all members show", auth.Member, s.putShared, body(api.ClusterCertificatePut{})),
	}
}
