// Package completion is "lxc completion": scripts that complete command lines.
package completion

import (
	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/errs"
	"sett/shared/i18n"
)

// Command builds "lxc completion".
func Command(a *cli.App) *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use: "completion <bash|zsh|fish|powershell>", Short: i18n.G("Print a script that completes command lines"),
		Long:    i18n.G("The script goes to stdout; where the shell loads it from is the shell's matter."),
		Example: "lxc completion bash > /etc/bash_completion.d/lxc",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		root := cmd.Root()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(a.Out, true)
		case "zsh":
			return root.GenZshCompletion(a.Out)
		case "fish":
			return root.GenFishCompletion(a.Out, true)
		case "powershell":
			return root.GenPowerShellCompletionWithDesc(a.Out)
		}
		return errs.Invalid(i18n.G("Shell %q is not known; there are bash, zsh, fish and powershell"), args[0])
	})
	cmd.ValidArgs = []string{"bash", "zsh", "fish", "powershell"}
	return cmd
}
