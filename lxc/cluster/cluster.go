package cluster

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

// Command builds "lxc cluster".
func Command(a *cli.App) *cobra.Command {
	c := cluster{a}
	k := c.keys()
	return cli.Noun(cli.Help{Use: "cluster", Short: i18n.G("Manage cluster members")},
		c.add(),
		cli.Command(cli.Help{
			Use: "edit " + arg, Short: i18n.G("Edit cluster member configurations as YAML"),
			Example: "lxc cluster edit m1\nlxc cluster edit m1 < m1.yaml",
		}, 1, 1, k.Edit(i18n.G("This is the cluster member as YAML.\nLines that begin with # are skipped."))),
		c.enable(),
		cli.Command(cli.Help{
			Use: "get " + arg + " <key>", Short: i18n.G("Get values for cluster member configuration keys"),
			Example: "lxc cluster get m1 scheduler.instance",
		}, 2, 2, k.Get),
		c.list(), c.listTokens(), c.remove(), c.rename(), c.revokeToken(), c.role(),
		cli.Command(cli.Help{
			Use: "set " + arg + " <key>=<value>...", Short: i18n.G("Set a cluster member's configuration keys"),
			Long: i18n.G("A single key may also be given as <key> <value>."), Example: "lxc cluster set m1 scheduler.instance=manual",
		}, 2, -1, k.Set),
		c.show(),
		cli.Command(cli.Help{
			Use: "unset " + arg + " <key>", Short: i18n.G("Unset a cluster member's configuration keys"),
			Example: "lxc cluster unset m1 scheduler.instance",
		}, 2, 2, k.Unset),
		c.updateCertificate(),
	)
}

type cluster struct{ *cli.App }

const arg = "[<remote>:]<member>"

func missing() string { return i18n.G("Missing cluster member name") }

func (c cluster) keys() cli.Keys[api.ClusterMemberPut] {
	return cli.Keys[api.ClusterMemberPut]{
		App: c.App, Missing: missing(),
		Load: func(_ *cobra.Command, r cli.Resource) (api.ClusterMemberPut, string, error) {
			m, etag, err := r.Server.GetClusterMember(r.Name)
			if err != nil {
				return api.ClusterMemberPut{}, "", err
			}
			return m.Writable(), etag, nil
		},
		Store: func(_ *cobra.Command, r cli.Resource, put api.ClusterMemberPut, etag string) error {
			return r.Server.UpdateClusterMember(r.Name, put, etag)
		},
		Config: func(put *api.ClusterMemberPut) *map[string]string { return &put.Config },
	}
}

// member resolves an argument that names a member.
func (c cluster) member(cmd *cobra.Command, arg string) (cli.Resource, error) {
	return c.Named(cmd, arg, missing())
}

func (c cluster) list() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:]", Aliases: []string{"ls"}, Short: i18n.G("List all the cluster members"), Example: "lxc cluster list -f csv",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		now, _, err := r.Server.GetCluster()
		if err != nil {
			return err
		}
		if !now.Enabled {
			return errors.New(i18n.G("LXD server isn't part of a cluster"))
		}
		members, err := r.Server.GetClusterMembers()
		if err != nil {
			return err
		}
		t := cli.Table{Header: []string{i18n.G("NAME"), i18n.G("URL"), i18n.G("ROLES"), i18n.G("ARCHITECTURE"), i18n.G("FAILURE DOMAIN"),
			i18n.G("DESCRIPTION"), i18n.G("STATE"), i18n.G("MESSAGE")}, Raw: members}
		between := "\n"
		if *format == "csv" {
			between = ","
		}
		for _, m := range members {
			t.Rows = append(t.Rows, []string{m.ServerName, m.URL, strings.Join(m.Roles, between), m.Architecture, m.FailureDomain, m.Description,
				strings.ToUpper(m.Status), m.Message})
		}
		cli.SortRows(t.Rows)
		return t.Render(c.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

func (c cluster) show() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "show " + arg, Short: i18n.G("Show details of a cluster member"), Example: "lxc cluster show m1",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.member(cmd, args[0])
		if err != nil {
			return err
		}
		m, _, err := r.Server.GetClusterMember(r.Name)
		if err != nil {
			return err
		}
		return c.ShowYAML(m)
	})
}

func (c cluster) rename() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "rename " + arg + " <new-name>", Aliases: []string{"mv"}, Short: i18n.G("Rename a cluster member"), Example: "lxc cluster rename m1 big",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := c.member(cmd, args[0])
		if err != nil {
			return err
		}
		if err := r.Server.RenameClusterMember(r.Name, api.ClusterMemberPost{ServerName: args[1]}); err != nil {
			return err
		}
		c.Say(i18n.G("Member %s renamed to %s"), r.Name, args[1])
		return nil
	})
}

func (c cluster) remove() *cobra.Command {
	var force, yes bool
	cmd := cli.Command(cli.Help{
		Use: "remove " + arg, Aliases: []string{"rm"}, Short: i18n.G("Remove a member from the cluster"),
		Long:    i18n.G("A member that is removed by force is not asked. What is on it is lost to the cluster, and the server must be set up anew."),
		Example: "lxc cluster remove m3\nlxc cluster remove m3 --force",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.member(cmd, args[0])
		if err != nil {
			return err
		}
		if force && !yes {
			ok, err := c.Confirm(fmt.Sprintf(i18n.G(`Removing a member by force is for one that will not come back: its instances,
volumes and images are lost to the cluster, and the server must be set up anew.

Are you sure you want to force removing %s? (yes/no): `), r.Name))
			if err != nil {
				return err
			}
			if !ok {
				return errors.New(i18n.G("User aborted delete operation"))
			}
		}
		if err := r.Server.DeleteClusterMember(r.Name, force); err != nil {
			return err
		}
		c.Say(i18n.G("Member %s removed"), r.Name)
		return nil
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, i18n.G("Force removing a member, even if degraded"))
	cmd.Flags().BoolVar(&yes, "yes", false, i18n.G("Don't require user confirmation for using --force"))
	return cmd
}

func (c cluster) enable() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "enable [<remote>:]<name>", Short: i18n.G("Enable clustering on a single non-clustered LXD server"),
		Long:    i18n.G("The server becomes the first member of a new cluster and keeps all that it has. It must have an address:\n\"lxc config set core.https_address 10.0.0.1:8443\"."),
		Example: "lxc cluster enable m1",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.member(cmd, args[0])
		if err != nil {
			return err
		}
		s, _, err := r.Server.GetServer()
		if err != nil {
			return err
		}
		if s.Config["core.https_address"] == nil && s.Config["cluster.https_address"] == nil {
			return errors.New(i18n.G("This LXD server is not available on the network"))
		}
		now, etag, err := r.Server.GetCluster()
		if err != nil {
			return err
		}
		if now.Enabled {
			return errors.New(i18n.G("This LXD server is already clustered"))
		}
		op, err := r.Server.UpdateCluster(api.ClusterPut{Cluster: api.Cluster{ServerName: r.Name, Enabled: true}}, etag)
		if err != nil {
			return err
		}
		if err := op.Wait(); err != nil {
			return err
		}
		c.Say(i18n.G("Clustering enabled"))
		return nil
	})
}

func (c cluster) updateCertificate() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "update-certificate [<remote>:] <cert.crt> <cert.key>", Aliases: []string{"update-cert"},
		Short: i18n.G("Update cluster certificate"), Long: i18n.G("All members must be online; they show the new certificate to clients at once."),
		Example: "lxc cluster update-certificate cluster.crt cluster.key",
	}, 2, 3, func(cmd *cobra.Command, args []string) error {
		target := ""
		if len(args) == 3 {
			target = args[0]
		}
		r, err := c.Resource(cmd, target)
		if err != nil {
			return err
		}
		files := args[len(args)-2:]
		cert, err := os.ReadFile(files[0])
		if err != nil {
			return fmt.Errorf(i18n.G("Could not read certificate file: %s with error: %v"), files[0], err)
		}
		key, err := os.ReadFile(files[1])
		if err != nil {
			return fmt.Errorf(i18n.G("Could not read certificate key file: %s with error: %v"), files[1], err)
		}
		if err := r.Server.UpdateClusterCertificate(api.ClusterCertificatePut{ClusterCertificate: string(cert), ClusterCertificateKey: string(key)}, ""); err != nil {
			return err
		}
		if err := c.trustNew(r.Remote, cert); err != nil {
			return err
		}
		c.Say(i18n.G("Successfully updated cluster certificates for remote %s"), r.Remote)
		return nil
	})
}

// role builds "lxc cluster role".
func (c cluster) role() *cobra.Command {
	change := func(h cli.Help, how func(have, named []string) ([]string, error)) *cobra.Command {
		return cli.Command(h, 2, 2, func(cmd *cobra.Command, args []string) error {
			r, err := c.member(cmd, args[0])
			if err != nil {
				return err
			}
			m, etag, err := r.Server.GetClusterMember(r.Name)
			if err != nil {
				return err
			}
			put := m.Writable()
			if put.Roles, err = how(put.Roles, strings.Split(args[1], ",")); err != nil {
				return err
			}
			return r.Server.UpdateClusterMember(r.Name, put, etag)
		})
	}
	return cli.Noun(cli.Help{Use: "role", Short: i18n.G("Manage cluster roles")},
		change(cli.Help{Use: "add " + arg + " <role>[,<role>...]", Short: i18n.G("Add roles to a cluster member"), Example: "lxc cluster role add m1 event-hub"},
			func(have, named []string) ([]string, error) {
				for _, n := range named {
					if slices.Contains(have, n) {
						return nil, fmt.Errorf(i18n.G("The cluster member has the role %s already"), n)
					}
				}
				return append(have, named...), nil
			}),
		change(cli.Help{Use: "remove " + arg + " <role>[,<role>...]", Short: i18n.G("Remove roles from a cluster member"), Example: "lxc cluster role remove m1 event-hub"},
			func(have, named []string) ([]string, error) {
				for _, n := range named {
					i := slices.Index(have, n)
					if i < 0 {
						return nil, fmt.Errorf(i18n.G("The cluster member has no role %s"), n)
					}
					have = slices.Delete(have, i, i+1)
				}
				return have, nil
			}))
}
