package btrfs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sett/lxd/host/fsmount"
	"sett/shared/errs"
)

// Receive makes a subvolume of a stream.
//
// A stream is a list of file operations with names in it, and strangers write them too.
// "btrfs receive" carries them out as root by paths, clones from whatever subvolume of
// the file system a stream names, and has been talked into leaving its folder. So this
// is our own: every name is taken apart and walked to from the subvolume's root without
// following links or leaving it, what is no regular file is never opened, and other
// subvolumes are those that the caller knows the stream may build on.

const (
	streamMagic = "btrfs-stream\x00"
	maxCommand  = 1 << 20
)

// The commands of a stream, version 1.
const (
	cmdSubvol = iota + 1
	cmdSnapshot
	cmdMkfile
	cmdMkdir
	cmdMknod
	cmdMkfifo
	cmdMksock
	cmdSymlink
	cmdRename
	cmdLink
	cmdUnlink
	cmdRmdir
	cmdSetXattr
	cmdRemoveXattr
	cmdWrite
	cmdClone
	cmdTruncate
	cmdChmod
	cmdChown
	cmdUtimes
	cmdEnd
)

// Their attributes.
const (
	attrUUID      = 1
	attrSize      = 4
	attrMode      = 5
	attrUID       = 6
	attrGID       = 7
	attrRdev      = 8
	attrMtime     = 10
	attrAtime     = 11
	attrXattrName = 13
	attrXattrData = 14
	attrPath      = 15
	attrPathTo    = 16
	attrPathLink  = 17
	attrOffset    = 18
	attrData      = 19
	attrCloneUUID = 20
	attrClonePath = 22
	attrCloneOff  = 23
	attrCloneLen  = 24
)

func broken(format string, a ...any) error {
	return errs.Invalid("The stream cannot be received: "+format, a...)
}

// Receive makes the subvolume name in the folder of the stream that r gives. base finds
// a subvolume that the stream may build on or clone from. begun is called when the
// subvolume is there, before the stream writes to it. Receive returns what the stream
// calls itself. When it fails, part of the subvolume may be there.
func Receive(ctx context.Context, dir Dir, name string, r io.Reader, base func(Mark) (string, bool), begun func() error) (Mark, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	if err := readHead(in); err != nil {
		return Mark{}, err
	}
	rc := &receiver{base: base, begun: begun}
	defer rc.close()
	for {
		if err := ctx.Err(); err != nil {
			return rc.self, err
		}
		c, err := readCommand(in)
		if err != nil {
			return rc.self, err
		}
		if c.cmd == cmdEnd {
			break
		}
		if err := rc.do(ctx, dir, name, c); err != nil {
			return rc.self, err
		}
	}
	if rc.root == nil {
		return rc.self, broken("it holds no subvolume")
	}
	// Subvolumes inside of others come as further streams behind.
	if _, err := in.Peek(1); err != io.EOF {
		return rc.self, errs.NotImplemented("Streams with btrfs subvolumes that were made inside the instance are not implemented")
	}
	return rc.self, rc.settle()
}

// readHead reads what a stream begins with.
func readHead(in io.Reader) error {
	head := make([]byte, len(streamMagic)+4)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(streamMagic)]) != streamMagic {
		return broken("it is no btrfs stream")
	}
	if v := binary.LittleEndian.Uint32(head[len(streamMagic):]); v != 1 {
		return errs.NotImplemented("btrfs streams of version %d are not implemented", v)
	}
	return nil
}

// command is one of a stream.
type command struct {
	cmd   uint16
	attrs map[uint16][]byte
}

func readCommand(in io.Reader) (command, error) {
	var h [10]byte
	if _, err := io.ReadFull(in, h[:]); err != nil {
		return command{}, broken("it breaks off")
	}
	le := binary.LittleEndian
	size, sum := le.Uint32(h[:]), le.Uint32(h[6:])
	if size > maxCommand {
		return command{}, broken("a command of %d bytes", size)
	}
	body := make([]byte, len(h)+int(size))
	copy(body, h[:6])
	if _, err := io.ReadFull(in, body[len(h):]); err != nil {
		return command{}, broken("it breaks off")
	}
	// The kernel's sum starts with 0 and is not inverted at the end.
	if ^crc32.Update(^uint32(0), crc32.MakeTable(crc32.Castagnoli), body) != sum {
		return command{}, broken("a checksum is wrong")
	}
	c := command{le.Uint16(h[4:]), map[uint16][]byte{}}
	for b := body[len(h):]; len(b) > 0; {
		if len(b) < 4 {
			return c, broken("an attribute breaks off")
		}
		n := int(le.Uint16(b[2:]))
		if len(b) < 4+n {
			return c, broken("an attribute breaks off")
		}
		c.attrs[le.Uint16(b)] = b[4 : 4+n]
		b = b[4+n:]
	}
	return c, nil
}

func (c command) num(a uint16) (uint64, error) {
	if b := c.attrs[a]; len(b) == 8 {
		return binary.LittleEndian.Uint64(b), nil
	}
	return 0, broken("attribute %d of command %d is missing", a, c.cmd)
}

// nums reads several numbers.
func (c command) nums(as ...uint16) ([]uint64, error) {
	out := make([]uint64, len(as))
	for i, a := range as {
		var err error
		if out[i], err = c.num(a); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c command) time(a uint16) (unix.Timespec, error) {
	b := c.attrs[a]
	if len(b) != 12 {
		return unix.Timespec{}, broken("attribute %d of command %d is missing", a, c.cmd)
	}
	le := binary.LittleEndian
	return unix.Timespec{Sec: int64(le.Uint64(b)), Nsec: int64(le.Uint32(b[8:]))}, nil
}

func (c command) uuid(a uint16) (Mark, error) {
	var u Mark
	if len(c.attrs[a]) != len(u) {
		return u, broken("attribute %d of command %d is missing", a, c.cmd)
	}
	copy(u[:], c.attrs[a])
	return u, nil
}

// receiver works on one subvolume.
type receiver struct {
	base  func(Mark) (string, bool)
	begun func() error
	self  Mark
	root  *os.File

	open     *os.File // the file that was written to last
	openPath string
	meter    fsmount.Meter
}

func (r *receiver) close() {
	_ = r.settle()
	if r.root != nil {
		r.root.Close()
	}
}

// settle closes the file that was written to last.
func (r *receiver) settle() error {
	if r.open == nil {
		return nil
	}
	err := r.open.Close()
	r.open, r.openPath = nil, ""
	return err
}

// clean takes a path of a stream apart. The root of the subvolume is "".
func clean(b []byte) (string, error) {
	p := string(b)
	if p == "" {
		return p, nil
	}
	if len(p) >= unix.PathMax || bytes.IndexByte(b, 0) >= 0 {
		return "", broken("the path %q", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." || len(part) > 255 {
			return "", broken("the path %q", p)
		}
	}
	return p, nil
}

// at opens a path below a folder, whatever it is, without doing anything to it.
func at(root *os.File, path string) (*os.File, error) {
	if path == "" {
		path = "."
	}
	fd, err := unix.Openat2(int(root.Fd()), path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV})
	if errors.Is(err, unix.ELOOP) && !strings.HasSuffix(path, "/") {
		// A link may be what is meant, but nothing on the way to it.
		dir, name := split(path)
		d, e := at(root, dir)
		if e != nil || dir == path {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		defer d.Close()
		fd, err = unix.Openat(int(d.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func split(path string) (dir, name string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// in opens the folder in which a path is, and gives its name there.
func (r *receiver) in(path []byte) (*os.File, string, error) {
	p, err := clean(path)
	if err != nil {
		return nil, "", err
	}
	if p == "" {
		return nil, "", broken("it wants to replace the root")
	}
	dir, name := split(p)
	d, err := at(r.root, dir)
	return d, name, err
}

// within calls f with the folder of a path.
func (r *receiver) within(path []byte, f func(dir int, name string) error) error {
	d, name, err := r.in(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := f(int(d.Fd()), name); err != nil {
		return &os.PathError{Op: "receive", Path: string(path), Err: err}
	}
	return nil
}

// on calls f with a way to what a path stands for that no link can bend.
func (r *receiver) on(path []byte, f func(proc string) error) error {
	p, err := clean(path)
	if err != nil {
		return err
	}
	h, err := at(r.root, p)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := f("/proc/self/fd/" + strconv.Itoa(int(h.Fd()))); err != nil {
		return &os.PathError{Op: "receive", Path: p, Err: err}
	}
	return nil
}

// regular opens a file below a root, and nothing else than a file.
func regular(root *os.File, path string, flags int) (*os.File, error) {
	h, err := at(root, path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, broken("%q is no file", path)
	}
	return os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(h.Fd())), flags|unix.O_CLOEXEC, 0)
}

// file opens a file for writing, or gives the one that is open.
func (r *receiver) file(path []byte) (*os.File, error) {
	p, err := clean(path)
	if err != nil {
		return nil, err
	}
	if r.open != nil && r.openPath == p {
		return r.open, nil
	}
	if err := r.settle(); err != nil {
		return nil, err
	}
	f, err := regular(r.root, p, os.O_WRONLY)
	if err == nil {
		r.open, r.openPath = f, p
	}
	return f, err
}

// attribute reports whether an extended attribute is the guest's; others are for the
// host's own use and left out, as they are when archives are unpacked.
func attribute(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability" || strings.HasPrefix(name, "system.posix_acl_")
}

func (r *receiver) do(ctx context.Context, dir Dir, name string, c command) error {
	path := c.attrs[attrPath]
	if c.cmd == cmdSubvol || c.cmd == cmdSnapshot {
		return r.begin(dir, name, c)
	}
	if r.root == nil {
		return broken("it does not begin with a subvolume")
	}
	switch c.cmd {
	case cmdWrite, cmdTruncate:
	default:
		if err := r.settle(); err != nil {
			return err
		}
	}
	switch c.cmd {
	case cmdMkfile:
		return r.within(path, func(dir int, name string) error {
			fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		})
	case cmdMkdir:
		return r.within(path, func(dir int, name string) error { return unix.Mkdirat(dir, name, 0o700) })
	case cmdMknod:
		n, err := c.nums(attrMode, attrRdev)
		if err != nil {
			return err
		}
		kind := uint32(n[0]) & unix.S_IFMT
		if kind != unix.S_IFCHR && kind != unix.S_IFBLK {
			return broken("a device of mode %o", n[0])
		}
		return r.within(path, func(dir int, name string) error { return unix.Mknodat(dir, name, kind|0o600, int(n[1])) })
	case cmdMkfifo:
		return r.within(path, func(dir int, name string) error { return unix.Mknodat(dir, name, unix.S_IFIFO|0o600, 0) })
	case cmdMksock:
		return r.within(path, func(dir int, name string) error { return unix.Mknodat(dir, name, unix.S_IFSOCK|0o600, 0) })
	case cmdSymlink:
		to := string(c.attrs[attrPathLink])
		if to == "" || strings.IndexByte(to, 0) >= 0 {
			return broken("a link to %q", to)
		}
		return r.within(path, func(dir int, name string) error { return unix.Symlinkat(to, dir, name) })
	case cmdRename:
		return r.within(c.attrs[attrPathTo], func(to int, toName string) error {
			return r.within(path, func(dir int, name string) error { return unix.Renameat(dir, name, to, toName) })
		})
	case cmdLink:
		return r.within(c.attrs[attrPathLink], func(from int, fromName string) error {
			return r.within(path, func(dir int, name string) error { return unix.Linkat(from, fromName, dir, name, 0) })
		})
	case cmdUnlink:
		return r.within(path, func(dir int, name string) error { return unix.Unlinkat(dir, name, 0) })
	case cmdRmdir:
		return r.within(path, func(dir int, name string) error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
	case cmdSetXattr, cmdRemoveXattr:
		n := string(c.attrs[attrXattrName])
		if !attribute(n) || strings.IndexByte(n, 0) >= 0 {
			return nil
		}
		return r.on(path, func(proc string) error {
			if c.cmd == cmdSetXattr {
				return unix.Setxattr(proc, n, c.attrs[attrXattrData], 0)
			}
			return unix.Removexattr(proc, n)
		})
	case cmdWrite:
		off, err := c.num(attrOffset)
		if err != nil {
			return err
		}
		f, err := r.file(path)
		if err != nil {
			return err
		}
		if err := r.room(len(c.attrs[attrData])); err != nil {
			return err
		}
		_, err = f.WriteAt(c.attrs[attrData], int64(off))
		return err
	case cmdTruncate:
		size, err := c.num(attrSize)
		if err != nil {
			return err
		}
		f, err := r.file(path)
		if err != nil {
			return err
		}
		return f.Truncate(int64(size))
	case cmdClone:
		return r.clone(ctx, c)
	case cmdChmod:
		mode, err := c.num(attrMode)
		if err != nil {
			return err
		}
		return r.on(path, func(proc string) error { return unix.Chmod(proc, uint32(mode)&0o7777) })
	case cmdChown:
		n, err := c.nums(attrUID, attrGID)
		if err != nil {
			return err
		}
		if len(path) == 0 {
			return r.root.Chown(int(n[0]), int(n[1]))
		}
		return r.within(path, func(dir int, name string) error {
			return unix.Fchownat(dir, name, int(n[0]), int(n[1]), unix.AT_SYMLINK_NOFOLLOW)
		})
	case cmdUtimes:
		a, err := c.time(attrAtime)
		if err != nil {
			return err
		}
		m, err := c.time(attrMtime)
		if err != nil {
			return err
		}
		ts := []unix.Timespec{a, m}
		if len(path) == 0 {
			return r.on(path, func(proc string) error { return unix.UtimesNanoAt(unix.AT_FDCWD, proc, ts, 0) })
		}
		return r.within(path, func(dir int, name string) error {
			return unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW)
		})
	}
	return broken("command %d is not known", c.cmd)
}

// begin makes the subvolume: an empty one, or a clone of one that is there.
func (r *receiver) begin(dir Dir, name string, c command) error {
	if r.root != nil {
		return broken("it holds several subvolumes")
	}
	self, err := c.uuid(attrUUID)
	if err != nil {
		return err
	}
	if c.cmd == cmdSubvol {
		err = dir.Create(name)
	} else {
		var from Mark
		if from, err = c.uuid(attrCloneUUID); err != nil {
			return err
		}
		path, ok := r.base(from)
		if !ok {
			return broken("it builds on a subvolume that has not come with it")
		}
		var src Dir
		if src, err = Open(path); err != nil {
			return err
		}
		defer src.Close()
		err = dir.Snapshot(name, src, false)
	}
	if err != nil {
		return err
	}
	d, err := OpenAt(dir.FD(), name)
	if err != nil {
		return err
	}
	r.root, r.self = d.f, self
	return r.begun()
}

// room ends the work before the file system is full to the brim.
func (r *receiver) room(n int) error {
	if r.meter.Full(r.root, n) {
		return unix.ENOSPC
	}
	return nil
}

// copyAtOnce is how much of a file is copied between two looks at whether that may go on.
const copyAtOnce = 16 << 20

// clone has a file share a part of another one, of this subvolume or one that it may
// build on.
func (r *receiver) clone(ctx context.Context, c command) error {
	n, err := c.nums(attrOffset, attrCloneOff, attrCloneLen)
	if err != nil {
		return err
	}
	from, err := c.uuid(attrCloneUUID)
	if err != nil {
		return err
	}
	p, err := clean(c.attrs[attrClonePath])
	if err != nil {
		return err
	}
	root := r.root
	if from != r.self {
		path, ok := r.base(from)
		if !ok {
			return broken("it clones from a subvolume that has not come with it")
		}
		d, err := Open(path)
		if err != nil {
			return err
		}
		defer d.Close()
		root = d.f
	}
	src, err := regular(root, p, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := r.file(c.attrs[attrPath])
	if err != nil {
		return err
	}
	err = unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{Src_fd: int64(src.Fd()), Src_offset: n[1], Src_length: n[2], Dest_offset: n[0]})
	if err == nil {
		return nil
	}
	// Where blocks cannot be shared they are copied. It is the stream that says how many,
	// and the file may be one large hole.
	to, part := io.NewOffsetWriter(dst, int64(n[0])), io.NewSectionReader(src, int64(n[1]), int64(n[2]))
	for err = nil; err == nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.room(copyAtOnce); err != nil {
			return err
		}
		_, err = io.CopyN(to, part, copyAtOnce)
	}
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("clone into %q: %w", c.attrs[attrPath], err)
	}
	return nil
}
