package pack

import (
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
