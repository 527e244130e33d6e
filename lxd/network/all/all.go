// Package all is the list of network drivers.
package all

import (
	"log/slog"

	"sett/lxd/network/bridge"
	"sett/lxd/network/driver"
)

// Drivers makes one driver of every type. They log what happens between calls.
func Drivers(log *slog.Logger) []driver.Driver {
	return []driver.Driver{bridge.New(log)}
}
