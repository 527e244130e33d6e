package devlxd

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"sett/lxd/container"
	"sett/lxd/host/peer"
	"sett/lxd/instance"
)

var errNoGuest = errors.New("the caller is not a process of an instance")

// finder finds the instance that a process belongs to.
type finder struct {
	instances *instance.Service

	mu    sync.Mutex
	known map[peer.Namespace]int64 // where a namespace was found last
}

// find looks for the instance of a process of which all is known that the kernel tells.
type find func() (Caller, error)

// who asks the kernel about the process that connected, whatever may have happened to
// its number since.
func (f *finder) who(c *net.UnixConn) (find, error) {
	p, err := peer.Of(c)
	if err != nil {
		return nil, err
	}
	// The last one is this daemon's own namespace, in which no guest lives.
	if len(p.Namespaces) < 2 {
		return nil, errNoGuest
	}
	return func() (Caller, error) { return f.search(p) }, nil
}

// search is the guest that lives in one of the namespaces of a process.
func (f *finder) search(p peer.Peer) (Caller, error) {
	// From the outside in: the first that is the namespace of an instance's init counts,
	// whatever a guest has made below it.
	runners := map[int64]container.Process{}
	for _, r := range f.instances.Runners() {
		runners[r.ID] = r.Process
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := len(p.Namespaces) - 2; n >= 0; n-- {
		ns := p.Namespaces[n]
		if id, ok := f.known[ns]; ok && runners[id] != nil && lives(runners[id], ns) {
			return Caller{id, int64(p.UID)}, nil
		}
	}
	// Not seen before: look at all, and remember for the next time.
	f.known = map[peer.Namespace]int64{}
	for id, proc := range runners {
		if ns, err := peer.NamespaceOf(proc.PID()); err == nil {
			f.known[ns] = id
		}
	}
	for n := len(p.Namespaces) - 2; n >= 0; n-- {
		ns := p.Namespaces[n]
		if id, ok := f.known[ns]; ok && lives(runners[id], ns) {
			return Caller{id, int64(p.UID)}, nil
		}
	}
	return Caller{}, errNoGuest
}

// lives reports whether a container's init is in a pid namespace. Its number is looked
// at while it is sure to be its own: the engine holds on to the process, and tells
// afterwards whether it is still there.
func lives(p container.Process, ns peer.Namespace) bool {
	have, err := peer.NamespaceOf(p.PID())
	if err != nil || have != ns {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	st, err := p.State(ctx)
	return err == nil && (st == container.Running || st == container.Frozen || st == container.Freezing)
}
