package operation

import (
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/i18n"
)

// Command builds "lxc operation".
func Command(a *cli.App) *cobra.Command {
	o := operation{a}
	return cli.Noun(cli.Help{Use: "operation", Short: i18n.G("List, show and delete background operations")},
		o.delete(), o.list(), o.show())
}

type operation struct{ *cli.App }

func (o operation) delete() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "delete [<remote>:]<operation>", Aliases: []string{"cancel", "rm"},
		Short:   i18n.G("Delete background operations (will attempt to cancel)"),
		Example: "lxc operation delete 344a79e4-d88a-45bf-9c39-c72c26f6ab8a",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := o.Named(cmd, args[0], i18n.G("Missing operation name"))
		if err != nil {
			return err
		}
		if err := r.Server.DeleteOperation(r.Name); err != nil {
			return err
		}
		o.Say(i18n.G("Operation %s deleted"), r.Name)
		return nil
	})
}

func (o operation) show() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "show [<remote>:]<operation>", Short: i18n.G("Show details on a background operation"),
		Example: "lxc operation show 344a79e4-d88a-45bf-9c39-c72c26f6ab8a",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := o.Named(cmd, args[0], i18n.G("Missing operation name"))
		if err != nil {
			return err
		}
		op, _, err := r.Server.GetOperation(r.Name)
		if err != nil {
			return err
		}
		return o.ShowYAML(op)
	})
}

func (o operation) list() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:]", Aliases: []string{"ls"}, Short: i18n.G("List background operations"), Example: "lxc operation list",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := o.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		ops, err := r.Server.GetOperations()
		if err != nil {
			return err
		}
		clustered := r.Server.IsClustered()
		t := cli.Table{Header: []string{
			i18n.G("ID"), i18n.G("TYPE"), i18n.G("DESCRIPTION"), i18n.G("STATUS"), i18n.G("CANCELABLE"), i18n.G("CREATED"),
		}, Raw: ops}
		if clustered {
			t.Header = append(t.Header, i18n.G("LOCATION"))
		}
		for _, op := range ops {
			cancel := i18n.G("NO")
			if op.MayCancel {
				cancel = i18n.G("YES")
			}
			row := []string{
				op.ID, strings.ToUpper(op.Class), op.Description, strings.ToUpper(op.Status), cancel,
				op.CreatedAt.UTC().Format("2006/01/02 15:04 UTC"),
			}
			if clustered {
				row = append(row, op.Location)
			}
			t.Rows = append(t.Rows, row)
		}
		cli.SortRows(t.Rows)
		return t.Render(o.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}
