package profile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/lxc/device"
	"sett/shared/api"
	"sett/shared/i18n"
)

// Command builds "lxc profile".
func Command(a *cli.App) *cobra.Command {
	p := profile{a}
	k := p.keys()
	return cli.Noun(cli.Help{Use: "profile", Short: i18n.G("Manage profiles")},
		p.add(), p.assign(), p.copy(), p.create(), p.delete(), device.Command(a, p.owner()),
		cli.Command(cli.Help{
			Use: "edit " + arg, Short: i18n.G("Edit profile configurations as YAML"),
			Example: "lxc profile edit default\nlxc profile edit default < default.yaml",
		}, 1, 1, k.Edit(i18n.G("This is the profile as YAML.\nLines that begin with # are skipped.\n\nA sample:\n\nname: onenic\nconfig:\n  limits.cpu: \"2\"\ndescription: Two processors, one network card\ndevices:\n  eth0:\n    network: lxdbr0\n    type: nic\n\nThe name is shown but cannot be changed here."))),
		cli.Command(cli.Help{
			Use: "get " + arg + " <key>", Short: i18n.G("Get values for profile configuration keys"),
			Example: "lxc profile get default limits.cpu",
		}, 2, 2, k.Get),
		p.list(), p.remove(), p.rename(),
		cli.Command(cli.Help{
			Use: "set " + arg + " <key>=<value>...", Short: i18n.G("Set profile configuration keys"),
			Long: i18n.G("A single key may also be given as <key> <value>."), Example: "lxc profile set default limits.cpu=2",
		}, 2, -1, k.Set),
		p.show(),
		cli.Command(cli.Help{
			Use: "unset " + arg + " <key>", Short: i18n.G("Unset profile configuration keys"),
			Example: "lxc profile unset default limits.cpu",
		}, 2, 2, k.Unset),
	)
}

type profile struct{ *cli.App }

const (
	arg         = "[<remote>:]<profile>"
	instanceArg = "[<remote>:]<instance>"
)

func (p profile) keys() cli.Keys[api.ProfilePut] {
	return cli.Keys[api.ProfilePut]{
		App: p.App, Missing: i18n.G("Missing profile name"),
		Load: func(_ *cobra.Command, r cli.Resource) (api.ProfilePut, string, error) {
			o, etag, err := r.Server.GetProfile(r.Name)
			if err != nil {
				return api.ProfilePut{}, "", err
			}
			return o.Writable(), etag, nil
		},
		Store: func(_ *cobra.Command, r cli.Resource, put api.ProfilePut, etag string) error {
			return r.Server.UpdateProfile(r.Name, put, etag)
		},
		Config: func(put *api.ProfilePut) *map[string]string { return &put.Config },
	}
}

func (p profile) owner() device.Owner {
	return device.Owner{
		Arg: arg, Path: "profile device", Missing: i18n.G("Missing profile name"),
		Load: func(_ *cobra.Command, r cli.Resource) (own, inherited device.Devices, store func(device.Devices) error, err error) {
			o, etag, err := r.Server.GetProfile(r.Name)
			if err != nil {
				return nil, nil, nil, err
			}
			return o.Devices, nil, func(d device.Devices) error {
				put := o.Writable()
				put.Devices = d
				return r.Server.UpdateProfile(r.Name, put, etag)
			}, nil
		},
	}
}

// setProfiles replaces the profiles of an instance.
func (p profile) setProfiles(r cli.Resource, change func([]string) ([]string, error)) error {
	inst, etag, err := r.Server.GetInstance(r.Name)
	if err != nil {
		return err
	}
	put := inst.Writable()
	if put.Profiles, err = change(put.Profiles); err != nil {
		return err
	}
	return p.Wait(r.Server.UpdateInstance(r.Name, put, etag))
}

func (p profile) add() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "add " + instanceArg + " <profile>", Short: i18n.G("Add profiles to instances"), Example: "lxc profile add c1 big",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := p.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		err = p.setProfiles(r, func(have []string) ([]string, error) { return append(have, args[1]), nil })
		if err != nil {
			return err
		}
		p.Say(i18n.G("Profile %s added to %s"), args[1], r.Name)
		return nil
	})
}

func (p profile) remove() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "remove " + instanceArg + " <profile>", Short: i18n.G("Remove profiles from instances"), Example: "lxc profile remove c1 big",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := p.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		err = p.setProfiles(r, func(have []string) ([]string, error) {
			i := slices.Index(have, args[1])
			if i < 0 {
				return nil, fmt.Errorf(i18n.G("Profile %s isn't currently applied to %s"), args[1], r.Name)
			}
			return slices.Delete(have, i, i+1), nil
		})
		if err != nil {
			return err
		}
		p.Say(i18n.G("Profile %s removed from %s"), args[1], r.Name)
		return nil
	})
}

func (p profile) assign() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "assign " + instanceArg + " <profiles>", Aliases: []string{"apply"},
		Short:   i18n.G("Assign sets of profiles to instances"),
		Long:    i18n.G("The profiles replace those that the instance has; an empty list removes all."),
		Example: "lxc profile assign c1 default,big\nlxc profile assign c1 ''",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := p.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		profiles := []string{}
		if args[1] != "" {
			profiles = strings.Split(args[1], ",")
		}
		if err := p.setProfiles(r, func([]string) ([]string, error) { return profiles, nil }); err != nil {
			return err
		}
		shown := args[1]
		if shown == "" {
			shown = i18n.G("(none)")
		}
		p.Say(i18n.G("Profiles %s applied to %s"), shown, r.Name)
		return nil
	})
}

func (p profile) copy() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use: "copy " + arg + " " + arg, Aliases: []string{"cp"},
		Short: i18n.G("Copy profiles"), Example: "lxc profile copy default big",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		from, err := p.Named(cmd, args[0], i18n.G("Missing source profile name"))
		if err != nil {
			return err
		}
		to, err := p.Resource(cmd, args[1])
		if err != nil {
			return err
		}
		if to.Name == "" {
			to.Name = from.Name
		}
		src, _, err := from.Server.GetProfile(from.Name)
		if err != nil {
			return err
		}
		return to.Server.CreateProfile(api.ProfilesPost{ProfilePut: src.Writable(), Name: to.Name})
	})
	cli.Later(cmd, "target-project=")
	return cmd
}

func (p profile) create() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "create " + arg, Short: i18n.G("Create profiles"), Example: "lxc profile create big",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := p.Named(cmd, args[0], i18n.G("Missing profile name"))
		if err != nil {
			return err
		}
		if err := r.Server.CreateProfile(api.ProfilesPost{Name: r.Name}); err != nil {
			return err
		}
		p.Say(i18n.G("Profile %s created"), r.Name)
		return nil
	})
}

func (p profile) delete() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "delete " + arg, Aliases: []string{"rm"}, Short: i18n.G("Delete profiles"), Example: "lxc profile delete big",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := p.Named(cmd, args[0], i18n.G("Missing profile name"))
		if err != nil {
			return err
		}
		if err := r.Server.DeleteProfile(r.Name); err != nil {
			return err
		}
		p.Say(i18n.G("Profile %s deleted"), r.Name)
		return nil
	})
}

func (p profile) rename() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "rename " + arg + " <new-name>", Aliases: []string{"mv"}, Short: i18n.G("Rename profiles"), Example: "lxc profile rename big huge",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := p.Named(cmd, args[0], i18n.G("Missing profile name"))
		if err != nil {
			return err
		}
		if err := r.Server.RenameProfile(r.Name, api.ProfilePost{Name: args[1]}); err != nil {
			return err
		}
		p.Say(i18n.G("Profile %s renamed to %s"), r.Name, args[1])
		return nil
	})
}

func (p profile) show() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "show " + arg, Short: i18n.G("Show profile configurations"), Example: "lxc profile show default",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := p.Named(cmd, args[0], i18n.G("Missing profile name"))
		if err != nil {
			return err
		}
		o, _, err := r.Server.GetProfile(r.Name)
		if err != nil {
			return err
		}
		return p.ShowYAML(o)
	})
}

func (p profile) list() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:]", Aliases: []string{"ls"}, Short: i18n.G("List profiles"), Example: "lxc profile list -f csv",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := p.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		profiles, err := r.Server.GetProfiles()
		if err != nil {
			return err
		}
		t := cli.Table{Header: []string{i18n.G("NAME"), i18n.G("DESCRIPTION"), i18n.G("USED BY")}, Raw: profiles}
		for _, o := range profiles {
			t.Rows = append(t.Rows, []string{o.Name, o.Description, strconv.Itoa(len(o.UsedBy))})
		}
		cli.SortRows(t.Rows)
		return t.Render(p.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}
