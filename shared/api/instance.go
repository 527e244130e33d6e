package api

import (
	"time"
)

// InstanceType says what sort of guest an instance is.
type InstanceType string

// The types of instances. Any is for filters only.
const (
	InstanceTypeAny       InstanceType = ""
	InstanceTypeContainer InstanceType = "container"
	InstanceTypeVM        InstanceType = "virtual-machine"
)

// InstancePut holds what can be changed about an instance.
type InstancePut struct {
	Architecture string                       `json:"architecture" yaml:"architecture"`
	Config       map[string]string            `json:"config" yaml:"config"`
	Devices      map[string]map[string]string `json:"devices" yaml:"devices"`
	Ephemeral    bool                         `json:"ephemeral" yaml:"ephemeral"`
	// On creation nil means "the default profile" and an empty list means "none".
	Profiles []string `json:"profiles" yaml:"profiles"`
	// Name of a snapshot to go back to; all else is then ignored.
	Restore     string `json:"restore,omitempty" yaml:"restore,omitempty"`
	Stateful    bool   `json:"stateful" yaml:"stateful"`
	Description string `json:"description" yaml:"description"`
}

// Instance is an instance as the API shows it.
type Instance struct {
	InstancePut `yaml:",inline"`

	CreatedAt time.Time `json:"created_at" yaml:"created_at"`
	// Config with the profiles' below it.
	ExpandedConfig  map[string]string            `json:"expanded_config,omitempty" yaml:"expanded_config,omitempty"`
	ExpandedDevices map[string]map[string]string `json:"expanded_devices,omitempty" yaml:"expanded_devices,omitempty"`
	Name            string                       `json:"name" yaml:"name"`
	Status          string                       `json:"status" yaml:"status"`
	StatusCode      StatusCode                   `json:"status_code" yaml:"status_code"`
	LastUsedAt      time.Time                    `json:"last_used_at" yaml:"last_used_at"`
	Location        string                       `json:"location" yaml:"location"`
	Type            string                       `json:"type" yaml:"type"`
	Project         string                       `json:"project" yaml:"project"`
}

// InstanceFull is an instance with its state, snapshots and backups (recursion 2).
type InstanceFull struct {
	Instance `yaml:",inline"`

	Backups   []InstanceBackup   `json:"backups" yaml:"backups"`
	State     *InstanceState     `json:"state" yaml:"state"`
	Snapshots []InstanceSnapshot `json:"snapshots" yaml:"snapshots"`
}

// InstancesPost asks for a new instance.
type InstancesPost struct {
	InstancePut `yaml:",inline"`

	Name   string         `json:"name" yaml:"name"`
	Source InstanceSource `json:"source" yaml:"source"`
	// A size such as "t2.micro" that is turned into limits.
	InstanceType string       `json:"instance_type" yaml:"instance_type"`
	Type         InstanceType `json:"type" yaml:"type"`
}

// InstancesPut changes the state of all instances at once.
type InstancesPut struct {
	State *InstanceStatePut `json:"state" yaml:"state"`
}

// InstancePost renames, moves or migrates an instance.
type InstancePost struct {
	Name         string `json:"name" yaml:"name"`
	Migration    bool   `json:"migration" yaml:"migration"`
	Live         bool   `json:"live" yaml:"live"`
	InstanceOnly bool   `json:"instance_only" yaml:"instance_only"`
	// Older name of InstanceOnly.
	ContainerOnly     bool                `json:"container_only" yaml:"container_only"`
	Target            *InstancePostTarget `json:"target" yaml:"target"`
	Pool              string              `json:"pool" yaml:"pool"`
	Project           string              `json:"project" yaml:"project"`
	AllowInconsistent bool                `json:"allow_inconsistent" yaml:"allow_inconsistent"`
}

// InstanceRebuildPost makes an instance anew. It keeps its name, configuration and devices.
type InstanceRebuildPost struct {
	// Of type "image" or "none".
	Source InstanceSource `json:"source" yaml:"source"`
}

// InstancePostTarget tells where a pushed migration goes.
type InstancePostTarget struct {
	Certificate string            `json:"certificate" yaml:"certificate"`
	Operation   string            `json:"operation,omitempty" yaml:"operation,omitempty"`
	Websockets  map[string]string `json:"secrets,omitempty" yaml:"secrets,omitempty"`
}

// InstanceSource tells what a new instance is made of.
type InstanceSource struct {
	// "image", "migration", "copy" or "none".
	Type         string            `json:"type" yaml:"type"`
	Certificate  string            `json:"certificate" yaml:"certificate"`
	Alias        string            `json:"alias,omitempty" yaml:"alias,omitempty"`
	Fingerprint  string            `json:"fingerprint,omitempty" yaml:"fingerprint,omitempty"`
	Properties   map[string]string `json:"properties,omitempty" yaml:"properties,omitempty"`
	Server       string            `json:"server,omitempty" yaml:"server,omitempty"`
	Secret       string            `json:"secret,omitempty" yaml:"secret,omitempty"`
	Protocol     string            `json:"protocol,omitempty" yaml:"protocol,omitempty"`
	BaseImage    string            `json:"base-image,omitempty" yaml:"base-image,omitempty"`
	Mode         string            `json:"mode,omitempty" yaml:"mode,omitempty"`
	Operation    string            `json:"operation,omitempty" yaml:"operation,omitempty"`
	Websockets   map[string]string `json:"secrets,omitempty" yaml:"secrets,omitempty"`
	Source       string            `json:"source,omitempty" yaml:"source,omitempty"`
	Live         bool              `json:"live,omitempty" yaml:"live,omitempty"`
	InstanceOnly bool              `json:"instance_only,omitempty" yaml:"instance_only,omitempty"`
	// Older name of InstanceOnly.
	ContainerOnly     bool   `json:"container_only,omitempty" yaml:"container_only,omitempty"`
	Refresh           bool   `json:"refresh,omitempty" yaml:"refresh,omitempty"`
	Project           string `json:"project,omitempty" yaml:"project,omitempty"`
	AllowInconsistent bool   `json:"allow_inconsistent" yaml:"allow_inconsistent"`
}

// Writable returns the part of an instance that PUT and PATCH take.
func (i *Instance) Writable() InstancePut { return i.InstancePut }

// IsActive reports whether the instance has processes.
func (i *Instance) IsActive() bool {
	return i.StatusCode != Stopped && i.StatusCode != Error
}

// URL returns the path of the instance, with its project where that is not the default.
func (i *Instance) URL() string { return projectURL("/1.0/instances/"+escape(i.Name), i.Project) }
