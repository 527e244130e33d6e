package network

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

func errUnmanaged() error { return errors.New(i18n.G("Only managed networks can be modified")) }

type devices = map[string]map[string]string

// nic builds the device that connects to a network. Unmanaged bridges and plain
// interfaces are named as the parent.
func nic(o *api.Network, interfaceName string) map[string]string {
	if o.Managed {
		d := map[string]string{"type": "nic", "network": o.Name}
		if interfaceName != "" {
			d["name"] = interfaceName
		}
		return d
	}
	d := map[string]string{"type": "nic", "parent": o.Name, "nictype": "macvlan"}
	if o.Type == "bridge" {
		d["nictype"] = "bridged"
	}
	if interfaceName != "" {
		d["name"] = interfaceName
	}
	return d
}

// attachTo adds the device that args ask for: network, owner, [device, [name]].
func attachTo(r cli.Resource, args []string, have devices) error {
	o, _, err := r.Server.GetNetwork(r.Name)
	if err != nil {
		return err
	}
	name, inside := r.Name, ""
	if len(args) > 2 {
		name = args[2]
	}
	if len(args) > 3 {
		inside = args[3]
	}
	if _, ok := have[name]; ok {
		return fmt.Errorf(i18n.G("Device already exists: %s"), name)
	}
	have[name] = nic(o, inside)
	return nil
}

// detachFrom removes the device that args name, or the only one of the network.
func detachFrom(r cli.Resource, args []string, have devices) error {
	name := ""
	if len(args) > 2 {
		name = args[2]
	} else {
		for _, n := range slices.Sorted(maps.Keys(have)) {
			d := have[n]
			if d["type"] != "nic" || d["parent"] != r.Name && d["network"] != r.Name {
				continue
			}
			if name != "" {
				return errors.New(i18n.G("More than one device matches, specify the device name"))
			}
			name = n
		}
	}
	if name == "" {
		return errors.New(i18n.G("No device found for this network"))
	}
	d, ok := have[name]
	if !ok {
		return errors.New(i18n.G("The specified device doesn't exist"))
	}
	if d["type"] != "nic" || d["parent"] != r.Name && d["network"] != r.Name {
		return errors.New(i18n.G("The specified device doesn't match the network"))
	}
	delete(have, name)
	return nil
}

func (n network) onInstance(change func(cli.Resource, []string, devices) error) func(cmd *cobra.Command, args []string) error {
	return func(cmd *cobra.Command, args []string) error {
		r, err := n.named(cmd, args[0])
		if err != nil {
			return err
		}
		inst, etag, err := r.Server.GetInstance(args[1])
		if err != nil {
			return err
		}
		put := inst.Writable()
		if put.Devices == nil {
			put.Devices = devices{}
		}
		if err := change(r, args, put.Devices); err != nil {
			return err
		}
		op, err := r.Server.UpdateInstance(args[1], put, etag)
		if err != nil {
			return err
		}
		return op.Wait()
	}
}

func (n network) onProfile(change func(cli.Resource, []string, devices) error) func(cmd *cobra.Command, args []string) error {
	return func(cmd *cobra.Command, args []string) error {
		r, err := n.named(cmd, args[0])
		if err != nil {
			return err
		}
		o, etag, err := r.Server.GetProfile(args[1])
		if err != nil {
			return err
		}
		put := o.Writable()
		if put.Devices == nil {
			put.Devices = devices{}
		}
		if err := change(r, args, put.Devices); err != nil {
			return err
		}
		return r.Server.UpdateProfile(args[1], put, etag)
	}
}

func (n network) attach() *cobra.Command {
	return cli.Command(cli.Help{
		Use:   "attach " + arg + " <instance> [<device name>] [<interface name>]",
		Short: i18n.G("Attach network interfaces to instances"), Example: "lxc network attach lxdbr0 c1 eth1",
	}, 2, 4, n.onInstance(attachTo))
}

func (n network) attachProfile() *cobra.Command {
	return cli.Command(cli.Help{
		Use:   "attach-profile " + arg + " <profile> [<device name>] [<interface name>]",
		Short: i18n.G("Attach network interfaces to profiles"), Example: "lxc network attach-profile lxdbr0 default eth0",
	}, 2, 4, n.onProfile(attachTo))
}

func (n network) detach() *cobra.Command {
	return cli.Command(cli.Help{
		Use:   "detach " + arg + " <instance> [<device name>]",
		Short: i18n.G("Detach network interfaces from instances"), Example: "lxc network detach lxdbr0 c1 eth1",
	}, 2, 3, n.onInstance(detachFrom))
}

func (n network) detachProfile() *cobra.Command {
	return cli.Command(cli.Help{
		Use:   "detach-profile " + arg + " <profile> [<device name>]",
		Short: i18n.G("Detach network interfaces from profiles"), Example: "lxc network detach-profile lxdbr0 default eth0",
	}, 2, 3, n.onProfile(detachFrom))
}
