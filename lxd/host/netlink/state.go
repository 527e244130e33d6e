package netlink

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	nl "github.com/vishvananda/netlink"

	"sett/shared/errs"
)

// State is how one interface does.
type State struct {
	Name      string
	HWAddr    string
	MTU       int
	Up        bool
	Type      string // broadcast, loopback, point-to-point, unknown
	Kind      string // bridge, veth, device, ...: what the kernel calls it
	Addresses []Address
	Counters  Counters
	Bridge    *Bridge // for bridges
	VLAN      *VLAN   // for VLANs
}

// VLAN is what only VLANs have.
type VLAN struct {
	LowerDevice string
	VID         uint64
}

// Interface is an interface by name and by what LXD calls its type.
type Interface struct {
	Name string
	Type string // loopback, bridge, vlan, bond, physical, unknown
}

// Interfaces lists all interfaces of the namespace, in the kernel's order.
func Interfaces(ctx context.Context) ([]Interface, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	links, err := allLinks()
	if err != nil {
		return nil, fmtErr("list", "interfaces", err)
	}
	out := make([]Interface, 0, len(links))
	for _, l := range links {
		out = append(out, Interface{Name: l.Attrs().Name, Type: typeOf(l)})
	}
	return out, nil
}

func typeOf(l nl.Link) string {
	switch k := l.Type(); {
	case l.Attrs().Flags&net.FlagLoopback != 0:
		return "loopback"
	case k == "bridge" || k == "openvswitch":
		return "bridge"
	case k == "vlan" || k == "bond":
		return k
	}
	if _, err := os.Stat(filepath.Join("/sys/class/net", l.Attrs().Name, "device")); err == nil {
		return "physical"
	}
	return "unknown"
}

// Address is one address of an interface.
type Address struct {
	Family  string // inet, inet6
	Address string
	Netmask string // prefix length
	Scope   string // link, global, local
}

// Counters are totals since the interface was made.
type Counters struct {
	BytesReceived, BytesSent     int64
	PacketsReceived, PacketsSent int64
}

// Bridge is what only bridges have.
type Bridge struct {
	ID            string
	STP           bool
	ForwardDelay  uint64
	VLANDefault   uint64
	VLANFiltering bool
	UpperDevices  []string // ports
}

// Get reads the state of an interface; a not-found error when there is none.
func Get(ctx context.Context, name string) (State, error) {
	if err := ctx.Err(); err != nil {
		return State{}, err
	}
	l, err := link(name)
	if err != nil {
		return State{}, err
	}
	a := l.Attrs()
	s := State{
		Name: a.Name, HWAddr: a.HardwareAddr.String(), MTU: a.MTU, Kind: l.Type(),
		Up: a.Flags&net.FlagUp != 0, Type: "unknown",
	}
	switch {
	case a.Flags&net.FlagLoopback != 0:
		s.Type = "loopback"
	case a.Flags&net.FlagPointToPoint != 0:
		s.Type = "point-to-point"
	case a.Flags&net.FlagBroadcast != 0:
		s.Type = "broadcast"
	}
	if st := a.Statistics; st != nil {
		s.Counters = Counters{int64(st.RxBytes), int64(st.TxBytes), int64(st.RxPackets), int64(st.TxPackets)}
	}
	addrs, err := addresses(l)
	if err != nil {
		return State{}, fmtErr("list addresses of", name, err)
	}
	for _, ad := range addrs {
		s.Addresses = append(s.Addresses, toAddress(ad.IPNet))
	}
	if v, ok := l.(*nl.Vlan); ok {
		s.VLAN = &VLAN{VID: uint64(v.VlanId)}
		if p, err := nl.LinkByIndex(a.ParentIndex); err == nil {
			s.VLAN.LowerDevice = p.Attrs().Name
		}
	}
	if l.Type() == "bridge" {
		s.Bridge, err = bridgeState(l)
		if err != nil {
			return State{}, err
		}
	}
	return s, nil
}

// Exists tells whether an interface is there.
func Exists(name string) bool { _, err := link(name); return err == nil }

func toAddress(n *net.IPNet) Address {
	ones, _ := n.Mask.Size()
	a := Address{Family: "inet", Address: n.IP.String(), Netmask: strconv.Itoa(ones), Scope: "global"}
	if n.IP.To4() == nil {
		a.Family = "inet6"
	}
	switch {
	case n.IP.IsLoopback():
		a.Scope = "local"
	case n.IP.IsLinkLocalUnicast():
		a.Scope = "link"
	}
	return a
}

func bridgeState(l nl.Link) (*Bridge, error) {
	name := l.Attrs().Name
	b := &Bridge{UpperDevices: []string{}}
	dir := filepath.Join("/sys/class/net", name, "bridge")
	read := func(f string) string {
		v, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(v))
	}
	num := func(f string) uint64 { n, _ := strconv.ParseUint(read(f), 10, 64); return n }
	b.ID = read("bridge_id")
	b.STP = num("stp_state") == 1
	b.ForwardDelay = num("forward_delay")
	b.VLANDefault = num("default_pvid")
	b.VLANFiltering = num("vlan_filtering") == 1
	links, err := allLinks()
	if err != nil {
		return nil, fmtErr("list ports of", name, err)
	}
	for _, p := range links {
		if p.Attrs().MasterIndex == l.Attrs().Index {
			b.UpperDevices = append(b.UpperDevices, p.Attrs().Name)
		}
	}
	return b, nil
}

// longestAlias is what the kernel has room for in an alternative name; it calls
// anything longer a fault of ours.
const longestAlias = 127

func link(name string) (nl.Link, error) {
	if len(name) > longestAlias {
		return nil, errs.NotFound("Network interface %q not found", name[:longestAlias]+"...")
	}
	l, err := nl.LinkByName(name)
	if err != nil {
		var nf nl.LinkNotFoundError
		if errors.As(err, &nf) {
			return nil, errs.NotFound("Network interface %q not found", name)
		}
		return nil, fmtErr("find", name, err)
	}
	return l, nil
}
