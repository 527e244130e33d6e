package shim

import (
	"context"
	"errors"
	"fmt"
	"os"

	"sett/lxd/shim/wire"
)

// Started is a container that runs.
type Started struct {
	State   wire.State
	Init    *os.File // pidfd
	Monitor *os.File // pidfd
	Devpts  *os.File
}

// LXCError is what liblxc said.
type LXCError struct{ Text string }

func (e *LXCError) Error() string { return e.Text }

// Start makes a container. hold is kept open by the child for as long as it
// works, and by nobody after: a lock on it tells that a start is under way, even
// to a daemon that did not begin it. log gets what the child says on stderr.
// sources are what the request's staged mounts refer to.
//
// When ctx ends the child is killed and the caller cleans up what it has made.
func (s *Shim) Start(ctx context.Context, req wire.StartRequest, hold, log *os.File, sources ...*os.File) (*Started, error) {
	c, err := s.spawn(wire.VerbStart, append([]*os.File{nil, nil, log, hold}, sources...)...)
	if err != nil {
		return nil, err
	}
	defer c.end()
	free := c.bound(ctx)
	started, err := start(c, req)
	if free() && err != nil {
		err = ctx.Err()
	}
	return started, err
}

func start(c *call, req wire.StartRequest) (*Started, error) {
	if err := wire.WriteJSON(c.sock, req); err != nil {
		return nil, err
	}
	var ans wire.StartAnswer
	if err := wire.ReadJSON(c.sock, &ans); err != nil {
		return nil, fmt.Errorf("shim gave no answer: %w", err)
	}
	if ans.Error != "" {
		return nil, &LXCError{ans.Error}
	}
	if ans.FDs != 3 {
		return nil, errors.New("shim sent too few descriptors")
	}
	f, err := c.files(ans.FDs)
	if err != nil {
		return nil, err
	}
	return &Started{State: ans.State, Init: f[0], Monitor: f[1], Devpts: f[2]}, nil
}

// Console is a container's console, taken until Close.
type Console struct {
	File *os.File
	call *call
}

// Close gives the console back.
func (c *Console) Close() error {
	_ = c.File.Close()
	_ = c.call.sock.Close()
	_, err := c.call.proc.Wait()
	return err
}

// ErrBusy is returned for a console that somebody else has.
var ErrBusy = errors.New("console is busy")

// Console takes a container's console.
func (s *Shim) Console(ctx context.Context, req wire.ConsoleRequest) (*Console, error) {
	c, err := s.spawn(wire.VerbConsole, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	free := c.bound(ctx)
	f, err := askFile(c, req)
	if free() && err != nil {
		err = ctx.Err()
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return &Console{File: f, call: c}, nil
}

// Devpts asks the monitor of a running container for its devpts.
func (s *Shim) Devpts(ctx context.Context, req wire.ConsoleRequest) (*os.File, error) {
	c, err := s.spawn(wire.VerbDevpts, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	defer c.end()
	free := c.bound(ctx)
	f, err := askFile(c, req)
	if free() && err != nil {
		err = ctx.Err()
	}
	return f, err
}

func askFile(c *call, req wire.ConsoleRequest) (*os.File, error) {
	ans, err := ask(c, req)
	if err != nil {
		return nil, err
	}
	if ans.FDs != 1 {
		return nil, errors.New("shim sent no descriptor")
	}
	files, err := c.files(1)
	if err != nil {
		return nil, err
	}
	return files[0], nil
}

// ConsoleLog reads the ring buffer of a console.
func (s *Shim) ConsoleLog(ctx context.Context, req wire.ConsoleRequest) ([]byte, error) {
	c, err := s.spawn(wire.VerbConsoleLog, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	defer c.end()
	free := c.bound(ctx)
	ans, err := ask(c, req)
	if free() && err != nil {
		err = ctx.Err()
	}
	return ans.Log, err
}

func ask(c *call, req wire.ConsoleRequest) (ans wire.ConsoleAnswer, err error) {
	if err := wire.WriteJSON(c.sock, req); err != nil {
		return ans, err
	}
	if err := wire.ReadJSON(c.sock, &ans); err != nil {
		return ans, fmt.Errorf("shim gave no answer: %w", err)
	}
	if ans.Busy {
		return ans, ErrBusy
	}
	if ans.Error != "" {
		return ans, &LXCError{ans.Error}
	}
	return ans, nil
}
