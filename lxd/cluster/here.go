package cluster

import (
	"sync"
	"sync/atomic"
)

// AloneName is what a server that is no member of a cluster is called, and where
// its things are.
const AloneName = "none"

// aloneID is the row in nodes that every new database has.
const aloneID = 1

// Here is this machine's place in the cluster. All parts of the daemon share one and
// ask it when they need to know: it changes when the server becomes a member, and
// when the member is renamed. A nil Here stands alone.
type Here struct {
	m atomic.Pointer[Member]

	mu     sync.Mutex
	turned chan struct{} // closed at the next change; nil while nobody waits for one
}

// Alone returns the place of a server that is no member of a cluster.
func Alone() *Here { return &Here{} }

// Set makes this machine a member.
func (h *Here) Set(m Member) {
	h.m.Store(&m)
	h.turn()
}

// Leave makes this machine stand alone again.
func (h *Here) Leave() {
	h.m.Store(nil)
	h.turn()
}

func (h *Here) turn() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.turned != nil {
		close(h.turned)
		h.turned = nil
	}
}

// Turned is closed when this machine's place, or who the other members are, is another
// than now.
func (h *Here) Turned() <-chan struct{} {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.turned == nil {
		h.turned = make(chan struct{})
	}
	return h.turned
}

// Member is this machine as a member. On a server that stands alone it has the id
// and the name of one.
func (h *Here) Member() Member {
	if h != nil {
		if m := h.m.Load(); m != nil {
			return *m
		}
	}
	return Member{ID: aloneID, Name: AloneName}
}

// ID is this member's row in nodes.
func (h *Here) ID() int64 { return h.Member().ID }

// Name is the member's name, "none" on a server that stands alone.
func (h *Here) Name() string { return h.Member().Name }

// Location is where the things of this machine are, as answers and events show it.
func (h *Here) Location() string { return h.Member().Name }

// Address is where other members reach this one; empty on a server that stands alone.
func (h *Here) Address() string { return h.Member().Address }

// Clustered reports whether this machine is a member of a cluster.
func (h *Here) Clustered() bool { return h != nil && h.m.Load() != nil }
