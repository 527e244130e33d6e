package btrfs

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/host/btrfs"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// Quota implements driver.Driver: limits hold, and are switched on by the first one.
func (p *pool) Quota(context.Context) (bool, string) { return true, "" }

func (p *pool) Usage(_ context.Context, v driver.Volume) (driver.Usage, error) {
	d, err := btrfs.Open(p.Path(v))
	if err != nil {
		return driver.UnknownUsage, err
	}
	defer d.Close()
	id, err := d.ID()
	if err != nil {
		return driver.UnknownUsage, err
	}
	q, err := d.Quota(id)
	if errors.Is(err, btrfs.ErrNoQuota) {
		return driver.UnknownUsage, nil
	}
	if err != nil {
		return driver.UnknownUsage, err
	}
	return usage(q), nil
}

func usage(q btrfs.Usage) driver.Usage {
	u := driver.Usage{Used: int64(q.Referred), Total: -1}
	if q.Limit > 0 {
		u.Total = int64(q.Limit)
	}
	return u
}

// UsageAll needs three searches, however many volumes there are: the subvolumes in
// the pool's folders, their names, and their accounts.
func (p *pool) UsageAll(context.Context) (map[string]driver.Usage, error) {
	root, err := btrfs.Open(p.Root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	quotas, err := root.Quotas()
	if errors.Is(err, btrfs.ErrNoQuota) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	id, err := root.ID()
	if err != nil {
		return nil, err
	}
	children, err := root.Children(id)
	if err != nil {
		return nil, err
	}
	folders := map[uint64]string{}
	for _, t := range []driver.VolumeType{driver.Container, driver.Image, driver.Custom} {
		var st unix.Stat_t
		dir := driver.TypeDir(t, false)
		if err := unix.Lstat(filepath.Join(p.Root, dir), &st); err == nil {
			folders[st.Ino] = dir
		}
	}
	out := make(map[string]driver.Usage, len(children))
	for _, c := range children {
		if dir, ok := folders[c.Inode]; ok {
			out[filepath.Join(dir, c.Name)] = usage(quotas[c.ID])
		}
	}
	return out, nil
}

// subvolumes is the driver.Backend, and Instant where nothing is nested.
type subvolumes struct{}

func at(path string, f func(dir btrfs.Dir, name string) error) error {
	d, err := btrfs.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return f(d, filepath.Base(path))
}

func (subvolumes) Make(_ context.Context, path string) error {
	return at(path, func(d btrfs.Dir, name string) error { return d.Create(name) })
}

func (subvolumes) Clone(ctx context.Context, dst, src string, o driver.CloneOpts) error {
	s, err := btrfs.Open(src)
	if err != nil {
		return err
	}
	defer s.Close()
	if o.Quiet != nil {
		resume, err := o.Quiet(ctx)
		if err != nil {
			return err
		}
		defer resume()
	}
	return at(dst, func(d btrfs.Dir, name string) error { return btrfs.CopySubvolume(ctx, d, name, s) })
}

func (subvolumes) SnapshotNow(dst, src string, quiet func() (func(), error)) (bool, error) {
	return cloneNow(dst, src, quiet, true)
}

func (subvolumes) CloneNow(dst, src string, quiet func() (func(), error)) (bool, error) {
	return cloneNow(dst, src, quiet, false)
}

func cloneNow(dst, src string, quiet func() (func(), error), sealed bool) (bool, error) {
	s, err := btrfs.Open(src)
	if err != nil {
		return false, err
	}
	defer s.Close()
	if more, err := s.HasNested(); err != nil || more {
		return false, err
	}
	err = at(dst, func(d btrfs.Dir, name string) error {
		if quiet == nil {
			return d.Snapshot(name, s, sealed)
		}
		return d.SnapshotHeld(name, s, sealed, quiet)
	})
	return err == nil, err
}

func (subvolumes) RemoveNow(path string) (bool, error) {
	s, err := btrfs.Open(path)
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	more, err := s.HasNested()
	s.Close()
	if err != nil || more {
		return false, err
	}
	err = at(path, func(d btrfs.Dir, name string) error { return d.Destroy(name) })
	return err == nil, err
}

func (subvolumes) Seal(path string) error   { return setReadOnly(path, true) }
func (subvolumes) Unseal(path string) error { return setReadOnly(path, false) }

func setReadOnly(path string, on bool) error {
	d, err := btrfs.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.SetReadOnly(on)
}

func (subvolumes) Remove(ctx context.Context, path string) error {
	return at(path, func(d btrfs.Dir, name string) error { return btrfs.RemoveSubvolume(ctx, d, name) })
}

// countTime is how long a limit may wait for the first count of what is there.
const countTime = 10 * time.Minute

func (subvolumes) SetQuota(ctx context.Context, path string, bytes int64) error {
	d, err := btrfs.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	id, err := d.ID()
	if err != nil {
		return err
	}
	if bytes > 0 {
		// An account is one subvolume's. Those below have accounts of their own, which
		// nothing limits.
		if more, err := d.HasNested(); err != nil || more {
			return errors.Join(err, errs.Invalid("The volume holds btrfs subvolumes that were made inside the instance, which a size limit would not count; delete them there first"))
		}
	}
	err = d.SetLimit(id, uint64(bytes))
	if !errors.Is(err, btrfs.ErrNoQuota) {
		return err
	}
	if bytes == 0 {
		return nil
	}
	count, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	if err := d.EnableQuota(count); err != nil {
		if ctx.Err() == nil && count.Err() != nil {
			return errs.Unavailable("The file system is being counted for its first size limit, which takes long; try again later")
		}
		return err
	}
	return d.SetLimit(id, uint64(bytes))
}
