package netlink

import (
	"context"
	"errors"
	"net"
	"net/netip"

	nl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// SyncRoutes gives an interface exactly these static routes. Routes that the
// kernel or a routing daemon made are left alone, and one that is somebody else's
// is a conflict.
func SyncRoutes(name string, want []netip.Prefix) error {
	l, err := link(name)
	if err != nil {
		return err
	}
	keep := map[netip.Prefix]bool{}
	for _, p := range want {
		keep[p.Masked()] = true
	}
	have, err := staticRoutes(l)
	if err != nil {
		return fmtErr("list routes of", name, err)
	}
	for _, r := range have {
		p, ok := prefix(r.Dst)
		if !ok {
			continue
		}
		if keep[p] {
			delete(keep, p) // it is there
			continue
		}
		if err := nl.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmtErr("remove a route from", name, err)
		}
	}
	for p := range keep {
		if err := addRoute(l, p, unix.RTPROT_STATIC); err != nil {
			return err
		}
	}
	return nil
}

// addRoute replaces nothing: the host may be reached by what is there, its default route
// for one.
func addRoute(l nl.Link, to netip.Prefix, by nl.RouteProtocol) error {
	err := nl.RouteAdd(route(l, to, by))
	if errors.Is(err, unix.EEXIST) {
		return errs.Conflict("A route to %s exists already on this server", to)
	}
	if err != nil {
		return fmtErr("add route "+to.String()+" to", l.Attrs().Name, err)
	}
	return nil
}

func route(l nl.Link, to netip.Prefix, by nl.RouteProtocol) *nl.Route {
	r := &nl.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(to), Protocol: by}
	if to.Addr().Is4() {
		r.Scope = nl.SCOPE_LINK
	}
	return r
}

func staticRoutes(l nl.Link) ([]nl.Route, error) {
	return routes(&nl.Route{LinkIndex: l.Attrs().Index, Protocol: unix.RTPROT_STATIC}, nl.RT_FILTER_OIF|nl.RT_FILTER_PROTOCOL)
}

// Busy lists the prefixes that the host's addresses and routes use, except those
// of the interface besides. Default routes are left out.
func Busy(ctx context.Context, besides string) ([]netip.Prefix, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	skip := -1
	if l, err := link(besides); err == nil {
		skip = l.Attrs().Index
	}
	addrs, err := addresses(nil)
	if err != nil {
		return nil, fmtErr("list addresses of", "the host", err)
	}
	seen := map[netip.Prefix]bool{}
	var out []netip.Prefix
	add := func(n *net.IPNet) {
		if p, ok := prefix(n); ok && p.Bits() > 0 && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	for _, a := range addrs {
		if a.LinkIndex != skip {
			add(a.IPNet)
		}
	}
	// Table 0 in a filter means all tables: policy routing keeps subnets busy too.
	routes, err := routes(&nl.Route{Table: unix.RT_TABLE_UNSPEC}, nl.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmtErr("list routes of", "the host", err)
	}
	for _, r := range routes {
		if r.LinkIndex != skip {
			add(r.Dst)
		}
	}
	return out, nil
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a, ones).Masked(), true
}

// AddRoutes adds routes of devices to an interface: all of them, or none. They are marked
// otherwise than those of SyncRoutes, which leaves them alone.
func AddRoutes(name string, to []netip.Prefix) error {
	if len(to) == 0 {
		return nil
	}
	l, err := link(name)
	if err != nil {
		return err
	}
	for i, p := range to {
		if err := addRoute(l, p, unix.RTPROT_BOOT); err != nil {
			return errors.Join(err, RemoveRoutes(name, to[:i]))
		}
	}
	return nil
}

// RemoveRoutes removes what AddRoutes added. Routes and interfaces that are not
// there are no error.
func RemoveRoutes(name string, to []netip.Prefix) error {
	if len(to) == 0 {
		return nil
	}
	l, err := link(name)
	if errs.Is(err, errs.KindNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range to {
		if err := nl.RouteDel(route(l, p, unix.RTPROT_BOOT)); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmtErr("remove route "+p.String()+" from", name, err)
		}
	}
	return nil
}
