package client

import (
	"net/http"

	"sett/shared/api"
)

// WarningClient works with warnings.
type WarningClient interface {
	GetWarningUUIDs() ([]string, error)
	GetWarnings() ([]api.Warning, error)
	GetWarning(uuid string) (*api.Warning, string, error)
	UpdateWarning(uuid string, put api.WarningPut, ETag string) error
	DeleteWarning(uuid string) error
}

// GetWarningUUIDs lists the ids of the warnings.
func (r *ProtocolLXD) GetWarningUUIDs() ([]string, error) {
	p := path("warnings")
	return names(r, p, p)
}

// GetWarnings lists the warnings.
func (r *ProtocolLXD) GetWarnings() ([]api.Warning, error) {
	return list[api.Warning](r, path("warnings")+"?recursion=1")
}

// GetWarning returns a warning.
func (r *ProtocolLXD) GetWarning(uuid string) (*api.Warning, string, error) {
	return fetch[api.Warning](r, path("warnings", uuid))
}

// UpdateWarning replaces what can be changed about a warning.
func (r *ProtocolLXD) UpdateWarning(uuid string, put api.WarningPut, etag string) error {
	return r.exec(http.MethodPut, path("warnings", uuid), put, etag)
}

// DeleteWarning removes a warning.
func (r *ProtocolLXD) DeleteWarning(uuid string) error {
	return r.exec(http.MethodDelete, path("warnings", uuid), nil, "")
}
