package client

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"sett/shared/api"
)

// InstanceClient works with instances.
type InstanceClient interface {
	GetInstanceNames(instanceType api.InstanceType) ([]string, error)
	GetInstances(instanceType api.InstanceType) ([]api.Instance, error)
	GetInstancesWithFilter(instanceType api.InstanceType, filters []string) ([]api.Instance, error)
	GetInstancesAllProjects(instanceType api.InstanceType) ([]api.Instance, error)
	GetInstancesFull(instanceType api.InstanceType) ([]api.InstanceFull, error)
	GetInstancesFullWithFilter(instanceType api.InstanceType, filters []string) ([]api.InstanceFull, error)
	GetInstancesFullAllProjects(instanceType api.InstanceType) ([]api.InstanceFull, error)
	GetInstance(name string) (*api.Instance, string, error)
	GetInstanceFull(name string) (*api.InstanceFull, string, error)
	CreateInstance(instance api.InstancesPost) (Operation, error)
	// CreateInstanceFromImage makes an instance of an image on any server.
	CreateInstanceFromImage(source ImageServer, image api.Image, req api.InstancesPost) (RemoteOperation, error)
	// CopyInstance makes an instance of another one of the same server.
	CopyInstance(source InstanceServer, instance api.Instance, args *InstanceCopyArgs) (RemoteOperation, error)
	// CopyInstanceSnapshot makes an instance of a snapshot on the same server.
	CopyInstanceSnapshot(source InstanceServer, instanceName string, snapshot api.InstanceSnapshot, args *InstanceSnapshotCopyArgs) (RemoteOperation, error)
	UpdateInstance(name string, instance api.InstancePut, ETag string) (Operation, error)
	RebuildInstance(name string, req api.InstanceRebuildPost) (Operation, error)
	RenameInstance(name string, instance api.InstancePost) (Operation, error)
	MigrateInstance(name string, instance api.InstancePost) (Operation, error)
	DeleteInstance(name string) (Operation, error)
	UpdateInstances(state api.InstancesPut, ETag string) (Operation, error)
}

// instancesPath lists instances at a recursion, of one type or of any.
func instancesPath(recursion int, kind api.InstanceType, more ...string) string {
	q := []string{}
	if recursion > 0 {
		q = append(q, "recursion="+itoa(recursion))
	}
	if kind != api.InstanceTypeAny {
		q = append(q, "instance-type="+url.QueryEscape(string(kind)))
	}
	q = append(q, more...)
	if len(q) == 0 {
		return "/1.0/instances"
	}
	return "/1.0/instances?" + strings.Join(q, "&")
}

// filter renders clauses such as "status=running" in the server's language.
func filter(clauses []string) string {
	var out []string
	for _, c := range clauses {
		if key, value, ok := strings.Cut(c, "="); ok {
			c = key + " eq " + value
		}
		out = append(out, c)
	}
	return "filter=" + url.QueryEscape(strings.Join(out, " and "))
}

// GetInstanceNames lists the names of the instances.
func (r *ProtocolLXD) GetInstanceNames(instanceType api.InstanceType) ([]string, error) {
	return names(r, instancesPath(0, instanceType), "/1.0/instances")
}

// GetInstances lists the instances.
func (r *ProtocolLXD) GetInstances(instanceType api.InstanceType) ([]api.Instance, error) {
	return list[api.Instance](r, instancesPath(1, instanceType))
}

// GetInstancesWithFilter lists the instances that match all filters.
func (r *ProtocolLXD) GetInstancesWithFilter(instanceType api.InstanceType, filters []string) ([]api.Instance, error) {
	if err := r.need("api_filtering"); err != nil {
		return nil, err
	}
	return list[api.Instance](r, instancesPath(1, instanceType, filter(filters)))
}

// GetInstancesAllProjects lists the instances of all projects.
func (r *ProtocolLXD) GetInstancesAllProjects(instanceType api.InstanceType) ([]api.Instance, error) {
	return list[api.Instance](r, instancesPath(1, instanceType, "all-projects=true"))
}

// GetInstancesFull lists the instances with their state, snapshots and backups.
func (r *ProtocolLXD) GetInstancesFull(instanceType api.InstanceType) ([]api.InstanceFull, error) {
	return list[api.InstanceFull](r, instancesPath(2, instanceType))
}

// GetInstancesFullWithFilter is GetInstancesFull for what matches all filters.
func (r *ProtocolLXD) GetInstancesFullWithFilter(instanceType api.InstanceType, filters []string) ([]api.InstanceFull, error) {
	if err := r.need("api_filtering"); err != nil {
		return nil, err
	}
	return list[api.InstanceFull](r, instancesPath(2, instanceType, filter(filters)))
}

// GetInstancesFullAllProjects is GetInstancesFull for all projects.
func (r *ProtocolLXD) GetInstancesFullAllProjects(instanceType api.InstanceType) ([]api.InstanceFull, error) {
	return list[api.InstanceFull](r, instancesPath(2, instanceType, "all-projects=true"))
}

// GetInstance returns an instance.
func (r *ProtocolLXD) GetInstance(name string) (*api.Instance, string, error) {
	return fetch[api.Instance](r, path("instances", name))
}

// GetInstanceFull returns an instance with its state, snapshots and backups.
func (r *ProtocolLXD) GetInstanceFull(name string) (*api.InstanceFull, string, error) {
	return fetch[api.InstanceFull](r, path("instances", name)+"?recursion=1")
}

// CreateInstance makes an instance.
func (r *ProtocolLXD) CreateInstance(instance api.InstancesPost) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, "/1.0/instances", instance, "")
	return op, err
}

// CreateInstanceFromImage makes an instance of an image on any server. Where the
// image lives elsewhere, this server fetches it from there by itself.
func (r *ProtocolLXD) CreateInstanceFromImage(source ImageServer, image api.Image, req api.InstancesPost) (RemoteOperation, error) {
	req.Source.Type = "image"
	info, same, err := r.sameServer(source)
	if err != nil {
		return nil, err
	}
	if same {
		req.Source.Fingerprint = image.Fingerprint
		if req.Source.Alias != "" {
			req.Source.Fingerprint = ""
		}
		return tryAll(func() (Operation, error) { return r.CreateInstance(req) }), nil
	}
	req.Source.Mode = "pull"
	req.Source.Protocol = info.Protocol
	if info.Protocol != "simplestreams" {
		req.Source.Certificate = info.Certificate
		if !image.Public {
			secret, err := source.GetImageSecret(image.Fingerprint)
			if err != nil {
				return nil, err
			}
			req.Source.Secret = secret
		}
	}
	req.Source.Fingerprint = image.Fingerprint
	if len(info.Addresses) == 0 {
		return nil, errors.New("The image's server has no address that another server could reach; set core.https_address there")
	}
	var starts []func() (Operation, error)
	for _, address := range info.Addresses {
		one := req
		one.Source.Server = address
		starts = append(starts, func() (Operation, error) { return r.CreateInstance(one) })
	}
	return tryAll(starts...), nil
}

// UpdateInstance replaces what can be changed about an instance.
func (r *ProtocolLXD) UpdateInstance(name string, instance api.InstancePut, etag string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPut, path("instances", name), instance, etag)
	return op, err
}

// RebuildInstance makes a stopped instance anew of an image of its server, or of none.
func (r *ProtocolLXD) RebuildInstance(name string, req api.InstanceRebuildPost) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodPost, path("instances", name, "rebuild"), req, "")
	return op, err
}

// RenameInstance renames an instance.
func (r *ProtocolLXD) RenameInstance(name string, instance api.InstancePost) (Operation, error) {
	if instance.Migration {
		return nil, errors.New("A rename is no migration")
	}
	op, _, err := r.queryOperation(http.MethodPost, path("instances", name), instance, "")
	return op, err
}

// MigrateInstance moves an instance to another pool, project, member or server.
func (r *ProtocolLXD) MigrateInstance(name string, instance api.InstancePost) (Operation, error) {
	if !instance.Migration {
		return nil, errors.New("A migration is asked for by its flag")
	}
	op, _, err := r.queryOperation(http.MethodPost, path("instances", name), instance, "")
	return op, err
}

// DeleteInstance removes an instance.
func (r *ProtocolLXD) DeleteInstance(name string) (Operation, error) {
	op, _, err := r.queryOperation(http.MethodDelete, path("instances", name), nil, "")
	return op, err
}

// UpdateInstances changes the state of all instances of the project.
func (r *ProtocolLXD) UpdateInstances(state api.InstancesPut, etag string) (Operation, error) {
	if err := r.need("instance_bulk_state_change"); err != nil {
		return nil, err
	}
	op, _, err := r.queryOperation(http.MethodPut, "/1.0/instances", state, etag)
	return op, err
}
