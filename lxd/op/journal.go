package op

import (
	"context"
	"strings"

	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/shared/api"
	"sett/shared/log"
)

// Entry is an operation as a journal keeps it. What it tells its client is left out, as far
// as it is not known to be harmless: tokens, environments and commands hold secrets.
type Entry struct {
	api.Operation
	Project string
	// Session is that of somebody in front of an instance. There are many of them.
	Session bool
}

// Journal keeps what operations were, also beyond the end of the daemon. Its methods return
// at once.
type Journal interface {
	// Began is told of an operation that is about to run, Ended of one that is over.
	Began(Entry)
	Ended(Entry)
	// Interrupted are those that an earlier life of the daemon began, and of which it is not
	// known what became of them.
	Interrupted() []Entry
	// Resolve tells what became of one of them, and returns it; false when it is none of them.
	Resolve(id string, o Outcome) (Entry, bool)
}

// Outcome is what became of an operation that was interrupted.
type Outcome struct {
	// Done: what it was to do is done. Otherwise Text says what is so instead.
	Done bool
	Text string
}

// Finished is the outcome of an operation that did its work, or whose work was finished
// when the daemon started again.
func Finished(text string) Outcome { return Outcome{Done: true, Text: text} }

// RolledBack is the outcome of one of which nothing is left.
func RolledBack(text string) Outcome {
	return Outcome{Text: "Rolled back, for the daemon ended while the operation ran: " + text}
}

// Unknown is the outcome of one that left something that is neither.
func Unknown(text string) Outcome {
	return Outcome{Text: "The daemon ended while the operation ran: " + text}
}

// Keep makes the manager tell a journal of its operations. It is for the time before the
// first one.
func (m *Manager) Keep(j Journal) { m.journal = j }

// Interrupted are the operations that an earlier life of the daemon began and of which it is
// not known what became of them.
func (m *Manager) Interrupted() []Entry {
	if m.journal == nil {
		return nil
	}
	return m.journal.Interrupted()
}

// Resolve tells what became of an operation that was interrupted.
func (m *Manager) Resolve(id string, o Outcome) {
	if m.journal == nil {
		return
	}
	if e, ok := m.journal.Resolve(id, o); ok {
		a := e.Operation
		a.Log = nil
		m.bus.Publish(event.Event{Type: event.TypeOperation, Project: e.Project, Metadata: a, By: e.Requestor})
	}
}

// Note puts work of the daemon's own into the history that is over already: what it cleaned
// up after a crash, and of which no operation tells. A nil manager notes nothing.
func (m *Manager) Note(ctx context.Context, text string, about entity.Ref) {
	if m == nil {
		return
	}
	_, err := m.Start(ctx, Spec{Description: "Cleaning up after a crash", Project: about.Project, Resources: []entity.Ref{about},
		Run: func(ctx context.Context, _ *Operation) error {
			Step(ctx, "%s", text)
			return nil
		}})
	if err != nil {
		log.From(ctx).Debug("Not noted in the history", "text", text, "err", err)
	}
}

// entry is the operation as a journal keeps it.
func (o *Operation) entry() Entry {
	a := o.API()
	a.MayCancel = false
	a.Err = cut(a.Err)
	all := a.Metadata
	a.Metadata = nil
	if o.spec.Class != Token {
		for k, v := range all {
			if harmless(k) {
				if a.Metadata == nil {
					a.Metadata = map[string]any{}
				}
				a.Metadata[k] = v
			}
		}
	}
	return Entry{Operation: a, Project: o.spec.Project, Session: o.spec.Session}
}

// harmless tells of metadata that anybody may see who sees the operation, at any time.
func harmless(key string) bool {
	switch key {
	case "return", "fingerprint", "size":
		return true
	}
	return strings.HasSuffix(key, "progress")
}
