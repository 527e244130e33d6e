// Package idmap is about ranges of user and group ids: the ranges that the host
// lends us (subuid, subgid), the map of one container, and the arithmetic on them.
package idmap

// Entry maps a run of ids inside a container to a run on the host.
type Entry struct {
	UID, GID bool  // which kind of ids; both for a map that serves the two
	NSID     int64 // first id inside
	HostID   int64 // first id on the host
	Range    int64 // how many
}

// Map is the id map of one container. An empty map means "privileged".
type Map []Entry
