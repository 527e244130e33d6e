package lxc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/host/cgroup"
	hostlink "sett/lxd/host/netlink"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Usage implements container.Process.
func (p *proc) Usage(ctx context.Context) (container.Usage, error) {
	if err := p.check(ctx); err != nil {
		return container.Usage{}, err
	}
	g := p.g.group
	l := p.g.engine.layout
	u := container.Usage{CPU: -1, Memory: -1, MemoryPeak: -1, Swap: -1, SwapPeak: -1, MemoryTotal: hostMemory(), Processes: -1}
	num := func(controller, file string) int64 {
		n, err := g.ReadInt(controller, file)
		if err != nil {
			return -1
		}
		return n
	}
	if h := l.Find("cpuacct"); h != nil && !h.V2 {
		u.CPU = time.Duration(num("cpuacct", "cpuacct.usage"))
	} else if s, err := g.Read("cpu", "cpu.stat"); err == nil {
		u.CPU = time.Duration(statField(s, "usage_usec")) * time.Microsecond
	}
	limit := int64(-1)
	if h := l.Find("memory"); h != nil && h.V2 {
		u.Memory, u.MemoryPeak = num("memory", "memory.current"), num("memory", "memory.peak")
		u.Swap, u.SwapPeak = num("memory", "memory.swap.current"), num("memory", "memory.swap.peak")
		limit = num("memory", "memory.max")
	} else if h != nil {
		u.Memory, u.MemoryPeak = num("memory", "memory.usage_in_bytes"), num("memory", "memory.max_usage_in_bytes")
		if both := num("memory", "memory.memsw.usage_in_bytes"); both >= 0 {
			u.Swap = max(both-u.Memory, 0)
		}
		if both := num("memory", "memory.memsw.max_usage_in_bytes"); both >= 0 {
			u.SwapPeak = max(both-u.MemoryPeak, 0)
		}
		limit = num("memory", "memory.limit_in_bytes")
	}
	if limit > 0 && limit < u.MemoryTotal {
		u.MemoryTotal = limit
	}
	if l.Find("pids") != nil {
		u.Processes = num("pids", "pids.current")
	}
	if u.CPU < 0 && p.g.ended() {
		return container.Usage{}, container.ErrNotRunning
	}
	return u, nil
}

func statField(s, name string) int64 {
	for line := range strings.Lines(s) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
				return n
			}
		}
	}
	return -1
}

func hostMemory() int64 {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return -1
	}
	return int64(si.Totalram) * int64(si.Unit)
}

// SetLimits implements container.Process. Either all of the changes hold
// afterwards or none.
func (p *proc) SetLimits(ctx context.Context, old, now container.Limits) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	has := p.g.engine.host.has
	changes := live(has, old, now)
	if err := missing(has, changes); err != nil {
		return errs.Invalid("%v", err)
	}
	if err := p.g.engine.handDown(now); err != nil {
		return err
	}
	var u undo.Stack
	defer u.Run()
	for _, s := range changes {
		if s.file == "cpuset.cpus" && s.value == "" && !s.v2 {
			all, err := p.rootCPUs()
			if err != nil {
				return err
			}
			s.value = all
		}
		before, err := p.g.group.Read(s.controller, s.file)
		if err == nil {
			err = p.g.group.Write(s.controller, s.file, s.value)
		}
		switch {
		case err == nil:
			u.Push(func() error { return p.g.group.Write(s.controller, s.file, before) })
		case !s.need && (errors.Is(err, os.ErrNotExist) || errors.Is(err, cgroup.ErrNoController) || errors.Is(err, unix.EOPNOTSUPP)):
		case errors.Is(err, unix.EBUSY) && s.controller == "memory":
			return errs.Invalid("Container %s uses more memory than %s bytes; the limit stays", p.g.id, s.value)
		default:
			return p.ending(fmt.Errorf("set %s to %s in %s: %w", s.file, s.value, p.g.id, err))
		}
	}
	u.Commit()
	return nil
}

// rootCPUs are all CPUs that the host's containers may use.
func (p *proc) rootCPUs() (string, error) {
	h := p.g.engine.layout.Find("cpuset")
	if h == nil {
		return "", cgroup.ErrNoController
	}
	b, err := os.ReadFile(h.Dir("") + "/cpuset.cpus")
	return strings.TrimSpace(string(b)), err
}

// AllowDevices implements container.Process.
func (p *proc) AllowDevices(ctx context.Context, rules []container.DeviceRule) error {
	if err := p.check(ctx); err != nil {
		return err
	}
	if len(rules) == 0 {
		return nil
	}
	h := p.g.engine.layout.Find("devices")
	if h == nil || h.V2 {
		return errs.NotImplemented("Devices cannot be allowed in running container %s on a host with cgroup v2", p.g.id)
	}
	for _, r := range rules {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		if err := p.g.group.Write("devices", file, deviceRule(r)); err != nil {
			return p.ending(fmt.Errorf("write %q to %s of %s: %w", deviceRule(r), file, p.g.id, err))
		}
	}
	return nil
}

func parseMAC(s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	if err != nil {
		return nil, errs.Invalid("%q is no hardware address", s)
	}
	return mac, nil
}

// Interfaces implements container.Process.
func (p *proc) Interfaces(ctx context.Context) ([]container.Interface, error) {
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	ns, err := p.g.namespace("net")
	if err != nil {
		return nil, p.ending(err)
	}
	defer ns.Close()
	var links []netlink.Link
	addrs := map[int][]container.Address{}
	err = inNetNS(ns, func() error {
		// A guest that changes its interfaces all the time gets told what was seen of them.
		var err error
		if links, err = hostlink.Dump(netlink.LinkList); err != nil && !errors.Is(err, hostlink.ErrChanging) {
			return err
		}
		list, err := hostlink.Dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
		if errors.Is(err, hostlink.ErrChanging) {
			err = nil
		}
		for _, a := range list {
			addrs[a.LinkIndex] = append(addrs[a.LinkIndex], address(a))
		}
		return err
	})
	if err != nil {
		return nil, p.ending(fmt.Errorf("list the interfaces of %s: %w", p.g.id, err))
	}
	slices.SortFunc(links, func(a, b netlink.Link) int { return a.Attrs().Index - b.Attrs().Index })
	var out []container.Interface
	for _, l := range links {
		out = append(out, describe(l, addrs[l.Attrs().Index]))
	}
	return out, nil
}

func address(a netlink.Addr) container.Address {
	ones, _ := a.Mask.Size()
	out := container.Address{Family: "inet6", Address: a.IP.String(), Netmask: strconv.Itoa(ones), Scope: "global"}
	if a.IP.To4() != nil {
		out.Family = "inet"
	}
	switch netlink.Scope(a.Scope) {
	case netlink.SCOPE_LINK:
		out.Scope = "link"
	case netlink.SCOPE_HOST:
		out.Scope = "local"
	}
	return out
}

func describe(l netlink.Link, addrs []container.Address) container.Interface {
	a := l.Attrs()
	out := container.Interface{
		Name: a.Name, HWAddr: a.HardwareAddr.String(), MTU: a.MTU, Up: a.Flags&net.FlagUp != 0,
		State: "down", Type: "unknown", Addresses: addrs,
	}
	if out.Up {
		out.State = "up"
	}
	switch {
	case a.Flags&net.FlagLoopback != 0:
		out.Type = "loopback"
		out.HWAddr = ""
	case a.Flags&net.FlagPointToPoint != 0:
		out.Type = "point-to-point"
	case a.Flags&net.FlagBroadcast != 0:
		out.Type = "broadcast"
	}
	if s := a.Statistics; s != nil {
		out.Counters = container.Counters{
			BytesReceived: int64(s.RxBytes), BytesSent: int64(s.TxBytes),
			PacketsReceived: int64(s.RxPackets), PacketsSent: int64(s.TxPackets),
			ErrorsReceived: int64(s.RxErrors), ErrorsSent: int64(s.TxErrors),
			DroppedInbound: int64(s.RxDropped), DroppedOutbound: int64(s.TxDropped),
		}
	}
	// The peer of a veth lies anywhere; it is ours when it points back at this one.
	if l.Type() == "veth" && a.ParentIndex > 0 {
		if peer, err := netlink.LinkByIndex(a.ParentIndex); err == nil && peer.Type() == "veth" && peer.Attrs().ParentIndex == a.Index {
			out.HostName = peer.Attrs().Name
		}
	}
	return out
}
