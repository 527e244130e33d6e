package bridge

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sett/lxd/config"
	"sett/lxd/host/netlink"
	"sett/lxd/host/sysctl"
	"sett/lxd/network/driver"
	"sett/shared/errs"
	"sett/shared/undo"
)

// setLink brings the interface itself to what the Spec says.
func setLink(s driver.Spec, mac net.HardwareAddr, mtu int) error {
	if err := netlink.SetHWAddr(s.Name, mac); err != nil {
		return err
	}
	if err := netlink.SetMTU(s.Name, mtu); err != nil {
		return err
	}
	conf6 := filepath.Join("net/ipv6/conf", s.Name)
	_, ok6 := prefix(keyIPv6, s.Config)
	off := "1"
	if ok6 {
		off = "0"
	}
	// A bridge announces addresses and believes no announcements, or any guest could become
	// the host's own way out; and it is the only one with its address, so that asking whether
	// that is taken (DAD) would only delay it. IPv6 comes last: then all of that holds already.
	for _, kv := range [][2]string{{"accept_ra", "0"}, {"autoconf", "0"}, {"accept_dad", "0"}, {"disable_ipv6", off}} {
		if err := sysctl.SetIfPresent(filepath.Join(conf6, kv[0]), kv[1]); err != nil {
			return err
		}
	}
	return netlink.SetUp(s.Name)
}

// ports attaches the host's interfaces that the network is to have, and lets go of those that
// an update attached which was never stored. A card that was pulled since must not keep the
// guests of the network from theirs.
func (d *Driver) ports(s driver.Spec, u *undo.Stack) error {
	want := list(keyExternal.Get(s.Config))
	if err := letGo(s.Name, notedPorts(s), want); err != nil {
		return err
	}
	if err := notePorts(s, want); err != nil {
		return err
	}
	for _, p := range want {
		st, err := netlink.Master(p)
		if errs.Is(err, errs.KindNotFound) && !s.New {
			d.log.Warn("A network does without an interface that is not there", "network", s.Name, "interface", p)
			continue
		}
		if err != nil {
			return err
		}
		if st == s.Name {
			continue
		}
		if st != "" {
			return errs.Invalid("Network interface %q is a port of %q already", p, st)
		}
		// Addresses of a port do not work any more, and the host may be reached by them.
		addrs, err := netlink.GlobalAddresses(p)
		if err != nil {
			return err
		}
		if len(addrs) > 0 {
			return errs.Invalid("Only unconfigured network interfaces can be bridged: %q has address %s", p, addrs[0])
		}
		if err := netlink.Attach(p, s.Name); err != nil {
			return err
		}
		u.Push(func() error { return netlink.Detach(p) })
		if err := netlink.SetUp(p); err != nil {
			return err
		}
	}
	return nil
}

// present refuses ports that a network had not before and that are not there.
func present(old, new driver.Spec) error {
	had := list(keyExternal.Get(old.Config))
	for _, p := range list(keyExternal.Get(new.Config)) {
		if !slices.Contains(had, p) && !netlink.Exists(p) {
			return errs.NotFound("Network interface %q not found", p)
		}
	}
	return nil
}

// letGo detaches interfaces of the host from a bridge, but those to keep.
func letGo(bridge string, ports, keep []string) error {
	for _, p := range ports {
		if m, _ := netlink.Master(p); m != bridge || slices.Contains(keep, p) {
			continue
		}
		if err := netlink.Detach(p); err != nil {
			return err
		}
	}
	return nil
}

// portsFile names the interfaces of the host that were attached last, or were about to be.
func portsFile(s driver.Spec) string { return filepath.Join(s.Dir, "ports") }

func notedPorts(s driver.Spec) []string {
	b, _ := os.ReadFile(portsFile(s)) // mostly there is none
	return strings.Fields(string(b))
}

func notePorts(s driver.Spec, names []string) error {
	if len(names) == 0 {
		err := os.Remove(portsFile(s))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	return os.WriteFile(portsFile(s), []byte(strings.Join(names, "\n")), 0o600)
}

func setAddresses(s driver.Spec) error {
	var addrs, routes []netip.Prefix
	for _, f := range []struct{ addr, routes config.Key[string] }{{keyIPv4, keyIPv4Routes}, {keyIPv6, keyIPv6Routes}} {
		p, ok := prefix(f.addr, s.Config)
		if !ok {
			continue
		}
		// The kernel would take it twice, and then answers come from the wrong side.
		if by, err := netlink.Holder(p.Addr()); err != nil {
			return err
		} else if by != "" && by != s.Name {
			return errs.Conflict("Address %s is in use on network interface %q; set another %q", p.Addr(), by, f.addr.Name())
		}
		addrs = append(addrs, p)
		for _, r := range list(f.routes.Get(s.Config)) {
			n, err := netip.ParsePrefix(r)
			if err != nil {
				return errs.Invalid("Invalid value for %q: %v", f.routes.Name(), err)
			}
			routes = append(routes, n)
		}
	}
	if err := netlink.SyncAddresses(s.Name, addrs); err != nil {
		return err
	}
	return netlink.SyncRoutes(s.Name, routes)
}

// forward has the host route packets for the families that have an address.
func forward(s driver.Spec) error {
	if _, ok := prefix(keyIPv4, s.Config); ok && keyIPv4Routing.Get(s.Config) {
		if err := sysctl.Set("net/ipv4/ip_forward", "1"); err != nil {
			return err
		}
	}
	if _, ok := prefix(keyIPv6, s.Config); !ok || !keyIPv6Routing.Get(s.Config) {
		return nil
	}
	// A host that forwards ignores router advertisements, unless told otherwise for
	// each interface: without this the host may lose its own IPv6 default route.
	names, err := sysctl.Names("net/ipv6/conf")
	if err != nil {
		return err
	}
	for _, n := range names {
		key := filepath.Join("net/ipv6/conf", n, "accept_ra")
		if v, err := sysctl.Get(key); err != nil || v != "1" {
			continue
		}
		if err := sysctl.SetIfPresent(key, "2"); err != nil {
			return err
		}
	}
	return sysctl.SetIfPresent("net/ipv6/conf/all/forwarding", "1")
}
