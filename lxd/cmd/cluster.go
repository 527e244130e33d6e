package cmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v2"

	"sett/lxd/db/store"
	"sett/lxd/dqlite"
	"sett/shared/errs"
	"sett/shared/i18n"
	"sett/shared/version"
)

func (e *env) clusterCommand() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: i18n.G("Look after the database of a cluster"),
		Long: i18n.G(`Look after the database of a cluster.

These commands mend what the running cluster cannot: they work on this member
alone. All but list-database and remove-raft-node need the daemon stopped.`)}
	quiet := func(cmd *cobra.Command, q *bool) *cobra.Command {
		cmd.Flags().BoolVarP(q, "quiet", "q", false, i18n.G("Don't ask"))
		return cmd
	}
	var recoverQuiet, removeQuiet bool
	c.AddCommand(
		&cobra.Command{Use: "list-database", Aliases: []string{"ls"}, Short: i18n.G("List the members that hold the database"), Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return e.clusterList(cmd.Context()) }},
		&cobra.Command{Use: "show", Short: i18n.G("Show the database's members as YAML"), Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return e.clusterShow(cmd.Context()) }},
		&cobra.Command{Use: "edit", Short: i18n.G("Replace the database's members by YAML on standard input"), Args: cobra.NoArgs,
			Long: i18n.G(`Replace the database's members by YAML on standard input.

For members whose addresses have changed, or who are lost for ever. Make the
same change on one member only, the one that was the leader last; the others
must join again.`),
			Example: "  lxd cluster show > members.yaml\n  vi members.yaml\n  lxd cluster edit < members.yaml",
			RunE:    func(cmd *cobra.Command, _ []string) error { return e.clusterEdit(cmd.Context()) }},
		quiet(&cobra.Command{Use: "recover-from-quorum-loss", Short: i18n.G("Go on with this member alone"), Args: cobra.NoArgs,
			Long: i18n.G(`Go on with this member alone.

When most of the members that vote are lost for ever, the cluster stands still.
This makes this member the only one that holds the database, as far as it was
brought to it. Remove the lost members after that: lxc cluster remove --force.`),
			RunE: func(cmd *cobra.Command, _ []string) error { return e.clusterRecover(cmd.Context(), recoverQuiet) }}, &recoverQuiet),
		quiet(&cobra.Command{Use: "remove-raft-node <address>", Short: i18n.G("Remove a member from the database"), Args: cobra.ExactArgs(1),
			Long: i18n.G(`Remove a member from the database.

For one that "lxc cluster list" does not show any more while "lxd cluster
list-database" does.`),
			RunE: func(cmd *cobra.Command, args []string) error {
				return e.clusterRemove(cmd.Context(), args[0], removeQuiet)
			}}, &removeQuiet),
	)
	return c
}

func (e *env) offline(ctx context.Context, fn func(ctx context.Context, o *store.Offline) error) error {
	return store.OpenOffline(ctx, e.dir, version.Sett, fn)
}

// raftMember is a member in YAML.
type raftMember struct {
	ID      uint64 `yaml:"id"`
	Address string `yaml:"address"`
	Role    string `yaml:"role"`
}

type raftMembers struct {
	Members []raftMember `yaml:"members"`
}

var roles = map[string]dqlite.Role{"voter": dqlite.Voter, "stand-by": dqlite.StandBy, "spare": dqlite.Spare}

func (e *env) clusterList(ctx context.Context) error {
	c, err := e.connect(ctx)
	if err != nil {
		return e.offline(ctx, func(ctx context.Context, o *store.Offline) error {
			all, err := o.Members(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintln(e.out, i18n.G("ADDRESS"))
			for _, m := range all {
				fmt.Fprintln(e.out, m.Address)
			}
			return nil
		})
	}
	defer c.Disconnect()
	return e.sql(ctx, "local", "SELECT address FROM raft_nodes")
}

func (e *env) clusterShow(ctx context.Context) error {
	return e.offline(ctx, func(ctx context.Context, o *store.Offline) error {
		all, err := o.Members(ctx)
		if err != nil {
			return err
		}
		var out raftMembers
		for _, m := range all {
			out.Members = append(out.Members, raftMember{m.ID, m.Address, m.Role.String()})
		}
		return writeYAML(e.out, out)
	})
}

func (e *env) clusterEdit(ctx context.Context) error {
	return e.offline(ctx, func(ctx context.Context, o *store.Offline) error {
		text, err := io.ReadAll(e.in)
		if err != nil {
			return err
		}
		var in raftMembers
		if err := yaml.UnmarshalStrict(text, &in); err != nil {
			return errs.Invalid(i18n.G("That is not a list of members: %v"), err)
		}
		known, err := o.Members(ctx)
		if err != nil {
			return err
		}
		ids := map[uint64]bool{}
		for _, m := range known {
			ids[m.ID] = true
		}
		var all []dqlite.Member
		for _, m := range in.Members {
			role, ok := roles[m.Role]
			switch {
			case !ids[m.ID]:
				return errs.Invalid(i18n.G("There is no member %d; members can be changed and removed, not added"), m.ID)
			case !ok:
				return errs.Invalid(i18n.G("%q is not a role; use voter, stand-by or spare"), m.Role)
			case m.Address == "":
				return errs.Invalid(i18n.G("Member %d has no address"), m.ID)
			}
			delete(ids, m.ID)
			all = append(all, dqlite.Member{ID: m.ID, Address: m.Address, Role: role})
		}
		return o.Rewrite(ctx, all)
	})
}

func (e *env) clusterRecover(ctx context.Context, quiet bool) error {
	return e.offline(ctx, func(ctx context.Context, o *store.Offline) error {
		err := e.sure(quiet, i18n.G(`This is for a cluster that has lost most of its members for ever. This member
goes on alone with what it has of the database; the others must never run again
with what they have.`))
		if err != nil {
			return err
		}
		return o.GoOnAlone(ctx)
	})
}

func (e *env) clusterRemove(ctx context.Context, address string, quiet bool) error {
	if err := e.sure(quiet, i18n.G(`This removes a member from the database without asking it. Use it when "lxc
cluster remove" cannot.`)); err != nil {
		return err
	}
	c, err := e.connect(ctx)
	if err != nil {
		return fmt.Errorf(i18n.G("Failed to connect to local LXD: %w"), err)
	}
	defer c.Disconnect()
	_, _, err = c.RawQuery(http.MethodDelete, "/internal/cluster/raft-node/"+url.PathEscape(address), nil, "")
	return err
}

// sure asks whether to go on.
func (e *env) sure(quiet bool, text string) error {
	if quiet {
		return nil
	}
	fmt.Fprintln(e.out, text)
	fmt.Fprintln(e.out)
	a := asker{in: bufio.NewReader(e.in), tty: e.in, out: e.out, errs: e.err}
	yes, err := a.yes(i18n.G("Go on?"), false)
	if err == nil && !yes {
		err = errors.New(i18n.G("Nothing was changed"))
	}
	return err
}
