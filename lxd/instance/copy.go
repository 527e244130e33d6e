package instance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sett/lxd/auth"
	"sett/lxd/op"
	"sett/lxd/project"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/units"
)

// origin is what a copy is made of: an instance, or a snapshot of one.
type origin struct {
	instance *Instance
	snapshot *Snapshot   // nil for the instance itself
	only     bool        // leave its snapshots out
	loose    bool        // one that runs need not hold still
	snaps    []*Snapshot // to be copied too, oldest first
	idle     func() bool // nobody can have written to it since it was noted; nil where somebody could then
}

// origin finds what a request wants to copy, for a caller who may know of it.
func (s *Service) origin(ctx context.Context, as auth.Caller, into string, src api.InstanceSource) (*origin, error) {
	if src.Source == "" {
		return nil, errs.Invalid("Must specify a source instance")
	}
	from := src.Project
	if from == "" {
		from = into
	}
	if !as.CanSee(from) {
		return nil, errs.Forbidden("not authorized")
	}
	name, snap, isSnap := strings.Cut(src.Source, "/")
	i, err := s.Load(ctx, from, name)
	if err != nil {
		return nil, err
	}
	if !s.local(i) {
		return nil, errs.NotImplemented("Copying between cluster members is not implemented; ask for the copy on member %q, where %q is", i.Location, name)
	}
	o := &origin{instance: i, only: src.InstanceOnly || src.ContainerOnly, loose: src.AllowInconsistent}
	return o, s.fill(ctx, o, snap, isSnap)
}

// fill finds the snapshots of an origin.
func (s *Service) fill(ctx context.Context, o *origin, snap string, isSnap bool) (err error) {
	switch {
	case isSnap:
		o.snapshot, err = s.Snapshot(ctx, o.instance, snap)
	case !o.only:
		o.snaps, err = s.Snapshots(ctx, o.instance)
	}
	return err
}

// name is how requests call it.
func (o *origin) name() string {
	if o.snapshot != nil {
		return o.instance.Name + "/" + o.snapshot.Name
	}
	return o.instance.Name
}

// what is the configuration and the devices that the copy begins with.
func (o *origin) what() project.Spec {
	if o.snapshot != nil {
		return project.Spec{Config: o.snapshot.Config, Devices: o.snapshot.Devices}
	}
	return spec(o.instance)
}

// known is what a caller may give the copy whatever it is: what the origin has already.
// What was written in another project was not judged for this one.
func (o *origin) known(into string) project.Spec {
	switch {
	case o.instance.Project != into:
		return project.Spec{Config: map[string]string{volBaseImage: o.what().Config[volBaseImage]}}
	case o.snapshot != nil:
		return o.snapshot.before(o.instance)
	}
	return spec(o.instance)
}

// inherit gives an instance what it takes over from its origin; what the request says
// itself wins, and an empty value takes a key away.
func (o *origin) inherit(i *Instance) {
	was := o.what()
	// LXD's client hands over the notes on the origin when it refreshes what is not there
	// yet. Two instances cannot have one address, and this one does not run, whatever the
	// origin did when the client looked.
	maps.DeleteFunc(i.Config, func(k, v string) bool {
		return ofGuest(k) || strings.HasPrefix(k, volatilePrefix) && k != volBaseImage && k != volInstanceID && o.instance.Config[k] == v
	})
	for k, v := range was.Config {
		if _, ok := i.Config[k]; !ok && (!strings.HasPrefix(k, volatilePrefix) || k == volBaseImage) {
			i.Config[k] = v
		}
	}
	maps.DeleteFunc(i.Config, func(_, v string) bool { return v == "" })
	for n, d := range was.Devices {
		if _, ok := i.Devices[n]; !ok {
			i.Devices[n] = maps.Clone(d)
		}
	}
	i.Architecture = o.instance.Architecture
}

// profiles are the names of those that the copy takes unless it was given others.
func (o *origin) profiles() []string {
	names := []string{}
	for _, p := range o.instance.Profiles {
		names = append(names, p.Name)
	}
	return names
}

// hold looks at an origin again, with its lock, and notes what will be read of it: until
// release is called that stays where it is, and everything else may happen. Who asks holds
// the lock of the copy, which does not exist yet, so nobody can wait for that.
func (s *Service) hold(ctx context.Context, o *origin) (release func(), err error) {
	unlock, err := s.Locks.LockBriefly(ctx, op.Doing(ctx, "copy"), o.instance.Ref())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.recheck(ctx, o); err != nil {
		return nil, err
	}
	return s.readOrigin(o), nil
}

// readOrigin notes what a copy reads of its origin, whose lock is held.
func (s *Service) readOrigin(o *origin) (over func()) {
	parts := append(namesOf(o.snaps), itself)
	if o.snapshot != nil {
		parts = []string{o.snapshot.Name}
	}
	l := s.liveOf(o.instance.ID)
	o.idle = l.untouched()
	return l.read("copy", parts...)
}

// recheck loads an origin, whose lock is held, anew.
func (s *Service) recheck(ctx context.Context, o *origin) error {
	was := o.instance
	i, err := s.loadID(ctx, was.ID)
	if err != nil {
		return err
	}
	if i == nil || i.Name != was.Name || i.Project != was.Project {
		return errs.NotFound("Instance %q is gone", was.Name)
	}
	if err := s.known(ctx, i); err != nil {
		return err
	}
	if err := s.settle(ctx, i); err != nil {
		return err
	}
	o.instance = i
	snap := ""
	if o.snapshot != nil {
		snap = o.snapshot.Name
	}
	return s.fill(ctx, o, snap, o.snapshot != nil)
}

// copyOf says how to copy the volume of an origin of which nothing is taken away meanwhile.
func (s *Service) copyOf(o *origin, snaps []*Snapshot, size int64, count func(int64)) CopyOf {
	c := CopyOf{Size: size, Count: count, Snapshots: namesOf(snaps)}
	if o.snapshot != nil {
		c.Snapshot = o.snapshot.Name
		return c
	}
	if !o.loose {
		c.Quiet = func(ctx context.Context) (func(), error) { return s.still(ctx, o.instance) }
		c.Idle = o.idle
	}
	return c
}

// still keeps everybody from writing to an instance that is being copied, until resume is
// called: it neither runs nor starts. That is over in a moment, and who wants to do something
// to it waits for that. What it does now counts, and not what it did when the copy began.
func (s *Service) still(ctx context.Context, i *Instance) (resume func(), err error) {
	unlock, err := s.Locks.LockBriefly(ctx, op.Doing(ctx, "copy"), i.Ref())
	if err != nil {
		return nil, err
	}
	quiet := s.quiet(i)
	if quiet == nil {
		return unlock, nil
	}
	letGo, err := quiet(ctx)
	if err != nil {
		unlock()
		return nil, err
	}
	return func() {
		letGo()
		unlock()
	}, nil
}

func namesOf(snaps []*Snapshot) []string {
	var names []string
	for _, sn := range snaps {
		names = append(names, sn.Name)
	}
	return names
}

// diskMap tells how ids are written on the disk of an origin.
func (o *origin) diskMap() string {
	if m := o.what().Config[volDiskMap]; m != "" {
		return m
	}
	return "[]"
}

// planRefresh is the plan of a request that brings an existing copy up to date. target is
// nil where there is none yet, which is then made.
func (s *Service) planRefresh(ctx context.Context, p *Plan) (target *Instance, err error) {
	i, o := p.Instance, p.from
	if o.snapshot != nil {
		return nil, errs.Invalid("An instance is refreshed from an instance, not from snapshot %q", o.name())
	}
	if i.Name == "" {
		return nil, errs.Invalid("Must specify the instance to refresh")
	}
	target, err = s.Load(ctx, i.Project, i.Name)
	if errs.Is(err, errs.KindNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if target.ID == o.instance.ID {
		return nil, errs.Invalid("Instance %q cannot be refreshed from itself", i.Name)
	}
	unlock, err := s.lockSoon(ctx, target.Ref(), "refresh")
	if err != nil {
		return nil, err
	}
	read, err := s.holdBoth(ctx, p, target)
	if err != nil {
		unlock()
		return nil, err
	}
	p.unlock = func() {
		read()
		unlock()
	}
	return p.refresh, nil
}

// holdBoth is hold for a refresh, which has the lock of its target. It does not wait for
// the origin, which may be about to be refreshed from that.
func (s *Service) holdBoth(ctx context.Context, p *Plan, target *Instance) (release func(), err error) {
	unlock, err := s.lockBriefly(ctx, p.from.instance.Ref(), "refresh")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.refreshable(ctx, p, target); err != nil {
		return nil, err
	}
	return s.readOrigin(p.from), nil
}

// refreshable looks at both instances once more, now that nobody changes them.
func (s *Service) refreshable(ctx context.Context, p *Plan, target *Instance) error {
	now, err := s.loadID(ctx, target.ID)
	if err != nil {
		return err
	}
	if now == nil || now.Name != target.Name { // the lock is of the name that it had
		return errs.NotFound("Instance %q is gone", target.Name)
	}
	if err := s.known(ctx, now); err != nil {
		return err
	}
	if st := s.State(now.ID); st != Stopped {
		return errs.Invalid("Instance %q is %s; stop it before it is refreshed", now.Name, strings.ToLower(st.String()))
	}
	p.refresh = now
	return s.recheck(ctx, p.from)
}

// meterTime is how often an operation tells of its progress.
const meterTime = 500 * time.Millisecond

// Meter gives a plan somebody to tell how far its copy is.
func (p *Plan) Meter(o *op.Operation) { p.count = meter(o, p.Instance.Name) }

// meter makes, of bytes that are counted from any goroutine, the progress of an operation.
func meter(o *op.Operation, name string) func(int64) {
	begun := time.Now()
	told := begun
	done := int64(0)
	var mu sync.Mutex
	return func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		done += n
		now := time.Now()
		if now.Sub(told) < meterTime {
			return
		}
		told = now
		speed := float64(done) / now.Sub(begun).Seconds()
		o.Set(map[string]any{"fs_progress": fmt.Sprintf("%s: %s (%s/s)", name, units.GetByteSizeString(done, 2), units.GetByteSizeString(int64(speed), 2))})
	}
}

// missing parts the snapshots of an origin and of a copy of it: those that the copy
// lacks, and those of the copy that the origin has not, or not any more. A snapshot is
// the same if it was taken under the same name at the same time.
func missing(of, copied []*Snapshot) (lacks, extra []*Snapshot) {
	same := func(a *Snapshot) func(*Snapshot) bool {
		return func(b *Snapshot) bool { return a.Name == b.Name && a.Created.Equal(b.Created) }
	}
	for _, sn := range of {
		if !slices.ContainsFunc(copied, same(sn)) {
			lacks = append(lacks, sn)
		}
	}
	for _, sn := range copied {
		if !slices.ContainsFunc(of, same(sn)) {
			extra = append(extra, sn)
		}
	}
	return lacks, extra
}
