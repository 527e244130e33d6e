package driver

import (
	"context"
	"crypto/rand"
	"sync"
)

// bin removes things in the background, one at a time, and knows which half-made
// things this process is still working on. The zero value is ready.
type bin struct {
	mu      sync.Mutex
	jobs    []func()
	running bool
	idle    chan struct{} // closed when the queue has run empty
	mine    map[string]bool
}

func randomName() string { return rand.Text()[:16] }

// name makes up the name of something new.
func (b *bin) name() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := randomName()
	b.note(n)
	return n
}

func (b *bin) note(n string) {
	if b.mine == nil {
		b.mine = map[string]bool{}
	}
	b.mine[n] = true
}

// claim takes a name unless somebody has it.
func (b *bin) claim(n string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mine[n] {
		return false
	}
	b.note(n)
	return true
}

func (b *bin) done(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.mine, name)
}

func (b *bin) busy(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mine[name]
}

// add queues a removal. The goroutine that works the queue ends with it.
func (b *bin) add(job func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs = append(b.jobs, job)
	if b.running {
		return
	}
	b.running = true
	b.idle = make(chan struct{})
	go b.work()
}

func (b *bin) work() {
	for {
		b.mu.Lock()
		if len(b.jobs) == 0 {
			b.running = false
			close(b.idle)
			b.mu.Unlock()
			return
		}
		job := b.jobs[0]
		b.jobs = b.jobs[1:]
		b.mu.Unlock()
		job()
	}
}

// wait returns when nothing is left to do, or with ctx.
func (b *bin) wait(ctx context.Context) error {
	b.mu.Lock()
	running, idle := b.running, b.idle
	b.mu.Unlock()
	if !running {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
