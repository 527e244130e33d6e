package dqlite

import (
	"bytes"
	"encoding/binary"
	"io"
	"time"
)

// libraft's heartbeats are a tenth of the shortest time after which a follower looks
// for another leader: 33 a second to each of them, and as many answers, when nothing
// happens at all. Each wakes both daemons twice, which is nearly all that an idle
// cluster costs. A third of them does as well. So on the way to another member those
// are left out that say what the one before has said, a moment ago: for raft they are
// messages that were lost, which it is made for.
//
// What libraft sends begins with dqlite's greeting (version and a message that names
// the sender), and goes on with messages:
//
//	type, length of the header (8 bytes each)
//	header, and for some types what it says that follows
//
// The header of a heartbeat, which is an AppendEntries without entries:
//
//	term, index and term of the entry before, commit index, number of entries (8 each)
//
// That of an InstallSnapshot:
//
//	term, index and term of the last entry, index of the configuration, its size (8 each)
//	the configuration
//	size of the snapshot (8)
//
// libraft 0.15 ends both with eight bytes in which stands whatever was there before.
//
// Whatever is not understood is passed on, with all that comes after it.
const (
	// beatEvery is how many latencies a heartbeat is enough. libraft sends one every
	// 1.5 of them, and a follower waits for at least 15.
	beatEvery = 4

	raftAppendEntries   = 1
	raftInstallSnapshot = 5
	raftTimeoutNow      = 6 // the last type that is known

	dqliteVersion = 1
	dqliteConnect = 11

	preamble     = 16
	beatSize     = preamble + 5*8
	mostRaftHead = 1 << 20
)

// beats passes on what an engine sends to that of another member.
type beats struct {
	to    io.Writer
	every time.Duration // how long a heartbeat is enough
	now   func() time.Time
	// snapshot, which may be nil, is asked before one of a size is passed on.
	snapshot func(size uint64) error

	head    []byte // of the message that is being read
	want    int    // its size, as far as it is known
	greeted bool
	pass    uint64 // what is still to come behind the last head
	all     bool   // something was not understood
	refused error
	last    []byte // the last message that was passed on, if that was a heartbeat
	sent    time.Time
	out     []byte
}

func newBeats(to io.Writer, every time.Duration) *beats {
	return &beats{to: to, every: every, now: time.Now, want: preamble}
}

// Write implements io.Writer.
func (t *beats) Write(p []byte) (int, error) {
	n := len(p)
	t.out = t.out[:0]
	for len(p) > 0 {
		k := len(p)
		switch {
		case t.all:
			t.out = append(t.out, p...)
		case t.pass > 0:
			k = int(min(uint64(k), t.pass))
			t.pass -= uint64(k)
			t.out = append(t.out, p[:k]...)
		default:
			k = min(k, t.want-len(t.head))
			t.head = append(t.head, p[:k]...)
			if len(t.head) == t.want && t.read() {
				t.out = append(t.out, t.head...)
				t.head, t.want = t.head[:0], preamble
			}
		}
		p = p[k:]
	}
	if t.refused != nil {
		return 0, t.refused
	}
	if len(t.out) == 0 {
		return n, nil
	}
	if _, err := t.to.Write(t.out); err != nil {
		return 0, err
	}
	return n, nil
}

// read looks at what there is of a head. It reports whether that is to be passed on.
func (t *beats) read() bool {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(t.head[8*i:]) }
	if !t.greeted {
		t.greeted = true
		t.all = word(0) != dqliteVersion || t.head[12] != dqliteConnect
		t.pass = 8 * uint64(binary.LittleEndian.Uint32(t.head[8:]))
		return true
	}
	kind, size := word(0), word(1)
	if len(t.head) == preamble {
		if kind == 0 || kind > raftTimeoutNow || size == 0 || size > mostRaftHead || size%8 != 0 {
			t.all = true
			return true
		}
		t.want = preamble + int(size)
		return false
	}
	beat := false
	switch kind {
	case raftAppendEntries:
		if size < 5*8 || word(6) > size/16 || size-16*word(6) != 5*8 && size-16*word(6) != 6*8 {
			t.all = true
			return true
		}
		entries := t.head[beatSize:][:16*word(6)]
		for i := 0; i < len(entries); i += 16 {
			t.pass += uint64(binary.LittleEndian.Uint32(entries[i+12:]))
		}
		beat = len(entries) == 0
	case raftInstallSnapshot:
		if size < 6*8 || word(6)%8 != 0 || word(6) > size || size-word(6) != 6*8 && size-word(6) != 7*8 {
			t.all = true
			return true
		}
		t.pass = word(7 + int(word(6)/8))
		if t.snapshot != nil && t.refused == nil {
			t.refused = t.snapshot(t.pass)
		}
	}
	now := t.now()
	if beat && bytes.Equal(t.head[:beatSize], t.last) && now.Sub(t.sent) < t.every {
		t.head, t.want = t.head[:0], preamble
		return false
	}
	t.last = t.last[:0]
	if beat {
		t.last, t.sent = append(t.last, t.head[:beatSize]...), now
	}
	return true
}
