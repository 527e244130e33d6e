package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sett/lxd/host/process"
	"sett/lxd/shim/wire"
)

// StageError is a step in C that failed. errors.Is sees its errno.
type StageError struct {
	Stage wire.Stage
	Errno syscall.Errno
}

func (e *StageError) Error() string { return e.Stage.String() + ": " + e.Errno.Error() }

func (e *StageError) Unwrap() error { return e.Errno }

// Command is a process that the shim has put into a container. It is a child of
// the daemon.
type Command struct {
	pid    int
	handle *process.Handle
	done   chan struct{}
	code   int
	err    error

	mu     sync.Mutex // held while signalling, against reaping
	reaped bool
}

// Exec runs what req describes (TagArg, TagEnv and so on) with stdio as its
// standard streams. init is a pidfd of the container's init; listener, which may be
// nil, leads to who answers the calls that the filter asks about (TagListen).
//
// It returns when the command runs or cannot: a command that is missing or not
// executable still is a Command, whose status is 127 or 126. An error means that
// there was no command at all.
func (s *Shim) Exec(ctx context.Context, req wire.Fields, stdio [3]*os.File, init, listener *os.File) (*Command, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := s.spawn(wire.VerbExec, stdio[0], stdio[1], stdio[2], init, listener)
	if err != nil {
		return nil, err
	}
	free := c.bound(ctx)
	x := &exchange{}
	if err := wire.Write(c.sock, req); err != nil {
		// It has not been told what to do, so it has done nothing.
		ended := free()
		c.end()
		if ended {
			return nil, ctx.Err()
		}
		return nil, err
	}
	err = x.read(c.sock)
	if free() && err != nil {
		// The child may be on its way still. What it makes has no use any more, but
		// it has to be waited for, and the answer tells its pid.
		go func() {
			if x.read(c.sock) != nil || x.pid == 0 {
				c.end()
			}
			x.drop()
			c.end()
		}()
		return nil, ctx.Err()
	}
	c.end()
	if err != nil {
		x.drop()
		return nil, err
	}
	if x.fault != nil && x.fault.Stage != wire.StageCommand {
		x.drop()
		return nil, x.fault
	}
	if x.pid == 0 {
		return nil, errors.New("the shim ended without an answer")
	}
	h, err := process.Open(x.pid, 0)
	if err != nil {
		x.drop()
		return nil, err
	}
	cmd := &Command{pid: x.pid, handle: h, done: make(chan struct{})}
	go cmd.reap()
	return cmd, nil
}

// exchange is what the child has answered so far. It keeps half a message, so
// that reading can go on after a deadline.
type exchange struct {
	buf   []byte
	pid   int
	fault *StageError
}

// read takes answers until the command runs, which closes the socket's far end.
func (x *exchange) read(sock *os.File) error {
	const size = 4 + wire.ResultSize
	chunk := make([]byte, 4*size)
	for {
		n, err := sock.Read(chunk)
		x.buf = append(x.buf, chunk[:n]...)
		for len(x.buf) >= size {
			r, err := wire.ParseResult(x.buf[4:size])
			if err != nil {
				return err
			}
			x.buf = x.buf[size:]
			if r.Stage == wire.StagePID {
				x.pid = int(r.PID)
			} else {
				x.fault = &StageError{r.Stage, syscall.Errno(r.Errno)}
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// drop ends the process that came to be, if any.
func (x *exchange) drop() {
	if x.pid == 0 {
		return
	}
	_ = unix.Kill(x.pid, unix.SIGKILL)
	_, _ = wait(x.pid)
}

func wait(pid int) (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if !errors.Is(err, unix.EINTR) {
			return ws, err
		}
	}
}

func (c *Command) reap() {
	defer close(c.done)
	if err := c.handle.Wait(context.Background()); err != nil {
		c.err = err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ws, err := wait(c.pid)
	c.reaped = true
	_ = c.handle.Close()
	switch {
	case err != nil:
		c.err = fmt.Errorf("wait for process %d: %w", c.pid, err)
	case ws.Signaled():
		c.code = 128 + int(ws.Signal())
	default:
		c.code = ws.ExitStatus()
	}
}

// PID is the command's process id on the host.
func (c *Command) PID() int { return c.pid }

// Signal sends a signal; os.ErrProcessDone when the command has ended.
func (c *Command) Signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return os.ErrProcessDone
	}
	if err := c.handle.Signal(sig); !errors.Is(err, process.ErrGone) {
		return err
	}
	return os.ErrProcessDone
}

// Wait returns the exit status; 128+n after signal n.
func (c *Command) Wait(ctx context.Context) (int, error) {
	select {
	case <-c.done:
		return c.code, c.err
	case <-ctx.Done():
		return -1, ctx.Err()
	}
}
