package instance

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/lxc/image"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/i18n"
)

type publish struct {
	*cli.App
	aliases []string
	expire  string
	force   bool
	req     api.ImagesPost
}

// Publish builds "lxc publish".
func Publish(a *cli.App) *cobra.Command {
	p := &publish{App: a}
	cmd := cli.Command(cli.Help{
		Use:   "publish [<remote>:]<instance>[/<snapshot>] [<remote>:] [flags] [key=value...]",
		Short: i18n.G("Publish instances as images"),
		Long: i18n.G("The image holds the files of the instance, its metadata and its templates; new instances can be made of it.\n" +
			"Properties that are given replace those that it has from its own image."),
		Example: "lxc publish c1 --alias web\nlxc publish c1/before-upgrade --compression \"zstd -19\" description=\"web server\"",
	}, 1, -1, p.run)
	f := cmd.Flags()
	f.StringArrayVar(&p.aliases, "alias", nil, i18n.G("New alias to define at target")+"``")
	f.StringVar(&p.req.CompressionAlgorithm, "compression", "", i18n.G("Compression algorithm to use (`none` for uncompressed)"))
	f.StringVar(&p.expire, "expire", "", i18n.G("Image expiration date (format: rfc3339)")+"``")
	f.BoolVarP(&p.force, "force", "f", false, i18n.G("Stop the instance if currently running"))
	f.BoolVar(&p.req.Public, "public", false, i18n.G("Make the image public"))
	return cmd
}

func (p *publish) run(cmd *cobra.Command, args []string) error {
	r, err := p.Named(cmd, args[0], i18n.G("Instance name is mandatory"))
	if err != nil {
		return err
	}
	pairs := args[1:]
	if len(pairs) > 0 && !strings.Contains(pairs[0], "=") {
		if err := p.checkTarget(r, pairs[0]); err != nil {
			return err
		}
		pairs = pairs[1:]
	}
	if p.req.Properties, err = cli.Pairs(pairs); err != nil {
		return err
	}
	if len(p.req.Properties) == 0 {
		p.req.Properties = nil // an empty set would take away what the instance has
	}
	if p.expire != "" {
		if p.req.ExpiresAt, err = time.Parse(time.RFC3339, p.expire); err != nil {
			return fmt.Errorf(i18n.G("Invalid expiration date: %w"), err)
		}
	}
	p.req.Source = &api.ImagesPostSource{Type: "instance", Name: r.Name}
	if strings.Contains(r.Name, "/") {
		p.req.Source.Type = "snapshot"
		return p.publish(r)
	}
	again, err := p.still(r)
	if err != nil {
		return err
	}
	return errors.Join(p.publish(r), again())
}

// checkTarget refuses what is no server, and other servers than the instance's.
func (p *publish) checkTarget(r cli.Resource, arg string) error {
	remote, name, err := p.Conf.ParseRemote(arg)
	switch {
	case err != nil:
		return err
	case name != "":
		return errors.New(i18n.G("There is no \"image name\".  Did you want an alias?"))
	case remote != r.Remote:
		return errs.NotImplemented(i18n.G("Publishing to another server is not implemented; publish on %q, and take the image there with \"lxc image export\" and \"lxc image import\""), r.Remote)
	}
	return nil
}

// still stops the instance if it runs and may be stopped. An ephemeral one survives
// that. What is returned brings it back to what it was.
func (p *publish) still(r cli.Resource) (again func() error, err error) {
	i, etag, err := r.Server.GetInstance(r.Name)
	if err != nil {
		return nil, err
	}
	if i.StatusCode == api.Stopped {
		return func() error { return nil }, nil
	}
	if !p.force {
		return nil, errors.New(i18n.G("The instance is currently running. Use --force to have it stopped and restarted"))
	}
	ephemeral := func(on bool, etag string) error {
		if !i.Ephemeral {
			return nil
		}
		now, fresh, err := r.Server.GetInstance(r.Name)
		if err != nil {
			return err
		}
		if etag == "" {
			etag = fresh
		}
		put := now.Writable()
		put.Ephemeral = on
		return p.Wait(r.Server.UpdateInstance(r.Name, put, etag))
	}
	if err := ephemeral(false, etag); err != nil {
		return nil, err
	}
	again = func() error {
		return errors.Join(ephemeral(true, ""), changeState(p.App, r, r.Name, api.InstanceStatePut{Action: "start", Timeout: -1}))
	}
	if err := changeState(p.App, r, r.Name, api.InstanceStatePut{Action: "stop", Timeout: -1, Force: true}); err != nil {
		return nil, errors.Join(err, ephemeral(true, ""))
	}
	return again, nil
}

func (p *publish) publish(r cli.Resource) error {
	op, err := r.Server.CreateImage(p.req, nil)
	if err != nil {
		return err
	}
	if err := p.Follow(op, i18n.G("Publishing instance: %s")); err != nil {
		return err
	}
	fp, ok := op.Get().Metadata["fingerprint"].(string)
	if !ok {
		return errors.New(i18n.G("Bad fingerprint"))
	}
	if err := image.MoveAliases(r.Server, p.aliases, fp); err != nil {
		return err
	}
	p.Printf(i18n.G("Instance published with fingerprint: %s")+"\n", fp)
	return nil
}
