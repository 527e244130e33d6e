package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"sett/lxd/container"
	"sett/lxd/db"
	"sett/lxd/device"
	"sett/lxd/host/idmap"
	"sett/shared/log"
	"sett/shared/undo"
)

// Recover brings the service in line with the host after a start of the daemon:
// containers that run are found again, what a dead daemon left half-made or
// half-deleted is taken back or finished. It answers for the instances of this
// member only and asks nothing of any other.
func (s *Service) Recover(ctx context.Context) error {
	all, err := s.mine(ctx)
	if err != nil {
		return err
	}
	became := newFates()
	var wg sync.WaitGroup
	free := make(chan struct{}, 8)
	for _, i := range all {
		pending := i.Config[volPending]
		if pending == "" && i.Config[volPower] != "RUNNING" && !s.wasStarting(i) {
			continue
		}
		wg.Add(1)
		free <- struct{}{}
		go func() {
			defer func() { <-free; wg.Done() }()
			if pending != "" {
				became.settled(i, pending, s.finish(ctx, i, pending))
				// One that has to be settled may run.
				if !halfDone(pending) || i.Config[volPower] != "RUNNING" && !s.wasStarting(i) {
					return
				}
			}
			s.adopt(ctx, i)
		}()
	}
	wg.Wait()
	for _, i := range all {
		s.stale(i.ID) // the last daemon may have died before it had written the file
	}
	s.balance(ctx)
	return errors.Join(s.sweepAway(ctx), s.sweepSnapshots(ctx, became), s.sweepBackups(ctx, all), s.resolve(ctx, became))
}

// wasStarting tells whether a start was cut off before it was stored: the run
// folder is made first and goes with the container. Devices may have left things
// on the host.
func (s *Service) wasStarting(i *Instance) bool {
	_, err := os.Lstat(s.runDir(i))
	return err == nil
}

func (s *Service) mine(ctx context.Context) ([]*Instance, error) {
	var w db.Where
	return s.load(ctx, s.DB, w.Eq("i.node_id", s.Here.ID()))
}

// finish ends what another life of the daemon began. An error tells that it has not ended.
func (s *Service) finish(ctx context.Context, i *Instance, pending string) error {
	l := log.From(ctx)
	if halfDone(pending) {
		err := s.settle(ctx, i)
		if err != nil { // tried again when somebody needs it
			l.Error("Could not clean up an instance", "instance", i.Name, "after", "an interrupted "+pending, "err", err)
		}
		return err
	}
	if pending == pendingCreate {
		whole, err := s.whole(ctx, i)
		if err == nil && whole {
			err = s.endCreate(ctx, i)
		}
		if err != nil {
			l.Error("Could not tell whether an instance is whole", "instance", i.Name, "err", err)
			_ = s.liveOf(i.ID).set(Errored)
			return err
		}
		if whole {
			return nil
		}
	}
	if err := s.erase(ctx, i); err != nil {
		l.Error("Could not clean up an instance", "instance", i.Name, "after", "an interrupted "+pending, "err", err)
		_ = s.liveOf(i.ID).set(Errored)
		return err
	}
	l.Info("Cleaned up an instance", "instance", i.Name, "after", "an interrupted "+pending)
	s.tell("instance-deleted", i, nil, nil)
	return nil
}

// endCreate does what comes after the volume of a new instance.
func (s *Service) endCreate(ctx context.Context, i *Instance) error {
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	if err := s.Storage.Link(ctx, v); err != nil {
		return err
	}
	var u undo.Stack
	if err := s.newFolders(i, &u); err != nil {
		return err
	}
	return s.patchConfig(ctx, i, map[string]string{volPending: ""})
}

// whole reports whether a create got as far as the volume.
func (s *Service) whole(ctx context.Context, i *Instance) (bool, error) {
	v, _, err := volume(i)
	if err != nil {
		return false, nil // nothing was made that could be found
	}
	return s.Storage.Exists(ctx, v)
}

// adopt finds the container of an instance that ran when the daemon last looked.
func (s *Service) adopt(ctx context.Context, i *Instance) {
	lg := log.From(ctx)
	l := s.liveOf(i.ID)
	unmount := func() {} // for one of which is not known whether it runs
	if v, _, err := volume(i); err == nil {
		if dir, err := s.Storage.Mount(ctx, v); err == nil {
			l.mu.Lock()
			l.dir = dir
			l.mu.Unlock()
			unmount = s.releasing(i, func(ctx context.Context) error { return s.Storage.Unmount(ctx, v) })
		} else {
			lg.Warn("Could not mount the volume of an instance", "instance", i.Name, "err", err)
		}
	}
	if err := s.sweep(ctx, i); err != nil {
		lg.Warn("Could not clean up after a device", "instance", i.Name, "err", err)
	}
	p, err := s.Engine.Find(ctx, s.id(i), s.runDir(i))
	devs := s.adoptDevices(i, p)
	switch {
	case errors.Is(err, container.ErrNotRunning):
		// It ended while nobody watched, or was killed in the middle of its start.
		s.release(ctx, i, l, devs)
		return
	case err != nil:
		lg.Error("Could not find the container of an instance", "instance", i.Name, "err", err)
		unmount()
		_ = l.set(Errored)
		return
	}
	lim, err := s.limits(i)
	if err != nil {
		lg.Warn("Could not read the limits of an instance", "instance", i.Name, "err", err)
	}
	s.letGo(ctx, i, p)
	if n, _, _ := parseCPU(LimitCPU.Get(i.ExpandedConfig())); n > 0 {
		lim.CPUSet = "" // where it is the last daemon knew; it is placed anew
	}
	s.begin(i, l, p, devs, lim)
	for _, d := range slices.Clone(devs) { // which those that are plugged in anew change
		if err := s.settleDevice(ctx, i, l, p, d); err != nil {
			lg.Warn("Could not take back the change of a device that was not stored", "instance", i.Name, "device", d.name, "err", err)
		}
	}
	if st, err := p.State(ctx); err == nil && (st == container.Frozen || st == container.Freezing) {
		l.froze()
	}
}

// lookAgain settles the state of an instance that could not be looked at when the
// daemon started: as long as nobody knows whether it runs, nothing may be done to it.
func (s *Service) lookAgain(ctx context.Context, i *Instance) error {
	l := s.liveOf(i.ID)
	if st, _ := l.get(); st != Errored {
		return nil
	}
	_, err := s.Engine.Find(ctx, s.id(i), s.runDir(i))
	over := errors.Is(err, container.ErrNotRunning)
	if err != nil && !over {
		return fmt.Errorf("Cannot tell whether instance %q is running: %w", i.Name, err)
	}
	s.adopt(ctx, i) // also of one that has ended, of which things may be left on the host
	if over {
		return l.set(Stopped)
	}
	return nil
}

func (s *Service) adoptDevices(i *Instance, p container.Process) []startedDevice {
	pid := 0
	if p != nil {
		pid = p.PID()
	}
	var out []startedDevice
	devs := i.ExpandedDevices()
	for _, n := range deviceOrder(devs) {
		if devs[n]["type"] == "disk" && devs[n]["path"] == "/" {
			continue
		}
		if d, err := s.newDevice(i, n, devs[n], pid, s.mapOf(i), nil); err == nil {
			out = append(out, startedDevice{n, devs[n], d})
		}
	}
	return out
}

// settleDevice brings a device of a running instance to what is stored: a daemon may have
// been killed before it had stored a change.
func (s *Service) settleDevice(ctx context.Context, i *Instance, l *live, p container.Process, d startedDevice) error {
	st, ok := d.dev.(device.Settler)
	if !ok {
		return nil
	}
	if ok, err := st.Settle(ctx); ok || err != nil {
		return err
	}
	if err := s.unplug(ctx, l, p, i, d.name, d.config, false); err != nil {
		return err
	}
	var u undo.Stack
	if err := s.join(ctx, i, d.name, d.config, &u); err != nil {
		return err
	}
	return s.plug(ctx, l, p, i, d.name, d.config)
}

// mapOf is the id map that a running instance has.
func (s *Service) mapOf(i *Instance) idmap.Map {
	m, err := idmap.Parse(i.Config[volMapCurrent])
	if err != nil {
		return nil
	}
	return m
}

func wantsStart(i *Instance) bool {
	switch v := Autostart.Get(i.ExpandedConfig()); v {
	case "":
		return i.Config[volPower] == "RUNNING"
	default:
		return isTrue(v)
	}
}

// NeedsDaemon reports whether any instance wants to be started with the host.
func (s *Service) NeedsDaemon(ctx context.Context) (bool, error) {
	all, err := s.mine(ctx)
	return slices.ContainsFunc(all, wantsStart), err
}

// shutdownGrace is how long a shutdown waits for work on an instance that does not
// end with its operation.
const shutdownGrace = 30 * time.Second

// Shutdown stops all instances because the host goes down, those with the highest
// boot.stop.priority first; those of one priority together. What was running is to
// run again after the next start.
func (s *Service) Shutdown(ctx context.Context, force bool) {
	lg := log.From(ctx)
	s.down.Store(true)
	all, err := s.mine(ctx)
	if err != nil {
		lg.Error("Could not load the instances to stop", "err", err)
		return
	}
	groups := map[int64][]*Instance{}
	for _, i := range all {
		if st := s.State(i.ID); st.alive() || st == Starting || st == Errored {
			p := StopPriority.Get(i.ExpandedConfig())
			groups[p] = append(groups[p], i)
		}
	}
	var order []int64
	for p := range groups {
		order = append(order, p)
	}
	slices.Sort(order)
	slices.Reverse(order)
	for _, p := range order {
		var wg sync.WaitGroup
		for _, i := range groups[p] {
			wg.Add(1)
			go func() {
				defer wg.Done()
				s.shutdownOne(ctx, i, force)
			}()
		}
		wg.Wait()
	}
}

func (s *Service) shutdownOne(ctx context.Context, i *Instance, force bool) {
	lg := log.From(ctx)
	o := StopOptions{Force: force, Timeout: ShutdownTimeout.Get(i.ExpandedConfig())}
	// Somebody may be at work on it: a start, or a stop that waits.
	wait, cancel := context.WithTimeout(ctx, o.Timeout+shutdownGrace)
	defer cancel()
	unlock, err := s.Locks.Lock(wait, "shutdown", i.Ref())
	if err != nil {
		lg.Error("Could not stop an instance", "instance", i.Name, "err", err)
		return
	}
	defer unlock()
	now, err := s.loadID(ctx, i.ID)
	if err == nil && now == nil {
		return
	}
	if err == nil {
		err = s.lookAgain(ctx, now)
	}
	if err == nil {
		if !s.State(now.ID).alive() {
			return
		}
		if err = s.stopLocked(ctx, now, o, nil); err != nil && !force {
			err = s.stopLocked(ctx, now, StopOptions{Force: true}, nil)
		}
	}
	if err != nil {
		lg.Error("Could not stop an instance", "instance", i.Name, "err", err)
		return
	}
	if now.Ephemeral {
		return
	}
	if err := s.patchConfig(ctx, now, map[string]string{volPower: "RUNNING"}); err != nil {
		lg.Warn("Could not note that an instance ran", "instance", i.Name, "err", err)
	}
}
