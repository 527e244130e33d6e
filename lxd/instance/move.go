package instance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/lock"
	"sett/lxd/op"
	"sett/shared/errs"
	"sett/shared/log"
)

// NewPlace says where an instance moves to.
type NewPlace struct {
	Member string // another member of its cluster; empty: it stays on its own
	Pool   string // may be empty with a member: the one that it is in
	Name   string // another name; empty or the same: it keeps its own
	Only   bool   // leave its snapshots behind, which are deleted
}

// Move brings a stopped instance to another pool, or another member; it stays the same
// instance. The volume is copied first; then the rows change, all at once; then the old
// volume goes. A mark names both pools, so that a daemon that dies on the way removes the
// one of the two that the rows do not name. To the pool that it is in, it moves without
// all that.
func (s *Service) Move(ctx context.Context, as auth.Caller, project, name string, to NewPlace, count func(int64)) error {
	keys := []entity.Ref{entity.New(entity.Instance, project, name)}
	if to.Name != "" && to.Name != name {
		if err := CheckName(to.Name); err != nil {
			return err
		}
		keys = append(keys, entity.New(entity.Instance, project, to.Name))
	}
	unlock, err := s.tryBoth(op.Doing(ctx, "move"), keys)
	if err != nil {
		return err
	}
	defer unlock()
	i, err := s.loadWhole(ctx, project, name)
	if err != nil {
		return err
	}
	if to.Member != "" {
		return s.relocate(ctx, as, i, to, count)
	}
	n, err := s.checkMove(ctx, as, i, to)
	if err != nil {
		return err
	}
	if n != nil {
		if err := s.move(ctx, i, n, to, count); err != nil {
			return err
		}
		s.tell("instance-updated", n, as.Requestor(), nil)
		i = n
	}
	if len(keys) == 1 {
		return nil
	}
	if n != nil { // it has moved, and is to have the name that goes with it
		var end func()
		ctx, end = op.Insist(ctx)
		defer end()
	}
	err = s.renameLocked(ctx, project, name, to.Name, as.Requestor())
	if err != nil && n != nil {
		return fmt.Errorf("The instance is in pool %q now, but keeps its name: %w", to.Pool, err)
	}
	return err
}

// tryBoth locks an instance and a name that it is to have.
func (s *Service) tryBoth(doing string, refs []entity.Ref) (func(), error) {
	if len(refs) == 1 {
		return s.lock(refs[0], doing)
	}
	unlock, err := s.Locks.TryLock(doing, refs[0], refs[1])
	if err != nil {
		var b *lock.Busy
		if errors.As(err, &b) && b.Holder.Key == lock.Key(refs[1]) {
			return nil, busy(refs[1].Name(), err)
		}
		return nil, busy(refs[0].Name(), err)
	}
	return unlock, nil
}

// checkMove refuses what cannot be, and changes nothing. What it returns is what the
// instance will be; nil if that is what it is.
func (s *Service) checkMove(ctx context.Context, as auth.Caller, i *Instance, to NewPlace) (*Instance, error) {
	if st := s.State(i.ID); st != Stopped && st != Errored {
		return nil, errs.Invalid("Instance is running; stop it before it moves to another pool")
	}
	dev, root, err := rootDevice(i.ExpandedDevices())
	if err != nil {
		return nil, err
	}
	if to.Name != "" && to.Name != i.Name {
		if err := CheckName(to.Name); err != nil {
			return nil, err
		}
		if err := s.freeName(ctx, i.Project, to.Name); err != nil {
			return nil, err
		}
	}
	if _, own := i.Devices[dev]; own && root["pool"] == to.Pool && !to.Only {
		return nil, nil
	}
	n := i.clone()
	root = maps.Clone(root)
	root["pool"] = to.Pool
	n.Devices[dev] = root
	return n, s.judge(ctx, as, spec(i), n)
}

// freeName refuses a name that an instance has.
func (s *Service) freeName(ctx context.Context, project, name string) error {
	_, err := s.Load(ctx, project, name)
	switch {
	case err == nil:
		return errs.Conflict("Name %q already in use", name)
	case errs.Is(err, errs.KindNotFound):
		return nil
	}
	return err
}

// stay is a move to the pool that the instance is in. No profile says any longer where it
// is, and its snapshots go when they are to be left behind.
func (s *Service) stay(ctx context.Context, i, n *Instance, v Volume, to NewPlace) error {
	ctx, end, err := op.Commit(ctx)
	if err != nil {
		return err
	}
	defer end()
	if to.Only {
		snaps, err := s.Snapshots(ctx, i)
		if err != nil {
			return err
		}
		for _, sn := range snaps {
			if err := s.dropSnapshot(ctx, i, v, sn, nil, nil); err != nil {
				return err
			}
		}
	}
	doneSoFar(ctx, n.Config, to.sofar(i))
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return store(ctx, tx, n) })
}

// sofar says what is so when the operation ends between the move and the new name.
func (to NewPlace) sofar(i *Instance) string {
	if to.Name == "" || to.Name == i.Name {
		return ""
	}
	return fmt.Sprintf("the instance is in pool %q now, but keeps its name", to.Pool)
}

func (s *Service) move(ctx context.Context, i, n *Instance, to NewPlace, count func(int64)) error {
	if err := s.unread(i); err != nil {
		return err
	}
	l := s.liveOf(i.ID)
	l.keeping.Lock()
	defer l.keeping.Unlock()
	from, _, err := volume(i)
	if err != nil {
		return err
	}
	into, root, err := volume(n)
	if err != nil {
		return err
	}
	if from.Pool == into.Pool {
		return s.stay(ctx, i, n, from, to)
	}
	size, err := rootSize(root)
	if err != nil {
		return err
	}
	snaps, err := s.Snapshots(ctx, i)
	if err != nil {
		return err
	}
	unlock, err := s.lockSnapshots(i, "move", namesOf(snaps)...)
	if err != nil {
		return err
	}
	defer unlock()
	kept := snaps
	if to.Only {
		kept = nil
	}
	if err := s.patchConfig(ctx, i, map[string]string{volPending: pendingMove + from.Pool + "/" + into.Pool}); err != nil {
		return err
	}
	n.Config, n.expandedConfig = maps.Clone(i.Config), nil // the mark with it
	defer l.shutFiles(anyFiles)()
	err = s.Storage.Copy(ctx, into, from, CopyOf{Snapshots: namesOf(kept), Size: size, Count: count})
	if err == nil {
		doneSoFar(ctx, n.Config, to.sofar(i))
		err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			if err := store(ctx, tx, n); err != nil {
				return err
			}
			if to.Only {
				if _, err := db.Exec(ctx, tx, stmtSnapshotsClear, i.ID); err != nil {
					return err
				}
			}
			return placeSnapshots(ctx, tx, n)
		})
	}
	if err == nil {
		i = n // from here on the rows name the new pool
	}
	// The instance is whole in either case. What is left of the other pool goes now, or
	// before somebody does anything else to the instance.
	clean, cancel := s.cleanup()
	defer cancel()
	e := error(nil)
	if err != nil { // a commit that has failed may have been one: only the rows know
		var now *Instance
		if now, e = s.loadID(clean, i.ID); now != nil {
			i = now
		}
	}
	if e == nil {
		e = s.unmove(clean, i)
	}
	if e != nil {
		log.From(ctx).Warn("Could not remove what a move has left; it is tried again before the next use", "instance", i.Name, "err", e)
	}
	return err
}

// unmove ends a move, or takes it back: the volume goes that the rows do not name. It may
// run any number of times.
func (s *Service) unmove(ctx context.Context, i *Instance) error {
	a, b, _ := strings.Cut(strings.TrimPrefix(i.Config[volPending], pendingMove), "/")
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	for _, pool := range []string{a, b} {
		if pool == v.Pool {
			continue
		}
		other := v
		other.Pool = pool
		if err := s.Storage.Delete(ctx, other); err != nil {
			return err
		}
	}
	if err := s.Storage.Link(ctx, v); err != nil {
		return err
	}
	return s.patchConfig(ctx, i, map[string]string{volPending: ""})
}
