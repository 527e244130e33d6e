package bridge

import (
	"context"
	"slices"
	"time"

	"sett/lxd/host/dnsmasq"
	"sett/lxd/network/driver"
)

// Leases lists gateways, then fixed addresses, then what DHCP gave out.
func (d *Driver) Leases(ctx context.Context, s driver.Spec) ([]driver.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	hosts, err := known(s)
	if err != nil {
		return nil, err
	}
	out := append(driver.Gateways(s), driver.StaticLeases(hosts)...)
	given, err := dnsmasq.Leases(s.Dir, time.Now())
	if err != nil {
		return nil, err
	}
	for _, l := range given {
		// A fixed address that its owner uses is still that.
		if slices.ContainsFunc(hosts, func(h driver.Host) bool { return h.IPv4 == l.Address || h.IPv6 == l.Address }) {
			continue
		}
		out = append(out, driver.Lease{Hostname: l.Name, HWAddr: l.HWAddr, Address: l.Address, Type: driver.Dynamic})
	}
	return out, nil
}

// SetHost stores a device and tells the server.
func (d *Driver) SetHost(ctx context.Context, s driver.Spec, h driver.Host) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.hosts.Lock()
	defer d.hosts.Unlock()
	others, err := known(s)
	if err != nil {
		return err
	}
	if err := driver.CheckHost(s, h, others); err != nil {
		return err
	}
	if slices.Contains(others, h) {
		return nil
	}
	if err := dnsmasq.WriteHost(s.Dir, dnsmasq.Host{File: h.Owner, HWAddr: h.HWAddr, IPv4: h.IPv4, IPv6: h.IPv6, Name: h.Hostname}); err != nil {
		return err
	}
	return d.servers.Reload(s.Dir)
}

// RemoveHost forgets a device. A lease that DHCP gave it runs out by itself.
func (d *Driver) RemoveHost(ctx context.Context, s driver.Spec, owner string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.hosts.Lock()
	defer d.hosts.Unlock()
	if err := dnsmasq.RemoveHost(s.Dir, owner); err != nil {
		return err
	}
	return d.servers.Reload(s.Dir)
}

func known(s driver.Spec) ([]driver.Host, error) {
	hs, err := dnsmasq.Hosts(s.Dir)
	if err != nil {
		return nil, err
	}
	out := make([]driver.Host, 0, len(hs))
	for _, h := range hs {
		out = append(out, driver.Host{Owner: h.File, Hostname: h.Name, HWAddr: h.HWAddr, IPv4: h.IPv4, IPv6: h.IPv6})
	}
	return out, nil
}
