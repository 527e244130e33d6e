package client

import (
	"net/http"

	"sett/shared/api"
)

// InstanceStateClient starts, stops and watches instances.
type InstanceStateClient interface {
	GetInstanceState(name string) (*api.InstanceState, string, error)
	UpdateInstanceState(name string, state api.InstanceStatePut, ETag string) (Operation, error)
}

// GetInstanceState returns what an instance is doing now.
func (r *ProtocolLXD) GetInstanceState(name string) (*api.InstanceState, string, error) {
	return fetch[api.InstanceState](r, path("instances", name, "state"))
}

// UpdateInstanceState starts, stops, restarts, freezes or thaws an instance.
func (r *ProtocolLXD) UpdateInstanceState(name string, state api.InstanceStatePut, etag string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPut, path("instances", name, "state"), state, etag)
	return op, err
}
