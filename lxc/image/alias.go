package image

import (
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

const aliasArg = "[<remote>:]<alias>"

func (i image) aliasNamed(cmd *cobra.Command, arg string) (cli.Resource, error) {
	return i.Named(cmd, arg, i18n.G("Alias name missing"))
}

func (i image) alias() *cobra.Command {
	create := cli.Command(cli.Help{
		Use: "create " + aliasArg + " <fingerprint>", Short: i18n.G("Create aliases for existing images"),
		Example: "lxc image alias create debian 9c3985d7febc",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := i.aliasNamed(cmd, args[0])
		if err != nil {
			return err
		}
		var req api.ImageAliasesPost
		req.Name, req.Target = r.Name, args[1]
		return r.Server.CreateImageAlias(req)
	})
	remove := cli.Command(cli.Help{
		Use: "delete " + aliasArg, Aliases: []string{"rm"}, Short: i18n.G("Delete image aliases"), Example: "lxc image alias delete debian",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := i.aliasNamed(cmd, args[0])
		if err != nil {
			return err
		}
		return r.Server.DeleteImageAlias(r.Name)
	})
	rename := cli.Command(cli.Help{
		Use: "rename " + aliasArg + " <new-name>", Aliases: []string{"mv"}, Short: i18n.G("Rename aliases"), Example: "lxc image alias rename debian bookworm",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := i.aliasNamed(cmd, args[0])
		if err != nil {
			return err
		}
		return r.Server.RenameImageAlias(r.Name, api.ImageAliasesEntryPost{Name: args[1]})
	})
	return cli.Noun(cli.Help{Use: "alias", Short: i18n.G("Manage image aliases")}, create, remove, i.aliasList(), rename)
}

func (i image) aliasList() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:] [<filters>...]", Aliases: []string{"ls"}, Short: i18n.G("List image aliases"),
		Long:    i18n.G("A filter is a part of an alias or of a fingerprint."),
		Example: "lxc image alias list",
	}, 0, -1, func(cmd *cobra.Command, args []string) error {
		target, filters := splitFilters(args)
		s, _, err := i.look(cmd, target)
		if err != nil {
			return err
		}
		aliases, err := s.GetImageAliases()
		if err != nil {
			return err
		}
		shown := []api.ImageAliasesEntry{}
		t := cli.Table{Header: []string{i18n.G("ALIAS"), i18n.G("FINGERPRINT"), i18n.G("TYPE"), i18n.G("DESCRIPTION")}}
		for _, a := range aliases {
			if !aliasMatches(a, filters) {
				continue
			}
			if a.Type == "" {
				a.Type = "container"
			}
			shown = append(shown, a)
			t.Rows = append(t.Rows, []string{a.Name, short(a.Target), strings.ToUpper(a.Type), a.Description})
		}
		t.Raw = shown
		cli.SortRows(t.Rows)
		return t.Render(i.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

func aliasMatches(a api.ImageAliasesEntry, filters []string) bool {
	for _, f := range filters {
		if !strings.Contains(a.Name, f) && !strings.HasPrefix(a.Target, f) {
			return false
		}
	}
	return true
}

func short(fingerprint string) string { return fingerprint[:min(12, len(fingerprint))] }

// splitFilters parts "[remote:][filter] filter..." into the remote and filters.
func splitFilters(args []string) (remote string, filters []string) {
	if len(args) == 0 {
		return "", nil
	}
	r, first, ok := strings.Cut(args[0], ":")
	if !ok || strings.Contains(r, "=") {
		return "", args
	}
	if first != "" {
		filters = append(filters, first)
	}
	return r + ":", append(filters, args[1:]...)
}
