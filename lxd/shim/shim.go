// Package shim is the daemon's side of its small child process: it finds the
// binary, starts it for one piece of work, speaks package wire with it, and owns
// what comes back. It knows namespaces and descriptors, not containers.
package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/shim/wire"
	"sett/shared/errs"
)

// Shim starts the child process. It is safe for concurrent use.
type Shim struct {
	path string
	null *os.File
	// image is a sealed copy of the binary in memory. A guest's root that gets hold
	// of a process's executable through /proc (CVE-2019-5736) holds a file that
	// nobody can write; all monitors share its pages.
	image *os.File
	exe   string
	env   []string
	brood brood
}

// Find looks for the binary in $LXD_SHIM, then beside the running program, and
// falls back on the running program, which serves as its own shim.
func Find() (*Shim, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find lxd-shim: %w", err)
	}
	if p := os.Getenv("LXD_SHIM"); p != "" {
		if _, err := os.Stat(p); err != nil {
			return nil, errs.NotFound("The shim that LXD_SHIM names cannot be used: %v", err)
		}
		return New(p)
	}
	if resolved, err := filepath.EvalSymlinks(self); err == nil {
		self = resolved
	}
	beside := filepath.Join(filepath.Dir(self), wire.Argv0)
	if _, err := os.Stat(beside); err == nil {
		return New(beside)
	}
	return New(self)
}

// New takes the binary at path.
func New(path string) (*Shim, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	// liblxc runs newuidmap and newgidmap by a shell where it finds them, and writes
	// the map itself where it does not. As root that is the same and some 10 ms faster.
	s := &Shim{path: path, null: null, env: []string{"PATH=/"}}
	if v := os.Getenv("LD_LIBRARY_PATH"); v != "" {
		s.env = append(s.env, "LD_LIBRARY_PATH="+v)
	}
	if s.image, err = seal(path); err != nil {
		_ = null.Close()
		return nil, fmt.Errorf("copy %s to memory: %w", path, err)
	}
	s.exe = fmt.Sprintf("/proc/self/fd/%d", s.image.Fd())
	return s, nil
}

// Path is the binary that was found.
func (s *Shim) Path() string { return s.path }

// Exe is the sealed copy in memory, as a path that works in this process and in what
// it starts.
func (s *Shim) Exe() string { return s.exe }

// Close frees the copy; processes that run from it keep it.
func (s *Shim) Close() error {
	s.brood.end()
	return errors.Join(s.image.Close(), s.null.Close())
}

func seal(path string) (*os.File, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	fd, err := unix.MemfdCreate(wire.Argv0, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 every memfd could be executed
		fd, err = unix.MemfdCreate(wire.Argv0, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, err
	}
	low := os.NewFile(uintptr(fd), wire.Argv0)
	defer low.Close()
	if _, err := io.Copy(low, src); err != nil {
		return nil, err
	}
	const size = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	_, err = unix.FcntlInt(low.Fd(), unix.F_ADD_SEALS, size|unix.F_SEAL_WRITE)
	if errors.Is(err, unix.EBUSY) {
		// Something holds one of the pages, as the kernel itself does when it is short of
		// memory. This seal allows no more but writes through mappings that are there
		// already, and there are none.
		_, err = unix.FcntlInt(low.Fd(), unix.F_ADD_SEALS, size|unix.F_SEAL_FUTURE_WRITE)
	}
	if err != nil {
		return nil, err
	}
	// A high number: the low ones are what the child's own descriptors go to before
	// the binary is opened by its number.
	high, err := unix.FcntlInt(low.Fd(), unix.F_DUPFD_CLOEXEC, 64)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(high), wire.Argv0), nil
}

// call is one child process and the socket to it.
type call struct {
	sock *os.File
	proc *os.Process
}

// spawn starts the child for a verb; files are its descriptors 0 to 2 and those
// from 4 on. A nil file is /dev/null.
func (s *Shim) spawn(verb string, files ...*os.File) (*call, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = unix.SetNonblock(fds[0], true)
	ours, theirs := os.NewFile(uintptr(fds[0]), "shim"), os.NewFile(uintptr(fds[1]), "shim")
	defer theirs.Close()
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	all := make([]*os.File, 0, len(files)+1)
	for i, f := range files {
		if i == wire.FDSocket {
			all = append(all, theirs)
		}
		if f == nil {
			f = s.null
		}
		all = append(all, f)
	}
	if len(all) == wire.FDSocket {
		all = append(all, theirs)
	}
	proc, err := s.process(verb, all)
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	return &call{sock: ours, proc: proc}, nil
}

// process makes the child itself, by the brood where that can.
func (s *Shim) process(verb string, files []*os.File) (*os.Process, error) {
	if bred(verb) {
		if p := s.brood.process(s, verb, files); p != nil {
			return p, nil
		}
	}
	p, err := os.StartProcess(s.exe, []string{wire.Argv0, verb}, &os.ProcAttr{Dir: "/", Env: s.env, Files: files})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.path, err)
	}
	return p, nil
}

// bound makes reads on the socket end with ctx. The result undoes it and says
// whether ctx had ended.
func (c *call) bound(ctx context.Context) (free func() bool) {
	stop := context.AfterFunc(ctx, func() { _ = c.sock.SetDeadline(time.Unix(1, 0)) })
	return func() bool {
		if stop() {
			return false
		}
		_ = c.sock.SetDeadline(time.Time{})
		return true
	}
}

// end kills what is left of the child and reaps it.
func (c *call) end() {
	_ = c.proc.Kill()
	_, _ = c.proc.Wait()
	_ = c.sock.Close()
}

// files receives n descriptors.
func (c *call) files(n int) ([]*os.File, error) {
	conn, err := c.sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4*n))
	var got, oobn int
	var rerr error
	err = conn.Read(func(fd uintptr) bool {
		got, oobn, _, _, rerr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return !errors.Is(rerr, unix.EAGAIN)
	})
	if err = errors.Join(err, rerr); err != nil {
		return nil, err
	}
	if got == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, err
	}
	var out []*os.File
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			out = append(out, os.NewFile(uintptr(fd), "shim"))
		}
	}
	if len(out) != n {
		closeAll(out)
		return nil, fmt.Errorf("shim sent %d descriptors, not %d", len(out), n)
	}
	return out, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}
