package driver

import (
	"context"
	"net/netip"

	"sett/lxd/config"
	"sett/lxd/host/netlink"
)

// Spec is one network as a driver sees it.
type Spec struct {
	Name   string            // unique on the host; for most drivers the interface's name
	Config map[string]string // of this member, complete after Fill
	Dir    string            // a private folder for the driver's files; it need not exist
	// Seed is the same for every start of this network and differs between networks
	// and daemons. Addresses that must not change are derived from it.
	Seed string
	// New says that the network is about to be made: Fill gives a value to what is left
	// out, and Start refuses what is not there. In one that exists, what has been taken out
	// stays out, and Start does without what the host has lost since.
	New bool
}

// Lease is one address that the network gave out, or keeps for somebody.
type Lease struct {
	Hostname string
	HWAddr   string // empty for gateways
	Address  netip.Addr
	Type     LeaseType
}

// LeaseType says why an address is taken. The values go over the wire.
type LeaseType string

// The types that LXD 5.0 knows and its bridges have.
const (
	Static  LeaseType = "static"
	Dynamic LeaseType = "dynamic"
	Gateway LeaseType = "gateway"
)

// Host is a device that the network's DHCP and DNS know by name.
type Host struct {
	// Owner names the device, "INSTANCE.DEVICE", with "PROJECT_" before it outside of
	// the default project. It is one file name.
	Owner    string
	Hostname string
	HWAddr   string
	IPv4     netip.Addr // fixed addresses, or invalid
	IPv6     netip.Addr
	// Pick has the driver choose where an address is invalid. It keeps the one that
	// the owner had. In a subnet where guests make their own IPv6 address, the
	// choice is the one that follows from HWAddr.
	PickIPv4, PickIPv6 bool
}

// Driver runs networks of one type. It is safe for concurrent use on different
// networks; calls for one network never overlap, but Leases and State may come
// at any time.
type Driver interface {
	Type() string // "bridge"; the value of a network's type

	// Keys are the configuration keys of the type. c lets a driver look at what is
	// set, for keys that exist only beside others.
	Keys(c map[string]string) config.Table

	// Fill returns a copy of the configuration in which defaults and "auto" have
	// become values. Subnets are picked from what the host's interfaces and routes
	// leave free, and never from used; no packet is sent to find out.
	Fill(ctx context.Context, s Spec, used []netip.Prefix) (map[string]string, error)

	// Validate says what the key table cannot: which values go together. It looks
	// at nothing on the host, so that stored networks can be checked anywhere.
	Validate(s Spec) error

	// Start brings the host to what the Spec says. On a network that runs it repairs
	// what is missing and leaves helpers that are right alone, so that a daemon that
	// restarts interrupts nobody. When it fails, what this call added is gone.
	Start(ctx context.Context, s Spec) error

	// Stop takes the network off the host. It may run twice. Files stay.
	Stop(ctx context.Context, s Spec) error

	// Update moves a running network from one Spec to another of the same name. An
	// address of its own that a host has is a conflict.
	Update(ctx context.Context, old, new Spec) error

	// Delete is Stop, and Dir is gone too. It may run twice.
	Delete(ctx context.Context, s Spec) error

	// State tells how the network's interface does; a not-found error when it has none.
	State(ctx context.Context, s Spec) (netlink.State, error)

	// Leases lists gateways, hosts with fixed addresses and addresses given out.
	Leases(ctx context.Context, s Spec) ([]Lease, error)

	// SetHost makes DHCP and DNS know a device and returns it with what was picked; a
	// second call replaces the first. Addresses and names that another owner has are a
	// conflict. RemoveHost forgets a device and may run twice. Both work while the
	// network is stopped.
	SetHost(ctx context.Context, s Spec, h Host) (Host, error)
	RemoveHost(ctx context.Context, s Spec, owner string) error

	// Close ends supervision and leaves all networks and helpers running.
	Close() error
}
