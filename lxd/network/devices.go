package network

import (
	"context"
	"errors"
	"net/netip"

	"sett/lxd/db"
	"sett/lxd/device"
	"sett/lxd/entity"
	"sett/lxd/network/driver"
	"sett/shared/errs"
)

// Devices is what nics see of networks; the composition root hands it to them.
func (s *Service) Devices() device.Networks { return devices{s} }

type devices struct{ s *Service }

// Network returns a network as seen from a project.
func (v devices) Network(ctx context.Context, project, name string) (device.Network, error) {
	in, err := v.s.effective(ctx, project)
	if err != nil {
		return device.Network{}, err
	}
	n, err := v.s.one(ctx, v.s.DB, in, name)
	if err != nil {
		return device.Network{}, err
	}
	return device.Network{Name: n.Name, Type: n.Type, Config: n.Config, Status: v.s.Status(n)}, nil
}

// effective is the project whose networks a project sees.
func (s *Service) effective(ctx context.Context, project string) (string, error) {
	if project == "" || project == entity.DefaultProject {
		return entity.DefaultProject, nil
	}
	v, err := db.One[valueRow](ctx, s.DB, stmtFeature, project)
	if errors.Is(err, db.ErrNotFound) || err == nil && v.Value != "true" {
		return entity.DefaultProject, nil
	}
	return project, err
}

// SetLease tells the network's driver of a device.
func (v devices) SetLease(ctx context.Context, network string, l device.Lease) (device.Lease, error) {
	n, d, err := v.load(ctx, network)
	if err != nil {
		return l, err
	}
	h := driver.Host{Owner: owner(l), Hostname: l.Instance, HWAddr: l.HWAddr, PickIPv4: l.PickIPv4, PickIPv6: l.PickIPv6}
	for _, f := range []struct {
		text string
		at   *netip.Addr
	}{{l.IPv4, &h.IPv4}, {l.IPv6, &h.IPv6}} {
		if f.text == "" {
			continue
		}
		if *f.at, err = netip.ParseAddr(f.text); err != nil {
			return l, errs.Invalid("%q is not an IP address", f.text)
		}
	}
	h, err = d.SetHost(ctx, v.s.spec(n), h)
	if err != nil {
		return l, err
	}
	l.IPv4, l.IPv6 = text(h.IPv4), text(h.IPv6)
	return l, nil
}

// RemoveLease forgets a device; of a network that is gone there is nothing to forget.
func (v devices) RemoveLease(ctx context.Context, network string, l device.Lease) error {
	n, d, err := v.load(ctx, network)
	if errs.Is(err, errs.KindNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.RemoveHost(ctx, v.s.spec(n), owner(l))
}

func (v devices) load(ctx context.Context, network string) (Network, driver.Driver, error) {
	n, err := v.s.one(ctx, v.s.DB, entity.DefaultProject, network)
	if err != nil {
		return n, nil, err
	}
	d, err := v.s.driver(n.Type)
	return n, d, err
}

// owner is the name of a device's file: "INSTANCE.DEVICE", with the project before
// it outside of the default one.
func owner(l device.Lease) string {
	o := l.Instance + "." + l.Device
	if l.Project != "" && l.Project != entity.DefaultProject {
		o = l.Project + "_" + o
	}
	return o
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
