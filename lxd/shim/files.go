package shim

import (
	"context"
	"os"
	"sync"

	"sett/lxd/host/guestfs"
	"sett/lxd/shim/wire"
)

// FileServer is a child that serves the files of a guest (package guestfs) on the
// connection that it is. Close ends it, whatever it is at.
type FileServer struct {
	*guestfs.Socket
	c    *call
	once sync.Once
}

// Close ends the child and waits for it.
func (f *FileServer) Close() error {
	f.once.Do(f.c.end)
	return nil
}

// Files starts a file server: in the namespaces of the container whose init is given, with
// source the list of processes of the group by which the container's memory is counted,
// or on the tree source that is nobody's root, with userns where it has ids of its own.
// device is where the root of the files lies.
func (s *Shim) Files(ctx context.Context, req wire.Fields, device uint64, init, source, userns *os.File) (*FileServer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := s.spawn(wire.VerbFiles, nil, nil, nil, init, source, userns)
	if err != nil {
		return nil, err
	}
	free := c.bound(ctx)
	err = c.ask(req)
	if free() && err != nil {
		err = ctx.Err()
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return &FileServer{Socket: &guestfs.Socket{File: c.sock, Device: device}, c: c}, nil
}
