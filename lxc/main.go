// Command lxc is the command line of Sett; it speaks to any server of the LXD 5.0
// API.
package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"sett/lxc/alias"
	"sett/lxc/cli"
	"sett/lxc/cluster"
	"sett/lxc/completion"
	"sett/lxc/file"
	"sett/lxc/image"
	"sett/lxc/instance"
	"sett/lxc/network"
	"sett/lxc/operation"
	"sett/lxc/profile"
	"sett/lxc/remote"
	"sett/lxc/server"
	"sett/lxc/settings"
	"sett/lxc/storage"
	"sett/lxc/webui"
)

// commands is the whole tree; a new noun is a line here.
func commands() []func(*cli.App) *cobra.Command {
	return []func(*cli.App) *cobra.Command{
		alias.Command,
		cluster.Command,
		completion.Command,
		file.Command,
		image.Command,
		instance.Console,
		instance.Copy,
		instance.Delete,
		instance.Exec,
		instance.Info,
		instance.Init,
		instance.Launch,
		instance.List,
		instance.Move,
		instance.Pause,
		instance.Publish,
		instance.Rebuild,
		instance.Rename,
		instance.Restart,
		instance.Restore,
		instance.Retention,
		instance.Export,
		instance.Import,
		instance.Snapshot,
		instance.Start,
		instance.Stop,
		network.Command,
		operation.Command,
		profile.Command,
		remote.Command,
		server.Monitor,
		server.Query,
		server.Version,
		settings.Command,
		storage.Command,
		webui.Command,
	}
}

// notBuilt are the commands of LXD 5.0 that are not here, with all that is below them.
func notBuilt() []string {
	return []string{
		"cluster evacuate", "cluster group", "cluster restore",
		"image copy", "image refresh",
		"manpage",
		"network acl", "network forward", "network peer", "network zone",
		"project",
		"storage volume",
		"warning",
	}
}

func newApp() *cli.App {
	a := cli.New(commands()...)
	a.NotBuilt = notBuilt()
	return a
}

func main() {
	os.Exit(newApp().Run(context.Background(), os.Args[1:]))
}
