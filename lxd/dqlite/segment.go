package dqlite

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// libraft repairs what it cannot read by moving it aside and going on with what came
// before. A node that stands alone would come up with acknowledged writes missing, or
// empty, and say nothing; a member would have forgotten what it has promised to keep,
// and could vote for a leader that never had it. So the log is read here first, and a
// damaged one is refused untouched.
//
// A segment is a word with the format (1), then batches of entries:
//
//	crc32 of the header, crc32 of the data (4 bytes each)
//	header: number of entries (8), and for each: term (8), type (1), unused (3), size (4)
//	data: the entries one after the other
//
// The checksum has the usual polynomial, but goes from the top bit down and begins
// and ends with nothing added.
//
// Closed segments (FIRST-LAST) hold just that. Open ones (open-N) were made in full
// size and are zero behind the last batch, which a crash may have cut short: it was
// never acknowledged.
const (
	segmentFormat = 1
	mostEntries   = 1 << 16 // in one batch; only to tell sense from nonsense
)

// checkLog reads the segments in dir. Those of a member need not follow each other:
// what it has missed comes as a snapshot.
func checkLog(dir string, member bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var last uint64
	for _, e := range entries { // sorted, so closed segments come in order
		name := e.Name()
		first, end, closed := closedSegment(name)
		switch {
		case closed:
			if last != 0 && first != last+1 && !member {
				return fmt.Errorf("%w: entries %d to %d are missing", ErrDamaged, last+1, first-1)
			}
			last = end
			if err := checkSegment(filepath.Join(dir, name), end-first+1); err != nil {
				return err
			}
		case strings.HasPrefix(name, "open-"):
			if err := checkOpenSegment(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func closedSegment(name string) (first, last uint64, ok bool) {
	a, b, cut := strings.Cut(name, "-")
	if !cut || len(a) != 16 || len(b) != 16 {
		return 0, 0, false
	}
	first, err1 := strconv.ParseUint(a, 10, 64)
	last, err2 := strconv.ParseUint(b, 10, 64)
	return first, last, err1 == nil && err2 == nil && first <= last
}

func checkSegment(path string, want uint64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	damaged := func(at int) error {
		return fmt.Errorf("%w: %s cannot be read behind byte %d", ErrDamaged, filepath.Base(path), at)
	}
	if len(data) < 8 {
		return damaged(0)
	}
	if binary.LittleEndian.Uint64(data) != segmentFormat {
		return nil // of a newer libraft; not ours to judge
	}
	var n uint64
	for at := 8; at < len(data); {
		size, count, ok := batch(data[at:])
		if !ok {
			return damaged(at)
		}
		at += size
		n += count
	}
	// A crash while entries behind the last one were being cut off leaves some of them.
	if n < want {
		return damaged(len(data))
	}
	return nil
}

func checkOpenSegment(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(data) < 8 || binary.LittleEndian.Uint64(data) != segmentFormat {
		return nil // never used: libraft drops it
	}
	at := 8
	for at < len(data) {
		size, _, ok := batch(data[at:])
		if !ok {
			break
		}
		at += size
	}
	if slices.Max(append(data[at:], 0)) == 0 {
		return nil
	}
	// One batch is cut short. That is how a crash looks, unless there are whole ones
	// behind it.
	for next := at + 8; next+24 <= len(data); next += 8 {
		if _, ok := header(data[next:]); ok {
			return fmt.Errorf("%w: %s cannot be read behind byte %d", ErrDamaged, filepath.Base(path), at)
		}
	}
	return nil
}

// header returns the number of entries of the batch that b begins with.
func header(b []byte) (uint64, bool) {
	if len(b) < 16 {
		return 0, false
	}
	n := binary.LittleEndian.Uint64(b[8:])
	if n == 0 || n > mostEntries || uint64(len(b)) < 16+16*n {
		return 0, false
	}
	return n, checksum(b[8:16+16*n]) == binary.LittleEndian.Uint32(b)
}

// batch checks the batch that b begins with.
func batch(b []byte) (size int, entries uint64, ok bool) {
	n, ok := header(b)
	if !ok {
		return 0, 0, false
	}
	at := 16 + 16*n
	end := at
	for i := range n {
		end += uint64(binary.LittleEndian.Uint32(b[16+16*i+12:]))
	}
	if end > uint64(len(b)) {
		return 0, 0, false
	}
	return int(end), n, checksum(b[at:end]) == binary.LittleEndian.Uint32(b[4:])
}

// checksum computes libraft's checksum by way of the one that processors are quick
// at, which is the same with the bits of every byte, and of the result, turned round.
func checksum(b []byte) uint32 {
	var turned [4096]byte
	crc := ^uint32(0)
	for len(b) > 0 {
		n := min(len(b), len(turned))
		i := 0
		for ; i+8 <= n; i += 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			binary.LittleEndian.PutUint64(turned[i:], bits.ReverseBytes64(bits.Reverse64(w)))
		}
		for ; i < n; i++ {
			turned[i] = bits.Reverse8(b[i])
		}
		crc = crc32.Update(crc, crc32.IEEETable, turned[:n])
		b = b[n:]
	}
	return bits.Reverse32(^crc)
}
