package client

import (
	"errors"
	"net/http"
	"net/url"

	"sett/shared/api"
)

// ImageReader gets images from any server that has some.
type ImageReader interface {
	GetImages() ([]api.Image, error)
	GetImageFingerprints() ([]string, error)
	GetImagesWithFilter(filters []string) ([]api.Image, error)
	GetImage(fingerprint string) (*api.Image, string, error)
	GetPrivateImage(fingerprint, secret string) (*api.Image, string, error)
	GetImageFile(fingerprint string, req ImageFileRequest) (*ImageFileResponse, error)
	GetImageSecret(fingerprint string) (string, error)
	GetImageAliases() ([]api.ImageAliasesEntry, error)
	GetImageAliasNames() ([]string, error)
	GetImageAlias(name string) (*api.ImageAliasesEntry, string, error)
	// GetImageAliasType finds the alias for one type of instance.
	GetImageAliasType(imageType, name string) (*api.ImageAliasesEntry, string, error)
}

// ImageClient works with the image store of a server.
type ImageClient interface {
	ImageReader
	// CreateImage uploads the files of args, or has the server make the image
	// itself as image.Source says when args is nil.
	CreateImage(image api.ImagesPost, args *ImageCreateArgs) (Operation, error)
	UpdateImage(fingerprint string, image api.ImagePut, ETag string) error
	DeleteImage(fingerprint string) (Operation, error)
	RefreshImage(fingerprint string) (Operation, error)
	CreateImageSecret(fingerprint string) (Operation, error)
	CreateImageAlias(alias api.ImageAliasesPost) error
	UpdateImageAlias(name string, alias api.ImageAliasesEntryPut, ETag string) error
	RenameImageAlias(name string, alias api.ImageAliasesEntryPost) error
	DeleteImageAlias(name string) error
}

// GetImages lists the images.
func (r *ProtocolLXD) GetImages() ([]api.Image, error) {
	return list[api.Image](r, "/1.0/images?recursion=1")
}

// GetImageFingerprints lists the fingerprints of the images.
func (r *ProtocolLXD) GetImageFingerprints() ([]string, error) {
	return names(r, "/1.0/images", "/1.0/images")
}

// GetImagesWithFilter lists the images that match all filters.
func (r *ProtocolLXD) GetImagesWithFilter(filters []string) ([]api.Image, error) {
	if err := r.need("api_filtering"); err != nil {
		return nil, err
	}
	return list[api.Image](r, "/1.0/images?recursion=1&"+filter(filters))
}

// GetImage returns an image; the beginning of a fingerprint will do.
func (r *ProtocolLXD) GetImage(fingerprint string) (*api.Image, string, error) {
	return fetch[api.Image](r, path("images", fingerprint))
}

// GetPrivateImage is GetImage for a caller who holds a secret instead of trust.
func (r *ProtocolLXD) GetPrivateImage(fingerprint, secret string) (*api.Image, string, error) {
	return fetch[api.Image](r, path("images", fingerprint)+"?secret="+url.QueryEscape(secret))
}

// GetImageSecret asks for a secret with which another server can fetch the image.
func (r *ProtocolLXD) GetImageSecret(fingerprint string) (string, error) {
	op, err := r.CreateImageSecret(fingerprint)
	if err != nil {
		return "", err
	}
	secret, ok := op.Get().Metadata["secret"].(string)
	if !ok {
		return "", errors.New("Server answered without a secret for the image")
	}
	return secret, nil
}

// CreateImageSecret starts the token operation behind GetImageSecret.
func (r *ProtocolLXD) CreateImageSecret(fingerprint string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, path("images", fingerprint, "secret"), nil, "")
	return op, err
}

// UpdateImage replaces what can be changed about an image.
func (r *ProtocolLXD) UpdateImage(fingerprint string, image api.ImagePut, etag string) error {
	return r.exec(http.MethodPut, path("images", fingerprint), image, etag)
}

// DeleteImage removes an image.
func (r *ProtocolLXD) DeleteImage(fingerprint string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodDelete, path("images", fingerprint), nil, "")
	return op, err
}

// RefreshImage asks the server to look for a newer version of an image.
func (r *ProtocolLXD) RefreshImage(fingerprint string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, path("images", fingerprint, "refresh"), nil, "")
	return op, err
}

// GetImageAliases lists the aliases.
func (r *ProtocolLXD) GetImageAliases() ([]api.ImageAliasesEntry, error) {
	return list[api.ImageAliasesEntry](r, "/1.0/images/aliases?recursion=1")
}

// GetImageAliasNames lists the names of the aliases.
func (r *ProtocolLXD) GetImageAliasNames() ([]string, error) {
	return names(r, "/1.0/images/aliases", "/1.0/images/aliases")
}

// GetImageAlias returns an alias.
func (r *ProtocolLXD) GetImageAlias(name string) (*api.ImageAliasesEntry, string, error) {
	return fetch[api.ImageAliasesEntry](r, path("images", "aliases", name))
}

// GetImageAliasType finds the alias for one type of instance ("": any).
func (r *ProtocolLXD) GetImageAliasType(imageType, name string) (*api.ImageAliasesEntry, string, error) {
	alias, etag, err := r.GetImageAlias(name)
	if err != nil {
		return nil, "", err
	}
	if imageType != "" {
		if alias.Type == "" {
			alias.Type = "container"
		}
		if alias.Type != imageType {
			return nil, "", api.StatusErrorf(http.StatusNotFound, "Alias doesn't exist for the specified type")
		}
	}
	return alias, etag, nil
}

// CreateImageAlias makes an alias.
func (r *ProtocolLXD) CreateImageAlias(alias api.ImageAliasesPost) error {
	return r.exec(http.MethodPost, "/1.0/images/aliases", alias, "")
}

// UpdateImageAlias replaces what can be changed about an alias.
func (r *ProtocolLXD) UpdateImageAlias(name string, alias api.ImageAliasesEntryPut, etag string) error {
	return r.exec(http.MethodPut, path("images", "aliases", name), alias, etag)
}

// RenameImageAlias renames an alias.
func (r *ProtocolLXD) RenameImageAlias(name string, alias api.ImageAliasesEntryPost) error {
	return r.exec(http.MethodPost, path("images", "aliases", name), alias, "")
}

// DeleteImageAlias removes an alias.
func (r *ProtocolLXD) DeleteImageAlias(name string) error {
	return r.exec(http.MethodDelete, path("images", "aliases", name), nil, "")
}
