package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"

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
		if size > 0 {
			d.Config = map[string]string{driver.Size.Name(): sizeText(size)}
		}
		return p.drv.Create(ctx, d, fill)
	})
}

func emptyRoot(_ context.Context, dir string) error {
	return os.Mkdir(filepath.Join(dir, driver.Rootfs), 0o755)
}

// CreateFromImage makes a volume with the content of an image. The image is unpacked,
// by fill, when it is first used in the pool.
func (s *Service) CreateFromImage(ctx context.Context, v Volume, fingerprint string, size int64, fill driver.Filler) error {
	img := Volume{Pool: v.Pool, Type: driver.Image, Name: fingerprint}
	return s.newVolume(ctx, v, size, func(p *pool, d driver.Volume, size int64) error {
		for again := false; ; again = true {
			if err := s.ensureImage(ctx, p, img, fill); err != nil {
				return err
			}
			err := p.drv.Copy(ctx, d, img.driver(), driver.CopyOpts{Quota: size})
			// Somebody may have deleted the cached volume between the two.
			if errs.Is(err, errs.KindNotFound) && !again {
				continue
			}
			return err
		}
	})
}

// newVolume writes the record, has the volume made, and links to it.
func (s *Service) newVolume(ctx context.Context, v Volume, size int64, make func(*pool, driver.Volume, int64) error) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	if size, err = s.defaultSize(ctx, v.Pool, size); err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = func(err error) { s.Log.Warn("Could not take back a storage volume", "volume", v.Ref(), "err", err) }
	defer u.Run()
	if err := s.insertVolume(ctx, v); err != nil {
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
		return p.drv.Delete(ctx, d)
	})
	if err := s.link(v, p.drv.Path(d)); err != nil {
		return err
	}
	u.Commit()
	return nil
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

// DeleteImage removes what an image has cached in the pools of this member.
func (s *Service) DeleteImage(ctx context.Context, fingerprint string) error {
	pools, err := db.Select[string](ctx, s.DB, stmtImagePools, fingerprint, s.Node)
	if err != nil {
		return err
	}
	var all []error
	for _, name := range pools {
		all = append(all, s.dropImage(ctx, name, fingerprint))
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

// sweepImages removes cached images whose image has gone while the daemon was down.
func (s *Service) sweepImages(ctx context.Context) {
	stale, err := db.Select[staleRow](ctx, s.DB, stmtStaleImages, s.Node)
	if err != nil {
		s.Log.Warn("Could not look for stale image volumes", "err", err)
		return
	}
	for _, r := range stale {
		if err := s.dropImage(ctx, r.Pool, r.Name); err != nil {
			s.Log.Warn("Could not remove a stale image volume", "pool", r.Pool, "image", r.Name, "err", err)
		}
	}
}
