package dqlite

import (
	"errors"
	"io"
	"testing"
	"time"
)

func TestRoomIsSpentWhenNothingIsLeftButTheSegmentInUse(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for what, c := range map[string]struct {
		Room
		spent bool
	}{
		"three segments, no room":             {Room{segments: 3}, false},
		"two segments, no room":               {Room{segments: 2}, false},
		"the one in use":                      {Room{segments: 1, ours: 7 * mib}, true},
		"room for another one":                {Room{segments: 1, ours: 8 * mib}, false},
		"another one half made":               {Room{segments: 1, ours: 5 * mib, making: 3 * mib}, false},
		"room for another one is held":        {Room{segments: 1, reserve: 8 * mib}, false},
		"not written to yet, room for two":    {Room{ours: 16 * mib}, false},
		"not written to yet, room for one":    {Room{ours: 15 * mib}, true},
		"not written to yet, the one is held": {Room{ours: 9 * mib, reserve: 7 * mib}, false},
		"nothing":                             {Room{}, true},
	} {
		if got := c.Room.spent(); got != c.spent {
			t.Errorf("%s: %v", what, got)
		}
	}
}

func TestASnapshotForWhichThereIsNoRoomIsNotPassedOn(t *testing.T) {
	t.Parallel()
	var asked []uint64
	no := errors.New("no")
	b := newBeats(io.Discard, 0)
	b.snapshot = func(size uint64) error {
		asked = append(asked, size)
		if size > 10 {
			return no
		}
		return nil
	}
	for _, m := range [][]byte{greeting(), beat(1, 7), snapshot("small"), entries(1, "more than ten bytes")} {
		if _, err := b.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Write(snapshot("more than ten bytes")); !errors.Is(err, no) {
		t.Errorf("a large one: %v", err)
	}
	if len(asked) != 2 || asked[0] != 5 || asked[1] != 19 {
		t.Errorf("asked for %v", asked)
	}
	// Without a pause every heartbeat passes.
	var out counter
	b = newBeats(&out, 0)
	b.now = func() time.Time { return time.Time{} }
	for _, m := range [][]byte{greeting(), beat(1, 7), beat(1, 7), beat(1, 7)} {
		if _, err := b.Write(m); err != nil {
			t.Fatal(err)
		}
	}
	if want := len(greeting()) + 3*len(beat(1, 7)); int(out) != want {
		t.Errorf("%d bytes of %d", out, want)
	}
}

// counter counts bytes.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
