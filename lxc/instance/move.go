package instance

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/i18n"
)

// Move builds "lxc move", as far as it is a change of the name.
func Move(a *cli.App) *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use:     "move [<remote>:]<instance>[/<snapshot>] [<remote>:][<instance>[/<snapshot>]]",
		Aliases: []string{"mv"}, Short: i18n.G("Move instances and snapshots to other names"),
		Example: "lxc move c1 web\nlxc move c1/snap0 c1/before-upgrade",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := a.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		remote, name, ok := strings.Cut(args[1], ":")
		if !ok {
			remote, name = r.Remote, args[1]
		}
		if remote != r.Remote || name == "" {
			return errors.New(i18n.G("Moving instances to other servers is not implemented"))
		}
		return rename(r, name)
	})
	cli.Later(cmd, "allow-inconsistent", "c/config=", "d/device=", "instance-only", "mode=", "no-profiles", "p/profile=",
		"stateless", "s/storage=", "target=", "target-project=")
	return cmd
}
