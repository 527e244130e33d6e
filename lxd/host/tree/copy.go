package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxDepth bounds the open descriptors: a walk holds two for each level.
const maxDepth = 1000

// Copy makes dst, an existing empty folder, equal to the folder src: contents (shared
// with the original where the file system can), owners, modes, times, hard links,
// holes, extended attributes with ACLs and capabilities, device nodes. src may be in
// use; a file that changes meanwhile is copied as it is at some moment, and one that
// vanishes is left out.
func Copy(ctx context.Context, dst, src string) error {
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
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c := &copier{
		root: d, stop: stop, links: map[inode]string{}, owner: os.Geteuid() == 0,
		free: make(chan struct{}, max(1, runtime.GOMAXPROCS(0))),
	}
	return c.dir(ctx, s, d, "", 0)
}

type inode struct{ dev, ino uint64 }

type copier struct {
	root  int // of the copy
	stop  context.CancelCauseFunc
	free  chan struct{} // helpers at work
	owner bool          // we may set owners and make device nodes; else for tests only

	mu    sync.Mutex
	links map[inode]string // files with several names: the first name of the copy

	noClone atomic.Bool
}

func openDir(at int, name string) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// dir copies all that is in the folder s to d, then the folder's own properties.
func (c *copier) dir(ctx context.Context, s, d int, rel string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%q: more than %d folders inside each other", rel, maxDepth)
	}
	names, err := readNames(s)
	if err != nil {
		return &os.PathError{Op: "read", Path: rel, Err: err}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := c.entry(ctx, &wg, s, d, name, path.Join(rel, name), depth); err != nil {
			if errors.Is(err, unix.ENOENT) && gone(s, name) {
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
	var st unix.Stat_t
	if err := unix.Fstat(s, &st); err != nil {
		return err
	}
	return at(rel, ".", c.finish(s, d, &st))
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

func (c *copier) entry(ctx context.Context, wg *sync.WaitGroup, s, d int, name, rel string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(s, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.subdir(ctx, wg, s, d, name, rel, depth)
	}
	if st.Nlink > 1 {
		// Names of one file are made one after the other, so that the second finds the first.
		c.mu.Lock()
		defer c.mu.Unlock()
		id := inode{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			return unix.Linkat(c.root, first, d, name, 0)
		}
		if err := c.leaf(s, d, name, &st); err != nil {
			return err
		}
		c.links[id] = rel
		return nil
	}
	return c.leaf(s, d, name, &st)
}

func (c *copier) subdir(ctx context.Context, wg *sync.WaitGroup, s, d int, name, rel string, depth int) error {
	from, err := openDir(s, name)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(d, name, 0o700); err != nil {
		unix.Close(from)
		return err
	}
	to, err := openDir(d, name)
	if err != nil {
		unix.Close(from)
		return err
	}
	work := func() error {
		defer unix.Close(from)
		defer unix.Close(to)
		return c.dir(ctx, from, to, rel, depth+1)
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

// leaf copies one thing that is not a folder.
func (c *copier) leaf(s, d int, name string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.file(s, d, name)
	case unix.S_IFLNK:
		buf := make([]byte, st.Size+1)
		n, err := unix.Readlinkat(s, name, buf)
		if err != nil {
			return err
		}
		if n == len(buf) { // changed meanwhile
			return unix.EAGAIN
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

// file copies a regular file. The name may have become something else since it was
// looked at, so it is opened without following, without blocking, and looked at again.
func (c *copier) file(s, d int, name string) error {
	from, err := retry(func() (int, error) {
		return unix.Openat(s, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(from)
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil // replaced while we looked away: as if it had vanished
	}
	to, err := retry(func() (int, error) {
		return unix.Openat(d, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if err := c.data(to, from, &st); err != nil {
		return err
	}
	return c.finish(from, to, &st)
}

func (c *copier) data(to, from int, st *unix.Stat_t) error {
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
		return copyRange(to, from, 0, st.Size)
	}
	for off := int64(0); off < st.Size; {
		data, err := unix.Seek(from, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break
		}
		if err != nil {
			return copyRange(to, from, off, st.Size)
		}
		hole, err := unix.Seek(from, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(to, from, data, min(hole, st.Size)); err != nil {
			return err
		}
		off = hole
	}
	return unix.Ftruncate(to, st.Size)
}

// copyRange copies the bytes [off, end) to the same place. A file that got shorter
// meanwhile ends it early.
func copyRange(to, from int, off, end int64) error {
	in, out := off, off
	for in < end {
		n, err := retry(func() (int, error) {
			return unix.CopyFileRange(from, &in, to, &out, int(min(end-in, 1<<30)), 0)
		})
		switch {
		case err == unix.EXDEV || err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP:
			return copyBytes(to, from, in, end)
		case err != nil:
			return err
		case n == 0:
			return nil
		}
	}
	return nil
}

func copyBytes(to, from int, off, end int64) error {
	buf := make([]byte, min(end-off, 256<<10))
	for off < end {
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
	list := make([]byte, 1024)
	n, err := unix.Flistxattr(from, list)
	if err == unix.ERANGE {
		list = make([]byte, 64<<10)
		n, err = unix.Flistxattr(from, list)
	}
	if err != nil && err != unix.EOPNOTSUPP {
		return err
	}
	err = copyAttrs(list[:max(n, 0)],
		func(k string, b []byte) (int, error) { return unix.Fgetxattr(from, k, b) },
		func(k string, b []byte) error { return unix.Fsetxattr(to, k, b, 0) })
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, "", times(st), unix.AT_EMPTY_PATH)
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
