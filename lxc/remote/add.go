package remote

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sett/client"
	"sett/lxc/cli"
	"sett/lxc/config"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/i18n"
	"sett/shared/keypair"
	"sett/shared/validate"
)

// adding is one run of "lxc remote add".
type adding struct {
	remotes
	ctx  context.Context
	name string

	accept   bool
	password string
	protocol string
	public   bool
	authType string
}

func (c remotes) add() *cobra.Command {
	a := adding{remotes: c}
	cmd := cli.Command(cli.Help{
		Use: "add [<remote>] <IP|FQDN|URL|token>", Short: i18n.G("Add new remote servers"),
		Long:    i18n.G("A token, which \"lxc config trust add\" prints on the server, names the server and is all\nthat is needed. Without one the server is shown by its fingerprint, and the server asks\nfor its trust password.\n\nURLs begin with https://, or with unix:// for a socket."),
		Example: "lxc remote add lab eyJjbGllbnRfbmFtZSI6...\nlxc remote add lab 10.0.0.2\nlxc remote add pictures https://images.example --protocol simplestreams",
	}, 1, 2, func(cmd *cobra.Command, args []string) error {
		a.ctx = cmd.Context()
		return a.run(args)
	})
	f := cmd.Flags()
	f.BoolVar(&a.accept, "accept-certificate", false, i18n.G("Accept certificate"))
	f.StringVar(&a.password, "password", "", i18n.G("Remote admin password")+"``")
	f.StringVar(&a.protocol, "protocol", "", i18n.G("Server protocol (lxd or simplestreams)")+"``")
	f.StringVar(&a.authType, "auth-type", "", i18n.G("Server authentication type (tls)")+"``")
	f.BoolVar(&a.public, "public", false, i18n.G("Public image server"))
	cli.Later(cmd, "domain=")
	return cmd
}

func (a *adding) run(args []string) error {
	server := args[len(args)-1]
	token := decode(server)
	a.name = args[0]
	if len(args) == 1 && token != nil {
		return errors.New(i18n.G("A token says nothing of the remote's name: lxc remote add <remote> <token>"))
	}
	if err := checkName(a.name); err != nil {
		return err
	}
	if r, ok := a.Conf.Remotes[a.name]; ok {
		return fmt.Errorf(i18n.G("Remote %s exists as <%s>"), a.name, r.Addr)
	}
	switch {
	case a.authType != "" && a.authType != "tls":
		return errs.NotImplemented(i18n.G("The authentication type %q is not implemented; it is tls"), a.authType)
	case a.protocol != "" && a.protocol != "lxd" && a.protocol != "simplestreams":
		return fmt.Errorf(i18n.G("Invalid protocol: %s"), a.protocol)
	}
	var err error
	if token != nil {
		err = a.byToken(token, server)
	} else {
		err = a.byURL(server)
	}
	if err != nil {
		// Nothing stays of a server that is not trusted.
		return errors.Join(err, a.Conf.ForgetServer(a.name))
	}
	return a.Conf.Save()
}

// decode reads a token in the form in which it travels; nil when it is none.
func decode(s string) *api.CertificateAddToken {
	b, err := base64.StdEncoding.DecodeString(s)
	var t api.CertificateAddToken
	if err != nil || json.Unmarshal(b, &t) != nil || t.Secret == "" || t.Fingerprint == "" {
		return nil
	}
	return &t
}

// checkName refuses names that could not be told apart in "remote:name", or that
// are no file names.
func checkName(name string) error {
	if strings.Contains(name, ":") {
		return errors.New(i18n.G("Remote names may not contain colons"))
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00") || len(name) > 200 {
		return fmt.Errorf(i18n.G("Invalid remote name %q"), name)
	}
	return nil
}

// parseURL brings what people write for a server into the form that is stored.
func parseURL(s, protocol string) (string, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok || strings.HasPrefix(s, "/") {
		if path = "/" + strings.TrimLeft(path, "/"); !ok {
			path = s
		}
		if ok && strings.Trim(strings.TrimPrefix(s, "unix:"), "/") == "" {
			return "unix://", nil
		}
		return "unix://" + filepath.Clean(path), nil
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && a.Is6() {
		s = "[" + a.String() + "]"
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf(i18n.G("Invalid URL %q"), s)
	}
	if u.Scheme != "https" {
		return "", fmt.Errorf(i18n.G("Invalid URL scheme \"%s\" in \"%s\""), u.Scheme, s)
	}
	if protocol == "simplestreams" {
		return strings.TrimSuffix(s, "/"), nil
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), validate.DefaultPort)
	}
	return "https://" + u.Host, nil
}

// pair is what this client shows; it is made when it is first needed.
func (c remotes) pair() (*keypair.Pair, error) {
	p, made, err := c.Conf.ClientPair()
	if made && err == nil {
		_, _ = fmt.Fprintln(c.Err, i18n.G("Generated a client certificate"))
	}
	return p, err
}

func (a *adding) keep(r config.Remote) { a.Conf.Remotes[a.name] = r }

func (a *adding) byURL(server string) error {
	addr, err := parseURL(server, a.protocol)
	if err != nil {
		return err
	}
	if a.protocol == "simplestreams" {
		a.keep(config.Remote{Addr: addr, Protocol: a.protocol, Public: true})
		return nil
	}
	r := config.Remote{Addr: addr, Protocol: "lxd", Public: a.public, Project: a.Project}
	if strings.HasPrefix(addr, "unix:") {
		a.keep(r)
		s, err := a.Conf.InstanceServer(a.ctx, a.name, a.ConnectionArgs())
		if err != nil {
			return err
		}
		return a.pickProject(s)
	}
	if _, err := a.pair(); err != nil {
		return err
	}
	cert, err := a.meet(addr, "")
	if err != nil {
		return err
	}
	if err := a.Conf.TrustServer(a.name, cert); err != nil {
		return err
	}
	if a.public {
		a.keep(config.Remote{Addr: addr, Public: true})
		s, err := a.Conf.ImageServer(a.ctx, a.name, a.ConnectionArgs())
		if err == nil {
			s.Disconnect()
		}
		return err
	}
	r.AuthType = "tls"
	a.keep(r)
	args := a.ConnectionArgs()
	args.SkipGetServer = true
	s, err := a.Conf.InstanceServer(a.ctx, a.name, args)
	if err != nil {
		return err
	}
	defer s.Disconnect()
	known, err := a.known(s)
	if err != nil || known {
		if err != nil {
			return err
		}
		return a.pickProject(s)
	}
	if a.password == "" {
		if a.password, err = a.AskSecret(fmt.Sprintf(i18n.G("Admin password (or token) for %s: "), a.name)); err != nil {
			return err
		}
	}
	if err := a.introduce(s, a.password); err != nil {
		return err
	}
	a.Printf(i18n.G("Client certificate now trusted by server: %s")+"\n", a.name)
	return a.pickProject(s)
}

// known tells whether the server knows this client already.
func (a *adding) known(s client.InstanceServer) (bool, error) {
	server, _, err := s.GetServer()
	if refused := (api.StatusError{}); errors.As(err, &refused) && refused.Status() == http.StatusForbidden {
		return false, nil
	}
	return err == nil && server.Auth == "trusted", err
}

// meet fetches the certificate of a server and decides whether it is the right one:
// by the fingerprint that a token tells, by the system's authorities (then nothing is
// to be kept), or by asking.
func (a *adding) meet(addr, want string) (*x509.Certificate, error) {
	args := a.ConnectionArgs()
	cert, vouched, err := client.GetRemoteCertificate(a.ctx, addr, &args)
	if err != nil {
		return nil, err
	}
	have := keypair.Fingerprint(cert)
	switch {
	case want != "" && have != want:
		return nil, fmt.Errorf(i18n.G("Certificate fingerprint mismatch between certificate token and server %q"), addr)
	case want != "" || a.accept:
		return cert, nil
	case vouched:
		return nil, nil
	}
	a.Printf(i18n.G("Certificate fingerprint: %s")+"\n", have)
	for {
		answer, err := a.Ask(i18n.G("ok (y/n/[fingerprint])?") + " ")
		if err != nil {
			return nil, err
		}
		answer = strings.ToLower(answer)
		switch {
		case slices.Contains([]string{"y", "yes", i18n.G("y"), i18n.G("yes")}, answer), answer == have:
			return cert, nil
		case slices.Contains([]string{"n", "no", i18n.G("n"), i18n.G("no")}, answer):
			return nil, errors.New(i18n.G("Server certificate NACKed by user"))
		case len(answer) == len(have):
			return nil, errors.New(i18n.G("The fingerprint is another one: this is not the server that it belongs to"))
		}
		a.Println(i18n.G("Please type 'y', 'n' or the fingerprint:"))
	}
}

// introduce makes the server trust this client.
func (a *adding) introduce(s client.InstanceServer, password string) error {
	return s.CreateCertificate(api.CertificatesPost{CertificatePut: api.CertificatePut{Type: api.CertificateTypeClient}, Password: password})
}

// byToken tries the addresses that the token names until one answers with the right
// certificate.
func (a *adding) byToken(t *api.CertificateAddToken, raw string) error {
	if !t.ExpiresAt.IsZero() && time.Now().After(t.ExpiresAt) {
		return fmt.Errorf(i18n.G("The token has expired on %s"), t.ExpiresAt.Local().Format("2006/01/02 15:04 MST"))
	}
	if _, err := a.pair(); err != nil {
		return err
	}
	if len(t.Addresses) == 0 {
		answer, err := a.Ask(i18n.G("The token has no addresses, as the server was not on the network. Its address:") + " ")
		if err != nil {
			return err
		}
		t.Addresses = []string{answer}
	}
	var all []error
	for _, address := range t.Addresses {
		addr, err := parseURL(address, "")
		if err != nil {
			all = append(all, err)
			continue
		}
		cert, err := a.meet(addr, t.Fingerprint)
		if err != nil {
			all = append(all, err)
			continue
		}
		if err := a.Conf.TrustServer(a.name, cert); err != nil {
			return err
		}
		a.keep(config.Remote{Addr: addr, AuthType: "tls", Protocol: "lxd", Project: a.Project})
		args := a.ConnectionArgs()
		args.SkipGetServer = true
		s, err := a.Conf.InstanceServer(a.ctx, a.name, args)
		if err != nil {
			return err
		}
		defer s.Disconnect()
		// A client that is known already needs no token, and uses none up.
		known, err := a.known(s)
		if err == nil && !known {
			err = a.introduce(s, raw)
		}
		if err != nil {
			return fmt.Errorf(i18n.G("Failed to create certificate: %w"), err)
		}
		return a.pickProject(s)
	}
	return fmt.Errorf(i18n.G("None of the token's addresses leads to the server: %w"), errors.Join(all...))
}

// pickProject chooses the project of the remote: the one that --project names, the
// only one that there is, or the one that the user chooses.
func (a *adding) pickProject(s client.InstanceServer) error {
	r := a.Conf.Remotes[a.name]
	if a.Project != "" {
		if _, _, err := s.GetProject(a.Project); err != nil {
			return fmt.Errorf(i18n.G("Project %q: %w"), a.Project, err)
		}
		return nil
	}
	names, err := s.GetProjectNames()
	if err != nil {
		return err
	}
	r.Project = api.ProjectDefaultName
	if len(names) == 1 {
		r.Project = names[0]
	} else if _, tty := cli.Terminal(a.In); tty && len(names) > 1 {
		slices.Sort(names)
		a.Println(i18n.G("Available projects:"))
		for _, n := range names {
			a.Println("- " + n)
		}
		answer, err := a.Ask(fmt.Sprintf(i18n.G("Name of the project to use for this remote [default=%s]: "), names[0]))
		if err != nil {
			return err
		}
		if answer == "" {
			answer = names[0]
		}
		if !slices.Contains(names, answer) {
			return fmt.Errorf(i18n.G("There is no project %q"), answer)
		}
		r.Project = answer
	} else if len(names) > 1 && !slices.Contains(names, r.Project) {
		r.Project = names[0]
	}
	a.keep(r)
	return nil
}
