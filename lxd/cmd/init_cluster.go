package cmd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"sett/client"
	"sett/lxd/cluster"
	"sett/lxd/member"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/i18n"
	"sett/shared/keypair"
	"sett/shared/validate"
)

// The dialogue about clusters asks, in LXD's order:
//
//	cluster? · address · joining? · no: name · password?
//	                                yes: token · all is lost? · what each pool needs

func (d *dialogue) cluster() error {
	yes, err := d.yes(i18n.G("Should this server be part of a cluster?"), false)
	if err != nil || !yes {
		return err
	}
	address, err := d.text(i18n.G("Address at which the other members reach this server"), hostAddress(), func(s string) error {
		a, err := validate.ListenAddress(s)
		if err != nil {
			return err
		}
		if host, _, err := net.SplitHostPort(a); err != nil || host == "" || net.ParseIP(host).IsUnspecified() {
			return fmt.Errorf(i18n.G("the others cannot call %q; name one address of this server"), s)
		}
		return d.listens(a)
	})
	if err != nil {
		return err
	}
	if address, err = validate.ListenAddress(address); err != nil {
		return err
	}
	d.p.Cluster = &api.InitClusterPreseed{}
	d.p.Cluster.Enabled = true
	joining, err := d.yes(i18n.G("Does it join a cluster that is there already?"), false)
	if err != nil {
		return err
	}
	if joining {
		d.p.Cluster.ServerAddress = address
		return d.join()
	}
	d.p.Node.Config["core.https_address"] = address
	if d.p.Cluster.ServerName, err = d.text(i18n.G("Name of this server in the cluster"), hostName(), nil); err != nil {
		return err
	}
	password, err := d.yes(i18n.G("Should clients be able to trust themselves with a password?"), false)
	if err != nil || !password {
		return err
	}
	return d.password()
}

// listens finds out whether the server can serve at an address, or does so already.
func (d *dialogue) listens(address string) error {
	s, _, err := d.c.GetServer()
	if err != nil {
		return err
	}
	if has, ok := s.Config["core.https_address"].(string); ok && has != "" {
		served, err := validate.ListenAddress(has)
		if err == nil && served == address {
			return nil
		}
		host, port, err := net.SplitHostPort(served)
		to, at, _ := net.SplitHostPort(address)
		if err == nil && port == at && (host == "" || net.ParseIP(host).IsUnspecified()) {
			// The server has the port already, at all its addresses; that may be one of them.
			address = net.JoinHostPort(to, "0")
		}
	}
	l, err := (&net.ListenConfig{}).Listen(d.ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf(i18n.G("this server cannot listen there: %w"), err)
	}
	return l.Close()
}

// join asks for the token, and for what the cluster needs to know of this server.
func (d *dialogue) join() error {
	var tok *api.ClusterMemberJoinToken
	text, err := d.text(i18n.G("Do you have a join token? (yes/no/[token])"), "no", func(s string) error {
		if _, err := api.JoinTokenDecode(s); err != nil && !yesOrNo(s) {
			return fmt.Errorf(i18n.G("it is no join token: %w"), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(strings.ToLower(text), "n"):
		return errs.Invalid(i18n.G("Joining a cluster needs a join token; make one on a member of the cluster with \"lxc cluster add <name of this server>\""))
	case yesOrNo(text):
		if text, err = d.text(i18n.G("Join token"), "", func(s string) error {
			_, err := api.JoinTokenDecode(s)
			return err
		}); err != nil {
			return err
		}
	}
	if tok, err = api.JoinTokenDecode(text); err != nil {
		return err
	}
	d.p.Cluster.ClusterToken = text
	if err := resolveToken(d.ctx, d.p.Cluster); err != nil {
		return err
	}
	wipe, err := d.yes(i18n.G("All that is on this server is lost when it joins. Go on?"), false)
	if err != nil {
		return err
	}
	if !wipe {
		return errors.New(i18n.G("Nothing was changed"))
	}
	keys, err := peek(d.ctx, d.p.Cluster.ClusterAddress, tok)
	if err != nil {
		return err
	}
	for i, k := range keys {
		if keys[i].Value, err = d.maybe(fmt.Sprintf(i18n.G("Choose %s"), k.Description)); err != nil {
			return err
		}
	}
	d.p.Cluster.MemberConfig = keys
	return nil
}

func yesOrNo(s string) bool {
	switch strings.ToLower(s) {
	case "y", "yes", "n", "no":
		return true
	}
	return false
}

// resolveToken fills in what a token stands for, and finds a member that answers.
func resolveToken(ctx context.Context, p *api.InitClusterPreseed) error {
	if p.ClusterCertificatePath != "" && p.ClusterCertificate == "" {
		b, err := os.ReadFile(p.ClusterCertificatePath)
		if err != nil {
			return fmt.Errorf(i18n.G("read the cluster's certificate: %w"), err)
		}
		p.ClusterCertificate = string(b)
	}
	if p.ClusterToken == "" {
		return nil
	}
	tok, err := api.JoinTokenDecode(p.ClusterToken)
	if err != nil {
		return errs.Invalid(i18n.G("The cluster_token is no join token: %v"), err)
	}
	p.ServerName, p.ClusterPassword = tok.ServerName, tok.String()
	var all []error
	for _, a := range tok.Addresses {
		address, err := validate.ListenAddress(a)
		if err != nil {
			return err
		}
		cert, err := greet(ctx, address, tok.Fingerprint)
		if err == nil {
			p.ClusterAddress, p.ClusterCertificate = address, cert
			return nil
		}
		all = append(all, err)
	}
	return errs.Unavailable(i18n.G("No member of the cluster answers as the join token says: %w"), errors.Join(all...))
}

// greet makes sure that a member is at an address, and returns its certificate.
func greet(ctx context.Context, address, fingerprint string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := (&tls.Dialer{Config: cluster.Pinned(fingerprint)}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	t, ok := c.(*tls.Conn)
	if !ok {
		return "", errs.Internal("a TLS connection is none")
	}
	return string(keypair.EncodeCert(t.ConnectionState().PeerCertificates[0].Raw)), nil
}

// peek asks a member what a joining server must bring.
func peek(ctx context.Context, address string, tok *api.ClusterMemberJoinToken) ([]api.ClusterMemberConfigKey, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	b, err := json.Marshal(member.TokenRequest{Name: tok.ServerName, Secret: tok.Secret})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+member.PathPeek, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: cluster.Pinned(tok.Fingerprint), DisableKeepAlives: true}}
	resp, err := h.Do(req)
	if err != nil {
		return nil, errs.Unavailable(i18n.G("Cannot reach the cluster at %s: %w"), address, err)
	}
	defer resp.Body.Close()
	var a api.Response
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil, err
	}
	if a.Error != "" {
		return nil, errs.FromStatus(a.Code, a.Error)
	}
	var keys []api.ClusterMemberConfigKey
	return keys, a.MetadataAsStruct(&keys)
}

// applyCluster makes or joins the cluster that a set-up speaks of.
func applyCluster(c client.InstanceServer, p *api.InitClusterPreseed) error {
	if p == nil || !p.Enabled {
		return nil
	}
	now, etag, err := c.GetCluster()
	if err != nil {
		return err
	}
	if now.Enabled {
		if now.ServerName == p.ServerName && p.ClusterAddress == "" {
			return nil // a preseed may be applied again
		}
		return errs.Invalid(i18n.G("This server is in a cluster already, as %q"), now.ServerName)
	}
	op, err := c.UpdateCluster(p.ClusterPut, etag)
	if err != nil {
		return err
	}
	return op.Wait()
}

func hostName() string {
	h, err := os.Hostname()
	if err != nil {
		return ""
	}
	return h
}

// hostAddress is the address of this host that others would use, as far as can be
// told.
func hostAddress() string {
	as, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range as {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}
