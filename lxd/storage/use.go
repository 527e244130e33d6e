package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sett/lxd/db"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// DeleteVolume removes a volume, its snapshots and its record. What is not there, in
// part or in whole, is no error.
func (s *Service) DeleteVolume(ctx context.Context, v Volume) error {
	p, err := s.open(ctx, v.Pool)
	if errs.Is(err, errs.KindNotFound) {
		return errors.Join(s.unlink(v), s.unlinkSnapshots(v)) // the pool took all of its volumes along
	}
	if err != nil {
		return err
	}
	d := v.driver()
	snaps, err := p.drv.ListSnapshots(ctx, d)
	if err != nil {
		return err
	}
	for _, name := range snaps {
		if err := p.drv.DeleteSnapshot(ctx, d.Snapshot(name)); err != nil {
			return err
		}
	}
	if err := p.drv.Delete(ctx, d); err != nil {
		return err
	}
	if err := errors.Join(s.unlink(v), s.unlinkSnapshots(v)); err != nil {
		return err
	}
	return s.removeVolume(ctx, v)
}

// RenameVolume gives a volume and its snapshots another name.
func (s *Service) RenameVolume(ctx context.Context, v Volume, name string) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	to := v
	to.Name = name
	// Before anything moves: whoever is killed in between would leave it where a volume is
	// that may be about to go.
	if err := s.checkRecords(ctx, v, to); err != nil {
		return err
	}
	moves, err := p.drv.Exists(ctx, v.driver())
	if err != nil {
		return err
	}
	if err := p.drv.Rename(ctx, v.driver(), name); err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtVolumeRename, name, v.Pool, v.project(), number(v.Type), v.Name, s.Here.ID())
		if errors.Is(err, db.ErrDuplicate) {
			return errs.Conflict("Storage volume %q already exists in pool %q", name, v.Pool)
		}
		return err
	})
	if err != nil && moves { // else what is there was so before, and may be another volume's
		ctx, cancel := cleanup(ctx)
		defer cancel()
		err = errors.Join(err, p.drv.Rename(ctx, to.driver(), v.Name))
	}
	if err != nil {
		return err
	}
	if err := errors.Join(s.unlink(v), s.unlinkSnapshots(v)); err != nil {
		return err
	}
	return s.linkAll(to, p)
}

// checkRecords refuses a rename between two volumes that both have a record here.
func (s *Service) checkRecords(ctx context.Context, v, to Volume) error {
	for _, one := range []Volume{v, to} {
		_, err := idOn(ctx, s.DB, s.Here.ID(), one)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return errs.Conflict("Storage volume %q already exists in pool %q", to.Name, v.Pool)
}

// Mount makes a volume usable and returns its folder.
func (s *Service) Mount(ctx context.Context, v Volume) (string, error) {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return "", err
	}
	d := v.driver()
	return p.drv.Path(d), p.drv.Mount(ctx, d)
}

// UnmountVolume ends one use of a volume.
func (s *Service) UnmountVolume(ctx context.Context, v Volume) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	return p.drv.Unmount(ctx, v.driver())
}

// SetSize limits a volume; 0 stands for the pool's default.
func (s *Service) SetSize(ctx context.Context, v Volume, size int64) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	if size, err = s.defaultSize(ctx, v.Pool, size); err != nil {
		return err
	}
	s.checkLimit(ctx, p, v, size)
	return p.drv.SetQuota(ctx, v.driver(), size)
}

// Usage tells what volumes use, for those of which it is known: one look at each pool,
// however many volumes there are.
func (s *Service) Usage(ctx context.Context, vs []Volume) (map[Volume]driver.Usage, error) {
	by := map[string][]Volume{}
	for _, v := range vs {
		by[v.Pool] = append(by[v.Pool], v)
	}
	out := map[Volume]driver.Usage{}
	var all []error
	for name, vs := range by {
		p := s.lookup(name)
		if p == nil || p.state() != nil {
			continue
		}
		if len(vs) == 1 {
			u, err := p.drv.Usage(ctx, vs[0].driver())
			if err == nil && u.Used >= 0 {
				out[vs[0]] = u
			}
			if !errors.Is(err, fs.ErrNotExist) {
				all = append(all, err)
			}
			continue
		}
		us, err := p.drv.UsageAll(ctx)
		if err != nil {
			all = append(all, err)
			continue
		}
		for _, v := range vs {
			if u, ok := us[v.driver().Key()]; ok && u.Used >= 0 {
				out[v] = u
			}
		}
	}
	return out, errors.Join(all...)
}

// linkPath is the short way to an instance's volume, LXD_DIR/containers/NAME.
func (s *Service) linkPath(v Volume) string {
	if v.Type != driver.Container {
		return ""
	}
	return filepath.Join(s.Dir, driver.TypeDir(v.Type, false), v.driver().DiskName())
}

func (s *Service) link(v Volume, to string) error {
	l := s.linkPath(v)
	if l == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l), 0o711); err != nil {
		return err
	}
	err := os.Symlink(to, l)
	if errors.Is(err, fs.ErrExist) {
		if err := os.Remove(l); err != nil { // of an earlier life
			return err
		}
		err = os.Symlink(to, l)
	}
	return err
}

func (s *Service) unlink(v Volume) error {
	if l := s.linkPath(v); l != "" {
		return s.removeLink(l, v.Pool)
	}
	return nil
}

// removeLink removes a short way, unless it leads to another pool: an instance that
// moves between pools has its volume in both.
func (s *Service) removeLink(l, pool string) error {
	to, err := os.Readlink(l)
	if err != nil {
		return ignoreMissing(err)
	}
	if !strings.HasPrefix(to, driver.Env{Pool: pool, Dir: s.Dir}.Path()+"/") {
		return nil
	}
	return ignoreMissing(os.Remove(l))
}
