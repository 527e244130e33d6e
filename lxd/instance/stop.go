package instance

import (
	"context"
	"errors"
	"time"

	"sett/lxd/container"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/errs"
	"sett/shared/log"
)

// StopOptions say how to stop.
type StopOptions struct {
	Force   bool
	Timeout time.Duration // for a clean shutdown; negative: longestStop
}

// longestStop is how long a clean shutdown without a time of its own may take. A guest that
// never follows must not keep the instance, and those who wait, for ever.
const longestStop = 10 * time.Minute

// Stop ends an instance.
func (s *Service) Stop(ctx context.Context, project, name string, o StopOptions, by *event.Requestor) error {
	i, unlock, err := s.claim(ctx, project, name, "stop")
	if err != nil && o.Force {
		if hurried, err := s.hurry(ctx, project, name); hurried {
			return err
		}
		i, unlock, err = s.claim(ctx, project, name, "stop") // who had it may have given up
	}
	if err != nil {
		return err
	}
	defer unlock()
	if i.Ephemeral { // which goes with its process
		if err := s.unread(i); err != nil {
			return err
		}
	}
	return s.stopLocked(ctx, i, o, by)
}

// stopLocked is Stop for those who hold the lock.
func (s *Service) stopLocked(ctx context.Context, i *Instance, o StopOptions, by *event.Requestor) error {
	if s.resting(i) {
		return s.patchConfig(ctx, i, map[string]string{volPower: "STOPPED"})
	}
	if err := s.halt(ctx, i, o, false); err != nil {
		return err
	}
	if o.Force {
		s.tell("instance-stopped", i, by, nil)
	} else {
		s.tell("instance-shutdown", i, by, nil)
	}
	if i.Ephemeral {
		// It has stopped; whoever loses patience now must not keep it alive.
		ctx, end := op.Insist(ctx)
		defer end()
		return s.remove(ctx, i, by)
	}
	return nil
}

// patient is a stop that waits for the guest.
type patient struct {
	hurry chan struct{} // closed, the guest is to be killed
	over  chan struct{} // closed when it waits no more, whatever came of it
}

// hurry makes a stop that waits for the guest kill it, for somebody who stops the same
// instance by force. It reports whether there was one, and whether the guest has ended by it.
func (s *Service) hurry(ctx context.Context, project, name string) (bool, error) {
	i, err := s.Load(ctx, project, name)
	if err != nil {
		return false, err
	}
	l := s.liveOf(i.ID)
	l.mu.Lock()
	stop, gone := l.stop, l.gone
	l.stop = nil
	l.mu.Unlock()
	if stop == nil {
		return false, nil
	}
	close(stop.hurry)
	select {
	case <-gone:
		return true, nil
	case <-stop.over:
	case <-ctx.Done():
		return true, ctx.Err()
	}
	select {
	case <-gone:
		return true, nil
	default: // it was given up before it heard of us, or could not kill
		return false, nil
	}
}

// Restart stops an instance and starts it again under one lock. An ephemeral one
// survives it.
func (s *Service) Restart(ctx context.Context, project, name string, o StopOptions, by *event.Requestor) error {
	i, unlock, err := s.claim(ctx, project, name, "restart")
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.halt(ctx, i, o, true); err != nil {
		return err
	}
	// It ran, and shall not stay stopped because somebody lost patience.
	ctx, end := op.Insist(ctx)
	defer end()
	again, err := s.Load(ctx, project, name)
	if err == nil {
		err = s.startAsked(ctx, again)
	}
	if err != nil {
		// It was a stop after all, and nobody has noted that yet.
		ctx, cancel := s.cleanup()
		defer cancel()
		if err := s.patchConfig(ctx, i, s.afterStop(i)); err != nil {
			log.From(ctx).Warn("Could not store that an instance has stopped", "instance", i.Name, "err", err)
		}
		s.tell("instance-shutdown", i, by, nil)
		return err
	}
	s.tell("instance-restarted", again, by, nil)
	return nil
}

// halt ends the process of an instance and waits until all is cleaned up. A clean
// shutdown that does not come in time leaves the instance running.
func (s *Service) halt(ctx context.Context, i *Instance, o StopOptions, quiet bool) error {
	l := s.liveOf(i.ID)
	st, p := l.get()
	if err := require(i.Name, "stop", st, Running, Frozen, Freezing); err != nil {
		return err
	}
	before := st
	if st == Frozen && !o.Force {
		// A frozen guest cannot hear that it should end.
		if err := p.Unfreeze(ctx); err != nil {
			return err
		}
		before = Running
	}
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return errs.Invalid("The instance is already stopped")
	}
	l.state, l.quiet, l.asked = Stopping, quiet, true
	gone := l.gone
	l.mu.Unlock()
	// giveUp takes the wish back, so that whoever watches the instance deals with its
	// end. When that is too late the stop has worked, whatever err says.
	giveUp := func(err error) error {
		l.mu.Lock()
		over := l.over
		if !over {
			l.state, l.quiet, l.asked = before, false, false
		}
		l.mu.Unlock()
		if !over {
			return err
		}
		<-gone
		return nil
	}
	kill := func() error {
		if err := p.Kill(ctx); err != nil && !errors.Is(err, container.ErrNotRunning) {
			return giveUp(err)
		}
		return s.dead(gone)
	}
	if o.Force || o.Timeout == 0 {
		return kill()
	}
	if err := p.Shutdown(ctx); err != nil && !errors.Is(err, container.ErrNotRunning) { // it may just have ended
		return giveUp(err)
	}
	limit := o.Timeout
	if limit < 0 {
		limit = longestStop
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	var hurry chan struct{}
	if !quiet { // who restarts it does not want it killed
		me := &patient{make(chan struct{}), make(chan struct{})}
		hurry = me.hurry
		l.mu.Lock()
		l.stop = me
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.stop = nil
			close(me.over)
		}()
	}
	select {
	case <-gone:
		return nil
	case <-hurry:
		op.Step(ctx, "somebody asked to stop it by force")
		return kill()
	case <-late.C:
		return giveUp(errs.Invalid("The instance did not shut down within %s; use --force to kill it", limit))
	case <-ctx.Done():
		return giveUp(ctx.Err())
	}
}

// dead waits until all is cleaned up after a process that was killed, whoever loses patience.
func (s *Service) dead(gone <-chan struct{}) error {
	select {
	case <-gone:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
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
	i, unlock, err := s.claim(ctx, project, name, action)
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
		if err := l.step(Running, Freezing); err != nil {
			return err
		}
		if err := p.Freeze(ctx); err != nil {
			_ = l.step(Freezing, Running) // unless it has ended
			return err
		}
		from = Freezing
	} else {
		if err := p.Unfreeze(ctx); err != nil {
			return err
		}
		s.forgetHeld(ctx, i)
	}
	if err := l.step(from, to); err != nil {
		return err
	}
	s.tell(told, i, by, nil)
	return nil
}
