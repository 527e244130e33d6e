// Package gate is for fakes: it lets a test hold what it tests at a step, look around, and
// let it go on.
package gate

import (
	"context"
	"sync"
)

// Gate holds calls of steps that a test has named. The zero value is ready and open.
type Gate[Step comparable] struct {
	mu   sync.Mutex
	held map[Step]*hold
}

type hold struct{ reached, released chan struct{} }

// Hold makes the next call of a step wait until its context ends, or release is called.
// reached is closed when it waits.
func (g *Gate[Step]) Hold(s Step) (reached <-chan struct{}, release func()) {
	h := &hold{make(chan struct{}), make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = map[Step]*hold{}
	}
	g.held[s] = h
	return h.reached, sync.OnceFunc(func() { close(h.released) })
}

// Pass is called by the fake at each step. It returns at once unless the step is held.
func (g *Gate[Step]) Pass(ctx context.Context, s Step) error {
	g.mu.Lock()
	h := g.held[s]
	delete(g.held, s)
	g.mu.Unlock()
	if h == nil {
		return nil
	}
	close(h.reached)
	select {
	case <-h.released:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
