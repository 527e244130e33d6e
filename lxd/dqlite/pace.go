package dqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A candidate writes its term and its vote to its disk before it asks for the votes of
// others, and those do the same before they give them. At the usual pace an election is
// given up after 0.3 s. Where the disk takes longer for these four writes, each election is
// given up before it is decided, and there is never a leader. So a node that misses a leader
// measures its disk, and gives elections as much time as that needs.

// slowest is how many times the usual latency a node may be told. The heartbeats of such a
// leader are 1.5 to 3 of its latencies apart, up to 0.48 s, and a member at the usual pace
// waits for 0.3 to 0.6 s: how long is drawn anew only when it has waited in vain. So it may do
// that a few times, but the others, who hear their leader, give it no vote.
const slowest = 8

// Slowed reports whether elections are given more time than is usual.
func (n *Node) Slowed() bool { return n.pace.Load() > 1 }

// Pace measures how long the disk takes, and has elections last as long as that asks for; no
// shorter than before, unless it may go back. The engine is started anew where that is another
// time than before.
func (n *Node) Pace(ctx context.Context, back bool) error {
	if n.Resting() {
		return nil
	}
	took, err := timeWrites(ctx, filepath.Join(n.opts.Dir, probeName), n.longest(slowest))
	if err != nil {
		return fmt.Errorf("measure the disk of the database: %w", err)
	}
	n.life.Lock()
	defer n.life.Unlock()
	needs := n.paceFor(took)
	if !back {
		needs = max(needs, n.pace.Load())
	}
	if n.ctx.Err() != nil || n.Resting() || needs == n.pace.Load() {
		return nil
	}
	n.opts.Log.Warn("The time that elections of the database's leader may take follows the disk", "four_writes", took.Round(time.Millisecond), "shortest_election", n.shortest(needs))
	n.pace.Store(needs)
	return n.restart()
}

// paceFor is how many times the usual latency is needed where the writes of an election
// take so long.
func (n *Node) paceFor(took time.Duration) int64 {
	needs := int64(1)
	for needs < slowest && took > n.longest(needs) {
		needs *= 2
	}
	return needs
}

// shortest is after what time an election is given up at the soonest.
func (n *Node) shortest(pace int64) time.Duration {
	return 15 * time.Duration(pace) * n.opts.Latency
}

// longest is how long the writes of an election may take: what is left is for its messages,
// and for other writes at the same time.
func (n *Node) longest(pace int64) time.Duration { return n.shortest(pace) * 2 / 3 }

// probeName is of none of the files that the engine, or release, tries the disk with.
const probeName = "pace"

// timeWrites writes as an election does, and returns how long it took, or that it took
// longer than what is of interest.
func timeWrites(ctx context.Context, path string, enough time.Duration) (took time.Duration, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	start := time.Now()
	for i := 0; i < 4 && took < enough && ctx.Err() == nil; i++ {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(make([]byte, 32), 0)
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil {
			return 0, err
		}
		took = time.Since(start)
	}
	return took, ctx.Err()
}
