package storage

import (
	"context"

	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// RebuildVolume puts the content of an image in place of a volume's, or, without a
// fingerprint, an empty root. It happens in one step; nobody may use the volume. The
// image is unpacked, by fill, if the pool does not have it. size is the limit in bytes;
// 0 stands for the pool's default.
func (s *Service) RebuildVolume(ctx context.Context, v Volume, fingerprint string, size int64, fill driver.Filler) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	if size, err = s.defaultSize(ctx, v.Pool, size); err != nil {
		return err
	}
	d := sized(v.driver(), size)
	if fingerprint == "" {
		return driver.Explain(p.drv.Replace(ctx, d, emptyRoot))
	}
	img := Volume{Pool: v.Pool, Type: driver.Image, Name: fingerprint}
	return driver.Explain(s.ofImage(ctx, p, img, fill, func() error {
		return p.drv.Refresh(ctx, d, img.driver(), driver.CopyOpts{})
	}))
}

// AlterVolume changes the content of a volume, which nobody uses: do works on a copy, which
// takes its place in one step. size is as in RebuildVolume.
func (s *Service) AlterVolume(ctx context.Context, v Volume, size int64, do driver.Filler) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	if size, err = s.defaultSize(ctx, v.Pool, size); err != nil {
		return err
	}
	d := sized(v.driver(), size)
	return driver.Explain(p.drv.Refresh(ctx, d, d, driver.CopyOpts{Ready: do}))
}

// ofImage does something with the unpacked content of an image.
func (s *Service) ofImage(ctx context.Context, p *pool, img Volume, fill driver.Filler, do func() error) error {
	for again := false; ; again = true {
		if err := s.ensureImage(ctx, p, img, fill); err != nil {
			return err
		}
		err := do()
		// Somebody may have deleted the cached volume between the two.
		if errs.Is(err, errs.KindNotFound) && !again {
			continue
		}
		return err
	}
}
