package api

import (
	"time"
)

// InstanceBackupsPost asks for a new backup.
type InstanceBackupsPost struct {
	Name         string    `json:"name" yaml:"name"`
	ExpiresAt    time.Time `json:"expires_at" yaml:"expires_at"`
	InstanceOnly bool      `json:"instance_only" yaml:"instance_only"`
	// Older name of InstanceOnly.
	ContainerOnly        bool   `json:"container_only" yaml:"container_only"`
	OptimizedStorage     bool   `json:"optimized_storage" yaml:"optimized_storage"`
	CompressionAlgorithm string `json:"compression_algorithm" yaml:"compression_algorithm"`
}

// InstanceBackup is a backup of an instance.
type InstanceBackup struct {
	Name         string    `json:"name" yaml:"name"`
	CreatedAt    time.Time `json:"created_at" yaml:"created_at"`
	ExpiresAt    time.Time `json:"expires_at" yaml:"expires_at"`
	InstanceOnly bool      `json:"instance_only" yaml:"instance_only"`
	// Older name of InstanceOnly.
	ContainerOnly    bool `json:"container_only" yaml:"container_only"`
	OptimizedStorage bool `json:"optimized_storage" yaml:"optimized_storage"`
}

// InstanceBackupPost renames a backup.
type InstanceBackupPost struct {
	Name string `json:"name" yaml:"name"`
}
