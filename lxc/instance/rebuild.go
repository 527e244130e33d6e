package instance

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/lxc/image"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/i18n"
)

type rebuild struct {
	*cli.App
	empty, force bool
}

// Rebuild builds "lxc rebuild".
func Rebuild(a *cli.App) *cobra.Command {
	c := &rebuild{App: a}
	cmd := cli.Command(cli.Help{
		Use:     "rebuild [<remote>:]<image> [<remote>:]<instance>",
		Short:   i18n.G("Make instances anew of images"),
		Long:    i18n.G("All files of the instance are lost. It keeps its name, its configuration and its devices. It must be stopped and have no snapshots."),
		Example: "lxc rebuild debian c1\nlxc rebuild debian c1 --force\nlxc rebuild c1 --empty",
	}, 1, 2, c.run)
	cmd.Flags().BoolVar(&c.empty, "empty", false, i18n.G("Rebuild as an empty instance"))
	cmd.Flags().BoolVarP(&c.force, "force", "f", false, i18n.G("If the instance is running, stop it, rebuild it and start it again"))
	return cmd
}

func (c *rebuild) run(cmd *cobra.Command, args []string) error {
	if c.empty && len(args) > 1 {
		return errors.New(i18n.G("--empty cannot be combined with an image name"))
	}
	if !c.empty && len(args) < 2 {
		return errors.New(i18n.G("An image is needed, or --empty"))
	}
	r, err := c.Named(cmd, args[len(args)-1], i18n.G("Instance name is mandatory"))
	if err != nil {
		return err
	}
	server, _, err := r.Server.GetServer()
	if err != nil {
		return err
	}
	if !slices.Contains(server.APIExtensions, "instances_rebuild") {
		return errors.New(i18n.G("The server cannot rebuild instances; it lacks the API extension \"instances_rebuild\""))
	}
	req := api.InstanceRebuildPost{Source: api.InstanceSource{Type: "none"}}
	if !c.empty {
		if req.Source, err = c.source(r, args[0]); err != nil {
			return err
		}
	}
	i, _, err := r.Server.GetInstance(r.Name)
	if err != nil {
		return err
	}
	ran := i.StatusCode != api.Stopped && c.force // without force the server says what is wrong
	if ran {
		if i.Ephemeral {
			return errors.New(i18n.G("The instance is ephemeral, and would be gone once it is stopped"))
		}
		if err := changeState(c.App, r, r.Name, api.InstanceStatePut{Action: "stop", Timeout: -1, Force: true}); err != nil {
			return err
		}
	}
	err = c.rebuild(r, req)
	if ran && (err != nil || !c.empty) {
		// Also after a failure: the files are what they were then. Nothing cannot start.
		err = errors.Join(err, changeState(c.App, r, r.Name, api.InstanceStatePut{Action: "start", Timeout: -1}))
	}
	return err
}

// source names the image by its fingerprint: an alias may be moved meanwhile.
func (c *rebuild) source(r cli.Resource, arg string) (api.InstanceSource, error) {
	src := api.InstanceSource{Type: "image"}
	remote, name, err := c.Conf.ParseRemote(arg)
	if err != nil {
		return src, err
	}
	if remote != r.Remote {
		return src, errs.NotImplemented(i18n.G("Images of other servers are not implemented; import the image on %q first"), r.Remote)
	}
	fp, err := image.Fingerprint(r.Server, name, "")
	if err != nil {
		return src, err
	}
	// Before anything is stopped for it.
	img, _, err := r.Server.GetImage(fp)
	if err != nil {
		return src, err
	}
	src.Fingerprint = img.Fingerprint
	return src, nil
}

func (c *rebuild) rebuild(r cli.Resource, req api.InstanceRebuildPost) error {
	op, err := r.Server.RebuildInstance(r.Name, req)
	if err != nil {
		return err
	}
	return c.Follow(op, i18n.G("Rebuilding instance: %s"))
}
