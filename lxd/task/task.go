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
	// Every is the time from the end of one run to the start of the next. Zero means
	// that the job runs only when it is kicked.
	Every time.Duration
	// Next, when set, is asked instead of Every: it returns the time of the next run,
	// or the zero time for none until the job is kicked (a schedule that a
	// configuration key holds).
	Next func(now time.Time) time.Time
	// Jitter adds up to this much to each wait.
	Jitter time.Duration
	// AtStart runs the job at once when the runner starts, or when it is added later.
	AtStart bool
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
	waiting []*Handle // added before Start
}

// New returns a runner that does nothing until Start.
func New(log *slog.Logger) *Runner {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Runner{log: log}
}

// Handle is a job that was added.
type Handle struct {
	job  Job
	kick chan struct{}
	plan chan struct{}
	stop chan struct{}
	once sync.Once
}

// Add takes a job in, before or after Start. After Stop it does nothing.
func (r *Runner) Add(j Job) *Handle {
	h := &Handle{job: j, kick: make(chan struct{}, 1), plan: make(chan struct{}, 1), stop: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
	case r.started:
		r.launch(h)
	default:
		r.waiting = append(r.waiting, h)
	}
	return h
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
	for _, h := range r.waiting {
		r.launch(h)
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

// Kick runs the job now, or once more after the run that is under way.
func (h *Handle) Kick() { poke(h.kick) }

// Replan asks Next again, after what it looks at has changed.
func (h *Handle) Replan() { poke(h.plan) }

// Remove takes the job out. A run that is under way goes on to its end.
func (h *Handle) Remove() { h.once.Do(func() { close(h.stop) }) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (r *Runner) launch(h *Handle) {
	if h.job.AtStart {
		h.Kick()
	}
	r.wg.Go(func() { r.loop(h) })
}

func (r *Runner) loop(h *Handle) {
	for {
		var due <-chan time.Time
		var timer *time.Timer
		if d, ok := h.wait(time.Now()); ok {
			timer = time.NewTimer(d)
			due = timer.C
		}
		run := false
		select {
		case <-r.ctx.Done():
		case <-h.stop:
		case <-h.plan:
		case <-h.kick:
			run = true
		case <-due:
			run = true
		}
		if timer != nil {
			timer.Stop()
		}
		select {
		case <-h.stop:
			return
		default:
		}
		if r.ctx.Err() != nil {
			return
		}
		if run {
			if err := h.run(r.ctx); err != nil && r.ctx.Err() == nil {
				r.log.Warn("Periodic job failed", "job", h.job.Name, "err", err)
			}
		}
	}
}

func (h *Handle) wait(now time.Time) (time.Duration, bool) {
	d := h.job.Every
	if h.job.Next != nil {
		next := h.job.Next(now)
		if next.IsZero() {
			return 0, false
		}
		d = max(0, next.Sub(now))
	} else if d <= 0 {
		return 0, false
	}
	if h.job.Jitter > 0 {
		d += rand.N(h.job.Jitter)
	}
	return d, true
}

// run keeps a job that panics from taking the daemon down with it.
func (h *Handle) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(fmt.Errorf("panic: %v", p), errors.New(string(debug.Stack())))
		}
	}()
	return h.job.Run(ctx)
}
