package storage

import (
	"context"
	"errors"
	"os"

	"sett/lxd/db"
	"sett/lxd/host/tree"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
	"sett/shared/undo"
)

// stmtSnapshotsCopy gives one volume the records of snapshots of another.
const stmtSnapshotsCopy db.Stmt = `
INSERT INTO storage_volumes_snapshots (storage_volume_id, name, description, creation_date)
SELECT d.id, s.name, s.description, s.creation_date
FROM storage_volumes_snapshots AS s
JOIN storage_volumes AS v ON v.id = s.storage_volume_id
JOIN storage_pools AS p ON p.id = v.storage_pool_id
JOIN projects ON projects.id = v.project_id
JOIN storage_volumes AS d ON d.type = v.type AND d.name = ?1 AND (d.node_id IS NULL OR d.node_id = ?8)
JOIN storage_pools AS dp ON dp.id = d.storage_pool_id AND dp.name = ?2
JOIN projects AS dproject ON dproject.id = d.project_id AND dproject.name = ?3
WHERE p.name = ?4 AND projects.name = ?5 AND v.type = ?6 AND v.name = ?7 AND (v.node_id IS NULL OR v.node_id = ?8)
AND s.name IN (SELECT value FROM json_each(?9))
ORDER BY s.creation_date, s.id`

// CopyOf says what is copied of a volume, and how.
type CopyOf struct {
	Snapshot  string       // the one to copy in place of the volume itself; or empty
	Snapshots []string     // to copy as well, oldest first
	Size      int64        // limit of the copy; 0 stands for the pool's default
	Quiet     driver.Quiet // see driver.CopyOpts, as the rest
	Idle      func() bool
	Count     func(n int64)
	Ready     driver.Filler
}

// from is the volume or snapshot of which the copy is made.
func (o CopyOf) from(src Volume) driver.Volume {
	if o.Snapshot != "" {
		return src.driver().Snapshot(o.Snapshot)
	}
	return src.driver()
}

// CopyVolume makes a volume, with snapshots, of another, which may be in another pool.
func (s *Service) CopyVolume(ctx context.Context, dst, src Volume, o CopyOf) error {
	to, from, err := s.openBoth(ctx, dst, src)
	if err != nil {
		return err
	}
	size, err := s.defaultSize(ctx, dst.Pool, o.Size)
	if err != nil {
		return err
	}
	s.checkLimit(ctx, to, dst, size)
	var u undo.Stack
	u.OnError = s.lost(dst)
	defer u.Run()
	if err := s.insertVolume(ctx, dst); err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return s.removeVolume(ctx, dst)
	})
	if err := s.insertSnapshots(ctx, dst, src, o.Snapshots); err != nil {
		return err
	}
	d := dst.driver()
	if to == from {
		err = to.drv.Copy(ctx, d, o.from(src), driver.CopyOpts{Snapshots: o.Snapshots, Quota: size, Quiet: o.Quiet, Idle: o.Idle, Count: o.Count, Ready: o.Ready})
	} else {
		d = sized(d, size)
		var like string
		if like, err = s.bringSnapshots(ctx, to, from, dst, src, o, &u); err == nil {
			err = to.drv.Create(ctx, d, bring(from, src, o, like, false))
		}
	}
	if err != nil {
		return driver.Explain(err)
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return s.DeleteVolume(ctx, dst)
	})
	// While an instance moves it has a volume in two pools; the link shows the old one.
	if _, err := os.Stat(s.linkPath(dst)); err != nil {
		if err := s.linkAll(dst, to); err != nil {
			return err
		}
	}
	u.Commit()
	return nil
}

// RefreshVolume makes the content of a volume, which nobody uses, that of another, and
// adds snapshots of it. The content changes last and in one step.
func (s *Service) RefreshVolume(ctx context.Context, dst, src Volume, o CopyOf) error {
	to, from, err := s.openBoth(ctx, dst, src)
	if err != nil {
		return err
	}
	size, err := s.defaultSize(ctx, dst.Pool, o.Size)
	if err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = s.lost(dst)
	defer u.Run()
	if err := s.insertSnapshots(ctx, dst, src, o.Snapshots); err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return errors.Join(s.removeSnapshot(ctx, dst, o.Snapshots...), s.linkSnapshots(dst, to))
	})
	d := sized(dst.driver(), size)
	if _, err := s.bringSnapshots(ctx, to, from, dst, src, o, &u); err != nil {
		return driver.Explain(err)
	}
	if len(o.Snapshots) > 0 {
		if err := s.linkSnapshots(dst, to); err != nil {
			return err
		}
	}
	if to == from && to.drv.Info().CopyOnWrite {
		err = to.drv.Refresh(ctx, d, o.from(src), driver.CopyOpts{Quiet: o.Quiet, Idle: o.Idle, Count: o.Count, Ready: o.Ready})
	} else {
		err = to.drv.Replace(ctx, d, bring(from, src, o, to.drv.Path(d), true))
	}
	if err != nil {
		return driver.Explain(err)
	}
	u.Commit()
	return nil
}

// bringSnapshots copies snapshots, oldest first, and returns the folder of the last one
// where files of it can be shared.
func (s *Service) bringSnapshots(ctx context.Context, to, from *pool, dst, src Volume, o CopyOf, u *undo.Stack) (string, error) {
	like := ""
	for _, name := range o.Snapshots {
		d, one := dst.driver().Snapshot(name), CopyOf{Snapshot: name, Count: o.Count}
		var err error
		if to == from {
			err = to.drv.Copy(ctx, d, one.from(src), driver.CopyOpts{Count: o.Count})
		} else {
			err = to.drv.Create(ctx, d, bring(from, src, one, like, false))
		}
		if err != nil {
			return "", err
		}
		u.Push(func() error { return to.drv.DeleteSnapshot(context.WithoutCancel(ctx), d) })
		if to.drv.Info().CopyOnWrite {
			like = to.drv.Path(d)
		}
	}
	return like, nil
}

// bring fills a folder with what is in a volume of some pool.
func bring(from *pool, src Volume, o CopyOf, like string, take bool) driver.Filler {
	return func(ctx context.Context, dir string) error {
		view, err := from.drv.Show(ctx, o.from(src), o.Quiet)
		if err != nil {
			return err
		}
		err = tree.CopyWith(ctx, dir, view.Dir, tree.Options{Like: like, Take: take, Count: o.Count, Quiet: view.Quiet})
		view.Release()
		if err == nil && o.Ready != nil {
			err = o.Ready(ctx, dir)
		}
		return err
	}
}

func (s *Service) openBoth(ctx context.Context, dst, src Volume) (to, from *pool, err error) {
	if from, err = s.open(ctx, src.Pool); err != nil {
		return nil, nil, err
	}
	to, err = s.open(ctx, dst.Pool)
	return to, from, err
}

// lost tells an operator what could not be taken back.
func (s *Service) lost(v Volume) func(error) {
	return func(err error) { s.Log.Warn("Could not take back a storage volume", "volume", v.Ref(), "err", err) }
}

func (s *Service) insertSnapshots(ctx context.Context, dst, src Volume, names []string) error {
	if len(names) == 0 {
		return nil
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		n, err := db.Exec(ctx, tx, stmtSnapshotsCopy, dst.Name, dst.Pool, dst.project(),
			src.Pool, src.project(), number(src.Type), src.Name, s.Here.ID(), db.JSON(names))
		switch {
		case errors.Is(err, db.ErrDuplicate):
			return errs.Conflict("Storage volume %q has a snapshot of the same name already", dst.Name)
		case err == nil && n != int64(len(names)):
			return errs.NotFound("A snapshot of storage volume %q not found", src.Name)
		}
		return err
	})
}

// Link makes the short way to an instance's volume lead to this one.
func (s *Service) Link(ctx context.Context, v Volume) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	return s.linkAll(v, p)
}

func (s *Service) linkAll(v Volume, p *pool) error {
	return errors.Join(s.link(v, p.drv.Path(v.driver())), s.linkSnapshots(v, p))
}
