package dqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestElectionsLastAsLongAsTheDiskNeeds(t *testing.T) {
	t.Parallel()
	n := &Node{opts: Options{Latency: 20 * time.Millisecond}}
	for _, step := range []struct {
		took  time.Duration // for what a candidate and a voter write
		times int64
	}{
		{0, 1}, {200 * time.Millisecond, 1}, {201 * time.Millisecond, 2}, {600 * time.Millisecond, 4},
		{1600 * time.Millisecond, 8}, {time.Hour, 8},
	} {
		if got := n.paceFor(step.took); got != step.times {
			t.Errorf("for writes of %s the latency is %d times the usual, not %d", step.took, got, step.times)
		}
	}
}

func TestANodeGoesBackToTheUsualPace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	n := start(t, Options{Dir: t.TempDir()}) // of a node that stands alone elections last so long that any disk will do
	mustExec(t, n, `CREATE TABLE a (x TEXT)`)
	paces := func(when string, back, slowed, anew bool) {
		t.Helper()
		engine := n.at()
		if err := n.Pace(ctx, back); err != nil {
			t.Fatal(err)
		}
		if n.Slowed() != slowed || (n.at() != engine) != anew {
			t.Errorf("%s: slowed: %v, started anew: %v", when, n.Slowed(), n.at() != engine)
		}
	}
	paces("the disk is as quick as ever", true, false, false)
	n.pace.Store(slowest)
	paces("the disk is quick again while a leader is missed", false, true, false)
	paces("the disk is quick again", true, false, true)
	mustExec(t, n, `INSERT INTO a VALUES ('written after that')`)

	n.pace.Store(slowest)
	if err := n.Rest(); err != nil {
		t.Fatal(err)
	}
	if err := n.Pace(ctx, true); err != nil || !n.Resting() {
		t.Errorf("a node that rests was started: %v", err)
	}
}

// A member whose node rests is short of room for the others, and its own daemon starts the
// engine when it sees that there is room.
func TestANodeThatIsStartedAnewDoesNotRest(t *testing.T) {
	t.Parallel()
	n := start(t, Options{Dir: t.TempDir()})
	n.pace.Store(slowest)
	done := make(chan error, 1)
	go func() { done <- n.Pace(t.Context(), true) }()
	away := false
	for {
		select {
		case err := <-done:
			if err != nil || !away {
				t.Errorf("it was seen without an engine: %v, %v", away, err)
			}
			if err := n.Rest(); err != nil || !n.Resting() {
				t.Errorf("a node that was stopped does not rest: %v", err)
			}
			return
		default:
		}
		if n.at() != "" {
			continue
		}
		away = true
		if _, err := n.reach(t.Context(), n.opts.Address); errors.Is(err, errFull) {
			t.Fatalf("it is said of it: %v", err)
		}
		if n.Resting() {
			t.Fatal("it rests")
		}
	}
}

func TestADiskIsMeasuredOnlyForAsLongAsItMatters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, probeName)
	one, err := timeWrites(t.Context(), path, time.Nanosecond)
	if err != nil || one <= 0 {
		t.Errorf("%s, %v", one, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := timeWrites(ctx, path, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := timeWrites(t.Context(), filepath.Join(dir, "none", probeName), time.Hour); err == nil {
		t.Error("a folder that is not there was measured")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
