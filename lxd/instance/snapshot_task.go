package instance

import (
	"context"
	"errors"
	"slices"
	"time"

	"sett/lxd/db"
	"sett/lxd/lock"
	"sett/lxd/op"
	"sett/lxd/task"
	"sett/shared/errs"
	"sett/shared/log"
)

// Jobs are what is to be done from time to time.
func (s *Service) Jobs() []task.Job {
	last, owed := time.Now(), map[int64]bool{}
	return []task.Job{
		{Name: "take scheduled snapshots", Next: nextMinute, Run: func(ctx context.Context) error {
			now := time.Now()
			err := s.takeScheduled(ctx, last, now, owed)
			if err == nil {
				last = now
			}
			return err
		}},
		{Name: "delete expired snapshots", Next: nextMinute, Run: func(ctx context.Context) error { return s.dropExpired(ctx, time.Now()) }},
		{Name: "prune snapshots", Next: nextMinute, Run: s.prune},
		{Name: "delete expired backups", Next: nextMinute, Run: func(ctx context.Context) error { return s.dropOldBackups(ctx, time.Now()) }},
		{Name: "write backup.yaml", Every: 2 * time.Second, Run: s.KeepFiles},
	}
}

func nextMinute(now time.Time) time.Time { return now.Truncate(time.Minute).Add(time.Minute) }

// takeScheduled takes the snapshots that came due after one time and up to another: a
// run that comes late misses none, and one that missed several takes one. owed are the
// instances that were busy at their time, from one run to the next.
func (s *Service) takeScheduled(ctx context.Context, after, now time.Time, owed map[int64]bool) error {
	all, err := s.these(ctx, stmtScheduled)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(i *Instance) bool { return !s.due(i, after, now, owed[i.ID]) })
	clear(owed)
	return s.together(ctx, doSchedule, all, func(ctx context.Context, i *Instance) error {
		_, err := s.CreateSnapshot(ctx, i.Project, i.Name, NewSnapshot{Scheduled: true}, nil)
		var busy *lock.Busy
		owed[i.ID] = errors.As(err, &busy)
		return err
	})
}

func (s *Service) due(i *Instance, after, now time.Time, owed bool) bool {
	cfg := i.ExpandedConfig()
	all, _, err := schedules(SnapshotSchedule.Get(cfg), i.ID)
	if err != nil || !s.State(i.ID).alive() && !SnapshotStopped.Get(cfg) {
		return false
	}
	if owed {
		return len(all) > 0
	}
	for _, c := range all {
		if t := c.Next(after); !t.IsZero() && !t.After(now) {
			return true
		}
	}
	return false
}

// snapAtStartup takes the snapshot that @startup asks for. The start does not fail with
// it.
func (s *Service) snapAtStartup(ctx context.Context, i *Instance) {
	_, startup, err := schedules(SnapshotSchedule.Get(i.ExpandedConfig()), i.ID)
	if err != nil || !startup {
		return
	}
	if _, err := s.takeSnapshot(ctx, i, NewSnapshot{Scheduled: true}, nil); err != nil {
		log.From(ctx).Warn("Could not take a snapshot before the start of an instance", "instance", i.Name, "err", err)
	}
}

// dropExpired deletes the snapshots whose time is over.
func (s *Service) dropExpired(ctx context.Context, now time.Time) error {
	all, err := s.these(ctx, stmtWithExpiry)
	if err != nil || len(all) == 0 {
		return err
	}
	snaps, err := s.loadSnapshots(ctx, s.DB, all...)
	if err != nil {
		return err
	}
	over := map[int64][]*Snapshot{}
	for id, list := range snaps {
		for _, sn := range list {
			if sn.Expires.Unix() > 0 && !sn.Expires.After(now) { // clients write "never" as the epoch, too
				over[id] = append(over[id], sn)
			}
		}
	}
	all = slices.DeleteFunc(all, func(i *Instance) bool { return len(over[i.ID]) == 0 })
	return s.together(ctx, doExpire, all, func(ctx context.Context, i *Instance) error { return s.dropAll(ctx, i, over[i.ID]) })
}

// prune deletes the snapshots that snapshots.retention does not keep.
func (s *Service) prune(ctx context.Context) error {
	all, err := s.these(ctx, stmtWithPolicy)
	if err != nil || len(all) == 0 {
		return err
	}
	snaps, err := s.loadSnapshots(ctx, s.DB, all...)
	if err != nil {
		return err
	}
	over := map[int64][]*Snapshot{}
	for _, i := range all {
		rules, err := retention(SnapshotKeep.Get(i.ExpandedConfig()))
		if err != nil {
			continue
		}
		for _, v := range judge(rules, snaps[i.ID]) {
			if !v.Keep {
				over[i.ID] = append(over[i.ID], v.Snapshot)
			}
		}
	}
	all = slices.DeleteFunc(all, func(i *Instance) bool { return len(over[i.ID]) == 0 })
	return s.together(ctx, doPrune, all, func(ctx context.Context, i *Instance) error { return s.dropAll(ctx, i, over[i.ID]) })
}

func (s *Service) dropAll(ctx context.Context, i *Instance, all []*Snapshot) error {
	for _, sn := range all {
		if err := s.DeleteSnapshot(ctx, i.Project, i.Name, sn.Name, nil); err != nil && !errs.Is(err, errs.KindNotFound) {
			return err
		}
	}
	return nil
}

// these loads the instances whose ids a statement gives for this member.
func (s *Service) these(ctx context.Context, stmt db.Stmt) ([]*Instance, error) {
	ids, err := db.Select[int64](ctx, s.DB, stmt, s.Here.ID())
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	var w db.Where
	return s.load(ctx, s.DB, db.In(&w, "i.id", ids))
}

// together does something to instances as one operation of the daemon's own. What is
// busy has its turn at the next run.
func (s *Service) together(ctx context.Context, what string, all []*Instance, do func(context.Context, *Instance) error) error {
	if len(all) == 0 {
		return nil
	}
	o, err := s.Ops.Start(ctx, op.Spec{Description: what, Run: func(ctx context.Context, _ *op.Operation) error {
		for _, i := range all {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := do(ctx, i); err != nil {
				log.From(ctx).Warn(what+" did not work for one", "instance", i.Name, "project", i.Project, "err", err)
			}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	return o.Wait(ctx)
}
