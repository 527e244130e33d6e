package cluster

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
	"sett/shared/keypair"
)

func (c cluster) add() *cobra.Command {
	var name string
	cmd := cli.Command(cli.Help{
		Use: "add [[<remote>:]<name>]", Short: i18n.G("Request a join token for adding a cluster member"),
		Long:    i18n.G("The token is for a server of that name, works once, and expires (cluster.join_token_expiry)."),
		Example: "lxc cluster add m2",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		switch {
		case r.Name != "" && name != "" && r.Name != name:
			return errors.New(i18n.G("Cluster member name was provided as both a flag and as an argument"))
		case r.Name == "":
			r.Name = name
		}
		if r.Name == "" {
			if r.Name, err = c.Ask(i18n.G("Please provide cluster member name: ")); err != nil {
				return err
			}
		}
		op, err := r.Server.CreateClusterMember(api.ClusterMembersPost{ServerName: r.Name})
		if err != nil {
			return err
		}
		o := op.Get()
		t, err := o.ToClusterJoinToken()
		if err != nil {
			return err
		}
		c.Say(i18n.G("Member %s join token:"), r.Name)
		c.Println(t.String())
		return nil
	})
	cmd.Flags().StringVar(&name, "name", "", i18n.G("Cluster member name (alternative to passing it as an argument)")+"``")
	return cmd
}

// token is an operation that waits for a server to join.
type token struct {
	id   string
	join *api.ClusterMemberJoinToken
}

func tokens(s client.InstanceServer) ([]token, error) {
	ops, err := s.GetOperations()
	if err != nil {
		return nil, err
	}
	var out []token
	for _, o := range ops {
		if o.Class != "token" || o.StatusCode != api.Running {
			continue
		}
		if t, err := o.ToClusterJoinToken(); err == nil { // others are for clients
			out = append(out, token{o.ID, t})
		}
	}
	return out, nil
}

func (c cluster) listTokens() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list-tokens [<remote>:]", Short: i18n.G("List all active cluster member join tokens"), Example: "lxc cluster list-tokens",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		all, err := tokens(r.Server)
		if err != nil {
			return err
		}
		t := cli.Table{Header: []string{i18n.G("NAME"), i18n.G("TOKEN"), i18n.G("EXPIRES AT")}}
		raw := []*api.ClusterMemberJoinToken{}
		for _, x := range all {
			raw = append(raw, x.join)
			t.Rows = append(t.Rows, []string{x.join.ServerName, x.join.String(), x.join.ExpiresAt.Local().Format("2006/01/02 15:04 MST")})
		}
		t.Raw = raw
		cli.SortRows(t.Rows)
		return t.Render(c.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

func (c cluster) revokeToken() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "revoke-token " + arg, Short: i18n.G("Revoke cluster member join token"), Example: "lxc cluster revoke-token m2",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.member(cmd, args[0])
		if err != nil {
			return err
		}
		all, err := tokens(r.Server)
		if err != nil {
			return err
		}
		for _, t := range all {
			if t.join.ServerName != r.Name {
				continue
			}
			if err := r.Server.DeleteOperation(t.id); err != nil {
				return err
			}
			c.Say(i18n.G("Cluster join token for %s:%s deleted"), r.Remote, r.Name)
			return nil
		}
		return fmt.Errorf(i18n.G("No cluster join token for member %s on remote: %s"), r.Name, r.Remote)
	})
}

// trustNew makes this client expect the certificate that it has just given to a
// cluster.
func (c cluster) trustNew(remote string, cert []byte) error {
	if remote == "local" {
		return nil
	}
	leaf, err := keypair.ParseCert(cert)
	if err != nil {
		return err
	}
	return c.Conf.TrustServer(remote, leaf)
}
