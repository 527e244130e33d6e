package instance

import (
	"context"
	"errors"
	"os"
	"time"

	"sett/lxd/container"
	"sett/shared/log"
)

// begin takes over a container that runs: from now on its end is noticed.
func (s *Service) begin(i *Instance, l *live, p container.Process, devs []startedDevice, lim container.Limits) {
	l.mu.Lock()
	l.proc, l.devs, l.state, l.quiet, l.asked, l.over = p, devs, Running, false, false, false
	l.gone = make(chan struct{})
	l.begun, l.twin = time.Now(), nil
	if l.rest != nil {
		l.rest.cancel() // it runs, whoever started it
		l.rest = nil
	}
	l.limited(i, lim)
	l.mu.Unlock()
	s.wg.Add(1)
	go s.watch(i.ID, l, p)
}

// watch waits for a container's end, whoever caused it, and cleans up after it. It
// is the only place that does, so that a stop, a crash and a shutdown from inside
// leave the same behind: nothing.
func (s *Service) watch(id int64, l *live, p container.Process) {
	defer s.wg.Done()
	p, exit := s.await(l, p)
	if p == nil {
		return // the daemon goes, the container stays
	}
	ctx, cancel := s.cleanup()
	defer cancel()
	i, err := s.loadID(ctx, id)
	if err != nil {
		log.From(ctx).Error("Could not load an instance that has stopped", "instance", p.ID().String(), "err", err)
	}
	if i == nil {
		i = &Instance{ID: id, Project: p.ID().Project, Name: p.ID().Name, Config: map[string]string{}}
	}
	l.mu.Lock()
	devs := l.devs
	l.mu.Unlock()
	s.release(ctx, i, l, devs)

	l.mu.Lock()
	l.over = true
	asked, quiet, gone := l.asked, l.quiet, l.gone
	l.mu.Unlock()
	// Quiet is who restarts it, and a reboot is no fall.
	fallen := !asked && !exit.Reboot && !i.Ephemeral && AutoRestart.Get(i.ExpandedConfig())
	if !quiet {
		changes := s.afterStop(i)
		if fallen || exit.Reboot && !asked {
			delete(changes, volPower) // it is to run, also when the daemon goes meanwhile
		}
		// Before anybody sees it as stopped: a start that comes at once writes the same keys.
		if err := s.patchConfig(ctx, i, changes); err != nil {
			log.From(ctx).Warn("Could not store that an instance has stopped", "instance", i.Name, "err", err)
		}
	}
	l.mu.Lock()
	l.proc, l.devs, l.cpus = nil, nil, nil
	l.count, l.limits = 0, container.Limits{}
	l.state = Stopped
	if fallen {
		s.revive(i, l)
	}
	l.mu.Unlock()
	_ = p.Close()
	close(gone)
	s.balance(ctx)
	if asked {
		return // whoever asked goes on from here
	}
	if exit.Reboot {
		s.again(i)
		return
	}
	s.tell("instance-shutdown", i, nil, nil)
	if i.Ephemeral {
		s.vanish(i)
	}
}

// await returns the process once it is known to have ended, or nil when the daemon ends
// first. A wait that fails says nothing about the guest, which may run on: until the
// engine has looked, nothing may be taken away from under it.
func (s *Service) await(l *live, p container.Process) (container.Process, container.Exit) {
	var pause time.Duration
	for {
		exit, err := p.Wait(s.ctx)
		switch {
		case s.ctx.Err() != nil:
			return nil, exit
		case err == nil:
			return p, exit
		}
		log.From(s.ctx).Error("Lost sight of a container", "instance", p.ID().String(), "err", err)
		for {
			t := time.NewTimer(pause)
			select {
			case <-t.C:
			case <-s.ctx.Done():
				t.Stop()
				return nil, exit
			}
			pause = min(2*pause+100*time.Millisecond, 30*time.Second)
			i := Instance{Project: p.ID().Project, Name: p.ID().Name}
			q, err := s.Engine.Find(s.ctx, p.ID(), s.runDir(&i))
			if errors.Is(err, container.ErrNotRunning) {
				return p, container.Exit{}
			}
			if err == nil {
				l.mu.Lock()
				l.proc = q
				l.mu.Unlock()
				_ = p.Close()
				p = q
				break
			}
			log.From(s.ctx).Error("Cannot tell whether a container runs", "instance", p.ID().String(), "err", err)
		}
	}
}

// ended locks an instance that has ended by itself, and waits for those who are at
// work on it. It returns nil when it is not ours any more: it is gone, or somebody
// started it.
func (s *Service) ended(i *Instance, doing string) (*Instance, func(), error) {
	for {
		unlock, err := s.Locks.Lock(s.ctx, doing, i.Ref())
		if err != nil {
			return nil, nil, err
		}
		now, err := s.loadID(s.ctx, i.ID)
		if err == nil && now != nil && now.Name == i.Name && s.State(i.ID) == Stopped {
			return now, unlock, nil
		}
		unlock()
		if err != nil || now == nil || now.Name == i.Name {
			return nil, nil, err
		}
		i = now // it was given another name meanwhile
	}
}

// vanish deletes an ephemeral instance that ended by itself, when nobody reads it any more.
func (s *Service) vanish(i *Instance) {
	for {
		now, unlock, err := s.ended(i, "delete")
		if now != nil && !now.Ephemeral { // somebody wants to keep it after all
			unlock()
			return
		}
		if now != nil {
			if r := s.liveOf(i.ID).reader(); r != nil {
				unlock()
				select {
				case <-r.over:
					continue
				case <-s.ctx.Done():
					return
				}
			}
			err = s.remove(s.ctx, now, nil)
			unlock()
		}
		if err != nil {
			log.From(s.ctx).Error("Could not delete an ephemeral instance", "instance", i.Name, "err", err)
		}
		return
	}
}

// again starts an instance that rebooted itself.
func (s *Service) again(i *Instance) {
	now, unlock, err := s.ended(i, "restart")
	if now != nil {
		defer unlock()
		if err = s.start(s.ctx, now); err == nil {
			s.tell("instance-restarted", now, nil, nil)
			return
		}
		// It was a stop after all; unless it is the daemon that goes, and the next one starts it.
		if s.ctx.Err() == nil && !s.down.Load() {
			err = errors.Join(err, s.patchConfig(s.ctx, now, map[string]string{volPower: "STOPPED"}))
		}
	}
	if err != nil {
		log.From(s.ctx).Error("Could not bring a rebooting instance up again", "instance", i.Name, "err", err)
	}
}

// release frees what the host holds for a container that has ended, and its devices. Every part is
// tried; what fails is logged, and tried again before the next start.
func (s *Service) release(ctx context.Context, i *Instance, l *live, devs []startedDevice) {
	warn := func(what string, err error) {
		if err != nil && !errors.Is(err, context.Canceled) {
			log.From(ctx).Warn("Could not clean up after an instance", "instance", i.Name, "what", what, "err", err)
		}
	}
	l.closeFiles("")
	for n := len(devs) - 1; n >= 0; n-- {
		warn("device "+devs[n].name, devs[n].dev.PostStop(ctx))
	}
	warn("container", s.Engine.Clean(ctx, s.id(i), s.runDir(i)))
	if v, _, err := volume(i); err == nil {
		warn("volume", s.Storage.Unmount(ctx, v))
	}
	warn("run folder", os.RemoveAll(s.runDir(i)))
}

// afterStop is what a stopped instance remembers: no more interfaces on the host,
// and that it need not be started again.
func (s *Service) afterStop(i *Instance) map[string]string {
	changes := map[string]string{volPower: "STOPPED", volReady: ""}
	for k := range i.Config {
		if ofGuest(k) && k != volPower {
			changes[k] = ""
		}
	}
	return changes
}

// ofGuest tells of the notes on a guest that runs, or ran last: they are true of no other.
func ofGuest(key string) bool {
	return key == volPower || key == volReady || hasSuffix(key, ".host_name") || hasSuffix(key, ".last_state.created")
}

func hasSuffix(key, suffix string) bool {
	return len(key) > len(volatilePrefix)+len(suffix) && key[:len(volatilePrefix)] == volatilePrefix && key[len(key)-len(suffix):] == suffix
}
