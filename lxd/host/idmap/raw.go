package idmap

import (
	"slices"
	"strconv"
	"strings"

	"sett/shared/errs"
)

// ParseRaw reads raw.idmap: lines of "uid", "gid" or "both", an id or a range of ids of
// the host, and one as long inside.
func ParseRaw(s string) (Map, error) {
	var out Map
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 || f[0] != "uid" && f[0] != "gid" && f[0] != "both" {
			return nil, errs.Invalid("Line %q is not \"uid|gid|both HOST-IDS GUEST-IDS\"", strings.TrimSpace(line))
		}
		host, n, err := parseRange(f[1])
		if err != nil {
			return nil, err
		}
		guest, n2, err := parseRange(f[2])
		if err != nil {
			return nil, err
		}
		if n != n2 {
			return nil, errs.Invalid("Line %q has %d ids on the host and %d inside", strings.TrimSpace(line), n, n2)
		}
		if host == 0 {
			return nil, errs.Invalid("The host's root cannot be mapped; security.privileged is for that")
		}
		out = append(out, Entry{UID: f[0] != "gid", GID: f[0] != "uid", HostID: host, NSID: guest, Range: n})
	}
	return out, nil
}

func parseRange(s string) (first, n int64, err error) {
	a, b, isRange := strings.Cut(s, "-")
	first, err = strconv.ParseInt(a, 10, 64)
	last := first
	if err == nil && isRange {
		last, err = strconv.ParseInt(b, 10, 64)
	}
	if err != nil || first < 0 || last < first || last >= 1<<32-1 {
		return 0, 0, errs.Invalid("%q is neither an id nor a range of ids", s)
	}
	return first, last - first + 1, nil
}

// With is the map with more entries, which win over what the map has for their ids
// inside and on the host.
func (m Map) With(more Map) Map {
	uids, gids := m.Split()
	mu, mg := more.Split()
	return append(punched(uids, mu), punched(gids, mg)...)
}

func punched(half, more Map) Map {
	for _, e := range more {
		half = cut(half, e.NSID, e.Range, func(x Entry) int64 { return x.NSID })
		half = cut(half, e.HostID, e.Range, func(x Entry) int64 { return x.HostID })
		half = append(half, e)
	}
	slices.SortFunc(half, func(a, b Entry) int { return int(a.NSID - b.NSID) })
	return half
}

// cut takes n ids from first on out of all entries, by the side that at tells.
func cut(half Map, first, n int64, at func(Entry) int64) Map {
	var out Map
	for _, x := range half {
		begin := max(first-at(x), 0)
		end := min(first+n-at(x), x.Range)
		if begin >= end {
			out = append(out, x)
			continue
		}
		if begin > 0 {
			left := x
			left.Range = begin
			out = append(out, left)
		}
		if end < x.Range {
			out = append(out, Entry{UID: x.UID, GID: x.GID, NSID: x.NSID + end, HostID: x.HostID + end, Range: x.Range - end})
		}
	}
	return out
}

// Part is the piece of a host's map of n ids from the offset on, for one guest.
func (m Map) Part(offset, n int64) (Map, error) {
	var out Map
	for _, e := range m {
		if e.NSID != 0 || offset < 0 || offset+n > e.Range {
			return nil, errs.Invalid("The host's ranges in /etc/subuid and /etc/subgid have no %d ids from their id number %d on", n, offset)
		}
		out = append(out, Entry{UID: e.UID, GID: e.GID, HostID: e.HostID + offset, Range: n})
	}
	return out, nil
}
