package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sett/lxd/db"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// pool is a storage pool at work on this member.
type pool struct {
	drv driver.Driver

	mu  sync.Mutex    // never held while something is mounted
	try chan struct{} // an attempt to mount it is under way; closed when that ends
	err error         // why it is not usable
}

// mounted makes a pool that is usable at once.
func mounted(d driver.Driver) *pool { return &pool{drv: d} }

// mounting makes a pool that nobody can use before its first attempt has settled.
func mounting(d driver.Driver) *pool { return &pool{drv: d, try: make(chan struct{})} }

// state says why a pool is not usable; nil also while that is not known.
func (p *pool) state() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.try != nil {
		return nil
	}
	return p.err
}

// settle ends an attempt.
func (p *pool) settle(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	close(p.try)
	p.try = nil
}

// spoil makes the next one who needs the pool mount it again.
func (p *pool) spoil(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// await returns when no attempt is under way.
func (p *pool) await(ctx context.Context) error {
	for {
		p.mu.Lock()
		try := p.try
		p.mu.Unlock()
		if try == nil {
			return nil
		}
		select {
		case <-try:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mountTimeout is for one attempt; devices may be slow, but not that slow.
const mountTimeout = 2 * time.Minute

// Start makes the pools known and begins to mount them, which it does not wait for:
// whoever needs a pool does. ctx ends what is still under way.
func (s *Service) Start(ctx context.Context) error {
	ps, err := s.List(ctx)
	if err != nil {
		return err
	}
	for _, p := range ps {
		if p.here == stateNone || p.here == statePending && s.Here.Clustered() {
			continue
		}
		drv, err := s.Drivers.New(ctx, p.Driver, s.env(p))
		if err != nil {
			s.Log.Error("A storage pool cannot be used", "pool", p.Name, "err", err)
			continue
		}
		if p.here == stateUnsettled || p.state == statePending && !s.Here.Clustered() {
			s.work.Go(func() { s.finish(ctx, p, drv) })
			continue
		}
		rt := mounting(drv)
		s.keep(p.Name, rt)
		s.work.Go(func() {
			err := s.mount(ctx, p.Name, rt)
			rt.settle(err)
			if err != nil {
				return
			}
			if err := s.sweepImages(ctx, p.Name, rt); err != nil {
				s.Log.Warn("Could not look through the cached images of a storage pool", "pool", p.Name, "err", err)
			}
		})
	}
	return nil
}

func (s *Service) mount(ctx context.Context, name string, p *pool) error {
	ctx, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	err := p.drv.MountPool(ctx)
	if err != nil {
		s.Log.Error("Could not mount a storage pool", "pool", name, "err", err)
	}
	return err
}

// finish removes a pool whose creation or deletion was interrupted. On a member the
// record stays: the creation, or the deletion, can be asked for again.
func (s *Service) finish(ctx context.Context, p Pool, drv driver.Driver) {
	err := drv.DeletePool(ctx)
	switch {
	case err != nil:
	case s.Here.Clustered():
		err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.setHere(ctx, tx, p.ID, statePending) })
	default:
		err = s.dropPool(ctx, p.ID)
	}
	if err != nil {
		s.Log.Error("Could not remove a storage pool that was half-made or half-deleted", "pool", p.Name, "err", err)
		return
	}
	s.Log.Info("Removed a storage pool that was half-made or half-deleted", "pool", p.Name)
	s.Ops.Note(ctx, "Removed storage pool "+p.Name+", which was half-made or half-deleted", ref(p.Name))
}

// Close waits for what goes on in the background. The pools stay mounted: running
// containers live on them.
func (s *Service) Close(ctx context.Context) error {
	s.work.Wait()
	var first error
	for _, p := range s.all() {
		if err := p.drv.Close(ctx); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Unmount takes all pools out of use, for a shutdown after which no instance runs.
func (s *Service) Unmount(ctx context.Context) error {
	s.work.Wait()
	var first error
	for name, p := range s.all() {
		if err := p.drv.UnmountPool(ctx); err != nil && first == nil {
			first = fmt.Errorf("storage pool %s: %w", name, err)
		}
	}
	return first
}

func (s *Service) all() map[string]*pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*pool, len(s.pools))
	for n, p := range s.pools {
		out[n] = p
	}
	return out
}

func (s *Service) keep(name string, p *pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools[name] = p
}

func (s *Service) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pools, name)
}

func (s *Service) lookup(name string) *pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pools[name]
}

// open returns a pool that can be worked on. It waits for a mount that is under way,
// and tries again where one has failed.
func (s *Service) open(ctx context.Context, name string) (*pool, error) {
	p := s.lookup(name)
	if p == nil {
		at, err := s.loadPool(ctx, s.DB, name)
		if err != nil {
			return nil, err
		}
		if at.state != stateCreated {
			return nil, coming(name)
		}
		return nil, errs.Unavailable("Storage pool %q cannot be used on this server; the log has the reason", name)
	}
	for waited := false; ; waited = true {
		p.mu.Lock()
		try, err := p.try, p.err
		switch {
		case try != nil:
		case err == nil:
			p.mu.Unlock()
			return p, nil
		case waited && !errors.Is(err, context.Canceled): // it has just been tried
			p.mu.Unlock()
			return nil, errs.Unavailable("Storage pool %q cannot be mounted: %w", name, err)
		default:
			p.try = make(chan struct{})
			p.mu.Unlock()
			p.settle(s.mount(ctx, name, p))
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			continue
		}
		p.mu.Unlock()
		select {
		case <-try:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// coming refuses a pool that is not whole yet, or no more.
func coming(name string) error {
	return errs.Unavailable("Storage pool %q is being created or deleted", name)
}

// runtime returns the pool, broken or not: enough to delete it.
func (s *Service) runtime(ctx context.Context, p Pool) (*pool, error) {
	if rt := s.lookup(p.Name); rt != nil {
		return rt, rt.await(ctx)
	}
	drv, err := s.Drivers.New(ctx, p.Driver, s.env(p))
	if err != nil {
		return nil, err
	}
	return mounted(drv), nil
}

func logf(l *slog.Logger, format string, args ...any) { l.Warn(fmt.Sprintf(format, args...)) }
