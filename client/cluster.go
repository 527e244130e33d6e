package client

import (
	"net/http"

	"sett/shared/api"
)

// ClusterClient works with the members of a cluster.
type ClusterClient interface {
	GetCluster() (*api.Cluster, string, error)
	UpdateCluster(cluster api.ClusterPut, ETag string) (Operation, error)
	GetClusterMemberNames() ([]string, error)
	GetClusterMembers() ([]api.ClusterMember, error)
	GetClusterMember(name string) (*api.ClusterMember, string, error)
}

// GetCluster tells about this server as a member of a cluster.
func (r *ProtocolLXD) GetCluster() (*api.Cluster, string, error) {
	return fetch[api.Cluster](r, "/1.0/cluster")
}

// UpdateCluster makes, joins or leaves a cluster.
func (r *ProtocolLXD) UpdateCluster(cluster api.ClusterPut, etag string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPut, "/1.0/cluster", cluster, etag)
	return op, err
}

// GetClusterMemberNames lists the names of the members.
func (r *ProtocolLXD) GetClusterMemberNames() ([]string, error) {
	p := path("cluster", "members")
	return names(r, p, p)
}

// GetClusterMembers lists the members.
func (r *ProtocolLXD) GetClusterMembers() ([]api.ClusterMember, error) {
	return list[api.ClusterMember](r, path("cluster", "members")+"?recursion=1")
}

// GetClusterMember returns a member.
func (r *ProtocolLXD) GetClusterMember(name string) (*api.ClusterMember, string, error) {
	return fetch[api.ClusterMember](r, path("cluster", "members", name))
}
