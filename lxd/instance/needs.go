package instance

import (
	"context"
	"io"
	"time"

	"sett/lxd/db"
	"sett/lxd/host/idmap"
	"sett/shared/api"
)

// Volume names the root volume of an instance.
type Volume struct {
	Pool, Project, Instance string
}

// CopyOf says what is copied of a volume, and how. All may be left out.
type CopyOf struct {
	Snapshot  string   // the one to copy in place of the volume itself
	Snapshots []string // to copy as well, oldest first
	Size      int64    // limit of the copy in bytes
	// Quiet stops the guest for the moments that count. Idle, which may be nil, reports
	// whether nobody can have written to its files since the copy was planned.
	Quiet func(context.Context) (resume func(), err error)
	Idle  func() bool
	Count func(n int64) // is told of bytes, from any goroutine
	// Ready does a last thing to the content in a folder, before it is used.
	Ready func(ctx context.Context, dir string) error
}

// Storage is what instances need of storage pools. Every method may run twice.
type Storage interface {
	// CheckPool refuses pools that are not there or not usable.
	CheckPool(ctx context.Context, pool string) error
	// CreateFromImage makes a root volume with the content of an image, unpacking
	// the image once per pool. size is the limit in bytes, 0 for none.
	CreateFromImage(ctx context.Context, v Volume, fingerprint string, size int64) error
	CreateEmpty(ctx context.Context, v Volume, size int64) error
	// CreateFilled makes a root volume and its snapshots, oldest first; fill writes into the
	// folders of all, the volume's first.
	CreateFilled(ctx context.Context, v Volume, b Bringing, fill func(ctx context.Context, dirs []string) error) error
	// Hold shows the content of the volume as it is at one moment, where the pool can do
	// that in next to no room; else the volume itself. drop is to be called once.
	Hold(ctx context.Context, v Volume, quiet func(context.Context) (resume func(), err error)) (dir string, drop func(), err error)
	// Describe shows a pool as backups remember it.
	Describe(ctx context.Context, pool string) (api.StoragePool, error)
	// CanSend refuses pools that have no streams of their own.
	CanSend(ctx context.Context, v Volume) error
	// Sendable refuses folders, as Send gets them, with what streams cannot hold.
	Sendable(ctx context.Context, pool string, dirs ...string) error
	// CanReceive refuses streams of another kind of pool.
	CanReceive(ctx context.Context, v Volume, backend string) error
	// Send writes a folder of a snapshot, or of what Hold shows, as a stream of the pool's
	// driver and tells what the stream calls it. parent, which may be empty, is the folder
	// of a snapshot that has been sent before.
	Send(ctx context.Context, pool, dir, parent string, w io.Writer) (mark string, err error)
	// Receive makes a volume and its snapshots of such streams. open is asked for those of
	// the snapshots in their order, then, by an empty name, for the volume's. check looks at
	// the content of each.
	Receive(ctx context.Context, v Volume, b Bringing, open func(ctx context.Context, snapshot string) (io.ReadCloser, error),
		check func(ctx context.Context, dir string) error) error
	// TakeOver makes a volume that came from another member this one's, and the one there,
	// from, something that is left; also runs in the same transaction. GiveUp removes one
	// that came and reports whether it had not been taken over. DropLeft removes one that
	// this member has left, or whose removal failed then, and Left lists those, when the
	// daemon starts.
	TakeOver(ctx context.Context, v, from Volume, node int64, also func(context.Context, *db.Tx) error) error
	GiveUp(ctx context.Context, v Volume) (bool, error)
	DropLeft(ctx context.Context, v Volume) error
	Left(ctx context.Context) ([]LeftVolume, error)
	// Alter changes the content of a volume, which nobody uses: do works on a copy, which
	// takes its place in one step.
	Alter(ctx context.Context, v Volume, size int64, do func(ctx context.Context, dir string) error) error
	// Look finds the volumes of instances in a pool that no record knows. The pool may be
	// unknown itself; then it is mounted by what is said of it until Close.
	Look(ctx context.Context, pool api.StoragePoolsPost) (*LostPool, error)
	// Adopt records a volume that is on disk, with its snapshots; also runs in the same
	// transaction. Disown forgets the records and leaves the volume.
	Adopt(ctx context.Context, v Volume, snapshots []Brought, also func(context.Context, *db.Tx) error) error
	Disown(ctx context.Context, v Volume) error
	// Copy makes a volume of another, or of a snapshot of it, in any pool.
	Copy(ctx context.Context, dst, src Volume, o CopyOf) error
	// Refresh makes the content of dst, which nobody uses, that of src, and adds
	// snapshots. The content changes last and in one step.
	Refresh(ctx context.Context, dst, src Volume, o CopyOf) error
	// Link makes the short way to the instance's volume lead to this one.
	Link(ctx context.Context, v Volume) error
	// Rebuild puts the content of an image in place of that of the volume, which nobody
	// uses, or an empty root where fingerprint is empty, in one step.
	Rebuild(ctx context.Context, v Volume, fingerprint string, size int64) error
	// Exists reports whether a volume is there; one that is still being made is not.
	Exists(ctx context.Context, v Volume) (bool, error)
	Delete(ctx context.Context, v Volume) error // record and data; absence is success
	Rename(ctx context.Context, v Volume, name string) error
	// Mount returns the instance's folder; its root file system is rootfs in it.
	Mount(ctx context.Context, v Volume) (dir string, err error)
	Unmount(ctx context.Context, v Volume) error
	SetSize(ctx context.Context, v Volume, size int64) error
	// CreateSnapshot takes a snapshot of the volume; quiet, which may be nil, stops the
	// guest for the moment that counts. It is a conflict where one of the name is, even
	// if only in part.
	CreateSnapshot(ctx context.Context, v Volume, name string, quiet func(context.Context) (resume func(), err error)) error
	DeleteSnapshot(ctx context.Context, v Volume, name string) error // absence is success
	// RenameSnapshot runs also in the transaction that changes its own record.
	RenameSnapshot(ctx context.Context, v Volume, name, to string, also func(context.Context, *db.Tx) error) error
	// RestoreSnapshot replaces the content of the volume, which nobody uses, as a whole.
	RestoreSnapshot(ctx context.Context, v Volume, name string, size int64) error
	// MountSnapshot returns the folder of a snapshot, to read only.
	MountSnapshot(ctx context.Context, v Volume, name string) (dir string, err error)
	UnmountSnapshot(ctx context.Context, v Volume, name string) error
	// SnapshotUsage returns bytes used by those snapshots where that is known.
	SnapshotUsage(ctx context.Context, v Volume, names []string) map[string]int64
	// Usage returns bytes used, for those volumes where that is known.
	Usage(ctx context.Context, vs []Volume) (map[Volume]int64, error)
}

// Bringing is what comes with a volume from elsewhere.
type Bringing struct {
	Size      int64     // its limit in bytes, 0 for none
	Snapshots []Brought // oldest first
	Passing   bool      // it comes from another member and is nobody's until TakeOver
	Note      string    // what Left is to tell of it, should that not come
}

// Brought is a snapshot that comes with a volume from elsewhere.
type Brought struct {
	Name  string
	Taken time.Time
	Size  int64 // its limit in bytes; 0 stands for that of the volume
}

// LeftVolume is one that is to be removed.
type LeftVolume struct {
	Volume
	Note string
}

// LostPool is a pool that was looked through.
type LostPool struct {
	Pool    api.StoragePoolsPost
	Volumes []LostVolume
	// Adopt makes an unknown pool one of the server's, configured as Pool says by then.
	Adopt func(ctx context.Context, pool api.StoragePoolsPost) error
	// Close lets go of a pool that is still unknown.
	Close func()
}

// LostVolume is a root volume of which there is no record.
type LostVolume struct {
	Volume
	Dir       string            // of the volume, to read in
	Snapshots map[string]string // the folders of its snapshots, by name
}

// Image is what an instance takes over from its image.
type Image struct {
	Fingerprint  string
	Architecture string
	Type         string
	Properties   map[string]string
	Profiles     []string
}

// Images finds images.
type Images interface {
	// Resolve finds the image that a source names by fingerprint, alias or
	// properties, in a project.
	Resolve(ctx context.Context, project string, src api.InstanceSource) (Image, error)
	// Used notes that an image has been used now.
	Used(ctx context.Context, project, fingerprint string) error
}

// Unpacker takes archives apart without the host in reach.
type Unpacker interface {
	// Below unpacks folders of a tarball, each into a folder of its own: into has the one
	// by the other.
	Below(ctx context.Context, path string, into map[string]string) error
	// Stream unpacks a plain tarball, as it comes, into a folder.
	Stream(ctx context.Context, r io.Reader, dir string) error
}

// IDs is what instances need of the host's id ranges.
type IDs interface {
	// Map is the id map of unprivileged instances, or an error that says what the
	// host lacks and how to add it.
	Map() (idmap.Map, error)
	// Mountable reports whether idmapped mounts work on the file system at a path.
	Mountable(ctx context.Context, path string) bool
	// Shift rewrites the ids of a tree on disk from one map to another; an empty
	// map stands for the guest's own ids.
	Shift(ctx context.Context, path string, from, to idmap.Map) error
}
