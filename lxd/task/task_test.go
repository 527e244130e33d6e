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
		var runs, jittered, scheduled atomic.Int32
		var ended atomic.Bool
		r.Add(Job{Name: "every", Every: 10 * time.Second, Run: func(context.Context) error {
			runs.Add(1)
			return errors.New("failing does not end it")
		}})
		r.Add(Job{Name: "jitter", Every: 10 * time.Second, Jitter: 10 * time.Second, Run: func(context.Context) error {
			jittered.Add(1)
			panic("nor does a panic")
		}})
		minute := func(now time.Time) time.Time { return now.Truncate(time.Minute).Add(time.Minute) }
		r.Add(Job{Name: "scheduled", Next: minute, Run: func(ctx context.Context) error {
			if scheduled.Add(1) == 2 {
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
		if runs.Load() != 9 || jittered.Load() < 4 || jittered.Load() > 9 || scheduled.Load() != 1 {
			t.Errorf("runs %d %d %d", runs.Load(), jittered.Load(), scheduled.Load())
		}
		pass(t, time.Minute)
		if scheduled.Load() != 2 || ended.Load() {
			t.Errorf("runs %d, ended %v", scheduled.Load(), ended.Load())
		}
		r.Stop()
		if !ended.Load() {
			t.Error("Stop did not wait")
		}
		r.Add(Job{Name: "late", Every: time.Second, Run: func(context.Context) error { t.Error("ran after Stop"); return nil }})
		pass(t, time.Hour)
	})
}
