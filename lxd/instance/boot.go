package instance

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"sett/shared/log"
)

// atOnce is how many instances are started side by side with the host, or follow a profile.
const atOnce = 8

// Autostart starts what is to run: instances with boot.autostart, and those without
// the key that ran when the host went down. Higher priorities come first; within one,
// instances start together, up to one that wants a pause after it.
func (s *Service) Autostart(ctx context.Context) {
	lg := log.From(ctx)
	all, err := s.mine(ctx)
	if err != nil {
		lg.Error("Could not load the instances to start", "err", err)
		return
	}
	all = slices.DeleteFunc(all, func(i *Instance) bool { return !wantsStart(i) || s.State(i.ID) != Stopped })
	for _, b := range batches(all) {
		if ctx.Err() != nil || s.down.Load() {
			return
		}
		if !s.startBatch(ctx, b.instances) || b.pause == 0 {
			continue
		}
		select {
		case <-time.After(b.pause):
		case <-ctx.Done():
			return
		}
	}
}

// batch are instances that start together, and the pause after it.
type batch struct {
	instances []*Instance
	pause     time.Duration
}

func batches(all []*Instance) []batch {
	priority := func(i *Instance) int64 { return AutostartPriority.Get(i.ExpandedConfig()) }
	slices.SortStableFunc(all, func(a, b *Instance) int { return cmp.Compare(priority(b), priority(a)) })
	var out []batch
	for n, i := range all {
		if n == 0 || priority(i) != priority(all[n-1]) || out[len(out)-1].pause > 0 {
			out = append(out, batch{})
		}
		b := &out[len(out)-1]
		b.instances = append(b.instances, i)
		b.pause = AutostartDelay.Get(i.ExpandedConfig())
	}
	return out
}

// startBatch starts instances side by side, and reports whether the last one, which
// the pause is for, has started.
func (s *Service) startBatch(ctx context.Context, is []*Instance) bool {
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	var last error
	for n, i := range is {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			err := s.Start(ctx, i.Project, i.Name, nil)
			if err != nil {
				log.From(ctx).Error("Could not start an instance", "instance", i.Name, "err", err)
			}
			if n == len(is)-1 {
				last = err
			}
		})
	}
	wg.Wait()
	return last == nil
}

const (
	maxPause = time.Minute
	// steady is how long an instance must have run for its falls to be forgotten.
	steady = 2 * time.Minute
)

// pause doubles with each fall.
func pause(falls int) time.Duration {
	if falls > 6 {
		return maxPause
	}
	return min(maxPause, time.Second<<max(falls-1, 0))
}

// revival is an instance that ended by itself and is to be started again.
type revival struct{ cancel context.CancelFunc }

// revive starts an instance again that has ended by itself, after a pause. The caller
// holds l.mu; a stop, a start or a delete that comes first wins.
func (s *Service) revive(i *Instance, l *live) {
	if time.Since(l.begun) >= steady {
		l.falls = 0
	}
	l.falls++
	falls := l.falls
	ctx, cancel := context.WithCancel(s.ctx)
	me := &revival{cancel}
	l.rest = me
	s.wg.Go(func() {
		defer cancel()
		for s.wait(ctx, falls) && !s.rise(ctx, i, falls) {
			falls++
			l.mu.Lock()
			l.falls = falls
			l.mu.Unlock()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.rest == me {
			l.rest = nil
		}
	})
}

func (s *Service) wait(ctx context.Context, falls int) bool {
	t := time.NewTimer(s.Pause(falls))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rise starts an instance after its pause. It reports whether that is the end of it:
// the instance runs, or does not want to any more.
func (s *Service) rise(ctx context.Context, i *Instance, falls int) bool {
	lg := log.From(s.ctx)
	now, unlock, err := s.ended(i, "restart")
	if now == nil {
		if err != nil {
			lg.Error("Could not bring an instance up that had ended", "instance", i.Name, "err", err)
		}
		return true
	}
	defer unlock()
	// Whoever stopped it had the lock before us.
	if ctx.Err() != nil || s.down.Load() || !AutoRestart.Get(now.ExpandedConfig()) {
		return true
	}
	if err := s.start(s.ctx, now); err != nil {
		lg.Warn("Could not bring an instance up that had ended; it is tried again", "instance", i.Name, "times", falls, "err", err)
		return false
	}
	lg.Info("Started an instance again that had ended", "instance", i.Name, "times", falls)
	s.tell("instance-restarted", now, nil, nil)
	return true
}

// resting ends the pause of an instance that is to be started again, for those who
// hold its lock. It reports whether there was one.
func (s *Service) resting(i *Instance) bool {
	l := s.liveOf(i.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rest == nil || l.state != Stopped {
		return false
	}
	l.rest.cancel()
	l.rest, l.falls = nil, 0
	return true
}
