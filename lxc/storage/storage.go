package storage

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
	"sett/shared/units"
)

const arg = "[<remote>:]<pool>"

// Command builds "lxc storage".
func Command(a *cli.App) *cobra.Command {
	s := storage{a}
	k := s.keys()
	set := cli.Command(cli.Help{
		Use: "set " + arg + " <key>=<value>...", Short: i18n.G("Set storage pool configuration keys"),
		Long: i18n.G("A single key may also be given as <key> <value>."), Example: "lxc storage set default volume.size=10GiB",
	}, 2, -1, k.Set)
	get := cli.Command(cli.Help{
		Use: "get " + arg + " <key>", Short: i18n.G("Get values for storage pool configuration keys"),
		Example: "lxc storage get default source",
	}, 2, 2, k.Get)
	unset := cli.Command(cli.Help{
		Use: "unset " + arg + " <key>", Short: i18n.G("Unset storage pool configuration keys"),
		Example: "lxc storage unset default volume.size",
	}, 2, 2, k.Unset)
	for _, c := range []*cobra.Command{set, get, unset} {
		cli.Target(c)
	}
	edit := cli.Command(cli.Help{
		Use: "edit " + arg, Short: i18n.G("Edit storage pool configurations as YAML"),
		Example: "lxc storage edit default\nlxc storage edit default < default.yaml",
	}, 1, 1, k.Edit(i18n.G("This is the storage pool as YAML.\nLines that begin with # are skipped.\n\nA sample:\n\nconfig:\n  size: 20GiB\ndescription: Pool on the fast disk")))
	return cli.Noun(cli.Help{Use: "storage", Short: i18n.G("Manage storage pools and volumes")},
		s.create(), s.delete(), edit, get, s.info(), s.list(), set, s.show(), unset)
}

type storage struct{ *cli.App }

func (s storage) named(cmd *cobra.Command, arg string) (cli.Resource, error) {
	return s.Named(cmd, arg, i18n.G("Missing pool name"))
}

func (s storage) keys() cli.Keys[api.StoragePoolPut] {
	return cli.Keys[api.StoragePoolPut]{
		App: s.App, Missing: i18n.G("Missing pool name"), SilentUnset: true,
		Load: func(_ *cobra.Command, r cli.Resource) (api.StoragePoolPut, string, error) {
			o, etag, err := r.Server.GetStoragePool(r.Name)
			if err != nil {
				return api.StoragePoolPut{}, "", err
			}
			return o.Writable(), etag, nil
		},
		Store: func(_ *cobra.Command, r cli.Resource, put api.StoragePoolPut, etag string) error {
			return r.Server.UpdateStoragePool(r.Name, put, etag)
		},
		Config: func(put *api.StoragePoolPut) *map[string]string { return &put.Config },
	}
}

func (s storage) create() *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use: "create " + arg + " <driver> [key=value...]", Short: i18n.G("Create storage pools"),
		Example: "lxc storage create plain dir\nlxc storage create fast btrfs size=20GiB",
	}, 2, -1, func(cmd *cobra.Command, args []string) error {
		r, err := s.named(cmd, args[0])
		if err != nil {
			return err
		}
		req := api.StoragePoolsPost{Name: r.Name, Driver: args[1]}
		if req.Config, err = cli.Pairs(args[2:]); err != nil {
			return err
		}
		if err := r.Server.CreateStoragePool(req); err != nil {
			return err
		}
		if r.Target != "" { // it is made when all members have been told
			s.Say(i18n.G("Storage pool %s pending on member %s"), r.Name, r.Target)
			return nil
		}
		s.Say(i18n.G("Storage pool %s created"), r.Name)
		return nil
	})
	cli.Target(cmd)
	return cmd
}

func (s storage) delete() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "delete " + arg, Aliases: []string{"rm"}, Short: i18n.G("Delete storage pools"), Example: "lxc storage delete plain",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := s.named(cmd, args[0])
		if err != nil {
			return err
		}
		if err := r.Server.DeleteStoragePool(r.Name); err != nil {
			return err
		}
		s.Say(i18n.G("Storage pool %s deleted"), r.Name)
		return nil
	})
}

func (s storage) show() *cobra.Command {
	var resources bool
	cmd := cli.Command(cli.Help{
		Use: "show " + arg, Short: i18n.G("Show storage pool configurations and resources"), Example: "lxc storage show default",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := s.named(cmd, args[0])
		if err != nil {
			return err
		}
		if resources {
			res, err := r.Server.GetStoragePoolResources(r.Name)
			if err != nil {
				return err
			}
			return s.ShowYAML(res)
		}
		o, _, err := r.Server.GetStoragePool(r.Name)
		if err != nil {
			return err
		}
		slices.Sort(o.UsedBy)
		return s.ShowYAML(o)
	})
	cmd.Flags().BoolVar(&resources, "resources", false, i18n.G("Show the resources available to the storage pool"))
	cli.Target(cmd)
	return cmd
}

func (s storage) list() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:]", Aliases: []string{"ls"}, Short: i18n.G("List available storage pools"), Example: "lxc storage list",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := s.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		pools, err := r.Server.GetStoragePools()
		if err != nil {
			return err
		}
		// The source is of one member only, so a cluster does not show it.
		clustered := r.Server.IsClustered()
		t := cli.Table{Header: []string{i18n.G("NAME"), i18n.G("DRIVER")}, Raw: pools}
		if !clustered {
			t.Header = append(t.Header, i18n.G("SOURCE"))
		}
		t.Header = append(t.Header, i18n.G("DESCRIPTION"), i18n.G("USED BY"), i18n.G("STATE"))
		for _, o := range pools {
			row := []string{o.Name, o.Driver}
			if !clustered {
				row = append(row, o.Config["source"])
			}
			t.Rows = append(t.Rows, append(row, o.Description, strconv.Itoa(len(o.UsedBy)), strings.ToUpper(o.Status)))
		}
		cli.SortRows(t.Rows)
		return t.Render(s.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

func (s storage) info() *cobra.Command {
	var bytes bool
	cmd := cli.Command(cli.Help{
		Use: "info " + arg, Short: i18n.G("Show useful information about storage pools"), Example: "lxc storage info default",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := s.named(cmd, args[0])
		if err != nil {
			return err
		}
		o, _, err := r.Server.GetStoragePool(r.Name)
		if err != nil {
			return err
		}
		res, err := r.Server.GetStoragePoolResources(r.Name)
		if err != nil {
			return err
		}
		size := func(n uint64) string {
			if bytes {
				return strconv.FormatUint(n, 10)
			}
			return units.GetByteSizeStringIEC(int64(n), 2)
		}
		info := map[string]string{
			i18n.G("name"): o.Name, i18n.G("driver"): o.Driver, i18n.G("description"): o.Description,
			i18n.G("total space"): size(res.Space.Total), i18n.G("space used"): size(res.Space.Used),
		}
		used, err := usedBy(o.UsedBy)
		if err != nil {
			return err
		}
		if err := s.ShowYAML(map[string]any{i18n.G("info"): info}); err != nil {
			return err
		}
		return s.ShowYAML(map[string]any{i18n.G("used by"): used})
	})
	cmd.Flags().BoolVar(&bytes, "bytes", false, i18n.G("Show the used and free space in bytes"))
	cli.Target(cmd)
	return cmd
}

// usedBy sorts URLs by what they point at: /1.0/instances/c1 is c1 of the
// instances, a snapshot counts for its owner, and volumes are those of pools.
func usedBy(urls []string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			return nil, err
		}
		parts := strings.Split(strings.Trim(u.EscapedPath(), "/"), "/")
		if len(parts) < 3 {
			return nil, errors.New(i18n.G("The server lists users that are no URLs"))
		}
		kind, name := parts[1], parts[2]
		if kind == "storage-pools" && len(parts) > 5 {
			kind, name = "volumes", parts[5]
		}
		name, err = url.PathUnescape(name)
		if err != nil {
			return nil, err
		}
		if p := u.Query().Get("project"); p != "" {
			name = fmt.Sprintf(i18n.G("%s (project \"%s\")"), name, p)
		}
		out[kind] = append(out[kind], name)
	}
	return out, nil
}
