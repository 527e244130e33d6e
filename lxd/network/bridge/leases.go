package bridge

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sett/lxd/host/dnsmasq"
	"sett/lxd/network/driver"
	"sett/shared/validate"
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
	named := slices.Clone(hosts)
	for i := range named {
		named[i].Hostname = instanceOf(named[i].Owner)
	}
	out := append(driver.Gateways(s), driver.StaticLeases(named)...)
	out = append(out, guessed(s, named)...)
	given, err := dnsmasq.Leases(s.Dir, time.Now())
	if err != nil {
		return nil, err
	}
	for _, l := range given {
		// A fixed address that its owner uses is still that.
		if slices.ContainsFunc(out, func(o driver.Lease) bool { return o.Address == l.Address }) {
			continue
		}
		out = append(out, driver.Lease{Hostname: l.Name, HWAddr: l.HWAddr, Address: l.Address, Type: driver.Dynamic})
	}
	return out, nil
}

// SetHost stores a device and tells the server.
func (d *Driver) SetHost(ctx context.Context, s driver.Spec, h driver.Host) (driver.Host, error) {
	if err := ctx.Err(); err != nil {
		return driver.Host{}, err
	}
	d.hosts.Lock()
	defer d.hosts.Unlock()
	cached, err := d.cached(s)
	if err != nil {
		return driver.Host{}, err
	}
	others := slices.Collect(maps.Values(cached))
	if keyDNSMode.Get(s.Config) != "managed" {
		h.Hostname = "" // DNS says what guests say, or nothing
	}
	// Who has an address already is best served with that one: a filter for another
	// would cut it off until it asks again.
	if h.PickIPv4 && !h.IPv4.IsValid() && !slices.ContainsFunc(others, func(o driver.Host) bool { return o.Owner == h.Owner && o.IPv4.IsValid() }) {
		if h.IPv4, err = leased(s, h.HWAddr, others); err != nil {
			return driver.Host{}, err
		}
	}
	taken := others
	if h.PickIPv4 || h.PickIPv6 {
		// The server refuses to give out what somebody else has a lease for.
		if taken, err = withLeases(s, h, others); err != nil {
			return driver.Host{}, err
		}
	}
	h, err = driver.Choose(s, h, taken, func(p netip.Prefix) (first, last netip.Addr) { return pool(p, s.Config) })
	if err != nil {
		return driver.Host{}, err
	}
	if err := driver.CheckHost(s, h, others); err != nil {
		return driver.Host{}, err
	}
	if slices.Contains(others, h) {
		return h, nil
	}
	if err := dnsmasq.WriteHost(s.Dir, dnsmasq.Host{File: h.Owner, HWAddr: h.HWAddr, IPv4: h.IPv4, IPv6: h.IPv6, Name: h.Hostname}); err != nil {
		return driver.Host{}, err
	}
	_, had := cached[h.Owner]
	cached[h.Owner] = h
	if !had {
		return h, nil // the server sees new files by itself
	}
	return h, d.servers.Reload(s.Dir)
}

// cached are the known devices by owner; the caller holds the lock and may change it
// along with the files.
func (d *Driver) cached(s driver.Spec) (map[string]driver.Host, error) {
	if m := d.read[s.Dir]; m != nil {
		return m, nil
	}
	all, err := known(s)
	if err != nil {
		return nil, err
	}
	m := make(map[string]driver.Host, len(all))
	for _, h := range all {
		m[h.Owner] = h
	}
	d.read[s.Dir] = m
	return m, nil
}

// forget drops what is cached: the folder may move, or be another one, after this.
func (d *Driver) forget(s driver.Spec) {
	d.hosts.Lock()
	defer d.hosts.Unlock()
	delete(d.read, s.Dir)
}

// rename gives the known devices the names that the DNS mode wants, or takes them.
func (d *Driver) rename(s driver.Spec) error {
	d.hosts.Lock()
	defer d.hosts.Unlock()
	hosts, err := dnsmasq.Hosts(s.Dir)
	if err != nil {
		return err
	}
	delete(d.read, s.Dir)
	changed := false
	for _, h := range hosts {
		want := ""
		if keyDNSMode.Get(s.Config) == "managed" {
			want = instanceOf(h.File)
		}
		if h.Name == want {
			continue
		}
		h.Name, changed = want, true
		if err := dnsmasq.WriteHost(s.Dir, h); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	return d.servers.Reload(s.Dir)
}

// leased is the IPv4 address that DHCP gave to a device, if it still fits.
func leased(s driver.Spec, mac string, others []driver.Host) (netip.Addr, error) {
	p, ok := prefix(keyIPv4, s.Config)
	all, err := dnsmasq.Leases(s.Dir, time.Now())
	if err != nil || !ok {
		return netip.Addr{}, err
	}
	for _, l := range all {
		taken := slices.ContainsFunc(others, func(o driver.Host) bool { return o.IPv4 == l.Address })
		if strings.EqualFold(l.HWAddr, mac) && p.Contains(l.Address) && !taken {
			return l.Address, nil
		}
	}
	return netip.Addr{}, nil
}

// withLeases adds those whom DHCP gave an address to, besides the host itself. They
// own nothing: their leases run out.
func withLeases(s driver.Spec, h driver.Host, others []driver.Host) ([]driver.Host, error) {
	all, err := dnsmasq.Leases(s.Dir, time.Now())
	out := slices.Clone(others)
	for _, l := range all {
		if strings.EqualFold(l.HWAddr, h.HWAddr) {
			continue
		}
		if l.Address.Is4() {
			out = append(out, driver.Host{IPv4: l.Address})
		} else {
			out = append(out, driver.Host{IPv6: l.Address})
		}
	}
	return out, err
}

// pool is where fixed addresses are picked from: the first range that DHCP gives
// out, or nothing where guests choose IPv6 addresses themselves.
func pool(p netip.Prefix, c map[string]string) (first, last netip.Addr) {
	k := keyIPv4Ranges
	if p.Addr().Is6() {
		if !keyStateful.Get(c) {
			return first, last
		}
		k = keyIPv6Ranges
	}
	if rs := list(k.Get(c)); len(rs) > 0 {
		if first, last, err := validate.IPRange(rs[0]); err == nil {
			return first, last
		}
	}
	return driver.Inside(p)
}

// RemoveHost forgets a device, and gives back what DHCP gave it: where many instances
// come and go, a subnet would be out of addresses long before their leases are over.
func (d *Driver) RemoveHost(ctx context.Context, s driver.Spec, owner string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.hosts.Lock()
	defer d.hosts.Unlock()
	cached, err := d.cached(s)
	if err != nil {
		return err
	}
	if err := dnsmasq.RemoveHost(s.Dir, owner); err != nil {
		return err
	}
	h := cached[owner]
	delete(cached, owner)
	d.release(ctx, s, h.HWAddr)
	d.servers.ReloadSoon(s.Dir)
	return nil
}

// release gives the IPv4 leases of a MAC address back. It is a favour to those who come
// later: a lease that cannot be given back runs out by itself.
func (d *Driver) release(ctx context.Context, s driver.Spec, mac string) {
	p, ok := prefix(keyIPv4, s.Config)
	if mac == "" || !ok {
		return
	}
	all, err := dnsmasq.Leases(s.Dir, time.Now())
	for _, l := range all {
		if l.Address.Is4() && strings.EqualFold(l.HWAddr, mac) {
			err = errors.Join(err, dnsmasq.Release(ctx, s.Name, p.Addr(), l))
		}
	}
	if err != nil {
		d.log.Debug("Could not give leases back", "network", s.Name, "hwaddr", mac, "err", err)
	}
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

// guessed are the IPv6 addresses that guests make for themselves: no server hears
// of them, but they follow from the MAC address.
func guessed(s driver.Spec, hosts []driver.Host) []driver.Lease {
	p, ok := prefix(keyIPv6, s.Config)
	if !ok || p.Bits() != 64 || keyStateful.Get(s.Config) {
		return nil
	}
	var out []driver.Lease
	for _, h := range hosts {
		mac, err := net.ParseMAC(h.HWAddr)
		if err == nil && len(mac) == 6 && !h.IPv6.IsValid() {
			out = append(out, driver.Lease{Hostname: h.Hostname, HWAddr: h.HWAddr, Address: driver.EUI64(p, mac), Type: driver.Dynamic})
		}
	}
	return out
}

// instanceOf reads the instance's name from [PROJECT_]INSTANCE.DEVICE. No instance's
// name holds a dot or an underscore.
func instanceOf(owner string) string {
	name, _, _ := strings.Cut(owner, ".")
	return name[strings.LastIndex(name, "_")+1:]
}
