package instance

import (
	"context"
	"path/filepath"
	"strconv"
	"time"

	"sett/lxd/container"
	"sett/lxd/host/idmap"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Runner is an instance that runs.
type Runner struct {
	ID      int64
	Process container.Process
}

// Runners are the instances that run on this member.
func (s *Service) Runners() []Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Runner
	for id, l := range s.live {
		if _, p := l.get(); p != nil {
			out = append(out, Runner{id, p})
		}
	}
	return out
}

// Starting reports whether an instance of this member is being started.
func (s *Service) Starting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.live {
		if st, _ := l.get(); st == Starting {
			return true
		}
	}
	return false
}

// LoadID reads one instance by its id; nil when it is gone.
func (s *Service) LoadID(ctx context.Context, id int64) (*Instance, error) { return s.loadID(ctx, id) }

// IDMap is the id map that a running instance has.
func (s *Service) IDMap(i *Instance) idmap.Map { return s.mapOf(i) }

// Watcher is told of changes.
type Watcher interface {
	// Changed is called after an instance or one of its profiles has changed. It must
	// not wait for anything.
	Changed(old, new *Instance)
}

// Watch sets who is told of changes. It is called before anything changes.
func (s *Service) Watch(w Watcher) { s.watcher = w }

func (s *Service) changed(old, new *Instance) {
	if s.watcher != nil {
		s.watcher.Changed(old, new)
	}
}

// readyTime is how long a guest that says that it is ready waits for those who work on
// the instance, such as the start that it is part of.
const readyTime = 20 * time.Second

// SetReady notes what a running guest says of itself: that it is usable, or that it is
// not yet.
func (s *Service) SetReady(ctx context.Context, id int64, ready bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if err := s.liveOf(id).calm(ctx); err != nil {
		return err
	}
	i, err := s.loadID(ctx, id)
	if err != nil || i == nil {
		return err
	}
	unlock, err := s.Locks.Lock(ctx, "note of its state", i.Ref())
	if err != nil {
		return errs.Unavailable("The instance is busy, try again later")
	}
	defer unlock()
	if i, err = s.loadID(ctx, id); err != nil || i == nil {
		return err
	}
	if st := s.State(id); st != Running {
		return errs.Invalid("The instance is %s", st)
	}
	if isTrue(i.Config[volReady]) == ready && i.Config[volReady] != "" {
		return nil
	}
	if err := s.patchConfig(ctx, i, map[string]string{volReady: strconv.FormatBool(ready)}); err != nil {
		return err
	}
	if ready {
		s.tell("instance-ready", i, nil, nil)
	}
	return nil
}

// calm lets a guest say something once a second: each time is a write to the database
// of all members.
func (l *live) calm(ctx context.Context) error {
	now := time.Now()
	l.mu.Lock()
	wait := l.told.Sub(now)
	switch {
	case wait <= 0:
		l.told = now.Add(time.Second)
	case wait < readyTime:
		l.told = l.told.Add(time.Second)
	}
	l.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errs.Unavailable("The instance says too often whether it is ready")
	}
}

// IsReady reports whether the guest has said that it is usable.
func (i *Instance) IsReady() bool { return isTrue(i.Config[volReady]) }

// code is the state of an instance as the API shows it: running guests may have told
// more of themselves.
func (s *Service) code(i *Instance) api.StatusCode {
	st := s.State(i.ID)
	if st == Running && i.IsReady() {
		return api.Ready
	}
	return st.Code()
}

// GuestDir is the folder with the socket of the guests' API, which instances see as
// /dev/lxd. It is the folder that is mounted and not the socket: a daemon that starts
// again makes a new socket in it.
func GuestDir(dir string) string { return filepath.Join(dir, "devlxd") }

func (s *Service) guestMount() container.Mount {
	return container.Mount{Source: GuestDir(s.Dir), Target: "dev/lxd", FSType: "none",
		Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}, Create: container.CreateDir}
}

// followGuestAPI gives a running instance /dev/lxd, or takes it away.
func (s *Service) followGuestAPI(ctx context.Context, p container.Process, old, new *Instance, u *undo.Stack) error {
	was, want := GuestAPI.Get(old.ExpandedConfig()), GuestAPI.Get(new.ExpandedConfig())
	if was == want {
		return nil
	}
	m := s.guestMount()
	put := func(ctx context.Context, on bool) error {
		if on {
			return p.AddMount(ctx, m)
		}
		return p.RemoveMount(ctx, m.Target)
	}
	if err := put(ctx, want); err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := s.cleanup()
		defer cancel()
		return put(ctx, was)
	})
	return nil
}
