package member

import (
	"slices"
	"testing"

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
