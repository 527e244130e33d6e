package instance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sett/lxd/container"
	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/units"
)

// NewSnapshot says what kind of a snapshot to take.
type NewSnapshot struct {
	Name    string     // empty: as snapshots.pattern says
	Expires *time.Time // nil: as snapshots.expiry says; zero: never
	// Scheduled ones are subject to snapshots.retention.
	Scheduled bool

	note map[string]string // goes into the instance's configuration with it
}

// CreateSnapshot takes a snapshot of an instance, which may run.
func (s *Service) CreateSnapshot(ctx context.Context, project, name string, o NewSnapshot, by *event.Requestor) (*Snapshot, error) {
	i, unlock, err := s.claimWhole(ctx, project, name, "snapshot")
	if err != nil {
		return nil, err
	}
	defer unlock()
	o.note = done(ctx, nil)
	return s.takeSnapshot(ctx, i, o, by)
}

// takeSnapshot is CreateSnapshot for those who hold the lock of an instance that is whole.
// The row of the snapshot is written last: without it the rest is swept away when the daemon
// starts.
func (s *Service) takeSnapshot(ctx context.Context, i *Instance, o NewSnapshot, by *event.Requestor) (*Snapshot, error) {
	sn, err := s.planSnapshot(ctx, i, o)
	if err != nil {
		return nil, err
	}
	v, root, err := volume(i)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, errNoRoot // it could not be restored
	}
	quiet := s.quiet(i)
	err = s.Storage.CreateSnapshot(ctx, v, sn.Name, quiet)
	if errs.Is(err, errs.KindConflict) {
		// No row has the name, so this is what an earlier attempt could not take back.
		if err = s.Storage.DeleteSnapshot(ctx, v, sn.Name); err == nil {
			err = s.Storage.CreateSnapshot(ctx, v, sn.Name, quiet)
		}
	}
	if err != nil {
		return nil, err
	}
	op.Step(ctx, "took snapshot %s", sn.Name)
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insertSnapshots(ctx, tx, i, sn); err != nil {
			return err
		}
		return patch(ctx, tx, i.ID, o.note)
	})
	if err != nil {
		ctx, cancel := s.cleanup()
		defer cancel()
		return nil, errors.Join(err, s.Storage.DeleteSnapshot(ctx, v, sn.Name))
	}
	s.tellSnapshot("instance-snapshot-created", i, sn, by, nil)
	return sn, nil
}

// planSnapshot is what the snapshot will be.
func (s *Service) planSnapshot(ctx context.Context, i *Instance, o NewSnapshot) (*Snapshot, error) {
	names, err := db.Select[string](ctx, s.DB, stmtSnapshotNames, i.ID)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if o.Name == "" {
		if o.Name, err = nextName(SnapshotPattern.Get(i.ExpandedConfig()), names, now); err != nil {
			return nil, err
		}
	}
	if err := checkSnapshotName(o.Name); err != nil {
		return nil, err
	}
	for _, n := range names {
		if n == o.Name {
			return nil, taken(i, n)
		}
	}
	sn := &Snapshot{Name: o.Name, Created: now.UTC(), Description: i.Description, Config: maps.Clone(i.Config), Devices: i.Devices}
	delete(sn.Config, volPending)
	delete(sn.Config, volDone)
	if o.Scheduled {
		sn.Config[volScheduled] = "true"
	}
	if o.Expires != nil {
		sn.Expires = *o.Expires
	} else if sn.Expires, err = units.Expiry(now, SnapshotExpiry.Get(i.ExpandedConfig())); err != nil {
		return nil, err
	}
	return sn, nil
}

// heldMark is the file that tells that a guest stands still for the daemon's sake.
const heldMark = "held"

// holdStill freezes a guest for a moment. Nobody sees that as a state: it is over
// before it could be told. A daemon that dies meanwhile lets the guest go on when it
// starts again; the mark in the run folder says so.
func (s *Service) holdStill(ctx context.Context, i *Instance, p container.Process) (func(), error) {
	mark := filepath.Join(s.runDir(i), heldMark)
	// The folder goes when the guest ends, before it is seen as stopped.
	if err := os.WriteFile(mark, nil, 0o600); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l := s.liveOf(i.ID)
	over := make(chan struct{})
	l.mu.Lock()
	l.held = over
	l.mu.Unlock()
	let := func() {
		defer func() {
			l.mu.Lock()
			l.held = nil
			l.mu.Unlock()
			close(over)
		}()
		ctx, cancel := s.cleanup()
		defer cancel()
		if err := p.Unfreeze(ctx); err != nil && !errors.Is(err, container.ErrNotRunning) {
			log.From(ctx).Error("Could not let an instance go on after a snapshot; use unfreeze", "instance", i.Name, "err", err)
			l.froze()
			return
		}
		s.forgetHeld(ctx, i)
	}
	err := p.Freeze(ctx)
	switch {
	case errors.Is(err, container.ErrNotRunning): // it has just ended and holds still for good
	case err != nil:
		let()
		return nil, fmt.Errorf("hold instance %s still: %w", i.Name, err)
	}
	return let, nil
}

// forgetHeld removes the mark of a guest that goes on.
func (s *Service) forgetHeld(ctx context.Context, i *Instance) {
	if err := os.Remove(filepath.Join(s.runDir(i), heldMark)); err != nil && !os.IsNotExist(err) {
		log.From(ctx).Warn("Could not forget that an instance was held", "instance", i.Name, "err", err)
	}
}

// letGo frees a guest that an earlier life of the daemon held still.
func (s *Service) letGo(ctx context.Context, i *Instance, p container.Process) {
	mark := filepath.Join(s.runDir(i), heldMark)
	if _, err := os.Lstat(mark); err != nil {
		return
	}
	err := p.Unfreeze(ctx)
	if err == nil {
		err = os.Remove(mark)
	}
	if err != nil {
		log.From(ctx).Error("Could not let an instance go on after a snapshot that was cut off", "instance", i.Name, "err", err)
	}
}

// DeleteSnapshot removes a snapshot.
func (s *Service) DeleteSnapshot(ctx context.Context, project, instance, name string, by *event.Requestor) error {
	i, unlock, err := s.claimWhole(ctx, project, instance, "delete of a snapshot")
	if err != nil {
		return err
	}
	defer unlock()
	sn, err := s.Snapshot(ctx, i, name)
	if err != nil {
		return err
	}
	if err := s.unread(i, name); err != nil {
		return err
	}
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	ctx, end, err := op.Commit(ctx)
	if err != nil {
		return err
	}
	defer end()
	return s.dropSnapshot(ctx, i, v, sn, by, done(ctx, nil))
}

// dropSnapshot removes the data and, last, the row: what was cut off can be done again.
// note goes into the instance's configuration with it.
func (s *Service) dropSnapshot(ctx context.Context, i *Instance, v Volume, sn *Snapshot, by *event.Requestor, note map[string]string) error {
	unlock, err := s.lockSnapshots(i, "delete", sn.Name)
	if err != nil {
		return err
	}
	defer unlock()
	s.liveOf(i.ID).closeFiles(sn.Name)
	if err := s.Storage.DeleteSnapshot(ctx, v, sn.Name); err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.Exec(ctx, tx, stmtSnapshotDelete, sn.ID); err != nil {
			return err
		}
		return patch(ctx, tx, i.ID, note)
	})
	if err == nil {
		s.tellSnapshot("instance-snapshot-deleted", i, sn, by, nil)
	}
	return err
}

// RenameSnapshot gives a snapshot another name.
func (s *Service) RenameSnapshot(ctx context.Context, project, instance, name, to string, by *event.Requestor) error {
	if err := checkSnapshotName(to); err != nil {
		return err
	}
	i, unlock, err := s.claimWhole(ctx, project, instance, "rename of a snapshot")
	if err != nil {
		return err
	}
	defer unlock()
	sn, err := s.Snapshot(ctx, i, name)
	if err != nil {
		return err
	}
	if _, err := s.Snapshot(ctx, i, to); err == nil {
		return taken(i, to)
	}
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	if err := s.unread(i, name); err != nil {
		return err
	}
	kept, err := s.lockSnapshots(i, "rename", name)
	if err != nil {
		return err
	}
	defer kept()
	// Data and rows cannot change as one; the mark says which way back there is.
	if err := s.patchConfig(ctx, i, map[string]string{volPending: pendingSnap + name + "/" + to}); err != nil {
		return err
	}
	s.liveOf(i.ID).closeFiles(name)
	err = s.Storage.RenameSnapshot(ctx, v, name, to, func(ctx context.Context, tx *db.Tx) error {
		if err := db.ExecOne(ctx, tx, stmtSnapshotRename, to, sn.ID); err != nil {
			return err
		}
		return patch(ctx, tx, i.ID, done(ctx, map[string]string{volPending: ""}))
	})
	if err != nil {
		ctx, cancel := s.cleanup()
		defer cancel()
		if err := s.settle(ctx, i); err != nil {
			log.From(ctx).Warn("Could not take back the rename of a snapshot; it is tried again before the next use", "instance", i.Name, "err", err)
		}
		return err
	}
	sn.Name = to
	s.tellSnapshot("instance-snapshot-renamed", i, sn, by, map[string]any{"old_name": i.Name + "/" + name})
	return nil
}

// unrenameSnapshot takes back the rename of a snapshot that was cut off: its rows have
// the old name still.
func (s *Service) unrenameSnapshot(ctx context.Context, i *Instance) error {
	name, to, _ := strings.Cut(strings.TrimPrefix(i.Config[volPending], pendingSnap), "/")
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	return s.Storage.RenameSnapshot(ctx, v, to, name, func(ctx context.Context, tx *db.Tx) error {
		err := patch(ctx, tx, i.ID, map[string]string{volPending: ""})
		if err == nil {
			tx.AfterCommit(func() { merge(i, map[string]string{volPending: ""}) })
		}
		return err
	})
}

// ExpireSnapshot changes when a snapshot goes; the zero time is never.
func (s *Service) ExpireSnapshot(ctx context.Context, i *Instance, sn *Snapshot, at time.Time, by *event.Requestor) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		err := db.ExecOne(ctx, tx, stmtSnapshotExpiry, orNull(at), sn.ID)
		if errors.Is(err, db.ErrNotFound) {
			return errs.NotFound("Snapshot %q of instance %q not found", sn.Name, i.Name)
		}
		if err != nil {
			return err
		}
		tx.AfterCommit(func() { s.tellSnapshot("instance-snapshot-updated", i, sn, by, nil) })
		return patch(ctx, tx, i.ID, done(ctx, nil))
	})
}

// sweepSnapshots ends what was cut off when another life of the daemon made or deleted
// snapshots.
func (s *Service) sweepSnapshots(ctx context.Context, f *fates) error {
	for _, stmt := range []db.Stmt{stmtHalfMade, stmtHalfDeleted} {
		rows, err := db.Select[halfRow](ctx, s.DB, stmt, s.Here.ID())
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := s.sweepSnapshot(ctx, r); err != nil {
				log.From(ctx).Error("Could not clean up a snapshot", "instance", r.Instance, "snapshot", r.Name, "err", err)
				f.failed[key{r.Project, r.Instance}] = err
				continue
			}
			if r.ID != 0 {
				f.swept[key{r.Project, r.Instance}] = true
			}
			log.From(ctx).Info("Cleaned up a snapshot that was half-made or half-deleted", "instance", r.Instance, "snapshot", r.Name)
		}
	}
	return nil
}

func (s *Service) sweepSnapshot(ctx context.Context, r halfRow) error {
	if err := s.Storage.DeleteSnapshot(ctx, Volume{Pool: r.Pool, Project: r.Project, Instance: r.Instance}, r.Name); err != nil || r.ID == 0 {
		return err
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtSnapshotDelete, r.ID)
		return err
	})
}
