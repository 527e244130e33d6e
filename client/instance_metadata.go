package client

import (
	"net/http"

	"sett/shared/api"
)

// InstanceMetadataClient works with the image metadata inside instances.
type InstanceMetadataClient interface {
	GetInstanceMetadata(name string) (*api.ImageMetadata, string, error)
	UpdateInstanceMetadata(name string, metadata api.ImageMetadata, ETag string) error
}

// GetInstanceMetadata returns the metadata.yaml of an instance.
func (r *ProtocolLXD) GetInstanceMetadata(name string) (*api.ImageMetadata, string, error) {
	return fetch[api.ImageMetadata](r, path("instances", name, "metadata"))
}

// UpdateInstanceMetadata replaces the metadata.yaml of an instance.
func (r *ProtocolLXD) UpdateInstanceMetadata(name string, metadata api.ImageMetadata, etag string) error {
	return r.exec(http.MethodPut, path("instances", name, "metadata"), metadata, etag)
}
