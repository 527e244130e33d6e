package instance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"sett/lxd/auth"
	"sett/lxd/config"
	"sett/lxd/container"
	"sett/lxd/db"
	"sett/lxd/device"
	"sett/lxd/op"
	"sett/lxd/profile"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// Change is what an update may replace; profiles are given by name.
type Change struct {
	Architecture string
	Description  string
	Ephemeral    bool
	Config       map[string]string
	Devices      map[string]map[string]string
	Profiles     []string
	// Exact refuses the change of an instance that says something else by now than the
	// caller saw.
	Exact bool
}

// Update replaces what an instance says. seen is what the caller saw. A running
// instance follows at once where it can; what it cannot follow is refused.
func (s *Service) Update(ctx context.Context, as auth.Caller, seen *Instance, c Change) error {
	unlock, err := s.lockSoon(ctx, seen.Ref(), op.Doing(ctx, "update"))
	if err != nil {
		return err
	}
	defer unlock()
	now, err := s.loadID(ctx, seen.ID)
	if err != nil {
		return err
	}
	if now == nil || now.Name != seen.Name { // the lock is of the name that it had
		return errs.NotFound("Instance not found")
	}
	if err := s.known(ctx, now); err != nil {
		return err
	}
	if c.Exact && !saysSame(seen, now) {
		return errs.Precondition("Instance %q has been changed meanwhile; look at it again", now.Name)
	}
	return s.update(ctx, as, seen, now, c)
}

// Patch changes what an instance says to what change makes of it. Nobody else changes it
// between the two.
func (s *Service) Patch(ctx context.Context, as auth.Caller, project, name string, change func(*Instance) (Change, error)) error {
	i, unlock, err := s.claim(ctx, project, name, "update")
	if err != nil {
		return err
	}
	defer unlock()
	c, err := change(i)
	if err != nil {
		return err
	}
	return s.update(ctx, as, i, i, c)
}

// saysSame compares all but what the daemon notes itself.
func saysSame(a, b *Instance) bool {
	for k := range config2(a.Config, b.Config) {
		if !strings.HasPrefix(k, volatilePrefix) {
			return false
		}
	}
	return a.Architecture == b.Architecture && a.Ephemeral == b.Ephemeral && maps.EqualFunc(a.Devices, b.Devices, maps.Equal) &&
		slices.EqualFunc(a.Profiles, b.Profiles, func(p, q profile.Profile) bool { return p.ID == q.ID })
}

// update is Update for those who hold the lock; old is what the instance says now.
func (s *Service) update(ctx context.Context, as auth.Caller, seen, old *Instance, c Change) (err error) {
	var refreshed bool
	c.Config, refreshed = s.liveOf(old.ID).keepOwn(old.Config, c.Config)
	// What the daemon itself noted since the caller looked stays, unless the caller
	// changes that very key.
	for k := range config2(shown(seen.Config), shown(old.Config)) {
		if strings.HasPrefix(k, volatilePrefix) && c.Config[k] == seen.Config[k] {
			c.Config = maps.Clone(c.Config)
			if c.Config == nil {
				c.Config = map[string]string{}
			}
			c.Config[k] = old.Config[k]
		}
	}
	n := old.clone()
	n.Description, n.Ephemeral = c.Description, c.Ephemeral
	n.Config, n.Devices = map[string]string{}, map[string]map[string]string{}
	for k, v := range c.Config {
		if v != "" {
			n.Config[k] = v
		}
	}
	for k, d := range c.Devices {
		n.Devices[k] = maps.Clone(d)
		maps.DeleteFunc(n.Devices[k], func(_, v string) bool { return v == "" })
	}
	if c.Architecture != "" {
		n.Architecture = c.Architecture
	}
	if err := s.checkArchitecture(n.Architecture); err != nil {
		return err
	}
	for k := range config2(shown(old.Config), n.Config) {
		if strings.HasPrefix(k, "volatile.sett_") || strings.HasPrefix(k, "volatile.idmap.") || k == volDiskMap || k == volUUID {
			return errs.Invalid("Configuration key %q is the daemon's own and cannot be changed", k)
		}
		if err := checkVolatile(k); n.Config[k] != "" && err != nil {
			return err
		}
	}
	if p := old.Config[volPending]; p == pendingDelete || p == pendingImport || halfDone(p) { // clients do not see it
		n.Config[volPending] = p
	}
	if n.Profiles, err = s.Profiles.LoadMany(ctx, old.Project, c.Profiles); err != nil {
		return err
	}
	if err := checkTwice(n.Profiles); err != nil {
		return err
	}
	if refreshed {
		if err := keepPool(old, n); err != nil {
			return err
		}
	}
	forgetRemoved(old, n)
	noteRoot(old, n)
	if err := s.judge(ctx, as, spec(old), n); err != nil {
		return err
	}
	if err := checkChange(old, n); err != nil {
		return err
	}
	if newGuest(old, n) {
		n.Config[volInstanceID] = uuid.NewString()
		n.expandedConfig = nil
	}
	// The running instance goes first: what it refuses is not stored.
	if err := s.follow(ctx, old, n); err != nil {
		return err
	}
	done(ctx, n.Config)
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		now, err := notedSince(ctx, tx, old, n)
		if err != nil {
			return err
		}
		return store(ctx, tx, now)
	})
	if err != nil {
		ctx, cancel := s.cleanup()
		defer cancel()
		if back := s.follow(ctx, n, old); back != nil {
			log.From(ctx).Warn("Could not take back a live change", "instance", old.Name, "err", back)
		}
		return err
	}
	s.changed(old, n)
	s.tell("instance-updated", n, as.Requestor(), nil)
	return nil
}

// notedSince is n with what has been noted since old was loaded: a guest that ends by itself
// does not wait for the lock of its instance.
func notedSince(ctx context.Context, tx *db.Tx, old, n *Instance) (*Instance, error) {
	all, err := db.Maps(ctx, tx, stmtConfig, db.JSON([]int64{n.ID}))
	if err != nil {
		return nil, err
	}
	now, out := all[n.ID], *n
	out.Config = maps.Clone(n.Config)
	for k := range config2(old.Config, now) {
		if !strings.HasPrefix(k, volatilePrefix) || n.Config[k] != old.Config[k] {
			continue
		}
		if v, ok := now[k]; ok {
			out.Config[k] = v
		} else {
			delete(out.Config, k)
		}
	}
	return &out, nil
}

// forgetRemoved drops what is remembered of devices that an instance loses, so that
// another one of the same name begins afresh.
func forgetRemoved(old, new *Instance) {
	have := new.ExpandedDevices()
	for d := range old.ExpandedDevices() {
		if _, ok := have[d]; ok {
			continue
		}
		maps.DeleteFunc(new.Config, func(k, _ string) bool { _, own := ofDevice(k, d); return own })
	}
	new.expandedConfig = nil
}

// noteRoot remembers the pool of an instance that loses its root disk.
func noteRoot(old, new *Instance) {
	v, _, err := volume(old)
	if _, _, without := rootDevice(new.ExpandedDevices()); err == nil && errors.Is(without, errNoRoot) {
		new.Config[volRootPool] = v.Pool
		new.expandedConfig = nil
	}
}

// config2 is the set of keys in which two maps differ.
func config2(a, b map[string]string) map[string]bool {
	out := map[string]bool{}
	for _, k := range config.Changed(a, b) {
		out[k] = true
	}
	return out
}

// checkChange refuses what an instance cannot become.
func checkChange(old, new *Instance) error {
	oldVol, _, err := volume(old)
	if err != nil {
		return nil
	}
	newVol, _, err := volume(new)
	if err != nil {
		return err
	}
	if oldVol.Pool != newVol.Pool {
		return errs.Invalid("The root disk's pool cannot change from %q to %q; move the instance instead", oldVol.Pool, newVol.Pool)
	}
	return nil
}

// usersOf loads the instances that take a profile.
func (s *Service) usersOf(ctx context.Context, profileID int64) ([]*Instance, error) {
	ids, err := db.Select[int64](ctx, s.DB, stmtProfileUsers, profileID)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	var w db.Where
	return s.load(ctx, s.DB, db.In(&w, "i.id", ids))
}

// loadID loads an instance by its id; nil when it is gone.
func (s *Service) loadID(ctx context.Context, id int64) (*Instance, error) {
	var w db.Where
	all, err := s.load(ctx, s.DB, w.Eq("i.id", id))
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[0], nil
}

// follow makes what is on this host match a change of the effective configuration:
// limits and devices of a running instance, the size of the root volume of any.
func (s *Service) follow(ctx context.Context, old, new *Instance) error {
	var u undo.Stack
	u.OnError = func(err error) {
		log.From(ctx).Warn("Could not take back a live change", "instance", new.Name, "err", err)
	}
	defer u.Run()
	if err := s.followSize(ctx, old, new, &u); err != nil {
		return err
	}
	l := s.liveOf(new.ID)
	st, p := l.get()
	if p != nil && st.alive() {
		if err := s.followLimits(ctx, l, p, old, new, &u); err != nil {
			return err
		}
		if KernelModules.Get(old.ExpandedConfig()) != KernelModules.Get(new.ExpandedConfig()) {
			if err := needModules(ctx, new); err != nil {
				return err
			}
		}
		if err := s.followGuestAPI(ctx, p, old, new, &u); err != nil {
			return err
		}
	}
	if err := s.followDevices(ctx, l, p, old, new, &u); err != nil {
		return err
	}
	u.Commit()
	if LimitCPU.Get(old.ExpandedConfig()) != LimitCPU.Get(new.ExpandedConfig()) {
		s.balance(ctx)
	}
	return nil
}

func (s *Service) followSize(ctx context.Context, old, new *Instance, u *undo.Stack) error {
	v, newRoot, err := volume(new)
	if err != nil {
		return err
	}
	_, oldRoot, err := volume(old)
	if err != nil || oldRoot["size"] == newRoot["size"] {
		return nil
	}
	was, err := rootSize(oldRoot)
	if err != nil {
		return err
	}
	size, err := rootSize(newRoot)
	if err != nil {
		return err
	}
	if err := s.mayLimit(old, size); err != nil {
		return err
	}
	if err := s.Storage.SetSize(ctx, v, size); err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := s.cleanup()
		defer cancel()
		return s.Storage.SetSize(ctx, v, was)
	})
	return nil
}

// mayLimit refuses a limit for a guest that runs without one and has kept the means to get
// round it: see keepInVolume.
func (s *Service) mayLimit(i *Instance, size int64) error {
	l := s.liveOf(i.ID)
	l.mu.Lock()
	dir, runs := l.dir, l.proc != nil
	l.mu.Unlock()
	if size == 0 || !runs || !Nesting.Get(i.ExpandedConfig()) {
		return nil
	}
	isBtrfs, limited, err := limitOf(dir)
	if err == nil && isBtrfs && !limited {
		err = errs.Invalid("Instance %q runs, may nest others and has had no size limit, so it can make btrfs subvolumes, which a limit would not count; stop it first", i.Name)
	}
	return err
}

func (s *Service) followLimits(ctx context.Context, l *live, p container.Process, old, new *Instance, u *undo.Stack) error {
	touched := false
	for k := range config2(old.ExpandedConfig(), new.ExpandedConfig()) {
		touched = touched || strings.HasPrefix(k, "limits.")
	}
	if !touched {
		return nil
	}
	l.mu.Lock()
	was := l.limits
	l.mu.Unlock()
	want, err := s.limits(new)
	if err != nil {
		return err
	}
	if LimitCPU.Get(old.ExpandedConfig()) == LimitCPU.Get(new.ExpandedConfig()) {
		want.CPUSet = was.CPUSet // it stays where it was put
	}
	if err := p.SetLimits(ctx, was, want); err != nil {
		return err
	}
	l.mu.Lock()
	if want.CPUSet == was.CPUSet { // unless it has been moved meanwhile
		want.CPUSet = l.limits.CPUSet
	}
	l.limited(new, want)
	l.mu.Unlock()
	u.Push(func() error {
		ctx, cancel := s.cleanup()
		defer cancel()
		l.mu.Lock()
		l.limited(old, was)
		l.mu.Unlock()
		return p.SetLimits(ctx, want, was)
	})
	return nil
}

// followDevices unplugs what went, updates what can change in place, and plugs in
// what came. p is nil for an instance that is stopped; then devices only get the
// chance to forget what they keep between starts.
func (s *Service) followDevices(ctx context.Context, l *live, p container.Process, old, new *Instance, u *undo.Stack) error {
	was, want := old.ExpandedDevices(), new.ExpandedDevices()
	stays := func(n string) bool {
		return maps.Equal(was[n], want[n]) && (p == nil || maps.Equal(old.effective(was[n]), new.effective(want[n])))
	}
	var gone, came []string
	for _, n := range deviceOrder(was) {
		if !stays(n) {
			gone = append(gone, n)
		}
	}
	for _, n := range deviceOrder(want) {
		if !stays(n) {
			came = append(came, n)
		}
	}
	slices.Reverse(gone)
	isRoot := func(d map[string]string) bool { return d["type"] == "disk" && d["path"] == "/" }
	for _, n := range gone {
		if isRoot(was[n]) {
			continue
		}
		if ok, err := s.updateDevice(ctx, l, p, old, new, n); err != nil {
			return fmt.Errorf("device %q: %w", n, err)
		} else if ok {
			came = slices.DeleteFunc(came, func(x string) bool { return x == n })
			u.Push(func() error {
				ctx, cancel := s.cleanup()
				defer cancel()
				_, err := s.updateDevice(ctx, l, p, new, old, n)
				return err
			})
			continue
		}
		known := remembered(old, n)
		// Pushed first: what a failing unplug has done already is taken back too.
		u.Push(func() error {
			ctx, cancel := s.cleanup()
			defer cancel()
			// A device that comes back is the one that was, its MAC address included.
			if err := s.patchConfig(ctx, old, known); err != nil {
				return err
			}
			var kept undo.Stack
			if err := s.join(ctx, old, n, was[n], &kept); err != nil || p == nil || l.has(n) {
				return err
			}
			return s.plug(ctx, l, p, old, n, was[n])
		})
		if err := s.unplug(ctx, l, p, old, n, was[n], want[n] == nil); err != nil {
			return fmt.Errorf("device %q: %w", n, err)
		}
	}
	for _, n := range came {
		if isRoot(want[n]) {
			continue
		}
		u.Push(func() error {
			ctx, cancel := s.cleanup()
			defer cancel()
			drop := remembered(new, n)
			for k := range drop {
				drop[k] = old.Config[k]
			}
			return s.patchConfig(ctx, new, drop)
		})
		if err := s.join(ctx, new, n, want[n], u); err != nil {
			return fmt.Errorf("device %q: %w", n, err)
		}
		if p == nil {
			continue
		}
		if err := s.plug(ctx, l, p, new, n, want[n]); err != nil {
			return fmt.Errorf("device %q: %w", n, err)
		}
		u.Push(func() error {
			ctx, cancel := s.cleanup()
			defer cancel()
			return s.unplug(ctx, l, p, new, n, want[n], false)
		})
	}
	return nil
}

// has tells whether a device is in the running instance.
func (l *live) has(device string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.devs, func(d startedDevice) bool { return d.name == device })
}

// ofDevice returns what a volatile key of a device tells of it. A device "eth0.5" has
// nothing to do with "eth0", though its keys begin alike.
func ofDevice(key, device string) (string, bool) {
	rest, ok := strings.CutPrefix(key, volatilePrefix+device+".")
	return rest, ok && (!strings.Contains(rest, ".") || strings.HasPrefix(rest, "last_state."))
}

// remembered are the volatile keys of a device.
func remembered(i *Instance, device string) map[string]string {
	out := map[string]string{}
	for k, v := range i.Config {
		if _, own := ofDevice(k, device); own {
			out[k] = v
		}
	}
	return out
}

// updateDevice changes a device in place when its kind can do that with these keys.
func (s *Service) updateDevice(ctx context.Context, l *live, p container.Process, old, new *Instance, name string) (bool, error) {
	was, want := old.ExpandedDevices()[name], new.ExpandedDevices()[name]
	if p == nil || want == nil || was["type"] != want["type"] {
		return false, nil
	}
	k, err := s.kindOf(name, want)
	if err != nil {
		return false, err
	}
	t, err := k.Keys(ctx, s.Services, new.Project, want)
	if err != nil {
		return false, err
	}
	was = old.effective(was)
	changed := config.Changed(was, new.effective(want))
	for _, key := range changed {
		if info, ok := t.Lookup(key); !ok || !info.Live {
			return false, nil
		}
	}
	d, err := s.newDevice(new, name, want, p.PID(), s.mapOf(new), nil)
	if err != nil {
		return false, err
	}
	up, ok := d.(device.Updater)
	if !ok {
		return false, nil
	}
	if err := up.Update(ctx, was, changed); err != nil {
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.devs {
		if l.devs[n].name == name {
			l.devs[n] = startedDevice{name, want, d}
		}
	}
	return true, nil
}

// plug brings a device into a running instance.
func (s *Service) plug(ctx context.Context, l *live, p container.Process, i *Instance, name string, c map[string]string) error {
	k, err := s.kindOf(name, c)
	if err != nil {
		return err
	}
	if !k.HotPlug(c) {
		return errs.Invalid("It cannot be added while the instance runs; stop the instance first")
	}
	d, err := s.newDevice(i, name, c, p.PID(), s.mapOf(i), nil)
	if err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = func(err error) { log.From(ctx).Warn("Could not take back a plug", "device", name, "err", err) }
	defer u.Run()
	plug, err := d.Start(ctx, &u)
	if err != nil {
		return err
	}
	if len(plug.Rules) > 0 {
		if err := p.AllowDevices(ctx, plug.Rules); err != nil {
			return err
		}
	}
	for _, m := range plug.Mounts {
		if err := p.AddMount(ctx, m); err != nil {
			return err
		}
		u.Push(func() error {
			ctx, cancel := s.cleanup()
			defer cancel()
			return p.RemoveMount(ctx, m.Target)
		})
	}
	for _, n := range plug.NICs {
		if err := p.AddNIC(ctx, n); err != nil {
			return err
		}
	}
	u.Commit()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.devs = append(l.devs, startedDevice{name, c, d})
	return nil
}

// unplug takes a device out of an instance, which may be stopped.
func (s *Service) unplug(ctx context.Context, l *live, p container.Process, i *Instance, name string, c map[string]string, forGood bool) error {
	k, err := s.kindOf(name, c)
	if err != nil {
		return err
	}
	pid := 0
	if p != nil {
		pid = p.PID()
		if !k.HotPlug(c) {
			return errs.Invalid("It cannot be removed while the instance runs; stop the instance first")
		}
	}
	d, err := s.newDevice(i, name, c, pid, s.mapOf(i), nil)
	if err != nil {
		return err
	}
	if p != nil {
		out, err := d.Stop(ctx)
		if err != nil {
			return err
		}
		for _, n := range out.NICs {
			if err := p.RemoveNIC(ctx, n.GuestName, n.HostName); err != nil && !errs.Is(err, errs.KindNotFound) {
				return err
			}
		}
		for _, m := range out.Mounts {
			// What is not there any more, because the guest unmounted it or because a daemon
			// died before it had stored that, is out.
			if err := p.RemoveMount(ctx, m); err != nil && !errs.Is(err, errs.KindNotFound) {
				return err
			}
		}
		for n := range out.Rules {
			out.Rules[n].Allow = false
		}
		if len(out.Rules) > 0 {
			if err := p.AllowDevices(ctx, out.Rules); err != nil {
				return err
			}
		}
		// It is out, whatever comes now: who takes this back has to plug it in.
		l.mu.Lock()
		l.devs = slices.DeleteFunc(l.devs, func(x startedDevice) bool { return x.name == name })
		l.mu.Unlock()
		if err := d.PostStop(ctx); err != nil {
			return err
		}
	}
	// Also when it comes back changed: it may have moved to another network, and joins anew.
	if r, ok := d.(device.Remover); ok {
		if err := r.Remove(ctx); err != nil {
			return err
		}
	}
	if !forGood {
		return nil
	}
	// What it remembered goes with it.
	drop := remembered(i, name)
	for key := range drop {
		drop[key] = ""
	}
	return s.patchConfig(ctx, i, drop)
}
