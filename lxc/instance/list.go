package instance

import (
	"errors"
	"net"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

const (
	defaultColumns     = "ns46tSL"
	defaultAllColumns  = "ens46tSL"
	defaultFastColumns = "nsacPt"
)

type list struct {
	*cli.App
	columns     string
	fast        bool
	allProjects bool
	format      *string
}

// List builds "lxc list".
func List(a *cli.App) *cobra.Command {
	c := &list{App: a}
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:] [<filter>...]", Aliases: []string{"ls"}, Short: i18n.G("List instances"),
		Long: i18n.G("A filter is the beginning of a name or a regular expression, or key=value, where\nthe key is one of the configuration (\"u.n\" finds user.name too), or type, status,\narchitecture, location, ipv4 or ipv6.\n\n" +
			"Columns are letters, or keys as key[:title[:width]] parted by commas:\n\n" +
			"  4 IPv4 address           6 IPv6 address          a architecture\n" +
			"  b storage pool           c creation date         d description\n" +
			"  D disk usage             e project               f base image (short)\n" +
			"  F base image             l last used             L location\n" +
			"  m memory usage           M memory usage (%)      n name\n" +
			"  N processes              p PID of init           P profiles\n" +
			"  s state                  S snapshots             t type\n" +
			"  u CPU usage (seconds)\n\n" +
			"A width of 0 is that of the title, -1 (the default) has no limit."),
		Example: "lxc list\nlxc list status=running -c ns4m\nlxc list -c n,volatile.base_image:\"BASE IMAGE\":12,s",
	}, 0, -1, c.run)
	f := cmd.Flags()
	f.StringVarP(&c.columns, "columns", "c", defaultColumns, i18n.G("Columns")+"``")
	c.format = cli.FormatFlag(f)
	f.BoolVar(&c.fast, "fast", false, i18n.G("Fast mode (same as --columns=nsacPt)"))
	f.BoolVar(&c.allProjects, "all-projects", false, i18n.G("Display instances from all projects"))
	return cmd
}

func (c *list) run(cmd *cobra.Command, args []string) error {
	if c.Project != "" && c.allProjects {
		return errors.New(i18n.G("Can't specify --project with --all-projects"))
	}
	target, filters := "", args
	if len(args) > 0 && strings.Contains(args[0], ":") && !strings.Contains(args[0], "=") {
		remote, name, err := c.Conf.ParseRemote(args[0])
		if err != nil {
			return err
		}
		target, filters = remote+":", args[1:]
		if name != "" {
			filters = append([]string{name}, filters...)
		}
	}
	r, err := c.Resource(cmd, target)
	if err != nil {
		return err
	}
	picked, err := c.pick(cmd, r.Server)
	if err != nil {
		return err
	}
	instances, err := c.fetch(r.Server, picked, filters)
	if err != nil {
		return err
	}
	t := cli.Table{}
	for _, col := range picked {
		t.Header = append(t.Header, col.title)
	}
	shown := []api.InstanceFull{}
	for _, i := range instances {
		if !shows(i, filters) {
			continue
		}
		shown = append(shown, i)
		row := []string{}
		for _, col := range picked {
			row = append(row, col.value(i))
		}
		t.Rows = append(t.Rows, row)
	}
	t.Raw = shown
	cli.SortRows(t.Rows)
	return t.Render(c.Out, *c.format)
}

// pick decides on the columns. The default leaves the location out where there is
// only one.
func (c *list) pick(cmd *cobra.Command, s client.InstanceServer) ([]column, error) {
	cols := c.columns
	given := cmd.Flags().Changed("columns")
	switch {
	case given && c.fast:
		return nil, errors.New(i18n.G("Can't specify --fast with --columns"))
	case c.fast:
		cols = defaultFastColumns
	case !given && c.allProjects:
		cols = defaultAllColumns
	}
	server, _, err := s.GetServer()
	if err != nil {
		return nil, err
	}
	clustered := server.Environment.ServerClustered
	if !given && !clustered {
		cols = strings.ReplaceAll(cols, "L", "")
	}
	return parseColumns(cols, clustered)
}

// fetch asks for no more than the columns and filters need; formats for programs get all.
func (c *list) fetch(s client.InstanceServer, picked []column, filters []string) ([]api.InstanceFull, error) {
	full := *c.format == cli.FormatJSON || *c.format == cli.FormatYAML ||
		slices.ContainsFunc(picked, func(col column) bool { return col.needsFull }) ||
		slices.ContainsFunc(filters, func(f string) bool { return strings.HasPrefix(f, "ipv4=") || strings.HasPrefix(f, "ipv6=") })
	if full && c.allProjects {
		return s.GetInstancesFullAllProjects(api.InstanceTypeAny)
	}
	if full {
		return s.GetInstancesFull(api.InstanceTypeAny)
	}
	get := s.GetInstances
	if c.allProjects {
		get = s.GetInstancesAllProjects
	}
	plain, err := get(api.InstanceTypeAny)
	if err != nil {
		return nil, err
	}
	out := make([]api.InstanceFull, 0, len(plain))
	for _, i := range plain {
		out = append(out, api.InstanceFull{Instance: i})
	}
	return out, nil
}

// shows reports whether an instance passes all filters.
func shows(i api.InstanceFull, filters []string) bool {
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			if !cli.MatchName(f, i.Name) {
				return false
			}
			continue
		}
		if pass, known := shorthand(i, key, value); known {
			if !pass {
				return false
			}
			continue
		}
		found := false
		for k, v := range i.ExpandedConfig {
			if cli.DotPrefix(key, k) && cli.MatchValue(value, v) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// shorthand answers filters on what is no configuration key.
func shorthand(i api.InstanceFull, key, value string) (pass, known bool) {
	switch key {
	case "name":
		return cli.MatchValue(value, i.Name), true
	case "type":
		return oneOf(value, i.Type), true
	case "status", "state":
		return oneOf(value, i.Status), true
	case "architecture":
		return oneOf(value, i.Architecture), true
	case "location":
		return oneOf(value, i.Location), true
	case "ipv4":
		return hasAddress(i, "inet", value), true
	case "ipv6":
		return hasAddress(i, "inet6", value), true
	}
	return false, false
}

func oneOf(list, s string) bool {
	return slices.ContainsFunc(strings.Split(list, ","), func(v string) bool { return strings.EqualFold(v, s) })
}

// hasAddress reports whether an instance has an address, or one of a subnet.
func hasAddress(i api.InstanceFull, family, want string) bool {
	if i.State == nil {
		return false
	}
	_, subnet, err := net.ParseCIDR(want)
	for _, n := range i.State.Network {
		for _, a := range n.Addresses {
			if a.Family != family {
				continue
			}
			if a.Address == want || err == nil && subnet.Contains(net.ParseIP(a.Address)) {
				return true
			}
		}
	}
	return false
}
