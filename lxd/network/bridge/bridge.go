package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sett/lxd/config"
	"sett/lxd/host/dnsmasq"
	"sett/lxd/host/netlink"
	"sett/lxd/host/nft"
	"sett/lxd/host/sysctl"
	"sett/lxd/network/driver"
	"sett/shared/errs"
	"sett/shared/undo"
	"sett/shared/validate"
)

// Driver runs bridges.
type Driver struct {
	log     *slog.Logger
	servers *dnsmasq.Supervisor
	// hosts keeps two devices from taking one address between look and write. The
	// files are few and small, so that one lock for all networks will do. read holds
	// them by folder, because to read hundreds for each start of an instance would
	// show; nobody else writes them.
	hosts sync.Mutex
	read  map[string]map[string]driver.Host // folder -> owner
}

// New makes a driver that logs what happens between calls.
func New(log *slog.Logger) *Driver {
	return &Driver{log: log, servers: dnsmasq.New(log), read: map[string]map[string]driver.Host{}}
}

// Type is "bridge".
func (d *Driver) Type() string { return "bridge" }

// Keys are the keys of a bridge.
func (d *Driver) Keys(map[string]string) config.Table { return keys() }

// Fill picks the addresses.
func (d *Driver) Fill(ctx context.Context, s driver.Spec, used []netip.Prefix) (map[string]string, error) {
	busy, err := netlink.Busy(ctx, s.Name)
	if err != nil {
		return nil, err
	}
	c := maps.Clone(s.Config)
	if v6, err := sysctl.Names("net/ipv6/conf"); err == nil && len(v6) == 0 && c["ipv6.address"] == "" && s.New {
		if c == nil {
			c = map[string]string{}
		}
		c["ipv6.address"] = "none" // a kernel without IPv6
	}
	s.Config = c
	return driver.FillSubnets(s, append(busy, used...))
}

// Validate checks what goes together.
func (d *Driver) Validate(s driver.Spec) error {
	if err := netlink.CheckName(s.Name); err != nil {
		return err
	}
	c := s.Config
	for _, f := range []struct{ addr, ranges config.Key[string] }{{keyIPv4, keyIPv4Ranges}, {keyIPv6, keyIPv6Ranges}} {
		p, ok := prefix(f.addr, c)
		if !ok {
			continue
		}
		for _, r := range list(f.ranges.Get(c)) {
			first, last, err := validate.IPRange(r)
			if err != nil || !p.Contains(first) || !p.Contains(last) {
				return errs.Invalid("Invalid value for %q: %q is not within %s", f.ranges.Name(), r, p.Masked())
			}
		}
	}
	if p, ok := prefix(keyIPv6, c); ok && keyIPv6DHCP.Get(c) && keyStateful.Get(c) && p.Bits() < 64 {
		return errs.Invalid("%q cannot serve %s: dnsmasq gives out addresses in a /64 or a smaller subnet only", keyStateful.Name(), p.Masked())
	}
	return nil
}

// Start makes or repairs the bridge.
func (d *Driver) Start(ctx context.Context, s driver.Spec) error {
	var u undo.Stack
	defer u.Run()
	if err := dnsmasqTest(ctx, s); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o711); err != nil {
		return err
	}
	mac, err := hwaddr(s)
	if err != nil {
		return err
	}
	mtu := int(keyMTU.Get(s.Config))
	made, err := netlink.EnsureBridge(netlink.BridgeSpec{Name: s.Name, HWAddr: mac, MTU: mtu, Owner: owner(s)})
	if err != nil {
		return err
	}
	if made {
		u.Push(func() error { return netlink.DeleteBridge(s.Name, owner(s)) })
		if err := d.sweep(ctx, s); err != nil {
			return err
		}
	}
	if err := setLink(s, mac, mtu); err != nil {
		return err
	}
	if err := d.ports(s, &u); err != nil {
		return err
	}
	// The firewall stands before the first packet is routed.
	if made {
		u.Push(func() error {
			return nft.Remove(context.WithoutCancel(ctx), family, table, chainNames(s.Name)...)
		})
	}
	if err := nft.Replace(ctx, chains(s)); err != nil {
		return err
	}
	if err := setAddresses(s); err != nil {
		return err
	}
	if err := forward(s); err != nil {
		return err
	}
	if err := d.rename(s); err != nil {
		return err
	}
	v, needed := server(s)
	if !needed {
		err = d.servers.Stop(ctx, s.Dir)
	} else {
		err = d.servers.Ensure(ctx, v)
	}
	if err != nil {
		return err
	}
	u.Commit()
	return nil
}

// sweep takes away what bears another name and is this network all the same: a daemon was
// killed while it renamed it.
func (d *Driver) sweep(ctx context.Context, s driver.Spec) error {
	names, err := netlink.Owned(owner(s))
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == s.Name {
			continue
		}
		d.log.Warn("Removing a bridge that a renaming has left", "network", s.Name, "bridge", n)
		left := s
		left.Name, left.Dir = n, filepath.Join(filepath.Dir(s.Dir), n)
		if err := d.Delete(ctx, left); err != nil {
			return err
		}
	}
	return nil
}

func dnsmasqTest(ctx context.Context, s driver.Spec) error {
	raw := keyRaw.Get(s.Config)
	if raw == "" {
		return nil
	}
	if err := dnsmasq.Test(ctx, raw); err != nil {
		return errs.Wrap(errs.KindOf(err), errs.Invalid("Invalid value for %q: %v", keyRaw.Name(), err))
	}
	return nil
}

// hwaddr is the address of the bridge. Without one of its own a bridge takes the
// lowest of its ports' and changes it with them, and guests lose their gateway.
func hwaddr(s driver.Spec) (net.HardwareAddr, error) {
	for _, k := range []config.Key[string]{keyHWAddr, keyVolatileHWAddr} {
		if v := k.Get(s.Config); v != "" {
			return net.ParseMAC(v)
		}
	}
	sum := sha256.Sum256([]byte("bridge\x00" + s.Seed + "\x00" + s.Name))
	return net.HardwareAddr{0x00, 0x16, 0x3e, sum[0], sum[1], sum[2]}, nil
}

// owner names the network on this machine, whatever its name and its daemon's folder.
func owner(s driver.Spec) string {
	if s.Seed == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("owner\x00" + s.Seed))
	return hex.EncodeToString(sum[:8])
}

// Stop takes the bridge off the host.
func (d *Driver) Stop(ctx context.Context, s driver.Spec) error {
	d.forget(s)
	if err := d.servers.Stop(ctx, s.Dir); err != nil {
		return err
	}
	if netlink.Foreign(s.Name, owner(s)) {
		return nil // another daemon has made one of that name; the rules are its too
	}
	if err := letGo(s.Name, list(keyExternal.Get(s.Config)), nil); err != nil {
		return err
	}
	if err := netlink.DeleteBridge(s.Name, owner(s)); err != nil {
		return err
	}
	return nft.Remove(ctx, family, table, chainNames(s.Name)...)
}

// Update lets go of ports that are not wanted any more, and starts with the new
// configuration. When that fails the old one comes back.
func (d *Driver) Update(ctx context.Context, old, new driver.Spec) error {
	if err := present(old, new); err != nil {
		return err
	}
	hosts, err := known(new)
	if err == nil {
		err = driver.CheckGateways(new, hosts)
	}
	if err != nil {
		return err
	}
	err = letGo(old.Name, list(keyExternal.Get(old.Config)), list(keyExternal.Get(new.Config)))
	if err == nil {
		err = d.Start(ctx, new)
	}
	if err == nil {
		return nil
	}
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if berr := d.Start(back, old); berr != nil {
		return errs.Wrap(errs.KindOf(err), errs.Internal("%w (and the configuration before cannot be restored: %v)", err, berr))
	}
	return err
}

// Delete stops the bridge and removes its files.
func (d *Driver) Delete(ctx context.Context, s driver.Spec) error {
	if err := d.Stop(ctx, s); err != nil {
		return err
	}
	d.hosts.Lock()
	defer d.hosts.Unlock()
	delete(d.read, s.Dir)
	return os.RemoveAll(s.Dir)
}

// State is that of the interface.
func (d *Driver) State(ctx context.Context, s driver.Spec) (netlink.State, error) {
	return netlink.Get(ctx, s.Name)
}

// Close leaves the servers running.
func (d *Driver) Close() error { return d.servers.Close() }
