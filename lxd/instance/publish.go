package instance

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"sett/lxd/db"
	"sett/lxd/host/idmap"
	"sett/lxd/image"
	"sett/lxd/instance/template"
	"sett/lxd/lock"
	"sett/shared/errs"
)

// Publish implements image.Instances. An instance is locked until its source is
// released; of one with a snapshot behind a slash it is the snapshot only, so that the
// instance can go on.
func (s *Service) Publish(ctx context.Context, project, name string) (_ *image.Source, err error) {
	name, snapshot, _ := strings.Cut(name, "/")
	const doing = "publish"
	i, unlock, err := s.claimWhole(ctx, project, name, doing)
	if err != nil {
		return nil, err
	}
	release := unlock
	defer func() {
		if err != nil {
			release()
		}
	}()
	v, _, err := volume(i)
	if err != nil {
		return nil, err
	}
	was, mount, unmount := i, s.Storage.Mount, s.Storage.Unmount
	if snapshot == "" {
		if st := s.State(i.ID); st != Stopped {
			return nil, errs.Invalid("Instance %q is %s; stop it first, or publish a snapshot of it", i.Name, strings.ToLower(st.String()))
		}
	} else {
		sn, err := s.Snapshot(ctx, i, snapshot)
		if err != nil {
			return nil, err
		}
		kept, err := s.lockSnapshots(i, doing, snapshot)
		if err != nil {
			return nil, err
		}
		unlock()
		release, was = kept, sn.of(i)
		mount = func(ctx context.Context, v Volume) (string, error) { return s.Storage.MountSnapshot(ctx, v, snapshot) }
		unmount = func(ctx context.Context, v Volume) error { return s.Storage.UnmountSnapshot(ctx, v, snapshot) }
	}
	dir, err := mount(ctx, v)
	if err != nil {
		return nil, err
	}
	held := release
	free := s.releasing(i, func(ctx context.Context) error { return unmount(ctx, v) })
	release = sync.OnceFunc(func() {
		free()
		held()
	})
	src := &image.Source{Dir: dir, Architecture: i.Architecture, Release: release}
	if src.IDs.From, err = idmap.Parse(was.Config[volDiskMap]); err != nil {
		return nil, err
	}
	t, err := template.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = t.Close() }()
	src.Metadata, err = t.MetadataText()
	return src, err
}

// lockSnapshots keeps snapshots as they are while somebody reads them, or from being read
// while they go. Who takes an instance away or gives it another name locks all of its.
func (s *Service) lockSnapshots(i *Instance, doing string, names ...string) (func(), error) {
	return s.lockParts(i, doing, names, nil)
}

// lockParts locks snapshots and backups of an instance, all or none.
func (s *Service) lockParts(i *Instance, doing string, snapshots, backups []string) (func(), error) {
	var keys []lock.Key
	var parts []string
	for _, name := range snapshots {
		keys, parts = append(keys, (&Snapshot{Name: name}).Ref(i)), append(parts, fmt.Sprintf("Snapshot %q", name))
	}
	for _, name := range backups {
		keys, parts = append(keys, (&Backup{Name: name}).Ref(i)), append(parts, fmt.Sprintf("Backup %q", name))
	}
	unlock, err := s.Locks.TryLock(doing, keys...)
	if err == nil {
		return unlock, nil
	}
	for n, k := range keys {
		if h, ok := s.Locks.Holder(k); ok {
			return nil, errs.Invalid("%s of instance %q is busy: %s is under way", parts[n], i.Name, h.Owner)
		}
	}
	return nil, err
}

// lockAllParts is lockParts for all that an instance has.
func (s *Service) lockAllParts(ctx context.Context, i *Instance, doing string) (func(), error) {
	snapshots, err := db.Select[string](ctx, s.DB, stmtSnapshotNames, i.ID)
	if err != nil {
		return nil, err
	}
	backups, err := db.Select[string](ctx, s.DB, stmtBackupNames, i.ID)
	if err != nil {
		return nil, err
	}
	return s.lockParts(i, doing, snapshots, backups)
}
