package dqlite

import (
	"fmt"

	dqlite "github.com/canonical/go-dqlite"
)

// go-dqlite's own init turns SQLite's mutexes off for the whole process, because
// its engine is one thread. Ours is not the only user: the member's local database
// lives in the same library, and without mutexes two threads tear its global lists
// apart ("no such vfs" was how it first showed). The mode can only be changed before
// SQLite has been used, which means here, against the rule that init does nothing.
func init() {
	if err := dqlite.ConfigMultiThread(); err != nil {
		panic(fmt.Sprintf("make SQLite safe for threads: %v", err))
	}
}
