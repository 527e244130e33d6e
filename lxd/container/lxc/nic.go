package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/shared/errs"
	"sett/shared/undo"
)

// nicTable tells which interface inside is which of those that the host gave, by
// its index there. Names, addresses and all else the guest changes as it likes; the
// index stays, and is not had again by another interface unless the guest moves this
// one away, when it is no longer found.
type nicTable map[string]int // name that it was given -> index

func readNICs(p paths) (nicTable, error) {
	t := nicTable{}
	b, err := os.ReadFile(p.nics())
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p.nics(), err)
	}
	return t, nil
}

func (t nicTable) write(p paths) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.nics()+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(p.nics()+".new", p.nics())
}

// noteNICs is for those that liblxc moves: into a namespace that has nothing but lo
// yet, where they keep the index that they have here.
func noteNICs(p paths, nics []container.NIC) error {
	if len(nics) == 0 {
		return nil
	}
	t := nicTable{}
	for _, n := range nics {
		l, err := netlink.LinkByName(n.HostName)
		if err != nil {
			continue // liblxc says so better
		}
		t[n.GuestName] = l.Attrs().Index
	}
	return t.write(p)
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
// in the same step: the old name may be taken over there. newIndex is the one that
// it is to have there; 0: what comes.
func moveLink(index int, ns *os.File, name string, newIndex int) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns.Fd()))))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if newIndex > 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_NEW_IFINDEX, nl.Uint32Attr(uint32(newIndex))))
	}
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
	p.g.nics.Lock()
	defer p.g.nics.Unlock()
	table, err := readNICs(p.g.paths)
	if err != nil {
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
	// A number that the guest has not used, whatever it tries: the move fails then.
	index := 1<<29 + rand.IntN(1<<29)
	before, had := table[n.GuestName]
	table[n.GuestName] = index
	u.Push(func() error {
		if delete(table, n.GuestName); had {
			table[n.GuestName] = before
		}
		return table.write(p.g.paths)
	})
	if err := table.write(p.g.paths); err != nil {
		return err
	}
	if err := moveLink(link.Attrs().Index, ns, n.GuestName, index); err != nil {
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
			return errs.Conflict("Container %s has an interface %q already", p.g.id, n.GuestName)
		}
		return p.ending(fmt.Errorf("move %s into %s: %w", n.HostName, p.g.id, err))
	}
	u.Push(func() error { return p.takeNIC(ns, index, n.GuestName, n.HostName) })
	err = inNetNS(ns, func() error {
		l, err := netlink.LinkByIndex(index)
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

func (p *proc) takeNIC(ns *os.File, index int, guestName, hostName string) error {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer home.Close()
	return inNetNS(ns, func() error {
		l, err := netlink.LinkByIndex(index)
		if notFound(err) {
			return errs.NotFound("Container %s has no interface %q", p.g.id, guestName)
		}
		if err != nil {
			return err
		}
		if err := netlink.LinkSetDown(l); err != nil {
			return err
		}
		return moveLink(index, home, hostName, 0)
	})
}

// RemoveNIC implements container.Process.
func (p *proc) RemoveNIC(ctx context.Context, guestName, hostName string) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	p.g.nics.Lock()
	defer p.g.nics.Unlock()
	table, err := readNICs(p.g.paths)
	if err != nil {
		return err
	}
	index, ok := table[guestName]
	if !ok {
		return errs.NotFound("Container %s was given no interface %q", p.g.id, guestName)
	}
	ns, err := p.g.namespace("net")
	if err != nil {
		return p.ending(err)
	}
	defer ns.Close()
	err = p.takeNIC(ns, index, guestName, hostName)
	if err == nil || errs.Is(err, errs.KindNotFound) {
		delete(table, guestName)
		if werr := table.write(p.g.paths); werr != nil && err == nil {
			err = werr
		}
		return err
	}
	return p.ending(fmt.Errorf("take %s out of %s: %w", guestName, p.g.id, err))
}
