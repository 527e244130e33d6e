package dqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// libraft must never find that it has no room for its log. When it cannot write an entry
// it takes back the entry's number on disk, but a follower keeps the entry in memory,
// and a leader has sent it to the others by then: what is written next gets a number
// that means something else there. The log that results is read without complaint, or
// not at all.
//
// It takes the room beforehand, in segments: it writes to one and has two more ready.
// Where the file system is full it goes on for as long as these last, and each snapshot
// that finds no room costs one of them too. So before anything goes into the engine it
// is looked what there is:
//
//	room                                   who does what
//	less than LeastFree is free (short)    Tight: the daemon has another member lead, or
//	                                       refuses to write
//	little more than two segments (low)    alone: the daemon refuses to write
//	only the segment in use (spent)        a member: the engine rests until there is room,
//	                                       which is for the others as if it was down
//
// An engine that is started has no segments until it writes. Those of the one before it
// are given back, except for the part that was written to, and whatever fills the file
// system could take them. So what there is beyond the segments of a node that is short of
// room is held in a file for the next start.
const (
	// LeastFree is the room that raft takes at once for its next segments.
	LeastFree = 4 * segmentSize
	// leastSegments are how many segments there must be, or room for them, so that the
	// engine runs.
	leastSegments = 2
	segmentSize   = 8 << 20
	// leastAlone is for a server that stands alone, in bytes, beside two snapshots: it cannot
	// be started without leastSegments, and before it stops or is killed one of them may be
	// closed, another one filled, and a snapshot written.
	leastAlone = (leastSegments + 2) * segmentSize

	reserveName = "reserve"
	// mostReserved is held beside the segments, and mostResting while there are none.
	mostReserved = segmentSize
	mostResting  = (leastSegments+1)*segmentSize + forOthers
	// forOthers is how much of it is for what else a daemon must write when it starts.
	forOthers = 1 << 20
)

// Room is how much of it a node has for its log.
type Room struct {
	Free  uint64 // bytes of its file system
	Short bool   // it is less than raft takes at once
	Low   bool   // and a server that stands alone is to write no more
	Spent bool   // and what raft had taken before is used up

	ours     uint64 // bytes that are free for root
	segments int    // that raft has taken, and not closed
	making   uint64 // bytes of one that it is about to take
	reserve  uint64 // bytes that are held for the next start
	needs    uint64 // of all that, so that it is not Low
}

// Room looks how much room the node has.
func (n *Node) Room() (Room, error) {
	free, _, err := freeOf(n.opts.Dir)
	if err != nil || free >= doubtful {
		return Room{Free: free, ours: free}, err
	}
	if err := n.count(); err != nil {
		return Room{}, err
	}
	return roomIn(n.opts.Dir)
}

// count is commit now and then.
func (n *Node) count() error {
	if !n.cow {
		return nil
	}
	n.counting.Lock()
	defer n.counting.Unlock()
	if n.busy || time.Since(n.counted) < countEvery {
		return nil
	}
	n.counted = time.Now()
	if n.opts.Dial == nil {
		return commit(n.opts.Dir)
	}
	// The others would take this member for dead while it takes long.
	n.busy = true
	go func() {
		if err := commit(n.opts.Dir); err != nil {
			n.opts.Log.Debug("Could not have the file system of the database count", "err", err)
		}
		n.counting.Lock()
		defer n.counting.Unlock()
		n.busy = false
	}()
	return nil
}

// doubtful is how much room there may be for it to be worth to look closely, and countEvery
// how often.
const (
	doubtful   = 8 * LeastFree
	countEvery = time.Second
)

func roomIn(dir string) (Room, error) {
	free, ours, err := freeOf(dir)
	if err != nil || free >= LeastFree {
		return Room{Free: free, ours: ours}, err
	}
	r := Room{Free: free, Short: true, ours: ours}
	names, err := openSegments(dir)
	if err != nil {
		return r, err
	}
	for _, name := range names {
		var st unix.Stat_t
		switch err := unix.Stat(name, &st); {
		case err != nil: // it was closed
		case st.Size >= segmentSize:
			r.segments++
		default:
			r.making += 512 * uint64(st.Blocks)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, reserveName)); err == nil {
		r.reserve = uint64(fi.Size())
	}
	r.needs = leastAlone + 2*uint64(largestSnapshot(dir))
	r.Low = uint64(r.segments)*segmentSize+r.ours+r.making+r.reserve < r.needs
	r.Spent = r.spent()
	return r, nil
}

// spent reports whether too little is left to go on with.
func (r Room) spent() bool { return r.has(r.reserve) < leastSegments }

// has is how many segments there are or may be, with so much room beside what is free.
func (r Room) has(more uint64) int {
	return r.segments + int((r.ours+r.making+more)/segmentSize)
}

// freeOf tells how much is free in a folder for everybody, and how much for this process:
// ext4 keeps a part for root, though not for the root of a container. That is looked at only
// where there is little.
func freeOf(dir string) (all, ours uint64, err error) {
	st, err := statfs(dir)
	if err != nil {
		return 0, 0, err
	}
	all = st.Bavail * uint64(st.Bsize)
	if all >= LeastFree || st.Type != unix.EXT4_SUPER_MAGIC || st.Bfree == st.Bavail || !root() {
		return all, all, nil
	}
	// It keeps something for itself beside that (2 % or 4096 blocks).
	keeps := min(st.Blocks/50, 4096)
	return all, max(all, (max(st.Bfree, keeps)-keeps)*uint64(st.Bsize)), nil
}

func statfs(dir string) (st unix.Statfs_t, err error) {
	if err := unix.Statfs(dir, &st); err != nil {
		return st, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	return st, nil
}

// commit has a btrfs count what was written to it and what was removed. By itself it does
// so every half minute, and until then there is less room than it says, or more. That
// matters only where there is little, and can take long: all that waits to be written to
// that file system is written.
func commit(dir string) error {
	st, err := statfs(dir)
	if err != nil || st.Type != unix.BTRFS_SUPER_MAGIC || st.Bavail*uint64(st.Bsize) >= doubtful {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// root reports whether this process is root of the whole machine.
func root() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && os.Geteuid() == 0 && strings.Join(strings.Fields(string(ids)), " ") == "0 0 4294967295"
}

func openSegments(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "open-") {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

// What there is for files in linux/fs.h: FS_NOCOW_FL, chattr's C, and FS_COMPR_FL, its c.
const (
	nocow      = 0x00800000
	compressed = 0x00000004
)

// writeInPlace has files that are made in a folder of a btrfs keep the blocks that they
// have. What libraft writes into its segments would go elsewhere otherwise, and need the
// room for it once more. It reports whether it is a btrfs.
func writeInPlace(dir string) (cow bool, err error) {
	if st, err := statfs(dir); err != nil || st.Type != unix.BTRFS_SUPER_MAGIC {
		return false, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return true, err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	set := func(flag uint32) {
		if err == nil {
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flag))
		}
	}
	// A folder is compressed where the one is that it is in, and never has both.
	if flags&compressed != 0 {
		flags &^= compressed
		set(flags)
	}
	if flags&nocow == 0 {
		set(flags | nocow)
	}
	if err != nil {
		return true, fmt.Errorf("have files in %s written in place: %w", dir, err)
	}
	return true, nil
}

// MakeRoom gives a little of the room back that is held for the start of the node in dir,
// for what the daemon must write before.
func MakeRoom(dir string) error {
	name := filepath.Join(dir, reserveName)
	fi, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Truncate(name, max(fi.Size()-forOthers, 0)); err != nil {
		return err
	}
	_ = commit(dir) // whoever needs the room sees whether there is some
	return nil
}

// Full is that the node has no more than r.
func (n *Node) Full(r Room) error {
	if n.opts.Dial == nil {
		return needs(n.opts.Dir, r.Free, r.needs)
	}
	return tooFull(n.opts.Dir, r.Free)
}

func tooFull(dir string, free uint64) error { return needs(dir, free, leastSegments*segmentSize) }

func needs(dir string, free, needed uint64) error {
	return errs.Wrap(errs.KindUnavailable, &fullError{dir, free, needed})
}

// fullError is that there is too little room in a folder.
type fullError struct {
	dir          string
	free, needed uint64
}

// Error implements error.
func (e *fullError) Error() string {
	return fmt.Sprintf("The file system of %s is full (%d MiB free); the database needs %d MiB. Free some space there",
		e.dir, e.free>>20, e.needed>>20)
}

// Is implements what errors.Is asks for.
func (e *fullError) Is(target error) bool { return target == errFull }

// errFull is why an engine takes nothing, and is not started.
var errFull = errors.New("the file system of the database is full")

// checkRoom reports errFull where an engine would have no room. What release gives back is
// room too, and what the engine itself gives back of what the last one has written to.
func checkRoom(dir string) error {
	_, free, err := freeOf(dir)
	if err != nil || free >= LeastFree {
		return err
	}
	if fi, err := os.Stat(filepath.Join(dir, reserveName)); err == nil {
		free += uint64(fi.Size())
	}
	names, err := openSegments(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		used, size, err := usedOf(name)
		if err != nil {
			return err
		}
		free += uint64(size - used)
	}
	if free >= leastSegments*segmentSize {
		return nil
	}
	_ = reserve(dir, mostResting, 0) // as far as that goes
	return tooFull(dir, free)
}

// usedOf is how much of a segment was written to.
func usedOf(name string) (used, size int, err error) {
	data, err := os.ReadFile(name)
	return len(strings.TrimRight(string(data), "\x00")), len(data), err
}

// release gives the room back that is held for the start of an engine, which follows at
// once: whatever fills the file system could take it. The engine drops segments that were
// never used too, but first it looks what the file system can do, for which there must be
// some room. go-dqlite ends the process when it finds none.
func release(dir string) error {
	if err := os.Remove(filepath.Join(dir, reserveName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, free, err := freeOf(dir)
	if err != nil || free >= segmentSize {
		return err
	}
	names, err := openSegments(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		used, _, err := usedOf(name)
		if err == nil && used == 0 {
			err = os.Remove(name)
		}
		if err != nil {
			return err
		}
	}
	_ = commit(dir)
	// The same as the engine does.
	f, err := os.OpenFile(filepath.Join(dir, "probe"), os.O_WRONLY|os.O_CREATE, 0o600)
	if errors.Is(err, unix.ENOSPC) {
		return tooFull(dir, 0)
	}
	if err != nil {
		return err
	}
	full := errors.Is(unix.Fallocate(int(f.Fd()), 0, 0, 4096), unix.ENOSPC) // some file systems cannot
	if !full {
		_, err = f.Write(make([]byte, 4096))
		full = errors.Is(errors.Join(err, f.Sync()), unix.ENOSPC)
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return err
	}
	if full {
		return tooFull(dir, 0)
	}
	return nil
}

// holdMetadata takes the room for what an engine writes down before it votes. There are
// two files of a few bytes that are written in turn, and the second is made at the first
// election: an engine that cannot make it takes part in none any more.
func holdMetadata(dir string) error {
	var all error
	for _, name := range []string{"metadata1", "metadata2"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
		all = errors.Join(all, err, f.Close())
	}
	return all
}

// entrance is a way into the engine.
type entrance struct {
	net.Conn
	node *Node
}

// Write implements net.Conn. Nothing passes when the room for the log is spent.
func (e entrance) Write(b []byte) (int, error) {
	if err := e.node.look(); err != nil {
		return 0, &net.OpError{Op: "write", Net: "unix", Err: err}
	}
	return e.Conn.Write(b)
}

// look has the engine rest when its room is spent, and says when it becomes short.
func (n *Node) look() error {
	r, err := n.Room()
	if err != nil {
		return nil // whoever waits for room looks too, and tells
	}
	was := n.short.Swap(r.Short)
	if r.Short && !was && n.opts.Tight != nil {
		n.opts.Tight()
	}
	if r.Short || was || n.cow && !n.held.Swap(true) {
		n.hold(r)
	}
	if !r.Spent || n.opts.Dial == nil {
		return nil
	}
	return n.tire(false)
}

// takes reports whether there is room for a snapshot, which a member gets that has missed
// much: libraft has forgotten its log by the time that it finds there is none.
func (n *Node) takes(size uint64) error {
	r, err := n.Room()
	if err != nil || r.ours+r.reserve >= size+leastSegments*segmentSize {
		return err
	}
	return n.tire(true)
}

// tire has the engine rest; at once, or if there is no room at a second look either.
func (n *Node) tire(now bool) error {
	select {
	case n.spent <- now:
	default:
	}
	return errFull
}

// hold holds room for the next start beside the segments that the engine has or needs,
// and gives it back when the engine needs it now.
func (n *Node) hold(r Room) {
	if !n.holding.TryLock() {
		return
	}
	defer n.holding.Unlock()
	var err error
	switch {
	case !r.Short && n.cow: // what is free there shows late
		err = reserve(n.opts.Dir, 2*mostReserved, 0)
	case !r.Short:
		err = os.Remove(filepath.Join(n.opts.Dir, reserveName))
	case r.reserve > 0 && r.has(0) < leastSegments: // no more than it needs
		lacks := uint64(leastSegments-r.has(0)) * segmentSize
		err = os.Truncate(filepath.Join(n.opts.Dir, reserveName), int64(max(r.reserve, lacks)-lacks))
	case r.reserve < mostReserved:
		err = reserve(n.opts.Dir, mostReserved, max(leastSegments-r.segments, 0)*segmentSize)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.opts.Log.Debug("Could not hold room for the database node", "err", err)
	}
}

// leastReserved is what it is worth to be held.
const leastReserved = 64 << 10

// reserve makes the file that holds room larger, up to a size of most, by what is free
// beyond what is to be left.
func reserve(dir string, most, leave int) error {
	_, free, err := freeOf(dir)
	if err != nil || free < uint64(leave+leastReserved) {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, reserveName), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	more := min(int64(free)-int64(leave), int64(most)-fi.Size())
	if more < leastReserved {
		return nil
	}
	return unix.Fallocate(int(f.Fd()), 0, fi.Size(), more)
}

// watchRoom has the engine rest when its room is spent.
func (n *Node) watchRoom() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case now := <-n.spent:
			if r, err := n.Room(); !now && (err != nil || !r.Spent) {
				continue
			}
			n.opts.Log.Error("The file system of the database is full, so this member has no part in it until there is room; free some space", "dir", n.opts.Dir)
			if err := n.Rest(); err != nil {
				n.opts.Log.Error("Could not stop the database node", "err", err)
			}
		}
	}
}

// Resting tells whether the engine does not run, for want of room. One that is started anew
// is only away.
func (n *Node) Resting() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.local == "" && !n.anew
}

// away is why there is no engine.
func (n *Node) away() error {
	if n.Resting() {
		return errFull
	}
	return errAnew
}

var errAnew = errors.New("the database node is being started anew")

// at is the socket of the engine, empty while there is none.
func (n *Node) at() string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.local
}

// Rest stops the engine until Wake. The node goes on serving what other members hold.
func (n *Node) Rest() error {
	n.life.Lock()
	defer n.life.Unlock()
	return n.stopEngine()
}

func (n *Node) stopEngine() error {
	n.mu.Lock()
	engine := n.engine
	n.engine, n.local = nil, ""
	n.mu.Unlock()
	if engine == nil {
		return nil
	}
	err := engine.Close()
	if cerr := commit(n.opts.Dir); cerr != nil {
		n.opts.Log.Debug("Could not have the file system of the database count", "err", cerr)
	}
	if r, rerr := n.Room(); rerr == nil && r.Short {
		if rerr := reserve(n.opts.Dir, mostResting, 0); rerr != nil {
			n.opts.Log.Debug("Could not hold room for the database node", "err", rerr)
		}
	}
	return err
}

// Wake starts the engine again when there is room: where it rests, and where it knows no
// leader, because it may have been unable to write something down.
func (n *Node) Wake(ctx context.Context) error {
	n.life.Lock()
	defer n.life.Unlock()
	if n.ctx.Err() != nil {
		return nil
	}
	if !n.Resting() {
		if l, err := n.Believed(ctx); err == nil && l.ID != 0 {
			return nil
		}
	}
	return n.restart()
}

// restart starts the engine anew. The caller holds life.
func (n *Node) restart() error {
	n.mu.Lock()
	n.anew = n.local != ""
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.anew = false
		n.mu.Unlock()
	}()
	if err := n.stopEngine(); err != nil {
		return err
	}
	if err := check(n.opts); err != nil {
		return err
	}
	return n.startEngine()
}
