package settings

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/lxc/device"
	"sett/lxc/trust"
	"sett/shared/api"
	"sett/shared/i18n"
)

// Command builds "lxc config".
func Command(a *cli.App) *cobra.Command {
	c := settings{a}
	return cli.Noun(cli.Help{Use: "config", Short: i18n.G("Manage instance and server configuration options")},
		device.Command(a, c.owner()), c.edit(), c.get(), c.set(), c.show(), c.unset(), c.metadata(), c.template(), trust.Command(a))
}

type settings struct{ *cli.App }

const arg = "[<remote>:]<instance>"

func (c settings) owner() device.Owner {
	return device.Owner{
		Arg: arg, Path: "config device", Missing: i18n.G("Missing instance name"),
		NotOwnGet:    i18n.G("Device from profile(s) cannot be retrieved for individual instance"),
		NotOwnChange: i18n.G("Device from profile(s) cannot be modified for individual instance. Override device or modify profile instead"),
		NotOwnRemove: i18n.G("Device from profile(s) cannot be removed from individual instance. Override device or modify profile instead"),
		Load: func(cmd *cobra.Command, r cli.Resource) (own, inherited device.Devices, store func(device.Devices) error, err error) {
			inst, etag, err := r.Server.GetInstance(r.Name)
			if err != nil {
				return nil, nil, nil, err
			}
			store = func(d device.Devices) error {
				put := inst.Writable()
				put.Devices = d
				return c.update(r, put, etag)
			}
			return inst.Devices, inst.ExpandedDevices, store, nil
		},
	}
}

func (c settings) update(r cli.Resource, put api.InstancePut, etag string) error {
	return c.Wait(r.Server.UpdateInstance(r.Name, put, etag))
}

// updateServer changes server keys; nil values of the map are removed.
func (c settings) updateServer(r cli.Resource, values map[string]string) error {
	s, etag, err := r.Server.GetServer()
	if err != nil {
		return err
	}
	if s.Config == nil {
		s.Config = map[string]any{}
	}
	for k, v := range values {
		if v == "" {
			delete(s.Config, k)
		} else {
			s.Config[k] = v
		}
	}
	return r.Server.UpdateServer(s.Writable(), etag)
}

func (c settings) get() *cobra.Command {
	var expanded bool
	cmd := cli.Command(cli.Help{
		Use:     "get [<remote>:][<instance>] <key>",
		Short:   i18n.G("Get values for instance or server configuration keys"),
		Example: "lxc config get c1 limits.memory\nlxc config get core.https_address",
	}, 1, 2, func(cmd *cobra.Command, args []string) error {
		target, key := "", args[len(args)-1]
		if len(args) > 1 {
			target = args[0]
		}
		r, err := c.Resource(cmd, target)
		if err != nil {
			return err
		}
		if err := r.ServerTarget(); err != nil {
			return err
		}
		if r.Name == "" {
			if expanded {
				return errors.New(i18n.G("--expanded cannot be used with a server"))
			}
			s, _, err := r.Server.GetServer()
			if err != nil {
				return err
			}
			value, ok := s.Config[key]
			if !ok || value == nil {
				value = ""
			}
			c.Printf("%v\n", value)
			return nil
		}
		if inst, snap, ok := strings.Cut(r.Name, "/"); ok {
			s, _, err := r.Server.GetInstanceSnapshot(inst, snap)
			if err != nil {
				return err
			}
			c.Println(pick(expanded, s.Config, s.ExpandedConfig)[key])
			return nil
		}
		inst, _, err := r.Server.GetInstance(r.Name)
		if err != nil {
			return err
		}
		c.Println(pick(expanded, inst.Config, inst.ExpandedConfig)[key])
		return nil
	})
	cmd.Flags().BoolVarP(&expanded, "expanded", "e", false, i18n.G("Use what profiles add, too"))
	cli.Target(cmd)
	return cmd
}

func pick(second bool, a, b map[string]string) map[string]string {
	if second {
		return b
	}
	return a
}

func (c settings) set() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use:   "set [<remote>:][<instance>] <key>=<value>...",
		Short: i18n.G("Set instance or server configuration keys"),
		Long:  i18n.G("A single key may also be given as <key> <value>. The value - is read from stdin."),
		Example: "lxc config set c1 limits.cpu=2 limits.memory=1GiB\n" +
			"lxc config set core.https_address=[::]:8443",
	}, 1, -1, func(cmd *cobra.Command, args []string) error {
		// An instance or a remote comes first unless the first word is a key: it
		// has a value itself, or it is one of exactly two words.
		target := ""
		if isTarget := len(args) > 2 && !strings.Contains(args[0], "=") || len(args) == 2 && strings.Contains(args[1], "=") && !strings.Contains(args[0], "="); isTarget {
			target, args = args[0], args[1:]
		}
		r, err := c.Resource(cmd, target)
		if err != nil {
			return err
		}
		if err := r.ServerTarget(); err != nil {
			return err
		}
		values, err := c.KeyValues(args)
		if err != nil {
			return err
		}
		if r.Name == "" {
			return c.updateServer(r, values)
		}
		inst, etag, err := r.Server.GetInstance(r.Name)
		if err != nil {
			return err
		}
		put := inst.Writable()
		if put.Config == nil {
			put.Config = map[string]string{}
		}
		maps.Copy(put.Config, values) // to the server, an empty value is none
		return c.update(r, put, etag)
	})
	cli.Target(cmd)
	return cmd
}

func (c settings) unset() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use:     "unset [<remote>:][<instance>] <key>",
		Short:   i18n.G("Unset instance or server configuration keys"),
		Example: "lxc config unset c1 limits.memory",
	}, 1, 2, func(cmd *cobra.Command, args []string) error {
		key := args[len(args)-1]
		target := ""
		if len(args) > 1 {
			target = args[0]
		}
		r, err := c.Resource(cmd, target)
		if err != nil {
			return err
		}
		if err := r.ServerTarget(); err != nil {
			return err
		}
		if r.Name == "" {
			return c.updateServer(r, map[string]string{key: ""})
		}
		inst, etag, err := r.Server.GetInstance(r.Name)
		if err != nil {
			return err
		}
		put := inst.Writable()
		if _, ok := put.Config[key]; !ok {
			return fmt.Errorf(i18n.G("Can't unset key '%s', it's not currently set"), key)
		}
		put.Config = maps.Clone(put.Config)
		delete(put.Config, key)
		return c.update(r, put, etag)
	})
	cli.Target(cmd)
	return cmd
}

func (c settings) show() *cobra.Command {
	var expanded bool
	cmd := cli.Command(cli.Help{
		Use:     "show [<remote>:][<instance>[/<snapshot>]]",
		Short:   i18n.G("Show instance or server configurations"),
		Example: "lxc config show c1 --expanded",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		if err := r.ServerTarget(); err != nil {
			return err
		}
		if r.Name == "" {
			if expanded {
				return errors.New(i18n.G("--expanded cannot be used with a server"))
			}
			s, _, err := r.Server.GetServer()
			if err != nil {
				return err
			}
			return c.ShowYAML(s.Writable())
		}
		if inst, snap, ok := strings.Cut(r.Name, "/"); ok {
			s, _, err := r.Server.GetInstanceSnapshot(inst, snap)
			if err != nil {
				return err
			}
			if expanded {
				s.Config, s.Devices = s.ExpandedConfig, s.ExpandedDevices
			}
			return c.ShowYAML(s)
		}
		inst, _, err := r.Server.GetInstance(r.Name)
		if err != nil {
			return err
		}
		put := inst.Writable()
		if expanded {
			put.Config, put.Devices = inst.ExpandedConfig, inst.ExpandedDevices
		}
		return c.ShowYAML(put)
	})
	cmd.Flags().BoolVarP(&expanded, "expanded", "e", false, i18n.G("Show what profiles add, too"))
	cli.Target(cmd)
	return cmd
}

func (c settings) edit() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use:     "edit [<remote>:][<instance>[/<snapshot>]]",
		Short:   i18n.G("Edit instance or server configurations as YAML"),
		Example: "lxc config edit c1\nlxc config edit c1 < c1.yaml",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		if err := r.ServerTarget(); err != nil {
			return err
		}
		if r.Name == "" {
			s, etag, err := r.Server.GetServer()
			if err != nil {
				return err
			}
			help := i18n.G("This is the configuration of the server as YAML.\nLines that begin with # are skipped.\n\nA sample:\n\nconfig:\n  core.https_address: '[::]:8443'")
			return cli.EditYAML(c.App, cmd, help, s.Writable(), func(put api.ServerPut) error {
				return r.Server.UpdateServer(put, etag)
			})
		}
		if inst, snap, ok := strings.Cut(r.Name, "/"); ok {
			s, etag, err := r.Server.GetInstanceSnapshot(inst, snap)
			if err != nil {
				return err
			}
			help := i18n.G("Only the time when the snapshot expires can be changed.\nLines that begin with # are skipped.")
			return cli.EditYAML(c.App, cmd, help, s.Writable(), func(put api.InstanceSnapshotPut) error {
				return c.Wait(r.Server.UpdateInstanceSnapshot(inst, snap, put, etag))
			})
		}
		inst, etag, err := r.Server.GetInstance(r.Name)
		if err != nil {
			return err
		}
		help := i18n.G("This is the configuration of the instance as YAML.\nLines that begin with # are skipped.\n\nA sample:\n\nname: c1\nprofiles:\n- default\nconfig:\n  limits.memory: 1GiB\ndevices:\n  homedir:\n    path: /extra\n    source: /home/user\n    type: disk\nephemeral: false\n\nThe name is shown but cannot be changed here.")
		return cli.EditYAML(c.App, cmd, help, inst.Writable(), func(put api.InstancePut) error {
			return c.update(r, put, etag)
		})
	})
	cli.Target(cmd)
	return cmd
}

func (c settings) metadata() *cobra.Command {
	show := cli.Command(cli.Help{
		Use: "show " + arg, Short: i18n.G("Show instance metadata files"), Example: "lxc config metadata show c1",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		m, _, err := r.Server.GetInstanceMetadata(r.Name)
		if err != nil {
			return err
		}
		return c.ShowYAML(m)
	})
	edit := cli.Command(cli.Help{
		Use: "edit " + arg, Short: i18n.G("Edit instance metadata files"), Example: "lxc config metadata edit c1",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		m, etag, err := r.Server.GetInstanceMetadata(r.Name)
		if err != nil {
			return err
		}
		help := i18n.G("This is the metadata of the instance's image as YAML.\nLines that begin with # are skipped.")
		return cli.EditYAML(c.App, cmd, help, m, func(put api.ImageMetadata) error {
			return r.Server.UpdateInstanceMetadata(r.Name, put, etag)
		})
	})
	return cli.Noun(cli.Help{Use: "metadata", Short: i18n.G("Manage instance metadata files")}, edit, show)
}
