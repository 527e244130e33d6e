// Package process is about processes that we watch: handles that never mean
// another process, waiting without a thread and without polling, and the few
// facts of /proc that are needed.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone is returned for a process that has ended.
var ErrGone = errors.New("process is gone")

// Stat is what /proc/PID/stat tells.
type Stat struct {
	State  byte // R, S, D, Z, ...
	Parent int
	Start  uint64 // clock ticks since boot; with the pid it names one process for good
}

// ReadStat reads /proc/PID/stat.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return Stat{}, ErrGone
		}
		return Stat{}, err
	}
	// The name stands in parentheses and may hold anything, parentheses too.
	s := string(b)
	i := strings.LastIndexByte(s, ')')
	f := strings.Fields(s[i+1:])
	if i < 0 || len(f) < 20 {
		return Stat{}, fmt.Errorf("/proc/%d/stat is not as expected", pid)
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return Stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	start, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return Stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return Stat{State: f[0][0], Parent: parent, Start: start}, nil
}

// BootID names this boot of the host.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// Status returns one field of /proc/PID/status, such as "SigCgt".
func Status(pid int, field string) (string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("/proc/%d/status has no %s", pid, field)
}

// Handles reports whether a process catches or blocks a signal.
func Handles(pid int, sig syscall.Signal) bool {
	for _, f := range []string{"SigCgt", "SigBlk"} {
		v, err := Status(pid, f)
		if err != nil {
			continue
		}
		mask, err := strconv.ParseUint(v, 16, 64)
		if err == nil && mask&(1<<(uint(sig)-1)) != 0 {
			return true
		}
	}
	return false
}

// Handle is a pidfd. It is safe for concurrent use.
type Handle struct {
	pid  int
	file *os.File
	conn syscall.RawConn

	mu   sync.Mutex
	gone bool
}

// Open gets hold of a process, or returns ErrGone. start, when not 0, must be its start
// time.
func Open(pid int, start uint64) (*Handle, error) {
	if pid <= 0 {
		return nil, ErrGone
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil, ErrGone
		}
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	h, err := FromFD(pid, os.NewFile(uintptr(fd), "pidfd"))
	if err != nil {
		return nil, err
	}
	if start != 0 {
		// Looked at after the handle exists, so that it cannot change afterwards.
		if s, err := ReadStat(pid); err != nil || s.Start != start {
			_ = h.Close()
			return nil, ErrGone
		}
	}
	return h, nil
}

// FromFD takes over a pidfd that came from elsewhere. It must be nonblocking, or
// waiting would need a thread.
func FromFD(pid int, f *os.File) (*Handle, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Handle{pid: pid, file: f, conn: conn}, nil
}

// PID is the process's id on the host.
func (h *Handle) PID() int { return h.pid }

// File is the pidfd itself; it stays the Handle's.
func (h *Handle) File() *os.File { return h.file }

// Borrow calls use with a copy of one of the process's descriptors.
func (h *Handle) Borrow(fd int, use func(fd int) error) error {
	var res error
	err := h.conn.Control(func(pidfd uintptr) {
		var copied int
		if copied, res = unix.PidfdGetfd(int(pidfd), fd, 0); res == nil {
			defer unix.Close(copied)
			res = use(copied)
		}
	})
	if err != nil {
		return os.ErrClosed
	}
	if errors.Is(res, unix.ESRCH) {
		return ErrGone
	}
	return res
}

// Signal sends a signal, or returns ErrGone.
func (h *Handle) Signal(sig syscall.Signal) error {
	var res error
	if h.conn.Control(func(fd uintptr) { res = unix.PidfdSendSignal(int(fd), sig, nil, 0) }) != nil {
		return os.ErrClosed // the only way in which it fails
	}
	err := res
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

func ended(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}

// Alive reports whether the process runs still.
func (h *Handle) Alive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return false
	}
	if err := h.conn.Control(func(fd uintptr) { h.gone = ended(fd) }); err != nil {
		return false
	}
	return !h.gone
}

// Wait returns when the process has ended. One goroutine may wait at a time.
func (h *Handle) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = h.file.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			_ = h.file.SetReadDeadline(time.Time{})
		}
	}()
	err := h.conn.Read(ended)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return os.ErrClosed
	}
	return nil
}

// Close gives the handle up; a Wait under way returns os.ErrClosed.
func (h *Handle) Close() error { return h.file.Close() }
