package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/instance/template"
	"sett/lxd/op"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// Rename gives a stopped instance another name. The new name is noted first, so that a
// daemon that dies on the way takes back what was done when it starts again; the row
// changes last, together with that note.
func (s *Service) Rename(ctx context.Context, project, name, to string, by *event.Requestor) error {
	if err := CheckName(to); err != nil {
		return err
	}
	unlock, err := s.tryBoth(op.Doing(ctx, "rename"), []entity.Ref{entity.New(entity.Instance, project, name), entity.New(entity.Instance, project, to)})
	if err != nil {
		return err
	}
	defer unlock()
	return s.renameLocked(ctx, project, name, to, by)
}

// renameLocked is Rename for those who hold the locks of both names.
func (s *Service) renameLocked(ctx context.Context, project, name, to string, by *event.Requestor) error {
	i, err := s.loadWhole(ctx, project, name)
	if err != nil {
		return err
	}
	if s.State(i.ID) != Stopped {
		return errs.Invalid("Renaming of running instance not allowed")
	}
	if err := s.unread(i); err != nil {
		return err
	}
	if err := s.freeName(ctx, project, to); err != nil {
		return err
	}
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	kept, err := s.lockAllParts(ctx, i, "rename")
	if err != nil {
		return err
	}
	defer kept()
	if err := s.patchConfig(ctx, i, map[string]string{volPending: pendingRename + to}); err != nil {
		return err
	}
	if err := s.rename(ctx, i, v, to); err != nil {
		ctx, cancel := s.cleanup()
		defer cancel()
		if err := s.unrename(ctx, i); err != nil {
			log.From(ctx).Warn("Could not take back a rename; it is tried again before the next use", "instance", name, "err", err)
		}
		return err
	}
	s.Bus.Lifecycle("instance-renamed", entity.New(entity.Instance, project, to), by, map[string]any{"old_name": name})
	s.stale(i.ID)
	return nil
}

func (s *Service) rename(ctx context.Context, i *Instance, v Volume, to string) error {
	l := s.liveOf(i.ID)
	defer l.shutFiles(anyFiles)() // they know the volume by its name
	l.keeping.Lock()
	defer l.keeping.Unlock()
	if err := s.Storage.Rename(ctx, v, to); err != nil {
		return err
	}
	for _, d := range s.foldersOf(i.Project, i.Name, to) {
		if err := os.Rename(d.from, d.to); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	// Networks know devices by the instance's name.
	if err := s.leaveAll(ctx, i); err != nil {
		return err
	}
	renamed := i.clone()
	renamed.Name = to
	var kept undo.Stack // unrename takes all of them back
	if err := s.joinAll(ctx, renamed, &kept); err != nil {
		return err
	}
	id := uuid.NewString()
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.ExecOne(ctx, tx, stmtRename, to, i.ID); err != nil {
			return err
		}
		changes := done(ctx, map[string]string{volPending: "", volInstanceID: id})
		if i.Config[volApply] == "" { // an instance that never started is new above all
			changes[volApply] = template.Rename
		}
		return patch(ctx, tx, i.ID, changes)
	})
}

type move struct{ from, to string }

// foldersOf are the folders that are called like an instance, besides its volume.
func (s *Service) foldersOf(project, name, to string) []move {
	devices := func(n string) string { return s.devicesDir(&Instance{Project: project, Name: n}) }
	return []move{{s.LogDir(project, name), s.LogDir(project, to)}, {devices(name), devices(to)}, {s.backupDir(project, name), s.backupDir(project, to)}}
}

// unrename takes back what there is of a rename that did not come to its end. It may
// run any number of times.
func (s *Service) unrename(ctx context.Context, i *Instance) error {
	to := strings.TrimPrefix(i.Config[volPending], pendingRename)
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	away := v
	away.Instance = to
	var all []error
	// A conflict is that the volume has its old name, and that the new one is of another
	// volume: one that was left behind when its instance moved, perhaps.
	if err := s.Storage.Rename(ctx, away, i.Name); err != nil && !errs.Is(err, errs.KindConflict) {
		all = append(all, err)
	}
	for _, d := range s.foldersOf(i.Project, i.Name, to) {
		if _, err := os.Lstat(d.from); err == nil {
			continue
		}
		if err := os.Rename(d.to, d.from); err != nil && !os.IsNotExist(err) {
			all = append(all, err)
		}
	}
	renamed := i.clone()
	renamed.Name = to
	all = append(all, s.leaveAll(ctx, renamed), s.leaveAll(ctx, i))
	var kept undo.Stack
	all = append(all, s.joinAll(ctx, i, &kept))
	if err := errors.Join(all...); err != nil {
		return err
	}
	return s.patchConfig(ctx, i, map[string]string{volPending: ""})
}

// settle ends what an earlier attempt on an instance has left half-done, for those who
// hold its lock and are about to do something else to it.
func (s *Service) settle(ctx context.Context, i *Instance) error {
	what, do := "", func(context.Context, *Instance) error { return nil }
	switch p := i.Config[volPending]; {
	case p == pendingDelete, p == pendingImport:
		return errs.Invalid("Instance %q is not whole: its %s has not ended; delete it", i.Name, p)
	case strings.HasPrefix(p, pendingSnap):
		what, do = "the rename of a snapshot of it could not be taken back", s.unrenameSnapshot
	case strings.HasPrefix(p, pendingRename):
		what, do = "a rename of it could not be taken back", s.unrename
	case strings.HasPrefix(p, pendingMove):
		what, do = "a move between pools could not be ended or taken back", s.unmove
	case strings.HasPrefix(p, pendingAway):
		what, do = "a move to another member could not be taken back", s.unaway
	case strings.HasPrefix(p, pendingRestore):
		what, do = "a restore of it could not be ended", s.restoreAgain
	case strings.HasPrefix(p, pendingRebuild):
		what, do = "a rebuild of it could not be ended", s.rebuildAgain
	case strings.HasPrefix(p, pendingShift):
		what, do = "the ids of its files could not be found out", s.settleShift
	}
	if err := do(ctx, i); err != nil {
		return fmt.Errorf("Instance %q is not whole, %s: %w", i.Name, what, err)
	}
	return nil
}

// halfDone tells of marks that settle deals with.
func halfDone(pending string) bool {
	for _, p := range []string{pendingSnap, pendingRename, pendingRestore, pendingMove, pendingAway, pendingRebuild, pendingShift} {
		if strings.HasPrefix(pending, p) {
			return true
		}
	}
	return false
}

// elsewhere tells of marks by which parts of an instance may be where its rows do not say.
// Other marks need not be settled for an instance that is to go.
func elsewhere(pending string) bool {
	return strings.HasPrefix(pending, pendingRename) || strings.HasPrefix(pending, pendingMove) || strings.HasPrefix(pending, pendingAway)
}

// leaveAll has every device forget what it keeps outside of the instance.
func (s *Service) leaveAll(ctx context.Context, i *Instance) error {
	var all []error
	for n, c := range i.ExpandedDevices() {
		if err := s.leave(ctx, i, n, c); err != nil {
			all = append(all, fmt.Errorf("device %q: %w", n, err))
		}
	}
	return errors.Join(all...)
}
