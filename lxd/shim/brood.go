package shim

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/shim/wire"
)

// brood is a child that stays, and makes the children for what is wanted often: a copy
// of a process costs a tenth of the start of one. It is started when first wanted, and
// anew when it has ended. It ends with the daemon, whichever way that goes.
type brood struct {
	mu   sync.Mutex
	sock *os.File
	proc *os.Process
	over bool
}

// bred reports whether the brood serves a verb: those that have done all they are to
// do before there is a Go runtime.
func bred(verb string) bool {
	return verb == wire.VerbExec || verb == wire.VerbMount || verb == wire.VerbUmount
}

// answerTime is how long to make a process may take. Whoever takes longer is stuck.
const answerTime = 10 * time.Second

// process makes a child with the descriptors, or returns nil: then it has to be started
// the other way, which also finds out what is wrong.
func (b *brood) process(s *Shim, verb string, files []*os.File) *os.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || b.sock == nil && b.start(s) != nil {
		return nil
	}
	pid, err := b.order(verb[0], files)
	if err != nil {
		b.stop()
		return nil
	}
	if pid <= 0 {
		return nil // no room for a process
	}
	// It is our child, so its number stays its own until it is waited for.
	p, err := os.FindProcess(pid)
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = wait(pid)
		return nil
	}
	return p
}

func (b *brood) start(s *Shim) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "brood"), os.NewFile(uintptr(fds[1]), "brood")
	defer theirs.Close()
	p, err := os.StartProcess(s.exe, []string{wire.Argv0, wire.VerbBrood},
		&os.ProcAttr{Dir: "/", Env: s.env, Files: []*os.File{s.null, s.null, s.null, theirs}})
	if err != nil {
		_ = ours.Close()
		return err
	}
	b.sock, b.proc = ours, p
	return nil
}

// order hands over the descriptors and returns the number of the process, or a negative
// errno.
func (b *brood) order(verb byte, files []*os.File) (int, error) {
	if err := b.sock.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return 0, err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	conn, err := b.sock.SyscallConn()
	if err != nil {
		return 0, err
	}
	var serr error
	err = conn.Write(func(fd uintptr) bool {
		serr = unix.Sendmsg(int(fd), []byte{verb}, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		return !errors.Is(serr, unix.EAGAIN)
	})
	if err = errors.Join(err, serr); err != nil {
		return 0, err
	}
	var says [4]byte
	if n, err := b.sock.Read(says[:]); err != nil || n != len(says) {
		return 0, errors.Join(errors.New("the brood gave no answer"), err)
	}
	return int(int32(binary.LittleEndian.Uint32(says[:]))), nil
}

// stop ends it; the next order starts another one.
func (b *brood) stop() {
	if b.sock == nil {
		return
	}
	_ = b.proc.Kill()
	_, _ = b.proc.Wait()
	_ = b.sock.Close()
	b.sock, b.proc = nil, nil
}

// end ends it for good.
func (b *brood) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.stop()
}
