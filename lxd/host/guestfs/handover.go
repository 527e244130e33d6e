package guestfs

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A file's bytes need not go through the server: it can open a file and hand it over.
// What that saves is most of the work. But a file system that the guest has mounted may
// keep who reads from it waiting for ever, and only a process of its own can be ended
// then. So what is not on the host's own file systems is served as data, see handsOver.

// Socket is a connection on which open files travel. It is for one reader at a time.
type Socket struct {
	*os.File // a stream socket of the kind unix
	// Device is where the root of the guest lies, as stat tells. Files on others are not
	// handed over.
	Device uint64

	mu   sync.Mutex
	got  *os.File // came along with what was read last
	over bool
}

// DeviceOf is where a folder lies.
func DeviceOf(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return st.Dev, nil
}

func (s *Socket) socket() *Socket { return s }

// Read implements io.Reader, and keeps the file that comes along.
func (s *Socket) Read(b []byte) (int, error) {
	conn, err := s.SyscallConn()
	if err != nil {
		return 0, err
	}
	room := make([]byte, unix.CmsgSpace(4))
	var n, rn int
	var rerr error
	err = conn.Read(func(fd uintptr) bool {
		for {
			n, rn, _, _, rerr = unix.Recvmsg(int(fd), b, room, unix.MSG_CMSG_CLOEXEC)
			if rerr != unix.EINTR {
				return rerr != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(err, rerr); err != nil {
		return 0, err
	}
	if rn > 0 {
		if err := s.keep(room[:rn]); err != nil {
			return 0, err
		}
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (s *Socket) keep(control []byte) error {
	msgs, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return err
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			return err
		}
		for _, fd := range fds {
			s.put(os.NewFile(uintptr(fd), "file"))
		}
	}
	return nil
}

// put keeps a file, or nil, in place of the one before.
func (s *Socket) put(f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got != nil {
		_ = s.got.Close()
	}
	if s.over && f != nil {
		_ = f.Close()
		f = nil
	}
	s.got = f
}

// end lets go of what came and was not taken, now and later.
func (s *Socket) end() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.put(nil)
}

// taken returns the file that came last, if any, which the caller has to close.
func (s *Socket) taken() *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.got
	s.got = nil
	return f
}

// pass sends bytes, and an open file along with the first of them.
func (s *Socket) pass(b []byte, f *os.File) error {
	conn, err := s.SyscallConn()
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(f.Fd()))
	n := 0
	var serr error
	err = conn.Write(func(fd uintptr) bool {
		for {
			n, serr = unix.SendmsgN(int(fd), b, rights, nil, unix.MSG_NOSIGNAL)
			if serr != unix.EINTR {
				return serr != unix.EAGAIN
			}
		}
	})
	if err = errors.Join(err, serr); err != nil {
		return err
	}
	_, err = s.Write(b[n:])
	return err
}

// handsOver reports whether the daemon may read, or write, a file itself where the guest's
// root lies on a device. It must not when that takes the guest's part: a device that the
// guest has mounted may lie in a file of its own FUSE. And what the daemon writes it writes
// as the host's root: to ext4's reserved blocks, past ext4's quotas, and to memory that no
// limit of the guest's counts. Nothing here asks a file system of the guest's anything.
func handsOver(f *os.File, device uint64) bool {
	fd := int(f.Fd())
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_PATH != 0 {
		return false
	}
	var st unix.Statx_t
	const what = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	if unix.Statx(fd, "", what, unix.STATX_TYPE, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	reads := flags&unix.O_ACCMODE == unix.O_RDONLY
	if unix.Mkdev(st.Dev_major, st.Dev_minor) != device {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0) // files in memory alone have such
		return err == nil && reads
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return false
	}
	switch int64(fs.Type) {
	case unix.BTRFS_SUPER_MAGIC, unix.XFS_SUPER_MAGIC:
		return true
	case unix.EXT4_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return reads
	}
	return false
}

// handed is a file of a guest in the daemon's hands. Close waits for the step that is
// under way, and not for who sends or receives: afterwards nothing holds on to what the
// file lies on.
type handed struct {
	mu sync.Mutex
	f  *os.File
}

func (h *handed) do(step func(f *os.File) (int, error)) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f == nil {
		return 0, os.ErrClosed
	}
	return step(h.f)
}

func (h *handed) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f != nil {
		_ = h.f.Close()
		h.f = nil
	}
}

// Sizes of buffers: what most files fit in, and what the others are worth.
const smallBuffer, bigBuffer = 32 << 10, 512 << 10

// writeError is one of the file, and not of whom it is filled from.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// fill copies from into the file until it ends.
func (h *handed) fill(from io.Reader) (int64, error) {
	buf := make([]byte, smallBuffer)
	var total int64
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := h.do(func(f *os.File) (int, error) { return f.Write(buf[:n]) }); err != nil {
				return total, &writeError{err}
			}
			total += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		if n == len(buf) && n < bigBuffer {
			buf = make([]byte, bigBuffer)
		}
	}
}

// part is what is still to be read of a file that was handed over.
type part struct {
	h    *handed
	at   int64
	left int64 // -1: to its end
}

func (p *part) clip(n int) int {
	if p.left >= 0 {
		return int(min(int64(n), p.left))
	}
	return n
}

func (p *part) moved(n int) {
	p.at += int64(n)
	if p.left > 0 {
		p.left -= int64(n)
	}
}

// Read implements io.Reader.
func (p *part) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n, err := p.h.do(func(f *os.File) (int, error) { return f.ReadAt(b[:p.clip(len(b))], p.at) })
	p.moved(n)
	if n > 0 {
		err = nil // it comes again
	}
	return n, err
}

// WriteTo implements io.WriterTo with a larger buffer than others would take.
func (p *part) WriteTo(w io.Writer) (int64, error) {
	size := bigBuffer
	if p.left >= 0 && p.left <= smallBuffer {
		size = int(p.left)
	}
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{p}, make([]byte, max(size, 1)))
}

// most is how much one call may move: a bound on how long close waits.
const most = 1 << 20

// SendTo has the kernel move bytes into a socket that does not block; 0 is the end. The
// kernel's word for "not now" is EAGAIN.
func (p *part) SendTo(socket int) (int, error) {
	if p.left == 0 {
		return 0, nil
	}
	n, err := p.h.do(func(f *os.File) (int, error) {
		at := p.at
		return unix.Sendfile(socket, int(f.Fd()), &at, p.clip(most))
	})
	n = max(n, 0)
	p.moved(n)
	return n, err
}
