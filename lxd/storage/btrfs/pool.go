package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"sett/lxd/host/btrfs"
	"sett/lxd/host/fsmount"
	"sett/lxd/host/loop"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
	"sett/shared/undo"
)

type pool struct {
	driver.Trees
	kind *Kind
	env  driver.Env
}

func (p *pool) Info() driver.Info {
	i, _, _ := p.kind.Info(context.Background())
	return i
}

func (p *pool) CreatePool(ctx context.Context) (map[string]string, error) {
	var u undo.Stack
	defer u.Run()
	more := map[string]string{}
	var err error
	switch homeOf(p.env) {
	case onLoop:
		err = p.createLoop(ctx, &u, more)
	case onDevice:
		err = p.createDevice(ctx, &u, more)
	case inFolder:
		err = p.createFolder(ctx, &u)
	}
	if err != nil {
		return nil, err
	}
	// From here on the driver finds its source like after a restart.
	full := map[string]string{}
	for k, v := range p.env.Config {
		full[k] = v
	}
	for k, v := range more {
		full[k] = v
	}
	p.env.Config = full
	u.Push(func() error {
		ctx := context.WithoutCancel(ctx)
		if err := p.Close(ctx); err != nil {
			return err
		}
		if err := fsmount.Undo(ctx, p.Root); err != nil {
			return err
		}
		return os.RemoveAll(p.Root)
	})
	if err := p.MountPool(ctx); err != nil {
		return nil, err
	}
	if homeOf(p.env) != inFolder {
		p.simpleQuota()
	}
	u.Commit()
	return more, nil
}

// simpleQuota makes usage known at no cost on a file system that is all ours. On a
// kernel that cannot do it the first limit switches the older quotas on.
func (p *pool) simpleQuota() {
	d, err := btrfs.Open(p.Root)
	if err != nil {
		return
	}
	defer d.Close()
	_ = d.EnableSimpleQuota()
}

func (p *pool) createLoop(ctx context.Context, u *undo.Stack, more map[string]string) error {
	size := driver.Size.Get(p.env.Config)
	if size == 0 {
		var err error
		if size, err = defaultSize(p.env.Dir); err != nil {
			return err
		}
		more[driver.Size.Name()] = strconv.FormatInt(size>>30, 10) + "GiB"
	}
	file := p.env.LoopFile()
	more[driver.Source.Name()] = file
	err := loop.Create(file, size)
	if os.IsExist(err) {
		return errs.Conflict("%s already exists; it may belong to a pool of that name", file)
	}
	if err != nil {
		return err
	}
	u.Push(func() error { return os.Remove(file) })
	return btrfs.Make(ctx, file, p.env.Pool, true)
}

func (p *pool) createDevice(ctx context.Context, u *undo.Stack, more map[string]string) error {
	dev := driver.Source.Get(p.env.Config)
	if dev[0] != '/' {
		return errs.Invalid("Source %q is not a block device", dev)
	}
	err := btrfs.Make(ctx, dev, p.env.Pool, Wipe.Get(p.env.Config))
	if errors.Is(err, btrfs.ErrInUse) {
		return errs.Conflict("%s holds a file system already; set \"source.wipe\" to overwrite it", dev)
	}
	if err != nil {
		return err
	}
	u.Push(func() error { return btrfs.Erase(context.WithoutCancel(ctx), dev) })
	uuid, err := btrfs.UUID(dev)
	if err != nil {
		return err
	}
	more[driver.InitialSource.Name()] = dev
	more[driver.Source.Name()] = uuid
	return nil
}

func (p *pool) createFolder(_ context.Context, u *undo.Stack) error {
	src := driver.Source.Get(p.env.Config)
	holder, err := btrfs.Open(filepath.Dir(src))
	if err != nil {
		return errs.Invalid("Source %q: its folder is not there", src)
	}
	defer holder.Close()
	d, err := btrfs.Open(src)
	if errors.Is(err, unix.ENOENT) {
		if ok, err := holder.IsBtrfs(); err != nil || !ok {
			return errs.Invalid("Source %q is not on a btrfs file system", src)
		}
		if err := holder.Create(filepath.Base(src)); err != nil {
			return err
		}
		u.Push(func() error { return holder.Destroy(filepath.Base(src)) })
		return nil
	}
	if err == nil {
		_ = d.Close()
	}
	if err := checkFolder(src); err != nil {
		return err
	}
	if empty, err := driver.IsEmptyRoot(src); err != nil || !empty {
		return errs.Invalid("Source %q is not empty; a storage pool needs a folder of its own", src)
	}
	return nil
}

// checkFolder refuses what is no folder on btrfs. It may have been one: where a file system
// is not mounted, its place is a folder of another one.
func checkFolder(src string) error {
	d, err := btrfs.Open(src)
	if err != nil {
		return errs.Invalid("Source %q is not a folder", src)
	}
	defer d.Close()
	if ok, err := d.IsBtrfs(); err != nil || !ok {
		return errs.Invalid("Source %q is not on a btrfs file system", src)
	}
	return nil
}

func (p *pool) MountPool(ctx context.Context) error {
	if err := os.Mkdir(p.Root, 0o711); err != nil && !os.IsExist(err) {
		return err
	}
	_, there, err := fsmount.At(p.Root)
	if err != nil {
		return err
	}
	if !there {
		if err := p.mount(ctx); err != nil {
			return err
		}
	}
	if err := os.Chmod(p.Root, 0o711); err != nil {
		return err
	}
	if err := p.PrepareRoot(ctx); err != nil {
		return err
	}
	if homeOf(p.env) == inFolder {
		return nil // who has a file system of his own has accounts there of his own
	}
	if there && homeOf(p.env) == onLoop {
		if err := loop.Finish(p.env.LoopFile()); err != nil {
			return err
		}
	}
	p.Background(func() {
		d, err := btrfs.Open(p.Root)
		if err != nil {
			return // unmounted again
		}
		defer d.Close()
		if err := d.DropStaleLimits(); err != nil && p.env.Logf != nil {
			p.env.Logf("Storage pool %s: %v", p.env.Pool, err)
		}
	})
	return nil
}

func (p *pool) mount(ctx context.Context) error {
	options := MountOptions.Get(p.env.Config)
	flags, options := fsmount.Flags(options)
	src := driver.Source.Get(p.env.Config)
	switch homeOf(p.env) {
	case inFolder:
		if src == p.Root {
			return nil
		}
		if err := checkFolder(src); err != nil {
			return err
		}
		return fsmount.Bind(src, p.Root)
	case onLoop:
		dev, err := loop.Attach(ctx, p.env.LoopFile())
		if err != nil {
			return err
		}
		defer dev.Close() // the mount keeps the device
		return fsmount.Do(dev.Name(), p.Root, "btrfs", flags, options)
	}
	dev := src
	if src[0] != '/' {
		var err error
		if dev, err = btrfs.FindDevice(src, driver.InitialSource.Get(p.env.Config)); err != nil {
			return err
		}
	}
	return fsmount.Do(dev, p.Root, "btrfs", flags, options)
}

func (p *pool) UnmountPool(ctx context.Context) error {
	if err := p.Close(ctx); err != nil {
		return err
	}
	err := fsmount.Undo(ctx, p.Root)
	if errors.Is(err, unix.EBUSY) {
		return errs.Conflict("Storage pool %q is in use", p.env.Pool)
	}
	return err
}

func (p *pool) DeletePool(ctx context.Context) error {
	if _, err := os.Lstat(p.Root); os.IsNotExist(err) {
		return p.deleteHome(ctx)
	}
	src := driver.Source.Get(p.env.Config)
	if homeOf(p.env) == inFolder {
		_, mounted, err := fsmount.At(p.Root)
		if err != nil {
			return err
		}
		if mounted || src == p.Root {
			if err := p.ClearRoot(ctx); err != nil {
				return err
			}
		}
	}
	if err := p.UnmountPool(ctx); err != nil {
		return err
	}
	if err := p.deleteHome(ctx); err != nil {
		return err
	}
	return removeFolder(p.Root)
}

// removeFolder removes an empty folder, which may be a subvolume.
func removeFolder(path string) error {
	err := os.Remove(path)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func (p *pool) deleteHome(ctx context.Context) error {
	switch homeOf(p.env) {
	case onLoop:
		// A record without a source is that of a pool whose making broke off, perhaps
		// because a file of somebody else's was in the way.
		if driver.Source.Get(p.env.Config) == "" && !loop.Unfinished(p.env.LoopFile()) {
			return nil
		}
		if err := os.Remove(p.env.LoopFile()); err != nil && !os.IsNotExist(err) {
			return err
		}
	case onDevice:
		if driver.InitialSource.Get(p.env.Config) == "" {
			return nil // the same: what is on the device may have been there before
		}
		src := driver.Source.Get(p.env.Config)
		dev, err := btrfs.FindDevice(src, driver.InitialSource.Get(p.env.Config))
		if err != nil {
			return nil // it has gone without us
		}
		return btrfs.Erase(ctx, dev)
	}
	return nil
}

func (p *pool) UpdatePool(_ context.Context, c map[string]string, changed []string) error {
	if slices.Contains(changed, driver.Size.Name()) {
		if err := p.grow(driver.Size.Get(c)); err != nil {
			return err
		}
	}
	p.env.Config = c
	return nil
}

func (p *pool) grow(size int64) error {
	if homeOf(p.env) != onLoop {
		return errs.Invalid("Only a pool with a file of its own has a size that can change")
	}
	file := p.env.LoopFile()
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	if size < fi.Size() {
		return errs.Invalid("Storage pool %q cannot be made smaller", p.env.Pool)
	}
	if err := os.Truncate(file, size); err != nil {
		return err
	}
	if err := loop.Grow(file); err != nil {
		return fmt.Errorf("grow the device of %s: %w", file, err)
	}
	d, err := btrfs.Open(p.Root)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Grow()
}

func (p *pool) Resources(context.Context) (driver.Resources, error) { return driver.Statfs(p.Root) }
