package file

import (
	"bytes"
	"fmt"
	"io"
	"path"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/i18n"
)

func editCommand(a *cli.App) *cobra.Command {
	return cli.Command(cli.Help{
		Use: "edit [<remote>:]<instance>/<path>", Short: i18n.G("Edit files in instances"),
		Long: i18n.G("What comes on the standard input, when that is no terminal, replaces the file."), Example: "lxc file edit c1/etc/hosts",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		all, err := places(a, cmd, args, i18n.G("Invalid path %s"))
		if err != nil {
			return err
		}
		p := all[0]
		// Owner and mode of what is there stay.
		store := func(b []byte) error {
			return p.Server.CreateInstanceFile(p.Name, p.path, client.InstanceFileArgs{
				UID: -1, GID: -1, Mode: -1, Type: "file", Content: bytes.NewReader(b)})
		}
		if b, piped, err := a.Piped(); err != nil {
			return err
		} else if piped {
			return store(b)
		}
		content, resp, err := open(p)
		if err != nil {
			return err
		}
		if resp.Type == "directory" {
			return fmt.Errorf(i18n.G("%s is a directory"), p.path)
		}
		before, err := io.ReadAll(content)
		_ = content.Close()
		if err != nil {
			return err
		}
		after, err := a.Edit(cmd, before, path.Ext(p.path))
		if err != nil || bytes.Equal(before, after) {
			return err
		}
		return store(after)
	})
}
