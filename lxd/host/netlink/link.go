package netlink

import (
	"errors"
	"net"
	"net/netip"
	"strings"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// BridgeSpec describes a bridge to be made or found.
type BridgeSpec struct {
	Name   string
	HWAddr net.HardwareAddr // nil: the kernel picks
	MTU    int
	// Owner marks the bridge, so that nobody takes over or removes that of another
	// daemon on this machine. Empty: nobody's.
	Owner string
}

// ownerMark begins the alias of bridges that are somebody's.
const ownerMark = "sett "

// foreign tells whether a link is marked as that of somebody else.
func foreign(l nl.Link, owner string) bool {
	have, ok := strings.CutPrefix(l.Attrs().Alias, ownerMark)
	return ok && have != owner
}

// EnsureBridge makes a bridge, or leaves one that is there; made tells which. An
// interface of another kind under that name, and a bridge of somebody else, are
// conflicts.
func EnsureBridge(b BridgeSpec) (made bool, err error) {
	l, err := link(b.Name)
	switch {
	case err == nil && l.Type() != "bridge":
		return false, errs.Conflict("Network interface %q exists already and is not a bridge", b.Name)
	case err == nil && foreign(l, b.Owner):
		return false, errs.Conflict("Network interface %q belongs to another daemon on this machine", b.Name)
	case err == nil:
		return false, mark(l, b.Owner)
	case !errs.Is(err, errs.KindNotFound):
		return false, err
	}
	a := nl.NewLinkAttrs()
	a.Name, a.HardwareAddr = b.Name, b.HWAddr
	// A bridge that was never told its MTU follows its ports; told at birth, it keeps it.
	a.MTU = b.MTU
	if err := nl.LinkAdd(&nl.Bridge{LinkAttrs: a}); err != nil {
		return false, fmtErr("create", b.Name, err)
	}
	if l, err = link(b.Name); err == nil {
		err = mark(l, b.Owner)
	}
	if err != nil {
		return false, errors.Join(err, DeleteBridge(b.Name, b.Owner))
	}
	return true, nil
}

// mark notes the owner of a link, unless its alias says something already.
func mark(l nl.Link, owner string) error {
	if owner == "" || l.Attrs().Alias != "" {
		return nil
	}
	if err := nl.LinkSetAlias(l, ownerMark+owner); err != nil {
		return fmtErr("mark", l.Attrs().Name, err)
	}
	return nil
}

// Owned names the bridges that bear the mark of an owner.
func Owned(owner string) ([]string, error) {
	if owner == "" {
		return nil, nil
	}
	all, err := allLinks()
	if err != nil {
		return nil, fmtErr("list", "interfaces", err)
	}
	var out []string
	for _, l := range all {
		if l.Type() == "bridge" && l.Attrs().Alias == ownerMark+owner {
			out = append(out, l.Attrs().Name)
		}
	}
	return out, nil
}

// Foreign tells whether an interface is marked as somebody else's.
func Foreign(name, owner string) bool {
	l, err := link(name)
	return err == nil && foreign(l, owner)
}

// Veth describes a pair of interfaces to be made.
type Veth struct {
	Host, Peer string
	PeerHWAddr net.HardwareAddr // nil: the kernel picks
	MTU        int              // of both; 0: the kernel's default
	TxQueueLen int              // of both; 0: the kernel's default
}

// CreateVeth makes a pair. A taken name is a conflict.
func CreateVeth(v Veth) error {
	a := nl.NewLinkAttrs()
	a.Name, a.MTU = v.Host, v.MTU
	p := nl.NewVeth(a)
	p.PeerName, p.PeerHardwareAddr, p.PeerMTU = v.Peer, v.PeerHWAddr, uint32(v.MTU)
	if v.TxQueueLen > 0 {
		p.TxQLen, p.PeerTxQLen = v.TxQueueLen, v.TxQueueLen
	}
	err := nl.LinkAdd(p)
	if errors.Is(err, unix.EEXIST) {
		return errs.Conflict("Network interface %q or %q exists already", v.Host, v.Peer)
	}
	if err != nil {
		return fmtErr("create", v.Host, err)
	}
	return nil
}

// Delete removes an interface; for one end of a veth pair the other goes too.
func Delete(name string) error {
	l, err := link(name)
	if errs.Is(err, errs.KindNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := nl.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmtErr("delete", name, err)
	}
	return nil
}

// DeleteBridge removes a bridge, and nothing else that bears its name: no interface
// of another kind, and no bridge of another owner.
func DeleteBridge(name, owner string) error {
	if Foreign(name, owner) {
		return nil
	}
	return deleteKind(name, "bridge")
}

// DeleteVeth removes a veth pair, and nothing else that bears its name.
func DeleteVeth(name string) error { return deleteKind(name, "veth") }

func change(what, name string, f func(nl.Link) error) error {
	l, err := link(name)
	if err != nil {
		return err
	}
	if err := f(l); err != nil {
		return fmtErr(what, name, err)
	}
	return nil
}

// SetUp brings an interface up.
func SetUp(name string) error { return change("bring up", name, nl.LinkSetUp) }

// SetMTU sets the largest packet.
func SetMTU(name string, mtu int) error {
	return change("set the MTU of", name, func(l nl.Link) error {
		if l.Attrs().MTU == mtu {
			return nil
		}
		return nl.LinkSetMTU(l, mtu)
	})
}

// SetHWAddr sets the MAC address, if it differs.
func SetHWAddr(name string, a net.HardwareAddr) error {
	return change("set the MAC address of", name, func(l nl.Link) error {
		if l.Attrs().HardwareAddr.String() == a.String() {
			return nil
		}
		return nl.LinkSetHardwareAddr(l, a)
	})
}

// Attach makes an interface a port of a bridge.
func Attach(name, bridge string) error {
	b, err := link(bridge)
	if err != nil {
		return err
	}
	return change("attach to "+bridge, name, func(l nl.Link) error {
		if l.Attrs().MasterIndex == b.Attrs().Index {
			return nil
		}
		return nl.LinkSetMaster(l, b)
	})
}

// Detach takes an interface off its bridge. One that is gone is off.
func Detach(name string) error {
	err := change("detach", name, nl.LinkSetNoMaster)
	if errs.Is(err, errs.KindNotFound) {
		return nil
	}
	return err
}

// Master names the bridge that an interface is a port of, or "".
func Master(name string) (string, error) {
	l, err := link(name)
	if err != nil || l.Attrs().MasterIndex == 0 {
		return "", err
	}
	m, err := nl.LinkByIndex(l.Attrs().MasterIndex)
	if err != nil {
		return "", fmtErr("find the bridge of", name, err)
	}
	return m.Attrs().Name, nil
}

// Isolate keeps a bridge port from talking to other isolated ports.
func Isolate(name string, on bool) error {
	return change("isolate", name, func(l nl.Link) error { return nl.LinkSetIsolated(l, on) })
}

// IsBridge tells whether a bridge of that name exists.
func IsBridge(name string) bool {
	l, err := link(name)
	return err == nil && l.Type() == "bridge"
}

// MTU returns the largest packet of an interface.
func MTU(name string) (int, error) {
	l, err := link(name)
	if err != nil {
		return 0, err
	}
	return l.Attrs().MTU, nil
}

// SyncAddresses gives an interface exactly these global addresses, and touches
// none that is right: connections over it go on.
func SyncAddresses(name string, want []netip.Prefix) error {
	l, err := link(name)
	if err != nil {
		return err
	}
	have, err := addresses(l)
	if err != nil {
		return fmtErr("list addresses of", name, err)
	}
	keep := map[string]bool{}
	for _, p := range want {
		keep[p.String()] = true
	}
	for _, a := range have {
		if !keep[a.IPNet.String()] && !a.IP.IsLinkLocalUnicast() {
			if err := nl.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmtErr("remove an address from", name, err)
			}
		}
	}
	for _, p := range want {
		a := &nl.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			// Without this the address is tentative until a port is up, and a DHCP server
			// cannot bind to it.
			a.Flags = unix.IFA_F_NODAD
		}
		if err := nl.AddrReplace(l, a); err != nil {
			return fmtErr("add an address to", name, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// GlobalAddresses lists the addresses of an interface that others can reach it by.
func GlobalAddresses(name string) ([]netip.Prefix, error) {
	l, err := link(name)
	if err != nil {
		return nil, err
	}
	addrs, err := addresses(l)
	if err != nil {
		return nil, fmtErr("list addresses of", name, err)
	}
	var out []netip.Prefix
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ones, _ := a.Mask.Size(); ok && !a.IP.IsLinkLocalUnicast() {
			out = append(out, netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	return out, nil
}

// Holder names the interface that has an address, or "".
func Holder(a netip.Addr) (string, error) {
	addrs, err := addresses(nil)
	if err != nil {
		return "", fmtErr("list addresses of", "the host", err)
	}
	for _, h := range addrs {
		if ip, ok := netip.AddrFromSlice(h.IP); ok && ip.Unmap() == a {
			l, err := nl.LinkByIndex(h.LinkIndex)
			if err != nil {
				return "", fmtErr("find the holder of", a.String(), err)
			}
			return l.Attrs().Name, nil
		}
	}
	return "", nil
}
