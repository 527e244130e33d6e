package member

import (
	"context"
	"slices"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/dqlite"
)

// change is one step towards the roles that the members should have.
type change struct {
	id   uint64
	role dqlite.Role
}

// balance gives the members of the database their roles, one step after the other.
// The leader calls it after each heartbeat, with those that have answered it: no other
// one gets a part that it did not have.
func (s *Service) balance(ctx context.Context, ms []cluster.Member, raft []dqlite.Member, answered map[uint64]bool) error {
	w, err := s.wanted(ctx, ms)
	if err != nil {
		return err
	}
	w.silent = func(id uint64) bool { return !answered[id] }
	for range 2 * len(raft) {
		step, ok := w.next(raft)
		if !ok {
			return nil
		}
		if raft, err = s.take(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) wanted(ctx context.Context, ms []cluster.Member) (want, error) {
	c, err := s.Config(ctx)
	if err != nil {
		return want{}, err
	}
	more, err := loadDetails(ctx, s.DB)
	if err != nil {
		return want{}, err
	}
	w := want{leader: s.Store.Node().ID(), voters: maxVoters.Get(c), standBy: maxStandBy.Get(c), online: map[uint64]bool{}, short: s.rooms.found().Short, domain: map[uint64]string{}}
	for _, m := range ms {
		// One that is still joining may be gone in a moment.
		w.online[uint64(m.ID)] = s.Cluster.Online(m) && m.State != cluster.StatePending
		w.domain[uint64(m.ID)] = more[m.ID].domain
	}
	return w, nil
}

// take takes one step, and returns the members after it.
func (s *Service) take(ctx context.Context, step change) ([]dqlite.Member, error) {
	if err := s.Store.Node().Assign(ctx, step.id, step.role); err != nil {
		return nil, err
	}
	s.Log.Info("Changed a member's part in the database", "member", step.id, "role", step.role)
	raft, err := s.Store.Node().Members(ctx)
	if err == nil {
		s.keepRaft(ctx, raft)
	}
	return raft, err
}

// handOverTime bounds what a member that goes may take to find others for its part.
const handOverTime = 3 * time.Second

// HandOver gives this member's part in the database to others, before the daemon
// ends. Those who are left have a majority then, where they can.
func (s *Service) HandOver(ctx context.Context) error {
	if !s.here.Clustered() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	n := s.Store.Node()
	if l, err := n.Believed(ctx); err != nil || l.ID == 0 {
		return err // there is no database that somebody could take over
	}
	ms, err := s.Cluster.Members(ctx)
	if err != nil {
		return err
	}
	w, err := s.wanted(ctx, ms)
	if err != nil {
		return err
	}
	w.online[n.ID()] = false
	// Whoever follows may know of fewer voters than the leader that it follows: a part
	// that was given a moment ago is lost with the leader that gave it. So the parts are
	// looked at again when somebody else leads.
	for range handOverRounds {
		raft, leader, err := n.Shape(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(raft, func(m dqlite.Member) bool { return m.ID == n.ID() && m.Role == dqlite.Voter }) {
			return nil
		}
		w.leader = leader
		if err := s.handParts(ctx, w, raft); err != nil {
			return err
		}
		if leader != n.ID() {
			return nil
		}
		if err := n.Handover(ctx); err != nil {
			return err
		}
		if l, err := n.Leads(ctx); err != nil || l { // there is nobody who could
			return err
		}
	}
	return nil
}

// handOverRounds is how often leadership may come back to a member that goes.
const handOverRounds = 4

// handParts takes the steps towards what the others want to be without this member.
func (s *Service) handParts(ctx context.Context, w want, raft []dqlite.Member) error {
	n := s.Store.Node()
	for range 2 * len(raft) {
		step, ok := w.next(raft)
		if !ok {
			return nil
		}
		var err error
		if step.id == n.ID() {
			// Only another leader can take its vote away.
			if err = n.Handover(ctx); err != nil {
				return err
			}
		}
		if raft, err = s.take(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// want is what the roles should be.
type want struct {
	leader          uint64
	voters, standBy int
	online          map[uint64]bool
	short           map[int64]uint64     // who has no room for the log, and may rest
	silent          func(id uint64) bool // of those that were asked just now; nil when nobody was
	domain          map[uint64]string
}

// up reports whether a member can have a part. A leader without room gives way before it
// gives its part away.
func (w want) up(id uint64) bool {
	_, short := w.short[int64(id)]
	return w.online[id] && (!short || id == w.leader)
}

// next finds the next step, if there is one. With two members one votes: two voters
// would stop when either of them dies, one only when that one does.
func (w want) next(raft []dqlite.Member) (change, bool) {
	voters := w.voters
	if len(raft) < 3 {
		voters = 1
	} else if len(raft) < voters {
		voters = (len(raft) - 1) | 1
		if voters > len(raft) {
			voters = len(raft)
		}
	}
	var on, off, stand, spare []dqlite.Member
	for _, m := range raft {
		switch {
		case m.Role == dqlite.Voter && w.up(m.ID):
			on = append(on, m)
		case m.Role == dqlite.Voter:
			off = append(off, m)
		case m.Role == dqlite.StandBy:
			stand = append(stand, m)
		default:
			spare = append(spare, m)
		}
	}
	if len(on) < voters {
		if m, ok := w.best(append(w.alive(stand), w.alive(spare)...), on); ok {
			return change{m.ID, dqlite.Voter}, true
		}
	}
	// Those who are away give their vote up when enough others have one, so that they
	// are not counted for a majority.
	if len(off) > 0 && len(on) >= voters {
		return change{off[0].ID, dqlite.Spare}, true
	}
	if len(on) > voters {
		for _, m := range on {
			if m.ID != w.leader {
				return change{m.ID, dqlite.Spare}, true
			}
		}
	}
	alive := w.alive(stand)
	if len(alive) < len(stand) {
		for _, m := range stand {
			if !w.up(m.ID) {
				return change{m.ID, dqlite.Spare}, true
			}
		}
	}
	if len(alive) < w.standBy {
		if m, ok := w.best(w.alive(spare), append(on, alive...)); ok {
			return change{m.ID, dqlite.StandBy}, true
		}
	}
	if len(alive) > w.standBy {
		return change{alive[len(alive)-1].ID, dqlite.Spare}, true
	}
	return change{}, false
}

func (w want) alive(all []dqlite.Member) []dqlite.Member {
	var out []dqlite.Member
	for _, m := range all {
		if w.up(m.ID) {
			out = append(out, m)
		}
	}
	return out
}

// best picks the first that is not silent, in a failure domain that none of the others
// is in, or else in any.
func (w want) best(from, others []dqlite.Member) (dqlite.Member, bool) {
	taken := map[string]bool{}
	for _, o := range others {
		taken[w.domain[o.ID]] = true
	}
	if w.silent != nil {
		from = slices.DeleteFunc(slices.Clone(from), func(m dqlite.Member) bool { return w.silent(m.ID) })
	}
	for _, m := range from {
		if !taken[w.domain[m.ID]] {
			return m, true
		}
	}
	if len(from) == 0 {
		return dqlite.Member{}, false
	}
	return from[0], true
}
