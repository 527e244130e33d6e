// Package fake is a network driver that keeps everything in memory. It passes
// the same suite as the real ones, and its steps can be made to fail.
package fake

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"sett/lxd/config"
	"sett/lxd/host/netlink"
	"sett/lxd/network/driver"
	"sett/shared/errs"
)

var keys = config.NewTable(
	config.String("ipv4.address", ""), config.Bool("ipv4.nat", false, config.Live()),
	config.String("ipv6.address", ""), config.Bool("ipv6.nat", false, config.Live()),
	config.Bool("ipv4.dhcp", true), config.Bool("ipv6.dhcp", true),
	config.String("bridge.external_interfaces", "", config.Live(), config.Local()), config.Int("bridge.mtu", 1500), config.Any("user.*", config.Live()),
)

// Driver is the fake. The zero value is not ready; use New.
type Driver struct {
	typ string

	mu      sync.Mutex
	running map[string]driver.Spec
	hosts   map[string]map[string]driver.Host // network -> owner
	fail    map[string]error
	calls   []string
}

// New makes a fake of a type, "bridge" in most tests.
func New(typ string) *Driver {
	return &Driver{typ: typ, running: map[string]driver.Spec{}, hosts: map[string]map[string]driver.Host{}, fail: map[string]error{}}
}

// Fail makes every later call of a method return err, until err is nil.
func (d *Driver) Fail(method string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[method] = err
}

// Calls lists what changed the world, "Start lxdbr0", in order.
func (d *Driver) Calls() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// Running tells whether a network is up, and with which configuration.
func (d *Driver) Running(name string) (driver.Spec, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, ok := d.running[name]
	return s, ok
}

func (d *Driver) step(ctx context.Context, method, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.fail[method]; err != nil {
		return err
	}
	d.calls = append(d.calls, method+" "+name)
	return nil
}

// Type is what New was told.
func (d *Driver) Type() string { return d.typ }

// Keys are a few of a bridge's.
func (d *Driver) Keys(map[string]string) config.Table { return keys }

// Fill picks subnets as a bridge would.
func (d *Driver) Fill(ctx context.Context, s driver.Spec, used []netip.Prefix) (map[string]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail["Fill"]; err != nil {
		return nil, err
	}
	for _, r := range d.running {
		if r.Name != s.Name {
			used = append(used, driver.Subnets(r.Config)...)
		}
	}
	return driver.FillSubnets(s, used)
}

// Validate checks addresses.
func (d *Driver) Validate(s driver.Spec) error {
	for _, k := range []string{"ipv4.address", "ipv6.address"} {
		v := s.Config[k]
		if v == "" || v == "none" || v == "auto" {
			continue
		}
		if _, err := netip.ParsePrefix(v); err != nil {
			return errs.Invalid("Invalid value for %q: %v", k, err)
		}
	}
	return nil
}

// Start remembers the network.
func (d *Driver) Start(ctx context.Context, s driver.Spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(ctx, "Start", s.Name); err != nil {
		return err
	}
	s.Config = maps.Clone(s.Config)
	d.running[s.Name] = s
	return nil
}

// Stop forgets it.
func (d *Driver) Stop(ctx context.Context, s driver.Spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(ctx, "Stop", s.Name); err != nil {
		return err
	}
	delete(d.running, s.Name)
	return nil
}

// Update replaces the configuration.
func (d *Driver) Update(ctx context.Context, old, new driver.Spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := driver.CheckGateways(new, slices.Collect(maps.Values(d.hosts[new.Name]))); err != nil {
		return err
	}
	if err := d.step(ctx, "Update", new.Name); err != nil {
		return err
	}
	new.Config = maps.Clone(new.Config)
	d.running[new.Name] = new
	return nil
}

// Delete forgets network and hosts.
func (d *Driver) Delete(ctx context.Context, s driver.Spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(ctx, "Delete", s.Name); err != nil {
		return err
	}
	delete(d.running, s.Name)
	delete(d.hosts, s.Name)
	return nil
}

// State shows the configured addresses.
func (d *Driver) State(ctx context.Context, s driver.Spec) (netlink.State, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.running[s.Name]
	if !ok {
		return netlink.State{}, errs.NotFound("Network interface %q not found", s.Name)
	}
	st := netlink.State{Name: s.Name, HWAddr: "00:16:3e:00:00:01", MTU: 1500, Up: true, Type: "broadcast", Kind: "bridge"}
	for k, family := range map[string]string{"ipv4.address": "inet", "ipv6.address": "inet6"} {
		if p, err := netip.ParsePrefix(r.Config[k]); err == nil {
			st.Addresses = append(st.Addresses, netlink.Address{Family: family, Address: p.Addr().String(), Netmask: fmt.Sprint(p.Bits()), Scope: "global"})
		}
	}
	slices.SortFunc(st.Addresses, func(a, b netlink.Address) int { return strings.Compare(a.Family, b.Family) })
	return st, nil
}

// Leases lists gateways and fixed addresses.
func (d *Driver) Leases(ctx context.Context, s driver.Spec) ([]driver.Lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail["Leases"]; err != nil {
		return nil, err
	}
	return append(driver.Gateways(s), driver.StaticLeases(slices.Collect(maps.Values(d.hosts[s.Name])))...), nil
}

// SetHost remembers a device.
func (d *Driver) SetHost(ctx context.Context, s driver.Spec, h driver.Host) (driver.Host, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	others := slices.Collect(maps.Values(d.hosts[s.Name]))
	h, err := driver.Choose(s, h, others, driver.Inside)
	if err != nil {
		return driver.Host{}, err
	}
	if err := driver.CheckHost(s, h, others); err != nil {
		return driver.Host{}, err
	}
	if err := d.step(ctx, "SetHost", s.Name); err != nil {
		return driver.Host{}, err
	}
	if d.hosts[s.Name] == nil {
		d.hosts[s.Name] = map[string]driver.Host{}
	}
	d.hosts[s.Name][h.Owner] = h
	return h, nil
}

// RemoveHost forgets a device.
func (d *Driver) RemoveHost(ctx context.Context, s driver.Spec, owner string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step(ctx, "RemoveHost", s.Name); err != nil {
		return err
	}
	delete(d.hosts[s.Name], owner)
	return nil
}

// Close does nothing.
func (d *Driver) Close() error { return nil }
