package member

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/dqlite"
)

// The log of the database needs room. A leader whose file system is full stops the
// writes of all members: libraft 0.15 goes on leading, refuses what it cannot write, and
// what it had sent to the others by then is neither written nor refused. So a leader
// gives way while it still can, which it can for as long as the segments last that
// libraft has made beforehand. A follower without room is no harm: a majority does
// without it, and it catches up when it has room again and its node was started anew.

// rooms is which members are short of room, and how much they have.
type rooms struct {
	mu    sync.Mutex
	short map[int64]uint64 // free bytes, by member
	told  bool             // this member is among them, and has said so
	again bool             // it was, and has not taken up its log again
}

func (r *rooms) all() map[int64]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.short)
}

// free is how much a member has that is short of room.
func (r *rooms) free(id int64) (uint64, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, short := r.short[id]
	return free, short
}

func (r *rooms) set(short map[int64]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.short = short
}

// heard is a member's answer to the heartbeat.
type heard struct {
	// Free is how much room a member has that is short of it; nil otherwise.
	Free *uint64 `json:"free,omitempty"`
}

// room looks at this member's own room, and says in the log when it becomes short.
func (s *Service) room() heard {
	free, short, err := s.Store.Node().Room()
	if err != nil {
		s.Log.Warn("Could not look how much room the database has", "err", err)
		return heard{}
	}
	s.rooms.mu.Lock()
	told := s.rooms.told
	short = short || told && free < 2*dqlite.LeastFree // not to and fro
	s.rooms.told, s.rooms.again = short, s.rooms.again || told && !short
	s.rooms.mu.Unlock()
	switch {
	case short && !told:
		s.Log.Error("The file system that holds this member's database is nearly full; free some space", "free_mib", free>>20, "needs_mib", dqlite.LeastFree>>20)
	case !short && told:
		s.Log.Info("The database of this member has room again")
		s.kick()
	}
	if !short {
		return heard{}
	}
	return heard{Free: &free}
}

// renew has the database's node take up its log again after it had no room for it.
func (s *Service) renew(ctx context.Context) {
	s.rooms.mu.Lock()
	again := s.rooms.again
	s.rooms.again = false
	s.rooms.mu.Unlock()
	if !again {
		return
	}
	if err := s.Store.Renew(ctx); err != nil {
		s.Log.Error("Could not take up the database's log again; restart the daemon", "err", err)
	}
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
	for _, m := range heirs(all, s.Store.Node().ID(), s.rooms.all()) {
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

// hasRoom asks a member. One that has none must not be made the leader: it cannot write
// down that it takes part in an election, and does not come back from that by itself.
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
