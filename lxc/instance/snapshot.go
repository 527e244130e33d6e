package instance

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

// Snapshot builds "lxc snapshot".
func Snapshot(a *cli.App) *cobra.Command {
	var noExpiry, reuse bool
	cmd := cli.Command(cli.Help{
		Use:     "snapshot [<remote>:]<instance> [<snapshot>]",
		Short:   i18n.G("Take snapshots of instances"),
		Long:    i18n.G("The snapshot keeps the files and the configuration that the instance has now. Without a name it gets one by snapshots.pattern."),
		Example: "lxc snapshot c1\nlxc snapshot c1 before-upgrade --no-expiry",
	}, 1, 2, func(cmd *cobra.Command, args []string) error {
		r, err := a.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		if strings.Contains(r.Name, "/") {
			return errors.New(i18n.G("Invalid instance name; the name of the snapshot is an argument of its own"))
		}
		req := api.InstanceSnapshotsPost{Name: cli.OptionalArg(args, 1)}
		if noExpiry {
			req.ExpiresAt = &time.Time{}
		}
		if reuse && req.Name != "" {
			if _, _, err := r.Server.GetInstanceSnapshot(r.Name, req.Name); err == nil {
				if err := a.Wait(r.Server.DeleteInstanceSnapshot(r.Name, req.Name)); err != nil {
					return err
				}
			}
		}
		return a.Wait(r.Server.CreateInstanceSnapshot(r.Name, req))
	})
	cmd.Flags().BoolVar(&noExpiry, "no-expiry", false, i18n.G("Keep it for ever, whatever snapshots.expiry says"))
	cmd.Flags().BoolVar(&reuse, "reuse", false, i18n.G("Delete a snapshot of this name first"))
	cli.Later(cmd, "stateful")
	return cmd
}

// Restore builds "lxc restore".
func Restore(a *cli.App) *cobra.Command {
	cmd := cli.Command(cli.Help{
		Use:     "restore [<remote>:]<instance> <snapshot>",
		Short:   i18n.G("Bring instances back to snapshots"),
		Long:    i18n.G("What has changed since the snapshot is lost. An instance that runs is stopped for it, and started again."),
		Example: "lxc restore c1 before-upgrade",
	}, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := a.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		snap := args[1]
		if !strings.Contains(snap, "/") {
			snap = r.Name + "/" + snap
		}
		return a.Wait(r.Server.UpdateInstance(r.Name, api.InstancePut{Restore: snap}, ""))
	})
	cli.Later(cmd, "stateful")
	return cmd
}

// Retention builds "lxc retention".
func Retention(a *cli.App) *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use:   "retention [<remote>:]<instance> [<policy>]",
		Short: i18n.G("Show which snapshots a retention policy keeps"),
		Long: i18n.G("Nothing is deleted by this. Without a policy it is that of snapshots.retention, by which the server prunes scheduled snapshots.\n\n" +
			"A policy says how many to keep: the newest one of each of the last so many hours, days and so on. What was taken by hand is never pruned."),
		Example: "lxc retention c1\nlxc retention c1 \"last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=2\"\nlxc config set c1 snapshots.retention=\"daily=7 weekly=4\"",
	}, 1, 2, func(cmd *cobra.Command, args []string) error {
		r, err := a.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		all, err := r.Server.GetInstanceSnapshotVerdicts(r.Name, cli.OptionalArg(args, 1))
		if err != nil {
			return err
		}
		t := cli.Table{Header: []string{i18n.G("NAME"), i18n.G("TAKEN AT"), i18n.G("KEPT"), i18n.G("REASONS")}, Raw: all}
		for _, v := range all {
			t.Rows = append(t.Rows, []string{v.Name, cli.Stamp(v.CreatedAt), yesNo(v.Keep), strings.Join(v.Reasons, ", ")})
		}
		return t.Render(a.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}
