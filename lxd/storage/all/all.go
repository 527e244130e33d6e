// Package all lists the storage drivers of this build.
package all

import (
	"sett/lxd/storage/btrfs"
	"sett/lxd/storage/dir"
	"sett/lxd/storage/driver"
)

// New makes the registry of all drivers.
func New() *driver.Registry { return driver.NewRegistry(btrfs.New(), dir.Kind{}) }
