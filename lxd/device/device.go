package device

import (
	"context"
	"fmt"
	"slices"
	"sort"

	"sett/lxd/config"
	"sett/lxd/container"
	"sett/lxd/host/idmap"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Config is a device as users write it: "type" and the keys of that type.
type Config map[string]string

// Instance is what a device may know about the instance that it is part of.
type Instance struct {
	Project    string
	Name       string
	Privileged bool
	IDMap      idmap.Map // of the running container, or of the next start
	Path       string    // the instance's folder; its root is Path/rootfs
	DevicesDir string    // a private folder for host-side files of its devices
	PID        int       // of init while it runs, else 0
}

// Env is what a device is given to work with.
type Env struct {
	Instance Instance
	Name     string // of the device
	Config   Config // effective, profiles included

	// GuestNames are the interface names that the instance's other nics have, so
	// that a nic without a name of its own finds a free one.
	GuestNames []string

	// Volatile are the device's own volatile keys without "volatile.NAME.".
	// SaveVolatile stores changes; an empty value removes a key.
	Volatile     map[string]string
	SaveVolatile func(ctx context.Context, changes map[string]string) error

	Services Services
}

// Services are what devices need from the slices. The composition root fills it.
type Services struct {
	Networks Networks
}

// Networks is what a nic needs to know of managed networks.
type Networks interface {
	// Network returns the network as seen from a project, or a not-found error.
	Network(ctx context.Context, project, name string) (Network, error)
	// SetLease makes the network's DHCP server give fixed addresses to the device
	// (empty addresses: just know its name) and returns the lease with what was
	// picked; an address or name that another device has is a conflict.
	// RemoveLease forgets it.
	SetLease(ctx context.Context, network string, l Lease) (Lease, error)
	RemoveLease(ctx context.Context, network string, l Lease) error
}

// Network is a managed network as a nic sees it.
type Network struct {
	Name   string
	Type   string // bridge, ...
	Config map[string]string
	Status string
}

// Lease ties a device to addresses on a managed network.
type Lease struct {
	Project, Instance, Device string
	HWAddr                    string
	IPv4, IPv6                string
	// Pick has the network choose where IPv4 or IPv6 is empty, and keep that choice.
	PickIPv4, PickIPv6 bool
}

// Plug is what a device contributes to a container.
type Plug struct {
	Rootfs *container.Rootfs
	Mounts []container.Mount
	NICs   []container.NIC
	Rules  []container.DeviceRule
}

// Unplug is what has to be taken out of a running container.
type Unplug struct {
	Mounts []string               // targets
	NICs   []Unnic                // interfaces
	Rules  []container.DeviceRule // to be denied again
}

// Unnic names an interface inside and what it is called when it is back.
type Unnic struct{ GuestName, HostName string }

// Device is one device of one instance.
type Device interface {
	// Start prepares the host and says what goes into the container. What it did is
	// pushed on u, which the caller runs when the start fails later.
	Start(ctx context.Context, u *undo.Stack) (Plug, error)

	// Stop says what to take out of a container that goes on running; for one that
	// has stopped the answer is ignored.
	Stop(ctx context.Context) (Unplug, error)

	// PostStop frees what the host holds for the device. It runs after a stop and
	// after an unplug, may run twice, and must succeed when nothing is left.
	PostStop(ctx context.Context) error
}

// Updater is a device that can change some keys while its instance runs.
type Updater interface {
	// Update moves from the old configuration to the one in the device's Env.
	// changed are the names of the keys; all of them are in the kind's LiveKeys.
	Update(ctx context.Context, old Config, changed []string) error
}

// Settler is a device that knows what it was last changed to, so that a change is taken back
// that a daemon did not live to store.
type Settler interface {
	// Settle brings the host to the configuration in the device's Env, in an instance that
	// runs. false: that takes plugging the device in anew.
	Settle(ctx context.Context) (bool, error)
}

// Adder is a device that settles something when it joins an instance, before the
// first start: addresses that have to be free, values that never change again.
type Adder interface {
	Add(ctx context.Context) error // may run again; the device is not in use
}

// Remover is a device that keeps something while its instance is stopped.
type Remover interface {
	Remove(ctx context.Context) error // the device leaves the instance for good
}

// Sweeper is a kind that finds what its devices left on the host without knowing
// their configuration: a daemon died after plugging one in and before storing it.
type Sweeper interface {
	// Sweep removes what devices of the instance hold, except those that have knows.
	// It may run twice.
	Sweep(ctx context.Context, i Instance, have func(name string) bool) error
}

// Kind is a type of device.
type Kind interface {
	Name() string // "nic"; the value of "type"
	// Keys are the keys of this configuration ("type" excluded). Kinds with
	// variants (nictype) look at c to pick the table; ctx and svc let them resolve
	// "network".
	Keys(ctx context.Context, svc Services, project string, c Config) (config.Table, error)
	// Check says what the tables cannot: which keys go together. It sees no
	// instance, because profiles hold devices too.
	Check(ctx context.Context, svc Services, project string, c Config) error
	// HotPlug reports whether such a device can come and go while running.
	HotPlug(c Config) bool
	New(env Env) (Device, error)
}

// Registry is the set of kinds a daemon knows.
type Registry struct{ kinds map[string]Kind }

// NewRegistry makes a registry; two kinds of one name are a bug.
func NewRegistry(kinds ...Kind) *Registry {
	r := &Registry{kinds: map[string]Kind{}}
	for _, k := range kinds {
		if r.kinds[k.Name()] != nil {
			panic(fmt.Sprintf("device kind %q registered twice", k.Name()))
		}
		r.kinds[k.Name()] = k
	}
	return r
}

// Kinds lists the names of all kinds, sorted.
func (r *Registry) Kinds() []string {
	var out []string
	for n := range r.kinds {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// Sweep removes what devices that an instance does not have, or not as this kind,
// left on the host.
func (r *Registry) Sweep(ctx context.Context, i Instance, have map[string]Config) error {
	for _, n := range r.Kinds() {
		w, ok := r.kinds[n].(Sweeper)
		if !ok {
			continue
		}
		if err := w.Sweep(ctx, i, func(name string) bool { return have[name]["type"] == n }); err != nil {
			return fmt.Errorf("left over devices of type %q: %w", n, err)
		}
	}
	return nil
}

// known are the device types of LXD 5.0, so that those not built are told from typing errors.
var known = []string{"none", "nic", "disk", "unix-char", "unix-block", "unix-hotplug", "usb", "gpu", "infiniband", "proxy", "tpm", "pci"}

// Kind finds the kind of a configuration.
func (r *Registry) Kind(name string, c Config) (Kind, error) {
	t := c["type"]
	if t == "" {
		return nil, errs.Invalid("Device %q has no type", name)
	}
	if k := r.kinds[t]; k != nil {
		return k, nil
	}
	if slices.Contains(known, t) {
		return nil, errs.NotImplemented("Device %q: devices of type %q are not implemented", name, t)
	}
	return nil, errs.Invalid("Device %q: unknown type %q", name, t)
}

// Validate checks one device configuration completely.
func (r *Registry) Validate(ctx context.Context, svc Services, project, name string, c Config) error {
	if err := CheckName(name); err != nil {
		return err
	}
	k, err := r.Kind(name, c)
	if err != nil {
		return err
	}
	t, err := k.Keys(ctx, svc, project, c)
	if err != nil {
		return fmt.Errorf("Device %q: %w", name, err)
	}
	vals := map[string]string{}
	for key, v := range c {
		if key != "type" {
			vals[key] = v
		}
	}
	if err := t.Validate(vals); err != nil {
		return fmt.Errorf("Device %q: %w", name, err)
	}
	if err := k.Check(ctx, svc, project, c); err != nil {
		return fmt.Errorf("Device %q: %w", name, err)
	}
	return nil
}

// CheckName refuses names that cannot stand in file names and keys.
func CheckName(name string) error {
	if name == "" {
		return errs.Invalid("A device needs a name")
	}
	if len(name) > 64 {
		return errs.Invalid("Device name %q is longer than 64 characters", name)
	}
	for _, c := range name {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			continue
		}
		return errs.Invalid("Device name %q may hold letters, digits, '-', '_' and '.' only", name)
	}
	if name[0] == '.' {
		return errs.Invalid("Device name %q must not begin with a dot", name)
	}
	return nil
}
