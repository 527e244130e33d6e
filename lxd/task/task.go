package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"
)

// Job is something to do again and again.
type Job struct {
	Name string
	// Every is the time from the end of one run to the start of the next.
	Every time.Duration
	// Next, when set, is asked instead of Every: it returns the time of the next run.
	Next func(now time.Time) time.Time
	// Jitter adds up to this much to each wait.
	Jitter time.Duration
	// Run does the work and returns soon after ctx ends.
	Run func(ctx context.Context) error
}

// Runner runs jobs. It is made by New.
type Runner struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	wg      sync.WaitGroup
	started bool
	stopped bool
	waiting []Job // added before Start
}

// New returns a runner that does nothing until Start.
func New(log *slog.Logger) *Runner {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Runner{log: log}
}

// Add takes a job in, before or after Start. After Stop it does nothing.
func (r *Runner) Add(j Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
	case r.started:
		r.launch(j)
	default:
		r.waiting = append(r.waiting, j)
	}
}

// Start begins to run the jobs; they end with ctx or with Stop.
func (r *Runner) Start(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started || r.stopped {
		return
	}
	r.ctx, r.cancel = context.WithCancel(ctx)
	r.started = true
	for _, j := range r.waiting {
		r.launch(j)
	}
	r.waiting = nil
}

// Stop ends the contexts of the jobs that run and waits for them.
func (r *Runner) Stop() {
	r.mu.Lock()
	r.stopped = true
	if r.cancel != nil {
		r.cancel()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *Runner) launch(j Job) { r.wg.Go(func() { r.loop(j) }) }

func (r *Runner) loop(j Job) {
	for {
		t := time.NewTimer(j.wait(time.Now()))
		select {
		case <-r.ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if err := j.run(r.ctx); err != nil && r.ctx.Err() == nil {
			r.log.Warn("Periodic job failed", "job", j.Name, "err", err)
		}
	}
}

func (j Job) wait(now time.Time) time.Duration {
	d := j.Every
	if j.Next != nil {
		d = max(0, j.Next(now).Sub(now))
	}
	if j.Jitter > 0 {
		d += rand.N(j.Jitter)
	}
	return d
}

// run keeps a job that panics from taking the daemon down with it.
func (j Job) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(fmt.Errorf("panic: %v", p), errors.New(string(debug.Stack())))
		}
	}()
	return j.Run(ctx)
}
