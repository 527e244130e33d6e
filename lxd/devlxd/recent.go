package devlxd

import (
	"context"
	"sync"
	"time"

	"sett/lxd/instance"
)

// fresh is how long an instance that was loaded is good for. However often a guest
// asks, it costs the database, which may be another member's, so many reads and no more.
const fresh = 100 * time.Millisecond

// recent keeps instances for a moment.
type recent struct {
	mu   sync.Mutex
	seen map[int64]loaded
	// turn counts what was forgotten: what was being loaded meanwhile is not kept.
	turn uint64
}

type loaded struct {
	i  *instance.Instance
	at time.Time
}

// get loads an instance unless that was done just now.
func (r *recent) get(ctx context.Context, id int64, load func(context.Context, int64) (*instance.Instance, error)) (*instance.Instance, error) {
	r.mu.Lock()
	l, ok := r.seen[id]
	turn := r.turn
	r.mu.Unlock()
	if ok && time.Since(l.at) < fresh {
		return l.i, nil
	}
	at := time.Now()
	i, err := load(ctx, id)
	if err != nil || i == nil {
		return nil, err
	}
	// It is shared from now on, and this is made when it is first asked for.
	i.ExpandedConfig()
	i.ExpandedDevices()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turn != turn {
		return i, nil
	}
	for id, l := range r.seen {
		if time.Since(l.at) >= fresh {
			delete(r.seen, id)
		}
	}
	if r.seen == nil {
		r.seen = map[int64]loaded{}
	}
	r.seen[id] = loaded{i, at}
	return i, nil
}

// forget drops an instance that has changed.
func (r *recent) forget(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn++
	delete(r.seen, id)
}
