package settings

import (
	"bytes"
	"io"
	"path"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/i18n"
)

const templateArg = arg + " <template>"

// template builds "lxc config template".
func (c settings) template() *cobra.Command {
	return cli.Noun(cli.Help{Use: "template", Short: i18n.G("Manage instance file templates")},
		c.templateCreate(), c.templateDelete(), c.templateEdit(), c.templateList(), c.templateShow())
}

// onTemplate builds a verb on one template.
func (c settings) onTemplate(h cli.Help, run func(cmd *cobra.Command, r cli.Resource, name string) error) *cobra.Command {
	return cli.Command(h, 2, 2, func(cmd *cobra.Command, args []string) error {
		r, err := c.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		return run(cmd, r, args[1])
	})
}

func (c settings) templateCreate() *cobra.Command {
	return c.onTemplate(cli.Help{
		Use: "create " + templateArg, Short: i18n.G("Create new instance file templates"),
		Long:    i18n.G("What is piped in becomes the template; without a pipe it is empty."),
		Example: "lxc config template create c1 hosts.tpl < hosts.tpl",
	}, func(_ *cobra.Command, r cli.Resource, name string) error {
		b, _, err := c.Piped()
		if err != nil {
			return err
		}
		return r.Server.CreateInstanceTemplateFile(r.Name, name, bytes.NewReader(b))
	})
}

func (c settings) templateDelete() *cobra.Command {
	return c.onTemplate(cli.Help{
		Use: "delete " + templateArg, Aliases: []string{"rm"}, Short: i18n.G("Delete instance file templates"),
		Example: "lxc config template delete c1 hosts.tpl",
	}, func(_ *cobra.Command, r cli.Resource, name string) error {
		return r.Server.DeleteInstanceTemplateFile(r.Name, name)
	})
}

func (c settings) templateEdit() *cobra.Command {
	return c.onTemplate(cli.Help{
		Use: "edit " + templateArg, Short: i18n.G("Edit instance file templates"),
		Example: "lxc config template edit c1 hosts.tpl",
	}, func(cmd *cobra.Command, r cli.Resource, name string) error {
		b, piped, err := c.Piped()
		if err != nil {
			return err
		}
		if !piped {
			if b, err = c.readTemplate(r, name); err != nil {
				return err
			}
			if b, err = c.Edit(cmd, b, path.Ext(name)); err != nil {
				return err
			}
		}
		return r.Server.CreateInstanceTemplateFile(r.Name, name, bytes.NewReader(b))
	})
}

func (c settings) readTemplate(r cli.Resource, name string) ([]byte, error) {
	body, err := r.Server.GetInstanceTemplateFile(r.Name, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	return io.ReadAll(body)
}

func (c settings) templateShow() *cobra.Command {
	return c.onTemplate(cli.Help{
		Use: "show " + templateArg, Short: i18n.G("Show content of instance file templates"),
		Example: "lxc config template show c1 hosts.tpl",
	}, func(_ *cobra.Command, r cli.Resource, name string) error {
		b, err := c.readTemplate(r, name)
		if err != nil {
			return err
		}
		_, err = c.Out.Write(b)
		return err
	})
}

func (c settings) templateList() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list " + arg, Aliases: []string{"ls"}, Short: i18n.G("List instance file templates"), Example: "lxc config template list c1",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Named(cmd, args[0], i18n.G("Missing instance name"))
		if err != nil {
			return err
		}
		names, err := r.Server.GetInstanceTemplateFiles(r.Name)
		if err != nil {
			return err
		}
		t := cli.Table{Header: []string{i18n.G("FILENAME")}, Raw: names}
		for _, n := range names {
			t.Rows = append(t.Rows, []string{n})
		}
		cli.SortRows(t.Rows)
		return t.Render(c.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}
