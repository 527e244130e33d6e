package instance

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/db"
	"sett/lxd/device"
	"sett/lxd/event"
	"sett/lxd/host/btrfs"
	"sett/lxd/host/idmap"
	"sett/lxd/host/module"
	"sett/lxd/host/seccomp"
	"sett/lxd/op"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// starting is what the steps of a start hand on to each other.
type starting struct {
	s    *Service
	i    *Instance
	l    *live
	undo undo.Stack
	spec container.Spec

	volume  Volume
	changes map[string]string // volatile keys to be stored, in one go
	devs    []startedDevice
}

// Start brings an instance up. It returns when its init runs.
func (s *Service) Start(ctx context.Context, project, name string, by *event.Requestor) error {
	i, unlock, err := s.claim(ctx, project, name, "start")
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.startAsked(ctx, i); err != nil {
		return err
	}
	s.tell("instance-started", i, by, nil)
	return nil
}

// startAsked is Start for those who hold the lock.
func (s *Service) startAsked(ctx context.Context, i *Instance) error {
	if err := s.mayStart(ctx, i); err != nil {
		return err
	}
	s.snapAtStartup(ctx, i)
	return s.bringUp(ctx, i)
}

// start brings up again what has ended, for those who hold the lock. However often a guest
// reboots or falls, it gets no snapshot of its startup: they would fill the pool.
func (s *Service) start(ctx context.Context, i *Instance) error {
	if err := s.mayStart(ctx, i); err != nil {
		return err
	}
	return s.bringUp(ctx, i)
}

// mayStart refuses to start what runs, and what cannot be.
func (s *Service) mayStart(ctx context.Context, i *Instance) error {
	if err := require(i.Name, "start", s.State(i.ID), Stopped); err != nil {
		return err
	}
	if err := s.settle(ctx, i); err != nil {
		return err
	}
	return s.checkEffective(ctx, i)
}

func (s *Service) bringUp(ctx context.Context, i *Instance) (err error) {
	l := s.liveOf(i.ID)
	if err := l.set(Starting); err != nil {
		return err
	}
	// Looked at last: a shutdown that did not see the state above is seen here.
	if s.down.Load() {
		_ = l.set(Stopped)
		return errs.Unavailable("Instance %q cannot start: the daemon is shutting down", i.Name)
	}
	do := &starting{s: s, i: i, l: l, changes: map[string]string{}}
	do.undo.OnError = func(err error) { log.From(ctx).Warn("Could not take back a start", "instance", i.Name, "err", err) }
	defer func() {
		if err != nil {
			do.undo.Run()
			_ = l.set(Stopped)
		}
	}()
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"prepare", do.prepare}, {"load kernel modules", do.modules}, {"mount the root volume", do.mount}, {"map ids", do.mapIDs}, {"choose the system calls", do.syscalls}, {"render templates", do.templates},
		{"start devices", do.devices}, {"set limits", do.limits}, {"store what was decided", do.store},
		{"start the container", do.run},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		op.Step(ctx, "%s", step.name)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("Failed to %s: %w", step.name, err)
		}
	}
	do.undo.Commit()
	s.balance(ctx)
	return nil
}

// prepare makes the folders and fills in what follows from the configuration alone.
func (st *starting) prepare(ctx context.Context) error {
	i, s := st.i, st.s
	cfg := i.ExpandedConfig()
	run := s.runDir(i)
	for _, d := range []string{s.LogDir(i.Project, i.Name), s.devicesDir(i)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	st.l.touch()
	st.l.closeIdle()
	if err := s.sweep(ctx, i); err != nil {
		return err
	}
	// liblxc looks, with the container's ids, whether it can get here.
	if err := os.MkdirAll(run, 0o711); err != nil {
		return err
	}
	st.undo.Push(func() error { return os.RemoveAll(run) })
	logs := s.LogDir(i.Project, i.Name)
	st.spec = container.Spec{
		ID: s.id(i), Hostname: i.Name, Nesting: Nesting.Get(cfg), LXCFS: s.LXCFS(),
		LogFile: logs + "/lxc.log", LogLevel: "warn", ConsoleLog: logs + "/console.log", ConsoleSize: ConsoleLogSize, RunDir: run,
	}
	if i.Architecture != s.Architecture {
		st.spec.Arch = i.Architecture
	}
	for _, k := range slices.Sorted(maps.Keys(cfg)) {
		if name, ok := strings.CutPrefix(k, "environment."); ok {
			st.spec.InitEnv = append(st.spec.InitEnv, name+"="+cfg[k])
		}
	}
	st.changes[volPower], st.changes[volApply], st.changes[volReady] = "RUNNING", "", ""
	if GuestAPI.Get(cfg) {
		st.spec.Mounts = append(st.spec.Mounts, s.guestMount())
	}
	st.changes[volPending] = "" // the lock is ours, so a create has ended
	return nil
}

func (st *starting) modules(ctx context.Context) error { return needModules(ctx, st.i) }

// needModules has the kernel load what an instance asks for.
func needModules(ctx context.Context, i *Instance) error {
	names, err := module.Parse(KernelModules.Get(i.ExpandedConfig()))
	if err != nil {
		return err
	}
	return module.Kernel{}.Need(ctx, names)
}

func (st *starting) mount(ctx context.Context) error {
	var err error
	var root map[string]string
	if st.volume, root, err = volume(st.i); err != nil {
		return err
	}
	if root == nil {
		return errNoRoot
	}
	dir, err := st.s.Storage.Mount(ctx, st.volume)
	if err != nil {
		return err
	}
	st.undo.Push(func() error {
		ctx, cancel := st.s.cleanup()
		defer cancel()
		return st.s.Storage.Unmount(ctx, st.volume)
	})
	st.l.mu.Lock()
	st.l.dir = dir
	st.l.mu.Unlock()
	st.spec.Rootfs.Path = dir + "/rootfs"
	if _, err := os.Lstat(st.spec.Rootfs.Path); err != nil {
		return errs.Invalid("The instance has no root file system; it was made without an image")
	}
	return st.keepInVolume()
}

// keepInVolume takes the means from a guest to make btrfs subvolumes, whose contents
// no size limit of its volume would count. The answer is that of a file system that
// knows none, with which programs cope. Guests that may nest others keep them as long
// as they have no limit: tools for containers like to use them.
func (st *starting) keepInVolume() error {
	isBtrfs, limited, err := limitOf(st.spec.Rootfs.Path)
	if err != nil || !isBtrfs || st.spec.Nesting && !limited {
		return err
	}
	for _, call := range btrfs.SubvolumeCalls() {
		st.spec.Seccomp.Rules = append(st.spec.Seccomp.Rules, seccomp.DenyIoctl(call, int(unix.ENOTTY)))
	}
	return nil
}

// limitOf tells of a folder whether it is in a volume of btrfs, and whether that has a
// limit, of its own or by its pool.
func limitOf(path string) (isBtrfs, limited bool, err error) {
	d, err := btrfs.Open(path)
	if err != nil {
		return false, false, nil // no folder of ours to say anything about
	}
	defer d.Close()
	if isBtrfs, err = d.IsBtrfs(); err != nil || !isBtrfs {
		return false, false, err
	}
	limited, err = d.Limited()
	return true, limited, err
}

// mapIDs decides the id map and how the tree on disk gets to it. The ids on disk
// and the ids in use are recorded apart: with idmapped mounts the disk keeps the
// guest's own ids for ever.
func (st *starting) mapIDs(ctx context.Context) error {
	i := st.i
	var want idmap.Map
	base := "0"
	if !Privileged.Get(i.ExpandedConfig()) {
		var err error
		if want, base, err = st.s.mapFor(ctx, i); err != nil {
			return err
		}
	}
	onDisk, err := idmap.Parse(i.Config[volDiskMap])
	if err != nil {
		return fmt.Errorf("%s: %w", volDiskMap, err)
	}
	root := st.spec.Rootfs.Path
	target := want
	if !want.Empty() && st.s.IDs.Mountable(ctx, root) {
		target = nil
		st.spec.Rootfs.Idmapped = true
	}
	if !onDisk.Equal(target) {
		if Unshifted.Get(i.ExpandedConfig()) {
			return errs.Invalid("The ids of the instance's files would have to be changed, which %s forbids", Unshifted.Name())
		}
		// Noted at once: the disk has changed whether or not the start succeeds.
		if err := st.s.shift(ctx, i, onDisk, target); err != nil {
			return err
		}
	}
	st.spec.IDMap = want
	st.changes[volMapBase] = base
	st.changes[volMapCurrent] = want.String()
	st.changes[volMapNext] = want.String()
	return nil
}

func (st *starting) devices(ctx context.Context) error {
	devs := st.i.ExpandedDevices()
	for _, name := range deviceOrder(devs) {
		d := devs[name]
		if d["type"] == "disk" && d["path"] == "/" {
			st.spec.Rootfs.ReadOnly = d["readonly"] == "true"
			continue // the root volume is mounted already
		}
		dev, err := st.s.newDevice(st.i, name, d, 0, st.spec.IDMap, st.keep)
		if err != nil {
			return err
		}
		plug, err := dev.Start(ctx, &st.undo)
		if err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
		st.spec.Mounts = append(st.spec.Mounts, plug.Mounts...)
		st.spec.NICs = append(st.spec.NICs, plug.NICs...)
		st.spec.DeviceRules = append(st.spec.DeviceRules, plug.Rules...)
		st.devs = append(st.devs, startedDevice{name, d, dev})
	}
	return nil
}

// keep collects the volatile keys that devices want stored; store writes them all
// in one transaction.
func (st *starting) keep(_ context.Context, changes map[string]string) error {
	maps.Copy(st.changes, changes)
	return nil
}

func (st *starting) limits(context.Context) (err error) {
	cfg := st.i.ExpandedConfig()
	st.spec.Rlimits, st.spec.Sysctl = map[string]string{}, map[string]string{}
	for k, v := range cfg {
		if name, ok := strings.CutPrefix(k, kernelPrefix); ok && v != "" {
			st.spec.Rlimits[name] = v
		}
		if name, ok := strings.CutPrefix(k, sysctlPrefix); ok && v != "" {
			st.spec.Sysctl[name] = v
		}
	}
	st.spec.RawLXC = RawLXC.Get(cfg)
	st.spec.Limits, err = st.s.limits(st.i)
	return err
}

func (st *starting) store(ctx context.Context) error {
	now := time.Now().UTC()
	for k, v := range st.changes {
		if st.i.Config[k] == v {
			delete(st.changes, k)
		}
	}
	before := map[string]string{}
	for k := range st.changes {
		before[k] = st.i.Config[k]
	}
	err := st.s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := patch(ctx, tx, st.i.ID, st.changes); err != nil {
			return err
		}
		_, err := db.Exec(ctx, tx, stmtUsed, now, st.i.ID)
		return err
	})
	if err != nil {
		return err
	}
	merge(st.i, st.changes)
	st.undo.Push(func() error {
		ctx, cancel := st.s.cleanup()
		defer cancel()
		return st.s.patchConfig(ctx, st.i, before)
	})
	return nil
}

// longestStart bounds the start of a container, which takes a fraction of a second unless a
// mount waits for a device or a server that does not answer.
const longestStart = 5 * time.Minute

func (st *starting) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, longestStart)
	defer cancel()
	proc, err := st.s.Engine.Start(ctx, st.spec)
	if err != nil {
		return err
	}
	st.s.begin(st.i, st.l, proc, st.devs, st.spec.Limits)
	return nil
}

// newDevice makes the device of a configuration. keep stores volatile keys; nil
// means that each change is stored at once.
func (s *Service) newDevice(i *Instance, name string, c map[string]string, pid int, ids idmap.Map,
	keep func(context.Context, map[string]string) error) (device.Device, error) {
	k, err := s.kindOf(name, c)
	if err != nil {
		return nil, err
	}
	if keep == nil {
		keep = func(ctx context.Context, changes map[string]string) error { return s.patchConfig(ctx, i, changes) }
	}
	prefix := volatilePrefix + name + "."
	vol := map[string]string{}
	for key, v := range i.Config {
		if rest, ok := ofDevice(key, name); ok {
			vol[rest] = v
		}
	}
	l := s.liveOf(i.ID)
	l.mu.Lock()
	dir := l.dir
	l.mu.Unlock()
	return k.New(device.Env{
		Instance: device.Instance{Project: i.Project, Name: i.Name, Privileged: ids.Empty(), IDMap: ids, Path: dir, DevicesDir: s.devicesDir(i), PID: pid},
		Name:     name, Config: i.effective(c), Volatile: vol, GuestNames: guestNames(i, name), Services: s.Services,
		SaveVolatile: func(ctx context.Context, changes map[string]string) error {
			full := map[string]string{}
			for key, v := range changes {
				full[prefix+key] = v
			}
			return keep(ctx, full)
		},
	})
}
