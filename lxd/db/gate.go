package db

import (
	"context"
	"database/sql"
	"sync"
)

// gate lets transactions in, until it is shut for those who change what is beneath.
type gate struct {
	mu     sync.Mutex
	inside int
	shut   chan struct{} // closed when the gate opens again; nil while it is open
	empty  chan struct{} // closed when the last one has left a shut gate
}

func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		shut := g.shut
		if shut == nil {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		select {
		case <-shut:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

func (g *gate) close(ctx context.Context) error {
	g.mu.Lock()
	for g.shut != nil {
		shut := g.shut
		g.mu.Unlock()
		select {
		case <-shut:
		case <-ctx.Done():
			return ctx.Err()
		}
		g.mu.Lock()
	}
	g.shut = make(chan struct{})
	empty := make(chan struct{})
	if g.inside == 0 {
		close(empty)
	} else {
		g.empty = empty
	}
	g.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		g.open()
		return ctx.Err()
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.empty = nil
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// Pause waits for the transactions that run and keeps new ones waiting until resume
// is called, which may be done twice. In between, Swap may put another database
// beneath.
func (d *DB) Pause(ctx context.Context) (resume func(), err error) {
	if err := d.gate.close(ctx); err != nil {
		return nil, d.giveUp(ctx, err)
	}
	return sync.OnceFunc(d.gate.open), nil
}

// Swap puts another pool beneath a DB that is paused, and returns the one before,
// which is the caller's to close.
func (d *DB) Swap(pool *sql.DB) (old *sql.DB) { return d.pool.Swap(pool) }
