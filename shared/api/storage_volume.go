package api

import (
	"time"
)

// StorageVolumePut holds what can be changed about a volume.
type StorageVolumePut struct {
	Config      map[string]string `json:"config" yaml:"config"`
	Description string            `json:"description" yaml:"description"`
	// Name of a snapshot to go back to.
	Restore string `json:"restore,omitempty" yaml:"restore,omitempty"`
}

// StorageVolumesPost asks for a new volume.
type StorageVolumesPost struct {
	StorageVolumePut `yaml:",inline"`

	Name        string              `json:"name" yaml:"name"`
	Type        string              `json:"type" yaml:"type"`
	Source      StorageVolumeSource `json:"source" yaml:"source"`
	ContentType string              `json:"content_type" yaml:"content_type"`
}

// StorageVolumePost renames, moves or migrates a volume.
type StorageVolumePost struct {
	Name       string                   `json:"name" yaml:"name"`
	Pool       string                   `json:"pool,omitempty" yaml:"pool,omitempty"`
	Migration  bool                     `json:"migration" yaml:"migration"`
	Target     *StorageVolumePostTarget `json:"target" yaml:"target"`
	VolumeOnly bool                     `json:"volume_only" yaml:"volume_only"`
	Project    string                   `json:"project,omitempty" yaml:"project,omitempty"`
}

// StorageVolumePostTarget tells where a pushed migration goes.
type StorageVolumePostTarget struct {
	Certificate string            `json:"certificate" yaml:"certificate"`
	Operation   string            `json:"operation,omitempty" yaml:"operation,omitempty"`
	Websockets  map[string]string `json:"secrets,omitempty" yaml:"secrets,omitempty"`
}

// StorageVolumeSource tells what a new volume is made of.
type StorageVolumeSource struct {
	Name        string            `json:"name" yaml:"name"`
	Type        string            `json:"type" yaml:"type"`
	Pool        string            `json:"pool" yaml:"pool"`
	Certificate string            `json:"certificate" yaml:"certificate"`
	Mode        string            `json:"mode,omitempty" yaml:"mode,omitempty"`
	Operation   string            `json:"operation,omitempty" yaml:"operation,omitempty"`
	Websockets  map[string]string `json:"secrets,omitempty" yaml:"secrets,omitempty"`
	VolumeOnly  bool              `json:"volume_only" yaml:"volume_only"`
	Refresh     bool              `json:"refresh" yaml:"refresh"`
	Project     string            `json:"project,omitempty" yaml:"project,omitempty"`
}

// StorageVolume is a volume of a storage pool.
type StorageVolume struct {
	StorageVolumePut `yaml:",inline"`

	Name        string    `json:"name" yaml:"name"`
	Type        string    `json:"type" yaml:"type"`
	UsedBy      []string  `json:"used_by" yaml:"used_by"`
	Location    string    `json:"location" yaml:"location"`
	ContentType string    `json:"content_type" yaml:"content_type"`
	Project     string    `json:"project" yaml:"project"`
	CreatedAt   time.Time `json:"created_at" yaml:"created_at"`
}

// StorageVolumeState tells how much a volume uses.
type StorageVolumeState struct {
	Usage *StorageVolumeStateUsage `json:"usage" yaml:"usage"`
}

// StorageVolumeStateUsage counts bytes.
type StorageVolumeStateUsage struct {
	Used  uint64 `json:"used,omitempty" yaml:"used,omitempty"`
	Total int64  `json:"total" yaml:"total"`
}

// StorageVolumeSnapshotsPost asks for a new snapshot of a volume.
type StorageVolumeSnapshotsPost struct {
	Name      string     `json:"name" yaml:"name"`
	ExpiresAt *time.Time `json:"expires_at" yaml:"expires_at"`
}

// StorageVolumeSnapshotPost renames a snapshot of a volume.
type StorageVolumeSnapshotPost struct {
	Name string `json:"name" yaml:"name"`
}

// StorageVolumeSnapshotPut holds what can be changed about a snapshot of a volume.
type StorageVolumeSnapshotPut struct {
	Description string     `json:"description" yaml:"description"`
	ExpiresAt   *time.Time `json:"expires_at" yaml:"expires_at"`
}

// StorageVolumeSnapshot is a snapshot of a volume.
type StorageVolumeSnapshot struct {
	StorageVolumeSnapshotPut `yaml:",inline"`

	Name        string            `json:"name" yaml:"name"`
	Config      map[string]string `json:"config" yaml:"config"`
	ContentType string            `json:"content_type" yaml:"content_type"`
	CreatedAt   time.Time         `json:"created_at" yaml:"created_at"`
}

// StoragePoolVolumeBackupsPost asks for a new backup of a volume.
type StoragePoolVolumeBackupsPost struct {
	Name                 string    `json:"name" yaml:"name"`
	ExpiresAt            time.Time `json:"expires_at" yaml:"expires_at"`
	VolumeOnly           bool      `json:"volume_only" yaml:"volume_only"`
	OptimizedStorage     bool      `json:"optimized_storage" yaml:"optimized_storage"`
	CompressionAlgorithm string    `json:"compression_algorithm" yaml:"compression_algorithm"`
}

// StoragePoolVolumeBackup is a backup of a volume.
type StoragePoolVolumeBackup struct {
	Name             string    `json:"name" yaml:"name"`
	CreatedAt        time.Time `json:"created_at" yaml:"created_at"`
	ExpiresAt        time.Time `json:"expires_at" yaml:"expires_at"`
	VolumeOnly       bool      `json:"volume_only" yaml:"volume_only"`
	OptimizedStorage bool      `json:"optimized_storage" yaml:"optimized_storage"`
}

// StoragePoolVolumeBackupPost renames a backup of a volume.
type StoragePoolVolumeBackupPost struct {
	Name string `json:"name" yaml:"name"`
}

// Writable returns the part of a volume that PUT and PATCH take.
func (v *StorageVolume) Writable() StorageVolumePut { return v.StorageVolumePut }

// Writable returns the part of a snapshot that PUT and PATCH take.
func (s *StorageVolumeSnapshot) Writable() StorageVolumeSnapshotPut {
	return s.StorageVolumeSnapshotPut
}
