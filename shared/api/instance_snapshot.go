package api

import (
	"time"
)

// InstanceSnapshotsPost asks for a new snapshot.
type InstanceSnapshotsPost struct {
	Name     string `json:"name" yaml:"name"`
	Stateful bool   `json:"stateful" yaml:"stateful"`
	// Nil: as snapshots.expiry of the instance says.
	ExpiresAt *time.Time `json:"expires_at" yaml:"expires_at"`
}

// InstanceSnapshotPut holds what can be changed about a snapshot.
type InstanceSnapshotPut struct {
	ExpiresAt time.Time `json:"expires_at" yaml:"expires_at"`
}

// InstanceSnapshotPost renames or migrates a snapshot.
type InstanceSnapshotPost struct {
	Name      string              `json:"name" yaml:"name"`
	Migration bool                `json:"migration" yaml:"migration"`
	Target    *InstancePostTarget `json:"target" yaml:"target"`
	Live      bool                `json:"live,omitempty" yaml:"live,omitempty"`
}

// InstanceSnapshot is a snapshot of an instance.
type InstanceSnapshot struct {
	InstanceSnapshotPut `yaml:",inline"`

	Architecture    string                       `json:"architecture" yaml:"architecture"`
	Config          map[string]string            `json:"config" yaml:"config"`
	CreatedAt       time.Time                    `json:"created_at" yaml:"created_at"`
	Devices         map[string]map[string]string `json:"devices" yaml:"devices"`
	Ephemeral       bool                         `json:"ephemeral" yaml:"ephemeral"`
	ExpandedConfig  map[string]string            `json:"expanded_config,omitempty" yaml:"expanded_config,omitempty"`
	ExpandedDevices map[string]map[string]string `json:"expanded_devices,omitempty" yaml:"expanded_devices,omitempty"`
	LastUsedAt      time.Time                    `json:"last_used_at" yaml:"last_used_at"`
	Name            string                       `json:"name" yaml:"name"`
	Profiles        []string                     `json:"profiles" yaml:"profiles"`
	Stateful        bool                         `json:"stateful" yaml:"stateful"`
	// Bytes; -1 where it is not known.
	Size int64 `json:"size" yaml:"size"`
}

// Writable returns the part of a snapshot that PUT and PATCH take.
func (s *InstanceSnapshot) Writable() InstanceSnapshotPut { return s.InstanceSnapshotPut }

// InstanceSnapshotVerdict says what a retention policy makes of a snapshot. It is an
// extension of this project's own (sett_snapshot_retention).
type InstanceSnapshotVerdict struct {
	Name      string    `json:"name" yaml:"name"`
	CreatedAt time.Time `json:"created_at" yaml:"created_at"`
	Keep      bool      `json:"keep" yaml:"keep"`
	// Reasons are the rules that keep it; "manual" for what no policy is about.
	Reasons []string `json:"reasons" yaml:"reasons"`
}
