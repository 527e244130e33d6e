package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"
)

// Cluster tells about this server as a member of a cluster.
type Cluster struct {
	ServerName   string                   `json:"server_name" yaml:"server_name"`
	Enabled      bool                     `json:"enabled" yaml:"enabled"`
	MemberConfig []ClusterMemberConfigKey `json:"member_config" yaml:"member_config"`
}

// ClusterMemberConfigKey is a setting that a joining member must bring.
type ClusterMemberConfigKey struct {
	Entity      string `json:"entity" yaml:"entity"`
	Name        string `json:"name" yaml:"name"`
	Key         string `json:"key" yaml:"key"`
	Value       string `json:"value" yaml:"value"`
	Description string `json:"description" yaml:"description"`
}

// ClusterPut makes, joins or leaves a cluster.
type ClusterPut struct {
	Cluster `yaml:",inline"`

	ClusterAddress     string `json:"cluster_address" yaml:"cluster_address"`
	ClusterCertificate string `json:"cluster_certificate" yaml:"cluster_certificate"`
	ServerAddress      string `json:"server_address" yaml:"server_address"`
	ClusterPassword    string `json:"cluster_password" yaml:"cluster_password"`
}

// ClusterMembersPost asks for a token that lets a member join.
type ClusterMembersPost struct {
	ServerName string `json:"server_name" yaml:"server_name"`
}

// ClusterMemberJoinToken is what a join token carries.
type ClusterMemberJoinToken struct {
	ServerName  string    `json:"server_name" yaml:"server_name"`
	Fingerprint string    `json:"fingerprint" yaml:"fingerprint"`
	Addresses   []string  `json:"addresses" yaml:"addresses"`
	Secret      string    `json:"secret" yaml:"secret"`
	ExpiresAt   time.Time `json:"expires_at" yaml:"expires_at"`
}

// ClusterMemberPost renames a member.
type ClusterMemberPost struct {
	ServerName string `json:"server_name" yaml:"server_name"`
}

// ClusterMemberPut holds what can be changed about a member.
type ClusterMemberPut struct {
	Roles         []string          `json:"roles" yaml:"roles"`
	FailureDomain string            `json:"failure_domain" yaml:"failure_domain"`
	Description   string            `json:"description" yaml:"description"`
	Config        map[string]string `json:"config" yaml:"config"`
	Groups        []string          `json:"groups" yaml:"groups"`
}

// ClusterMember is one server of a cluster.
type ClusterMember struct {
	ClusterMemberPut `yaml:",inline"`

	ServerName   string `json:"server_name" yaml:"server_name"`
	URL          string `json:"url" yaml:"url"`
	Database     bool   `json:"database" yaml:"database"`
	Status       string `json:"status" yaml:"status"`
	Message      string `json:"message" yaml:"message"`
	Architecture string `json:"architecture" yaml:"architecture"`
}

// ClusterMemberStatePost evacuates or restores a member.
type ClusterMemberStatePost struct {
	Action string `json:"action" yaml:"action"`
	Mode   string `json:"mode" yaml:"mode"`
}

// ClusterCertificatePut replaces the certificate of all members.
type ClusterCertificatePut struct {
	ClusterCertificate    string `json:"cluster_certificate" yaml:"cluster_certificate"`
	ClusterCertificateKey string `json:"cluster_certificate_key" yaml:"cluster_certificate_key"`
}

// ClusterGroupPut holds what can be changed about a group of members.
type ClusterGroupPut struct {
	Description string   `json:"description" yaml:"description"`
	Members     []string `json:"members" yaml:"members"`
}

// ClusterGroupsPost asks for a new group of members.
type ClusterGroupsPost struct {
	ClusterGroupPut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
}

// ClusterGroupPost renames a group of members.
type ClusterGroupPost struct {
	Name string `json:"name" yaml:"name"`
}

// ClusterGroup is a group of members that can be a target.
type ClusterGroup struct {
	ClusterGroupPut `yaml:",inline"`

	ClusterGroupPost `yaml:",inline"`
}

// Writable returns the part of a member that PUT and PATCH take.
func (m *ClusterMember) Writable() ClusterMemberPut { return m.ClusterMemberPut }

// Writable returns the part of a group that PUT and PATCH take.
func (g *ClusterGroup) Writable() ClusterGroupPut { return g.ClusterGroupPut }

// String is the form in which a token travels.
func (t *ClusterMemberJoinToken) String() string { return encodeToken(t) }

// JoinTokenDecode reads a token in the form in which it travels.
func JoinTokenDecode(input string) (*ClusterMemberJoinToken, error) {
	b, err := base64.StdEncoding.DecodeString(input)
	if err != nil {
		return nil, err
	}
	var t ClusterMemberJoinToken
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, err
	}
	switch {
	case t.ServerName == "":
		return nil, errors.New("the join token names no server")
	case len(t.Addresses) == 0:
		return nil, errors.New("the join token names no address")
	case t.Secret == "":
		return nil, errors.New("the join token has no secret")
	case t.Fingerprint == "":
		return nil, errors.New("the join token has no fingerprint")
	}
	return &t, nil
}
