package client

import (
	"bytes"
	"io"
	"net/http"
	"net/url"

	"sett/shared/api"
)

// InstanceMetadataClient works with the image metadata inside instances.
type InstanceMetadataClient interface {
	GetInstanceMetadata(name string) (*api.ImageMetadata, string, error)
	UpdateInstanceMetadata(name string, metadata api.ImageMetadata, ETag string) error
	GetInstanceTemplateFiles(name string) ([]string, error)
	GetInstanceTemplateFile(name, template string) (io.ReadCloser, error)
	// CreateInstanceTemplateFile makes or replaces a template.
	CreateInstanceTemplateFile(name, template string, content io.Reader) error
	DeleteInstanceTemplateFile(name, template string) error
}

// GetInstanceMetadata returns the metadata.yaml of an instance.
func (r *ProtocolLXD) GetInstanceMetadata(name string) (*api.ImageMetadata, string, error) {
	return fetch[api.ImageMetadata](r, path("instances", name, "metadata"))
}

// UpdateInstanceMetadata replaces the metadata.yaml of an instance.
func (r *ProtocolLXD) UpdateInstanceMetadata(name string, metadata api.ImageMetadata, etag string) error {
	return r.exec(http.MethodPut, path("instances", name, "metadata"), metadata, etag)
}

func templatePath(instance, template string) string {
	return path("instances", instance, "metadata", "templates") + "?path=" + url.QueryEscape(template)
}

// GetInstanceTemplateFiles lists the templates of an instance.
func (r *ProtocolLXD) GetInstanceTemplateFiles(name string) ([]string, error) {
	return list[string](r, path("instances", name, "metadata", "templates"))
}

// GetInstanceTemplateFile opens a template. The caller closes it.
func (r *ProtocolLXD) GetInstanceTemplateFile(name, template string) (io.ReadCloser, error) {
	body, _, err := r.stream(templatePath(name, template))
	return body, err
}

// CreateInstanceTemplateFile makes or replaces a template.
func (r *ProtocolLXD) CreateInstanceTemplateFile(name, template string, content io.Reader) error {
	if content == nil {
		content = bytes.NewReader(nil)
	}
	return r.exec(http.MethodPost, templatePath(name, template), content, "")
}

// DeleteInstanceTemplateFile removes a template.
func (r *ProtocolLXD) DeleteInstanceTemplateFile(name, template string) error {
	return r.exec(http.MethodDelete, templatePath(name, template), nil, "")
}
