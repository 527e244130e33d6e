package pack

import (
	"context"
	"strconv"

	"golang.org/x/sys/unix"
)

// part is a run of bytes in a file.
type part struct{ at, size int64 }

const (
	// maxParts is how many parts a file with holes has in an archive. Readers bound the
	// map of them; a guest that makes a file of millions of parts gets the smallest of
	// its holes filled with zeros.
	maxParts = 10000
	// minHole is the least that is worth an entry in the map.
	minHole = 16 << 10
)

// dataParts finds the parts of a file that are not holes.
func dataParts(ctx context.Context, fd int, size int64) ([]part, error) {
	var parts []part
	gap := int64(minHole)
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		from, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		if err != nil || from >= size {
			return append(parts, part{at, size - at}), nil
		}
		to, err := unix.Seek(fd, from, unix.SEEK_HOLE)
		if err != nil || to <= from { // changed meanwhile
			to = size
		}
		to = min(to, size)
		parts = join(parts, part{from, to - from}, gap)
		for len(parts) > maxParts {
			gap *= 2
			var fewer []part
			for _, p := range parts {
				fewer = join(fewer, p, gap)
			}
			parts = fewer
		}
		at = to
	}
	// A last part of no bytes tells where a file ends that ends in a hole.
	if n := len(parts); n == 0 || parts[n-1].at+parts[n-1].size < size {
		parts = append(parts, part{size, 0})
	}
	return parts, nil
}

// join adds a part, to the last one where the hole between them is small.
func join(parts []part, p part, gap int64) []part {
	if n := len(parts); n > 0 && p.at-(parts[n-1].at+parts[n-1].size) < gap {
		parts[n-1].size = p.at + p.size - parts[n-1].at
		return parts
	}
	return append(parts, p)
}

// worthwhile reports whether leaving the holes out saves more than their map costs.
func worthwhile(parts []part, size int64) bool {
	for _, p := range parts {
		size -= p.size
	}
	return size >= minHole
}

// indexOf is the map of parts: numbers in lines, filled up to whole blocks.
func indexOf(parts []part) []byte {
	b := strconv.AppendInt(nil, int64(len(parts)), 10)
	b = append(b, '\n')
	for _, p := range parts {
		b = append(strconv.AppendInt(b, p.at, 10), '\n')
		b = append(strconv.AppendInt(b, p.size, 10), '\n')
	}
	return append(b, make([]byte, -len(b)&(block-1))...)
}
