package remote

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/lxc/config"
	"sett/shared/i18n"
)

// Command builds "lxc remote".
func Command(a *cli.App) *cobra.Command {
	c := remotes{a}
	return cli.Noun(cli.Help{Use: "remote", Short: i18n.G("Manage the list of remote servers")},
		c.add(), c.clientCertificate(), c.getDefault(), c.list(), c.rename(), c.remove(), c.switchTo(), c.setURL())
}

type remotes struct{ *cli.App }

// find is a remote that may be changed.
func (c remotes) find(name string, change bool) (config.Remote, error) {
	r, ok := c.Conf.Remotes[name]
	if !ok {
		return r, fmt.Errorf(i18n.G("Remote %s doesn't exist"), name)
	}
	if change && r.Static {
		return r, fmt.Errorf(i18n.G("Remote %s is static and cannot be modified"), name)
	}
	if change && r.Global {
		return r, fmt.Errorf(i18n.G("Remote %s is global and cannot be modified"), name)
	}
	return r, nil
}

func (c remotes) getDefault() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "get-default", Short: i18n.G("Show the default remote"), Example: "lxc remote get-default",
	}, 0, 0, func(*cobra.Command, []string) error {
		c.Println(c.Conf.DefaultRemote)
		return nil
	})
}

// shown is a remote as programs read it.
type shown struct {
	Addr     string `yaml:"addr"`
	AuthType string `yaml:"auth_type,omitempty"`
	Domain   string `yaml:"domain,omitempty"`
	Project  string `yaml:"project,omitempty"`
	Protocol string `yaml:"protocol,omitempty"`
	Public   bool   `yaml:"public"`
	Global   bool   `yaml:"-"`
	Static   bool   `yaml:"-"`
}

func (c remotes) list() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list", Aliases: []string{"ls"}, Short: i18n.G("List the available remotes"), Example: "lxc remote list",
	}, 0, 0, func(*cobra.Command, []string) error {
		raw := map[string]shown{}
		t := cli.Table{Raw: raw, Header: []string{i18n.G("NAME"), i18n.G("URL"), i18n.G("PROTOCOL"), i18n.G("AUTH TYPE"), i18n.G("PUBLIC"), i18n.G("STATIC"), i18n.G("GLOBAL")}}
		yes := func(b bool) string {
			if b {
				return i18n.G("YES")
			}
			return i18n.G("NO")
		}
		for name, r := range c.Conf.Remotes {
			raw[name] = shown{r.Addr, r.AuthType, r.Domain, r.Project, r.Protocol, r.Public, r.Global, r.Static}
			protocol, auth := r.Protocol, r.AuthType
			if protocol == "" {
				protocol = "lxd"
			}
			switch {
			case auth != "":
			case strings.HasPrefix(r.Addr, "unix:"):
				auth = i18n.G("file access")
			case protocol == "simplestreams":
				auth = i18n.G("none")
			default:
				auth = "tls"
			}
			label := name
			if name == c.Conf.DefaultRemote {
				label = fmt.Sprintf(i18n.G("%s (current)"), name)
			}
			t.Rows = append(t.Rows, []string{label, r.Addr, protocol, auth, yes(r.Public), yes(r.Static), yes(r.Global)})
		}
		cli.SortRows(t.Rows)
		return t.Render(c.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

func (c remotes) rename() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "rename <remote> <new-name>", Aliases: []string{"mv"}, Short: i18n.G("Rename remotes"), Example: "lxc remote rename lab office",
	}, 2, 2, func(_ *cobra.Command, args []string) error {
		from, to := args[0], args[1]
		r, err := c.find(from, true)
		if err != nil {
			return err
		}
		if _, ok := c.Conf.Remotes[to]; ok {
			return fmt.Errorf(i18n.G("Remote %s already exists"), to)
		}
		if err := checkName(to); err != nil {
			return err
		}
		if err := c.Conf.RenameServer(from, to); err != nil {
			return err
		}
		c.Conf.Remotes[to] = r
		delete(c.Conf.Remotes, from)
		if c.Conf.DefaultRemote == from {
			c.Conf.DefaultRemote = to
		}
		return c.Conf.Save()
	})
}

func (c remotes) remove() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "remove <remote>", Aliases: []string{"rm"}, Short: i18n.G("Remove remotes"), Example: "lxc remote remove lab",
	}, 1, 1, func(_ *cobra.Command, args []string) error {
		if _, err := c.find(args[0], true); err != nil {
			return err
		}
		if c.Conf.DefaultRemote == args[0] {
			return errors.New(i18n.G("Can't remove the default remote"))
		}
		delete(c.Conf.Remotes, args[0])
		if err := c.Conf.Save(); err != nil {
			return err
		}
		return c.Conf.ForgetServer(args[0])
	})
}

func (c remotes) switchTo() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "switch <remote>", Aliases: []string{"set-default"}, Short: i18n.G("Switch the default remote"), Example: "lxc remote switch lab",
	}, 1, 1, func(_ *cobra.Command, args []string) error {
		if _, err := c.find(args[0], false); err != nil {
			return err
		}
		c.Conf.DefaultRemote = args[0]
		return c.Conf.Save()
	})
}

func (c remotes) setURL() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "set-url <remote> <URL>", Short: i18n.G("Set the URL for the remote"), Example: "lxc remote set-url lab https://10.0.0.2:8443",
	}, 2, 2, func(_ *cobra.Command, args []string) error {
		r, err := c.find(args[0], true)
		if err != nil {
			return err
		}
		if r.Addr, err = parseURL(args[1], r.Protocol); err != nil {
			return err
		}
		c.Conf.Remotes[args[0]] = r
		return c.Conf.Save()
	})
}

func (c remotes) clientCertificate() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "get-client-certificate", Short: i18n.G("Print the certificate that this client shows to servers"),
		Long:    i18n.G("It is made when there is none. A server trusts the client when it has the certificate:\ngive it to somebody who administers the server, for \"lxc config trust add\"."),
		Example: "lxc remote get-client-certificate > client.crt",
	}, 0, 0, func(*cobra.Command, []string) error {
		p, err := c.pair()
		if err != nil {
			return err
		}
		c.Printf("%s", p.Cert)
		return nil
	})
}
