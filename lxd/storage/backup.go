package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"sett/lxd/db"
	"sett/lxd/storage/driver"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Hold shows the content of a volume as it is at one moment, where the pool can do that
// in next to no room; else the volume itself. drop is to be called once.
func (s *Service) Hold(ctx context.Context, v Volume, quiet driver.Quiet) (dir string, drop func(), err error) {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return "", nil, err
	}
	d := v.driver()
	if err := p.drv.Mount(ctx, d); err != nil {
		return "", nil, err
	}
	unmount := func() {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		if err := p.drv.Unmount(ctx, d); err != nil {
			s.Log.Warn("Could not unmount a storage volume", "volume", v.Ref(), "err", err)
		}
	}
	if quiet == nil { // nobody writes now, but may before drop is called
		quiet = func(context.Context) (func(), error) { return func() {}, nil }
	}
	view, err := p.drv.Show(ctx, d, quiet)
	if err != nil {
		unmount()
		return "", nil, err
	}
	return view.Dir, func() { view.Release(); unmount() }, nil
}

// Brought is a snapshot that comes with a volume from elsewhere.
type Brought struct {
	Name  string
	Taken time.Time
	Size  int64 // its limit in bytes; 0 stands for that of the volume
}

// Bringing is what comes with a volume from elsewhere.
type Bringing struct {
	Size      int64     // its limit in bytes; 0 stands for the pool's default
	Snapshots []Brought // oldest first
	// Passing: it comes from another member, and is nobody's until TakeOver. Should that not
	// come, Left tells the note.
	Passing bool
	Note    string
}

// FillVolume makes a volume and its snapshots, oldest first, of what comes from elsewhere:
// fill writes into the folders of all, the volume's first. None has a name before all are
// whole.
func (s *Service) FillVolume(ctx context.Context, v Volume, b Bringing, fill func(ctx context.Context, dirs []string) error) error {
	return s.bringVolume(ctx, v, b, func(p *pool, d driver.Volume, parts []driver.Volume, made func(driver.Volume)) error {
		var dirs []string
		var fillFrom func(ctx context.Context, n int) error
		fillFrom = func(ctx context.Context, n int) error {
			if n == len(parts) {
				return fill(ctx, dirs)
			}
			err := p.drv.Create(ctx, parts[n], func(ctx context.Context, dir string) error {
				dirs = append(dirs, dir)
				return fillFrom(ctx, n+1)
			})
			if err == nil {
				made(parts[n])
			}
			return err
		}
		return p.drv.Create(ctx, d, func(ctx context.Context, dir string) error {
			dirs = append(dirs, dir)
			return fillFrom(ctx, 0)
		})
	})
}

// bringVolume makes a volume that comes with snapshots. make, which is given all of them
// with their limits, tells which snapshots it has made, so that they can be taken back.
func (s *Service) bringVolume(ctx context.Context, v Volume, b Bringing,
	make func(p *pool, d driver.Volume, parts []driver.Volume, made func(driver.Volume)) error) error {
	record := s.insertVolumeIn
	if b.Passing {
		record = func(ctx context.Context, tx *db.Tx, v Volume) error { return s.insertPassing(ctx, tx, v, b.Note) }
	}
	return s.recordVolume(ctx, v, b.Size, record, func(p *pool, d driver.Volume, size int64) error {
		var parts []driver.Volume
		for _, sn := range b.Snapshots {
			limit := sn.Size
			if limit == 0 {
				limit = size
			}
			parts = append(parts, sized(d.Snapshot(sn.Name), limit))
		}
		err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.recordSnapshots(ctx, tx, v, b.Snapshots...) })
		if err != nil {
			return err
		}
		var u undo.Stack
		u.OnError = s.lost(v)
		defer u.Run()
		made := func(sn driver.Volume) {
			u.Push(func() error {
				ctx, cancel := cleanup(ctx)
				defer cancel()
				return p.drv.DeleteSnapshot(ctx, sn)
			})
		}
		if err := make(p, sized(d, size), parts, made); err != nil {
			return err
		}
		u.Commit()
		return nil
	})
}

// Describe shows a pool as backups remember it.
func (s *Service) Describe(ctx context.Context, name string) (api.StoragePool, error) {
	p, err := s.Load(ctx, name)
	if err != nil {
		return api.StoragePool{}, err
	}
	out := api.StoragePool{Name: p.Name, Driver: p.Driver, UsedBy: []string{}, Status: api.StoragePoolStatusCreated, Locations: []string{s.Here.Location()}}
	out.Config, out.Description = p.Config, p.Description
	return out, nil
}

// streamer is the driver of a pool, if it has a format of its own.
func (s *Service) streamer(ctx context.Context, pool string) (*pool, driver.Streamer, error) {
	p, err := s.open(ctx, pool)
	if err != nil {
		return nil, nil, err
	}
	drv, ok := p.drv.(driver.Streamer)
	if !ok {
		return nil, nil, errs.Invalid("Storage pool %q is of kind %q, which has no optimized format of its own; leave it out", pool, p.drv.Info().Name)
	}
	return p, drv, nil
}

// CanSend refuses pools whose driver has no format of its own.
func (s *Service) CanSend(ctx context.Context, pool string) error {
	_, _, err := s.streamer(ctx, pool)
	return err
}

// Sendable refuses folders with something in them that streams of the pool's driver cannot
// hold.
func (s *Service) Sendable(ctx context.Context, pool string, dirs ...string) error {
	_, drv, err := s.streamer(ctx, pool)
	for _, dir := range dirs {
		if err == nil {
			err = drv.Sendable(dir)
		}
	}
	return err
}

// CanReceive refuses streams that a pool's driver does not know.
func (s *Service) CanReceive(ctx context.Context, pool, backend string) error {
	p, err := s.open(ctx, pool)
	if err != nil {
		return err
	}
	if name := p.drv.Info().Name; name != backend {
		return errs.Invalid("The backup is in the optimized format of %q and cannot go into pool %q, which is of kind %q", backend, pool, name)
	}
	return s.CanSend(ctx, pool)
}

// Send writes a folder as a stream of the pool's driver, and tells what the stream calls
// it.
func (s *Service) Send(ctx context.Context, pool, dir, parent string, w io.Writer) (mark string, err error) {
	_, drv, err := s.streamer(ctx, pool)
	if err != nil {
		return "", err
	}
	if mark, err = drv.Mark(dir); err != nil {
		return "", err
	}
	return mark, drv.Send(ctx, dir, parent, w)
}

// ReceiveVolume makes a volume and its snapshots, oldest first, of streams of the driver.
// open gives the streams of the snapshots in their order, and then, by an empty name, that
// of the volume itself. check looks at the content of each.
func (s *Service) ReceiveVolume(ctx context.Context, v Volume, b Bringing,
	open func(ctx context.Context, snapshot string) (io.ReadCloser, error), check driver.Filler) error {
	_, drv, err := s.streamer(ctx, v.Pool)
	if err != nil {
		return err
	}
	return s.bringVolume(ctx, v, b, func(_ *pool, d driver.Volume, parts []driver.Volume, made func(driver.Volume)) error {
		came := map[string]string{}
		receive := func(d driver.Volume) error {
			r, err := open(ctx, d.SnapshotName())
			if err != nil {
				return err
			}
			defer r.Close()
			return driver.Explain(drv.Receive(ctx, d, r, came, check))
		}
		for _, sn := range parts {
			if err := receive(sn); err != nil {
				return fmt.Errorf("snapshot %q: %w", sn.SnapshotName(), err)
			}
			made(sn)
		}
		return receive(d)
	})
}

// Finding is a pool that is looked through for volumes that no record knows.
type Finding struct {
	Pool    api.StoragePoolsPost
	Volumes []Found
	new     bool // the pool has no record yet
	drv     driver.Driver
}

// Found is a volume of an instance on disk, without a record.
type Found struct {
	Project, Name string
	Dir           string            // to read in until the pool is closed
	Snapshots     map[string]string // the folders of its snapshots, by name
}

// Look finds the volumes of instances in a pool that no record knows. A pool that has no
// record itself is mounted by what the caller says of it; close takes it out of use again.
func (s *Service) Look(ctx context.Context, post api.StoragePoolsPost) (f *Finding, close func(), err error) {
	unlock, err := s.Locks.Lock(ctx, "Looking for lost volumes", ref(post.Name))
	if err != nil {
		return nil, nil, err
	}
	var u undo.Stack
	u.OnError = func(err error) { s.Log.Warn("Could not let go of a storage pool", "pool", post.Name, "err", err) }
	u.Push(func() error { unlock(); return nil })
	defer u.Run()
	f = &Finding{Pool: post}
	switch known, err := s.Load(ctx, post.Name); {
	case err == nil:
		f.Pool.Driver, f.Pool.Config, f.Pool.Description = known.Driver, known.Config, known.Description
		p, err := s.open(ctx, post.Name)
		if err != nil {
			return nil, nil, err
		}
		f.drv = p.drv
	case errs.Is(err, errs.KindNotFound):
		f.new = true
		if err = s.tryPool(ctx, f, &u); err != nil {
			return nil, nil, fmt.Errorf("Storage pool %q cannot be looked through: %w", post.Name, err)
		}
	default:
		return nil, nil, err
	}
	if f.Volumes, err = s.unknown(ctx, f); err != nil {
		return nil, nil, err
	}
	rest := u.Take()
	return f, rest.Run, nil
}

// tryPool mounts a pool that has no record.
func (s *Service) tryPool(ctx context.Context, f *Finding, u *undo.Stack) error {
	p := Pool{Name: f.Pool.Name, Driver: f.Pool.Driver, Config: f.Pool.Config}
	if err := s.checkNew(&p); err != nil {
		return err
	}
	if _, err := s.validate(ctx, p); err != nil {
		return err
	}
	var err error
	if f.drv, err = s.Drivers.New(ctx, p.Driver, s.env(p)); err != nil {
		return err
	}
	u.Push(func() error {
		if !f.new { // it has become one of ours
			return nil
		}
		ctx, cancel := cleanup(ctx)
		defer cancel()
		err := errors.Join(f.drv.Close(ctx), f.drv.UnmountPool(ctx))
		_ = os.Remove(s.env(p).Path()) // stays if it is the pool's own
		return err
	})
	ctx, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	if err := f.drv.MountPool(ctx); err != nil {
		return errs.Wrap(errs.KindInvalid, err)
	}
	return nil
}

// unknown lists the volumes of a pool that have no record.
func (s *Service) unknown(ctx context.Context, f *Finding) ([]Found, error) {
	vols, err := f.drv.List(ctx, driver.Container)
	if err != nil {
		return nil, err
	}
	var w db.Where
	rows, err := db.SelectWhere[volumeRow](ctx, s.DB, stmtVolumes, w.Eq("p.name", f.Pool.Name), "")
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, r := range rows {
		if types()[r.Type] == driver.Container {
			known[Volume{Pool: r.Pool, Type: driver.Container, Project: r.Project, Name: r.Name}.driver().Key()] = true
		}
	}
	var out []Found
	for _, v := range vols {
		if known[v.Key()] {
			continue
		}
		l := Found{Project: v.Project, Name: v.Name, Dir: f.drv.Path(v), Snapshots: map[string]string{}}
		snaps, err := f.drv.ListSnapshots(ctx, v)
		if err != nil {
			return nil, err
		}
		for _, n := range snaps {
			l.Snapshots[n] = f.drv.Path(v.Snapshot(n))
		}
		out = append(out, l)
	}
	return out, nil
}

// AdoptPool makes a pool that was looked through one of the server's, as it is.
func (s *Service) AdoptPool(ctx context.Context, f *Finding) error {
	if !f.new {
		return nil
	}
	p := Pool{Name: f.Pool.Name, Driver: f.Pool.Driver, Description: f.Pool.Description, Config: f.Pool.Config}
	if _, err := s.validate(ctx, p); err != nil {
		return err
	}
	if s.Here.Clustered() {
		return errs.NotImplemented("Recovering storage pools that a cluster does not know is not implemented; create the pool with its source first")
	}
	if err := f.drv.UpdatePool(ctx, p.Config, nil); err != nil {
		return err
	}
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.insertPool(ctx, tx, &p); err != nil {
			return err
		}
		if err := s.storeConfig(ctx, tx, p); err != nil {
			return err
		}
		if err := s.setHere(ctx, tx, p.ID, stateCreated); err != nil {
			return err
		}
		return setState(ctx, tx, p.ID, stateCreated)
	})
	if err != nil {
		return err
	}
	s.keep(p.Name, mounted(f.drv))
	f.new = false
	s.Bus.Lifecycle("storage-pool-created", ref(p.Name), nil, map[string]any{"driver": p.Driver})
	return nil
}

// Adopt records a volume that is on disk, with its snapshots. also runs in the same
// transaction.
func (s *Service) Adopt(ctx context.Context, v Volume, snaps []Brought, also func(context.Context, *db.Tx) error) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = s.lost(v)
	defer u.Run()
	// The links come first: behind the records there is no way back.
	u.Push(func() error { return errors.Join(s.unlink(v), s.unlinkSnapshots(v)) })
	if err := s.linkAll(v, p); err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.insertVolumeIn(ctx, tx, v); err != nil {
			return err
		}
		if err := s.recordSnapshots(ctx, tx, v, snaps...); err != nil {
			return err
		}
		return also(ctx, tx)
	})
	if err == nil {
		u.Commit()
	}
	return err
}

// Disown takes back what Adopt has recorded; the volume stays.
func (s *Service) Disown(ctx context.Context, v Volume) error {
	return errors.Join(s.removeVolume(ctx, v), s.unlink(v), s.unlinkSnapshots(v))
}
