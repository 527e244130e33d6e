package webui

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/i18n"
)

// Command builds "lxc webui": without a verb it prints a login link.
func Command(a *cli.App) *cobra.Command {
	w := webui{a}
	cmd := cli.Command(cli.Help{
		Use: "webui [<remote>:]", Short: i18n.G("Print a link that logs a browser in to the web interface"),
		Long:    i18n.G("The link works once, within two minutes. The browser has the rights of whoever\nprints the link, until it logs out, \"lxc webui revoke\" or the next twelve hours end it."),
		Example: "lxc webui\nlxc webui my-server:\nlxc webui list",
	}, 0, 1, w.link)
	cmd.AddCommand(w.list(), w.revoke())
	return cmd
}

type webui struct{ *cli.App }

func (w webui) link(cmd *cobra.Command, args []string) error {
	r, err := w.Resource(cmd, cli.OptionalArg(args, 0))
	if err != nil {
		return err
	}
	if r.Name != "" {
		return fmt.Errorf(i18n.G("%q names no remote; write it as %q"), r.Name, r.Name+":")
	}
	l, err := r.Server.CreateWebUILink()
	if err != nil {
		return err
	}
	base := ""
	if len(l.URLs) > 0 {
		base = l.URLs[0]
	}
	if info, err := r.Server.GetConnectionInfo(); err == nil {
		base = reachable(info, base)
	}
	// The token stands behind a number sign, which browsers keep to themselves.
	_, err = fmt.Fprintf(w.Out, "%slogin#%s\n", base, l.Token)
	return err
}

// reachable prefers the address by which this client reaches the server: it is sure
// to work from here.
func reachable(info *client.ConnectionInfo, base string) string {
	if strings.HasPrefix(info.URL, "https://") {
		return strings.TrimSuffix(info.URL, "/") + "/ui/"
	}
	return base
}

func (w webui) list() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:]", Aliases: []string{"ls"}, Short: i18n.G("List the browsers that are logged in"), Example: "lxc webui list",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := w.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		all, err := r.Server.GetWebUISessions()
		if err != nil {
			return err
		}
		t := cli.Table{Header: []string{
			i18n.G("ID"), i18n.G("USER"), i18n.G("ADDRESS"), i18n.G("BROWSER"), i18n.G("LOGGED IN"), i18n.G("EXPIRES"),
		}, Raw: all}
		for _, s := range all {
			t.Rows = append(t.Rows, []string{s.ID, s.Username, s.Address, browser(s.UserAgent),
				cli.Stamp(s.CreatedAt), cli.Stamp(s.ExpiresAt)})
		}
		return t.Render(w.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

// browser shortens what a browser calls itself to its name. All of them claim to be
// several others, so the order counts.
func browser(agent string) string {
	for _, p := range []struct{ mark, name string }{
		{"Edg/", "Edge"}, {"OPR/", "Opera"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"},
	} {
		if _, rest, ok := strings.Cut(agent, p.mark); ok {
			version, _, _ := strings.Cut(rest, ".")
			return p.name + " " + version
		}
	}
	name, _, _ := strings.Cut(agent, " ")
	return name
}

func (w webui) revoke() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "revoke [<remote>:]<session>", Aliases: []string{"delete", "rm"}, Short: i18n.G("Log a browser out"),
		Example: "lxc webui revoke 344a79e4-d88a-45bf-9c39-c72c26f6ab8a",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := w.Named(cmd, args[0], i18n.G("Missing session ID"))
		if err != nil {
			return err
		}
		return r.Server.DeleteWebUISession(r.Name)
	})
}
