package inside

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNotRegular is returned for something that is no ordinary file.
var ErrNotRegular = errors.New("not a regular file")

// ErrTooLarge is returned for a file that is longer than the caller takes.
var ErrTooLarge = errors.New("the file is too large")

// Root is a folder below which one stays.
type Root struct {
	f *os.File
}

// Open opens a folder of the host's. Its last part must not be a link.
func Open(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return &Root{os.NewFile(uintptr(fd), dir)}, nil
}

// Close lets go of the folder.
func (r *Root) Close() error { return r.f.Close() }

// strict look-ups meet no link at all; inRoot ones resolve links as a process does
// whose root the folder is.
const (
	strict = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
	inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
)

func (r *Root) openat2(name string, flags, resolve uint64) (int, error) {
	if strings.ContainsRune(name, 0) {
		return -1, &fs.PathError{Op: "open", Path: name, Err: unix.EINVAL}
	}
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(int(r.f.Fd()), name, &how)
		if (err == unix.EAGAIN || err == unix.EINTR) && try < 64 {
			continue // something was renamed while the kernel looked for ".."
		}
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return fd, nil
	}
}

// Sub opens a folder below; no part of its path may be a link.
func (r *Root) Sub(name string) (*Root, error) {
	fd, err := r.openat2(name, unix.O_DIRECTORY|unix.O_RDONLY, strict)
	if err != nil {
		return nil, err
	}
	return &Root{os.NewFile(uintptr(fd), name)}, nil
}

// Read reads a regular file of at most max bytes; no part of its path may be a link.
func (r *Root) Read(name string, max int64) ([]byte, error) {
	// Without O_NONBLOCK a FIFO would hold us until somebody writes to it.
	fd, err := r.openat2(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, strict)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ELOOP) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: ErrNotRegular}
	}
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(b)) > max {
		err = &fs.PathError{Op: "read", Path: name, Err: ErrTooLarge}
	}
	return b, err
}

// Names lists the regular files that lie directly in the folder, in order.
func (r *Root) Names() ([]string, error) {
	d, err := r.Sub(".") // a position of its own
	if err != nil {
		return nil, err
	}
	defer d.Close()
	ents, err := d.f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range ents {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Mkdir makes a folder directly in the root; one that is there already is fine.
func (r *Root) Mkdir(name string, mode uint32) error {
	if err := single(name); err != nil {
		return err
	}
	err := unix.Mkdirat(int(r.f.Fd()), name, mode)
	if err != nil && err != unix.EEXIST {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return nil
}

// Write makes or replaces a file directly in the root.
func (r *Root) Write(name string, data []byte, mode uint32) error {
	if err := single(name); err != nil {
		return err
	}
	return replace(int(r.f.Fd()), name, data, int(unix.Getuid()), int(unix.Getgid()), mode)
}

// Remove removes a file directly in the root.
func (r *Root) Remove(name string) error {
	if err := single(name); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(r.f.Fd()), name, 0); err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

func single(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return &fs.PathError{Op: "open", Path: name, Err: unix.EINVAL}
	}
	return nil
}

// Exists reports whether a guest with this root finds something at a path, be it a
// link to nowhere.
func (r *Root) Exists(name string) (bool, error) {
	fd, err := r.openat2(clean(name), unix.O_PATH|unix.O_NOFOLLOW, inRoot)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, unix.Close(fd)
}

func clean(name string) string { return path.Clean("/" + name) }

// File is what Put writes.
type File struct {
	Data []byte
	// UID and GID own what is made: the file, and the folders above it that were
	// missing. A file that was there keeps its owner.
	UID, GID int
	// Mode of a new file. One that was there keeps its permissions.
	Mode uint32
}

// Put makes or replaces the file that a guest with this root knows as name. Links on
// the way lead where they lead the guest; a link at the end is replaced by the file.
func (r *Root) Put(name string, f File) error {
	name = clean(name)
	if name == "/" {
		return &fs.PathError{Op: "write", Path: name, Err: unix.EISDIR}
	}
	dir, err := r.folder(path.Dir(name), f.UID, f.GID)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(dir) }()
	base := path.Base(name)
	var st unix.Stat_t
	err = unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG:
		// Never set-user-id: the content is not what somebody gave these rights to.
		f.UID, f.GID, f.Mode = int(st.Uid), int(st.Gid), st.Mode&0o777
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return &fs.PathError{Op: "write", Path: name, Err: unix.EISDIR}
	case err != nil && err != unix.ENOENT:
		return &fs.PathError{Op: "write", Path: name, Err: err}
	}
	return replace(dir, base, f.Data, f.UID, f.GID, f.Mode)
}

// folder opens a folder as the guest knows it, and makes what is missing of it.
func (r *Root) folder(name string, uid, gid int) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY
	fd, err := r.openat2(name, flags, inRoot)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	at := "/"
	dir, err := r.openat2(at, flags, inRoot)
	if err != nil {
		return -1, err
	}
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		at = path.Join(at, part)
		next, err := r.openat2(at, flags, inRoot)
		if errors.Is(err, unix.ENOENT) {
			if err = unix.Mkdirat(dir, part, 0o755); err == nil && unix.Geteuid() == 0 {
				err = unix.Fchownat(dir, part, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
			}
			if err == nil {
				next, err = r.openat2(at, flags, inRoot)
			}
		}
		_ = unix.Close(dir)
		if err != nil {
			return -1, fmt.Errorf("make the folder %s: %w", at, err)
		}
		dir = next
	}
	return dir, nil
}

// replace puts a new file at a name, in one step.
func replace(dir int, base string, data []byte, uid, gid int, mode uint32) (err error) {
	var b [8]byte
	_, _ = rand.Read(b[:])
	tmp := ".new-" + hex.EncodeToString(b[:])
	// An O_PATH descriptor serves as a place to start from.
	fd, err := unix.Openat(dir, tmp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &fs.PathError{Op: "create", Path: base, Err: err}
	}
	f := os.NewFile(uintptr(fd), base)
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(dir, tmp, 0)
		}
	}()
	_, err = f.Write(data)
	// Without root, in tests, all files belong to their maker.
	if err == nil && unix.Geteuid() == 0 {
		err = f.Chown(uid, gid)
	}
	if err == nil {
		err = f.Chmod(fs.FileMode(mode & 0o777))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = unix.Renameat(dir, tmp, dir, base); err != nil {
		return &fs.PathError{Op: "write", Path: base, Err: err}
	}
	return nil
}
