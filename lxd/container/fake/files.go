package fake

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"

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
		err := p.do(ctx, Files, func(g *Guest) error { dir = g.spec.Rootfs.Path; return nil })
		if err != nil {
			return nil, err
		}
	}
	device, err := guestfs.DeviceOf(dir)
	if err != nil {
		return nil, err
	}
	r, err := guestfs.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	ours := &guestfs.Socket{File: os.NewFile(uintptr(fds[0]), "files"), Device: device}
	theirs := &guestfs.Socket{File: os.NewFile(uintptr(fds[1]), "files")}
	go func() {
		_ = guestfs.Serve(theirs, r, func() { _ = unix.Shutdown(fds[1], unix.SHUT_RD) })
		_ = r.Close()
	}()
	return ours, nil
}
