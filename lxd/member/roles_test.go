package member

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sett/lxd/dqlite"
	"sett/shared/units"
)

// parse reads "1v 2s 3- 4-!": members with their roles, those that are offline, and
// "5-?", those that did not answer just now, and "6v.", those that are short of room.
func parse(text string) (raft []dqlite.Member, online, silent map[uint64]bool, short map[int64]uint64) {
	online, silent, short = map[uint64]bool{}, map[uint64]bool{}, map[int64]uint64{}
	for f := range strings.FieldsSeq(text) {
		id := uint64(f[0] - '0')
		role := map[byte]dqlite.Role{'v': dqlite.Voter, 's': dqlite.StandBy, '-': dqlite.Spare}[f[1]]
		raft = append(raft, dqlite.Member{ID: id, Role: role})
		online[id] = !strings.HasSuffix(f, "!")
		silent[id] = strings.HasSuffix(f, "?")
		if strings.HasSuffix(f, ".") {
			short[int64(id)] = 0
			silent[id] = true // it is not counted among those that have answered
		}
	}
	return raft, online, silent, short
}

func show(raft []dqlite.Member, online, silent map[uint64]bool, short map[int64]uint64) string {
	var out []string
	for _, m := range raft {
		s := fmt.Sprintf("%d%s", m.ID, map[dqlite.Role]string{dqlite.Voter: "v", dqlite.StandBy: "s", dqlite.Spare: "-"}[m.Role])
		_, full := short[int64(m.ID)]
		switch {
		case !online[m.ID]:
			s += "!"
		case full:
			s += "."
		case silent[m.ID]:
			s += "?"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestRolesFollowTheMembers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, from, to string
		voters         int
		domain         map[uint64]string
	}{
		{what: "alone", from: "1v", to: "1v"},
		{what: "two: one vote, the other stands by", from: "1v 2-", to: "1v 2s"},
		{what: "two voters are worse than one", from: "1v 2v", to: "1v 2s"},
		{what: "three vote", from: "1v 2s 3-", to: "1v 2v 3v"},
		{what: "six: three vote, two stand by", from: "1v 2v 3v 4- 5- 6-", to: "1v 2v 3v 4s 5s 6-"},
		{what: "five voters", from: "1v 2v 3v 4s 5s", to: "1v 2v 3v 4v 5v", voters: 5},
		{what: "an odd number of voters", from: "1v 2v 3v 4s", to: "1v 2v 3v 4s", voters: 5},
		{what: "a dead voter is replaced", from: "1v 2v! 3v 4s", to: "1v 2-! 3v 4v"},
		{what: "a dead voter that nobody can replace keeps its vote", from: "1v 2v! 3v", to: "1v 2v! 3v"},
		{what: "a dead one stands by no more", from: "1v 2v 3v 4s! 5- 6s", to: "1v 2v 3v 4-! 5s 6s"},
		{what: "of three one goes in order", from: "1v! 2v 3v", to: "1v! 2v 3v"},
		{what: "of two the first goes in order", from: "1v! 2s", to: "1-! 2v"},
		{what: "who does not answer gets no part", from: "1v 2v! 3v 4s? 5- 6-?", to: "1v 2-! 3v 4s? 5v 6-?"},
		{what: "who does not answer keeps its part", from: "1v 2v? 3v", to: "1v 2v? 3v"},
		{what: "a voter without room is replaced", from: "1v 2v. 3v 4s 5-", to: "1v 2-. 3v 4v 5s"},
		{what: "a voter without room that nobody can replace keeps its vote", from: "1v 2v. 3v", to: "1v 2v. 3v"},
		{what: "who has no room gets no part", from: "1v 2v! 3v 4s. 5-. 6-", to: "1v 2-! 3v 4-. 5-. 6v"},
		{what: "a leader without room gives way first", from: "1v. 2v 3v 4s", to: "1v. 2v 3v 4s"},
		{what: "who has room again keeps to what is left", from: "1v 2- 3v 4v 5s", to: "1v 2s 3v 4v 5s"},
		{what: "failure domains", from: "1v 2- 3- 4-", to: "1v 2s 3v 4v", domain: map[uint64]string{1: "a", 2: "a", 3: "b", 4: "c"}},
	} {
		raft, online, silent, short := parse(c.from)
		w := want{leader: 1, voters: c.voters, standBy: 2, online: online, short: short, domain: c.domain, silent: func(id uint64) bool { return silent[id] }}
		if w.voters == 0 {
			w.voters = 3
		}
		if w.domain == nil {
			w.domain = map[uint64]string{}
		}
		steps := 0
		for {
			s, ok := w.next(raft)
			if !ok {
				break
			}
			if steps++; steps > 2*len(raft) {
				t.Errorf("%s: no end is in sight at %s", c.what, show(raft, online, silent, short))
				break
			}
			for i := range raft {
				if raft[i].ID == s.id {
					raft[i].Role = s.role
				}
			}
		}
		if got := show(raft, online, silent, short); got != c.to {
			t.Errorf("%s: %s becomes %s, want %s", c.what, c.from, got, c.to)
		}
	}
}

func TestExpiryReadsWhatPeopleWrite(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"3", "H", "3x", "-1H", "x3H"} {
		if err := joinTokenExpiryCheck(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, good := range []string{"3H", "1d 2H", "5M", "10S", "2w", "1m", "1y"} {
		if err := joinTokenExpiryCheck(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func joinTokenExpiryCheck(v string) error {
	_, err := units.Expiry(time.Now(), v)
	return err
}
