package pack

import (
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAFileIsNoNameOfAnEarlierOne: file systems give the numbers of inodes again, as soon as
// the file is gone; mail servers give each message a second name for a moment.
func TestAFileIsNoNameOfAnEarlierOne(t *testing.T) {
	t.Parallel()
	p := &tree{links: map[inode]*link{}}
	names := func(born int64) *unix.Statx_t {
		return &unix.Statx_t{Ino: 7, Nlink: 2, Btime: unix.StatxTimestamp{Sec: born}}
	}
	for n, c := range []struct {
		st         *unix.Statx_t
		name, want string
	}{{names(1), "a", ""}, {names(2), "b", ""}, {names(2), "c", "b"}, {names(1), "d", "a"}} {
		if got := p.linked(c.st, c.name); got != c.want {
			t.Errorf("%d: %q is taken for another name of %q, not of %q", n, c.name, got, c.want)
		}
	}
}

// TestFilesWithSeveralNamesTakeBoundedMemory measures what the daemon keeps of a guest that
// makes very many of them, with short names.
func TestFilesWithSeveralNamesTakeBoundedMemory(t *testing.T) {
	p := &tree{links: map[inode]*link{}}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for n := range uint64(2 << 20) {
		p.linked(&unix.Statx_t{Ino: n, Nlink: 2}, "f"+strconv.FormatUint(n, 36))
	}
	if took := heap() - before; took > 2*maxLinks {
		t.Errorf("%d of them take %d MiB", len(p.links), took>>20)
	}
	runtime.KeepAlive(p)
}
