package guestfs

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"
)

// serveSFTP speaks SFTP until the connection ends.
func serveSFTP(conn io.ReadWriteCloser, r *Root) error {
	h := handlers{r}
	err := sftp.NewRequestServer(conn, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h}).Serve()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// handlers answer SFTP's requests from the tree.
type handlers struct{ r *Root }

// status gives SFTP an error that it has a code for, or its text.
func status(err error) error {
	switch {
	case errors.Is(err, errIrregular), errors.Is(err, errIsRoot), errors.Is(err, errFolder), errors.Is(err, errTooMany):
		return sftp.ErrSSHFxFailure
	case err == unix.EROFS, err == unix.EACCES, err == unix.EPERM:
		return sftp.ErrSSHFxPermissionDenied
	}
	return err
}

// Fileread opens a file to read.
func (h handlers) Fileread(q *sftp.Request) (io.ReaderAt, error) {
	f, err := h.open(q, unix.O_RDONLY)
	if err != nil {
		return nil, status(err) // not f: a nil file is not a nil reader
	}
	return f, nil
}

// Filewrite opens a file to write.
func (h handlers) Filewrite(q *sftp.Request) (io.WriterAt, error) {
	f, err := h.open(q, unix.O_WRONLY)
	if err != nil {
		return nil, status(err)
	}
	return f, nil
}

// OpenFile opens a file for both.
func (h handlers) OpenFile(q *sftp.Request) (sftp.WriterAtReaderAt, error) {
	f, err := h.open(q, unix.O_RDWR)
	if err != nil {
		return nil, status(err)
	}
	return f, nil
}

func (h handlers) open(q *sftp.Request, access int) (*os.File, error) {
	f, err := h.file(q, access)
	if err == nil && access != unix.O_RDONLY {
		h.r.written(f)
	}
	return f, err
}

func (h handlers) file(q *sftp.Request, access int) (*os.File, error) {
	p := q.Pflags()
	n, err := h.r.look(q.Filepath, true)
	if err == nil {
		defer n.close()
		if p.Creat && p.Excl {
			return nil, unix.EEXIST
		}
		if p.Trunc && access != unix.O_RDONLY {
			access |= unix.O_TRUNC
		}
		return n.regular(access)
	}
	if err != unix.ENOENT || !p.Creat || access == unix.O_RDONLY {
		return nil, err
	}
	flags := uint64(access) | unix.O_CREAT | unix.O_NONBLOCK | unix.O_NOCTTY
	if p.Excl {
		flags |= unix.O_EXCL
	}
	fd, err := h.r.openat2(clean(q.Filepath), flags, newMode(q))
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return nil, errIrregular
	}
	return os.NewFile(uintptr(fd), ""), nil
}

// newMode is the mode that a file is made with. Of the attributes that come with an open
// the library keeps their bytes and not which they are; four bytes are the mode alone, and
// that is what sshfs and OpenSSH send, so that a private file is private from the start.
func newMode(q *sftp.Request) uint64 {
	if len(q.Attrs) == 4 {
		return uint64(binary.BigEndian.Uint32(q.Attrs) & 0o777)
	}
	return 0o644
}

// Filecmd does what has no answer but its success.
func (h handlers) Filecmd(q *sftp.Request) error { return status(h.command(q)) }

func (h handlers) command(q *sftp.Request) error {
	switch q.Method {
	case "Setstat":
		return h.set(q)
	case "Rename":
		return h.rename(q.Filepath, q.Target, unix.RENAME_NOREPLACE)
	case "Rmdir":
		return h.r.in(q.Filepath, func(dir int, base string) error { return unix.Unlinkat(dir, base, unix.AT_REMOVEDIR) })
	case "Remove":
		return h.r.in(q.Filepath, func(dir int, base string) error { return unix.Unlinkat(dir, base, 0) })
	case "Mkdir":
		return h.r.in(q.Filepath, func(dir int, base string) error { return unix.Mkdirat(dir, base, 0o755) })
	case "Symlink": // from what it says to where it lies
		return h.r.in(q.Target, func(dir int, base string) error { return unix.Symlinkat(q.Filepath, dir, base) })
	case "Link":
		return h.two(q.Filepath, q.Target, func(from int, old string, to int, name string) error {
			return unix.Linkat(from, old, to, name, 0)
		})
	}
	return sftp.ErrSSHFxOpUnsupported
}

// PosixRename replaces what bears the new name.
func (h handlers) PosixRename(q *sftp.Request) error {
	return status(h.rename(q.Filepath, q.Target, 0))
}

func (h handlers) rename(from, to string, flags uint) error {
	return h.two(from, to, func(dir int, old string, into int, name string) error {
		return unix.Renameat2(dir, old, into, name, flags)
	})
}

func (h handlers) two(a, b string, f func(dir int, base string, dir2 int, base2 string) error) error {
	return h.r.in(a, func(dir int, base string) error {
		return h.r.in(b, func(dir2 int, base2 string) error { return f(dir, base, dir2, base2) })
	})
}

func (h handlers) set(q *sftp.Request) error {
	n, err := h.r.look(q.Filepath, true)
	if err != nil {
		return err
	}
	defer n.close()
	what, to := q.AttrFlags(), q.Attributes()
	if what.Size {
		f, err := n.regular(unix.O_WRONLY)
		if err != nil {
			return err
		}
		err = f.Truncate(int64(to.Size))
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	// The owner first: to change it takes set-id bits away.
	if what.UidGid {
		if err := n.chown(int(int32(to.UID)), int(int32(to.GID))); err != nil {
			return err
		}
	}
	if what.Permissions {
		if err := n.chmod(to.Mode); err != nil {
			return err
		}
	}
	if what.Acmodtime {
		return n.chtimes(unix.Timespec{Sec: int64(to.Atime)}, unix.Timespec{Sec: int64(to.Mtime)})
	}
	return nil
}

// StatVFS tells how full the file system is.
func (h handlers) StatVFS(q *sftp.Request) (*sftp.StatVFS, error) {
	n, err := h.r.look(q.Filepath, true)
	if err != nil {
		return nil, status(err)
	}
	defer n.close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(n.fd, &s); err != nil {
		return nil, status(err)
	}
	return &sftp.StatVFS{Bsize: uint64(s.Bsize), Frsize: uint64(s.Frsize), Blocks: s.Blocks, Bfree: s.Bfree, Bavail: s.Bavail,
		Files: s.Files, Ffree: s.Ffree, Favail: s.Ffree, Namemax: uint64(s.Namelen)}, nil
}

// Filelist lists a folder, or describes what a name leads to.
func (h handlers) Filelist(q *sftp.Request) (sftp.ListerAt, error) {
	n, err := h.r.look(q.Filepath, true)
	if err != nil {
		return nil, status(err)
	}
	if q.Method != "List" {
		defer n.close()
		return one{entry{base(q.Filepath), n.st}}, nil
	}
	names, err := n.list()
	if err != nil {
		n.close()
		return nil, status(err)
	}
	return &listing{n: n, names: names}, nil
}

// Lstat describes a name itself.
func (h handlers) Lstat(q *sftp.Request) (sftp.ListerAt, error) {
	n, err := h.r.look(q.Filepath, false)
	if err != nil {
		return nil, status(err)
	}
	defer n.close()
	return one{entry{base(q.Filepath), n.st}}, nil
}

// Readlink reads a link.
func (h handlers) Readlink(name string) (string, error) {
	n, err := h.r.look(name, false)
	if err != nil {
		return "", status(err)
	}
	defer n.close()
	s, err := n.readlink()
	return s, status(err)
}

// LookupUserName keeps the library from asking this process's libc, which would look
// at files, and load libraries, of the guest.
func (h handlers) LookupUserName(uid string) string { return uid }

// LookupGroupName does the same for groups.
func (h handlers) LookupGroupName(gid string) string { return gid }

func base(name string) string {
	name = clean(name)
	for i := len(name) - 1; i > 0; i-- {
		if name[i-1] == '/' {
			return name[i:]
		}
	}
	return name
}

// one is a list of one.
type one struct{ e entry }

func (o one) ListAt(out []fs.FileInfo, at int64) (int, error) {
	if at > 0 || len(out) == 0 {
		return 0, io.EOF
	}
	out[0] = o.e
	return 1, io.EOF
}

// listing looks at a folder's entries as they are asked for.
type listing struct {
	n     node
	names []string
}

func (l *listing) Close() error { return unix.Close(l.n.fd) }

func (l *listing) ListAt(out []fs.FileInfo, at int64) (int, error) {
	i, n := int(at), 0
	for ; i < len(l.names) && n < len(out); i++ {
		e := entry{name: l.names[i]}
		// What has gone meanwhile still takes its place in the count, as something that
		// cannot be looked at.
		_ = unix.Fstatat(l.n.fd, e.name, &e.st, unix.AT_SYMLINK_NOFOLLOW)
		out[n] = e
		n++
	}
	if i >= len(l.names) {
		return n, io.EOF
	}
	return n, nil
}

// entry is a file's description as the library wants it.
type entry struct {
	name string
	st   unix.Stat_t
}

func (e entry) Name() string       { return e.name }
func (e entry) Size() int64        { return e.st.Size }
func (e entry) Mode() fs.FileMode  { return goMode(&e.st) }
func (e entry) ModTime() time.Time { return time.Unix(e.st.Mtim.Sec, e.st.Mtim.Nsec) }
func (e entry) IsDir() bool        { return e.Mode().IsDir() }

// Sys is where the library looks for the owner.
func (e entry) Sys() any {
	return &syscall.Stat_t{Uid: e.st.Uid, Gid: e.st.Gid, Mode: e.st.Mode, Size: e.st.Size, Nlink: e.st.Nlink,
		Atim: syscall.Timespec(e.st.Atim), Mtim: syscall.Timespec(e.st.Mtim), Ctim: syscall.Timespec(e.st.Ctim)}
}
