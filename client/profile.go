package client

import (
	"net/http"

	"sett/shared/api"
)

// ProfileClient works with profiles.
type ProfileClient interface {
	GetProfileNames() ([]string, error)
	GetProfiles() ([]api.Profile, error)
	GetProfile(name string) (*api.Profile, string, error)
	CreateProfile(req api.ProfilesPost) error
	UpdateProfile(name string, put api.ProfilePut, ETag string) error
	RenameProfile(name string, req api.ProfilePost) error
	DeleteProfile(name string) error
}

// GetProfileNames lists the names of the profiles.
func (r *ProtocolLXD) GetProfileNames() ([]string, error) {
	p := path("profiles")
	return names(r, p, p)
}

// GetProfiles lists the profiles.
func (r *ProtocolLXD) GetProfiles() ([]api.Profile, error) {
	return list[api.Profile](r, path("profiles")+"?recursion=1")
}

// GetProfile returns a profile.
func (r *ProtocolLXD) GetProfile(name string) (*api.Profile, string, error) {
	return fetch[api.Profile](r, path("profiles", name))
}

// CreateProfile makes a profile.
func (r *ProtocolLXD) CreateProfile(req api.ProfilesPost) error {
	return r.exec(http.MethodPost, path("profiles"), req, "")
}

// UpdateProfile replaces what can be changed about a profile.
func (r *ProtocolLXD) UpdateProfile(name string, put api.ProfilePut, etag string) error {
	return r.exec(http.MethodPut, path("profiles", name), put, etag)
}

// RenameProfile renames a profile.
func (r *ProtocolLXD) RenameProfile(name string, req api.ProfilePost) error {
	return r.exec(http.MethodPost, path("profiles", name), req, "")
}

// DeleteProfile removes a profile.
func (r *ProtocolLXD) DeleteProfile(name string) error {
	return r.exec(http.MethodDelete, path("profiles", name), nil, "")
}
