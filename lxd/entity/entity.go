// Package entity names the objects of the API: their kinds, the reference that
// identifies one of them, and the URL under which clients find it.
//
// References are comparable, so they serve as keys of locks and maps.
package entity

import (
	"net/url"
	"strings"
)

// Kind is a sort of API object.
type Kind string

// The kinds of API objects.
const (
	Server            Kind = "server"
	Certificate       Kind = "certificate"
	Member            Kind = "member"
	Project           Kind = "project"
	Profile           Kind = "profile"
	Instance          Kind = "instance"
	InstanceSnapshot  Kind = "instance-snapshot"
	InstanceBackup    Kind = "instance-backup"
	InstanceLog       Kind = "instance-log"
	InstanceMetadata  Kind = "instance-metadata"
	InstanceTemplates Kind = "instance-templates" // all of an instance
	Image             Kind = "image"
	ImageAlias        Kind = "image-alias"
	Network           Kind = "network"
	StoragePool       Kind = "storage-pool"
	StorageVolumes    Kind = "storage-volumes" // all of one type in a pool
	StorageVolume     Kind = "storage-volume"
	Operation         Kind = "operation"
	Warning           Kind = "warning"
)

// paths says how a kind is addressed; every %s takes the next name.
var paths = map[Kind]string{
	Server:            "",
	Certificate:       "certificates/%s",
	Member:            "cluster/members/%s",
	Project:           "projects/%s",
	Profile:           "profiles/%s",
	Instance:          "instances/%s",
	InstanceSnapshot:  "instances/%s/snapshots/%s",
	InstanceBackup:    "instances/%s/backups/%s",
	InstanceLog:       "instances/%s/logs/%s",
	InstanceMetadata:  "instances/%s/metadata",
	InstanceTemplates: "instances/%s/metadata/templates",
	Image:             "images/%s",
	ImageAlias:        "images/aliases/%s",
	Network:           "networks/%s",
	StoragePool:       "storage-pools/%s",
	StorageVolumes:    "storage-pools/%s/volumes/%s",
	StorageVolume:     "storage-pools/%s/volumes/%s/%s",
	Operation:         "operations/%s",
	Warning:           "warnings/%s",
}

// DefaultProject is the project that a request without one means.
const DefaultProject = "default"

// Ref identifies one object. Names are in the order of its path: a volume has
// pool, type and name.
type Ref struct {
	Kind     Kind
	Project  string // empty for what stands outside of projects
	Location string // member that holds it, when it is only there
	Names    [3]string
}

// New makes a reference.
func New(kind Kind, project string, names ...string) Ref {
	r := Ref{Kind: kind, Project: project}
	copy(r.Names[:], names)
	return r
}

// Name is the last of the names, the object's own.
func (r Ref) Name() string {
	for i := len(r.Names) - 1; i >= 0; i-- {
		if r.Names[i] != "" {
			return r.Names[i]
		}
	}
	return ""
}

// Path is the URL path of the object.
func (r Ref) Path() string {
	p := paths[r.Kind]
	for _, n := range r.Names {
		p = strings.Replace(p, "%s", url.PathEscape(n), 1)
	}
	return strings.TrimSuffix("/1.0/"+p, "/")
}

// URL is the path with the project, where that is not the default one.
func (r Ref) URL() string {
	q := url.Values{}
	if r.Project != "" && r.Project != DefaultProject {
		q.Set("project", r.Project)
	}
	if r.Location != "" {
		q.Set("target", r.Location)
	}
	if len(q) == 0 {
		return r.Path()
	}
	return r.Path() + "?" + q.Encode()
}

func (r Ref) String() string { return r.URL() }

// Collection is the first word of a kind's path, the name under which an
// operation lists it as a resource.
func (k Kind) Collection() string {
	p, _, _ := strings.Cut(paths[k], "/%s")
	return p
}

// Names counts the names that a reference of this kind has.
func (k Kind) Names() int { return strings.Count(paths[k], "%s") }
