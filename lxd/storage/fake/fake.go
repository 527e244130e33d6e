// Package fake is a storage driver for tests: real folders in a scratch directory,
// limits and usage from a table in memory, and a failure wherever a test wants one.
// It needs no root and mounts nothing.
package fake

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sett/lxd/config"
	"sett/lxd/host/tree"
	"sett/lxd/storage/driver"
	"sett/shared/gate"
)

// Kind is the fake kind of storage. The zero value is ready.
type Kind struct {
	// As is the name it goes by; empty: "fake".
	As string
	// Instant pools make snapshots and copies in one step, and remove in one.
	Instant bool

	broken atomic.Pointer[func(step, path string) error]
	gate   gate.Gate[string]
}

// Hold makes the next call of a step wait; see gate.Gate. "rename" and "delete" can be
// held besides the steps that can be broken; those that have no context wait for release.
func (k *Kind) Hold(step string) (reached <-chan struct{}, release func()) { return k.gate.Hold(step) }

// Break has f asked before every step, also those that go on behind a call; its
// error is the step's. nil mends all. The steps are "make", "clone", "remove",
// "quota", "seal", "createpool", "mountpool", "unmountpool", "deletepool", "usage".
func (k *Kind) Break(f func(step, path string) error) {
	if f == nil {
		k.broken.Store(nil)
		return
	}
	k.broken.Store(&f)
}

// Name implements driver.Kind.
func (k *Kind) Name() string {
	if k.As != "" {
		return k.As
	}
	return "fake"
}

// Info implements driver.Kind.
func (k *Kind) Info(context.Context) (driver.Info, bool, string) {
	return driver.Info{Name: k.Name(), Version: "1", CopyOnWrite: k.Instant}, true, ""
}

// PoolKeys implements driver.Kind.
func (k *Kind) PoolKeys() config.Table {
	return driver.CommonPoolKeys().With(config.NewTable(driver.Size))
}

// VolumeKeys implements driver.Kind.
func (k *Kind) VolumeKeys(t driver.VolumeType) config.Table { return driver.CommonVolumeKeys(t) }

// Validate implements driver.Kind.
func (k *Kind) Validate(context.Context, driver.Env) error { return nil }

// New implements driver.Kind.
func (k *Kind) New(env driver.Env) (driver.Driver, error) {
	d := &pool{kind: k, env: env, quota: map[fileID]int64{}}
	d.Trees = driver.Trees{Root: filepath.Join(env.Dir, "storage-pools", env.Pool), Back: limiter{d}, Logf: env.Logf}
	if k.Instant {
		d.Back = instant{limiter{d}}
	}
	return d, nil
}

type fileID struct {
	dev, ino uint64
}

type pool struct {
	driver.Trees
	kind *Kind
	env  driver.Env

	mu    sync.Mutex
	quota map[fileID]int64
}

func (d *pool) fail(ctx context.Context, step, path string) error {
	if err := d.kind.gate.Pass(ctx, step); err != nil {
		return err
	}
	f := d.kind.broken.Load()
	if f == nil {
		return nil
	}
	return (*f)(step, path)
}

func (d *pool) Info() driver.Info {
	i, _, _ := d.kind.Info(context.Background())
	return i
}

func (d *pool) CreatePool(ctx context.Context) (map[string]string, error) {
	if err := d.fail(ctx, "createpool", d.Root); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.Root, 0o711); err != nil {
		return nil, err
	}
	return map[string]string{"source": d.Root}, d.PrepareRoot(ctx)
}

func (d *pool) DeletePool(ctx context.Context) error {
	if err := d.fail(ctx, "deletepool", d.Root); err != nil {
		return err
	}
	if err := d.ClearRoot(ctx); err != nil {
		return err
	}
	return os.RemoveAll(d.Root)
}

func (d *pool) MountPool(ctx context.Context) error {
	if err := d.fail(ctx, "mountpool", d.Root); err != nil {
		return err
	}
	return d.PrepareRoot(ctx)
}

func (d *pool) UnmountPool(ctx context.Context) error { return d.fail(ctx, "unmountpool", d.Root) }

func (d *pool) UpdatePool(_ context.Context, c map[string]string, _ []string) error {
	d.env.Config = c
	return nil
}

func (d *pool) Resources(context.Context) (driver.Resources, error) {
	return driver.Resources{SpaceUsed: 1 << 20, SpaceTotal: 1 << 30, InodesUsed: 10, InodesTotal: 1000}, nil
}

// Rename implements driver.Driver.
func (d *pool) Rename(ctx context.Context, v driver.Volume, name string) error {
	if err := d.kind.gate.Pass(ctx, "rename"); err != nil {
		return err
	}
	return d.Trees.Rename(ctx, v, name)
}

// RenameSnapshot implements driver.Driver.
func (d *pool) RenameSnapshot(ctx context.Context, v driver.Volume, name string) error {
	if err := d.kind.gate.Pass(ctx, "rename"); err != nil {
		return err
	}
	return d.Trees.RenameSnapshot(ctx, v, name)
}

// Delete implements driver.Driver.
func (d *pool) Delete(ctx context.Context, v driver.Volume) error {
	if err := d.kind.gate.Pass(ctx, "delete"); err != nil {
		return err
	}
	return d.Trees.Delete(ctx, v)
}

// DeleteSnapshot implements driver.Driver.
func (d *pool) DeleteSnapshot(ctx context.Context, v driver.Volume) error {
	if err := d.kind.gate.Pass(ctx, "delete"); err != nil {
		return err
	}
	return d.Trees.DeleteSnapshot(ctx, v)
}

// What driver.Trees asks for.

func (d *pool) Make(ctx context.Context, path string) error {
	if err := d.fail(ctx, "make", path); err != nil {
		return err
	}
	return os.Mkdir(path, 0o700)
}

func (d *pool) Clone(ctx context.Context, dst, src string, o driver.CloneOpts) error {
	if err := d.fail(ctx, "clone", dst); err != nil {
		return err
	}
	if err := os.Mkdir(dst, 0o700); err != nil {
		return err
	}
	return tree.CopyWith(ctx, dst, src, tree.Options{Count: o.Count, Quiet: o.Quiet})
}

func (d *pool) Seal(path string) error { return d.fail(context.Background(), "seal", path) }

func (d *pool) Unseal(string) error { return nil }

func (d *pool) Remove(ctx context.Context, path string) error {
	if err := d.fail(ctx, "remove", path); err != nil {
		return err
	}
	id, err := identify(path)
	if err == nil {
		d.mu.Lock()
		delete(d.quota, id)
		d.mu.Unlock()
	}
	return tree.Remove(ctx, path)
}

func (d *pool) Quota(context.Context) (bool, string) { return true, "" }

// limiter is the pool as a Backend, whose SetQuota has another signature.
type limiter struct{ *pool }

func (l limiter) SetQuota(ctx context.Context, path string, bytes int64) error {
	if err := l.fail(ctx, "quota", path); err != nil {
		return err
	}
	id, err := identify(path)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quota[id] = bytes
	return nil
}

// instant is the Backend of a pool that is driver.Instant too.
type instant struct{ limiter }

func (i instant) SnapshotNow(dst, src string, quiet func() (func(), error)) (bool, error) {
	return i.CloneNow(dst, src, quiet)
}

func (i instant) CloneNow(dst, src string, quiet func() (func(), error)) (bool, error) {
	if quiet != nil {
		resume, err := quiet()
		if err != nil {
			return false, err
		}
		defer resume()
	}
	if err := i.Clone(context.Background(), dst, src, driver.CloneOpts{}); err != nil {
		return false, errors.Join(err, tree.Remove(context.Background(), dst))
	}
	return true, nil
}

func (i instant) RemoveNow(path string) (bool, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	err := i.Remove(context.Background(), path)
	return err == nil, err
}

func (d *pool) Usage(ctx context.Context, v driver.Volume) (driver.Usage, error) {
	if err := d.fail(ctx, "usage", d.Path(v)); err != nil {
		return driver.UnknownUsage, err
	}
	return d.usage(d.Path(v))
}

func (d *pool) usage(path string) (driver.Usage, error) {
	id, err := identify(path)
	if err != nil {
		return driver.UnknownUsage, err
	}
	u := driver.Usage{Total: -1}
	d.mu.Lock()
	if q := d.quota[id]; q > 0 {
		u.Total = q
	}
	d.mu.Unlock()
	err = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			u.Used += fi.Size()
		}
		return err
	})
	return u, err
}

func (d *pool) UsageAll(ctx context.Context) (map[string]driver.Usage, error) {
	out := map[string]driver.Usage{}
	for _, t := range []driver.VolumeType{driver.Container, driver.Image, driver.Custom} {
		vs, err := d.List(ctx, t)
		if err != nil {
			return nil, err
		}
		for _, v := range vs {
			u, err := d.Usage(ctx, v)
			if err != nil {
				return nil, err
			}
			out[v.Key()] = u
		}
	}
	return out, nil
}

func identify(path string) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fileID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{st.Dev, st.Ino}, nil
}
