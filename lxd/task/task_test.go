package task

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pass lets the bubble's clock run.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
	synctest.Wait()
}

func TestJobsRunOnTimeAndStopWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New(nil)
		var runs, jittered, kicked atomic.Int32
		var ended atomic.Bool
		r.Add(Job{Name: "every", Every: 10 * time.Second, AtStart: true, Run: func(context.Context) error {
			runs.Add(1)
			return errors.New("failing does not end it")
		}})
		r.Add(Job{Name: "jitter", Every: 10 * time.Second, Jitter: 10 * time.Second, Run: func(context.Context) error {
			jittered.Add(1)
			panic("nor does a panic")
		}})
		k := r.Add(Job{Name: "kicked", Run: func(ctx context.Context) error {
			kicked.Add(1)
			if kicked.Load() == 2 {
				<-ctx.Done()
				ended.Store(true)
			}
			return nil
		}})
		pass(t, time.Hour)
		if runs.Load() != 0 {
			t.Fatal("a job ran before Start")
		}
		r.Start(t.Context())
		pass(t, 95*time.Second)
		if runs.Load() != 10 || jittered.Load() < 4 || jittered.Load() > 9 || kicked.Load() != 0 {
			t.Errorf("runs %d %d %d", runs.Load(), jittered.Load(), kicked.Load())
		}
		k.Kick()
		synctest.Wait()
		k.Kick()
		synctest.Wait()
		if kicked.Load() != 2 || ended.Load() {
			t.Errorf("kicked %d, ended %v", kicked.Load(), ended.Load())
		}
		r.Stop()
		if !ended.Load() {
			t.Error("Stop did not wait")
		}
		r.Add(Job{Name: "late", AtStart: true, Run: func(context.Context) error { t.Error("ran after Stop"); return nil }})
		pass(t, time.Hour)
	})
}

func TestNextIsAskedAgainOnReplan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at atomic.Pointer[time.Time]
		at.Store(&time.Time{})
		var runs atomic.Int32
		r := New(nil)
		r.Start(t.Context())
		defer r.Stop()
		h := r.Add(Job{Name: "scheduled", Next: func(now time.Time) time.Time {
			if n := *at.Load(); n.After(now) {
				return n
			}
			return time.Time{}
		}, Run: func(context.Context) error { runs.Add(1); return nil }})
		pass(t, time.Hour)
		if runs.Load() != 0 {
			t.Fatal("ran without a schedule")
		}
		soon := time.Now().Add(time.Minute)
		at.Store(&soon)
		h.Replan()
		pass(t, 2*time.Minute)
		if runs.Load() != 1 {
			t.Fatalf("runs %d", runs.Load())
		}
		h.Remove()
		h.Kick()
		pass(t, time.Minute)
		if runs.Load() != 1 {
			t.Error("ran after Remove")
		}
	})
}
