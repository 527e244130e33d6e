package instance

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
)

// Delete builds "lxc delete".
func Delete(a *cli.App) *cobra.Command {
	var force, ask bool
	cmd := cli.Command(cli.Help{
		Use:     "delete [<remote>:]<instance>[/<snapshot>] [[<remote>:]<instance>[/<snapshot>]...]",
		Aliases: []string{"rm"}, Short: i18n.G("Delete instances and snapshots"), Example: "lxc delete c1 --force\nlxc delete c2/before-upgrade",
	}, 1, -1, func(cmd *cobra.Command, args []string) error {
		resources, err := a.Resources(cmd, args)
		if err != nil {
			return err
		}
		// All must be there before the first one goes.
		for _, r := range resources {
			if err := exists(r); err != nil {
				return err
			}
		}
		for i, r := range resources {
			if ask {
				yes, err := a.Confirm(fmt.Sprintf(i18n.G("Remove %s (yes/no): "), args[i]))
				if err != nil {
					return err
				}
				if !yes {
					return errors.New(i18n.G("User aborted delete operation"))
				}
			}
			if err := remove(a, r, force); err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, i18n.G("Force the removal of running instances"))
	cmd.Flags().BoolVarP(&ask, "interactive", "i", false, i18n.G("Require user confirmation"))
	return cmd
}

func exists(r cli.Resource) error {
	if inst, snap, ok := strings.Cut(r.Name, "/"); ok {
		if _, _, err := r.Server.GetInstanceSnapshot(inst, snap); err != nil {
			return fmt.Errorf(i18n.G("Failed checking instance snapshot exists \"%s:%s\": %w"), r.Remote, r.Name, err)
		}
		return nil
	}
	if r.Name == "" {
		return errors.New(i18n.G("Missing instance name"))
	}
	if _, _, err := r.Server.GetInstance(r.Name); err != nil {
		return fmt.Errorf(i18n.G("Failed checking instance exists \"%s:%s\": %w"), r.Remote, r.Name, err)
	}
	return nil
}

func remove(a *cli.App, r cli.Resource, force bool) error {
	if inst, snap, ok := strings.Cut(r.Name, "/"); ok {
		return a.Wait(r.Server.DeleteInstanceSnapshot(inst, snap))
	}
	inst, _, err := r.Server.GetInstance(r.Name)
	if err != nil {
		return err
	}
	if inst.StatusCode != 0 && inst.StatusCode != api.Stopped && inst.StatusCode != api.Error {
		if !force {
			return errors.New(i18n.G("The instance is currently running, stop it first or pass --force"))
		}
		err := a.Wait(r.Server.UpdateInstanceState(r.Name, api.InstanceStatePut{Action: "stop", Timeout: -1, Force: true}, ""))
		if err != nil {
			return fmt.Errorf(i18n.G("Stopping the instance failed: %w"), err)
		}
		if inst.Ephemeral {
			return nil
		}
	}
	return a.Wait(r.Server.DeleteInstance(r.Name))
}
