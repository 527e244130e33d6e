package store

import (
	"context"
	"time"

	"sett/shared/errs"
)

// full is that nothing can be written for want of room.
type full struct {
	text string
	at   time.Time // when it was last said
}

// fullFor is for how long a word that there is no room holds. The leader repeats it.
const fullFor = 10 * time.Second

// SetFull has all writes refused with a text, and lets them again when it is empty. On a
// member of a cluster it is the leader who knows.
func (s *Store) SetFull(text string) {
	if text == "" {
		s.full.Store(nil)
		return
	}
	s.full.Store(&full{text, time.Now()})
}

// OnTight has f called when this member's node becomes short of room. It must not block.
func (s *Store) OnTight(f func()) { s.tight.Store(&f) }

func (s *Store) grewTight() {
	if f := s.tight.Load(); f != nil {
		(*f)()
	}
}

// noRoom tells why nothing can be written for want of room.
func (s *Store) noRoom() error {
	if s.member.Load() != 0 {
		if f := s.full.Load(); f != nil && time.Since(f.at) < fullFor {
			return errs.Unavailable("%s", f.text)
		}
		return nil
	}
	if r, err := s.Node().Room(); err == nil && r.Low {
		return s.Node().Full(r)
	}
	return nil
}

// whySilent tells why the database does not answer, as far as that is for want of room.
// What was said last holds until somebody leads again.
func (s *Store) whySilent() error {
	const silent = "The database did not answer in time, perhaps for want of room. %s"
	if f := s.full.Load(); f != nil {
		return errs.Unavailable(silent, f.text)
	}
	if n := s.Node(); n.Resting() {
		if r, err := n.Room(); err == nil {
			return errs.Unavailable(silent, n.Full(r))
		}
	}
	return nil
}

// takeRoom has the node take what its log needs. It has nothing of it until something is
// written, which may be long after the file system has become full.
func (s *Store) takeRoom(ctx context.Context) {
	if r, err := s.Node().Room(); err != nil || r.Spent || s.Node().Resting() {
		return
	}
	if err := s.Global.Touch(ctx); err != nil {
		s.o.Log.Warn("Could not take room for the log of the database", "err", err)
	}
}
