package file

import (
	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/i18n"
)

func deleteCommand(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use: "delete [<remote>:]<instance>/<path> [[<remote>:]<instance>/<path>...]", Short: i18n.G("Delete files in instances"),
		Long: i18n.G("A directory is deleted when it is empty."), Example: "lxc file delete c1/etc/motd", Aliases: []string{"rm"},
	}, 1, -1, func(cmd *cobra.Command, args []string) error {
		all, err := places(a, cmd, args, i18n.G("Invalid path %s"))
		if err != nil {
			return err
		}
		for _, p := range all {
			if err := p.Server.DeleteInstanceFile(p.Name, p.path); err != nil {
				return err
			}
		}
		return nil
	})
}
