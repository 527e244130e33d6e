package alias

import (
	"fmt"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/i18n"
)

// Command builds "lxc alias".
func Command(a *cli.App) *cobra.Command {
	c := alias{a}
	return cli.Noun(cli.Help{Use: "alias", Short: i18n.G("Manage command aliases")}, c.add(), c.list(), c.rename(), c.remove())
}

type alias struct{ *cli.App }

func (c alias) add() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "add <alias> <target>", Aliases: []string{"create"}, Short: i18n.G("Add new aliases"),
		Long:    i18n.G("@ARGS@ in the target stands for the arguments of the alias; without it they come last.\n@ARG1@ is the first of them and so on, also as a part of a word."),
		Example: "lxc alias add list \"list -c ns46S\"\nlxc alias add login \"exec @ARGS@ -- su -l\"",
	}, 2, 2, func(_ *cobra.Command, args []string) error {
		if _, ok := c.Conf.Aliases[args[0]]; ok {
			return fmt.Errorf(i18n.G("Alias %s already exists"), args[0])
		}
		c.Conf.Aliases[args[0]] = args[1]
		return c.Conf.Save()
	})
}

func (c alias) list() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list", Aliases: []string{"ls"}, Short: i18n.G("List aliases"), Example: "lxc alias list",
	}, 0, 0, func(*cobra.Command, []string) error {
		t := cli.Table{Header: []string{i18n.G("ALIAS"), i18n.G("TARGET")}, Raw: c.Conf.Aliases}
		for k, v := range c.Conf.Aliases {
			t.Rows = append(t.Rows, []string{k, v})
		}
		cli.SortRows(t.Rows)
		return t.Render(c.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

func (c alias) rename() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "rename <old alias> <new alias>", Aliases: []string{"mv"}, Short: i18n.G("Rename aliases"), Example: "lxc alias rename list my-list",
	}, 2, 2, func(_ *cobra.Command, args []string) error {
		target, ok := c.Conf.Aliases[args[0]]
		if !ok {
			return fmt.Errorf(i18n.G("Alias %s doesn't exist"), args[0])
		}
		if _, ok := c.Conf.Aliases[args[1]]; ok {
			return fmt.Errorf(i18n.G("Alias %s already exists"), args[1])
		}
		c.Conf.Aliases[args[1]] = target
		delete(c.Conf.Aliases, args[0])
		return c.Conf.Save()
	})
}

func (c alias) remove() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "remove <alias>", Aliases: []string{"rm"}, Short: i18n.G("Remove aliases"), Example: "lxc alias remove my-list",
	}, 1, 1, func(_ *cobra.Command, args []string) error {
		if _, ok := c.Conf.Aliases[args[0]]; !ok {
			return fmt.Errorf(i18n.G("Alias %s doesn't exist"), args[0])
		}
		delete(c.Conf.Aliases, args[0])
		return c.Conf.Save()
	})
}
