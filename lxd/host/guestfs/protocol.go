package guestfs

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// What is asked for.
const (
	opOpen    = "open"    // look at something; a file can be read afterwards
	opWrite   = "write"   // data follows
	opMkdir   = "mkdir"   // data: none
	opSymlink = "symlink" // data: none
	opRemove  = "remove"
	opSFTP    = "sftp" // the rest of the connection is SFTP
)

type request struct {
	Op     string
	Path   string
	Owner  Owner
	Append bool
	Target string
	Hand   bool   // open files may be handed over
	Device uint64 // on which they have to lie
}

// span is the part of an open file that is wanted. Length -1 is to its end; none
// wants nothing.
type span struct {
	Offset, Length int64
	None           bool
}

// Types of what can be looked at.
const (
	File      = "file"
	Directory = "directory"
	Symlink   = "symlink"
	Other     = "other" // a FIFO, a socket, a device
)

// Info is what something is.
type Info struct {
	Type     string
	UID, GID int
	Mode     uint32 // permissions with set-id and sticky bits
	Size     int64
	Modified time.Time
	Target   string   // of a link
	Names    []string // in a folder
}

type answer struct {
	Fault *fault
	Info  *Info
	Made  bool // it was not there before
	Hand  bool // the open file has come along
	Bytes int64
}

// fault is an error on its way: a kind that decides the status, and a sentence.
type fault struct {
	Kind errs.Kind
	Text string
}

func (f *fault) err() error {
	if f == nil {
		return nil
	}
	return errs.Wrap(f.Kind, errors.New(f.Text))
}

// explain says what went wrong with a name.
func explain(name string, err error) *fault {
	var no syscall.Errno
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errIrregular):
		return &fault{errs.KindInvalid, fmt.Sprintf("%q is not a file, a directory or a symbolic link", name)}
	case errors.Is(err, errIsRoot):
		return &fault{errs.KindInvalid, fmt.Sprintf("%q cannot be made, replaced or removed: it is the root directory", name)}
	case errors.Is(err, errFolder):
		return &fault{errs.KindConflict, fmt.Sprintf("%q exists and is not a directory", name)}
	case errors.Is(err, errTooMany):
		return &fault{errs.KindInvalid, fmt.Sprintf("Directory %q has too many entries to be listed at once; use SFTP", name)}
	case !errors.As(err, &no):
		return &fault{errs.KindInternal, fmt.Sprintf("%q: %v", name, err)}
	}
	kind := errs.KindInternal
	switch no {
	case unix.ENOENT:
		return &fault{errs.KindNotFound, fmt.Sprintf("File %q not found", name)}
	case unix.EACCES, unix.EPERM, unix.EROFS:
		kind = errs.KindForbidden
	case unix.EEXIST:
		return &fault{errs.KindConflict, fmt.Sprintf("%q exists already", name)}
	case unix.EISDIR:
		return &fault{errs.KindInvalid, fmt.Sprintf("%q is a directory", name)}
	case unix.ENOTEMPTY:
		return &fault{errs.KindInvalid, fmt.Sprintf("Directory %q is not empty", name)}
	case unix.EINVAL, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.ETXTBSY, unix.EBUSY, unix.EXDEV, unix.EOVERFLOW, unix.EFBIG:
		kind = errs.KindInvalid
	case unix.ENOSPC, unix.EDQUOT:
		kind = errs.KindUnavailable
	}
	return &fault{kind, fmt.Sprintf("%q: %v", name, no)}
}

// Messages are a length and a body. Data is sent in pieces of the same form; an empty
// one is its end.
const (
	mostMessage = 96 << 20
	piece       = 1 << 20
)

func message(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...), nil
}

func send(w io.Writer, v any) error {
	b, err := message(v)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// hand sends an answer together with an open file.
func hand(w *Socket, a answer, f *os.File) error {
	a.Hand = true
	b, err := message(a)
	if err != nil {
		return err
	}
	return w.pass(b, f)
}

func receive(r io.Reader, v any) error {
	n, err := length(r)
	if err != nil {
		return err
	}
	if n > mostMessage {
		return fmt.Errorf("message of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func length(r io.Reader) (uint32, error) {
	var head [4]byte
	_, err := io.ReadFull(r, head[:])
	return binary.LittleEndian.Uint32(head[:]), err
}

// sendData copies until the end of from, piece by piece.
func sendData(to io.Writer, from io.Reader) (int64, error) {
	buf := make([]byte, 4+piece)
	var total int64
	for {
		n, err := from.Read(buf[4:])
		if n > 0 {
			binary.LittleEndian.PutUint32(buf, uint32(n))
			if _, werr := to.Write(buf[:4+n]); werr != nil {
				return total, &brokenError{werr}
			}
			total += int64(n)
		}
		if errors.Is(err, io.EOF) {
			_, err := to.Write([]byte{0, 0, 0, 0})
			return total, err
		}
		if err != nil {
			return total, err
		}
	}
}

// brokenError is a failure of the connection, and not of what was read from.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

// receiveData copies pieces until the empty one.
func receiveData(to io.Writer, from io.Reader) (int64, error) {
	buf := make([]byte, piece)
	var total int64
	for {
		n, err := length(from)
		if err != nil {
			return total, &brokenError{err}
		}
		if n == 0 {
			return total, nil
		}
		if n > piece {
			return total, &brokenError{fmt.Errorf("piece of %d bytes", n)}
		}
		if _, err := io.ReadFull(from, buf[:n]); err != nil {
			return total, &brokenError{err}
		}
		w, err := to.Write(buf[:n])
		total += int64(w)
		if err != nil {
			return total, err
		}
	}
}

// mode turns permissions of the kernel's form into Go's.
func goMode(st *unix.Stat_t) fs.FileMode {
	m := fs.FileMode(st.Mode & 0o777)
	for _, b := range []struct {
		bit uint32
		is  fs.FileMode
	}{{unix.S_ISUID, os.ModeSetuid}, {unix.S_ISGID, os.ModeSetgid}, {unix.S_ISVTX, os.ModeSticky}} {
		if st.Mode&b.bit != 0 {
			m |= b.is
		}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= os.ModeDir
	case unix.S_IFLNK:
		m |= os.ModeSymlink
	case unix.S_IFIFO:
		m |= os.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= os.ModeSocket
	case unix.S_IFCHR:
		m |= os.ModeDevice | os.ModeCharDevice
	case unix.S_IFBLK:
		m |= os.ModeDevice
	}
	return m
}
