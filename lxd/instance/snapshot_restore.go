package instance

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/errs"
	"sett/shared/log"
)

// Restore makes an instance what it was at a snapshot: content, configuration and
// devices. One that runs is stopped for it, and started again.
func (s *Service) Restore(ctx context.Context, as auth.Caller, project, name, snapshot string) error {
	by := as.Requestor()
	i, unlock, err := s.claimWhole(ctx, project, name, "restore")
	if err != nil {
		return err
	}
	defer unlock()
	sn, err := s.Snapshot(ctx, i, strings.TrimPrefix(snapshot, i.Name+"/"))
	if err != nil {
		return err
	}
	// What cannot be is refused before anything stops.
	if err := s.judge(ctx, as, sn.before(i), sn.of(i)); err != nil {
		return fmt.Errorf("The snapshot cannot be restored: %w", err)
	}
	if err := samePool(i, sn.of(i)); err != nil {
		return err
	}
	if err := s.unread(i, itself); err != nil {
		return err
	}
	st, p := s.liveOf(i.ID).get()
	ran := p != nil && st.alive()
	if ran {
		if i, err = s.stopForRestore(ctx, i, by); err != nil {
			return err
		}
	}
	err = s.restore(ctx, i, sn, by)
	if !ran {
		return err
	}
	ctx, end := op.Insist(ctx) // it shall not stay stopped because somebody lost patience
	defer end()
	again, lerr := s.Load(ctx, project, name)
	if lerr == nil {
		lerr = s.start(ctx, again)
	}
	if lerr == nil {
		s.tell("instance-started", again, by, nil)
	} else if err == nil {
		err = fmt.Errorf("The snapshot is restored, but the instance does not start: %w", lerr)
	}
	return err
}

// stopForRestore kills the instance, whose content is given up anyway. An ephemeral one
// survives it.
func (s *Service) stopForRestore(ctx context.Context, i *Instance, by *event.Requestor) (*Instance, error) {
	if err := s.halt(ctx, i, StopOptions{Force: true}, true); err != nil {
		return nil, err
	}
	ctx, end := op.Insist(ctx) // who loses patience now still finds it running afterwards
	defer end()
	now, err := s.Load(ctx, i.Project, i.Name)
	if err != nil {
		return nil, err
	}
	changes := s.afterStop(now)
	delete(changes, volPower) // it is to run, also when the daemon ends meanwhile
	if err := s.patchConfig(ctx, now, changes); err != nil {
		log.From(ctx).Warn("Could not store that an instance has stopped", "instance", i.Name, "err", err)
	}
	s.tell("instance-stopped", now, by, nil)
	return now, nil
}

func samePool(a, b *Instance) error {
	va, _, err := volume(a)
	if err != nil {
		return err
	}
	vb, _, err := volume(b)
	if err != nil {
		return err
	}
	if va.Pool != vb.Pool {
		return errs.Invalid("The snapshot is of the time when the root disk was in pool %q; it is in %q now", vb.Pool, va.Pool)
	}
	return nil
}

// restore works on an instance that is stopped. Content and rows cannot change as one:
// the mark makes a daemon that dies on the way do it again.
func (s *Service) restore(ctx context.Context, i *Instance, sn *Snapshot, by *event.Requestor) error {
	if err := s.patchConfig(ctx, i, map[string]string{volPending: pendingRestore + sn.Name}); err != nil {
		return err
	}
	op.Step(ctx, "put back the content of snapshot %s", sn.Name)
	begun, err := s.putBack(ctx, i, sn, done(ctx, nil))
	if err != nil {
		if !begun { // the content is what it was
			ctx, cancel := s.cleanup()
			defer cancel()
			if err := s.patchConfig(ctx, i, map[string]string{volPending: ""}); err != nil {
				log.From(ctx).Warn("Could not note that a restore has failed", "instance", i.Name, "err", err)
			}
		}
		return err
	}
	s.tell("instance-restored", i, by, map[string]any{"snapshot": i.Name + "/" + sn.Name})
	return nil
}

// putBack may run any number of times. begun tells whether the content has changed. note
// goes into the configuration with the last step: whoever only ends what another operation
// began must not say that its own is done.
func (s *Service) putBack(ctx context.Context, i *Instance, sn *Snapshot, note map[string]string) (begun bool, err error) {
	n := sn.of(i)
	n.Config = restored(i.Config, sn.Config)
	maps.Copy(n.Config, note)
	n.expandedConfig = nil
	v, root, err := volume(n)
	if err != nil {
		return false, err
	}
	size, err := rootSize(root)
	if err != nil {
		return false, err
	}
	l := s.liveOf(i.ID)
	defer l.shutFiles("")()
	l.keeping.Lock()
	defer l.keeping.Unlock()
	if err := s.Storage.RestoreSnapshot(ctx, v, sn.Name, size); err != nil {
		return false, err
	}
	ctx, end := op.Insist(ctx)
	defer end()
	if err := s.follow(ctx, i, n); err != nil {
		return true, err
	}
	return true, s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return store(ctx, tx, n) })
}

// restored is the configuration of a snapshot without what was true of a guest that ran
// then. What the disk says about its ids goes with the disk.
func restored(now, then map[string]string) map[string]string {
	c := maps.Clone(then)
	for k := range then {
		if hasSuffix(k, ".host_name") || hasSuffix(k, ".last_state.created") {
			delete(c, k)
		}
	}
	// A snapshot that was copied with its instance says nothing of what is the copy's own.
	for k, v := range now {
		own := k == volUUID || k == volInstanceID || strings.HasPrefix(k, "volatile.idmap.") || strings.HasPrefix(k, volatilePrefix) && hasSuffix(k, ".hwaddr")
		if _, ok := c[k]; !ok && own {
			c[k] = v
		}
	}
	delete(c, volPower)
	delete(c, volScheduled)
	if v, ok := now[volPower]; ok {
		c[volPower] = v
	}
	return c
}

// restoreAgain ends a restore that was cut off.
func (s *Service) restoreAgain(ctx context.Context, i *Instance) error {
	sn, err := s.Snapshot(ctx, i, strings.TrimPrefix(i.Config[volPending], pendingRestore))
	if err != nil {
		return err
	}
	if _, err := s.putBack(ctx, i, sn, nil); err != nil {
		return err
	}
	now, err := s.loadID(ctx, i.ID)
	if err == nil && now != nil {
		*i = *now
	}
	return err
}
