// Package dir keeps volumes as plain folders on whatever file system the pool's
// source is on. It works everywhere, copies file by file (sharing the blocks where
// the file system can), and limits nothing, unless the kernel has project quotas.
package dir

import (
	"context"
	"os"

	"sett/lxd/config"
	"sett/lxd/host/fsmount"
	"sett/lxd/host/tree"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Kind is the kind "dir". The zero value is ready.
type Kind struct{}

// Name implements driver.Kind.
func (Kind) Name() string { return "dir" }

// Info implements driver.Kind.
func (Kind) Info(context.Context) (driver.Info, bool, string) { return info(), true, "" }

func info() driver.Info { return driver.Info{Name: "dir", Version: "1"} }

// PoolKeys implements driver.Kind.
func (Kind) PoolKeys() config.Table { return driver.CommonPoolKeys() }

// VolumeKeys implements driver.Kind.
func (Kind) VolumeKeys(t driver.VolumeType) config.Table { return driver.CommonVolumeKeys(t) }

// Validate implements driver.Kind.
func (Kind) Validate(_ context.Context, env driver.Env) error {
	return driver.CheckSourcePath(env)
}

// New implements driver.Kind.
func (Kind) New(env driver.Env) (driver.Driver, error) {
	p := &pool{env: env}
	p.Trees = driver.Trees{Root: env.Path(), Back: folders{}, Logf: env.Logf}
	return p, nil
}

type pool struct {
	driver.Trees
	env driver.Env
}

func (p *pool) Info() driver.Info { return info() }

// source is the folder the pool lives in, by the configuration.
func (p *pool) source() string {
	if s := driver.Source.Get(p.env.Config); s != "" {
		return s
	}
	return p.Root
}

func (p *pool) CreatePool(ctx context.Context) (map[string]string, error) {
	var u undo.Stack
	defer u.Run()
	src := p.source()
	if err := os.Mkdir(p.Root, 0o711); err != nil {
		if !os.IsExist(err) {
			return nil, err
		}
	} else {
		u.Push(func() error { return os.Remove(p.Root) })
	}
	if src != p.Root {
		if fi, err := os.Stat(src); err != nil || !fi.IsDir() {
			return nil, errs.Invalid("Source %q is not a folder", src)
		}
	}
	empty, err := driver.IsEmptyRoot(src)
	if err != nil {
		return nil, err
	}
	if !empty {
		return nil, errs.Invalid("Source %q is not empty; a storage pool needs a folder of its own", src)
	}
	u.Push(func() error { return p.unmountAndClear(context.WithoutCancel(ctx)) })
	if err := p.MountPool(ctx); err != nil {
		return nil, err
	}
	u.Commit()
	return map[string]string{driver.Source.Name(): src}, nil
}

func (p *pool) unmountAndClear(ctx context.Context) error {
	if err := p.ClearRoot(ctx); err != nil {
		return err
	}
	return p.UnmountPool(ctx)
}

func (p *pool) DeletePool(ctx context.Context) error {
	if _, err := os.Lstat(p.Root); os.IsNotExist(err) {
		return nil
	}
	if p.source() != p.Root {
		// Without the source under it, the root holds nothing of ours.
		if _, ok, err := fsmount.At(p.Root); err != nil {
			return err
		} else if ok {
			if err := p.ClearRoot(ctx); err != nil {
				return err
			}
		}
		if err := p.UnmountPool(ctx); err != nil {
			return err
		}
	} else if err := p.ClearRoot(ctx); err != nil {
		return err
	}
	return os.Remove(p.Root)
}

func (p *pool) MountPool(ctx context.Context) error {
	if err := os.Mkdir(p.Root, 0o711); err != nil && !os.IsExist(err) {
		return err
	}
	if src := p.source(); src != p.Root {
		_, ok, err := fsmount.At(p.Root)
		if err != nil {
			return err
		}
		if !ok {
			if err := fsmount.Bind(src, p.Root); err != nil {
				return err
			}
		}
	}
	if err := os.Chmod(p.Root, 0o711); err != nil {
		return err
	}
	if err := p.PrepareRoot(ctx); err != nil {
		return err
	}
	tree.Spread(p.Nursery())
	return nil
}

func (p *pool) UnmountPool(ctx context.Context) error {
	if p.source() == p.Root {
		return nil
	}
	if err := p.Close(ctx); err != nil {
		return err
	}
	return fsmount.Undo(ctx, p.Root)
}

func (p *pool) UpdatePool(_ context.Context, c map[string]string, _ []string) error {
	p.env.Config = c
	return nil
}

func (p *pool) Resources(context.Context) (driver.Resources, error) { return driver.Statfs(p.Root) }

// Quota tells that limits do not hold here. Project quotas of ext4 and xfs would do
// it, but a kernel without them accepts the mount options silently, so that what we
// see on a mount is no proof; they have a driver feature of their own once built.
func (p *pool) Quota(context.Context) (bool, string) {
	return false, "a \"dir\" pool cannot limit the size of its volumes"
}

func (p *pool) Usage(context.Context, driver.Volume) (driver.Usage, error) {
	return driver.UnknownUsage, nil
}

func (p *pool) UsageAll(context.Context) (map[string]driver.Usage, error) { return nil, nil }

// folders is the driver.Backend of plain folders.
type folders struct{}

func (folders) Make(_ context.Context, path string) error { return os.Mkdir(path, 0o700) }

func (folders) Clone(ctx context.Context, dst, src string, o driver.CloneOpts) error {
	if err := os.Mkdir(dst, 0o700); err != nil {
		return err
	}
	return tree.CopyWith(ctx, dst, src, tree.Options{Count: o.Count, Quiet: o.Quiet, Idle: o.Idle})
}

func (folders) Shares(dir string) bool { return tree.Shares(dir) }

func (folders) Seal(string) error   { return nil }
func (folders) Unseal(string) error { return nil }

func (folders) Remove(ctx context.Context, path string) error { return tree.Remove(ctx, path) }

func (folders) SetQuota(context.Context, string, int64) error { return nil }
