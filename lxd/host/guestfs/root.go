package guestfs

import (
	"errors"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Root is the folder below which everything happens. It is safe for concurrent use.
type Root struct {
	// Join, when set, brings this process to where the guest's memory is counted. It is
	// called once, before the first write to a file that is in memory.
	Join func()

	dir   *os.File
	self  *os.File // /proc/self/fd, from before the process went where that may be another's
	once  sync.Once
	hands func(f *os.File, device uint64) bool
}

// OpenRoot takes a folder as the root.
func OpenRoot(dir string) (*Root, error) {
	self, err := os.OpenFile("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		_ = self.Close()
		return nil, err
	}
	return &Root{dir: d, self: self, hands: handsOver}, nil
}

// Here takes the root of the process; self is its /proc/self/fd.
func Here(self *os.File) (*Root, error) {
	d, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &Root{dir: d, self: self, hands: handsOver}, nil
}

// Close lets go of the folder.
func (r *Root) Close() error { return errors.Join(r.dir.Close(), r.self.Close()) }

// written looks at a file that is about to be written to.
func (r *Root) written(f *os.File) {
	if r.Join == nil {
		return
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err == nil { // files in memory alone have such
		r.once.Do(r.Join)
	}
}

// Errors beside those of the kernel.
var (
	errIrregular = errors.New("it is not a regular file")
	errTooMany   = errors.New("it has too many entries")
	errIsRoot    = errors.New("it is the root folder")
	errFolder    = errors.New("it exists and is not a directory")
)

func clean(name string) string { return path.Clean("/" + name) }

func (r *Root) openat2(name string, flags, mode uint64) (int, error) {
	if strings.ContainsRune(name, 0) {
		return -1, unix.EINVAL
	}
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Mode: mode, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(int(r.dir.Fd()), name, &how)
		if err == unix.EINTR || err == unix.EAGAIN && try < 128 {
			continue // EAGAIN: something was renamed while the kernel looked for ".."
		}
		return fd, err
	}
}

// node is something in the tree, held without being opened.
type node struct {
	r  *Root
	fd int
	st unix.Stat_t
}

func (n node) close()       { _ = unix.Close(n.fd) }
func (n node) kind() uint32 { return n.st.Mode & unix.S_IFMT }
func (n node) name() string { return strconv.Itoa(n.fd) }

// look finds what a name stands for. follow says whether a link at its end is followed.
func (r *Root) look(name string, follow bool) (node, error) {
	flags := uint64(unix.O_PATH)
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := r.openat2(clean(name), flags, 0)
	if err != nil {
		return node{}, err
	}
	n := node{r: r, fd: fd}
	if err := unix.Fstat(fd, &n.st); err != nil {
		n.close()
		return node{}, err
	}
	return n, nil
}

// open opens what is held: by the descriptor, so that it is what was looked at.
func (n node) open(flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(n.r.self.Fd()), n.name(), flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), ""), nil
	}
}

// regular opens a file that holds bytes.
func (n node) regular(flags int) (*os.File, error) {
	switch n.kind() {
	case unix.S_IFREG:
		return n.open(flags)
	case unix.S_IFDIR:
		return nil, unix.EISDIR
	}
	return nil, errIrregular
}

// readlink reads a link that was not followed.
func (n node) readlink() (string, error) {
	b := make([]byte, unix.PathMax+1)
	l, err := unix.Readlinkat(n.fd, "", b)
	if err != nil {
		return "", err
	}
	return string(b[:l]), nil
}

// Bounds of a listing: names come in one answer.
const mostNames, mostNameBytes = 1 << 20, 32 << 20

// list names what is in a folder.
func (n node) list() ([]string, error) {
	f, err := n.open(unix.O_RDONLY | unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	out := []string{}
	size := 0
	for {
		names, err := f.Readdirnames(1000)
		for _, s := range names {
			size += len(s)
		}
		out = append(out, names...)
		if len(out) > mostNames || size > mostNameBytes {
			return nil, errTooMany
		}
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// chmod works on anything but links, which have no mode.
func (n node) chmod(mode uint32) error {
	return unix.Fchmodat(int(n.r.self.Fd()), n.name(), mode&0o7777, 0)
}

// chown sets the ids that are not -1, on links too.
func (n node) chown(uid, gid int) error {
	if uid < 0 && gid < 0 {
		return nil
	}
	return unix.Fchownat(n.fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

func (n node) chtimes(atime, mtime unix.Timespec) error {
	return unix.UtimesNanoAt(int(n.r.self.Fd()), n.name(), []unix.Timespec{atime, mtime}, 0)
}

// in runs f on the folder of a name and the name's last part.
func (r *Root) in(name string, f func(dir int, base string) error) error {
	name = clean(name)
	if name == "/" {
		return errIsRoot
	}
	fd, err := r.openat2(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return f(fd, path.Base(name))
}

// Owner says whose something new is, and what may be done with it; -1 leaves it at
// what the kernel gives.
type Owner struct {
	UID  int
	GID  int
	Mode int
}

// write opens a file to write to. One that is not there is made, unless it is to be
// appended to; its owner is set before the first byte is in it.
func (r *Root) write(name string, o Owner, add bool) (f *os.File, made bool, err error) {
	n, err := r.look(name, true)
	if err == nil {
		defer n.close()
		flags := unix.O_WRONLY | unix.O_TRUNC
		if add {
			flags = unix.O_WRONLY | unix.O_APPEND
		}
		f, err := n.regular(flags)
		return f, false, err
	}
	if err != unix.ENOENT || add {
		return nil, false, err
	}
	// A link that leads to nowhere is followed, as a program in the guest would.
	fd, err := r.openat2(clean(name), unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	if err != nil {
		return nil, false, err
	}
	f = os.NewFile(uintptr(fd), "")
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errIrregular // somebody else was faster
	}
	if err == nil && (o.UID >= 0 || o.GID >= 0) {
		err = unix.Fchown(fd, o.UID, o.GID)
	}
	if err == nil {
		mode := uint32(0o644)
		if o.Mode >= 0 {
			mode = uint32(o.Mode) & 0o7777
		}
		err = unix.Fchmod(fd, mode)
	}
	if err != nil {
		_ = f.Close()
		_ = r.remove(name) // it is empty, and not what was asked for
		return nil, false, err
	}
	return f, true, nil
}

// mkdir makes a folder; one that is there will do.
func (r *Root) mkdir(name string, o Owner) (made bool, err error) {
	if clean(name) == "/" {
		return false, nil
	}
	err = r.in(name, func(dir int, base string) error { return unix.Mkdirat(dir, base, 0o700) })
	if err == unix.EEXIST {
		n, lerr := r.look(name, true)
		if lerr != nil {
			return false, errFolder
		}
		defer n.close()
		if n.kind() != unix.S_IFDIR {
			return false, errFolder
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n, err := r.look(name, false)
	if err != nil {
		return true, err
	}
	defer n.close()
	if n.kind() != unix.S_IFDIR {
		return true, errFolder // it was replaced at once
	}
	if err := n.chown(o.UID, o.GID); err != nil {
		return true, errors.Join(err, r.remove(name))
	}
	mode := uint32(0o750)
	if o.Mode >= 0 {
		mode = uint32(o.Mode)
	}
	return true, n.chmod(mode)
}

// symlink makes a link; one that says the same already will do.
func (r *Root) symlink(name, target string, o Owner) (made bool, err error) {
	err = r.in(name, func(dir int, base string) error { return unix.Symlinkat(target, dir, base) })
	if err == unix.EEXIST {
		n, lerr := r.look(name, false)
		if lerr != nil {
			return false, err
		}
		defer n.close()
		if have, rerr := n.readlink(); n.kind() == unix.S_IFLNK && rerr == nil && have == target {
			return false, nil
		}
		return false, err
	}
	if err != nil || o.UID < 0 && o.GID < 0 {
		return err == nil, err
	}
	n, err := r.look(name, false)
	if err != nil {
		return true, err
	}
	defer n.close()
	return true, n.chown(o.UID, o.GID)
}

// remove removes one name: of a file, a link, anything, or of an empty folder.
func (r *Root) remove(name string) error {
	return r.in(name, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if err == unix.EISDIR {
			return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR)
		}
		return err
	})
}
