package device

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/i18n"
)

// Devices are devices by name, and their keys.
type Devices = map[string]map[string]string

// Owner is what has devices: an instance or a profile.
type Owner struct {
	Arg     string // how the argument is written in help
	Path    string // the command's path, for examples
	Missing string // error for an argument that names nothing
	// Load returns the owner's devices, those that it has from elsewhere too
	// (profiles of an instance; nil where there is no such thing), and a function
	// that stores changed devices.
	Load func(cmd *cobra.Command, r cli.Resource) (own, inherited Devices, store func(Devices) error, err error)
	// Errors for devices that come from elsewhere.
	NotOwnGet, NotOwnChange, NotOwnRemove string
}

// Command builds the command tree for devices of an owner.
func Command(a *cli.App, o Owner) *cobra.Command {
	verbs := []*cobra.Command{o.add(a), o.get(a), o.list(a), o.remove(a), o.set(a), o.show(a), o.unset(a)}
	if o.NotOwnGet != "" {
		verbs = append(verbs, o.override(a))
	}
	return cli.Noun(cli.Help{Use: "device", Short: i18n.G("Manage devices")}, verbs...)
}

func (o Owner) load(a *cli.App, cmd *cobra.Command, arg string) (r cli.Resource, own, inherited Devices, store func(Devices) error, err error) {
	if r, err = a.Named(cmd, arg, o.Missing); err != nil {
		return r, nil, nil, nil, err
	}
	own, inherited, store, err = o.Load(cmd, r)
	if own == nil {
		own = Devices{}
	}
	return r, own, inherited, store, err
}

// find returns an own device; where says what to answer for one from elsewhere.
func find(own, inherited Devices, name, where string) (map[string]string, error) {
	if d, ok := own[name]; ok {
		return d, nil
	}
	if _, ok := inherited[name]; ok && where != "" {
		return nil, errors.New(where)
	}
	return nil, errors.New(i18n.G("Device doesn't exist"))
}

func (o Owner) add(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use:     "add " + o.Arg + " <device> <type> [key=value...]",
		Short:   i18n.G("Add devices"),
		Example: "lxc " + o.Path + " add c1 share disk source=/srv/share path=/opt",
	}, 3, -1, func(cmd *cobra.Command, args []string) error {
		keys := map[string]string{}
		for _, kv := range args[3:] {
			k, v, ok := strings.Cut(kv, "=")
			if !ok {
				return fmt.Errorf(i18n.G("No value found in %q"), kv)
			}
			keys[k] = v
		}
		keys["type"] = args[2]
		r, own, _, store, err := o.load(a, cmd, args[0])
		if err != nil {
			return err
		}
		if _, ok := own[args[1]]; ok {
			return errors.New(i18n.G("The device already exists"))
		}
		own[args[1]] = keys
		if err := store(own); err != nil {
			return err
		}
		a.Say(i18n.G("Device %s added to %s"), args[1], r.Name)
		return nil
	})
}

func (o Owner) override(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use:     "override " + o.Arg + " <device> [key=value...]",
		Short:   i18n.G("Copy devices of profiles and change them"),
		Long:    i18n.G("The copy belongs to the instance and takes the place of the profile's device."),
		Example: "lxc " + o.Path + " override c1 root size=20GiB",
	}, 2, -1, func(cmd *cobra.Command, args []string) error {
		r, own, inherited, store, err := o.load(a, cmd, args[0])
		if err != nil {
			return err
		}
		if _, ok := own[args[1]]; ok {
			return errors.New(i18n.G("The device already exists"))
		}
		base, ok := inherited[args[1]]
		if !ok {
			return errors.New(i18n.G("The profile device doesn't exist"))
		}
		keys := maps.Clone(base)
		for _, kv := range args[2:] {
			k, v, ok := strings.Cut(kv, "=")
			if !ok {
				return fmt.Errorf(i18n.G("No value found in %q"), kv)
			}
			keys[k] = v
		}
		own[args[1]] = keys
		if err := store(own); err != nil {
			return err
		}
		a.Say(i18n.G("Device %s overridden for %s"), args[1], r.Name)
		return nil
	})
}

func (o Owner) get(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use:     "get " + o.Arg + " <device> <key>",
		Short:   i18n.G("Get values for device configuration keys"),
		Example: "lxc " + o.Path + " get c1 root pool",
	}, 3, 3, func(cmd *cobra.Command, args []string) error {
		_, own, inherited, _, err := o.load(a, cmd, args[0])
		if err != nil {
			return err
		}
		d, err := find(own, inherited, args[1], o.NotOwnGet)
		if err != nil {
			return err
		}
		a.Println(d[args[2]])
		return nil
	})
}

func (o Owner) list(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use: "list " + o.Arg, Aliases: []string{"ls"},
		Short: i18n.G("List devices"), Example: "lxc " + o.Path + " list c1",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		_, own, _, _, err := o.load(a, cmd, args[0])
		if err != nil {
			return err
		}
		a.Println(strings.Join(slices.Sorted(maps.Keys(own)), "\n"))
		return nil
	})
}

func (o Owner) remove(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use: "remove " + o.Arg + " <name>...", Aliases: []string{"rm"},
		Short: i18n.G("Remove devices"), Example: "lxc " + o.Path + " remove c1 share",
	}, 2, -1, func(cmd *cobra.Command, args []string) error {
		r, own, inherited, store, err := o.load(a, cmd, args[0])
		if err != nil {
			return err
		}
		for _, name := range args[1:] {
			if _, err := find(own, inherited, name, o.NotOwnRemove); err != nil {
				return err
			}
			delete(own, name)
		}
		if err := store(own); err != nil {
			return err
		}
		a.Say(i18n.G("Device %s removed from %s"), strings.Join(args[1:], ", "), r.Name)
		return nil
	})
}

func (o Owner) set(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use:     "set " + o.Arg + " <device> <key>=<value>...",
		Short:   i18n.G("Set device configuration keys"),
		Long:    i18n.G("A single key may also be given as <key> <value>."),
		Example: "lxc " + o.Path + " set c1 root size=20GiB",
	}, 3, -1, func(cmd *cobra.Command, args []string) error {
		values, err := a.KeyValues(args[2:])
		if err != nil {
			return err
		}
		return o.change(a, cmd, args, values)
	})
}

func (o Owner) unset(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use:   "unset " + o.Arg + " <device> <key>",
		Short: i18n.G("Unset device configuration keys"), Example: "lxc " + o.Path + " unset c1 root size",
	}, 3, 3, func(cmd *cobra.Command, args []string) error {
		return o.change(a, cmd, args, map[string]string{args[2]: ""})
	})
}

func (o Owner) change(a *cli.App, cmd *cobra.Command, args []string, values map[string]string) error {
	_, own, inherited, store, err := o.load(a, cmd, args[0])
	if err != nil {
		return err
	}
	d, err := find(own, inherited, args[1], o.NotOwnChange)
	if err != nil {
		return err
	}
	for k, v := range values {
		if v == "" {
			delete(d, k)
		} else {
			d[k] = v
		}
	}
	return store(own)
}

func (o Owner) show(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use:   "show " + o.Arg,
		Short: i18n.G("Show full device configuration"), Example: "lxc " + o.Path + " show c1",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		_, own, _, _, err := o.load(a, cmd, args[0])
		if err != nil {
			return err
		}
		return a.ShowYAML(own)
	})
}
