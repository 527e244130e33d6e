package instance

import (
	"context"
	"time"

	"sett/lxd/event"
	"sett/shared/errs"
)

// StopOptions say how to stop.
type StopOptions struct {
	Force   bool
	Timeout time.Duration // for a clean shutdown; negative: for ever
}

// Stop ends an instance.
func (s *Service) Stop(ctx context.Context, project, name string, o StopOptions, by *event.Requestor) error {
	i, err := s.Load(ctx, project, name)
	if err != nil {
		return err
	}
	unlock, err := s.lock(i.Ref(), "stop")
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.halt(ctx, i, o, false); err != nil {
		return err
	}
	if o.Force {
		s.tell("instance-stopped", i, by, nil)
	} else {
		s.tell("instance-shutdown", i, by, nil)
	}
	if i.Ephemeral {
		return s.remove(ctx, i, by)
	}
	return nil
}

// Restart stops an instance and starts it again under one lock. An ephemeral one
// survives it.
func (s *Service) Restart(ctx context.Context, project, name string, o StopOptions, by *event.Requestor) error {
	i, err := s.Load(ctx, project, name)
	if err != nil {
		return err
	}
	unlock, err := s.lock(i.Ref(), "restart")
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.halt(ctx, i, o, true); err != nil {
		return err
	}
	if i, err = s.Load(ctx, project, name); err != nil {
		return err
	}
	if err := s.start(ctx, i); err != nil {
		return err
	}
	s.tell("instance-restarted", i, by, nil)
	return nil
}

// halt ends the process of an instance and waits until all is cleaned up. A clean
// shutdown that does not come in time leaves the instance running.
func (s *Service) halt(ctx context.Context, i *Instance, o StopOptions, quiet bool) error {
	l := s.liveOf(i.ID)
	st, p := l.get()
	if err := require(i.Name, "stop", st, Running, Frozen, Freezing, Errored); err != nil {
		return err
	}
	if p == nil {
		return l.set(Stopped)
	}
	if st == Frozen && !o.Force {
		// A frozen guest cannot hear that it should end.
		if err := p.Unfreeze(ctx); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.state, l.quiet = Stopping, quiet
	gone := l.gone
	l.mu.Unlock()
	back := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.state == Stopping {
			l.state, l.quiet = Running, false
		}
	}
	if o.Force || o.Timeout == 0 {
		if err := p.Kill(ctx); err != nil {
			back()
			return err
		}
		return waitGone(ctx, gone)
	}
	if err := p.Shutdown(ctx); err != nil {
		back()
		return err
	}
	var late <-chan time.Time
	if o.Timeout > 0 {
		t := time.NewTimer(o.Timeout)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-gone:
		return nil
	case <-late:
		back()
		return errs.Invalid("The instance did not shut down within %s; use --force to kill it", o.Timeout)
	case <-ctx.Done():
		back()
		return ctx.Err()
	}
}

func waitGone(ctx context.Context, gone <-chan struct{}) error {
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Freeze stops the processes of an instance where they are.
func (s *Service) Freeze(ctx context.Context, project, name string, by *event.Requestor) error {
	return s.frost(ctx, project, name, "freeze", Running, Frozen, "instance-paused", by)
}

// Unfreeze lets them go on.
func (s *Service) Unfreeze(ctx context.Context, project, name string, by *event.Requestor) error {
	return s.frost(ctx, project, name, "unfreeze", Frozen, Running, "instance-resumed", by)
}

func (s *Service) frost(ctx context.Context, project, name, action string, from, to State, told string, by *event.Requestor) error {
	i, err := s.Load(ctx, project, name)
	if err != nil {
		return err
	}
	unlock, err := s.lock(i.Ref(), action)
	if err != nil {
		return err
	}
	defer unlock()
	l := s.liveOf(i.ID)
	st, p := l.get()
	if err := require(i.Name, action, st, from); err != nil {
		return err
	}
	if to == Frozen {
		err = p.Freeze(ctx)
	} else {
		err = p.Unfreeze(ctx)
	}
	if err != nil {
		return err
	}
	if err := l.set2(from, to); err != nil {
		return err
	}
	s.tell(told, i, by, nil)
	return nil
}

// set2 moves on unless the instance ended meanwhile.
func (l *live) set2(from, to State) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != from {
		return errs.Invalid("The instance has become %s meanwhile", l.state)
	}
	l.state = to
	return nil
}
