package cmd

import (
	"github.com/spf13/cobra"

	"sett/shared/errs"
	"sett/shared/i18n"
)

// laterCommands are verbs of LXD's that are known and not built. They say so,
// rather than being unknown words.
func (e *env) laterCommands() []*cobra.Command {
	later := func(use, short string) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true}}
		c.RunE = func(cmd *cobra.Command, _ []string) error {
			return errs.NotImplemented(i18n.G("%q is not implemented in this version"), cmd.CommandPath())
		}
		return c
	}
	return []*cobra.Command{
		later("recover", i18n.G("Take instances and volumes of a pool back into the database (not implemented)")),
		later("import", i18n.G("Old name of \"lxd recover\" (not implemented)")),
	}
}
