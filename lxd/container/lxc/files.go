package lxc

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/host/guestfs"
	"sett/lxd/host/idmap"
	"sett/lxd/shim"
	"sett/lxd/shim/wire"
)

// Files implements container.Engine.
func (e *Engine) Files(ctx context.Context, t container.FileTree) (io.ReadWriteCloser, error) {
	if t.Process != nil {
		p, ok := t.Process.(*proc)
		if !ok {
			return nil, fmt.Errorf("container %s is not of this engine", t.Process.ID())
		}
		s, err := p.files(ctx)
		if err != nil {
			return nil, err // not s: a nil server is not a nil connection
		}
		return s, nil
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
	var st unix.Stat_t
	if err := fstat(root, &st); err != nil {
		return nil, err
	}
	s, err := e.shim.Files(ctx, f, st.Dev, nil, root, ns)
	if err != nil {
		return nil, fmt.Errorf("serve the files of %s: %w", t.Root, err)
	}
	return s, nil
}

func (p *proc) files(ctx context.Context) (*shim.FileServer, error) {
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	flags := int64(unix.CLONE_NEWNS)
	if p.g.keep.UserNS {
		flags |= unix.CLONE_NEWUSER
	}
	var f wire.Fields
	f.AddInt(wire.TagFlags, flags)
	// The root that the daemon has given it. What the guest has made of it since, it has
	// made of its own.
	device, err := guestfs.DeviceOf(p.g.keep.Root)
	if err != nil {
		device = 0 // begun by an older daemon, which has not noted it: all is sent
	}
	group := p.g.counting()
	if group != nil {
		defer group.Close()
	}
	s, err := p.g.engine.shim.Files(ctx, f, device, p.g.init.File(), group, nil)
	if err != nil {
		return nil, p.ending(fmt.Errorf("serve the files of %s: %w", p.g.id, err))
	}
	return s, nil
}

// counting is the list of processes of the group by which the container's memory is
// counted, for who writes to that; nil where there is none to join.
func (g *guest) counting() *os.File {
	h := g.engine.layout.Find("memory")
	if h == nil {
		return nil
	}
	if h.V2 { // such a group is frozen as a whole, and what serves files is not to be
		if frozen, err := g.group.Frozen(); err != nil || frozen {
			return nil
		}
	}
	dir, err := h.Joinable(payloadGroup(g.id))
	if err != nil {
		return nil
	}
	f, err := os.OpenFile(dir+"/cgroup.procs", os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	return f
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
