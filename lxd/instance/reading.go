package instance

import (
	"slices"
	"sync"

	"sett/shared/errs"
)

// Copies and backups take long, and all that an instance needs for them is that what they
// read stays where it is. So they have its lock only until they have noted what that is;
// who would take some of it away, or put something else in its place, looks at the notes.

// reading is somebody who reads parts of an instance: its snapshots, by name, and itself.
type reading struct {
	what  string
	parts []string
	over  chan struct{}
}

// itself is the part of an instance that is no snapshot: its content and its name.
const itself = ""

// read notes what somebody who has the lock of the instance is about to read, until over is
// called.
func (l *live) read(what string, parts ...string) (over func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readings == nil {
		l.readings = map[*reading]bool{}
	}
	r := &reading{what, parts, make(chan struct{})}
	l.readings[r] = true
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.readings, r)
		close(r.over)
	})
}

// reader finds somebody who reads one of these parts, or, if none are named, anything.
func (l *live) reader(parts ...string) *reading {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.readings {
		if len(parts) == 0 || slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(r.parts, p) }) {
			return r
		}
	}
	return nil
}

// unread refuses to take away what somebody is reading: these parts, or all of an instance.
// Its lock is held.
func (s *Service) unread(i *Instance, parts ...string) error {
	r := s.liveOf(i.ID).reader(parts...)
	if r == nil {
		return nil
	}
	return errs.Invalid("Instance %q is busy: a %s of it is being made", i.Name, r.what)
}
