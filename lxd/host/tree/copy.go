package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the open descriptors: a walk holds two or three for each level.
const maxDepth = 1000

// Copy makes dst, an existing empty folder, equal to the folder src: contents (shared
// with the original where the file system can), owners, modes, times, hard links,
// holes, extended attributes with ACLs and capabilities, device nodes. src may be in
// use; a file that changes meanwhile is copied as it is at some moment, and one that
// vanishes is left out.
func Copy(ctx context.Context, dst, src string) error { return CopyWith(ctx, dst, src, Options{}) }

// Options say how to copy. The zero value is for a plain copy.
type Options struct {
	// Like is a tree in the file system of the copy that may have much in common with
	// src. The bytes of a file that it has with the same size, time, owner, mode and
	// attributes are shared with it, where the file system can, and not read from src.
	Like string
	// Take says that Like is about to be removed. So the copy may take over files of it
	// that are the same as they are, on any file system.
	Take bool
	// Count is told of bytes that are in the copy now, from several goroutines.
	Count func(n int64)
	// Quiet, which may be nil, holds still who writes to src, until resume is called. With
	// it the copy is what src is at one moment, and they stand still for no longer than it
	// takes to look at src and to copy what has changed since the copy began.
	Quiet func(ctx context.Context) (resume func(), err error)
	// Idle, which may be nil, reports whether nobody has written to src since the copy began,
	// nor had mapped any of it then. Once it has said no it never says yes again.
	Idle func() bool
}

// CopyWith is Copy with options.
func CopyWith(ctx context.Context, dst, src string, o Options) error {
	return copyTree(ctx, dst, src, o, coarsest)
}

// copyTree is CopyWith on a file system whose times are that exact.
func copyTree(ctx context.Context, dst, src string, o Options, exact time.Duration) error {
	s, err := openDir(unix.AT_FDCWD, src)
	if err != nil {
		return &os.PathError{Op: "open", Path: src, Err: err}
	}
	defer unix.Close(s)
	d, err := openDir(unix.AT_FDCWD, dst)
	if err != nil {
		return &os.PathError{Op: "open", Path: dst, Err: err}
	}
	defer unix.Close(d)
	like := none
	if o.Like != "" {
		if like, err = openDir(unix.AT_FDCWD, o.Like); err != nil {
			return &os.PathError{Op: "open", Path: o.Like, Err: err}
		}
		defer unix.Close(like)
	}
	c := &copier{
		root: d, take: o.Take, count: o.Count, links: map[inode]string{}, owner: os.Geteuid() == 0,
		free: make(chan struct{}, max(1, runtime.GOMAXPROCS(0))),
	}
	if c.count == nil {
		c.count = func(int64) {}
	}
	f := folders{s, d, like}
	if o.Quiet != nil {
		return c.twice(ctx, f, o, exact)
	}
	return c.pass(ctx, c.dir, f)
}

// walk is what is done to a folder and all that is in it.
type walk func(ctx context.Context, f folders, rel string, depth int) error

func (c *copier) pass(ctx context.Context, w walk, f folders) error {
	ctx, c.stop = context.WithCancelCause(ctx)
	defer c.stop(nil)
	return w(ctx, f, "", 0)
}

// errSwapped tells of a name that stood for something else once it was looked at closely. It
// is left out, like one that has vanished.
var errSwapped = errors.New("it has become something else")

// none stands for the descriptor of a folder that is not there.
const none = -1

// folders are the same folder in the source, in the copy, and, unless it is none, in
// the tree that the copy is like.
type folders struct{ s, d, like int }

func (f folders) close() {
	unix.Close(f.s)
	unix.Close(f.d)
	if f.like != none {
		unix.Close(f.like)
	}
}

type inode struct{ dev, ino uint64 }

type copier struct {
	root  int // of the copy
	stop  context.CancelCauseFunc
	free  chan struct{} // helpers at work
	owner bool          // we may set owners and make device nodes; else for tests only
	take  bool
	count func(int64)

	mu    sync.Mutex
	links map[inode]string // files with several names: the first name of the copy
	kept  int              // bytes that links take

	noClone atomic.Bool

	live bool        // src changes meanwhile, and is looked at once more
	idle func() bool // there is no need so far to look once more; set while live
	seen *seen       // what is as it was; nil unless src is looked at twice
}

func openDir(at int, name string) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

// openSub opens a folder of the source that has been looked at.
func openSub(at int, name string) (int, error) {
	fd, err := openDir(at, name)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		err = errSwapped
	}
	return fd, err
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// dir copies all that is in a folder, then the folder's own properties.
func (c *copier) dir(ctx context.Context, f folders, rel string, depth int) error {
	st, names, err := readDir(f.s, rel)
	if err != nil {
		return err
	}
	err = c.each(ctx, f, names, rel, depth, func(wg *sync.WaitGroup, name, rel string) error {
		return c.entry(ctx, wg, f, name, rel, depth)
	})
	if err == nil {
		err = at(rel, ".", c.finish(f.s, f.d, &st))
	}
	if err == nil {
		c.seen.note(rel, &st)
	}
	return err
}

// readDir looks at a folder before it looks into it.
func readDir(fd int, rel string) (st unix.Stat_t, names []string, err error) {
	if err = unix.Fstat(fd, &st); err == nil {
		names, err = readNames(fd)
	}
	if err == unix.ENOENT { // it was removed after it was opened, so that it was empty
		return st, nil, nil
	}
	if err != nil {
		err = &os.PathError{Op: "read", Path: rel, Err: err}
	}
	return st, names, err
}

// each does something with all that is in a folder, and waits for it.
func (c *copier) each(ctx context.Context, f folders, names []string, rel string, depth int, do func(wg *sync.WaitGroup, name, rel string) error) error {
	if depth > maxDepth {
		return fmt.Errorf("%q: more than %d folders inside each other", rel, maxDepth)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for n, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := do(&wg, name, path.Join(rel, name)); err != nil {
			// What is moved while the folder is read may be found twice.
			again := err == unix.EEXIST && slices.Index(names, name) < n
			if errors.Is(err, unix.ENOENT) && (c.live || gone(f.s, name)) || err == errSwapped || again {
				continue
			}
			err = at(rel, name, err)
			c.stop(err)
			return err
		}
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func at(rel, name string, err error) error {
	if err == nil {
		return nil
	}
	var p *os.PathError
	if errors.As(err, &p) {
		return err
	}
	return &os.PathError{Op: "copy", Path: path.Join("/", rel, name), Err: err}
}

func gone(dir int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT
}

func (c *copier) entry(ctx context.Context, wg *sync.WaitGroup, f folders, name, rel string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(f.s, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.subdir(ctx, wg, f, name, rel, depth)
	}
	if c.live && c.seen.late(&st) && !c.idle() {
		return nil // there will be a second look, which copies it in any case
	}
	err := c.named(ctx, f, name, rel, &st)
	switch {
	case err == nil:
		c.seen.note(rel, &st)
	case c.live && changed(f.s, name, &st):
		return errSwapped
	}
	return err
}

// named makes a name of something that is not a folder.
func (c *copier) named(ctx context.Context, f folders, name, rel string, st *unix.Stat_t) error {
	if st.Nlink == 1 {
		return c.leaf(ctx, f, name, st)
	}
	// Names of one file are made one after the other, so that the second finds the first.
	c.mu.Lock()
	defer c.mu.Unlock()
	if first, ok := c.links[inode{st.Dev, st.Ino}]; ok {
		err := unix.Linkat(c.root, first, f.d, name, 0)
		if err != unix.ENOENT {
			return err
		}
		// The first name had become something else when it was copied.
	}
	if err := c.leaf(ctx, f, name, st); err != nil {
		return err
	}
	c.keep(inode{st.Dev, st.Ino}, rel)
	return nil
}

// maxLinks bounds the memory for files with several names, which a guest can make until ours
// ends: linkCost is what one takes besides its name.
const maxLinks, linkCost = 128 << 20, 96

// keep remembers the first name of a file with several. Those for which there is no room, or
// by whose name nothing can be linked to, become a file of their own under each of theirs.
// The lock is held.
func (c *copier) keep(id inode, rel string) {
	if cost := len(rel) + linkCost; len(rel) < unix.PathMax && c.kept+cost <= maxLinks {
		c.links[id] = rel
		c.kept += cost
	}
}

func (c *copier) subdir(ctx context.Context, wg *sync.WaitGroup, f folders, name, rel string, depth int) error {
	from, err := openSub(f.s, name)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(f.d, name, 0o700); err != nil {
		unix.Close(from)
		return err
	}
	to, err := openDir(f.d, name)
	if err != nil {
		unix.Close(from)
		return err
	}
	sub := folders{from, to, none}
	if f.like != none {
		if sub.like, err = openDir(f.like, name); err != nil {
			sub.like = none // then nothing in there is the same
		}
	}
	return c.below(ctx, wg, c.dir, sub, rel, depth)
}

// below does something to a folder inside another one, by a helper if there is one.
func (c *copier) below(ctx context.Context, wg *sync.WaitGroup, w walk, f folders, rel string, depth int) error {
	work := func() error {
		defer f.close()
		return w(ctx, f, rel, depth+1)
	}
	select {
	case c.free <- struct{}{}:
		wg.Go(func() {
			defer func() { <-c.free }()
			if err := work(); err != nil {
				c.stop(err)
			}
		})
		return nil
	default:
		return work()
	}
}

// leaf copies one thing that is not a folder. It sets st to that of the file that it has
// opened, which may be another one by now.
func (c *copier) leaf(ctx context.Context, f folders, name string, st *unix.Stat_t) error {
	s, d := f.s, f.d
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.file(ctx, f, name, st)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(s, name, buf)
		if err == unix.EINVAL {
			return errSwapped
		}
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), d, name); err != nil {
			return err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if !c.owner {
			return nil
		}
		fallthrough
	default: // device nodes, pipes and sockets
		if err := unix.Mknodat(d, name, st.Mode&unix.S_IFMT|0o600, int(st.Rdev)); err != nil {
			return err
		}
		if err := c.chown(d, name, st); err != nil {
			return err
		}
		if err := unix.Fchmodat(d, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
		if err := linkAttrs(s, d, name); err != nil {
			return err
		}
		return unix.UtimesNanoAt(d, name, times(st), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err := c.chown(d, name, st); err != nil {
		return err
	}
	if err := linkAttrs(s, d, name); err != nil {
		return err
	}
	return unix.UtimesNanoAt(d, name, times(st), unix.AT_SYMLINK_NOFOLLOW)
}

func (c *copier) chown(d int, name string, st *unix.Stat_t) error {
	if !c.owner {
		return nil
	}
	return unix.Fchownat(d, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
}

func times(st *unix.Stat_t) []unix.Timespec { return []unix.Timespec{st.Atim, st.Mtim} }

// openFile opens a regular file. The name may have become something else since it was
// looked at, and to open a device is to use it: so a handle is looked at that does nothing,
// and then opened. ok is false for what is no regular file.
func openFile(at int, name string, st *unix.Stat_t) (fd int, ok bool, err error) {
	handle, err := retry(func() (int, error) {
		return unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return none, false, err
	}
	defer unix.Close(handle)
	if err := unix.Fstat(handle, st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return none, false, err
	}
	fd, err = retry(func() (int, error) {
		return unix.Open("/proc/self/fd/"+strconv.Itoa(handle), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	return fd, err == nil, err
}

// file copies a regular file.
func (c *copier) file(ctx context.Context, f folders, name string, st *unix.Stat_t) error {
	from, ok, err := openFile(f.s, name, st)
	if err != nil {
		return err
	}
	if !ok {
		return errSwapped
	}
	defer unix.Close(from)
	defer c.count(st.Size)
	same := none
	if f.like != none && st.Size > 0 {
		if same = c.same(f.like, name, from, st); same != none {
			defer unix.Close(same)
		}
	}
	if same != none && c.take && st.Nlink == 1 {
		err := unix.Linkat(f.like, name, f.d, name, 0)
		if err == nil {
			return nil
		}
		if err != unix.EXDEV && err != unix.EPERM && err != unix.EMLINK && err != unix.ENOENT {
			return err
		}
	}
	to, err := retry(func() (int, error) {
		return unix.Openat(f.d, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if same == none || unix.IoctlFileClone(to, same) != nil {
		if err := c.data(ctx, to, from, st); err != nil {
			return err
		}
	}
	return c.finish(from, to, st)
}

// same opens the file that has a name in the folder like, if it is as the file from.
// What writes to it, if anything, would have to set back its time to be overlooked.
func (c *copier) same(like int, name string, from int, st *unix.Stat_t) int {
	var old unix.Stat_t
	fd, ok, err := openFile(like, name, &old)
	if err != nil || !ok {
		return none
	}
	if old.Nlink == 1 && old.Size == st.Size && old.Mtim == st.Mtim && old.Mode == st.Mode && old.Uid == st.Uid && old.Gid == st.Gid {
		a, err1 := attrs(from)
		b, err2 := attrs(fd)
		if err1 == nil && err2 == nil && maps.Equal(a, b) {
			return fd
		}
	}
	unix.Close(fd)
	return none
}

// attrs are the extended attributes of an open file.
func attrs(fd int) (map[string]string, error) {
	out := map[string]string{}
	err := fileAttrs(fd, func(k string, v []byte) error {
		out[k] = string(v)
		return nil
	})
	return out, err
}

func (c *copier) data(ctx context.Context, to, from int, st *unix.Stat_t) error {
	if st.Size == 0 {
		return nil
	}
	if !c.noClone.Load() {
		err := unix.IoctlFileClone(to, from)
		if err == nil {
			return nil
		}
		if err != unix.EOPNOTSUPP && err != unix.EXDEV && err != unix.ENOTTY && err != unix.EINVAL && err != unix.ENOSYS {
			return err
		}
		if err != unix.EINVAL { // EINVAL is about this one file (no checksums, swap)
			c.noClone.Store(true)
		}
	}
	if st.Blocks*512 >= st.Size {
		return copyRange(ctx, to, from, 0, st.Size)
	}
	for off := int64(0); off < st.Size; {
		data, err := unix.Seek(from, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		if err != nil {
			return copyRange(ctx, to, from, off, st.Size)
		}
		hole, err := unix.Seek(from, data, unix.SEEK_HOLE)
		if err == unix.ENXIO { // it got shorter meanwhile
			break
		}
		if err != nil {
			return err
		}
		if err := copyRange(ctx, to, from, data, min(hole, st.Size)); err != nil {
			return err
		}
		off = hole
	}
	return unix.Ftruncate(to, st.Size)
}

// chunk is how much is copied between two looks at whether anybody still wants it.
const chunk = 64 << 20

// copyRange copies the bytes [off, end) to the same place. A file that got shorter
// meanwhile ends it early.
func copyRange(ctx context.Context, to, from int, off, end int64) error {
	in, out := off, off
	for in < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := retry(func() (int, error) {
			return unix.CopyFileRange(from, &in, to, &out, int(min(end-in, chunk)), 0)
		})
		switch {
		case err == unix.EXDEV || err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP:
			return copyBytes(ctx, to, from, in, end)
		case err != nil:
			return err
		case n == 0:
			return nil
		}
	}
	return nil
}

func copyBytes(ctx context.Context, to, from int, off, end int64) error {
	buf := make([]byte, min(end-off, 256<<10))
	for off < end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := retry(func() (int, error) { return unix.Pread(from, buf[:min(int64(len(buf)), end-off)], off) })
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for done := 0; done < n; {
			m, err := retry(func() (int, error) { return unix.Pwrite(to, buf[done:n], off+int64(done)) })
			if err != nil {
				return err
			}
			if m == 0 {
				return io.ErrShortWrite
			}
			done += m
		}
		off += int64(n)
	}
	return nil
}

// finish sets owner, mode, attributes and times, in this order: a change of owner
// clears capabilities and set-id bits, anything changes the times.
func (c *copier) finish(from, to int, st *unix.Stat_t) error {
	if c.owner {
		if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	if err := fileAttrs(from, func(k string, b []byte) error { return unix.Fsetxattr(to, k, b, 0) }); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, "", times(st), unix.AT_EMPTY_PATH)
}

// fileAttrs hands over the extended attributes of an open file one by one.
func fileAttrs(fd int, each func(string, []byte) error) error {
	list := make([]byte, 1024)
	n, err := unix.Flistxattr(fd, list)
	if err == unix.ERANGE {
		list = make([]byte, 64<<10)
		n, err = unix.Flistxattr(fd, list)
	}
	if err != nil && err != unix.EOPNOTSUPP {
		return err
	}
	return copyAttrs(list[:max(n, 0)], func(k string, b []byte) (int, error) { return unix.Fgetxattr(fd, k, b) }, each)
}

// linkAttrs copies the attributes of a thing that cannot be opened. The path goes
// through our own descriptor of its folder and does not follow the last name.
func linkAttrs(s, d int, name string) error {
	from := "/proc/self/fd/" + strconv.Itoa(s) + "/" + name
	list := make([]byte, 1024)
	n, err := unix.Llistxattr(from, list)
	if n <= 0 || err != nil {
		return nil // none, or not supported on this kind of file
	}
	to := "/proc/self/fd/" + strconv.Itoa(d) + "/" + name
	return copyAttrs(list[:n],
		func(k string, b []byte) (int, error) { return unix.Lgetxattr(from, k, b) },
		func(k string, b []byte) error { return unix.Lsetxattr(to, k, b, 0) })
}

func copyAttrs(list []byte, get func(string, []byte) (int, error), set func(string, []byte) error) error {
	if len(list) == 0 {
		return nil
	}
	buf := make([]byte, 4096)
	for k := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		n, err := get(k, buf)
		if err == unix.ERANGE {
			buf = make([]byte, 64<<10)
			n, err = get(k, buf)
		}
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", k, err)
		}
		err = set(k, buf[:n])
		if err != nil && strings.HasPrefix(k, "btrfs.") {
			continue // a property of the file system there
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", k, err)
		}
	}
	return nil
}

// readNames reads a folder in the order of the file system.
func readNames(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
		return nil, err
	}
	var names []string
	buf := make([]byte, 16<<10)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}
