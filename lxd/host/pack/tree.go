package pack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/host/idmap"
	"sett/shared/errs"
)

// Options are about how a tree is packed. The zero value packs all, as it is on disk.
type Options struct {
	// IDs turns the ids on disk into those that the archive shall have. Images and
	// backups hold the guest's own: From is the map by which the tree was shifted.
	IDs idmap.Shifter
	// Skip leaves out what it returns true for, with all that is below. Names are
	// relative to the root of the tree, without the prefix.
	Skip func(name string) bool
	// Whole refuses a file that package unpack cannot make again as it is.
	Whole bool
	// Progress is told now and then how many bytes of files have been written.
	Progress func(bytes int64)
}

const (
	// maxName is the longest name that tar can unpack: the kernel's limit on a path.
	maxName = unix.PathMax - 1
	// maxRecords is the most that readers of archives take for what is said of a file
	// beside its contents.
	maxRecords = 1 << 20
	// maxLinks bounds the memory for files with several names: linkCost is what one takes
	// besides its name.
	maxLinks, linkCost = 128 << 20, 160
	// maxNames bounds the memory for what is in folders that are being read, by its number.
	maxNames = 1 << 20
	// looks is how often a folder is read in which names keep coming.
	looks = 3
)

var errTooMuch = errs.Invalid("its extended attributes are larger than archives can hold")

// Tree writes the tree below the open folder root; prefix, such as "rootfs", is what
// the folder is called in the archive. Sockets are left out, as in every tar. What
// vanishes meanwhile is left out too, and so may be what moves to another folder; a file
// that changes is written with the size that it had when it was opened.
//
// An error about the tree is a *os.PathError with a name in it; other errors come from
// what the archive is written to, or from ctx.
func (w *Writer) Tree(ctx context.Context, root *os.File, prefix string, o Options) error {
	t := &tree{w: w, o: o, prefix: strings.Trim(prefix, "/"), links: map[inode]*link{}, seed: maphash.MakeSeed()}
	fd, err := dup(root)
	if err != nil {
		return &os.PathError{Op: "open", Path: root.Name(), Err: err}
	}
	defer unix.Close(fd)
	st, err := stat(fd)
	if err != nil {
		return &os.PathError{Op: "stat", Path: root.Name(), Err: err}
	}
	t.mount = st.Mnt_id
	return t.dir(ctx, fd, st, "")
}

// OpenFolder opens the folder name directly below dir, to be packed. Neither may be a
// link.
func OpenFolder(dir, name string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	d, err := retry(func() (int, error) { return unix.Open(dir, flags, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(d)
	fd, err := retry(func() (int, error) { return unix.Openat(d, name, flags, 0) })
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// dup opens the folder again: reading it must not move the caller's place in it.
func dup(root *os.File) (fd int, err error) {
	conn, err := root.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := conn.Control(func(n uintptr) { fd, err = openDir(int(n)) }); e != nil {
		return -1, e
	}
	return fd, err
}

// inode is a file. The number alone may be that of another one, of later.
type inode struct {
	major, minor uint32
	ino          uint64
	born         unix.StatxTimestamp
}

type link struct {
	name string
	left uint32 // names that are still to come
}

type tree struct {
	w      *Writer
	o      Options
	prefix string
	mount  uint64
	links  map[inode]*link
	kept   int // bytes that links take
	seed   maphash.Seed
	noted  int // names and inodes, in all folders that are being read
}

// folder is what is known of one that is being read. That can take long, and what gets
// another name meanwhile, such as a log when its time has come, may be met under neither.
type folder struct {
	t    *tree
	seen map[uint64]struct{} // sums of the names and inodes that have been written
	full bool                // there was no room for all
}

// has tells whether a name or the number of an inode has been noted.
func has[T string | uint64](f *folder, what T) bool {
	_, ok := f.seen[maphash.Comparable(f.t.seed, what)]
	return ok
}

func note[T string | uint64](f *folder, what T) {
	if f.full = f.full || f.t.noted >= maxNames; f.full || has(f, what) {
		return
	}
	f.seen[maphash.Comparable(f.t.seed, what)] = struct{}{}
	f.t.noted++
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// openDir opens for reading what the descriptor of a folder holds.
func openDir(fd int) (int, error) {
	return retry(func() (int, error) { return unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
}

func stat(fd int) (*unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME|unix.STATX_MNT_ID, &st)
	return &st, err
}

// fail names what in the tree an error is about.
func fail(rel string, err error) error {
	return &os.PathError{Op: "pack", Path: "/" + rel, Err: err}
}

// dir writes a folder and all that is in it.
func (t *tree) dir(ctx context.Context, fd int, st *unix.Statx_t, rel string) error {
	h, err := t.header(fd, st, rel)
	if err != nil {
		return err
	}
	h.Typeflag = tar.TypeDir
	if h.Name != "" {
		h.Name += "/"
		if err := t.begin(h, rel); err != nil {
			return err
		}
	}
	f := &folder{t: t, seen: map[uint64]struct{}{}}
	defer func() { t.noted -= len(f.seen) }()
	for look := range looks {
		if err := t.names(ctx, fd, f, rel, look > 0); err != nil || f.full {
			return err
		}
		now, err := stat(fd)
		if err != nil {
			return fail(rel, err)
		}
		if now.Ctime == st.Ctime {
			return nil
		}
		st = now
		if _, err := unix.Seek(fd, 0, io.SeekStart); err != nil {
			return fail(rel, err)
		}
	}
	return nil
}

// names writes all that has a name in a folder; again tells that it has been read before.
func (t *tree) names(ctx context.Context, fd int, f *folder, rel string, again bool) error {
	buf := make([]byte, 16<<10)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
		if err == unix.ENOENT { // removed meanwhile
			return nil
		}
		if err != nil {
			return fail(rel, err)
		}
		if n <= 0 {
			return nil
		}
		_, _, names := unix.ParseDirent(buf[:n], -1, nil)
		for _, name := range names {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if has(f, name) {
				continue
			}
			if err := t.entry(ctx, fd, f, name, path.Join(rel, name), again); err != nil {
				return err
			}
		}
	}
}

// entry writes what a name in the folder dir stands for; again: unless it has been written
// under another one.
func (t *tree) entry(ctx context.Context, dir int, f *folder, name, rel string, again bool) error {
	if t.o.Skip != nil && t.o.Skip(rel) {
		return nil
	}
	if n := len(t.name(rel)); n > maxName {
		return fail(rel, errs.Invalid("a name of %d bytes is longer than tar can unpack (%d)", n, maxName))
	}
	fd, err := retry(func() (int, error) { return unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) })
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fail(rel, err)
	}
	defer func() { unix.Close(fd) }()
	st, err := stat(fd)
	if err != nil {
		return fail(rel, err)
	}
	kind := uint32(st.Mode) & unix.S_IFMT
	if st.Mnt_id != t.mount || kind == unix.S_IFSOCK {
		return nil // what the host mounts there is not the guest's
	}
	if again && has(f, st.Ino) {
		return nil
	}
	note(f, name)
	note(f, st.Ino)
	if kind == unix.S_IFDIR {
		sub, err := openDir(fd)
		if err == unix.ENOENT {
			return nil
		}
		if err != nil {
			return fail(rel, err)
		}
		// One descriptor for each level: many levels fit into one path.
		unix.Close(fd)
		fd = sub
		return t.dir(ctx, fd, st, rel)
	}
	if first := t.linked(st, rel); first != "" {
		h, err := t.header(-1, st, rel)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return t.begin(h, rel)
	}
	if kind == unix.S_IFREG {
		return t.file(ctx, fd, rel)
	}
	h, err := t.header(fd, st, rel)
	if err != nil {
		return err
	}
	switch kind {
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, "", buf)
		if err != nil {
			return fail(rel, err)
		}
		h.Linkname = string(buf[:n])
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if kind == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(st.Rdev_major), int64(st.Rdev_minor)
	default:
		return nil
	}
	return t.begin(h, rel)
}

// linked gives the name in the archive under which a file with several names has been
// written, or "" and remembers this one.
func (t *tree) linked(st *unix.Statx_t, rel string) string {
	if st.Nlink < 2 {
		return ""
	}
	id := inode{st.Dev_major, st.Dev_minor, st.Ino, st.Btime}
	l := t.links[id]
	if l == nil {
		// A guest can make names until our memory ends. Files beyond that are written
		// whole under each of theirs.
		if name := t.name(rel); t.kept+len(name)+linkCost <= maxLinks {
			t.links[id] = &link{name, st.Nlink - 1}
			t.kept += len(name) + linkCost
		}
		return ""
	}
	if l.left--; l.left == 0 {
		delete(t.links, id)
		t.kept -= len(l.name) + linkCost
	}
	return l.name
}

func (t *tree) name(rel string) string { return path.Join(t.prefix, rel) }

// header is what tar tells of every kind of file. fd is an O_PATH handle of it, or -1
// for no attributes.
func (t *tree) header(fd int, st *unix.Statx_t, rel string) (*tar.Header, error) {
	h := &tar.Header{
		Name: t.name(rel), Mode: int64(st.Mode & 0o7777), Format: tar.FormatPAX,
		Uid: int(t.o.IDs.UID(st.Uid)), Gid: int(t.o.IDs.GID(st.Gid)),
		ModTime: time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)),
	}
	if fd < 0 || uint32(st.Mode)&unix.S_IFMT == unix.S_IFLNK {
		return h, nil
	}
	var err error
	if h.PAXRecords, err = t.attributes(fd); err != nil {
		return nil, fail(rel, err)
	}
	return h, nil
}

// begin writes a header. What the header has wrong is the tree's fault.
func (t *tree) begin(h *tar.Header, rel string) error {
	err := t.w.WriteHeader(h)
	if errors.Is(err, tar.ErrFieldTooLong) {
		return fail(rel, errTooMuch)
	}
	return err
}

// file writes a regular file, of which fd is a handle. The handle is opened by way of
// /proc, so that it is the file that was looked at and nothing that has come since.
func (t *tree) file(ctx context.Context, handle int, rel string) error {
	fd, err := retry(func() (int, error) {
		return unix.Open(procPath(handle), unix.O_RDONLY|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	})
	if err == unix.EPERM { // another's, and we are not root
		fd, err = retry(func() (int, error) { return unix.Open(procPath(handle), unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	}
	if err != nil {
		return fail(rel, err)
	}
	defer unix.Close(fd)
	st, err := stat(fd)
	if err != nil {
		return fail(rel, err)
	}
	h, err := t.header(fd, st, rel)
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, int64(st.Size)
	if int64(st.Blocks)*512 < h.Size {
		parts, err := dataParts(ctx, fd, h.Size)
		if err != nil {
			return fail(rel, err)
		}
		if worthwhile(parts, h.Size) {
			return t.sparse(ctx, fd, h, parts, rel)
		}
	}
	if err := t.begin(h, rel); err != nil {
		return err
	}
	return t.data(ctx, t.w.Writer, fd, part{0, h.Size}, rel)
}

func (t *tree) sparse(ctx context.Context, fd int, h *tar.Header, parts []part, rel string) error {
	index, size := indexOf(parts), int64(0)
	for _, p := range parts {
		size += p.size
	}
	if err := t.w.sparseHeader(h, int64(len(index))+size); err != nil {
		if err == errTooMuch {
			return fail(rel, err)
		}
		return err
	}
	if _, err := t.w.out.Write(index); err != nil {
		return err
	}
	for _, p := range parts {
		if err := t.data(ctx, t.w.out, fd, p, rel); err != nil {
			return err
		}
	}
	_, err := t.w.out.Write(make([]byte, -size&(block-1)))
	return err
}

// data writes a part of a file. Where the file has become shorter, zeros follow.
func (t *tree) data(ctx context.Context, out io.Writer, fd int, p part, rel string) error {
	buf := t.w.buf
	for at, end := p.at, p.at+p.size; at < end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buf[:min(int64(len(buf)), end-at)]
		n, err := retry(func() (int, error) { return unix.Pread(fd, b, at) })
		if err != nil {
			return fail(rel, err)
		}
		if n == 0 {
			clear(b)
			n = len(b)
		}
		if _, err := out.Write(b[:n]); err != nil {
			return err
		}
		at += int64(n)
		t.w.bytes += int64(n)
		if t.o.Progress != nil {
			t.o.Progress(t.w.bytes)
		}
	}
	return nil
}

func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// attributes are the extended attributes of a file as records of an archive.
func (t *tree) attributes(fd int) (map[string]string, error) {
	file := procPath(fd)
	list, err := attr(func(b []byte) (int, error) { return unix.Listxattr(file, b) })
	if err != nil || len(list) == 0 {
		return nil, err
	}
	out := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		acl := map[string]string{"system.posix_acl_access": "SCHILY.acl.access", "system.posix_acl_default": "SCHILY.acl.default"}[name]
		// Labels of security modules and properties of the file system are this host's.
		if acl == "" && name != "security.capability" && !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "trusted.") {
			continue
		}
		if t.o.Whole && strings.HasPrefix(name, "trusted.") {
			return nil, errs.Invalid("its attribute %q would be lost, which only the host's root may set", name)
		}
		v, err := attr(func(b []byte) (int, error) { return unix.Getxattr(file, name, b) })
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		if v == nil {
			continue // taken away meanwhile
		}
		switch {
		case acl != "":
			t.o.IDs.ACL(v)
			out[acl] = aclText(v)
		case name == "security.capability":
			v = t.o.IDs.Caps(v)
		}
		out["SCHILY.xattr."+attrKey(name)] = string(v)
	}
	return out, nil
}

// attr calls get until its buffer is large enough. nil stands for no such attribute,
// or none at all on this kind of file.
func attr(get func([]byte) (int, error)) ([]byte, error) {
	for size := 1 << 10; ; size <<= 3 {
		b := make([]byte, size)
		n, err := retry(func() (int, error) { return get(b) })
		switch {
		case err == nil:
			return b[:n:n], nil
		case err == unix.ENODATA, err == unix.EOPNOTSUPP:
			return nil, nil
		case err == unix.ERANGE && size < maxRecords:
		default:
			return nil, err
		}
	}
}
