package drivertest

import (
	"context"

	"sett/lxd/host/netlink"
)

type netlinkAddress = netlink.Address

func cleanupContext() context.Context { return context.Background() }
