package client

import (
	"net/http"

	"sett/shared/api"
)

// StorageVolumeClient works with the volumes of storage pools.
type StorageVolumeClient interface {
	GetStoragePoolVolumes(pool string) ([]api.StorageVolume, error)
	GetStoragePoolVolumesAllProjects(pool string) ([]api.StorageVolume, error)
	GetStoragePoolVolume(pool, volType, name string) (*api.StorageVolume, string, error)
	GetStoragePoolVolumeState(pool, volType, name string) (*api.StorageVolumeState, error)
	CreateStoragePoolVolume(pool string, volume api.StorageVolumesPost) error
	UpdateStoragePoolVolume(pool, volType, name string, volume api.StorageVolumePut, ETag string) error
	RenameStoragePoolVolume(pool, volType, name string, volume api.StorageVolumePost) error
	DeleteStoragePoolVolume(pool, volType, name string) error
}

// GetStoragePoolVolumes lists the volumes of a pool.
func (r *ProtocolLXD) GetStoragePoolVolumes(pool string) ([]api.StorageVolume, error) {
	return list[api.StorageVolume](r, path("storage-pools", pool, "volumes")+"?recursion=1")
}

// GetStoragePoolVolumesAllProjects lists the volumes of a pool in all projects.
func (r *ProtocolLXD) GetStoragePoolVolumesAllProjects(pool string) ([]api.StorageVolume, error) {
	return list[api.StorageVolume](r, path("storage-pools", pool, "volumes")+"?recursion=1&all-projects=true")
}

// GetStoragePoolVolume returns a volume.
func (r *ProtocolLXD) GetStoragePoolVolume(pool, volType, name string) (*api.StorageVolume, string, error) {
	return fetch[api.StorageVolume](r, path("storage-pools", pool, "volumes", volType, name))
}

// GetStoragePoolVolumeState tells how much a volume uses.
func (r *ProtocolLXD) GetStoragePoolVolumeState(pool, volType, name string) (*api.StorageVolumeState, error) {
	s, _, err := fetch[api.StorageVolumeState](r, path("storage-pools", pool, "volumes", volType, name, "state"))
	return s, err
}

// CreateStoragePoolVolume makes a volume.
func (r *ProtocolLXD) CreateStoragePoolVolume(pool string, volume api.StorageVolumesPost) error {
	return r.exec(http.MethodPost, path("storage-pools", pool, "volumes", volume.Type), volume, "")
}

// UpdateStoragePoolVolume replaces what can be changed about a volume.
func (r *ProtocolLXD) UpdateStoragePoolVolume(pool, volType, name string, volume api.StorageVolumePut, etag string) error {
	return r.exec(http.MethodPut, path("storage-pools", pool, "volumes", volType, name), volume, etag)
}

// RenameStoragePoolVolume renames a volume.
func (r *ProtocolLXD) RenameStoragePoolVolume(pool, volType, name string, volume api.StorageVolumePost) error {
	return r.exec(http.MethodPost, path("storage-pools", pool, "volumes", volType, name), volume, "")
}

// DeleteStoragePoolVolume removes a volume.
func (r *ProtocolLXD) DeleteStoragePoolVolume(pool, volType, name string) error {
	return r.exec(http.MethodDelete, path("storage-pools", pool, "volumes", volType, name), nil, "")
}
