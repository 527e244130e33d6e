package instance

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

// Move builds "lxc move", as far as it goes on one server or cluster.
func Move(a *cli.App) *cobra.Command {
	c := &copying{App: a}
	cmd := cli.Command(cli.Help{
		Use:     "move [<remote>:]<instance>[/<snapshot>] [<remote>:][<instance>[/<snapshot>]]",
		Aliases: []string{"mv"}, Short: i18n.G("Move instances to other cluster members, storage pools and names"),
		Long:    i18n.G("An instance has to be stopped for it. It stays the same instance, with its addresses and its snapshots. With --target it goes to another member of its cluster, into the storage pool of the same name there, or into that of --storage."),
		Example: "lxc move c1 web\nlxc move c1/snap0 c1/before-upgrade\nlxc move c1 --storage fast\nlxc move c1 --target m2",
	}, 1, 2, c.move)
	c.flags(cmd)
	c.targetFlag(cmd)
	return cmd
}

func (c *copying) move(cmd *cobra.Command, args []string) error {
	r, err := c.Named(cmd, args[0], i18n.G("Missing instance name"))
	if err != nil {
		return err
	}
	if err := c.checkMode(); err != nil {
		return err
	}
	remote, name := r.Remote, cli.OptionalArg(args, 1)
	if strings.Contains(name, ":") {
		if remote, name, err = c.Conf.ParseRemote(name); err != nil {
			return err
		}
	}
	if remote != r.Remote {
		return errors.New(i18n.G("Moving instances to other servers is not implemented"))
	}
	overrides := len(c.config)+len(c.devices)+len(c.profiles) > 0 || c.noProfiles
	if c.target != "" {
		if err := r.MemberTarget(); err != nil {
			return err
		}
	}
	if c.storage == "" && c.project == "" && c.target == "" {
		switch {
		case overrides:
			return errors.New(i18n.G("Can't override configuration or profiles in local rename"))
		case c.instanceOnly:
			return errors.New(i18n.G("--instance-only is for moves to other storage pools and cluster members"))
		case name == "":
			return errors.New(i18n.G("Nothing to do: neither another name nor another storage pool or cluster member is given"))
		}
		return rename(c.App, r, name)
	}
	if strings.Contains(r.Name, "/") {
		return errors.New(i18n.G("Snapshots move with their instance"))
	}
	if overrides {
		return errors.New(i18n.G("Can't override configuration or profiles in a move between storage pools or cluster members; change them afterwards"))
	}
	if name == "" {
		name = r.Name
	}
	server := r.Server
	if c.target != "" {
		server = server.UseTarget(c.target)
	}
	op, err := server.MigrateInstance(r.Name, api.InstancePost{Name: name, Migration: true, Live: !c.stateless, Pool: c.storage, Project: c.project,
		InstanceOnly: c.instanceOnly, ContainerOnly: c.instanceOnly, AllowInconsistent: c.inconsistent})
	if err != nil {
		return err
	}
	return c.Follow(op, i18n.G("Transferring instance: %s"))
}
