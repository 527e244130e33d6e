package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/config"
	"sett/lxd/container"
	"sett/lxd/db"
	"sett/lxd/device"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/host/render"
	"sett/lxd/instance/template"
	"sett/lxd/lock"
	"sett/lxd/op"
	"sett/lxd/profile"
	"sett/shared/errs"
)

// Deps are what the service is built from.
type Deps struct {
	DB       *db.DB
	Bus      *event.Bus
	Ops      *op.Manager
	Locks    *lock.Manager
	Log      *slog.Logger
	Profiles *profile.Service
	Engine   container.Engine
	Devices  *device.Registry
	Services device.Services // what devices ask of other slices
	Storage  Storage
	Images   Images
	IDs      IDs
	Unpacker Unpacker
	// Pause is how long an instance that ends by itself again and again stays down
	// after so many times; nil stands for the usual.
	Pause func(falls int) time.Duration
	// Templates makes text of the templates of images.
	Templates template.Renderer

	Dir          string        // LXD_DIR
	Daemon       string        // short name of this LXD_DIR, for cgroups and sockets
	Here         *cluster.Here // this member
	Relay        *relay.Relay  // the way to the others
	Architecture string        // of the host
	LXCFS        func() string
	// UnprivilegedOnly refuses privileged instances on this server.
	UnprivilegedOnly bool
}

// Service holds the rules of instances and watches those that run.
type Service struct {
	Deps
	keys config.Table

	ctx  context.Context // ends with the daemon
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu        sync.Mutex
	live      map[int64]*live
	maps      sync.Mutex     // held while an instance gets ids of its own
	balancing sync.Mutex     // held while instances move between CPUs
	old       map[int64]bool // whose backup.yaml is to be written again

	watcher Watcher
	down    atomic.Bool // the host goes down: nothing is started any more
}

// New makes the service. Recover brings it to life.
func New(ctx context.Context, d Deps) *Service {
	ctx, stop := context.WithCancel(ctx)
	if d.LXCFS == nil {
		d.LXCFS = func() string { return "" }
	}
	if d.Pause == nil {
		d.Pause = pause
	}
	if d.Templates == nil {
		d.Templates = render.Jail{}
	}
	return &Service{Deps: d, keys: Keys(), ctx: ctx, stop: stop, live: map[int64]*live{}, old: map[int64]bool{}}
}

// live is what is known of an instance beyond its rows: its state, and the process
// while there is one.
type live struct {
	mu sync.Mutex
	// touched counts those who may have written to its files: see touch.
	touched int
	state   State
	proc    container.Process
	devs    []startedDevice // in the order of their start
	dir     string          // where its volume is mounted
	// gone is closed when the process has ended and all has been cleaned up.
	gone chan struct{}
	// quiet: the end of the process is part of a restart, nobody is told of it.
	quiet bool
	// asked: somebody stops it, and goes on from there once gone is closed.
	asked bool
	// over: the process has ended and watch has read asked and quiet. Who asked
	// cannot take it back any more.
	over   bool
	stop   *patient         // that waits for the guest; nil: nobody does
	limits container.Limits // in force
	cpus   []int            // to which it is tied
	count  int              // how many it may have, no matter which; 0: not so
	// files is who has access to its files.
	files map[*Files]bool
	idle  []*Files // of them, those that wait for the next user
	shut  int      // how many keep everybody from the files; see shutFiles
	turn  int      // counts those
	// readings is who reads what is the instance's.
	readings map[*reading]bool
	// keeping is held while backup.yaml is written, and by those who take the volume away.
	keeping sync.Mutex
	// held is there while the guest stands still for a moment, and closed after it.
	held chan struct{}

	// twin is what was noted of the instance that this one was refreshed from, and when; see
	// keepOwn.
	twin    map[string]string
	twinned time.Time

	told  time.Time // when the guest may say again whether it is ready
	begun time.Time // when the process was found or started
	falls int       // how often it has ended by itself in short order
	rest  *revival  // the pause before it is started again; nil: there is none
}

type startedDevice struct {
	name   string
	config device.Config
	dev    device.Device
}

func (s *Service) liveOf(id int64) *live {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.live[id]
	if l == nil {
		l = &live{}
		s.live[id] = l
	}
	return l
}

func (s *Service) forget(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.live, id)
}

func (l *live) get() (State, container.Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.proc
}

// set moves to another state if the table allows it.
func (l *live) set(to State) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != to && !may(l.state, to) {
		return errs.Invalid("An instance that is %s cannot become %s", l.state, to)
	}
	l.state = to
	return nil
}

// step moves on from one state if the instance is still in it and the table allows it:
// it may have ended meanwhile.
func (l *live) step(from, to State) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != from || !may(from, to) {
		return errs.Invalid("The instance has become %s meanwhile", l.state)
	}
	l.state = to
	return nil
}

// froze notes that a guest that is taken to run is frozen.
func (l *live) froze() {
	if l.step(Running, Freezing) == nil {
		_ = l.step(Freezing, Frozen) // unless it has ended
	}
}

// State is where an instance stands now.
func (s *Service) State(id int64) State {
	st, _ := s.liveOf(id).get()
	return st
}

// heldTime is how long those wait who come while a guest is held still.
const heldTime = 30 * time.Second

// Process gives the process of an instance that runs, for exec and the like.
func (s *Service) Process(i *Instance) (container.Process, error) {
	l := s.liveOf(i.ID)
	l.mu.Lock()
	held := l.held
	l.mu.Unlock()
	if held != nil {
		t := time.NewTimer(heldTime)
		defer t.Stop()
		select {
		case <-held:
		case <-t.C:
		case <-s.ctx.Done():
		}
	}
	st, p := l.get()
	switch {
	case st == Frozen:
		return nil, errs.Invalid("The instance is frozen")
	case p == nil || st != Running && st != Stopping:
		return nil, errs.Invalid("The instance is not running")
	}
	return p, nil
}

// Alive gives the process of an instance that has one, whatever it is doing; nil
// when it has none.
func (s *Service) Alive(i *Instance) container.Process {
	_, p := s.liveOf(i.ID).get()
	return p
}

// lock keeps everybody else from changing an instance. It does not wait: whoever
// comes second learns what the first one is doing.
func (s *Service) lock(ref entity.Ref, doing string) (func(), error) {
	unlock, err := s.Locks.TryLock(doing, ref)
	if err != nil {
		return nil, busy(ref.Name(), err)
	}
	return unlock, nil
}

// lockSoon is lock for what need not be turned away by somebody who is done in a moment.
func (s *Service) lockSoon(ctx context.Context, ref entity.Ref, doing string) (func(), error) {
	return afterBrief(ctx, ref, doing, s.Locks.TryLock, s.Locks.Lock)
}

// lockBriefly is lockSoon for those who are done in a moment themselves.
func (s *Service) lockBriefly(ctx context.Context, ref entity.Ref, doing string) (func(), error) {
	return afterBrief(ctx, ref, doing, s.Locks.TryLockBriefly, s.Locks.LockBriefly)
}

func afterBrief(ctx context.Context, ref entity.Ref, doing string, try func(string, ...lock.Key) (func(), error),
	wait func(context.Context, string, ...lock.Key) (func(), error)) (func(), error) {
	unlock, err := try(doing, ref)
	var b *lock.Busy
	if errors.As(err, &b) && b.Holder.Brief {
		ctx, cancel := context.WithTimeout(ctx, heldTime)
		defer cancel()
		unlock, err = wait(ctx, doing, ref)
	}
	if err != nil {
		return nil, busy(ref.Name(), err)
	}
	return unlock, nil
}

// busy tells who is at work on an instance whose lock could not be had.
func busy(name string, err error) error {
	var b *lock.Busy
	if !errors.As(err, &b) {
		return err
	}
	return errs.Wrap(errs.KindInvalid, &busyError{name, b})
}

// busyError says of a lock that could not be had what people need to know of it.
type busyError struct {
	instance string
	cause    *lock.Busy
}

func (e *busyError) Error() string {
	return fmt.Sprintf("Instance %q is busy: %s is under way", e.instance, e.cause.Holder.Owner)
}

func (e *busyError) Unwrap() error { return e.cause }

// claim locks an instance and then loads it, in this order: what it says stays true
// until the lock is given back.
func (s *Service) claim(ctx context.Context, project, name, doing string) (*Instance, func(), error) {
	unlock, err := s.lockSoon(ctx, entity.New(entity.Instance, project, name), op.Doing(ctx, doing))
	if err != nil {
		return nil, nil, err
	}
	i, err := s.Load(ctx, project, name)
	if err == nil {
		err = s.known(ctx, i)
	}
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return i, unlock, nil
}

// claimWhole is claim for those who need all of the instance as it should be: what an
// earlier attempt has left half-done is ended first.
func (s *Service) claimWhole(ctx context.Context, project, name, doing string) (*Instance, func(), error) {
	unlock, err := s.lockSoon(ctx, entity.New(entity.Instance, project, name), op.Doing(ctx, doing))
	if err != nil {
		return nil, nil, err
	}
	i, err := s.loadWhole(ctx, project, name)
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return i, unlock, nil
}

// loadWhole is claimWhole for those who have the lock by now.
func (s *Service) loadWhole(ctx context.Context, project, name string) (*Instance, error) {
	i, err := s.Load(ctx, project, name)
	if err == nil {
		err = s.known(ctx, i)
	}
	if err == nil {
		err = s.settle(ctx, i)
	}
	return i, err
}

// known makes sure that an instance, whose lock is held, is one of this member, and that it
// is known whether it runs: before that nothing may be done to it.
func (s *Service) known(ctx context.Context, i *Instance) error {
	if err := s.mustBeHere(i); err != nil {
		return err
	}
	return s.lookAgain(ctx, i)
}

// id names the instance's container to the engine.
func (s *Service) id(i *Instance) container.ID {
	return container.ID{Daemon: s.Daemon, Project: i.Project, Name: i.Name}
}

// folder is how an instance is called in paths: projects other than the default
// one come in front.
func folder(project, name string) string {
	if project == entity.DefaultProject {
		return name
	}
	return project + "_" + name
}

// LogRoot is where the folders of logs are.
func (s *Service) LogRoot() string { return filepath.Join(s.Dir, "logs") }

// LogDir is where the logs of an instance are.
func (s *Service) LogDir(project, name string) string {
	return filepath.Join(s.LogRoot(), folder(project, name))
}

func (s *Service) runDir(i *Instance) string {
	return filepath.Join(s.Dir, "run", folder(i.Project, i.Name))
}

func (s *Service) devicesDir(i *Instance) string {
	return filepath.Join(s.Dir, "devices", folder(i.Project, i.Name))
}

// volume finds the root volume of an instance.
func volume(i *Instance) (Volume, map[string]string, error) {
	_, root, err := rootDevice(i.ExpandedDevices())
	if pool := i.Config[volRootPool]; pool != "" && errors.Is(err, errNoRoot) {
		return Volume{Pool: pool, Project: i.Project, Instance: i.Name}, nil, nil
	}
	if err != nil {
		return Volume{}, nil, err
	}
	return Volume{Pool: root["pool"], Project: i.Project, Instance: i.Name}, root, nil
}

// cleanup gives steps that must not be left out a context of their own: the one of
// the request may be the very reason why we clean up.
func (s *Service) cleanup() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(s.ctx), time.Minute)
}

// tell publishes a lifecycle event of an instance.
func (s *Service) tell(action string, i *Instance, by *event.Requestor, more map[string]any) {
	s.Bus.Lifecycle(action, i.Ref(), by, more)
	switch action {
	case "instance-created", "instance-updated", "instance-restored", "instance-rebuilt", "instance-started":
		s.stale(i.ID)
	}
}

// tellSnapshot publishes a lifecycle event of a snapshot.
func (s *Service) tellSnapshot(action string, i *Instance, sn *Snapshot, by *event.Requestor, more map[string]any) {
	s.Bus.Lifecycle(action, sn.Ref(i), by, more)
	s.stale(i.ID)
}

// Close stops watching. Containers go on.
func (s *Service) Close() {
	s.stop()
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.live {
		if _, p := l.get(); p != nil {
			_ = p.Close()
		}
	}
}
