// Package task runs periodic jobs: heartbeats, pruning, refreshing.
//
// A Runner owns its jobs: it starts them, hands them a context, tells what failed,
// and Stop waits until the last one has returned. A job never overlaps itself; its
// next run is counted from the end of the last one, with jitter so that members
// don't all knock at the same second.
//
// It takes its time from package time alone, so that a test puts it into a
// testing/synctest bubble and has all the time in the world.
package task
