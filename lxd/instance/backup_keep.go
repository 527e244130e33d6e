package instance

import (
	"context"
	"maps"
	"slices"

	"sett/lxd/db"
	"sett/lxd/instance/backup"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
)

// Beside the root file system of every instance lies backup.yaml, from which it can be
// made again when the database is lost. It is written a moment after a change, for all
// that have changed at once: nobody waits for it, and a start of the daemon writes what
// the last one did not.

// stale notes that the backup.yaml of an instance is to be written.
func (s *Service) stale(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old[id] = true
}

// KeepFiles writes the backup.yaml of the instances that have changed.
func (s *Service) KeepFiles(ctx context.Context) error {
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(s.old))
	clear(s.old)
	s.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	var w db.Where
	all, err := s.load(ctx, s.DB, db.In(&w, "i.id", ids))
	if err == nil {
		err = s.keepFilesOf(ctx, slices.DeleteFunc(all, func(i *Instance) bool { return !s.local(i) }))
	}
	if err != nil { // the next run has them again
		for _, id := range ids {
			s.stale(id)
		}
	}
	return err
}

func (s *Service) keepFilesOf(ctx context.Context, all []*Instance) error {
	if len(all) == 0 {
		return nil
	}
	snaps, err := s.loadSnapshots(ctx, s.DB, all...)
	if err != nil {
		return err
	}
	pools := map[string]api.StoragePool{}
	for _, i := range all {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v, _, err := volume(i)
		if err != nil {
			continue
		}
		p, ok := pools[v.Pool]
		if !ok {
			if p, err = s.Storage.Describe(ctx, v.Pool); err != nil {
				log.From(ctx).Warn("Could not write backup.yaml", "instance", i.Name, "err", err)
				continue
			}
			pools[v.Pool] = p
		}
		if err := s.keepOne(ctx, i, v, snaps[i.ID], p); err != nil {
			log.From(ctx).Warn("Could not write backup.yaml", "instance", i.Name, "err", err)
		}
	}
	return nil
}

// keepFile writes the backup.yaml of one instance now.
func (s *Service) keepFile(ctx context.Context, i *Instance) error {
	return s.keepFilesOf(ctx, []*Instance{i})
}

func (s *Service) keepOne(ctx context.Context, i *Instance, v Volume, snaps []*Snapshot, p api.StoragePool) error {
	l := s.liveOf(i.ID)
	if !l.keeping.TryLock() { // the volume is being moved or replaced
		s.stale(i.ID)
		return nil
	}
	defer l.keeping.Unlock()
	dir, err := s.Storage.Mount(ctx, v)
	if errs.Is(err, errs.KindNotFound) { // renamed or deleted meanwhile
		if now, e := s.loadID(ctx, i.ID); e == nil && now == nil {
			s.forget(i.ID)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := s.cleanup()
		defer cancel()
		if err := s.Storage.Unmount(ctx, v); err != nil {
			log.From(ctx).Warn("Could not unmount a volume", "instance", i.Name, "err", err)
		}
	}()
	return backup.Keep(dir, s.backupConfig(i, snaps, p))
}
