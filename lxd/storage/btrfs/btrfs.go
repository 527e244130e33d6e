// Package btrfs keeps each volume as a subvolume: copies and snapshots take no time
// and no room, sizes are limited by qgroups, and removal happens in the background
// of the file system. A pool lives on a file of its own, on a block device, or in a
// folder of a btrfs file system that is there already.
package btrfs

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"sett/lxd/config"
	"sett/lxd/host/btrfs"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// MountOptions are those of the pool's file system.
var MountOptions = config.String("btrfs.mount_options", defaultOptions,
	config.Doc("Mount options of the pool's file system"))

// Wipe overwrites a file system that is found on the source.
var Wipe = config.Bool("source.wipe", false, config.Local(), config.Fixed(),
	config.Doc("Whether to overwrite a file system that is on the source"))

// defaultOptions lets the root of a container remove the subvolumes that it made.
const defaultOptions = "user_subvol_rm_allowed"

// Kind is the kind "btrfs".
type Kind struct {
	once    sync.Once
	version string
	why     string
}

// New makes the kind; it looks at the host when it is first asked.
func New() *Kind { return &Kind{} }

// Name implements driver.Kind.
func (k *Kind) Name() string { return "btrfs" }

// Info implements driver.Kind.
func (k *Kind) Info(ctx context.Context) (driver.Info, bool, string) {
	k.once.Do(func() {
		if !btrfs.Available() {
			k.why = "the kernel has no btrfs"
			return
		}
		v, err := btrfs.Version(context.WithoutCancel(ctx))
		if err != nil {
			k.why = "btrfs-progs is not installed"
			return
		}
		k.version = v
	})
	return driver.Info{Name: "btrfs", Version: k.version, CopyOnWrite: true}, k.why == "", k.why
}

// PoolKeys implements driver.Kind.
func (k *Kind) PoolKeys() config.Table {
	size := config.New(driver.Size.Name(), "size", int64(0), "", parseSize, config.Local(), config.Live(),
		config.Doc("Size of the pool's own file"))
	return driver.CommonPoolKeys().With(config.NewTable(size, MountOptions, Wipe))
}

func parseSize(s string) (int64, error) { return driver.Size.Parse(s) }

// VolumeKeys implements driver.Kind.
func (k *Kind) VolumeKeys(t driver.VolumeType) config.Table { return driver.CommonVolumeKeys(t) }

// minSize is what mkfs.btrfs asks for, rounded up.
const minSize = 128 << 20

// Validate implements driver.Kind.
func (k *Kind) Validate(_ context.Context, env driver.Env) error {
	home := homeOf(env)
	if n := driver.Size.Get(env.Config); n != 0 {
		if home != onLoop {
			return errs.Invalid("\"size\" is for pools with a file of their own; %q has the size that it has", driver.Source.Get(env.Config))
		}
		if n < minSize {
			return errs.Invalid("A btrfs pool needs at least 128MiB")
		}
	}
	if home == inFolder {
		return driver.CheckSourcePath(env)
	}
	return nil
}

// New implements driver.Kind.
func (k *Kind) New(env driver.Env) (driver.Driver, error) {
	p := &pool{kind: k, env: env}
	p.Trees = driver.Trees{Root: env.Path(), Back: subvolumes{}, Logf: env.Logf}
	return p, nil
}

// home is what a pool lives on.
type home int

const (
	onLoop   home = iota // LXD_DIR/disks/POOL.img
	onDevice             // a block device, or the UUID of its file system
	inFolder             // a folder of a file system that is there already
)

func homeOf(env driver.Env) home {
	src := driver.Source.Get(env.Config)
	switch {
	case src == "" || src == env.LoopFile():
		return onLoop
	case src[0] != '/':
		return onDevice
	}
	if fi, err := os.Stat(src); err == nil && fi.Mode().Type()&os.ModeDevice != 0 && fi.Mode()&os.ModeCharDevice == 0 {
		return onDevice
	}
	return inFolder
}

// defaultSize is a fifth of what the host's disk can hold, at least 5 and at most 30 GiB.
func defaultSize(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	const gib = 1 << 30
	n := int64(st.Blocks) * st.Bsize / 5 / gib * gib
	return min(max(n, 5*gib), 30*gib), nil
}
