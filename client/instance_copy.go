package client

import (
	"cmp"
	"errors"

	"sett/shared/api"
)

// InstanceCopyArgs say how to copy an instance.
type InstanceCopyArgs struct {
	// Name of the copy; empty: that of the instance.
	Name string
	// Live asks for the state of its processes too.
	Live bool
	// InstanceOnly leaves snapshots out.
	InstanceOnly bool
	// Mode is "pull", "push" or "relay", between servers.
	Mode string
	// Refresh brings a copy up to date that is there already.
	Refresh bool
	// AllowInconsistent lets an instance that runs go on while it is copied.
	AllowInconsistent bool
}

// InstanceSnapshotCopyArgs say how to make an instance of a snapshot.
type InstanceSnapshotCopyArgs struct {
	Name string
	Mode string
	Live bool
}

// sameServer reports whether somebody is the same server, perhaps in another project.
func (r *ProtocolLXD) sameServer(other Connection) (*ConnectionInfo, bool, error) {
	info, err := other.GetConnectionInfo()
	if err != nil {
		return nil, false, err
	}
	own, err := r.GetConnectionInfo()
	if err != nil {
		return nil, false, err
	}
	return info, info.URL == own.URL && info.SocketPath == own.SocketPath, nil
}

// CopyInstance makes an instance of another one.
func (r *ProtocolLXD) CopyInstance(source InstanceServer, instance api.Instance, args *InstanceCopyArgs) (RemoteOperation, error) {
	if args == nil {
		args = &InstanceCopyArgs{}
	}
	if err := r.needAll(map[string]bool{"container_only_migration": args.InstanceOnly, "container_incremental_copy": args.Refresh,
		"instance_allow_inconsistent_copy": args.AllowInconsistent}); err != nil {
		return nil, err
	}
	req := api.InstancesPost{Name: instance.Name, InstancePut: instance.Writable(), Type: api.InstanceType(instance.Type)}
	if args.Name != "" {
		req.Name = args.Name
	}
	req.Source = api.InstanceSource{Source: instance.Name, InstanceOnly: args.InstanceOnly, ContainerOnly: args.InstanceOnly, Refresh: args.Refresh,
		AllowInconsistent: args.AllowInconsistent, Live: args.Live && instance.StatusCode == api.Running}
	return r.copyHere(source, req)
}

// CopyInstanceSnapshot makes an instance of a snapshot.
func (r *ProtocolLXD) CopyInstanceSnapshot(source InstanceServer, instanceName string, snapshot api.InstanceSnapshot, args *InstanceSnapshotCopyArgs) (RemoteOperation, error) {
	if args == nil || args.Name == "" {
		return nil, errors.New("A copy of a snapshot needs a name")
	}
	req := api.InstancesPost{Name: args.Name, Type: api.InstanceTypeContainer, InstancePut: api.InstancePut{Architecture: snapshot.Architecture,
		Config: snapshot.Config, Devices: snapshot.Devices, Ephemeral: snapshot.Ephemeral, Profiles: snapshot.Profiles}}
	req.Source = api.InstanceSource{Source: instanceName + "/" + snapshot.Name, Live: args.Live && snapshot.Stateful}
	return r.copyHere(source, req)
}

// copyHere asks for a copy whose source is on this server.
func (r *ProtocolLXD) copyHere(source InstanceServer, req api.InstancesPost) (RemoteOperation, error) {
	info, same, err := r.sameServer(source)
	if err != nil {
		return nil, err
	}
	if !same {
		return nil, errors.New("Copying instances between servers is not implemented")
	}
	if from := cmp.Or(info.Project, "default"); from != cmp.Or(r.project, "default") {
		if err := r.need("container_copy_project"); err != nil {
			return nil, err
		}
		req.Source.Project = from
	}
	req.Source.Type, req.Source.BaseImage = "copy", req.Config["volatile.base_image"]
	return tryAll(func() (Operation, error) { return r.CreateInstance(req) }), nil
}
