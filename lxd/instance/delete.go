package instance

import (
	"context"
	"fmt"
	"os"

	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/errs"
)

// Delete removes an instance that is stopped, with all that is its own.
func (s *Service) Delete(ctx context.Context, project, name string, by *event.Requestor) error {
	i, unlock, err := s.claim(ctx, project, name, "delete")
	if err != nil {
		return err
	}
	defer unlock()
	return s.remove(ctx, i, by)
}

// remove is Delete for those who hold the lock. It notes what it is about to do, so
// that a daemon which dies on the way finishes when it starts again.
func (s *Service) remove(ctx context.Context, i *Instance, by *event.Requestor) error {
	if p := i.Config[volPending]; elsewhere(p) {
		if err := s.settle(ctx, i); err != nil {
			return err
		}
	}
	if s.State(i.ID) != Stopped {
		return errs.Invalid("Instance is running")
	}
	if Protected.Get(i.ExpandedConfig()) {
		return errs.Forbidden("Instance is protected from being deleted (%s)", Protected.Name())
	}
	if err := s.unread(i); err != nil {
		return err
	}
	unlock, err := s.lockAllParts(ctx, i, "delete")
	if err != nil {
		return err
	}
	defer unlock()
	// From here on it is going; half of an instance is of no use to anybody.
	ctx, end, err := op.Commit(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := s.patchConfig(ctx, i, map[string]string{volPending: pendingDelete}); err != nil {
		return err
	}
	if err := s.erase(ctx, i); err != nil {
		return err
	}
	s.tell("instance-deleted", i, by, nil)
	return nil
}

// erase takes away everything of an instance, whatever there is of it.
func (s *Service) erase(ctx context.Context, i *Instance) error {
	l := s.liveOf(i.ID)
	defer l.shutFiles(anyFiles)()
	l.keeping.Lock()
	defer l.keeping.Unlock()
	for name, c := range i.ExpandedDevices() {
		if err := s.leave(ctx, i, name, c); err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
	}
	if err := s.sweep(ctx, i); err != nil {
		return err
	}
	if v, _, err := volume(i); err == nil {
		if err := s.Storage.Delete(ctx, v); err != nil {
			return err
		}
	}
	for _, d := range []string{s.LogDir(i.Project, i.Name), s.devicesDir(i), s.runDir(i), s.backupDir(i.Project, i.Name)} {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtDelete, i.ID)
		return err
	})
	if err == nil {
		s.forget(i.ID)
	}
	return err
}
