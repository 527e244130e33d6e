// Package all is the list of device kinds.
package all

import (
	"sett/lxd/device"
	"sett/lxd/device/disk"
	"sett/lxd/device/nic"
	"sett/lxd/device/none"
)

// Registry knows every kind that this build has.
func Registry() *device.Registry {
	return device.NewRegistry(none.New(), nic.New(), disk.Kind{})
}
