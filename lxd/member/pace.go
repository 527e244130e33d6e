package member

import (
	"context"
	"sync"
	"time"

	"sett/lxd/dqlite"
)

// pace tells when a member is to look whether elections of the database's leader have the
// time that its disk needs (see package dqlite): while there is no leader who gets as far as
// to call the members, and now and then while they have more time than is usual.
type pace struct {
	mu     sync.Mutex
	called time.Time // when the leader called last; one may be elected again and again, and get no further
	leads  bool      // that was this member
	looked time.Time
	leader uint64    // whom this member's node took for the leader when it was asked last
	since  time.Time // when it said so for the first time
}

const (
	// uncalledTime is how long the leader need not call while all is well. It may take longer
	// where one member is dead and another one is to get its part, so whoever misses its call
	// for doubtTime looks whether there is one: who has led for steadyTime is no matter of
	// elections. Where they fail a leader is lost again within a second.
	uncalledTime = 5 * time.Second
	doubtTime    = 3 * time.Second
	steadyTime   = 2 * time.Second
	// lookEvery is the pause between two looks where he does not, and easeEvery where he does.
	lookEvery = 10 * time.Second
	easeEvery = 10 * time.Minute
	// turnTime is between two members who look because he calls again. They have all missed him
	// at the same moment, and if they were started anew together he would lead nobody.
	turnTime = 10 * time.Second
	turns    = 16
)

// led notes that a leader calls the members, which may be this one.
func (p *pace) led(leads bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.called, p.leads = now, leads
}

// due reports whether to look now, and whether there is a leader who calls. While there is
// none, less time for elections than before is of no use.
func (p *pace) due(slowed bool, member uint64, now time.Time) (look, led bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.called.IsZero() {
		p.called = now // it has just been started
	}
	every := lookEvery
	if led = now.Sub(p.called) < uncalledTime; led {
		every = easeEvery + time.Duration(member%turns)*turnTime
		if !slowed || p.leads { // whoever leads would be missed
			return false, led
		}
	}
	steady := p.leader != 0 && now.Sub(p.since) >= steadyTime
	if now.Sub(p.looked) < every || !led && steady {
		return false, led
	}
	p.looked = now
	return true, led
}

// doubts reports whether the leader should have called by now.
func (p *pace) doubts(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.called.IsZero() && now.Sub(p.called) >= doubtTime
}

// follows notes whom this member's node takes for the leader; 0 is nobody.
func (p *pace) follows(leader uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if leader != p.leader {
		p.leader, p.since = leader, now
	}
}

// keepPace looks after this member's pace until the context ends.
func (s *Service) keepPace(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if !s.here.Clustered() {
				continue
			}
			n := s.Store.Node()
			var leader uint64
			if s.pace.doubts(now) {
				leader = believed(ctx, n)
			}
			s.pace.follows(leader, now)
			if look, led := s.pace.due(n.Slowed(), n.ID(), now); look {
				if err := n.Pace(ctx, led); err != nil && ctx.Err() == nil {
					s.Log.Warn("Could not adapt elections to the disk", "err", err)
				}
			}
		}
	}
}

// believed is whom a node takes for the leader; nobody when it does not say so at once.
func believed(ctx context.Context, n *dqlite.Node) uint64 {
	ctx, cancel := context.WithTimeout(ctx, time.Second/2)
	defer cancel()
	l, err := n.Believed(ctx)
	if err != nil {
		return 0
	}
	return l.ID
}
