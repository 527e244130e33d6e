package fake

import (
	"context"
	"io"
	"net"

	"sett/lxd/container"
	"sett/lxd/host/guestfs"
)

// Files implements container.Engine: from the folder itself, with the ids of the test.
func (e *Engine) Files(ctx context.Context, t container.FileTree) (io.ReadWriteCloser, error) {
	if err := e.fault(ctx, Files); err != nil {
		return nil, err
	}
	dir := t.Root
	if p, ok := t.Process.(*process); ok {
		if err := p.do(ctx, Files, func(g *Guest) error { dir = g.spec.Rootfs.Path; return nil }); err != nil {
			return nil, err
		}
	}
	r, err := guestfs.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	go func() {
		_ = guestfs.Serve(theirs, r, func() {})
		_ = r.Close()
	}()
	return ours, nil
}
