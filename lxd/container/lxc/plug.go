package lxc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/shim"
	"sett/lxd/shim/wire"
	"sett/shared/errs"
	"sett/shared/undo"
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

// inNetNS runs f in a network namespace, on a thread that ends with it: one that
// could not come back must not serve anybody else. Never on the process's first
// thread, which would survive and is what /proc/self stands for.
func inNetNS(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine holds the first thread, the next gets another one.
			done <- inNetNS(ns, f)
			runtime.UnlockOSThread()
			return
		}
		// From here on never unlocked.
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// moveLink sends an interface of the current namespace to another and renames it
// in the same step: the old name may be taken over there.
func moveLink(index int, ns *os.File, name string) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns.Fd()))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func notFound(err error) bool {
	var nf netlink.LinkNotFoundError
	return errors.As(err, &nf)
}

// AddNIC implements container.Process.
func (p *proc) AddNIC(ctx context.Context, n container.NIC) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	ns, err := p.g.namespace("net")
	if err != nil {
		return p.ending(err)
	}
	defer ns.Close()
	link, err := netlink.LinkByName(n.HostName)
	if notFound(err) {
		return errs.NotFound("Interface %q does not exist on the host", n.HostName)
	}
	if err != nil {
		return err
	}
	var u undo.Stack
	defer u.Run()
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("take %s down: %w", n.HostName, err)
	}
	if err := moveLink(link.Attrs().Index, ns, n.GuestName); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return errs.Conflict("Container %s has an interface %q already", p.g.id, n.GuestName)
		}
		return p.ending(fmt.Errorf("move %s into %s: %w", n.HostName, p.g.id, err))
	}
	u.Push(func() error { return p.takeNIC(ns, n.GuestName, n.HostName) })
	err = inNetNS(ns, func() error {
		l, err := netlink.LinkByName(n.GuestName)
		if err != nil {
			return err
		}
		if n.HWAddr != "" {
			mac, err := parseMAC(n.HWAddr)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetHardwareAddr(l, mac); err != nil {
				return err
			}
		}
		if n.MTU > 0 {
			if err := netlink.LinkSetMTU(l, n.MTU); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(l)
	})
	if err != nil {
		return p.ending(fmt.Errorf("set up %s in %s: %w", n.GuestName, p.g.id, err))
	}
	u.Commit()
	return nil
}

func (p *proc) takeNIC(ns *os.File, guestName, hostName string) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	return inNetNS(ns, func() error {
		l, err := netlink.LinkByName(guestName)
		if notFound(err) {
			return errs.NotFound("Container %s has no interface %q", p.g.id, guestName)
		}
		if err != nil {
			return err
		}
		if err := netlink.LinkSetDown(l); err != nil {
			return err
		}
		return moveLink(l.Attrs().Index, home, hostName)
	})
}

// RemoveNIC implements container.Process.
func (p *proc) RemoveNIC(ctx context.Context, guestName, hostName string) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	ns, err := p.g.namespace("net")
	if err != nil {
		return p.ending(err)
	}
	defer ns.Close()
	err = p.takeNIC(ns, guestName, hostName)
	if err == nil || errs.Is(err, errs.KindNotFound) {
		return err
	}
	return p.ending(fmt.Errorf("take %s out of %s: %w", guestName, p.g.id, err))
}
