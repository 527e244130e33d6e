package network

import (
	"context"
	"errors"
	"sync"
	"time"

	"sett/lxd/db"
)

// retryAfter is how long a network that could not be started is left alone.
const retryAfter = time.Minute

// Start starts all networks of this member, side by side, takes away those that
// were half-made when the daemon died, and tries again what fails, until ctx
// ends. It blocks as long; Ready tells when each has been tried once.
func (s *Service) Start(ctx context.Context) {
	left := s.startAll(ctx, nil)
	close(s.ready)
	for len(left) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryAfter):
		}
		left = s.startAll(ctx, left)
	}
}

// Ready is closed when every network has been started or has failed once.
func (s *Service) Ready() <-chan struct{} { return s.ready }

// startAll starts the networks in only, or all when it is nil, and returns what failed.
func (s *Service) startAll(ctx context.Context, only map[int64]bool) map[int64]bool {
	var w db.Where
	all, err := s.load(ctx, s.DB, &w)
	if err != nil {
		s.Log.Error("Could not read the networks", "err", err)
		return map[int64]bool{0: true} // no network has it, but there is something left to do
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	left := map[int64]bool{}
	free := make(chan struct{}, 4)
	for _, n := range all {
		if only != nil && !only[n.ID] && !only[0] {
			continue
		}
		wg.Add(1)
		free <- struct{}{}
		go func() {
			defer func() { <-free; wg.Done() }()
			if err := s.startOne(ctx, n); err != nil {
				s.Log.Error("Could not start a network", "network", n.Name, "again after", retryAfter, "err", err)
				mu.Lock()
				left[n.ID] = true
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return left
}

func (s *Service) startOne(ctx context.Context, n Network) (err error) {
	unlock, err := s.lock(ctx, "starting network "+n.Name, n.Name)
	if err != nil {
		return err
	}
	defer unlock()
	// It may have changed, or gone, while this waited.
	var w db.Where
	now, err := s.load(ctx, s.DB, w.Eq("networks.id", n.ID))
	if err != nil || len(now) == 0 {
		return err
	}
	n = now[0]
	d, err := s.driver(n.Type)
	if err != nil {
		return err
	}
	switch {
	case n.here == unsettled, n.State == pending && !s.Here.Clustered():
		s.Log.Info("Cleaning up a network whose creation was interrupted", "network", n.Name)
		if err := d.Delete(ctx, s.spec(n)); err != nil {
			return err
		}
		if !s.Here.Clustered() {
			err = s.forget(ctx, n)
		} else {
			err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.setHere(ctx, tx, n.ID, pending) })
		}
		if err == nil {
			s.Ops.Note(ctx, "Removed network "+n.Name+", whose creation was interrupted", n.Ref())
		}
		return err
	case n.here == none, n.here == pending && s.Here.Clustered():
		return nil // told of, and not made yet
	}
	err = d.Start(ctx, s.spec(n))
	s.note(n.ID, err)
	return err
}

// Close lets go of the helpers, which run on: a daemon that restarts interrupts nobody.
func (s *Service) Close() error {
	var all []error
	for _, d := range s.drivers {
		all = append(all, d.Close())
	}
	return errors.Join(all...)
}

// Stop takes all networks off the host; it is part of a shutdown of the host, and
// no part of a restart of the daemon.
func (s *Service) Stop(ctx context.Context) {
	var w db.Where
	all, err := s.load(ctx, s.DB, &w)
	if err != nil {
		s.Log.Error("Could not read the networks", "err", err)
		return
	}
	for _, n := range all {
		if d, err := s.driver(n.Type); err == nil {
			if err := d.Stop(ctx, s.spec(n)); err != nil {
				s.Log.Warn("Could not stop a network", "network", n.Name, "err", err)
			}
		}
	}
}
