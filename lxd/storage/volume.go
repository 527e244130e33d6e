package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Volume names a volume.
type Volume struct {
	Pool    string
	Type    driver.VolumeType
	Project string
	Name    string
}

// Ref names the volume to clients and locks.
func (v Volume) Ref() entity.Ref {
	return entity.New(entity.StorageVolume, v.Project, v.Pool, string(v.Type), v.Name)
}

// project is the one in which its record stands: images are cached for all, under the
// default one.
func (v Volume) project() string {
	if v.Type == driver.Image || v.Project == "" {
		return entity.DefaultProject
	}
	return v.Project
}

func (v Volume) driver() driver.Volume {
	d := driver.Volume{Type: v.Type, Content: driver.Filesystem, Project: v.Project, Name: v.Name}
	if v.Type == driver.Image {
		d.Project = ""
	}
	return d
}

// CheckPool refuses pools that are not there or not usable.
func (s *Service) CheckPool(ctx context.Context, name string) error {
	p := s.lookup(name)
	if p == nil {
		_, err := s.open(ctx, name)
		return err
	}
	return nil
}

// defaultSize is the limit of a new volume for which none was given.
func (s *Service) defaultSize(ctx context.Context, pool string, size int64) (int64, error) {
	if size > 0 {
		return size, nil
	}
	p, err := s.Load(ctx, pool)
	if err != nil {
		return 0, err
	}
	n, err := driver.Size.Parse(p.Config[driver.VolumePrefix+driver.Size.Name()])
	if err != nil {
		return 0, nil
	}
	return n, nil
}

// CreateVolume makes a volume, filled by fill, or, for an instance without one, with an
// empty root. size is its limit in bytes; 0 stands for the pool's default.
func (s *Service) CreateVolume(ctx context.Context, v Volume, size int64, fill driver.Filler) error {
	if fill == nil && v.Type == driver.Container {
		fill = emptyRoot
	}
	return s.newVolume(ctx, v, size, func(p *pool, d driver.Volume, size int64) error {
		return p.drv.Create(ctx, sized(d, size), fill)
	})
}

func emptyRoot(_ context.Context, dir string) error {
	return os.Mkdir(filepath.Join(dir, driver.Rootfs), 0o755)
}

// Exists reports whether a volume is there, whole. Volumes get their name last.
func (s *Service) Exists(ctx context.Context, v Volume) (bool, error) {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return false, err
	}
	return p.drv.Exists(ctx, v.driver())
}

// CreateFromImage makes a volume with the content of an image. The image is unpacked,
// by fill, when it is first used in the pool.
func (s *Service) CreateFromImage(ctx context.Context, v Volume, fingerprint string, size int64, fill driver.Filler) error {
	img := Volume{Pool: v.Pool, Type: driver.Image, Name: fingerprint}
	return s.newVolume(ctx, v, size, func(p *pool, d driver.Volume, size int64) error {
		return s.ofImage(ctx, p, img, fill, func() error {
			return p.drv.Copy(ctx, d, img.driver(), driver.CopyOpts{Quota: size})
		})
	})
}

// newVolume writes the record, has the volume made, and links to it.
func (s *Service) newVolume(ctx context.Context, v Volume, size int64, make func(*pool, driver.Volume, int64) error) error {
	return s.recordVolume(ctx, v, size, s.insertVolumeIn, make)
}

// recordVolume is newVolume with a record of its own.
func (s *Service) recordVolume(ctx context.Context, v Volume, size int64, record func(context.Context, *db.Tx, Volume) error, make func(*pool, driver.Volume, int64) error) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	if size, err = s.defaultSize(ctx, v.Pool, size); err != nil {
		return err
	}
	s.checkLimit(ctx, p, v, size)
	var u undo.Stack
	u.OnError = s.lost(v)
	defer u.Run()
	insert := func() error {
		return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return record(ctx, tx, v) })
	}
	err = insert()
	if errs.Is(err, errs.KindConflict) { // it may be one that is not there any more for anybody but us
		if err := s.DropLeft(ctx, v); err != nil {
			return err
		}
		err = insert()
	}
	if err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return s.removeVolume(ctx, v)
	})
	d := v.driver()
	if err := make(p, d, size); err != nil {
		return driver.Explain(err)
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return s.DeleteVolume(ctx, v)
	})
	if err := s.linkAll(v, p); err != nil {
		return err
	}
	u.Commit()
	return nil
}

// sized is a volume with a limit, if that is more than 0.
func sized(d driver.Volume, size int64) driver.Volume {
	d.Config = nil
	if size > 0 {
		d.Config = map[string]string{driver.Size.Name(): strconv.FormatInt(size, 10)}
	}
	return d
}

// checkLimit tells an operator that a limit will not hold. The user's request is served
// all the same: profiles with a size go with pools of all kinds.
func (s *Service) checkLimit(ctx context.Context, p *pool, v Volume, size int64) {
	if size <= 0 {
		return
	}
	if ok, why := p.drv.Quota(ctx); !ok {
		s.Log.Warn("The size of a storage volume is not limited", "volume", v.Ref(), "reason", why)
	}
}

// imageKey locks the making and removing of one cached image.
type imageKey struct{ pool, fingerprint string }

// ensureImage unpacks an image into a pool unless it is there.
func (s *Service) ensureImage(ctx context.Context, p *pool, img Volume, fill driver.Filler) error {
	if ok, err := p.drv.Exists(ctx, img.driver()); ok || err != nil {
		return err
	}
	unlock, err := s.Locks.Lock(ctx, "Unpacking image", imageKey{img.Pool, img.Name})
	if err != nil {
		return err
	}
	defer unlock()
	ok, err := p.drv.Exists(ctx, img.driver())
	if err != nil {
		return err
	}
	if !ok {
		if err := p.drv.Create(ctx, img.driver(), fill); err != nil {
			return err
		}
	}
	err = s.insertVolume(ctx, img)
	if errs.Is(err, errs.KindConflict) {
		return nil
	}
	return err
}

// DeleteImage removes what an image has cached in the pools of this member. Pools that
// cannot be used now forget it when they are mounted again.
func (s *Service) DeleteImage(ctx context.Context, fingerprint string) error {
	var all []error
	for name, p := range s.all() {
		if p.state() == nil {
			all = append(all, s.dropImage(ctx, name, fingerprint))
		}
	}
	return errors.Join(all...)
}

func (s *Service) dropImage(ctx context.Context, name, fingerprint string) error {
	unlock, err := s.Locks.Lock(ctx, "Deleting image", imageKey{name, fingerprint})
	if err != nil {
		return err
	}
	defer unlock()
	return s.DeleteVolume(ctx, Volume{Pool: name, Type: driver.Image, Name: fingerprint})
}

// sweepImages makes records and volumes of cached images agree with the images that
// there are: a daemon may have been killed between the two.
func (s *Service) sweepImages(ctx context.Context, name string, p *pool) error {
	vols, err := p.drv.List(ctx, driver.Image)
	if err != nil {
		return err
	}
	known, err := db.Select[string](ctx, s.DB, stmtImages)
	if err != nil {
		return err
	}
	recorded, err := db.Select[string](ctx, s.DB, stmtImagesOf, name, s.Here.ID())
	if err != nil {
		return err
	}
	is := set(known)
	has := set(recorded)
	for _, v := range vols {
		img := Volume{Pool: name, Type: driver.Image, Name: v.Name}
		if !is[v.Name] {
			recorded = append(recorded, v.Name)
		} else if !has[v.Name] {
			if err := s.insertVolume(ctx, img); err != nil && !errs.Is(err, errs.KindConflict) {
				return err
			}
		}
	}
	for _, fp := range recorded {
		if !is[fp] {
			if err := s.dropImage(ctx, name, fp); err != nil {
				return err
			}
		}
	}
	return nil
}

func set(names []string) map[string]bool {
	out := make(map[string]bool, len(names))
	for _, n := range names {
		out[n] = true
	}
	return out
}
