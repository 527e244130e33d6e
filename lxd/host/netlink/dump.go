package netlink

import (
	"errors"

	nl "github.com/vishvananda/netlink"
)

// dumps is how often a list is asked for that changes while it is told.
const dumps = 50

// ErrChanging comes with a list that changed whenever it was asked for: something may
// be missing in it.
var ErrChanging = nl.ErrDumpInterrupted

// Dump asks the kernel for a list until it gets one that did not change meanwhile. The
// kernel tells long lists in pieces, and fifty instances that start at once change the
// list of interfaces all the time.
func Dump[T any](list func() ([]T, error)) (out []T, err error) {
	for range dumps {
		if out, err = list(); !errors.Is(err, ErrChanging) {
			break
		}
	}
	return out, err
}

func allLinks() ([]nl.Link, error) { return Dump(nl.LinkList) }

// addresses lists those of a link, or of all when it is nil.
func addresses(l nl.Link) ([]nl.Addr, error) {
	return Dump(func() ([]nl.Addr, error) { return nl.AddrList(l, nl.FAMILY_ALL) })
}

func routes(like *nl.Route, by uint64) ([]nl.Route, error) {
	return Dump(func() ([]nl.Route, error) { return nl.RouteListFiltered(nl.FAMILY_ALL, like, by) })
}
