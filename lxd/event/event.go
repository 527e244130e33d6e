// Package event is the daemon's bus: what happened, told to whoever listens.
//
// Publishing never blocks. A listener that falls behind loses its subscription
// rather than holding up the daemon; it sees its channel close.
package event

import (
	"slices"
	"sync"
	"time"

	"sett/lxd/entity"
	"sett/shared/api"
)

// Type is a kind of event, as clients ask for it.
type Type string

// The types of events.
const (
	TypeLifecycle Type = api.EventTypeLifecycle
	TypeOperation Type = api.EventTypeOperation
	TypeLogging   Type = api.EventTypeLogging
)

// Types are all that a client may listen to.
func Types() []Type { return []Type{TypeLogging, TypeOperation, TypeLifecycle} }

// Event is one thing that happened. Metadata is what goes out as JSON.
type Event struct {
	Type      Type
	Timestamp time.Time
	Location  string
	Project   string // empty: not of a project
	Metadata  any
	// By is who caused it, where only they may see it. It does not go out.
	By *Requestor
	// Remote events have come from another member.
	Remote bool
}

// Requestor says who asked for what happened.
type Requestor = api.EventLifecycleRequestor

// Lifecycle is the metadata of a lifecycle event.
type Lifecycle = api.EventLifecycle

// Logging is the metadata of a logging event.
type Logging = api.EventLogging

// Bus hands events to subscribers. The zero value is not ready; use NewBus.
type Bus struct {
	mu       sync.Mutex
	subs     map[*Subscription]struct{}
	now      func() time.Time
	location func() string
	changed  chan struct{} // closed, and replaced, when who listens has changed
}

// NewBus makes a bus whose events carry the member's name as their location.
func NewBus(location string) *Bus {
	return &Bus{subs: map[*Subscription]struct{}{}, now: time.Now, location: func() string { return location }, changed: make(chan struct{})}
}

// Follow makes the bus ask for its location: a member's name may change. It is for
// the time before anybody publishes.
func (b *Bus) Follow(location func() string) { b.location = location }

// Location is where the events of this bus happen.
func (b *Bus) Location() string { return b.location() }

// Filter says which events a subscriber wants.
type Filter struct {
	Types       []Type // empty: all
	Project     string // events of this project and those of none
	AllProjects bool
	// Local leaves out what has come from other members. It is how members listen to
	// each other: what one hears from the others, it does not tell them again.
	Local bool
}

func (f Filter) match(e Event) bool {
	if len(f.Types) > 0 && !slices.Contains(f.Types, e.Type) {
		return false
	}
	if f.Local && e.Remote {
		return false
	}
	return f.AllProjects || f.Project == "" || e.Project == "" || e.Project == f.Project
}

// Subscription is one listener.
type Subscription struct {
	bus    *Bus
	filter Filter
	c      chan Event
	closed bool
}

// backlog is how far a listener may fall behind. Events are small; a client that
// is this late will not catch up.
const backlog = 1024

// Subscribe starts listening. Close the subscription when done.
func (b *Bus) Subscribe(f Filter) *Subscription {
	s := &Subscription{bus: b, filter: f, c: make(chan Event, backlog)}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[s] = struct{}{}
	b.turn()
	return s
}

func (b *Bus) turn() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Demand tells which types somebody here wants from other members too, and gives a
// channel that is closed when that may have changed.
func (b *Bus) Demand() ([]Type, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Type
	for _, t := range Types() {
		for s := range b.subs {
			if !s.filter.Local && (len(s.filter.Types) == 0 || slices.Contains(s.filter.Types, t)) {
				out = append(out, t)
				break
			}
		}
	}
	return out, b.changed
}

// C gives the events. It is closed when the listener was too slow, or by Close.
func (s *Subscription) C() <-chan Event { return s.c }

// Close stops listening. It may be called twice.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.drop()
}

// Want changes which types come from now on.
func (s *Subscription) Want(types ...Type) {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.filter.Types = slices.Clone(types)
	s.bus.turn()
}

func (s *Subscription) drop() {
	if !s.closed {
		s.closed = true
		delete(s.bus.subs, s)
		s.bus.turn()
		close(s.c)
	}
}

// Publish tells all who listen. It fills in time and place where they are missing.
func (b *Bus) Publish(e Event) {
	if e.Timestamp.IsZero() {
		e.Timestamp = b.now()
	}
	if e.Location == "" {
		e.Location = b.location()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		if !s.filter.match(e) {
			continue
		}
		select {
		case s.c <- e:
		default:
			s.drop()
		}
	}
}

// Wants reports whether anybody listens to a type, so that costly events need
// not be made for nobody.
func (b *Bus) Wants(t Type) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		if len(s.filter.Types) == 0 || slices.Contains(s.filter.Types, t) {
			return true
		}
	}
	return false
}

// Lifecycle publishes that something happened to an object.
func (b *Bus) Lifecycle(action string, ref entity.Ref, by *Requestor, ctx map[string]any) {
	b.Publish(Event{Type: TypeLifecycle, Project: ref.Project, Metadata: Lifecycle{
		Action: action, Source: ref.URL(), Context: ctx, Requestor: by,
	}})
}
