package api

// StoragePoolPut holds what can be changed about a storage pool.
type StoragePoolPut struct {
	Config      map[string]string `json:"config" yaml:"config"`
	Description string            `json:"description" yaml:"description"`
}

// StoragePoolsPost asks for a new storage pool.
type StoragePoolsPost struct {
	StoragePoolPut `yaml:",inline"`

	Name   string `json:"name" yaml:"name"`
	Driver string `json:"driver" yaml:"driver"`
}

// StoragePool is a storage pool.
type StoragePool struct {
	StoragePoolPut `yaml:",inline"`

	Name      string   `json:"name" yaml:"name"`
	Driver    string   `json:"driver" yaml:"driver"`
	UsedBy    []string `json:"used_by" yaml:"used_by"`
	Status    string   `json:"status" yaml:"status"`
	Locations []string `json:"locations" yaml:"locations"`
}

// ResourcesStoragePool tells how full a storage pool is.
type ResourcesStoragePool struct {
	Space  ResourcesStoragePoolSpace  `json:"space,omitempty" yaml:"space,omitempty"`
	Inodes ResourcesStoragePoolInodes `json:"inodes,omitempty" yaml:"inodes,omitempty"`
}

// ResourcesStoragePoolSpace counts bytes.
type ResourcesStoragePoolSpace struct {
	Used  uint64 `json:"used,omitempty" yaml:"used,omitempty"`
	Total uint64 `json:"total" yaml:"total"`
}

// ResourcesStoragePoolInodes counts inodes.
type ResourcesStoragePoolInodes struct {
	Used  uint64 `json:"used" yaml:"used"`
	Total uint64 `json:"total" yaml:"total"`
}

// Statuses of storage pools.
const (
	StoragePoolStatusPending     = "Pending"
	StoragePoolStatusCreated     = "Created"
	StoragePoolStatusErrored     = "Errored"
	StoragePoolStatusUnknown     = "Unknown"
	StoragePoolStatusUnavailable = "Unavailable"
)

// Writable returns the part of a storage pool that PUT and PATCH take.
func (p *StoragePool) Writable() StoragePoolPut { return p.StoragePoolPut }
