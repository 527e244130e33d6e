package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"sett/shared/i18n"
	"sett/shared/version"
)

func (e *env) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: i18n.G("Show the version of this program"), Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(e.out, version.Version)
			return err
		},
	}
}
