package daemon_test

import (
	"context"
	"errors"
	"strings"
	"sync"

	"sett/lxd/container"
	"sett/lxd/host/unpack"
	"sett/lxd/storage/driver"
	"sett/lxd/storage/fake"
)

// steps counts what a daemon does to its world: each change of a pool, of a container and
// of the database, once before it is done and once after. One of them can go wrong.
type steps struct {
	mu     sync.Mutex
	armed  bool // counting
	n      int
	seen   []string
	only   func(step string, done bool) bool // which ones count; nil: all
	at     int                               // strike comes at this one
	strike func() error

	isDead bool
	died   chan struct{} // closed by kill
	buried chan struct{} // closed by bury
}

var errDead = errors.New("the daemon is dead")

func newSteps() *steps { return &steps{died: make(chan struct{}), buried: make(chan struct{})} }

// arm begins to count; strike, which is set later, comes at the step of that number and says
// why it fails, if it does.
func (s *steps) arm(at int, only func(string, bool) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed, s.n, s.seen, s.at, s.only = true, 0, nil, at, only
}

// disarm ends the counting. It returns the steps that were taken, and whether one was struck.
func (s *steps) disarm() (seen []string, struck bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	return s.seen, s.at > 0 && s.n >= s.at
}

// kill has nothing of the daemon happen any more: whoever wants to do something waits for
// its burial. Its locks and memory are no hindrance to another life of it.
func (s *steps) kill() {
	s.mu.Lock()
	s.isDead = true
	s.mu.Unlock()
	close(s.died)
	<-s.buried
}

// bury lets those go who wait in a dead daemon. All that they try fails.
func (s *steps) bury() {
	s.mu.Lock()
	s.isDead = true
	s.mu.Unlock()
	close(s.buried)
}

func (s *steps) next(step string, done bool) error {
	s.mu.Lock()
	if s.isDead {
		s.mu.Unlock()
		<-s.buried
		return errDead
	}
	if !s.armed || s.only != nil && !s.only(step, done) {
		s.mu.Unlock()
		return nil
	}
	s.n++
	here := s.n == s.at
	if done {
		step += ", done"
	}
	s.seen = append(s.seen, step)
	s.mu.Unlock()
	if !here {
		return nil
	}
	return s.strike()
}

func (s *steps) dead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isDead
}

// alive keeps a dead daemon from doing something that is no step of its own.
func (s *steps) alive() error {
	if !s.dead() {
		return nil
	}
	<-s.buried
	return errDead
}

// around takes a step. What was done cannot fail afterwards.
func (s *steps) around(step string, do func() error) error {
	if err := s.next(step, false); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if s.next(step, true) == errDead {
		return errDead
	}
	return nil
}

// before and after are told of what is executed in the database.
func (s *steps) before(query string) error {
	if query == "BEGIN IMMEDIATE" {
		return s.next("database", false)
	}
	return nil
}

func (s *steps) after(query string) error {
	if query == "COMMIT" && s.next("database", true) == errDead {
		return errDead
	}
	return nil
}

// unpack is asked before something is unpacked.
func (s *steps) unpack(i unpack.Image) error { return s.next("unpack "+i.Rootfs, false) }

// kind makes pools whose steps are counted.
type kind struct {
	*fake.Kind
	s *steps
}

func (k kind) New(env driver.Env) (driver.Driver, error) {
	k.Break(func(step, path string) error {
		if step == "remove" { // the garbage goes when it pleases
			return k.s.alive()
		}
		if step == "usage" {
			return nil
		}
		return k.s.next(step, false)
	})
	d, err := k.Kind.New(env)
	if err != nil {
		return nil, err
	}
	return pool{d, k.s}, nil
}

type pool struct {
	driver.Driver
	s *steps
}

func (p pool) Create(ctx context.Context, v driver.Volume, fill driver.Filler) error {
	return p.s.around("create "+v.Name, func() error { return p.Driver.Create(ctx, v, fill) })
}

func (p pool) Copy(ctx context.Context, dst, src driver.Volume, o driver.CopyOpts) error {
	return p.s.around("copy "+dst.Name, func() error { return p.Driver.Copy(ctx, dst, src, o) })
}

func (p pool) Refresh(ctx context.Context, dst, src driver.Volume, o driver.CopyOpts) error {
	return p.s.around("refresh "+dst.Name, func() error { return p.Driver.Refresh(ctx, dst, src, o) })
}

func (p pool) Replace(ctx context.Context, v driver.Volume, fill driver.Filler) error {
	return p.s.around("replace "+v.Name, func() error { return p.Driver.Replace(ctx, v, fill) })
}

func (p pool) Show(ctx context.Context, v driver.Volume, quiet driver.Quiet) (view driver.View, err error) {
	err = p.s.around("show "+v.Name, func() error {
		view, err = p.Driver.Show(ctx, v, quiet)
		return err
	})
	return view, err
}

func (p pool) Delete(ctx context.Context, v driver.Volume) error {
	return p.s.around("delete "+v.Name, func() error { return p.Driver.Delete(ctx, v) })
}

func (p pool) Rename(ctx context.Context, v driver.Volume, name string) error {
	return p.s.around("rename "+v.Name, func() error { return p.Driver.Rename(ctx, v, name) })
}

func (p pool) CreateSnapshot(ctx context.Context, v driver.Volume, quiet driver.Quiet) error {
	return p.s.around("snapshot "+v.Name, func() error { return p.Driver.CreateSnapshot(ctx, v, quiet) })
}

func (p pool) DeleteSnapshot(ctx context.Context, v driver.Volume) error {
	return p.s.around("delete snapshot "+v.Name, func() error { return p.Driver.DeleteSnapshot(ctx, v) })
}

func (p pool) RenameSnapshot(ctx context.Context, v driver.Volume, name string) error {
	return p.s.around("rename snapshot "+v.Name, func() error { return p.Driver.RenameSnapshot(ctx, v, name) })
}

func (p pool) Restore(ctx context.Context, v driver.Volume) error {
	return p.s.around("restore "+v.Name, func() error { return p.Driver.Restore(ctx, v) })
}

func (p pool) SetQuota(ctx context.Context, v driver.Volume, bytes int64) error {
	return p.s.around("limit "+v.Name, func() error { return p.Driver.SetQuota(ctx, v, bytes) })
}

// engine makes containers whose steps are counted. They outlive the daemon.
type engine struct {
	container.Engine
	s *steps
}

func (e engine) Start(ctx context.Context, spec container.Spec) (p container.Process, err error) {
	err = e.s.around("start", func() error {
		p, err = e.Engine.Start(ctx, spec)
		return err
	})
	if p != nil {
		p = process{p, e.s}
	}
	return p, err
}

func (e engine) Find(ctx context.Context, id container.ID, runDir string) (container.Process, error) {
	p, err := e.Engine.Find(ctx, id, runDir)
	if p != nil {
		p = process{p, e.s}
	}
	return p, err
}

func (e engine) Clean(ctx context.Context, id container.ID, runDir string) error {
	// Who watches a container cleans up, whatever else goes on.
	if err := e.s.alive(); err != nil {
		return err
	}
	return e.Engine.Clean(ctx, id, runDir)
}

type process struct {
	container.Process
	s *steps
}

func (p process) Wait(ctx context.Context) (container.Exit, error) {
	x, err := p.Process.Wait(ctx)
	if dead := p.s.alive(); dead != nil {
		return x, dead
	}
	return x, err
}

func (p process) Shutdown(ctx context.Context) error {
	return p.s.around("shut down", func() error { return p.Process.Shutdown(ctx) })
}

func (p process) Kill(ctx context.Context) error {
	return p.s.around("kill", func() error { return p.Process.Kill(ctx) })
}

func (p process) Freeze(ctx context.Context) error {
	return p.s.around("freeze", func() error { return p.Process.Freeze(ctx) })
}

func (p process) Unfreeze(ctx context.Context) error {
	return p.s.around("unfreeze", func() error { return p.Process.Unfreeze(ctx) })
}

func (p process) SetLimits(ctx context.Context, old, new container.Limits) error {
	return p.s.around("set limits", func() error { return p.Process.SetLimits(ctx, old, new) })
}

// ofAPool tells of the steps that a full pool fails.
func ofAPool(step string, done bool) bool {
	if done {
		return false
	}
	switch what, _, _ := strings.Cut(step, " "); what {
	case "make", "clone", "create", "copy", "refresh", "replace", "snapshot", "restore", "unpack":
		return true
	}
	return false
}

// thatFail tells of all steps that can fail at all.
func thatFail(step string, done bool) bool { return !done && step != "unfreeze" }
