package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"sett/shared/errs"
)

// Key names what is locked. It must be comparable, and two keys that differ must
// print differently.
type Key any

// Holder is somebody who has a lock.
type Holder struct {
	Key   Key
	Owner string // what it does: `operation 1f0c (Starting instance)`
	Since time.Time
	Brief bool // it is over in a moment, so waiting is better than turning back
}

// Manager is a set of locks. It is made by New.
type Manager struct {
	mu    sync.Mutex
	locks map[Key]*entry
}

// entry is a lock that is held; a free one has none.
type entry struct {
	holder  Holder
	waiting []chan struct{} // first come, first served; closed when it is its turn
	next    []Holder        // what the waiting will be
}

// New returns a set of locks, all free.
func New() *Manager { return &Manager{locks: map[Key]*entry{}} }

// Busy is the error of a lock that could not be had.
type Busy struct {
	Holder Holder
	Cause  error // why waiting ended; nil when there was none
}

func (b *Busy) Error() string {
	return fmt.Sprintf("%v is busy: %s holds it; try again later", b.Holder.Key, b.Holder.Owner)
}

// Unwrap lets the caller see why waiting ended, and gives the error its kind.
func (b *Busy) Unwrap() []error {
	kind := errs.Wrap(errs.KindUnavailable, errors.New("busy"))
	if b.Cause == nil {
		return []error{kind}
	}
	return []error{kind, b.Cause}
}

// Lock takes all keys for owner, which says in words what it is doing, and waits
// for those that are held until ctx ends. unlock gives them back; it may be called
// more than once. Whoever holds a lock must not ask for further ones: ask for all at
// once.
func (m *Manager) Lock(ctx context.Context, owner string, keys ...Key) (unlock func(), err error) {
	return m.lockAll(ctx, Holder{Owner: owner}, keys)
}

// LockBriefly is Lock for those who give it back in a moment, and says so to others.
func (m *Manager) LockBriefly(ctx context.Context, owner string, keys ...Key) (unlock func(), err error) {
	return m.lockAll(ctx, Holder{Owner: owner, Brief: true}, keys)
}

func (m *Manager) lockAll(ctx context.Context, h Holder, keys []Key) (unlock func(), err error) {
	keys = ordered(keys)
	for i, k := range keys {
		h.Key = k
		if err := m.lock(ctx, h); err != nil {
			m.release(keys[:i])
			return nil, err
		}
	}
	return sync.OnceFunc(func() { m.release(keys) }), nil
}

// TryLock takes all keys or none, and does not wait: when one is held the error is a
// *Busy that names who holds it.
func (m *Manager) TryLock(owner string, keys ...Key) (unlock func(), err error) {
	return m.tryAll(Holder{Owner: owner}, keys)
}

// TryLockBriefly is TryLock for those who give it back in a moment, and says so to others.
func (m *Manager) TryLockBriefly(owner string, keys ...Key) (unlock func(), err error) {
	return m.tryAll(Holder{Owner: owner, Brief: true}, keys)
}

func (m *Manager) tryAll(h Holder, keys []Key) (unlock func(), err error) {
	keys = ordered(keys)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		if e := m.locks[k]; e != nil {
			return nil, &Busy{Holder: e.holder}
		}
	}
	h.Since = time.Now()
	for _, k := range keys {
		h.Key = k
		m.locks[k] = &entry{holder: h}
	}
	return sync.OnceFunc(func() { m.release(keys) }), nil
}

// Retitle changes what the owner of keys that are held is said to be doing. It is for the
// one who holds them.
func (m *Manager) Retitle(owner string, keys ...Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		if e := m.locks[k]; e != nil {
			e.holder.Owner = owner
		}
	}
}

// Holder tells who holds a key.
func (m *Manager) Holder(k Key) (Holder, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.locks[k]; e != nil {
		return e.holder, true
	}
	return Holder{}, false
}

// Held lists all locks that are held, oldest first.
func (m *Manager) Held() []Holder {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Holder, 0, len(m.locks))
	for _, e := range m.locks {
		out = append(out, e.holder)
	}
	slices.SortFunc(out, func(a, b Holder) int { return a.Since.Compare(b.Since) })
	return out
}

func (m *Manager) lock(ctx context.Context, h Holder) error {
	k := h.Key
	m.mu.Lock()
	e := m.locks[k]
	if err := ctx.Err(); err != nil {
		m.mu.Unlock()
		return err
	}
	if e == nil {
		h.Since = time.Now()
		m.locks[k] = &entry{holder: h}
		m.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	e.waiting = append(e.waiting, turn)
	e.next = append(e.next, h)
	m.mu.Unlock()

	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-turn: // it became ours in this moment; hand it on
		m.pass(k)
		return ctx.Err()
	default:
	}
	i := slices.Index(e.waiting, turn)
	e.waiting = slices.Delete(e.waiting, i, i+1)
	e.next = slices.Delete(e.next, i, i+1)
	return &Busy{Holder: e.holder, Cause: ctx.Err()}
}

func (m *Manager) release(keys []Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range slices.Backward(keys) {
		m.pass(k)
	}
}

// pass gives a lock to the first who waits, or frees it. m.mu is held.
func (m *Manager) pass(k Key) {
	e := m.locks[k]
	if len(e.waiting) == 0 {
		delete(m.locks, k)
		return
	}
	e.holder = e.next[0]
	e.holder.Since = time.Now()
	close(e.waiting[0])
	e.waiting, e.next = e.waiting[1:], e.next[1:]
}

// ordered returns the keys once each, in an order that is the same for everybody.
func ordered(keys []Key) []Key {
	type named struct {
		name string
		key  Key
	}
	all := make([]named, len(keys))
	for i, k := range keys {
		all[i] = named{fmt.Sprintf("%v\x00%T", k, k), k}
	}
	sort.Slice(all, func(i, j int) bool { return strings.Compare(all[i].name, all[j].name) < 0 })
	out := make([]Key, 0, len(keys))
	for i, n := range all {
		if i == 0 || n.key != all[i-1].key {
			out = append(out, n.key)
		}
	}
	return out
}
