package member

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/dqlite"
)

// The log of the database needs room, and libraft must not find that there is none (see
// package dqlite). What is done depends on who has room:
//
//	a majority of the voters, not the leader   the leader gives way to one that has
//	a majority of the voters, not this one     its node rests until it has room again
//	no majority                                nothing is written: all members refuse it.
//	                                           The nodes run, so that it can be read
//
// Who becomes short of room says so at once; the leader works out the rest in its rounds,
// which come quickly as long as somebody is short.

// rooms is what is known of the room of members.
type rooms struct {
	mu sync.Mutex
	view
	told  bool      // this member is among them, and has said so
	since time.Time // when it became one of them
	again bool      // it was, and its node has not been looked after since
	woken time.Time // when it was looked after last
	doubt bool      // the last round may have found that nothing can be written
	lone  time.Time // since when this member rests and finds no leader
	heard time.Time // when the leader called last
}

// free is how much a member has that is short of room.
func (r *rooms) free(id int64) (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, short := r.Short[id]
	return free, short
}

// view is what the leader tells the others of its last round.
type view struct {
	// Short is how much room those members have that are short of it.
	Short map[int64]uint64 `json:"short,omitempty"`
	// Full is why nothing can be written, when too many voters are short of room.
	Full string `json:"full,omitempty"`
	// Able is that the voters that have room are a majority.
	Able bool `json:"able,omitempty"`
}

// hear takes what the leader has found in its last round.
func (r *rooms) hear(v view, now time.Time) {
	r.set(v)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = now
}

// set takes what the last round found, and reports whether writes are to be refused that
// were not, or the other way round.
func (r *rooms) set(v view) (turned bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	turned = (v.Full == "") != (r.Full == "")
	r.view = v
	return turned
}

// found is what the last round found.
func (r *rooms) found() view {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.view
	v.Short = maps.Clone(v.Short)
	return v
}

// any reports whether somebody is short of room.
func (r *rooms) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told || len(r.Short) > 0
}

// heard is a member's answer to the heartbeat.
type heard struct {
	// Free is how much room a member has that is short of it; nil otherwise.
	Free *uint64 `json:"free,omitempty"`
}

// enough is how much room a member that was short must have, so that it does not go to
// and fro.
const enough = 2 * dqlite.LeastFree

// judge takes what room this member has, and whether its node rests. It reports whether
// the member was short before, and whether it is.
func (r *rooms) judge(has dqlite.Room, rests bool, now time.Time) (told, short bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	told = r.told
	short = has.Short || (told || rests) && has.Free < enough
	if short && !told {
		r.since = now
	}
	r.told, r.again = short, r.again || (told || rests) && !short
	return told, short
}

// room looks at this member's own room, and says in the log when it becomes short.
func (s *Service) room() heard {
	n := s.Store.Node()
	r, err := n.Room()
	if err != nil {
		s.Log.Warn("Could not look how much room the database has", "err", err)
		return heard{}
	}
	rests := n.Resting()
	told, short := s.rooms.judge(r, rests, time.Now())
	switch {
	case short && !told:
		s.Log.Error("The file system that holds this member's database is nearly full; free some space", "free_mib", r.Free>>20, "needs_mib", dqlite.LeastFree>>20)
		s.kick()
	case !short && told:
		s.Log.Info("The database of this member has room again")
		s.kick()
	}
	if !short && !rests {
		return heard{}
	}
	return heard{Free: &r.Free}
}

// restAfter is how long a member has no room before its node rests, for which the others
// may need it: they may be about to find that they have none either.
const restAfter = 5 * time.Second

// dispensable reports whether the others do without this member.
func (r *rooms) dispensable(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told && r.Able && now.Sub(r.since) > restAfter
}

// rest has the database's node stop, where the others do without it. It would find no room
// for what they write.
func (s *Service) rest() error {
	n := s.Store.Node()
	if !s.rooms.dispensable(time.Now()) || n.Resting() {
		return nil
	}
	s.Log.Warn("This member has no part in the database until it has room for it")
	return n.Rest()
}

// awaken has the database's node run again after it had no room, and where it rests and
// the others have no leader without it, as long as the log has something left.
func (s *Service) awaken(ctx context.Context) {
	n := s.Store.Node()
	again := s.rooms.wakes(time.Now())
	ctx, cancel := context.WithTimeout(ctx, roomTime)
	defer cancel()
	if !again {
		if !n.Resting() {
			return
		}
		if !s.rooms.missed(s.sees(ctx), time.Now()) {
			return
		}
	}
	switch err := n.Wake(ctx); {
	case err != nil && again:
		s.Log.Error("Could not start the database's node again", "err", err)
	case err == nil && !again:
		s.Log.Warn("This member takes part in the database without room for it, because the others have no leader")
	}
}

// wakes reports whether a node is to be looked after that had no room. One that cannot be
// started is not tried in each round: its log is read each time.
func (r *rooms) wakes(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.again || now.Sub(r.woken) < wakeEvery {
		return false
	}
	r.again, r.woken = false, now
	return true
}

const wakeEvery = 10 * time.Second

// sees reports whether there is a leader that this member's node, which rests, cannot tell
// of. To search for one takes long where one of the others is out of reach.
func (s *Service) sees(ctx context.Context) bool {
	if s.rooms.hears(time.Now()) {
		return true
	}
	l, err := s.Store.Node().Leader(ctx)
	return err == nil && l.ID != 0
}

// hears reports whether the leader has called lately; while somebody is short of room it
// does so in each round.
func (r *rooms) hears(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Sub(r.heard) < missedAfter
}

// missed reports whether a member that rests, and sees a leader or not, has seen none for
// a while.
func (r *rooms) missed(leader bool, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case leader:
		r.lone = time.Time{}
	case r.lone.IsZero():
		r.lone = now
		if now.Sub(r.heard) < 2*missedAfter {
			r.lone = r.heard
		}
	case now.Sub(r.lone) > missedAfter:
		r.lone = time.Time{}
		return true
	}
	return false
}

// missedAfter is how long others may take to find a leader.
const missedAfter = 3 * time.Second

// tellLeader has the leader go round, because this member is short of room: it would ask
// in a few seconds only, in which much can be written.
func (s *Service) tellLeader(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, roomTime)
	defer cancel()
	l, err := s.Store.Node().Believed(ctx)
	if err == nil && l.ID != 0 && l.ID != s.Store.Node().ID() {
		to := cluster.Member{ID: int64(l.ID), Name: l.Address, Address: l.Address}
		err = s.relay().To(to).Call(ctx, relay.Request{Method: http.MethodPost, Path: pathRefresh}, nil)
	}
	if err != nil {
		s.Log.Debug("Could not tell the leader that this member is short of room", "err", err)
	}
}

// finding is what a round of the leader's has found about the room of the voters.
type finding struct {
	why  string // nothing can be written: so many are short of room that the others are no majority
	sure bool   // it would be so as well if those had answered that have not
	able bool   // those that have room are a majority
}

// find makes a finding of who has answered, and who of them is short of room.
func find(raft []dqlite.Member, answered map[uint64]bool, short map[int64]uint64, name func(id uint64) string) finding {
	voters, able := 0, 0
	var full []string
	for _, m := range raft {
		if m.Role != dqlite.Voter {
			continue
		}
		voters++
		free, is := short[int64(m.ID)]
		switch {
		case is:
			full = append(full, fmt.Sprintf("%s (%d MiB free)", name(m.ID), free>>20))
		case answered[m.ID]:
			able++
		}
	}
	f := finding{able: able > voters/2}
	if len(full) > 0 && !f.able {
		f.why = fmt.Sprintf("The database cannot be written, because its file system is full on %s. Free some space there, until %d MiB are free", strings.Join(full, ", "), enough>>20)
		f.sure = voters-len(full) <= voters/2
	}
	return f
}

// weigh reports why nothing can be written, after a round. Members may be slow to answer
// only, so what hangs on one that is silent must be found twice. Once it is so it takes a
// majority that has room.
func (r *rooms) weigh(f finding) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	doubt := r.doubt
	r.doubt = f.why != "" && !f.sure
	switch {
	case f.able:
		return ""
	case f.sure, f.why != "" && doubt:
		return f.why
	}
	return r.Full
}

// shortMessage is what a list of the members says of one that is short of room.
func shortMessage(free uint64) string {
	return fmt.Sprintf("The file system of its database is nearly full (%d MiB free, it needs %d)", free>>20, dqlite.LeastFree>>20)
}

// giveWay hands leadership to a voter that has room, and reports whether one took it.
func (s *Service) giveWay(ctx context.Context) bool {
	all, err := s.Store.Local.Members().Get(ctx)
	if err != nil {
		s.Log.Warn("Could not look for another leader", "err", err)
		return false
	}
	short := s.rooms.found().Short
	for _, m := range heirs(all, s.Store.Node().ID(), short) {
		if !s.hasRoom(ctx, m) {
			continue
		}
		if err := s.Store.Node().Transfer(ctx, m); err != nil {
			s.Log.Info("A member could not take the database over", "address", m.Address, "err", err)
			continue
		}
		s.Log.Warn("Handed the database to another member, because this one is short of room", "address", m.Address)
		return true
	}
	return false
}

// roomTime is what a member may take to tell whether it has room.
const roomTime = time.Second

// hasRoom asks a member. What the last round found may be old.
func (s *Service) hasRoom(ctx context.Context, m dqlite.Member) bool {
	ctx, cancel := context.WithTimeout(ctx, roomTime)
	defer cancel()
	var a heard
	to := cluster.Member{ID: int64(m.ID), Name: m.Address, Address: m.Address}
	err := s.relay().To(to).Call(ctx, relay.Request{Method: http.MethodGet, Path: pathRoom}, &a)
	return err == nil && a.Free == nil
}

// heirs are the voters that may lead instead of a member that is short of room.
func heirs(all []dqlite.Member, me uint64, short map[int64]uint64) []dqlite.Member {
	var out []dqlite.Member
	for _, m := range all {
		if _, full := short[int64(m.ID)]; m.ID != me && m.Role == dqlite.Voter && !full {
			out = append(out, m)
		}
	}
	return out
}
