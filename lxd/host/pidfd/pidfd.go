// Package pidfd holds on to processes that are not our children, so that a
// number that the kernel gives to somebody else is never mistaken for them.
package pidfd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a hold on one process.
type Process struct {
	pid int
	f   *os.File
}

// Open takes hold of a process. os.ErrProcessDone says that there is none.
func Open(pid int) (*Process, error) {
	if pid <= 0 {
		return nil, os.ErrProcessDone
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, os.ErrProcessDone
	}
	if err != nil {
		return nil, fmt.Errorf("hold process %d: %w", pid, err)
	}
	return &Process{pid: pid, f: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// PID is the number that the process has or had.
func (p *Process) PID() int { return p.pid }

// Signal sends a signal; os.ErrProcessDone when the process has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	c, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := c.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return os.ErrProcessDone
	}
	if sent != nil {
		return fmt.Errorf("signal process %d: %w", p.pid, sent)
	}
	return nil
}

// Wait blocks until the process has ended, the context has, or Close is called.
// It costs no thread: a pidfd becomes readable when its process ends.
func (p *Process) Wait(ctx context.Context) error {
	c, err := p.f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.f.SetReadDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			_ = p.f.SetReadDeadline(time.Time{})
		}
	}()
	var polled error
	err = c.Read(func(fd uintptr) bool {
		var n int
		n, polled = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if errors.Is(polled, unix.EINTR) {
			polled = nil
		}
		return n > 0 || polled != nil
	})
	if ctx.Err() != nil && err != nil {
		return ctx.Err()
	}
	return errors.Join(err, polled)
}

// Close lets go of the process, which runs on.
func (p *Process) Close() error { return p.f.Close() }
