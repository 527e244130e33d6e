package certificate

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"time"

	"sett/lxd/auth"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/units"
)

// newToken gives out a token: an operation that holds a secret, and what whoever
// brings the secret will be. It ends by its use, by being cancelled or with its time.
func (s *Service) newToken(ctx context.Context, p api.CertificatesPost, by *event.Requestor) (*op.Operation, error) {
	if p.Type != api.CertificateTypeClient {
		return nil, errs.Invalid("Tokens can only be issued for client certificates")
	}
	if p.Certificate != "" || p.Password != "" {
		return nil, errs.Invalid("A token is for a certificate that is not known yet")
	}
	c := Certificate{Name: p.Name, Restricted: p.Restricted, Projects: p.Projects}
	if err := c.shape(); err != nil {
		return nil, err
	}
	if err := checkProjects(ctx, s.DB, c.Projects); err != nil {
		return nil, err
	}
	if p.Projects = c.Projects; p.Projects == nil {
		p.Projects = []string{}
	}
	addresses := s.Addresses(ctx)
	if len(addresses) == 0 {
		return nil, errs.Invalid("No token can lead to a server that is not on the network; set core.https_address first")
	}
	cfg, err := s.Config(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	end, err := units.Expiry(now, TokenExpiry.Get(cfg))
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	spec := op.Spec{Class: op.Token, Description: "Waiting for a client to use its token", Secret: hex.EncodeToString(secret), Requestor: by,
		Metadata: map[string]any{"secret": hex.EncodeToString(secret), "fingerprint": s.Identity.Network().Fingerprint(),
			"addresses": addresses, "request": p}}
	if !end.IsZero() {
		spec.Expires = end.Sub(now)
		spec.Metadata["expiresAt"] = end
	}
	return s.Ops.Start(ctx, spec)
}

func isTrustToken(o *op.Operation) bool {
	_, ok := o.Metadata("request").(api.CertificatesPost)
	return ok
}

// secretOf reads the secret out of the form in which tokens travel. Whatever is none
// may be the secret itself.
func secretOf(password string) string {
	var t api.CertificateAddToken
	b, err := base64.StdEncoding.DecodeString(password)
	if err != nil || json.Unmarshal(b, &t) != nil || t.Secret == "" {
		return password
	}
	return t.Secret
}

// UseToken uses up a token that was given out here, and returns what it was for.
func (s *Service) UseToken(secret string) (request api.CertificatesPost, ok bool) {
	o := s.Ops.Token(secret, isTrustToken)
	if o == nil {
		return request, false
	}
	request, ok = o.Metadata("request").(api.CertificatesPost)
	return request, ok
}

// admit decides what somebody who is not known yet may become: what a token was made
// for or, by the password, what they ask for.
func (s *Service) admit(ctx context.Context, caller auth.Caller, p api.CertificatesPost) (api.CertificatesPost, error) {
	if p.Password == "" {
		return p, errs.Forbidden("not authorized")
	}
	secret := secretOf(p.Password)
	request, ok := s.UseToken(secret)
	if from := origin(caller.Address); !ok && s.Elsewhere != nil && len(secret) == 64 {
		// Asking all members is work that strangers can make; they get as much as they have guesses.
		if !s.guard.allow(from) {
			return p, errs.Forbidden("Too many wrong passwords; wait a minute and use the token again")
		}
		if request, ok = s.Elsewhere(ctx, secret); ok {
			s.guard.forgive(from)
		}
	}
	if ok {
		// The one who gave the token out has said what it is good for.
		request.Certificate = p.Certificate
		return request, nil
	}
	cfg, err := s.Config(ctx)
	if err != nil {
		return p, err
	}
	return p, s.guard.try(ctx, caller.Address, p.Password, TrustPassword.Get(cfg))
}
