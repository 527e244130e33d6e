package shim

import (
	"context"
	"errors"
	"os"
	"syscall"

	"sett/lxd/shim/wire"
)

// Mount attaches a mount inside a running container. init is a pidfd of its
// init; source may be nil, and userns too for a container without one.
func (s *Shim) Mount(ctx context.Context, req wire.Fields, init, source, userns *os.File) error {
	return s.simple(ctx, wire.VerbMount, req, init, source, userns)
}

// Umount detaches what is mounted at a target inside a running container.
func (s *Shim) Umount(ctx context.Context, req wire.Fields, init *os.File) error {
	return s.simple(ctx, wire.VerbUmount, req, init)
}

func (s *Shim) simple(ctx context.Context, verb string, req wire.Fields, files ...*os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := s.spawn(verb, append([]*os.File{nil, nil, nil}, files...)...)
	if err != nil {
		return err
	}
	defer c.end()
	free := c.bound(ctx)
	err = c.ask(req)
	if free() && err != nil {
		return ctx.Err()
	}
	return err
}

// ask sends a request and waits until the child has done what it asks for.
func (c *call) ask(req wire.Fields) error {
	if err := wire.Write(c.sock, req); err != nil {
		return err
	}
	body, err := wire.Read(c.sock)
	if err != nil {
		return errors.New("the shim ended without an answer")
	}
	r, err := wire.ParseResult(body)
	if err != nil {
		return err
	}
	if r.Stage != wire.StageDone {
		return &StageError{r.Stage, syscall.Errno(r.Errno)}
	}
	return nil
}
