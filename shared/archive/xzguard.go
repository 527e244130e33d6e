package archive

import (
	"io"

	"sett/shared/errs"
)

// maxDict is the largest dictionary of an xz file that is unpacked. 'xz -9' wants 64 MiB.
const maxDict = 128 << 20

// xzGuard passes an xz file on and fails where a block wants a larger dictionary than
// that. The decoder takes as much memory as the file asks for, up to 4 GiB, and a small
// file can fill it.
//
// The structure of the file is followed, and nothing is unpacked for that: the LZMA2
// chunks, of which blocks are made, tell how long they are.
type xzGuard struct {
	r    io.Reader
	step func(b []byte) (used int, err error) // what comes next
	part []byte                               // of something that is needed in one piece
	skip int64
	pos  int64 // in the block, for its padding
	tail int   // bytes of the check that ends a block of this stream
	left int64 // numbers that are still to come in the index
}

var errNoXZ = errs.Invalid("it is not as xz files are")

func newXZGuard(r io.Reader) *xzGuard {
	g := &xzGuard{r: r}
	g.step = g.streamHeader
	return g
}

func (g *xzGuard) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	for b := p[:n]; len(b) > 0; {
		if g.skip > 0 {
			k := min(g.skip, int64(len(b)))
			g.skip -= k
			b = b[k:]
			continue
		}
		used, bad := g.step(b)
		if bad != nil {
			return 0, bad
		}
		b = b[used:]
	}
	return n, err
}

// whole gathers n bytes; nil until they are there.
func (g *xzGuard) whole(b []byte, n int) (got []byte, used int) {
	used = min(n-len(g.part), len(b))
	g.part = append(g.part, b[:used]...)
	if len(g.part) < n {
		return nil, used
	}
	got, g.part = g.part, nil
	return got, used
}

func (g *xzGuard) streamHeader(b []byte) (int, error) {
	if len(g.part) == 0 && b[0] == 0 {
		return 1, nil // padding between two streams
	}
	h, used := g.whole(b, 12)
	if h == nil {
		return used, nil
	}
	if string(h[:6]) != "\xfd7zXZ\x00" {
		return used, errNoXZ
	}
	g.tail = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[h[7]&15]
	g.step = g.blockHeader
	return used, nil
}

func (g *xzGuard) blockHeader(b []byte) (int, error) {
	if len(g.part) == 0 && b[0] == 0 {
		g.pos, g.left, g.step = 1, -1, g.index
		return 1, nil
	}
	size := int(b[0])
	if len(g.part) > 0 {
		size = int(g.part[0])
	}
	h, used := g.whole(b, (size+1)*4)
	if h == nil {
		return used, nil
	}
	bits, ok := dictBits(h)
	if !ok {
		return used, errNoXZ
	}
	// The size of the dictionary is 2 or 3 times a power of two.
	if size := uint64(2|bits&1) << (bits/2 + 11); size > maxDict {
		return used, errs.Invalid("it wants a dictionary of %d MiB to be unpacked; pack it with one of at most %d MiB, such as 'xz -9' has", size>>20, maxDict>>20)
	}
	g.pos, g.step = 0, g.chunk
	return used, nil
}

// dictBits finds the byte that says how large the dictionary of a block is. It is that
// of the LZMA2 filter, which is the last one.
func dictBits(h []byte) (byte, bool) {
	at := 2
	number := func() (n uint64, ok bool) {
		for shift := 0; at < len(h) && shift < 63; shift += 7 {
			c := h[at]
			at++
			n |= uint64(c&0x7f) << shift
			if c&0x80 == 0 {
				return n, true
			}
		}
		return 0, false
	}
	for _, there := range []bool{h[1]&0x40 != 0, h[1]&0x80 != 0} { // sizes of the block
		if there {
			if _, ok := number(); !ok {
				return 0, false
			}
		}
	}
	for range h[1]&3 + 1 {
		id, ok1 := number()
		n, ok2 := number()
		if !ok1 || !ok2 || n > uint64(len(h)-at) {
			return 0, false
		}
		if id == 0x21 {
			return h[at], n == 1 && h[at] <= 40
		}
		at += int(n)
	}
	return 0, false
}

// chunk reads the head of an LZMA2 chunk.
func (g *xzGuard) chunk(b []byte) (int, error) {
	control := b[0]
	if len(g.part) > 0 {
		control = g.part[0]
	}
	size := 1
	switch {
	case control >= 0xc0:
		size = 6
	case control >= 0x80:
		size = 5
	case control > 0:
		size = 3
	}
	h, used := g.whole(b, size)
	if h == nil {
		return used, nil
	}
	two := func(at int) int64 { return int64(h[at])<<8 + int64(h[at+1]) + 1 }
	g.pos += int64(size)
	switch {
	case control == 0:
		g.skip = -g.pos&3 + int64(g.tail)
		g.step = g.blockHeader
		return used, nil
	case control >= 0x80:
		g.skip = two(3)
	default:
		g.skip = two(1)
	}
	g.pos += g.skip
	return used, nil
}

// index reads the numbers of the index: how many records there are, and two for each.
func (g *xzGuard) index(b []byte) (int, error) {
	for used := 0; ; used++ {
		if g.left == 0 {
			g.skip = -g.pos&3 + 4 + 12 // padding, checksum and the stream's footer
			g.step, g.part = g.streamHeader, nil
			return used, nil
		}
		if used == len(b) {
			return used, nil
		}
		g.pos++
		g.part = append(g.part, b[used])
		if b[used]&0x80 != 0 && len(g.part) < 9 {
			continue
		}
		if g.left > 0 {
			g.left--
		} else {
			var n int64
			for i, c := range g.part {
				n |= int64(c&0x7f) << (7 * i)
			}
			if n > 1<<40 {
				return used, errNoXZ
			}
			g.left = 2 * n
		}
		g.part = g.part[:0]
	}
}
