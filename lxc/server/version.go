package server

import (
	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/i18n"
	"sett/shared/version"
)

// Version builds "lxc version".
func Version(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use: "version [<remote>:]", Short: i18n.G("Show local and remote versions"), Example: "lxc version",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		server := i18n.G("unreachable")
		if r, err := a.Resource(cmd, cli.OptionalArg(args, 0)); err == nil {
			if s, _, err := r.Server.GetServer(); err == nil {
				server = s.Environment.ServerVersion
			}
		}
		a.Printf(i18n.G("Client version: %s\n"), version.Version)
		a.Printf(i18n.G("Server version: %s\n"), server)
		return nil
	})
}
