package client

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"sett/shared/api"
)

// ServerClient asks and configures the server itself.
type ServerClient interface {
	GetServer() (*api.Server, string, error)
	GetServerResources() (*api.Resources, error)
	UpdateServer(server api.ServerPut, ETag string) error
	// HasExtension tells whether the server announces a feature.
	HasExtension(extension string) bool
	// IsClustered tells whether the server is a member of a cluster.
	IsClustered() bool
	// RequireAuthenticated(false) takes what the server shows to strangers, too;
	// otherwise a server that does not know this client refuses.
	RequireAuthenticated(authenticated bool)
	// GetMetrics returns the server's metrics as text.
	GetMetrics() (string, error)
}

func itoa(n int) string { return strconv.Itoa(n) }

// GetServer returns what the server tells about itself.
func (r *ProtocolLXD) GetServer() (*api.Server, string, error) {
	s, etag, err := fetch[api.Server](r, "/1.0")
	if err != nil {
		return nil, "", err
	}
	r.mu.Lock()
	r.core.server = s
	r.mu.Unlock()
	return s, etag, nil
}

// GetServerResources returns the hardware of the server.
func (r *ProtocolLXD) GetServerResources() (*api.Resources, error) {
	res, _, err := fetch[api.Resources](r, "/1.0/resources")
	return res, err
}

// UpdateServer replaces the server's configuration.
func (r *ProtocolLXD) UpdateServer(server api.ServerPut, etag string) error {
	return r.exec(http.MethodPut, "/1.0", server, etag)
}

// known is what the server told about itself last; it is asked when it was not yet.
func (r *ProtocolLXD) known() (*api.Server, error) {
	r.mu.Lock()
	s := r.core.server
	r.mu.Unlock()
	if s != nil {
		return s, nil
	}
	v := r.view()
	v.project, v.target = "", "" // it tells the same to all
	s, _, err := v.GetServer()
	return s, err
}

// HasExtension tells whether the server announces a feature.
func (r *ProtocolLXD) HasExtension(extension string) bool {
	s, err := r.known()
	return err == nil && slices.Contains(s.APIExtensions, extension)
}

// need refuses what the server does not announce.
func (r *ProtocolLXD) need(extension string) error {
	if s, err := r.known(); err != nil || slices.Contains(s.APIExtensions, extension) {
		return err
	}
	return fmt.Errorf("The server is missing the required %q API extension", extension)
}

// needAll refuses what is asked for and the server does not announce.
func (r *ProtocolLXD) needAll(asked map[string]bool) error {
	for _, extension := range slices.Sorted(maps.Keys(asked)) {
		if asked[extension] {
			if err := r.need(extension); err != nil {
				return err
			}
		}
	}
	return nil
}

// IsClustered tells whether the server is a member of a cluster.
func (r *ProtocolLXD) IsClustered() bool {
	s, err := r.known()
	return err == nil && s.Environment.ServerClustered
}

// RequireAuthenticated says whether a server that does not know this client is to
// refuse instead of showing its public face. That is how it is unless turned off.
func (r *ProtocolLXD) RequireAuthenticated(authenticated bool) {
	r.core.anybody.Store(!authenticated)
}

// GetMetrics returns the server's metrics as text.
func (r *ProtocolLXD) GetMetrics() (string, error) {
	return r.text("/1.0/metrics")
}
