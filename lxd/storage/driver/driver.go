package driver

import (
	"context"
	"io"

	"sett/lxd/config"
)

// Info tells what a driver is and can do on this host.
type Info struct {
	Name    string
	Version string // of the tools or the kernel; "1" where there is none
	// Remote storage is seen by all members alike.
	Remote bool
	// Copy on write: copies and snapshots take neither time nor room.
	CopyOnWrite bool
}

// Env is what a driver is given for one pool.
type Env struct {
	Pool   string
	Config map[string]string // as stored
	Dir    string            // LXD_DIR
	// Logf tells an operator what cannot be returned: work in the background that failed.
	Logf func(format string, args ...any)
}

// Kind is one kind of storage, of which there are many pools.
type Kind interface {
	Name() string
	// Info looks at the host. ok is false, with a reason, when the kind cannot work
	// here. It is cheap after the first call.
	Info(ctx context.Context) (i Info, ok bool, reason string)
	// PoolKeys are the configuration keys of such a pool, the common ones included.
	PoolKeys() config.Table
	// VolumeKeys are those of a volume in such a pool. With "volume." in front they
	// are keys of the pool as well: defaults for its volumes.
	VolumeKeys(t VolumeType) config.Table
	// Validate says what the tables cannot: which keys go together.
	Validate(ctx context.Context, env Env) error
	// New makes the driver of one pool. It touches nothing.
	New(env Env) (Driver, error)
}

// Resources is how much room a pool has and has used.
type Resources struct {
	SpaceUsed, SpaceTotal   uint64
	InodesUsed, InodesTotal uint64
}

// Usage is what a volume takes. -1 stands for "not known here".
type Usage struct {
	Used  int64
	Total int64 // its limit, or -1 for none
}

// UnknownUsage is the usage of a volume whose driver cannot tell.
var UnknownUsage = Usage{Used: -1, Total: -1}

// Filler puts the content into a new, empty volume. dir is the volume's own folder
// (its guest root is dir/rootfs, to be made by the filler). It runs before the volume
// has its name, so whatever it does is gone when it fails.
type Filler func(ctx context.Context, dir string) error

// CopyOpts says how to copy a volume.
type CopyOpts struct {
	// Snapshots to copy as well, oldest first.
	Snapshots []string
	// Quota of the copy in bytes; 0 for none.
	Quota int64
	// Quiet, which may be nil, holds still what writes to the source. Idle, which may be nil
	// too, reports whether nothing has written to it since the copy was planned.
	Quiet Quiet
	Idle  func() bool
	// Count, which may be nil, is told of bytes that have been copied, from any goroutine.
	// Where copies take no time nobody counts.
	Count func(n int64)
	// Ready, which may be nil, does a last thing to the content, before it is used.
	Ready Filler
}

// Quiet stops whoever writes to a volume, as often as it is called. resume, which is called
// once, lets them go on.
type Quiet func(ctx context.Context) (resume func(), err error)

// View is a folder to read until Release is called, once.
type View struct {
	Dir string
	// Quiet holds still who writes to the folder; nil where nobody does.
	Quiet   Quiet
	Release func()
}

// Driver works on one pool. All methods are safe for concurrent use; two calls on
// one volume are kept apart by the caller's locks. Every method that makes something
// leaves nothing behind when it fails or its context ends.
type Driver interface {
	Info() Info
	Pool

	// Path returns where the volume's folder is while it is mounted.
	Path(v Volume) string
	Exists(ctx context.Context, v Volume) (bool, error)
	// List finds all volumes of a type on disk, snapshots excluded.
	List(ctx context.Context, t VolumeType) ([]Volume, error)

	// Create makes an empty volume and fills it. v.Config["size"] is its quota. A
	// snapshot can be made so as well, also before its volume: one that comes from
	// elsewhere.
	Create(ctx context.Context, v Volume, fill Filler) error
	// Copy makes dst from src of the same pool: an image, a volume or a snapshot. dst
	// gets its name last, after its snapshots; it may be a snapshot itself.
	Copy(ctx context.Context, dst, src Volume, o CopyOpts) error
	// Refresh makes the content of dst, which nobody uses, that of src of the same pool,
	// in one step; o.Snapshots and o.Quota are not looked at. The two may be the same
	// volume, which o.Ready changes.
	Refresh(ctx context.Context, dst, src Volume, o CopyOpts) error
	// Replace puts new content in place of v's in one step; nobody uses v. What is there
	// can still be read at Path(v), and goes afterwards.
	Replace(ctx context.Context, v Volume, fill Filler) error
	// Show gives a folder with the content of v to read. It is that of v itself where
	// quiet is nil, since nobody writes to v, and where a copy takes room. Else it is a copy
	// of one moment, for which quiet holds its writers still.
	Show(ctx context.Context, v Volume, quiet Quiet) (View, error)
	// Delete removes a volume that has no snapshots left. Its room may come back a
	// little later; its name is free at once. A volume that is not there is no error.
	Delete(ctx context.Context, v Volume) error
	// Rename gives a volume and its snapshots another name.
	Rename(ctx context.Context, v Volume, name string) error

	// Mount makes the volume's folder usable and counts its users; Unmount takes one
	// user away. A volume found mounted (after a restart of the daemon) is adopted.
	Mount(ctx context.Context, v Volume) error
	Unmount(ctx context.Context, v Volume) error

	// Quota reports whether limits on volumes hold in this pool, with the reason if not.
	Quota(ctx context.Context) (bool, string)
	// SetQuota limits a volume to so many bytes; 0 takes the limit away. Where
	// limits do not hold it does nothing.
	SetQuota(ctx context.Context, v Volume, bytes int64) error
	// Usage of one volume. It never walks through the volume and runs no program.
	Usage(ctx context.Context, v Volume) (Usage, error)
	// UsageAll is Usage for all volumes of the pool in one go, by Volume.Key. What
	// is missing from the map is unknown.
	UsageAll(ctx context.Context) (map[string]Usage, error)

	// Snapshots. Each takes the snapshot's own name, Volume.Snapshot. CreateSnapshot asks
	// quiet, which may be nil, to hold still what writes to the volume, for as short a
	// time as it can.
	CreateSnapshot(ctx context.Context, snap Volume, quiet Quiet) error
	DeleteSnapshot(ctx context.Context, snap Volume) error
	RenameSnapshot(ctx context.Context, snap Volume, name string) error
	// Restore puts the content of a snapshot in place of its parent's.
	Restore(ctx context.Context, snap Volume) error
	// ListSnapshots gives the names of v's snapshots, oldest first where that is known.
	ListSnapshots(ctx context.Context, v Volume) ([]string, error)
}

// Pool is the part of a driver that is about the pool as a whole.
type Pool interface {
	// CreatePool makes what the pool lives on, and leaves it mounted. It returns
	// keys that the configuration gains (source, size, volatile.initial_source).
	CreatePool(ctx context.Context) (map[string]string, error)
	// DeletePool removes the pool with all that is in it.
	DeletePool(ctx context.Context) error
	// MountPool makes the pool usable. It may run on a mounted pool, and removes
	// what an interrupted daemon left half-made.
	MountPool(ctx context.Context) error
	UnmountPool(ctx context.Context) error
	// UpdatePool applies new configuration; changed are the keys that differ. The
	// driver uses the new values from then on.
	UpdatePool(ctx context.Context, config map[string]string, changed []string) error
	Resources(ctx context.Context) (Resources, error)
	// Close waits for work in the background, for no longer than ctx allows.
	Close(ctx context.Context) error
}

// Optional abilities, asked for by type assertion.

// Streamer is a driver that tells the content of volumes in a format of its own, which
// other pools of its kind understand.
type Streamer interface {
	// Sendable refuses a folder with something in it that streams cannot hold.
	Sendable(dir string) error
	// Send writes a folder that does not change: a snapshot's, or what Show shows. parent,
	// which may be empty, is the folder of a snapshot that the receiver has by then.
	Send(ctx context.Context, dir, parent string, w io.Writer) error
	// Mark is what streams call a folder.
	Mark(dir string) (string, error)
	// Receive makes a volume or a snapshot of a stream. came are those that have come with
	// it so far, on which it may build; it gets itself added. check looks at the content.
	Receive(ctx context.Context, v Volume, r io.Reader, came map[string]string, check Filler) error
}
