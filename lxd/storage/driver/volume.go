package driver

import (
	"path/filepath"
	"strings"

	"sett/shared/errs"
)

// VolumeType says what a volume is for. The words are those of the API.
type VolumeType string

// The types of volumes. Virtual machines are known so that they can be refused by name.
const (
	Container      VolumeType = "container"
	VirtualMachine VolumeType = "virtual-machine"
	Image          VolumeType = "image"
	Custom         VolumeType = "custom"
)

// ContentType says what is in a volume.
type ContentType string

// The types of content.
const (
	Filesystem ContentType = "filesystem"
	Block      ContentType = "block"
)

// DefaultProject is the project whose instances carry no prefix on disk.
const DefaultProject = "default"

// Volume names a volume in a pool and says how it is configured. It is a value:
// making one touches nothing.
type Volume struct {
	Type    VolumeType
	Content ContentType // empty: Filesystem
	Project string      // empty for images
	Name    string      // "web", or "web/snap0" for a snapshot; an image's fingerprint
	Config  map[string]string
}

// IsSnapshot reports whether v is a snapshot of another volume.
func (v Volume) IsSnapshot() bool { return strings.Contains(v.Name, "/") }

// Parent returns the volume of which v is a snapshot, or v.
func (v Volume) Parent() Volume {
	v.Name, _, _ = strings.Cut(v.Name, "/")
	return v
}

// SnapshotName returns the part behind the slash.
func (v Volume) SnapshotName() string {
	_, s, _ := strings.Cut(v.Name, "/")
	return s
}

// Snapshot names a snapshot of v.
func (v Volume) Snapshot(name string) Volume {
	v.Name = v.Parent().Name + "/" + name
	return v
}

// Renamed returns v under another name.
func (v Volume) Renamed(name string) Volume {
	v.Name = name
	return v
}

// DiskName is the file name of the volume (of its parent, for a snapshot). Names
// of instances of the default project stand alone, all others carry their project.
func (v Volume) DiskName() string {
	name := v.Parent().Name
	switch v.Type {
	case Image:
		return name
	case Custom:
		return orDefault(v.Project) + "_" + name
	}
	if p := orDefault(v.Project); p != DefaultProject {
		return p + "_" + name
	}
	return name
}

func orDefault(project string) string {
	if project == "" {
		return DefaultProject
	}
	return project
}

// TypeDir is the folder below a pool's root that holds the volumes of a type.
func TypeDir(t VolumeType, snapshots bool) string {
	d := string(t) + "s"
	if t == Custom {
		d = "custom"
	}
	if snapshots {
		d += "-snapshots"
	}
	return d
}

// Dir is where the volume lies below its pool's root.
func (v Volume) Dir() string {
	if v.IsSnapshot() {
		return filepath.Join(TypeDir(v.Type, true), v.DiskName(), v.SnapshotName())
	}
	return filepath.Join(TypeDir(v.Type, false), v.DiskName())
}

// SnapshotsDir is where the snapshots of the volume lie below its pool's root.
func (v Volume) SnapshotsDir() string { return filepath.Join(TypeDir(v.Type, true), v.DiskName()) }

// Key is a string that is different for each volume of a pool, and equal for equal ones.
func (v Volume) Key() string { return v.Dir() }

// Rootfs is the folder in an instance's or image's volume that is the guest's root.
const Rootfs = "rootfs"

// Check refuses names that could leave the pool and types that are not built. The
// slices have checked names by the rules of their own before; this is the last door.
func (v Volume) Check() error {
	switch v.Type {
	case Container, Image, Custom:
	case VirtualMachine:
		return errs.NotImplemented("Virtual machines are not implemented")
	default:
		return errs.Invalid("Unknown type %q of storage volume", v.Type)
	}
	switch v.Content {
	case "", Filesystem:
	case Block:
		return errs.NotImplemented("Storage volumes of content type %q are not implemented", v.Content)
	default:
		return errs.Invalid("Unknown content type %q of storage volume", v.Content)
	}
	parts := append(strings.Split(v.Name, "/"), orDefault(v.Project))
	if len(parts) > 3 {
		return errs.Invalid("Invalid volume name %q", v.Name)
	}
	for _, p := range parts {
		if p == "" || p[0] == '.' || len(p) > 200 || strings.ContainsAny(p, "/\x00\n") {
			return errs.Invalid("Invalid volume name %q", v.Name)
		}
	}
	if strings.Contains(orDefault(v.Project), "_") {
		return errs.Invalid("Invalid project name %q", v.Project)
	}
	return nil
}

// FromDisk is the way back from a file name to project and name.
func FromDisk(t VolumeType, file string) Volume {
	v := Volume{Type: t, Content: Filesystem, Project: DefaultProject, Name: file}
	if t == Image {
		v.Project = ""
		return v
	}
	if p, n, ok := strings.Cut(file, "_"); ok {
		v.Project, v.Name = p, n
	}
	return v
}
