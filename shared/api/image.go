package api

import (
	"time"
)

// ImagePut holds what can be changed about an image.
type ImagePut struct {
	AutoUpdate bool              `json:"auto_update" yaml:"auto_update"`
	Properties map[string]string `json:"properties" yaml:"properties"`
	Public     bool              `json:"public" yaml:"public"`
	ExpiresAt  time.Time         `json:"expires_at" yaml:"expires_at"`
	Profiles   []string          `json:"profiles" yaml:"profiles"`
}

// Image is an image in the store.
type Image struct {
	ImagePut `yaml:",inline"`

	Aliases      []ImageAlias `json:"aliases" yaml:"aliases"`
	Architecture string       `json:"architecture" yaml:"architecture"`
	Cached       bool         `json:"cached" yaml:"cached"`
	Filename     string       `json:"filename" yaml:"filename"`
	Fingerprint  string       `json:"fingerprint" yaml:"fingerprint"`
	Size         int64        `json:"size" yaml:"size"`
	UpdateSource *ImageSource `json:"update_source,omitempty" yaml:"update_source,omitempty"`
	Type         string       `json:"type" yaml:"type"`
	CreatedAt    time.Time    `json:"created_at" yaml:"created_at"`
	LastUsedAt   time.Time    `json:"last_used_at" yaml:"last_used_at"`
	UploadedAt   time.Time    `json:"uploaded_at" yaml:"uploaded_at"`
}

// ImagesPost asks for a new image that is fetched, published or pushed.
type ImagesPost struct {
	ImagePut `yaml:",inline"`

	Filename             string            `json:"filename" yaml:"filename"`
	Source               *ImagesPostSource `json:"source" yaml:"source"`
	CompressionAlgorithm string            `json:"compression_algorithm" yaml:"compression_algorithm"`
	Aliases              []ImageAlias      `json:"aliases" yaml:"aliases"`
}

// ImagesPostSource tells where a new image comes from.
type ImagesPostSource struct {
	ImageSource `yaml:",inline"`

	// "pull" (or nothing) or "push".
	Mode string `json:"mode" yaml:"mode"`
	// "instance", "container", "virtual-machine", "snapshot", "image" or "url".
	Type        string `json:"type" yaml:"type"`
	URL         string `json:"url" yaml:"url"`
	Name        string `json:"name" yaml:"name"`
	Fingerprint string `json:"fingerprint" yaml:"fingerprint"`
	Secret      string `json:"secret" yaml:"secret"`
	Project     string `json:"project" yaml:"project"`
}

// ImageSource is the server that an image was copied from.
type ImageSource struct {
	Alias       string `json:"alias" yaml:"alias"`
	Certificate string `json:"certificate" yaml:"certificate"`
	Protocol    string `json:"protocol" yaml:"protocol"`
	Server      string `json:"server" yaml:"server"`
	ImageType   string `json:"image_type" yaml:"image_type"`
}

// ImageAlias is a name of an image, as part of the image.
type ImageAlias struct {
	Name        string `json:"name" yaml:"name"`
	Description string `json:"description" yaml:"description"`
}

// ImageExportPost asks to push an image to another server.
type ImageExportPost struct {
	Target      string       `json:"target" yaml:"target"`
	Secret      string       `json:"secret" yaml:"secret"`
	Certificate string       `json:"certificate" yaml:"certificate"`
	Aliases     []ImageAlias `json:"aliases" yaml:"aliases"`
	Project     string       `json:"project" yaml:"project"`
	Profiles    []string     `json:"profiles" yaml:"profiles"`
}

// ImageAliasesEntryPut holds what can be changed about an alias.
type ImageAliasesEntryPut struct {
	Description string `json:"description" yaml:"description"`
	// Fingerprint.
	Target string `json:"target" yaml:"target"`
}

// ImageAliasesEntryPost renames an alias.
type ImageAliasesEntryPost struct {
	Name string `json:"name" yaml:"name"`
}

// ImageAliasesEntry is an alias as an object of its own.
type ImageAliasesEntry struct {
	ImageAliasesEntryPut `yaml:",inline"`

	Name string `json:"name" yaml:"name"`
	Type string `json:"type" yaml:"type"`
}

// ImageAliasesPost asks for a new alias.
type ImageAliasesPost struct {
	ImageAliasesEntry `yaml:",inline"`
}

// ImageMetadata is metadata.yaml, which travels inside an image and stays in the instance.
type ImageMetadata struct {
	Architecture string                            `json:"architecture" yaml:"architecture"`
	CreationDate int64                             `json:"creation_date" yaml:"creation_date"`
	ExpiryDate   int64                             `json:"expiry_date" yaml:"expiry_date"`
	Properties   map[string]string                 `json:"properties" yaml:"properties"`
	Templates    map[string]*ImageMetadataTemplate `json:"templates" yaml:"templates"`
}

// ImageMetadataTemplate tells when a template inside an image is rendered.
type ImageMetadataTemplate struct {
	When       []string          `json:"when" yaml:"when"`
	CreateOnly bool              `json:"create_only" yaml:"create_only"`
	Template   string            `json:"template" yaml:"template"`
	Properties map[string]string `json:"properties" yaml:"properties"`
}

// Writable returns the part of an image that PUT and PATCH take.
func (i *Image) Writable() ImagePut { return i.ImagePut }

// Writable returns the part of an alias that PUT and PATCH take.
func (a *ImageAliasesEntry) Writable() ImageAliasesEntryPut { return a.ImageAliasesEntryPut }
