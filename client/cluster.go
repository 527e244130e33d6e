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
	UpdateClusterMember(name string, member api.ClusterMemberPut, ETag string) error
	RenameClusterMember(name string, member api.ClusterMemberPost) error
	CreateClusterMember(member api.ClusterMembersPost) (Operation, error)
	DeleteClusterMember(name string, force bool) error
	UpdateClusterCertificate(cert api.ClusterCertificatePut, ETag string) error
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

// UpdateClusterMember replaces what a member is given.
func (r *ProtocolLXD) UpdateClusterMember(name string, member api.ClusterMemberPut, etag string) error {
	return r.exec(http.MethodPut, path("cluster", "members", name), member, etag)
}

// RenameClusterMember gives a member another name.
func (r *ProtocolLXD) RenameClusterMember(name string, member api.ClusterMemberPost) error {
	return r.exec(http.MethodPost, path("cluster", "members", name), member, "")
}

// CreateClusterMember makes a token with which a server may join.
func (r *ProtocolLXD) CreateClusterMember(member api.ClusterMembersPost) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, path("cluster", "members"), member, "")
	return op, err
}

// DeleteClusterMember removes a member; by force without its doing.
func (r *ProtocolLXD) DeleteClusterMember(name string, force bool) error {
	p := path("cluster", "members", name)
	if force {
		p += "?force=1"
	}
	return r.exec(http.MethodDelete, p, nil, "")
}

// UpdateClusterCertificate replaces the certificate that all members show.
func (r *ProtocolLXD) UpdateClusterCertificate(cert api.ClusterCertificatePut, etag string) error {
	return r.exec(http.MethodPut, path("cluster", "certificate"), cert, etag)
}
