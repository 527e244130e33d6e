package instance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sett/lxd/auth"
	"sett/lxd/device"
	"sett/lxd/profile"
	"sett/lxd/project"
	"sett/shared/errs"
)

// CheckConfig validates the keys of a profile or an instance.
func (s *Service) CheckConfig(c map[string]string) error {
	if err := s.keys.Validate(c); err != nil {
		return err
	}
	if err := checkSyscalls(c); err != nil {
		return err
	}
	for k := range c {
		if name, ok := strings.CutPrefix(k, sysctlPrefix); ok {
			if err := checkSysctl(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSysctl refuses settings that an instance has not of its own: an unprivileged
// one could not start with them, and a privileged one would change the host.
func checkSysctl(name string) error {
	name = strings.ReplaceAll(name, "/", ".")
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r) {
			return errs.Invalid("%q is no name of a kernel setting", name)
		}
	}
	if !strings.Contains(name, "..") && !strings.HasSuffix(name, ".") {
		for _, own := range []string{"net.", "fs.mqueue.", "user.", "kernel.shm", "kernel.msg"} {
			if strings.HasPrefix(name, own) {
				return nil
			}
		}
		switch name {
		case "kernel.sem", "kernel.domainname", "kernel.sem_next_id":
			return nil
		}
	}
	return errs.Invalid("%s%s is not a setting that an instance has of its own; those of net, fs.mqueue, user and kernel's for messages, semaphores and shared memory are", sysctlPrefix, name)
}

// checkTwice refuses a profile that is named twice.
func checkTwice(ps []profile.Profile) error {
	seen := map[int64]bool{}
	for _, p := range ps {
		if seen[p.ID] {
			return errs.Invalid("Profile %q is named twice", p.Name)
		}
		seen[p.ID] = true
	}
	return nil
}

// checkVolatile refuses volatile keys that mean nothing: those of the instance have
// their names, those of a device end in what they tell of it.
func checkVolatile(key string) error {
	rest, ok := strings.CutPrefix(key, volatilePrefix)
	if !ok {
		return nil
	}
	switch key {
	case volPower, volDiskMap, volMapBase, volMapCurrent, volMapNext, volUUID, volInstanceID, volBaseImage, volApply, volReady,
		"volatile.evacuate.origin", "volatile.apply_nvram", "volatile.vsock_id":
		return nil
	}
	if dot := strings.LastIndex(rest, "."); dot > 0 {
		switch rest[dot+1:] {
		case "hwaddr", "name", "host_name", "mtu", "created", "apply_quota", "driver", "uuid", "ceph_rbd", "parent", "id", "hostname", "spoofcheck", "vlan":
			return nil
		}
		if strings.Contains(rest, ".last_state.") {
			return nil
		}
	}
	return errs.Invalid("Unknown configuration key %q", key)
}

// CheckDevices validates the devices of a profile. They may be incomplete: the path of
// a disk can come from the instance.
func (s *Service) CheckDevices(ctx context.Context, project string, devs map[string]map[string]string) error {
	whole := maps.Clone(devs)
	for n, d := range devs {
		if d["type"] == "disk" && d["path"] == "" && d["source"] != "" {
			whole[n] = maps.Clone(d)
			whole[n]["path"] = "/any"
		}
	}
	return s.checkDevices(ctx, project, whole)
}

// checkDevices validates devices one by one.
func (s *Service) checkDevices(ctx context.Context, project string, devs map[string]map[string]string) error {
	for _, n := range slices.Sorted(maps.Keys(devs)) {
		if err := s.Devices.Validate(ctx, s.Services, project, n, devs[n]); err != nil {
			return err
		}
	}
	return nil
}

// judge is checkEffective for what a caller asks for: what was there before may stay, and
// what is new must not give him more than he has.
func (s *Service) judge(ctx context.Context, as auth.Caller, was project.Spec, i *Instance) error {
	if err := project.CheckHost(as, was, spec(i)); err != nil {
		return err
	}
	return s.checkEffective(ctx, i)
}

// spec is what an instance says itself, without its profiles: those were judged when
// they were written.
func spec(i *Instance) project.Spec { return project.Spec{Config: i.Config, Devices: i.Devices} }

// checkEffective is the one place that judges an instance as it would become,
// profiles included. Whatever writes instances comes through here, and through judge
// where somebody has asked for it.
func (s *Service) checkEffective(ctx context.Context, i *Instance) error {
	cfg := i.ExpandedConfig()
	if err := s.CheckConfig(cfg); err != nil {
		return err
	}
	if Privileged.Get(cfg) && s.UnprivilegedOnly {
		return errs.Forbidden("Privileged instances are not allowed on this server (LXD_UNPRIVILEGED_ONLY)")
	}
	devs := i.ExpandedDevices()
	if err := s.checkDevices(ctx, i.Project, devs); err != nil {
		return err
	}
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	if err := s.Storage.CheckPool(ctx, v.Pool); err != nil {
		return err
	}
	return checkClashes(devs)
}

// checkClashes refuses devices that want one place inside.
func checkClashes(devs map[string]map[string]string) error {
	paths, nics := map[string]string{}, map[string]string{}
	for _, n := range slices.Sorted(maps.Keys(devs)) {
		d := devs[n]
		var at map[string]string
		var key string
		switch d["type"] {
		case "disk":
			at, key = paths, d["path"]
		case "nic":
			at, key = nics, d["name"]
		}
		if key == "" {
			continue
		}
		if other, ok := at[key]; ok {
			return errs.Invalid("Devices %q and %q both want %q inside the instance", other, n, key)
		}
		at[key] = n
	}
	return nil
}

// BeforeProfile refuses a change of a profile that one of its instances could not bear.
func (s *Service) BeforeProfile(ctx context.Context, old, new profile.Profile) error {
	users, err := s.usersOf(ctx, old.ID)
	if err != nil {
		return err
	}
	for _, i := range users {
		n := withProfile(i, new)
		if err := s.checkEffective(ctx, n); err != nil {
			return fmt.Errorf("Instance %q could not take the profile: %w", i.Name, err)
		}
		if err := checkChange(i, n); err != nil {
			return fmt.Errorf("Instance %q could not take the profile: %w", i.Name, err)
		}
	}
	return nil
}

// AfterProfile makes the running instances of a profile follow. All are tried; what
// went wrong is reported together.
func (s *Service) AfterProfile(ctx context.Context, old profile.Profile) error {
	// The profile is stored; a client that goes away does not change that.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), profileTime)
	defer cancel()
	users, err := s.usersOf(ctx, old.ID)
	if err != nil {
		return err
	}
	there := make(chan error, 1)
	go func() { there <- s.followElsewhere(ctx, users, old) }()
	err = s.followHere(ctx, users, old)
	if e := <-there; e != nil {
		err = errors.Join(err, errs.Internal("The profile is stored, but running instances of other members did not follow: %w", e))
	}
	return err
}

// followHere has the instances of this member, which hold the new profile already,
// follow its change, a few at a time. Those that are busy keep nobody else waiting, and those
// whose turn has not come are not busy with it.
func (s *Service) followHere(ctx context.Context, users []*Instance, old profile.Profile) error {
	results := make([]error, len(users))
	free := make(places, atOnce)
	var wg sync.WaitGroup
	for n, i := range users {
		if s.local(i) {
			wg.Go(func() { results[n] = s.followProfile(ctx, i, old, free) })
		}
	}
	wg.Wait()
	failed := ""
	for n, err := range results {
		if err != nil {
			failed += fmt.Sprintf("\n - Instance %q: %v", users[n].Name, err)
		}
	}
	if failed != "" {
		return errs.Internal("The profile is stored, but some running instances did not follow:%s", failed)
	}
	return nil
}

// profileTime is how long the instances of a profile have to follow it. One that is
// busy is waited for.
const profileTime = 2 * time.Minute

// followProfile makes one instance follow a profile of its own that said old before, when it
// has a place among those that do.
func (s *Service) followProfile(ctx context.Context, i *Instance, old profile.Profile, free places) error {
	doing := "change of profile " + old.Name
	if err := free.take(ctx); err != nil {
		return err
	}
	unlock, err := s.Locks.TryLock(doing, i.Ref())
	if err != nil { // others go first
		free.give()
		if unlock, err = s.Locks.Lock(ctx, doing, i.Ref()); err != nil {
			return err
		}
		if err := free.take(ctx); err != nil {
			unlock()
			return err
		}
	}
	defer free.give()
	defer unlock()
	now, err := s.loadID(ctx, i.ID)
	if err != nil || now == nil || now.Name != i.Name || !s.local(now) {
		return err // gone meanwhile
	}
	if err := s.known(ctx, now); err != nil {
		return err
	}
	// It may have been changed since BeforeProfile looked at it.
	if err := s.checkEffective(ctx, now); err != nil {
		return err
	}
	before := withProfile(now, old)
	s.asRunning(before, now)
	config := now.Config
	if err := s.follow(ctx, before, now); err != nil {
		return err
	}
	drop := map[string]string{}
	for k := range config {
		if _, ok := now.Config[k]; !ok {
			drop[k] = ""
		}
	}
	s.changed(before, now)
	return s.patchConfig(ctx, now, drop)
}

// places are as many as do something at a time.
type places chan struct{}

func (p places) take(ctx context.Context) error {
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return errs.Unavailable("others took too long, and its turn did not come: %w", ctx.Err())
	}
}

func (p places) give() { <-p }

// asRunning corrects what an instance had before by what runs: one that was started
// after the profile had been stored has the new devices already.
func (s *Service) asRunning(before, now *Instance) {
	l := s.liveOf(now.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proc == nil {
		return
	}
	devs := maps.Clone(before.ExpandedDevices())
	want := now.ExpandedDevices()
	for _, d := range l.devs {
		if maps.Equal(d.config, want[d.name]) {
			devs[d.name] = d.config
		}
	}
	before.expandedDevices = devs
}

// withProfile is an instance with another version of one of its profiles.
func withProfile(i *Instance, p profile.Profile) *Instance {
	n := i.clone()
	for k := range n.Profiles {
		if n.Profiles[k].ID == p.ID {
			n.Profiles[k] = p
		}
	}
	return n
}

var _ profile.Instances = (*Service)(nil)

// kindOf finds the kind of a device, for what depends on it.
func (s *Service) kindOf(name string, c map[string]string) (device.Kind, error) {
	return s.Devices.Kind(name, c)
}
