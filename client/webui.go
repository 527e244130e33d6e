package client

import (
	"net/http"

	"sett/shared/api"
)

// WebUIClient logs browsers in and out. It takes the API extension sett_webui.
type WebUIClient interface {
	CreateWebUILink() (*api.WebUILink, error)
	GetWebUISessions() ([]api.WebUISession, error)
	DeleteWebUISession(id string) error
}

// CreateWebUILink makes a link that logs one browser in with the caller's rights.
func (r *ProtocolLXD) CreateWebUILink() (*api.WebUILink, error) {
	if err := r.need("sett_webui"); err != nil {
		return nil, err
	}
	resp, _, err := r.query(http.MethodPost, path("webui", "links"), nil, "")
	if err != nil {
		return nil, err
	}
	var l api.WebUILink
	return &l, resp.MetadataAsStruct(&l)
}

// GetWebUISessions lists the browsers that are logged in.
func (r *ProtocolLXD) GetWebUISessions() ([]api.WebUISession, error) {
	if err := r.need("sett_webui"); err != nil {
		return nil, err
	}
	return list[api.WebUISession](r, path("webui", "sessions")+"?recursion=1")
}

// DeleteWebUISession logs a browser out.
func (r *ProtocolLXD) DeleteWebUISession(id string) error {
	return r.exec(http.MethodDelete, path("webui", "sessions", id), nil, "")
}
