package cmd

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v2"

	"sett/client"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/i18n"
)

// initFlags are the ways to set a server up.
type initFlags struct {
	auto, minimal, preseed, dump bool

	address       string
	port          int64
	backend       string
	device        string
	loop          int64 // GB
	pool          string
	trustPassword string
	configured    bool // one of those that need --auto was given
}

const defaultPort = 8443

func (e *env) initCommand() *cobra.Command {
	var f initFlags
	c := &cobra.Command{
		Use: "init", Short: i18n.G("Set the server up"), Args: cobra.NoArgs,
		Long: i18n.G(`Set the server up: storage, a bridge, and the default profile that uses them.

Without flags it asks. What is there already is kept.`),
		Example: `  lxd init
  lxd init --minimal
  lxd init --auto --storage-backend=btrfs --storage-create-loop=20
  lxd init --preseed < preseed.yaml
  lxd init --dump`,
		PreRun: func(cmd *cobra.Command, _ []string) {
			for _, n := range []string{"network-address", "network-port", "storage-backend", "storage-create-device", "storage-create-loop", "storage-pool", "trust-password"} {
				f.configured = f.configured || cmd.Flags().Changed(n)
			}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return e.init(cmd.Context(), f) },
	}
	s := c.Flags()
	s.BoolVar(&f.auto, "auto", false, i18n.G("Ask nothing"))
	s.BoolVar(&f.minimal, "minimal", false, i18n.G("Ask nothing, and set up what a container needs"))
	s.BoolVar(&f.preseed, "preseed", false, i18n.G("Read the set-up as YAML from standard input"))
	s.BoolVar(&f.dump, "dump", false, i18n.G("Write the set-up of this server as YAML, for --preseed"))
	s.StringVar(&f.address, "network-address", "", i18n.G("Address to serve the API on (default: none)")+noType)
	s.Int64Var(&f.port, "network-port", -1, i18n.G("Port to serve the API on (default: 8443)")+noType)
	s.StringVar(&f.backend, "storage-backend", "", i18n.G("Kind of storage pool: btrfs or dir (default: dir)")+noType)
	s.StringVar(&f.device, "storage-create-device", "", i18n.G("Block device to make the storage pool on")+noType)
	s.Int64Var(&f.loop, "storage-create-loop", -1, i18n.G("Size in GB of a file to make the storage pool in")+noType)
	s.StringVar(&f.pool, "storage-pool", "", i18n.G("Name of the storage pool (default: default)")+noType)
	s.StringVar(&f.trustPassword, "trust-password", "", i18n.G("Password with which new clients are let in")+noType)
	return c
}

func (f initFlags) check() error {
	ways := []struct {
		name string
		on   bool
	}{{"--auto", f.auto}, {"--minimal", f.minimal}, {"--preseed", f.preseed}, {"--dump", f.dump}}
	first := ""
	for _, w := range ways {
		switch {
		case w.on && first != "":
			return errs.Invalid(i18n.G("Can't use %s and %s together"), first, w.name)
		case w.on:
			first = w.name
		}
	}
	if f.configured && !f.auto {
		return errs.Invalid(i18n.G("Configuration flags require --auto"))
	}
	if f.address == "" && f.port != -1 {
		return errs.Invalid(i18n.G("--network-port can't be used without --network-address"))
	}
	if f.address == "" && f.trustPassword != "" {
		return errs.Invalid(i18n.G("--trust-password can't be used without --network-address"))
	}
	if f.port != -1 && (f.port < 1 || f.port > 65535) {
		return errs.Invalid(i18n.G("--network-port %d is not between 1 and 65535"), f.port)
	}
	return f.checkStorage()
}

func (f initFlags) checkStorage() error {
	switch {
	case f.backend != "" && f.backend != "dir" && f.backend != "btrfs":
		return errs.Invalid(i18n.G("The requested backend %q isn't supported; use btrfs or dir"), f.backend)
	case f.backend != "btrfs" && (f.device != "" || f.loop != -1):
		return errs.Invalid(i18n.G("Neither --storage-create-device nor --storage-create-loop can be used with the \"dir\" backend"))
	case f.device != "" && f.loop != -1:
		return errs.Invalid(i18n.G("Only one of --storage-create-device and --storage-create-loop can be given"))
	case f.loop != -1 && f.loop < 1:
		return errs.Invalid(i18n.G("--storage-create-loop takes a size of 1 GB or more"))
	}
	return nil
}

func (e *env) init(ctx context.Context, f initFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	var p *api.InitPreseed
	var err error
	if f.preseed {
		// Read before anything is asked of the daemon: a broken file is its own error.
		if p, err = e.readPreseed(ctx); err != nil {
			return err
		}
	}
	c, err := client.ConnectLXDUnixWithContext(ctx, e.socket(), nil)
	if err != nil {
		return fmt.Errorf(i18n.G("Failed to connect to local LXD: %w"), err)
	}
	defer c.Disconnect()
	switch {
	case f.dump:
		return e.dumpPreseed(c)
	case f.auto || f.minimal:
		p, err = e.autoPreseed(c, f)
	case !f.preseed:
		p, err = e.askPreseed(ctx, c)
	}
	if err != nil {
		return err
	}
	return applyPreseed(c, p, e.err)
}

// writeYAML writes in the shape that LXD's users know: two spaces, lists level with
// their key.
func writeYAML(w io.Writer, v any) error {
	enc := yaml.NewEncoder(w)
	if err := enc.Encode(v); err != nil {
		return err
	}
	return enc.Close()
}
