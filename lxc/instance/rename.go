package instance

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

// Rename builds "lxc rename".
func Rename(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use:   "rename [<remote>:]<instance>[/<snapshot>] <instance>[/<snapshot>]",
		Short: i18n.G("Rename instances and snapshots"), Example: "lxc rename c1 web",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := a.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		if remote, name, ok := strings.Cut(args[1], ":"); ok {
			if remote != r.Remote {
				return errors.New(i18n.G("Can't specify a different remote for rename"))
			}
			args[1] = name
		}
		return rename(a, r, args[1])
	})
}

// rename gives an instance or a snapshot another name.
func rename(a *cli.App, r cli.Resource, name string) error {
	inst, snap, isSnap := strings.Cut(r.Name, "/")
	newInst, newSnap, toSnap := strings.Cut(name, "/")
	if isSnap != toSnap || isSnap && inst != newInst {
		return errors.New(i18n.G("Invalid new snapshot name, parent must be the same as source"))
	}
	if isSnap {
		return a.Wait(r.Server.RenameInstanceSnapshot(inst, snap, api.InstanceSnapshotPost{Name: newSnap}))
	}
	return a.Wait(r.Server.RenameInstance(r.Name, api.InstancePost{Name: name}))
}
