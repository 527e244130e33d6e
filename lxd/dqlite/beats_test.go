package dqlite

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

func words(all ...uint64) []byte {
	var b []byte
	for _, w := range all {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// greeting is what dqlite says first: version, a message of two words, an id and a name.
func greeting() []byte {
	return append(words(1, 2|11<<32, 3), "10.0.0.1"...)
}

// beat is a heartbeat; entries is an AppendEntries with texts in it.
func beat(term, commit uint64) []byte { return words(1, 40, term, 7, term, commit, 0) }

// loose is a heartbeat as libraft 0.15 has it.
func loose(term, commit, rubbish uint64) []byte {
	return words(1, 48, term, 7, term, commit, 0, rubbish)
}

func entries(term uint64, texts ...string) []byte {
	b := words(1, 40+16*uint64(len(texts)), term, 7, term, 7, uint64(len(texts)))
	for _, t := range texts {
		b = append(b, words(term, 1|uint64(len(t))<<32)...)
	}
	for _, t := range texts {
		b = append(b, t...)
	}
	return b
}

func snapshot(data string, rubbish ...uint64) []byte {
	head := append([]uint64{5, 56 + 8*uint64(len(rubbish)), 1, 7, 1, 7, 8, 99, uint64(len(data))}, rubbish...)
	return append(words(head...), data...)
}

// sent is what comes out when each of some messages is written a while after the one
// before, in pieces of a size; 0 is in one piece.
func sent(t *testing.T, size int, after time.Duration, all ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	now := time.Now()
	b := newBeats(&out, 100*time.Millisecond)
	b.now = func() time.Time { return now }
	for _, m := range append([][]byte{greeting()}, all...) {
		now = now.Add(after)
		for len(m) > 0 {
			k := len(m)
			if size > 0 {
				k = min(k, size)
			}
			if n, err := b.Write(m[:k]); n != k || err != nil {
				t.Fatalf("%d of %d bytes, %v", n, k, err)
			}
			m = m[k:]
		}
	}
	return out.Bytes()
}

func TestHeartbeatsThatSayNothingNewAreLeftOut(t *testing.T) {
	t.Parallel()
	a, b := beat(1, 7), beat(1, 8)
	// A heartbeat inside of what is stored is none.
	hidden := entries(1, string(beat(1, 7))+"12345678", "", string(a))
	for name, c := range map[string]struct {
		after      time.Duration
		in, wanted [][]byte
	}{
		"one in four":            {30 * time.Millisecond, [][]byte{a, a, a, a, a, a, a, a, a}, [][]byte{a, a, a}},
		"rubbish behind it":      {30 * time.Millisecond, [][]byte{loose(1, 7, 1), loose(1, 7, 2), loose(1, 8, 2), loose(1, 8, 3)}, [][]byte{loose(1, 7, 1), loose(1, 8, 2)}},
		"after a while":          {100 * time.Millisecond, [][]byte{a, a, a}, [][]byte{a, a, a}},
		"news":                   {time.Millisecond, [][]byte{a, b, b, a, a}, [][]byte{a, b, a}},
		"entries":                {time.Millisecond, [][]byte{a, a, hidden, a, hidden, hidden, a, a}, [][]byte{a, hidden, a, hidden, hidden, a}},
		"other messages":         {time.Millisecond, [][]byte{a, words(2, 24, 1, 0, 7), words(2, 24, 1, 0, 7), a, a, words(6, 24, 1, 2, 3), a}, [][]byte{a, words(2, 24, 1, 0, 7), words(2, 24, 1, 0, 7), a, words(6, 24, 1, 2, 3), a}},
		"a snapshot":             {time.Millisecond, [][]byte{snapshot(string(a) + string(a)), a, a, snapshot("", 1<<40), a}, [][]byte{snapshot(string(a) + string(a)), a, snapshot("", 1<<40), a}},
		"a type that is unknown": {time.Millisecond, [][]byte{a, a, words(9, 8, 0), a, a}, [][]byte{a, words(9, 8, 0), a, a}},
		"a size that cannot be":  {time.Millisecond, [][]byte{a, a, words(1, 48, 1, 7, 1, 7, 1, 0), a, a}, [][]byte{a, words(1, 48, 1, 7, 1, 7, 1, 0), a, a}},
	} {
		for _, size := range []int{0, 1, 3, 8, 50, 57} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				t.Parallel()
				want := append(greeting(), bytes.Join(c.wanted, nil)...)
				if got := sent(t, size, c.after, c.in...); !bytes.Equal(got, want) {
					t.Errorf("\n%x\n%x", got, want)
				}
			})
		}
	}
}

func TestStrangersAreUnderstoodByNobodyAndPassedOn(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := newBeats(&out, time.Hour)
	in := append(words(2, 0, 0, 0), bytes.Repeat(beat(1, 1), 3)...)
	if _, err := b.Write(in); err != nil || !bytes.Equal(out.Bytes(), in) {
		t.Errorf("%x %v", out.Bytes(), err)
	}
}
