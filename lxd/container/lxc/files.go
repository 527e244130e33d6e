package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/host/idmap"
	"sett/lxd/shim/wire"
	"sett/shared/errs"
)

// Files implements container.Engine.
func (e *Engine) Files(ctx context.Context, t container.FileTree) (io.ReadWriteCloser, error) {
	if t.Process != nil {
		p, ok := t.Process.(*proc)
		if !ok {
			return nil, fmt.Errorf("container %s is not of this engine", t.Process.ID())
		}
		return p.files(ctx)
	}
	// Opened once, here: what is served is what was looked at.
	fd, err := unix.Open(t.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: t.Root, Err: err}
	}
	root := os.NewFile(uintptr(fd), t.Root)
	defer root.Close()
	attrs := int64(unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC)
	if t.ReadOnly {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	var f wire.Fields
	f.Add(wire.TagFD, "")
	f.AddInt(wire.TagSet, attrs)
	var ns *os.File
	if !t.IDMap.Empty() {
		if ns, err = e.userNS(t.IDMap); err != nil {
			return nil, err
		}
		defer ns.Close()
		f.AddInt(wire.TagFlags, unix.CLONE_NEWUSER)
		if t.Idmapped {
			f.Add(wire.TagIdmap, "")
		}
	}
	s, err := e.shim.Files(ctx, f, nil, root, ns)
	if err != nil {
		return nil, fmt.Errorf("serve the files of %s: %w", t.Root, err)
	}
	return s, nil
}

func (p *proc) files(ctx context.Context) (io.ReadWriteCloser, error) {
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	flags := int64(unix.CLONE_NEWNS)
	if p.g.keep.UserNS {
		flags |= unix.CLONE_NEWUSER
	}
	var f wire.Fields
	f.AddInt(wire.TagFlags, flags)
	s, err := p.g.engine.shim.Files(ctx, f, p.g.init.File(), nil, nil)
	if err != nil {
		err = p.ending(fmt.Errorf("serve the files of %s: %w", p.g.id, err))
		if errors.Is(err, container.ErrNotRunning) {
			return nil, errs.Wrap(errs.KindInvalid, err)
		}
		return nil, err
	}
	return s, nil
}

// userNS makes a user namespace for files. Instances of one map, which are most,
// share one.
func (e *Engine) userNS(m idmap.Map) (*os.File, error) {
	e.nsMu.Lock()
	defer e.nsMu.Unlock()
	key := m.String()
	if e.userNSs == nil || len(e.userNSs) > 16 {
		for _, f := range e.userNSs {
			_ = f.Close()
		}
		e.userNSs = map[string]*os.File{}
	}
	f := e.userNSs[key]
	if f == nil {
		var err error
		if f, err = idmap.UserNS(m); err != nil {
			return nil, err
		}
		e.userNSs[key] = f
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "userns"), nil
}
