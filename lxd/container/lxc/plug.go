package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/shim"
	"sett/lxd/shim/wire"
	"sett/shared/errs"
)

// namespace opens one of the container's namespaces. The pid belongs to init as
// long as init's handle is alive, which is looked at afterwards.
func (g *guest) namespace(name string) (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", g.state.Init.PID, name))
	if err == nil && !g.init.Alive() {
		_ = f.Close()
		err = container.ErrNotRunning
	}
	return f, err
}

// AddMount implements container.Process.
func (p *proc) AddMount(ctx context.Context, m container.Mount) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	if m.FSType != "" && m.FSType != "none" {
		return errs.NotImplemented("A mount of type %q cannot be added to running container %s", m.FSType, p.g.id)
	}
	var f wire.Fields
	for _, o := range m.Options {
		switch o {
		case "bind", "rw", "defaults", "relatime", "suid", "dev", "exec", "ro", "nosuid", "nodev", "noexec":
		case "rbind":
			f.Add(wire.TagRec, "")
		default:
			return errs.NotImplemented("Mount option %q cannot be used on running container %s", o, p.g.id)
		}
	}
	if a := attributes(m.Options); a != 0 {
		f.AddInt(wire.TagSet, int64(a))
	}
	var source, userns *os.File
	if m.SourceFD > 0 {
		fd, err := unix.FcntlInt(uintptr(m.SourceFD), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("source of the mount at %s: %w", m.Target, err)
		}
		source = os.NewFile(uintptr(fd), m.Source)
		defer source.Close()
		f.Add(wire.TagFD, "")
	} else {
		f.Add(wire.TagSource, m.Source)
	}
	if p.g.keep.UserNS {
		var err error
		if userns, err = p.g.namespace("user"); err != nil {
			return p.ending(err)
		}
		defer userns.Close()
		f.AddInt(wire.TagFlags, unix.CLONE_NEWUSER)
		if m.Idmapped {
			f.Add(wire.TagIdmap, "")
		}
	}
	switch m.Create {
	case container.CreateDir:
		f.Add(wire.TagCreate, "d")
	case container.CreateFile:
		f.Add(wire.TagCreate, "f")
	}
	target := strings.Trim(m.Target, "/")
	f.Add(wire.TagTarget, target)
	err := p.g.engine.shim.Mount(ctx, f, p.g.init.File(), source, userns)
	var se *shim.StageError
	if errors.As(err, &se) {
		switch {
		case se.Stage == wire.StageSource && se.Errno == unix.ENOENT:
			if m.Optional {
				return nil
			}
			return errs.NotFound("Source %q of the mount at /%s does not exist", m.Source, target)
		case se.Stage == wire.StageTarget:
			return errs.Invalid("/%s in container %s cannot be mounted on: %v", target, p.g.id, se.Errno)
		case se.Stage == wire.StageAttr && m.Idmapped && se.Errno == unix.EINVAL:
			return errs.Invalid("The file system of %q does not take an id map", m.Source)
		}
	}
	if err != nil {
		return p.ending(fmt.Errorf("mount %s at /%s in %s: %w", m.Source, target, p.g.id, err))
	}
	return nil
}

// RemoveMount implements container.Process.
func (p *proc) RemoveMount(ctx context.Context, target string) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	target = strings.Trim(target, "/")
	var f wire.Fields
	flags := int64(unix.CLONE_NEWNS)
	if p.g.keep.UserNS {
		flags |= unix.CLONE_NEWUSER
	}
	f.AddInt(wire.TagFlags, flags)
	f.Add(wire.TagTarget, target)
	err := p.g.engine.shim.Umount(ctx, f, p.g.init.File())
	var se *shim.StageError
	if errors.As(err, &se) && (se.Stage == wire.StageTarget && se.Errno == unix.ENOENT || se.Stage == wire.StageUmount && se.Errno == unix.EINVAL) {
		return errs.NotFound("Nothing is mounted at /%s in container %s", target, p.g.id)
	}
	if err != nil {
		return p.ending(fmt.Errorf("unmount /%s in %s: %w", target, p.g.id, err))
	}
	return nil
}
