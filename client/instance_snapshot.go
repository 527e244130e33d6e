package client

import (
	"net/http"
	"net/url"

	"sett/shared/api"
)

// InstanceSnapshotClient works with the snapshots of instances.
type InstanceSnapshotClient interface {
	GetInstanceSnapshotNames(instanceName string) ([]string, error)
	GetInstanceSnapshots(instanceName string) ([]api.InstanceSnapshot, error)
	GetInstanceSnapshot(instanceName, name string) (*api.InstanceSnapshot, string, error)
	CreateInstanceSnapshot(instanceName string, snapshot api.InstanceSnapshotsPost) (Operation, error)
	RenameInstanceSnapshot(instanceName, name string, snapshot api.InstanceSnapshotPost) (Operation, error)
	UpdateInstanceSnapshot(instanceName, name string, snapshot api.InstanceSnapshotPut, ETag string) (Operation, error)
	DeleteInstanceSnapshot(instanceName, name string) (Operation, error)
	GetInstanceSnapshotVerdicts(instanceName, policy string) ([]api.InstanceSnapshotVerdict, error)
}

// GetInstanceSnapshotNames lists the names of an instance's snapshots.
func (r *ProtocolLXD) GetInstanceSnapshotNames(instanceName string) ([]string, error) {
	p := path("instances", instanceName, "snapshots")
	return names(r, p, p)
}

// GetInstanceSnapshots lists an instance's snapshots.
func (r *ProtocolLXD) GetInstanceSnapshots(instanceName string) ([]api.InstanceSnapshot, error) {
	return list[api.InstanceSnapshot](r, path("instances", instanceName, "snapshots")+"?recursion=1")
}

// GetInstanceSnapshot returns a snapshot.
func (r *ProtocolLXD) GetInstanceSnapshot(instanceName, name string) (*api.InstanceSnapshot, string, error) {
	return fetch[api.InstanceSnapshot](r, path("instances", instanceName, "snapshots", name))
}

// CreateInstanceSnapshot takes a snapshot.
func (r *ProtocolLXD) CreateInstanceSnapshot(instanceName string, snapshot api.InstanceSnapshotsPost) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, path("instances", instanceName, "snapshots"), snapshot, "")
	return op, err
}

// RenameInstanceSnapshot renames a snapshot.
func (r *ProtocolLXD) RenameInstanceSnapshot(instanceName, name string, snapshot api.InstanceSnapshotPost) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, path("instances", instanceName, "snapshots", name), snapshot, "")
	return op, err
}

// UpdateInstanceSnapshot replaces what can be changed about a snapshot.
func (r *ProtocolLXD) UpdateInstanceSnapshot(instanceName, name string, snapshot api.InstanceSnapshotPut, etag string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPut, path("instances", instanceName, "snapshots", name), snapshot, etag)
	return op, err
}

// DeleteInstanceSnapshot removes a snapshot.
func (r *ProtocolLXD) DeleteInstanceSnapshot(instanceName, name string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodDelete, path("instances", instanceName, "snapshots", name), nil, "")
	return op, err
}

// GetInstanceSnapshotVerdicts tells which snapshots a retention policy would keep; an
// empty one stands for that of the instance.
func (r *ProtocolLXD) GetInstanceSnapshotVerdicts(instanceName, policy string) ([]api.InstanceSnapshotVerdict, error) {
	if err := r.need("sett_snapshot_retention"); err != nil {
		return nil, err
	}
	p := path("instances", instanceName, "retention")
	if policy != "" {
		p += "?" + url.Values{"policy": {policy}}.Encode()
	}
	return list[api.InstanceSnapshotVerdict](r, p)
}
