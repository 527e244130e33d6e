package member

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/dqlite"
	"sett/shared/errs"
)

// The leader of the database calls all members in turn and tells each of them what it
// knows: who the members are, and how long ago each was heard of. None of it is
// written to the shared database.

// beatEvery is the pause between two rounds, for a threshold.
func beatEvery(threshold time.Duration) time.Duration {
	return max(500*time.Millisecond, min(threshold/8, 2500*time.Millisecond))
}

// beatTime is what a member may take to answer.
const beatTime = 2 * time.Second

// balanceTime bounds what a round may take to change the parts in the database.
const balanceTime = 4 * time.Second

type heartbeat struct {
	From  int64           `json:"from"`
	Peers []cluster.Peer  `json:"peers"`
	Raft  []dqlite.Member `json:"raft"`
	// Silent is how long each member has been silent, by its id.
	Silent map[int64]time.Duration `json:"silent"`
	// Threshold is from when on silence means that a member is offline.
	Threshold time.Duration `json:"threshold"`
	view
}

// Start begins the heartbeat, which ends with the context; Close waits for its end.
func (s *Service) Start(ctx context.Context) {
	s.Store.OnTight(s.kick)
	s.wg.Go(func() {
		told := false
		for s.due(ctx) {
			if !s.here.Clustered() {
				continue
			}
			// Every member looks by itself: where nobody has room there may be no leader.
			short := s.room().Free != nil
			if short && !told {
				s.tellLeader(ctx)
			}
			told = short
			s.awaken(ctx)
			if err := s.round(ctx); err != nil && ctx.Err() == nil {
				s.Log.Warn("Heartbeat failed", "err", err)
			}
		}
	})
	s.wg.Go(func() { s.keepPace(ctx) })
}

// due waits until it is time for a round, which it never is on a server that stands
// alone. It reports whether to go on.
func (s *Service) due(ctx context.Context) bool {
	var timer <-chan time.Time
	if s.here.Clustered() {
		every := beatEvery(s.Cluster.Threshold())
		if s.rooms.any() {
			every = beatEvery(0)
		}
		t := time.NewTimer(every)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-timer:
	case <-s.beat:
	}
	return true
}

// Close waits until nothing of the service runs any more.
func (s *Service) Close() { s.wg.Wait() }

// kick has the leader go round at once.
func (s *Service) kick() {
	select {
	case s.beat <- struct{}{}:
	default:
	}
}

// round is one round of the leader's; other members do nothing.
func (s *Service) round(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	n := s.Store.Node()
	leads, err := n.Leads(ctx)
	if err != nil || !leads {
		return err
	}
	own := s.room()
	// Before anything is asked of a database that can perhaps not be written any more.
	if own.Free != nil && s.giveWay(ctx) {
		return nil
	}
	if c, err := s.Config(ctx); err == nil {
		s.Cluster.SetThreshold(offlineThreshold.Get(c))
	}
	peers, err := loadPeers(ctx, s.DB)
	if err != nil {
		return err
	}
	if err := s.learn(ctx, peers); err != nil {
		return err
	}
	ms, err := s.Cluster.Members(ctx)
	if err != nil {
		return err
	}
	raft, err := n.Members(ctx)
	if err != nil {
		return err
	}
	s.keepRaft(ctx, raft)
	s.Cluster.Saw(s.here.ID(), time.Now())
	s.pace.led(true, time.Now())
	h := heartbeat{From: s.here.ID(), Peers: peers, Raft: raft, Threshold: s.Cluster.Threshold(), Silent: map[int64]time.Duration{}, view: s.rooms.found()}
	for _, m := range ms {
		h.Silent[m.ID] = time.Since(s.Cluster.LastSeen(m.ID))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	answered := map[uint64]bool{uint64(s.here.ID()): true}
	short := map[int64]uint64{}
	if own.Free != nil {
		short[s.here.ID()] = *own.Free
	}
	for _, m := range ms {
		if m.ID == s.here.ID() {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, beatTime)
			defer cancel()
			to := s.relay().To(m)
			to.Alive = nil // that is what this is to find out
			var a heard
			if err := to.Call(ctx, relay.Request{Method: http.MethodPost, Path: pathHeartbeat, Body: h}, &a); err != nil {
				s.Log.Debug("A member does not answer the heartbeat", "member", m.Name, "err", err)
				return
			}
			s.Cluster.Saw(m.ID, time.Now())
			mu.Lock()
			defer mu.Unlock()
			if a.Free != nil {
				short[m.ID] = *a.Free // no vote for it
				return
			}
			answered[uint64(m.ID)] = true
		})
	}
	wg.Wait()
	f := find(raft, answered, short, func(id uint64) string {
		for _, m := range ms {
			if uint64(m.ID) == id {
				return m.Name
			}
		}
		return fmt.Sprintf("database member %d", id)
	})
	v := view{Short: short, Full: s.rooms.weigh(f), Able: f.able}
	s.Store.SetFull(v.Full)
	if s.rooms.set(v) {
		s.kick() // the others are to know
	}
	if v.Full != "" {
		return nil // nothing is written
	}
	// A member that goes while it gets a part must not hold up the next round.
	ctx, cancel = context.WithTimeout(ctx, balanceTime)
	defer cancel()
	return s.balance(ctx, ms, raft, answered)
}

// hear takes the leader's news.
func (s *Service) hear(ctx context.Context, h heartbeat) error {
	if err := s.clustered(); err != nil {
		return err
	}
	if !slices.ContainsFunc(h.Peers, func(p cluster.Peer) bool { return p.Address == s.here.Address() }) {
		return errs.Invalid("The heartbeat is of a cluster that does not know this member")
	}
	if h.Threshold > 0 {
		s.Cluster.SetThreshold(h.Threshold)
	}
	now := time.Now()
	for id, d := range h.Silent {
		s.Cluster.Saw(id, now.Add(-d))
	}
	s.Cluster.Saw(h.From, now)
	s.rooms.hear(h.view, now)
	s.pace.led(false, now)
	s.Store.SetFull(h.Full)
	if err := s.rest(); err != nil {
		return err
	}
	s.keepRaft(ctx, h.Raft)
	return s.learn(ctx, h.Peers)
}

// keepRaft remembers the members of the database for the next start.
func (s *Service) keepRaft(ctx context.Context, all []dqlite.Member) {
	known, err := s.Store.Local.Members().Get(ctx)
	byID := func(a, b dqlite.Member) int { return int(int64(a.ID) - int64(b.ID)) }
	all = slices.Clone(all)
	slices.SortFunc(all, byID)
	slices.SortFunc(known, byID)
	if err == nil && slices.Equal(known, all) || len(all) == 0 {
		return
	}
	if err := s.Store.Local.Members().Set(ctx, all); err != nil {
		s.Log.Warn("Could not note the members of the database", "err", err)
	}
}
