package instance

import (
	"context"
	"fmt"

	"sett/lxd/device"
	"sett/shared/errs"
	"sett/shared/undo"
)

// joinAll lets every device settle what it keeps from its first day on: addresses
// that must be free, names inside. What it took is pushed on u.
func (s *Service) joinAll(ctx context.Context, i *Instance, u *undo.Stack) error {
	devs := i.ExpandedDevices()
	for _, name := range deviceOrder(devs) {
		if err := s.join(ctx, i, name, devs[name], u); err != nil {
			return fmt.Errorf("device %q: %w", name, err)
		}
	}
	return nil
}

// join is joinAll for one device; one that has nothing to settle is left alone.
func (s *Service) join(ctx context.Context, i *Instance, name string, c map[string]string, u *undo.Stack) error {
	if c["type"] == "disk" && c["path"] == "/" {
		return nil
	}
	d, err := s.newDevice(i, name, c, 0, s.mapOf(i), nil)
	if err != nil {
		return err
	}
	a, ok := d.(device.Adder)
	if !ok {
		return nil
	}
	if err := a.Add(ctx); err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := s.cleanup()
		defer cancel()
		return s.leave(ctx, i, name, c)
	})
	return nil
}

// leave has a device forget what it keeps outside of the instance.
func (s *Service) leave(ctx context.Context, i *Instance, name string, c map[string]string) error {
	if c["type"] == "disk" && c["path"] == "/" {
		return nil
	}
	d, err := s.newDevice(i, name, c, 0, s.mapOf(i), func(context.Context, map[string]string) error { return nil })
	if errs.Is(err, errs.KindNotFound) || errs.Is(err, errs.KindNotImplemented) {
		return nil // what it referred to is gone; so is what it held there
	}
	if err != nil {
		return err
	}
	if r, ok := d.(device.Remover); ok {
		return r.Remove(ctx)
	}
	return nil
}

// sweep removes what devices that are not the instance's hold on the host: a daemon
// died after it had plugged one in, and before that was stored.
func (s *Service) sweep(ctx context.Context, i *Instance) error {
	have := map[string]device.Config{}
	for n, c := range i.ExpandedDevices() {
		have[n] = c
	}
	return s.Devices.Sweep(ctx, device.Instance{Project: i.Project, Name: i.Name, DevicesDir: s.devicesDir(i)}, have)
}

// guestNames are the interface names of an instance's nics but one.
func guestNames(i *Instance, besides string) []string {
	var out []string
	for n, c := range i.ExpandedDevices() {
		if c["type"] != "nic" || n == besides {
			continue
		}
		if v := c["name"]; v != "" {
			out = append(out, v)
		} else if v := i.Config[volatilePrefix+n+".name"]; v != "" {
			out = append(out, v)
		}
	}
	return out
}
