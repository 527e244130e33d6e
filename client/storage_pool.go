package client

import (
	"net/http"

	"sett/shared/api"
)

// StoragePoolClient works with storage pools.
type StoragePoolClient interface {
	GetStoragePoolNames() ([]string, error)
	GetStoragePools() ([]api.StoragePool, error)
	GetStoragePool(name string) (*api.StoragePool, string, error)
	CreateStoragePool(req api.StoragePoolsPost) error
	UpdateStoragePool(name string, put api.StoragePoolPut, ETag string) error
	DeleteStoragePool(name string) error
	GetStoragePoolResources(name string) (*api.ResourcesStoragePool, error)
}

// GetStoragePoolNames lists the names of the storage pools.
func (r *ProtocolLXD) GetStoragePoolNames() ([]string, error) {
	p := path("storage-pools")
	return names(r, p, p)
}

// GetStoragePools lists the storage pools.
func (r *ProtocolLXD) GetStoragePools() ([]api.StoragePool, error) {
	return list[api.StoragePool](r, path("storage-pools")+"?recursion=1")
}

// GetStoragePool returns a storage pool.
func (r *ProtocolLXD) GetStoragePool(name string) (*api.StoragePool, string, error) {
	return fetch[api.StoragePool](r, path("storage-pools", name))
}

// CreateStoragePool makes a storage pool.
func (r *ProtocolLXD) CreateStoragePool(req api.StoragePoolsPost) error {
	return r.exec(http.MethodPost, path("storage-pools"), req, "")
}

// UpdateStoragePool replaces what can be changed about a storage pool.
func (r *ProtocolLXD) UpdateStoragePool(name string, put api.StoragePoolPut, etag string) error {
	return r.exec(http.MethodPut, path("storage-pools", name), put, etag)
}

// DeleteStoragePool removes a storage pool.
func (r *ProtocolLXD) DeleteStoragePool(name string) error {
	return r.exec(http.MethodDelete, path("storage-pools", name), nil, "")
}

// GetStoragePoolResources tells how full a storage pool is.
func (r *ProtocolLXD) GetStoragePoolResources(name string) (*api.ResourcesStoragePool, error) {
	s, _, err := fetch[api.ResourcesStoragePool](r, path("storage-pools", name, "resources"))
	return s, err
}
