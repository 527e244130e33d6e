package client

import (
	"net/http"

	"sett/shared/api"
)

// NetworkClient works with networks.
type NetworkClient interface {
	GetNetworkNames() ([]string, error)
	GetNetworks() ([]api.Network, error)
	GetNetwork(name string) (*api.Network, string, error)
	CreateNetwork(req api.NetworksPost) error
	UpdateNetwork(name string, put api.NetworkPut, ETag string) error
	RenameNetwork(name string, req api.NetworkPost) error
	DeleteNetwork(name string) error
	GetNetworkLeases(name string) ([]api.NetworkLease, error)
	GetNetworkState(name string) (*api.NetworkState, error)
}

// GetNetworkNames lists the names of the networks.
func (r *ProtocolLXD) GetNetworkNames() ([]string, error) {
	p := path("networks")
	return names(r, p, p)
}

// GetNetworks lists the networks.
func (r *ProtocolLXD) GetNetworks() ([]api.Network, error) {
	return list[api.Network](r, path("networks")+"?recursion=1")
}

// GetNetwork returns a network.
func (r *ProtocolLXD) GetNetwork(name string) (*api.Network, string, error) {
	return fetch[api.Network](r, path("networks", name))
}

// CreateNetwork makes a network.
func (r *ProtocolLXD) CreateNetwork(req api.NetworksPost) error {
	return r.exec(http.MethodPost, path("networks"), req, "")
}

// UpdateNetwork replaces what can be changed about a network.
func (r *ProtocolLXD) UpdateNetwork(name string, put api.NetworkPut, etag string) error {
	return r.exec(http.MethodPut, path("networks", name), put, etag)
}

// RenameNetwork renames a network.
func (r *ProtocolLXD) RenameNetwork(name string, req api.NetworkPost) error {
	return r.exec(http.MethodPost, path("networks", name), req, "")
}

// DeleteNetwork removes a network.
func (r *ProtocolLXD) DeleteNetwork(name string) error {
	return r.exec(http.MethodDelete, path("networks", name), nil, "")
}

// GetNetworkLeases lists the addresses that a network gave away.
func (r *ProtocolLXD) GetNetworkLeases(name string) ([]api.NetworkLease, error) {
	return list[api.NetworkLease](r, path("networks", name, "leases"))
}

// GetNetworkState returns what the kernel tells about a network.
func (r *ProtocolLXD) GetNetworkState(name string) (*api.NetworkState, error) {
	s, _, err := fetch[api.NetworkState](r, path("networks", name, "state"))
	return s, err
}
