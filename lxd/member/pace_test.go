package member

import (
	"slices"
	"testing"
	"time"
)

func TestWhenTheDiskIsLookedAt(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var p pace
	at := 0
	due := func(after int, slowed bool) bool {
		at += after
		now := start.Add(time.Duration(at) * time.Second)
		look, led := p.due(slowed, 0, now)
		if led != (now.Sub(p.called) < 5*time.Second) {
			t.Errorf("after %d s: a leader calls: %v", at, led)
		}
		return look
	}
	call := func(leads bool) { p.led(leads, start.Add(time.Duration(at)*time.Second)) }
	expect := func(when string, is, want bool) {
		t.Helper()
		if is != want {
			t.Errorf("%s: due: %v", when, is)
		}
	}
	expect("just started", due(0, false), false)
	expect("4 s later", due(4, false), false)
	expect("no leader for 5 s", due(1, false), true)
	expect("a second later", due(1, false), false)
	expect("10 s later", due(9, false), true)
	call(false)
	expect("the leader calls, at the usual pace", due(1, false), false)
	for at < 600 {
		call(false)
		expect("the leader calls, slowed", due(2, true), false)
	}
	at = 615 // ten minutes after the last look
	call(false)
	expect("the leader has called for long, slowed", due(0, true), true)
	at = 2000
	call(true)
	expect("this member leads, slowed", due(0, true), false)
	expect("it calls nobody any more", due(5, true), true)
}

func TestMembersGoBackOneAfterTheOther(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var members [3]pace
	for id := range members {
		members[id].due(false, uint64(id), start)
		if look, led := members[id].due(false, uint64(id), start.Add(uncalledTime)); !look || led {
			t.Errorf("member %d misses its leader: %v, %v", id, look, led)
		}
	}
	var at []int
	for second := range 11 * 60 {
		now := start.Add(uncalledTime + time.Duration(second)*time.Second)
		for id := range members {
			members[id].led(false, now)
			if look, _ := members[id].due(true, uint64(id), now); look {
				at = append(at, second)
			}
		}
	}
	if want := []int{600, 610, 620}; !slices.Equal(at, want) {
		t.Errorf("they look after %v s, not after %v", at, want)
	}
}

// A round of the leader's takes long where one member is dead and another one gets its part.
func TestALeaderWhoIsBusyIsNotMissed(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var p pace
	p.led(false, start)
	for _, step := range []struct {
		after   int
		leader  uint64
		doubted bool
		look    bool
	}{
		{1, 0, false, false},
		{2, 0, false, false},
		{3, 2, true, false},
		{4, 2, true, false},
		{5, 2, true, false},
		{8, 2, true, false},
		{9, 3, true, true}, // it is another one all of a sudden
		{19, 0, true, true},
		{29, 3, true, true},
		{39, 3, true, false},
	} {
		now := start.Add(time.Duration(step.after) * time.Second)
		doubts := p.doubts(now)
		p.follows(step.leader, now)
		if look, _ := p.due(false, 1, now); look != step.look || doubts != step.doubted {
			t.Errorf("after %d s: looks: %v, doubts: %v", step.after, look, doubts)
		}
	}
}
