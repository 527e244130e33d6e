package network

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
	"sett/shared/units"
)

const arg = "[<remote>:]<network>"

// Command builds "lxc network".
func Command(a *cli.App) *cobra.Command {
	n := network{a}
	k := n.keys()
	set := cli.Command(cli.Help{
		Use: "set " + arg + " <key>=<value>...", Short: i18n.G("Set network configuration keys"),
		Long: i18n.G("A single key may also be given as <key> <value>."), Example: "lxc network set lxdbr0 ipv4.nat=true",
	}, 2, -1, k.Set)
	get := cli.Command(cli.Help{
		Use: "get " + arg + " <key>", Short: i18n.G("Get values for network configuration keys"),
		Example: "lxc network get lxdbr0 ipv4.address",
	}, 2, 2, k.Get)
	unset := cli.Command(cli.Help{
		Use: "unset " + arg + " <key>", Short: i18n.G("Unset network configuration keys"),
		Example: "lxc network unset lxdbr0 ipv4.nat",
	}, 2, 2, k.Unset)
	for _, c := range []*cobra.Command{set, get, unset} {
		cli.Target(c)
	}
	edit := cli.Command(cli.Help{
		Use: "edit " + arg, Short: i18n.G("Edit network configurations as YAML"),
		Example: "lxc network edit lxdbr0\nlxc network edit lxdbr0 < lxdbr0.yaml",
	}, 1, 1, k.Edit(i18n.G("This is the network as YAML.\nLines that begin with # are skipped.\n\nA sample:\n\nconfig:\n  ipv4.address: 10.62.42.1/24\n  ipv4.nat: \"true\"\n  ipv6.address: none\n\nOnly the configuration and the description can be changed.")))
	return cli.Noun(cli.Help{Use: "network", Short: i18n.G("Manage and attach instances to networks")},
		n.attach(), n.attachProfile(), n.create(), n.delete(), n.detach(), n.detachProfile(), edit, get,
		n.info(), n.list(), n.leases(), n.rename(), set, n.show(), unset)
}

type network struct{ *cli.App }

func (n network) named(cmd *cobra.Command, arg string) (cli.Resource, error) {
	return n.Named(cmd, arg, i18n.G("Missing network name"))
}

func (n network) keys() cli.Keys[api.NetworkPut] {
	return cli.Keys[api.NetworkPut]{
		App: n.App, Missing: i18n.G("Missing network name"), SilentUnset: true,
		Load: func(_ *cobra.Command, r cli.Resource) (api.NetworkPut, string, error) {
			o, etag, err := r.Server.GetNetwork(r.Name)
			if err != nil {
				return api.NetworkPut{}, "", err
			}
			return o.Writable(), etag, nil
		},
		Store: func(_ *cobra.Command, r cli.Resource, put api.NetworkPut, etag string) error {
			if o, _, err := r.Server.GetNetwork(r.Name); err != nil {
				return err
			} else if !o.Managed {
				return errUnmanaged()
			}
			return r.Server.UpdateNetwork(r.Name, put, etag)
		},
		Config: func(put *api.NetworkPut) *map[string]string { return &put.Config },
	}
}

func (n network) create() *cobra.Command {
	var kind string
	cmd := cli.Command(cli.Help{
		Use: "create " + arg + " [key=value...]", Short: i18n.G("Create new networks"),
		Example: "lxc network create br1\nlxc network create br2 --type=bridge ipv4.address=10.62.42.1/24 ipv6.address=none",
	}, 1, -1, func(cmd *cobra.Command, args []string) error {
		r, err := n.named(cmd, args[0])
		if err != nil {
			return err
		}
		req := api.NetworksPost{Name: r.Name, Type: kind}
		if req.Config, err = cli.Pairs(args[1:]); err != nil {
			return err
		}
		if err := r.Server.CreateNetwork(req); err != nil {
			return err
		}
		if r.Target != "" { // it is made when all members have been told
			n.Say(i18n.G("Network %s pending on member %s"), r.Name, r.Target)
			return nil
		}
		n.Say(i18n.G("Network %s created"), r.Name)
		return nil
	})
	cmd.Flags().StringVarP(&kind, "type", "t", "", i18n.G("Network type")+"``")
	cli.Target(cmd)
	return cmd
}

func (n network) delete() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "delete " + arg, Aliases: []string{"rm"}, Short: i18n.G("Delete networks"), Example: "lxc network delete br1",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := n.named(cmd, args[0])
		if err != nil {
			return err
		}
		if err := r.Server.DeleteNetwork(r.Name); err != nil {
			return err
		}
		n.Say(i18n.G("Network %s deleted"), r.Name)
		return nil
	})
}

func (n network) rename() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "rename " + arg + " <new-name>", Aliases: []string{"mv"}, Short: i18n.G("Rename networks"), Example: "lxc network rename br1 br9",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := n.named(cmd, args[0])
		if err != nil {
			return err
		}
		if err := r.Server.RenameNetwork(r.Name, api.NetworkPost{Name: args[1]}); err != nil {
			return err
		}
		n.Say(i18n.G("Network %s renamed to %s"), r.Name, args[1])
		return nil
	})
}

func (n network) show() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use: "show " + arg, Short: i18n.G("Show network configurations"), Example: "lxc network show lxdbr0",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := n.named(cmd, args[0])
		if err != nil {
			return err
		}
		o, _, err := r.Server.GetNetwork(r.Name)
		if err != nil {
			return err
		}
		slices.Sort(o.UsedBy)
		return n.ShowYAML(o)
	})
	cli.Target(cmd)
	return cmd
}

func (n network) list() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:]", Aliases: []string{"ls"}, Short: i18n.G("List available networks"), Example: "lxc network list",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := n.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		networks, err := r.Server.GetNetworks()
		if err != nil {
			return err
		}
		t := cli.Table{Header: []string{
			i18n.G("NAME"), i18n.G("TYPE"), i18n.G("MANAGED"), i18n.G("IPV4"), i18n.G("IPV6"),
			i18n.G("DESCRIPTION"), i18n.G("USED BY"), i18n.G("STATE"),
		}, Raw: networks}
		for _, o := range networks {
			if o.Type == "loopback" || o.Type == "unknown" {
				continue
			}
			managed := i18n.G("NO")
			if o.Managed {
				managed = i18n.G("YES")
			}
			t.Rows = append(t.Rows, []string{
				o.Name, o.Type, managed, o.Config["ipv4.address"], o.Config["ipv6.address"],
				o.Description, strconv.Itoa(len(o.UsedBy)), strings.ToUpper(o.Status),
			})
		}
		cli.SortRows(t.Rows)
		return t.Render(n.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

func (n network) leases() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list-leases " + arg, Short: i18n.G("List DHCP leases"), Example: "lxc network list-leases lxdbr0",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := n.named(cmd, args[0])
		if err != nil {
			return err
		}
		leases, err := r.Server.GetNetworkLeases(r.Name)
		if err != nil {
			return err
		}
		clustered := r.Server.IsClustered()
		t := cli.Table{Header: []string{i18n.G("HOSTNAME"), i18n.G("MAC ADDRESS"), i18n.G("IP ADDRESS"), i18n.G("TYPE")}, Raw: leases}
		if clustered {
			t.Header = append(t.Header, i18n.G("LOCATION"))
		}
		for _, l := range leases {
			row := []string{l.Hostname, l.Hwaddr, l.Address, strings.ToUpper(l.Type)}
			if clustered {
				row = append(row, l.Location)
			}
			t.Rows = append(t.Rows, row)
		}
		cli.SortRows(t.Rows)
		return t.Render(n.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

func (n network) info() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use: "info " + arg, Short: i18n.G("Get runtime information on networks"), Example: "lxc network info lxdbr0",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := n.named(cmd, args[0])
		if err != nil {
			return err
		}
		s, err := r.Server.GetNetworkState(r.Name)
		if err != nil {
			return err
		}
		n.showState(r.Name, s)
		return nil
	})
	cli.Target(cmd)
	return cmd
}

func (n network) showState(name string, s *api.NetworkState) {
	n.Printf(i18n.G("Name: %s\n"), name)
	n.Printf(i18n.G("MAC address: %s\n"), s.Hwaddr)
	n.Printf(i18n.G("MTU: %d\n"), s.Mtu)
	n.Printf(i18n.G("State: %s\n"), s.State)
	n.Printf(i18n.G("Type: %s\n"), s.Type)
	if len(s.Addresses) > 0 {
		n.Println()
		n.Println(i18n.G("IP addresses:"))
		for _, a := range s.Addresses {
			n.Printf("  %s\t%s/%s (%s)\n", a.Family, a.Address, a.Netmask, a.Scope)
		}
	}
	n.Println()
	n.Println(i18n.G("Network usage:"))
	n.Printf("  %s: %s\n", i18n.G("Bytes received"), units.GetByteSizeString(s.Counters.BytesReceived, 2))
	n.Printf("  %s: %s\n", i18n.G("Bytes sent"), units.GetByteSizeString(s.Counters.BytesSent, 2))
	n.Printf("  %s: %d\n", i18n.G("Packets received"), s.Counters.PacketsReceived)
	n.Printf("  %s: %d\n", i18n.G("Packets sent"), s.Counters.PacketsSent)
	if b := s.Bond; b != nil {
		n.Println()
		n.Println(i18n.G("Bond:"))
		n.Printf("  %s: %s\n", i18n.G("Mode"), b.Mode)
		n.Printf("  %s: %s\n", i18n.G("Transmit policy"), b.TransmitPolicy)
		n.Printf("  %s: %d\n", i18n.G("Up delay"), b.UpDelay)
		n.Printf("  %s: %d\n", i18n.G("Down delay"), b.DownDelay)
		n.Printf("  %s: %d\n", i18n.G("MII Frequency"), b.MIIFrequency)
		n.Printf("  %s: %s\n", i18n.G("MII state"), b.MIIState)
		n.Printf("  %s: %s\n", i18n.G("Lower devices"), strings.Join(b.LowerDevices, ", "))
	}
	if b := s.Bridge; b != nil {
		n.Println()
		n.Println(i18n.G("Bridge:"))
		n.Printf("  %s: %s\n", i18n.G("ID"), b.ID)
		n.Printf("  %s: %v\n", i18n.G("STP"), b.STP)
		n.Printf("  %s: %d\n", i18n.G("Forward delay"), b.ForwardDelay)
		n.Printf("  %s: %d\n", i18n.G("Default VLAN ID"), b.VLANDefault)
		n.Printf("  %s: %v\n", i18n.G("VLAN filtering"), b.VLANFiltering)
		n.Printf("  %s: %s\n", i18n.G("Upper devices"), strings.Join(b.UpperDevices, ", "))
	}
	if v := s.VLAN; v != nil {
		n.Println()
		n.Println(i18n.G("VLAN:"))
		n.Printf("  %s: %s\n", i18n.G("Lower device"), v.LowerDevice)
		n.Printf("  %s: %d\n", i18n.G("VLAN ID"), v.VID)
	}
	if o := s.OVN; o != nil {
		n.Println()
		n.Println(i18n.G("OVN:"))
		n.Printf("  %s: %s\n", i18n.G("Chassis"), o.Chassis)
	}
}
