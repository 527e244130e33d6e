package instance

import (
	"context"
	"fmt"
	"os"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/shared/errs"
	"sett/shared/undo"
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
	if err := s.lookAgain(ctx, i); err != nil {
		return err
	}
	if s.State(i.ID) != Stopped {
		return errs.Invalid("Instance is running")
	}
	if Protected.Get(i.ExpandedConfig()) {
		return errs.Forbidden("Instance is protected from being deleted (%s)", Protected.Name())
	}
	if err := s.patchConfig(ctx, i, map[string]string{volPending: pendingDelete}); err != nil {
		return err
	}
	// From here on it is going; a client that goes away must not leave half of it.
	ctx = context.WithoutCancel(ctx)
	if err := s.erase(ctx, i); err != nil {
		return err
	}
	s.tell("instance-deleted", i, by, nil)
	return nil
}

// erase takes away everything of an instance, whatever there is of it.
func (s *Service) erase(ctx context.Context, i *Instance) error {
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
	for _, d := range []string{s.LogDir(i.Project, i.Name), s.devicesDir(i), s.runDir(i)} {
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

// Rename gives a stopped instance another name.
func (s *Service) Rename(ctx context.Context, project, name, to string, by *event.Requestor) error {
	if err := CheckName(to); err != nil {
		return err
	}
	target := entity.New(entity.Instance, project, to)
	unlock, err := s.Locks.TryLock("rename", entity.New(entity.Instance, project, name), target)
	if err != nil {
		return errs.Invalid("Instance %q or %q is busy, try again later", name, to)
	}
	defer unlock()
	i, err := s.Load(ctx, project, name)
	if err != nil {
		return err
	}
	if s.State(i.ID) != Stopped {
		return errs.Invalid("Renaming of running instance not allowed")
	}
	if _, err := s.Load(ctx, project, to); err == nil {
		return errs.Conflict("Name %q already in use", to)
	} else if !errs.Is(err, errs.KindNotFound) {
		return err
	}
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	var u undo.Stack
	defer u.Run()
	if err := s.Storage.Rename(ctx, v, to); err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := s.cleanup()
		defer cancel()
		v.Instance = to
		return s.Storage.Rename(ctx, v, name)
	})
	for _, f := range []func(string, string) string{s.LogDir, func(p, n string) string { return s.devicesDir(&Instance{Project: p, Name: n}) }} {
		a, b := f(project, name), f(project, to)
		if err := os.Rename(a, b); err != nil && !os.IsNotExist(err) {
			return err
		}
		u.Push(func() error { return os.Rename(b, a) })
	}
	// Networks know devices by the instance's name.
	for n, c := range i.ExpandedDevices() {
		if err := s.leave(ctx, i, n, c); err != nil {
			return fmt.Errorf("device %q: %w", n, err)
		}
		u.Push(func() error {
			ctx, cancel := s.cleanup()
			defer cancel()
			var kept undo.Stack
			return s.join(ctx, i, n, c, &kept)
		})
	}
	renamed := i.clone()
	renamed.Name = to
	if err := s.joinAll(ctx, renamed, &u); err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.ExecOne(ctx, tx, stmtRename, to, i.ID); err != nil {
			return err
		}
		if i.Config[volApply] != "" {
			return nil // an instance that never started is new above all
		}
		return patch(ctx, tx, i.ID, map[string]string{volApply: "rename"})
	})
	if err != nil {
		return err
	}
	u.Commit()
	s.Bus.Lifecycle("instance-renamed", target, by, map[string]any{"old_name": name})
	return nil
}
