package member

import (
	"context"

	"sett/lxd/cluster"
	"sett/lxd/dqlite"
)

// change is one step towards the roles that the members should have.
type change struct {
	id   uint64
	role dqlite.Role
}

// balance gives the members of the database their roles, one step after the other.
// The leader calls it after each heartbeat.
func (s *Service) balance(ctx context.Context, ms []cluster.Member, raft []dqlite.Member) error {
	c, err := s.Config(ctx)
	if err != nil {
		return err
	}
	more, err := loadDetails(ctx, s.DB)
	if err != nil {
		return err
	}
	w := want{leader: s.Store.Node().ID(), voters: maxVoters.Get(c), standBy: maxStandBy.Get(c), online: map[uint64]bool{}, domain: map[uint64]string{}}
	for _, m := range ms {
		// One that is still joining may be gone in a moment.
		w.online[uint64(m.ID)] = s.Cluster.Online(m) && m.State != cluster.StatePending
		w.domain[uint64(m.ID)] = more[m.ID].domain
	}
	for range 2 * len(raft) {
		step, ok := w.next(raft)
		if !ok {
			return nil
		}
		if err := s.Store.Node().Assign(ctx, step.id, step.role); err != nil {
			return err
		}
		s.Log.Info("Changed a member's part in the database", "member", step.id, "role", step.role)
		if raft, err = s.Store.Node().Members(ctx); err != nil {
			return err
		}
		s.keepRaft(ctx, raft)
	}
	return nil
}

// want is what the roles should be.
type want struct {
	leader          uint64
	voters, standBy int
	online          map[uint64]bool
	domain          map[uint64]string
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
		case m.Role == dqlite.Voter && w.online[m.ID]:
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
			if !w.online[m.ID] {
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
		if w.online[m.ID] {
			out = append(out, m)
		}
	}
	return out
}

// best picks the first in a failure domain that none of the others is in, or else
// the first.
func (w want) best(from, others []dqlite.Member) (dqlite.Member, bool) {
	taken := map[string]bool{}
	for _, o := range others {
		taken[w.domain[o.ID]] = true
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
