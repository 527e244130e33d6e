package driver

import "sync"

// Mounts counts the users of each volume, so that the first one mounts it and the
// last one unmounts it. The zero value is ready.
type Mounts struct {
	mu sync.Mutex
	m  map[string]*mount
}

type mount struct {
	mu    sync.Mutex // held while mounting and unmounting
	users int
	refs  int // goroutines that hold or wait for mu, plus users
}

func (m *Mounts) get(key string) *mount {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = map[string]*mount{}
	}
	e := m.m[key]
	if e == nil {
		e = &mount{}
		m.m[key] = e
	}
	e.refs++
	return e
}

func (m *Mounts) put(key string, e *mount) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.refs--
	if e.refs == 0 && e.users == 0 {
		delete(m.m, key)
	}
}

// Acquire adds a user. first mounts; it runs when there was no user, and finding
// the volume mounted already is its success.
func (m *Mounts) Acquire(key string, first func() error) error {
	e := m.get(key)
	defer m.put(key, e)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users == 0 {
		if err := first(); err != nil {
			return err
		}
	}
	e.users++
	return nil
}

// Release takes a user away. last unmounts. Without users it runs last as well:
// they may have come before the daemon was restarted.
func (m *Mounts) Release(key string, last func() error) error {
	e := m.get(key)
	defer m.put(key, e)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users > 1 {
		e.users--
		return nil
	}
	if err := last(); err != nil {
		return err
	}
	e.users = 0
	return nil
}
