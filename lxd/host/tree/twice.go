package tree

import (
	"context"
	"hash/maphash"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// twice copies a tree that somebody writes to:
//
//	hold still, note the time, let go     what was being written is written
//	copy and note all                     but what has changed since that time, which is
//	                                      left for later unless nobody writes so far
//	hold still                            the moment that the copy will show
//	copy what was not noted, or changed   one look at all the rest
//	let go
//
// The kernel gives a file a new change time with every change, of its content, its
// properties or its names, and lets nobody set it. Two things would escape that: a long
// write has its time from its beginning, and memory that a file is mapped to changes its
// time only when it is written to for the first time since it went to disk. So writers are
// held for a moment before the first look, and what is in memory goes to disk. (A tmpfs,
// which has no disk, never tells of such memory.) Where nothing was mapped before, whoever
// begins to write to memory that he has mapped since changes the time.
func (c *copier) twice(ctx context.Context, f folders, o Options, exact time.Duration) error {
	resume, err := o.Quiet(ctx)
	if err != nil {
		return err
	}
	c.seen = newSeen(time.Now().Add(-exact))
	resume()
	c.idle = o.Idle
	if c.idle == nil {
		c.idle = func() bool { return false }
	}
	if !c.idle() {
		if err := unix.Syncfs(f.s); err != nil {
			return os.NewSyscallError("syncfs", err)
		}
	}
	c.live = true
	if err := c.pass(ctx, c.dir, f); err != nil {
		return err
	}
	// What the copy is like has been looked at by its own time, which can be set.
	c.live, c.links, c.kept, f.like = false, map[inode]string{}, 0, none
	if resume, err = o.Quiet(ctx); err != nil {
		return err
	}
	defer resume()
	if c.idle() {
		return nil
	}
	return c.pass(ctx, c.again, f)
}

// again makes a copied folder what the original is by now.
func (c *copier) again(ctx context.Context, f folders, rel string, depth int) error {
	st, names, err := readDir(f.s, rel)
	if err != nil {
		return err
	}
	bared := false
	bare := func() error {
		if bared {
			return nil
		}
		bared = true
		return dropAttrs(f.d)
	}
	if !c.seen.has(rel, &st) {
		if err := bare(); err != nil {
			return at(rel, ".", err)
		}
		if err := prune(ctx, f.d, names); err != nil {
			return at(rel, ".", err)
		}
	}
	err = c.each(ctx, f, names, rel, depth, func(wg *sync.WaitGroup, name, rel string) error {
		return c.entryAgain(ctx, wg, f, name, rel, depth, bare)
	})
	if err == nil && bared {
		err = at(rel, ".", c.finish(f.s, f.d, &st))
	}
	return err
}

// entryAgain makes one name in a copied folder what it is by now. bare is called before
// the folder is written to: what is made in it must not inherit anything.
func (c *copier) entryAgain(ctx context.Context, wg *sync.WaitGroup, f folders, name, rel string, depth int, bare func() error) error {
	var st unix.Stat_t
	if err := unix.Fstatat(f.s, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if to, err := openDir(f.d, name); err == nil {
			from, err := openSub(f.s, name)
			if err != nil {
				unix.Close(to)
				return err
			}
			return c.below(ctx, wg, c.again, folders{from, to, none}, rel, depth)
		}
	} else if c.seen.has(rel, &st) && (st.Nlink == 1 || c.sameFile(f, name, rel, &st)) {
		return nil
	}
	if err := bare(); err != nil {
		return err
	}
	if err := drop(ctx, f.d, name); err != nil {
		return err
	}
	err := c.entry(ctx, wg, f, name, rel, depth)
	if err != unix.ENOSPC && err != unix.EDQUOT {
		return err
	}
	// Some file systems give the room of what was dropped back when they go to disk.
	if err := unix.Syncfs(f.d); err != nil {
		return os.NewSyscallError("syncfs", err)
	}
	if err := drop(ctx, f.d, name); err != nil {
		return err
	}
	return c.entry(ctx, wg, f, name, rel, depth)
}

// sameFile tells whether a name of a file with several, which did not change, is a name of
// the same file in the copy as the others are.
func (c *copier) sameFile(f folders, name, rel string, st *unix.Stat_t) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := inode{st.Dev, st.Ino}
	first, ok := c.links[id]
	if !ok {
		c.keep(id, rel)
		return true
	}
	var a, b unix.Stat_t
	return unix.Fstatat(c.root, first, &a, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		unix.Fstatat(f.d, name, &b, unix.AT_SYMLINK_NOFOLLOW) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// prune removes from a copied folder what is not in the original any more.
func prune(ctx context.Context, fd int, names []string) error {
	have, err := readNames(fd)
	if err != nil {
		return err
	}
	stay := make(map[string]bool, len(names))
	for _, name := range names {
		stay[name] = true
	}
	for _, name := range have {
		if stay[name] {
			continue
		}
		if err := drop(ctx, fd, name); err != nil {
			return err
		}
	}
	return nil
}

// drop removes whatever has a name in a copied folder.
func drop(ctx context.Context, dir int, name string) error {
	switch err := unix.Unlinkat(dir, name, 0); err {
	case unix.EISDIR:
		return removeAt(ctx, dir, name)
	case unix.ENOENT:
		return nil
	default:
		return err
	}
}

// dropAttrs takes the extended attributes from a folder. Those that are the system's own
// stay, and get their value when the folder is finished.
func dropAttrs(fd int) error {
	return fileAttrs(fd, func(k string, _ []byte) error {
		err := unix.Fremovexattr(fd, k)
		if err == unix.EPERM || err == unix.EACCES || err == unix.EINVAL {
			return nil
		}
		return err
	})
}

// coarsest is how far apart two changes may be that a file system gives the same time. The
// kernel's own steps of some milliseconds are in there.
const coarsest = 2 * time.Second

// seen knows, by one number each, what has been copied and cannot have changed between the
// time when seen was made and its copy. A nil seen notes nothing.
type seen struct {
	seed  maphash.Seed
	since int64 // in nanoseconds; see late

	mu   sync.Mutex
	sums map[uint64]struct{}
}

func newSeen(since time.Time) *seen {
	return &seen{seed: maphash.MakeSeed(), since: since.UnixNano(), sums: map[uint64]struct{}{}}
}

// sum stands for something that has a name and is as st tells.
func (s *seen) sum(rel string, st *unix.Stat_t) uint64 {
	type what struct {
		rel          string
		dev, ino     uint64
		size         int64
		mtime, ctime unix.Timespec
	}
	return maphash.Comparable(s.seed, what{rel, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim})
}

// late tells of what has changed since the copy began, or shortly before.
func (s *seen) late(st *unix.Stat_t) bool { return st.Ctim.Nano() >= s.since }

// note remembers what st told before it was copied.
func (s *seen) note(rel string, st *unix.Stat_t) {
	if s == nil || s.late(st) {
		return
	}
	n := s.sum(rel, st)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sums[n] = struct{}{}
}

// has tells whether something is still what was copied under that name.
func (s *seen) has(rel string, st *unix.Stat_t) bool {
	n := s.sum(rel, st)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.sums[n]
	return ok
}

// changed tells whether a name stands for something else than it did, or is gone.
func changed(dir int, name string, was *unix.Stat_t) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == unix.ENOENT || err == nil && (st.Dev != was.Dev || st.Ino != was.Ino || st.Ctim != was.Ctim)
}

// Shares tells whether files in a folder can share their bytes.
func Shares(dir string) bool {
	a, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err != nil {
		return false
	}
	defer a.Close()
	b, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err != nil {
		return false
	}
	defer b.Close()
	if _, err := a.Write(make([]byte, 4096)); err != nil {
		return false
	}
	return unix.IoctlFileClone(int(b.Fd()), int(a.Fd())) == nil
}
