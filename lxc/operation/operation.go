package operation

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
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
		Long:    i18n.G("Operations that have ended are shown too, with the log of what they did, as long as the server remembers them."),
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
	var all, allProjects bool
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:]", Aliases: []string{"ls"}, Short: i18n.G("List background operations"),
		Long:    i18n.G("With --all those that have ended are listed too, with who asked for them and what became of them."),
		Example: "lxc operation list --all",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := o.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		if all {
			return o.history(r, allProjects, *format)
		}
		list := r.Server.GetOperations
		if allProjects {
			list = r.Server.GetOperationsAllProjects
		}
		ops, err := list()
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
				cli.Stamp(op.CreatedAt),
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
	cmd.Flags().BoolVar(&all, "all", false, i18n.G("List operations that have ended too"))
	cmd.Flags().BoolVar(&allProjects, "all-projects", false, i18n.G("List operations from all projects"))
	return cmd
}

// history lists what there was, oldest first.
func (o operation) history(r cli.Resource, allProjects bool, format string) error {
	ops, err := r.Server.GetOperationHistory(allProjects)
	if err != nil {
		return err
	}
	clustered := r.Server.IsClustered()
	t := cli.Table{Header: []string{
		i18n.G("ID"), i18n.G("TYPE"), i18n.G("DESCRIPTION"), i18n.G("ON"), i18n.G("STATUS"), i18n.G("REQUESTOR"), i18n.G("CREATED"), i18n.G("TOOK"),
	}, Raw: ops}
	if clustered {
		t.Header = append(t.Header, i18n.G("LOCATION"))
	}
	for _, op := range ops {
		row := []string{
			op.ID, strings.ToUpper(op.Class), op.Description, on(op), strings.ToUpper(op.Status), requestor(op),
			op.CreatedAt.UTC().Format("2006/01/02 15:04:05 UTC"), took(op),
		}
		if clustered {
			row = append(row, op.Location)
		}
		t.Rows = append(t.Rows, row)
	}
	return t.Render(o.Out, format)
}

// on names what an operation is about, each thing once.
func on(op api.Operation) string {
	var names []string
	for _, kind := range slices.Sorted(maps.Keys(op.Resources)) {
		for _, u := range op.Resources[kind] {
			u, _, _ = strings.Cut(u, "?")
			name, err := url.PathUnescape(path.Base(u))
			if err == nil && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) > 3 {
		names = append(names[:3], "...")
	}
	return strings.Join(names, ", ")
}

// requestor names who asked; certificates go by the first digits of their fingerprint.
func requestor(op api.Operation) string {
	by := op.Requestor
	if by == nil {
		return ""
	}
	name := by.Username
	if len(name) == 64 {
		name = name[:12]
	}
	if name == "" {
		return by.Protocol
	}
	return fmt.Sprintf("%s (%s)", name, by.Protocol)
}

func took(op api.Operation) string {
	if op.EndedAt == nil {
		return ""
	}
	return op.EndedAt.Sub(op.CreatedAt).Round(time.Millisecond).String()
}
