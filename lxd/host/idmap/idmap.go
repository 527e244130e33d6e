// Package idmap is about ranges of user and group ids: the ranges that the host
// lends us (subuid, subgid), the map of one container, the arithmetic on them,
// and what the kernel makes of a map (user namespaces, idmapped mounts, trees
// that are shifted on disk where idmapped mounts do not work).
package idmap

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"sett/shared/errs"
)

// Entry maps a run of ids inside a container to a run on the host.
type Entry struct {
	UID, GID bool  // which kind of ids; both for a map that serves the two
	NSID     int64 // first id inside
	HostID   int64 // first id on the host
	Range    int64 // how many
}

// Map is the id map of one container. An empty map means "privileged".
type Map []Entry

// entryJSON is the form of volatile.idmap.* and volatile.last_state.idmap.
type entryJSON struct {
	Isuid    bool
	Isgid    bool
	Hostid   int64
	Nsid     int64
	Maprange int64
}

// MarshalJSON writes an entry as it is kept in volatile keys.
func (e Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(entryJSON{e.UID, e.GID, e.HostID, e.NSID, e.Range})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Entry) UnmarshalJSON(data []byte) error {
	var j entryJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*e = Entry{UID: j.Isuid, GID: j.Isgid, HostID: j.Hostid, NSID: j.Nsid, Range: j.Maprange}
	return nil
}

// String is the map as volatile keys keep it; an empty map is "[]".
func (m Map) String() string {
	if len(m) == 0 {
		return "[]"
	}
	out, err := json.Marshal([]Entry(m))
	if err != nil { // three integers and two booleans always encode
		panic(err)
	}
	return string(out)
}

// Parse reads a map from a volatile key. An empty string is an empty map.
func Parse(s string) (Map, error) {
	if s == "" {
		return nil, nil
	}
	var m Map
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return nil, errs.Invalid("Id map %q cannot be read: %v", s, err)
	}
	if len(m) == 0 {
		return nil, nil
	}
	return m, m.Check()
}

// Empty reports whether the map belongs to a privileged container.
func (m Map) Empty() bool { return len(m) == 0 }

// Split returns the map with an entry per kind of id, sorted by id inside: the
// form that the kernel takes and that two maps are compared in.
func (m Map) Split() (uids, gids Map) {
	for _, e := range m {
		if e.UID {
			uids = append(uids, Entry{UID: true, NSID: e.NSID, HostID: e.HostID, Range: e.Range})
		}
		if e.GID {
			gids = append(gids, Entry{GID: true, NSID: e.NSID, HostID: e.HostID, Range: e.Range})
		}
	}
	byNS := func(m Map) func(i, j int) bool { return func(i, j int) bool { return m[i].NSID < m[j].NSID } }
	sort.Slice(uids, byNS(uids))
	sort.Slice(gids, byNS(gids))
	return uids, gids
}

// Equal reports whether both maps send every id to the same place.
func (m Map) Equal(o Map) bool {
	mu, mg := m.Split()
	ou, og := o.Split()
	return slices.Equal(mu, ou) && slices.Equal(mg, og)
}

// Check refuses maps that the kernel would refuse, with a reason.
func (m Map) Check() error {
	uids, gids := m.Split()
	if len(m) > 0 && (len(uids) == 0 || len(gids) == 0) {
		return errs.Invalid("Id map %s lacks user ids or group ids", m)
	}
	for _, half := range []Map{uids, gids} {
		if len(half) > 340 {
			return errs.Invalid("Id map has %d entries, the kernel takes 340", len(half))
		}
		hosts := slices.Clone(half)
		sort.Slice(hosts, func(i, j int) bool { return hosts[i].HostID < hosts[j].HostID })
		for i, e := range half {
			if e.Range <= 0 || e.NSID < 0 || e.HostID < 0 || max(e.Range, e.NSID, e.HostID) > 1<<32-1 || e.NSID+e.Range > 1<<32-1 || e.HostID+e.Range > 1<<32-1 {
				return errs.Invalid("Id map entry %d:%d:%d is out of range", e.NSID, e.HostID, e.Range)
			}
			if i == 0 {
				continue
			}
			if p := half[i-1]; p.NSID+p.Range > e.NSID {
				return errs.Invalid("Id map entries overlap inside the container at %d", e.NSID)
			}
			if p, h := hosts[i-1], hosts[i]; p.HostID+p.Range > h.HostID {
				return errs.Invalid("Id map entries overlap on the host at %d", h.HostID)
			}
		}
	}
	return nil
}

// Kernel is one half of the map as /proc/PID/uid_map and gid_map want it.
func (m Map) Kernel() string {
	var b strings.Builder
	for _, e := range m {
		fmt.Fprintf(&b, "%d %d %d\n", e.NSID, e.HostID, e.Range)
	}
	return b.String()
}

func (m Map) toHost(id int64, want func(Entry) bool) (int64, bool) {
	if m.Empty() {
		return id, true
	}
	for _, e := range m {
		if want(e) && id >= e.NSID && id < e.NSID+e.Range {
			return e.HostID + id - e.NSID, true
		}
	}
	return -1, false
}

func (m Map) fromHost(id int64, want func(Entry) bool) (int64, bool) {
	if m.Empty() {
		return id, true
	}
	for _, e := range m {
		if want(e) && id >= e.HostID && id < e.HostID+e.Range {
			return e.NSID + id - e.HostID, true
		}
	}
	return -1, false
}

func isUID(e Entry) bool { return e.UID }
func isGID(e Entry) bool { return e.GID }

// HostUID is where a user id of the container lies on the host; false when the
// map does not hold it. An empty map leaves ids as they are.
func (m Map) HostUID(id int64) (int64, bool) { return m.toHost(id, isUID) }

// HostGID is HostUID for groups.
func (m Map) HostGID(id int64) (int64, bool) { return m.toHost(id, isGID) }

// GuestUID is what a user id of the host is called inside the container.
func (m Map) GuestUID(id int64) (int64, bool) { return m.fromHost(id, isUID) }

// GuestGID is GuestUID for groups.
func (m Map) GuestGID(id int64) (int64, bool) { return m.fromHost(id, isGID) }
