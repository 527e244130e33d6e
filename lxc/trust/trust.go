package trust

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sett/lxc/cli"
	"sett/shared/api"
	"sett/shared/i18n"
	"sett/shared/keypair"
)

const (
	dateLayout = "Jan 2, 2006 at 3:04pm (MST)"
	arg        = "[<remote>:]<fingerprint>"
)

// Command builds "lxc config trust".
func Command(a *cli.App) *cobra.Command {
	c := trust{a}
	return cli.Noun(cli.Help{Use: "trust", Short: i18n.G("Manage trusted clients")},
		c.add(), c.addCertificate(), c.edit(), c.list(), c.listTokens(), c.remove(), c.revokeToken(), c.show())
}

type trust struct{ *cli.App }

// request is what the flags of add make.
type request struct {
	name       string
	typ        string
	restricted bool
	projects   []string
}

func (r *request) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.name, "name", "", i18n.G("Alternative certificate name")+"``")
	f.StringVar(&r.typ, "type", api.CertificateTypeClient, i18n.G("Type of certificate")+"``")
	f.BoolVar(&r.restricted, "restricted", false, i18n.G("Restrict the certificate to one or more projects"))
	f.StringSliceVar(&r.projects, "projects", nil, i18n.G("List of projects to restrict the certificate to")+"``")
}

func (r *request) put() (api.CertificatePut, error) {
	if r.typ != api.CertificateTypeClient && r.typ != api.CertificateTypeMetrics {
		return api.CertificatePut{}, fmt.Errorf(i18n.G("Unknown certificate type %q"), r.typ)
	}
	if len(r.projects) > 0 && !r.restricted {
		// Without it the certificate would open everything.
		return api.CertificatePut{}, errors.New(i18n.G("--projects goes with --restricted"))
	}
	return api.CertificatePut{Name: r.name, Type: r.typ, Restricted: r.restricted, Projects: r.projects}, nil
}

func (c trust) add() *cobra.Command {
	var req request
	cmd := cli.Command(cli.Help{
		Use: "add [<remote>:] [<cert>]", Short: i18n.G("Add new trusted client"),
		Long:    i18n.G("The following certificate types are supported:\n- client (default)\n- metrics\n\nWithout a certificate file a token is made and printed: the client that brings it to\n\"lxc remote add\" is trusted from then on. A token works once.\n\nCertificates and tokens can be restricted to projects."),
		Example: "lxc config trust add --name laptop\nlxc config trust add --name ci --restricted --projects web,test\nlxc config trust add ~/client.crt",
	}, 0, 2, func(cmd *cobra.Command, args []string) error {
		remote, file := "", ""
		switch {
		case len(args) == 2:
			remote, file = args[0], args[1]
		case len(args) == 1 && c.isRemote(args[0]):
			remote = args[0]
		case len(args) == 1:
			file = args[0]
		}
		r, err := c.Resource(cmd, remote)
		if err != nil {
			return err
		}
		if r.Name != "" {
			return fmt.Errorf(i18n.G("Invalid remote %q: it ends with a colon"), remote)
		}
		put, err := req.put()
		if err != nil {
			return err
		}
		if file == "" {
			return c.token(r, put)
		}
		return c.certificate(r, put, file)
	})
	req.flags(cmd)
	return cmd
}

// isRemote tells "lab:" from the name of a file.
func (c trust) isRemote(s string) bool {
	name, ok := strings.CutSuffix(s, ":")
	_, known := c.Conf.Remotes[name]
	return ok && known
}

func (c trust) addCertificate() *cobra.Command {
	var req request
	cmd := cli.Command(cli.Help{
		Use: "add-certificate [<remote>:] <cert>", Short: i18n.G("Add new trusted client certificate"),
		Example: "lxc config trust add-certificate ~/client.crt --name laptop",
	}, 1, 2, func(cmd *cobra.Command, args []string) error {
		remote := ""
		if len(args) > 1 {
			remote = args[0]
		}
		r, err := c.Resource(cmd, remote)
		if err != nil {
			return err
		}
		put, err := req.put()
		if err != nil {
			return err
		}
		return c.certificate(r, put, args[len(args)-1])
	})
	req.flags(cmd)
	return cmd
}

func (c trust) certificate(r cli.Resource, put api.CertificatePut, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	leaf, err := keypair.ParseCert(text)
	if err != nil {
		return fmt.Errorf(i18n.G("%s: %w"), file, err)
	}
	if put.Name == "" {
		put.Name = filepath.Base(file)
	}
	put.Certificate = base64.StdEncoding.EncodeToString(leaf.Raw)
	return r.Server.CreateCertificate(api.CertificatesPost{CertificatePut: put})
}

func (c trust) token(r cli.Resource, put api.CertificatePut) error {
	if put.Name == "" {
		name, err := c.Ask(i18n.G("Please provide client name: "))
		if err != nil {
			return err
		}
		put.Name = name
	}
	op, err := r.Server.CreateCertificateToken(api.CertificatesPost{CertificatePut: put})
	if err != nil {
		return err
	}
	o := op.Get()
	t, err := o.ToCertificateAddToken()
	if err != nil {
		return err
	}
	if !c.Quiet {
		c.Printf(i18n.G("Client %s certificate add token:")+"\n", put.Name)
	}
	c.Println(t.String())
	if len(t.Addresses) == 0 {
		_, _ = fmt.Fprintln(c.Err, i18n.G("The server is not on the network, so nobody can use the token yet: lxc config set core.https_address [::]:8443"))
	}
	return nil
}

func (c trust) list() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list [<remote>:]", Aliases: []string{"ls"}, Short: i18n.G("List trusted clients"), Example: "lxc config trust list",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		all, err := r.Server.GetCertificates()
		if err != nil {
			return err
		}
		t := cli.Table{Raw: all, Header: []string{i18n.G("TYPE"), i18n.G("NAME"), i18n.G("COMMON NAME"), i18n.G("FINGERPRINT"), i18n.G("ISSUE DATE"), i18n.G("EXPIRY DATE")}}
		for _, cert := range all {
			leaf, err := keypair.ParseCert([]byte(cert.Certificate))
			if err != nil {
				return fmt.Errorf(i18n.G("Certificate %s: %w"), cert.Fingerprint, err)
			}
			t.Rows = append(t.Rows, []string{cert.Type, cert.Name, leaf.Subject.CommonName, cert.Fingerprint[:min(12, len(cert.Fingerprint))],
				leaf.NotBefore.Format(dateLayout), leaf.NotAfter.Format(dateLayout)})
		}
		cli.SortRows(t.Rows)
		return t.Render(c.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

// shown is a token as programs read it.
type shown struct {
	ClientName string
	Token      string
	ExpiresAt  string
}

// tokens are the token operations of a server, with the ids of their operations.
func tokens(r cli.Resource) ([]shown, []string, error) {
	ops, err := r.Server.GetOperations()
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(ops, func(a, b api.Operation) int { return cmp.Compare(a.CreatedAt.UnixNano(), b.CreatedAt.UnixNano()) })
	list, ids := []shown{}, []string{}
	for _, o := range ops {
		if o.Class != "token" || o.StatusCode != api.Running {
			continue
		}
		t, err := o.ToCertificateAddToken()
		if err != nil {
			continue // a token of another kind
		}
		s := shown{ClientName: t.ClientName, Token: t.String()}
		if !t.ExpiresAt.IsZero() {
			s.ExpiresAt = t.ExpiresAt.Local().Format("2006/01/02 15:04 MST")
		}
		list, ids = append(list, s), append(ids, o.ID)
	}
	return list, ids, nil
}

func (c trust) listTokens() *cobra.Command {
	var format *string
	cmd := cli.Command(cli.Help{
		Use: "list-tokens [<remote>:]", Short: i18n.G("List all active certificate add tokens"), Example: "lxc config trust list-tokens",
	}, 0, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Resource(cmd, cli.OptionalArg(args, 0))
		if err != nil {
			return err
		}
		list, _, err := tokens(r)
		if err != nil {
			return err
		}
		t := cli.Table{Raw: list, Header: []string{i18n.G("NAME"), i18n.G("TOKEN"), i18n.G("EXPIRES AT")}}
		for _, s := range list {
			t.Rows = append(t.Rows, []string{s.ClientName, s.Token, s.ExpiresAt})
		}
		cli.SortRows(t.Rows)
		return t.Render(c.Out, *format)
	})
	format = cli.FormatFlag(cmd.Flags())
	return cmd
}

func (c trust) revokeToken() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "revoke-token [<remote>:]<name>", Short: i18n.G("Revoke certificate add token"), Example: "lxc config trust revoke-token laptop",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Named(cmd, args[0], i18n.G("Missing client name"))
		if err != nil {
			return err
		}
		list, ids, err := tokens(r)
		if err != nil {
			return err
		}
		found := false
		for i, s := range list {
			if s.ClientName != r.Name {
				continue
			}
			found = true
			if err := r.Server.DeleteOperation(ids[i]); err != nil {
				return err
			}
		}
		if !found {
			return fmt.Errorf(i18n.G("No certificate add token for %s on remote: %s"), r.Name, r.Remote)
		}
		c.Say(i18n.G("Certificate add token for %s deleted"), r.Name)
		return nil
	})
}

func (c trust) remove() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "remove " + arg, Aliases: []string{"rm"}, Short: i18n.G("Remove trusted client"), Example: "lxc config trust remove 421771bc6839",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Named(cmd, args[0], i18n.G("Missing certificate fingerprint"))
		if err != nil {
			return err
		}
		return r.Server.DeleteCertificate(r.Name)
	})
}

func (c trust) show() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "show " + arg, Short: i18n.G("Show trust configurations"), Example: "lxc config trust show 421771bc6839",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Named(cmd, args[0], i18n.G("Missing certificate fingerprint"))
		if err != nil {
			return err
		}
		cert, _, err := r.Server.GetCertificate(r.Name)
		if err != nil {
			return err
		}
		return c.ShowYAML(cert)
	})
}

func (c trust) edit() *cobra.Command {
	return cli.Command(cli.Help{
		Use: "edit " + arg, Short: i18n.G("Edit trust configurations as YAML"),
		Example: "lxc config trust edit 421771bc6839\nlxc config trust edit 421771bc6839 < cert.yaml",
	}, 1, 1, func(cmd *cobra.Command, args []string) error {
		r, err := c.Named(cmd, args[0], i18n.G("Missing certificate fingerprint"))
		if err != nil {
			return err
		}
		cert, etag, err := r.Server.GetCertificate(r.Name)
		if err != nil {
			return err
		}
		help := i18n.G("This is what the server knows of the certificate, as YAML.\nLines that begin with # are skipped.\n\nThe fingerprint is shown but cannot be changed here, nor can the type.")
		return cli.EditYAML(c.App, cmd, help, cert, func(put api.CertificatePut) error {
			return r.Server.UpdateCertificate(r.Name, put, etag)
		})
	})
}
