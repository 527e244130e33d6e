package member

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sett/lxd/dqlite"
)

func TestALeaderWithoutRoomGivesWayToAVoterThatHasSome(t *testing.T) {
	t.Parallel()
	all := []dqlite.Member{
		{ID: 1, Role: dqlite.Voter}, {ID: 2, Role: dqlite.Voter}, {ID: 3, Role: dqlite.Voter}, {ID: 4, Role: dqlite.StandBy}, {ID: 5, Role: dqlite.Spare},
	}
	for _, c := range []struct {
		short map[int64]uint64
		want  []uint64
	}{
		{map[int64]uint64{1: 0}, []uint64{2, 3}},
		{map[int64]uint64{1: 0, 2: 5 << 20}, []uint64{3}},
		{map[int64]uint64{1: 0, 2: 0, 3: 0}, nil},
		{nil, []uint64{2, 3}}, // it has not asked the others yet
	} {
		var got []uint64
		for _, m := range heirs(all, 1, c.short) {
			got = append(got, m.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("short are %v: got %v, want %v", c.short, got, c.want)
		}
	}
}

func TestNothingIsWrittenWhereNoMajorityHasRoom(t *testing.T) {
	t.Parallel()
	three := []dqlite.Member{{ID: 1, Role: dqlite.Voter}, {ID: 2, Role: dqlite.Voter}, {ID: 3, Role: dqlite.Voter}, {ID: 4, Role: dqlite.StandBy}, {ID: 5, Role: dqlite.Spare}}
	one := []dqlite.Member{{ID: 1, Role: dqlite.Voter}, {ID: 2, Role: dqlite.Spare}}
	for what, c := range map[string]struct {
		raft   []dqlite.Member
		silent uint64
		short  map[int64]uint64
		want   []string // members that are named; none when there is a majority
	}{
		"all have room":            {three, 0, nil, nil},
		"one is full":              {three, 0, map[int64]uint64{2: 0}, nil},
		"two are full":             {three, 0, map[int64]uint64{1: 0, 3: 5 << 20}, []string{"m1 (0 MiB free)", "m3 (5 MiB free)"}},
		"all are full":             {three, 0, map[int64]uint64{1: 0, 2: 0, 3: 0}, []string{"m1 (", "m2 (", "m3 ("}},
		"one is full, one is gone": {three, 3, map[int64]uint64{2: 0}, []string{"m2 ("}},
		"two are gone":             {three, 23, nil, nil}, // that is something else
		"who has no vote is full":  {three, 0, map[int64]uint64{2: 0, 4: 0, 5: 0}, nil},
		"the only voter is full":   {one, 0, map[int64]uint64{1: 0}, []string{"m1 ("}},
		"the other one is full":    {one, 0, map[int64]uint64{2: 0}, nil},
	} {
		answered := map[uint64]bool{}
		for _, m := range c.raft {
			if _, short := c.short[int64(m.ID)]; !short && m.ID != c.silent && (c.silent != 23 || m.ID == 1) {
				answered[m.ID] = true
			}
		}
		answered[1] = true // the leader is counted once, and is short where it is
		f := find(c.raft, answered, c.short, func(id uint64) string { return fmt.Sprint("m", id) })
		got := f.why
		if (got == "") != (len(c.want) == 0) || strings.Count(got, " MiB free)") != len(c.want) {
			t.Errorf("%s: %q", what, got)
		}
		if f.sure != (got != "" && c.silent == 0) {
			t.Errorf("%s: sure is %v", what, f.sure)
		}
		if f.able != (got == "" && what != "two are gone") {
			t.Errorf("%s: able is %v", what, f.able)
		}
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %q does not name %s", what, got, w)
			}
		}
	}
}

func TestAMemberIsShortOfRoomUntilItHasEnough(t *testing.T) {
	t.Parallel()
	var r rooms
	now := time.Unix(1000, 0)
	judge := func(free uint64, rests bool) bool {
		_, short := r.judge(dqlite.Room{Free: free, Short: free < dqlite.LeastFree}, rests, now)
		return short
	}
	looks := now
	again := func() bool {
		looks = looks.Add(wakeEvery)
		return r.wakes(looks)
	}
	if judge(enough, false) || again() {
		t.Error("a member with room is short of it")
	}
	if !judge(dqlite.LeastFree-1, false) || !judge(enough-1, false) || again() {
		t.Error("a member goes to and fro")
	}
	r.set(view{Able: true})
	// It rests when the others have done without it for a while.
	if r.dispensable(now.Add(restAfter)) || !r.dispensable(now.Add(restAfter+1)) {
		t.Error("a member without room rests at the wrong time")
	}
	if !r.set(view{Full: "full"}) || r.set(view{Full: "fuller"}) || r.dispensable(now.Add(restAfter+1)) {
		t.Error("a member rests where nobody has room")
	}
	if !r.set(view{}) || r.dispensable(now.Add(restAfter+1)) {
		t.Error("a member rests where the leader does not know who has room")
	}
	if judge(enough, false) || !again() || r.dispensable(now.Add(restAfter+1)) {
		t.Error("a member with room again is not looked after")
	}
	// One that rests from its start on was never seen to be short.
	if !judge(enough-1, true) || again() || judge(enough, true) || !again() {
		t.Error("a member that rests is not woken")
	}
}

func TestWhatHangsOnASilentMemberIsFoundTwice(t *testing.T) {
	t.Parallel()
	var (
		able    = finding{able: true}
		sure    = finding{why: "full", sure: true}
		maybe   = finding{why: "perhaps"}
		unclear = finding{} // nobody has answered
	)
	var r rooms
	for i, c := range []struct {
		finding
		want string
	}{
		{maybe, ""}, {able, ""}, // one was slow
		{maybe, ""}, {maybe, "perhaps"}, {able, ""}, // one is gone, and comes back
		{sure, "full"}, {maybe, "full"}, {unclear, "full"}, {unclear, "full"}, {maybe, "full"}, {maybe, "perhaps"}, {able, ""},
		{unclear, ""},
	} {
		got := r.weigh(c.finding)
		if got != c.want {
			t.Errorf("round %d: %q", i, got)
		}
		r.set(view{Full: got})
	}
}

func TestAMemberThatRestsIsMissedWhenNobodyLeads(t *testing.T) {
	t.Parallel()
	var r rooms
	now := time.Unix(1000, 0)
	for i, c := range []struct {
		leader bool
		after  time.Duration
		want   bool
	}{
		{false, 0, false}, {false, missedAfter, false}, {true, 0, false}, {false, missedAfter, false},
		{false, missedAfter, false}, {false, 1, true}, {false, 0, false}, {false, missedAfter, false},
	} {
		now = now.Add(c.after)
		if got := r.missed(c.leader, now); got != c.want {
			t.Errorf("look %d: %v", i, got)
		}
	}
}

func TestAMemberThatRestsDoesNotMissALeaderThatCalls(t *testing.T) {
	t.Parallel()
	var r rooms
	now := time.Unix(1000, 0)
	for i, c := range []struct {
		calls bool
		after time.Duration
		hears bool
		want  bool // where the search for a leader has found none
	}{
		{false, 0, false, false}, {true, 0, true, false}, {true, 2 * time.Second, true, false},
		{false, missedAfter - 1, true, false},
		{false, 1, false, false}, {false, 1, false, true}, // it is missed since it called
		{false, missedAfter, false, false}, {false, missedAfter, false, false}, {false, 1, false, true},
	} {
		now = now.Add(c.after)
		if c.calls {
			r.hear(view{Able: true}, now)
		}
		hears := r.hears(now)
		if got := r.missed(hears, now); hears != c.hears || got != c.want {
			t.Errorf("look %d: hears %v, missed %v", i, hears, got)
		}
	}
	if !r.Able {
		t.Error("what the leader said is lost")
	}
}

func TestANodeThatCannotBeStartedIsNotTriedInEachRound(t *testing.T) {
	t.Parallel()
	var r rooms
	now := time.Unix(1000, 0)
	tried := 0
	for range 100 {
		now = now.Add(500 * time.Millisecond)
		r.judge(dqlite.Room{Free: enough}, true, now) // it rests on
		if r.wakes(now) {
			tried++
		}
	}
	if tried != 5 {
		t.Errorf("tried %d times in 50 s", tried)
	}
}
