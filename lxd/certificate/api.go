package certificate

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"slices"

	"sett/lxd/auth"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/keypair"
)

// sees reports whether a caller may know of a certificate. The restricted know their
// own: those of others tell of projects.
func sees(who auth.Caller, c Certificate) bool { return who.Admin || who.Username == c.Fingerprint }

func (s *Service) list(ctx context.Context, r *rest.Request) (rest.Response, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	prints, objs := []string{}, []api.Certificate{}
	for _, c := range all {
		if sees(r.Caller(), c) {
			prints = append(prints, c.Fingerprint)
			objs = append(objs, render(c))
		}
	}
	if r.Recursion() > 0 {
		return rest.Sync(objs), nil
	}
	return rest.Sync(rest.URLs(r.Path(), "", prints)), nil
}

// load finds the certificate of the path among those that the caller may see.
func (s *Service) load(ctx context.Context, r *rest.Request) (Certificate, error) {
	if who := r.Caller(); !who.Admin {
		// A prefix must not tell whether there are others.
		c, err := one(ctx, s.DB, who.Username)
		if err == nil && (len(r.Name()) == 0 || len(r.Name()) > len(c.Fingerprint) || c.Fingerprint[:len(r.Name())] != r.Name()) {
			err = errs.NotFound("Certificate not found")
		}
		return c, err
	}
	return s.Load(ctx, r.Name())
}

func (s *Service) get(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, err := s.load(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(render(c), render(c)), nil
}

// create trusts a certificate: one that an admin sends, or the caller's own, which
// then needs a token or the password.
func (s *Service) create(ctx context.Context, r *rest.Request) (rest.Response, error) {
	p, err := rest.Decode[api.CertificatesPost](r)
	if err != nil {
		return nil, err
	}
	who := r.Caller()
	if p.Token {
		if !who.Admin {
			return nil, errs.Forbidden("not authorized")
		}
		o, err := s.newToken(ctx, p, who.Requestor())
		if err != nil {
			return nil, err
		}
		return rest.Async(o.URL(), o.API()), nil
	}
	if who.Trusted() && (!who.Admin || p.Certificate == "") {
		return nil, errs.Invalid("Client is already trusted")
	}
	var leaf *x509.Certificate
	// What is wrong with the request must not cost a token, but a stranger hears of it
	// only after the password.
	leaf, wrong := leafOf(r, p)
	if !who.Admin {
		if wrong == nil {
			p, err = s.admit(ctx, who, p)
		} else {
			err = s.refuse(ctx, who, p, wrong)
		}
		if err != nil {
			return nil, err
		}
	} else if wrong != nil {
		return nil, wrong
	}
	t, err := ParseType(p.Type)
	if err != nil {
		return nil, err
	}
	if t == Server {
		return nil, errs.Invalid("The certificate of a server is trusted when the server joins the cluster, with a token of \"lxc cluster add\"")
	}
	c := Certificate{Type: t, Name: p.Name, Restricted: p.Restricted, Projects: p.Projects}
	if c, err = s.Add(ctx, c, leaf, who.Requestor()); err != nil {
		return nil, err
	}
	return rest.Created(c.Ref().URL()), nil
}

// refuse tells somebody unknown what is wrong with a request, when they have shown
// the password or a token that would have been good.
func (s *Service) refuse(ctx context.Context, who auth.Caller, p api.CertificatesPost, wrong error) error {
	if s.Ops.PeekToken(secretOf(p.Password), isTrustToken) != nil {
		return wrong
	}
	cfg, err := s.Config(ctx)
	if err != nil {
		return err
	}
	if err := s.guard.try(ctx, who.Address, p.Password, TrustPassword.Get(cfg)); err != nil {
		return err
	}
	return wrong
}

// leafOf is the certificate that a request is about: that of its body, else that of
// the connection.
func leafOf(r *rest.Request, p api.CertificatesPost) (*x509.Certificate, error) {
	if p.Certificate == "" {
		if t := r.HTTP().TLS; t != nil && len(t.PeerCertificates) > 0 {
			return t.PeerCertificates[0], current(t.PeerCertificates[0])
		}
		return nil, errs.Invalid("No client certificate provided")
	}
	der, err := base64.StdEncoding.DecodeString(p.Certificate)
	if err != nil {
		return nil, errs.Invalid("The certificate is not base64 of its DER form: %v", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errs.Invalid("Invalid certificate material: %v", err)
	}
	return leaf, current(leaf)
}

// useToken answers a member to whom somebody has brought a token of this one.
func (s *Service) useToken(_ context.Context, r *rest.Request) (rest.Response, error) {
	u, err := rest.Decode[TokenUse](r)
	if err != nil {
		return nil, err
	}
	request, ok := s.UseToken(u.Secret)
	if !ok {
		return nil, errs.NotFound("There is no such token here")
	}
	return rest.Sync(request), nil
}

func (s *Service) put(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(Certificate) (api.CertificatePut, error) { return rest.Decode[api.CertificatePut](r) })
}

func (s *Service) patch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.change(ctx, r, func(c Certificate) (api.CertificatePut, error) {
		b := render(c).CertificatePut
		err := rest.DecodeOnto(r, &b)
		return b, err
	})
}

func (s *Service) change(ctx context.Context, r *rest.Request, body func(Certificate) (api.CertificatePut, error)) (rest.Response, error) {
	seen, err := s.load(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.Update(ctx, seen.Fingerprint, func(old Certificate) (Certificate, *x509.Certificate, error) {
		if err := r.CheckETag(render(old)); err != nil {
			return old, nil, err
		}
		b, err := body(old)
		if err != nil {
			return old, nil, err
		}
		return changed(old, b, r.Caller())
	}, r.Caller().Requestor())
}

// changed is a certificate as a caller wants it, with a leaf where that is another one.
func changed(old Certificate, b api.CertificatePut, by auth.Caller) (c Certificate, leaf *x509.Certificate, err error) {
	c = Certificate{Fingerprint: old.Fingerprint, PEM: old.PEM, Name: b.Name, Restricted: b.Restricted, Projects: b.Projects}
	if c.Type, err = ParseType(b.Type); err != nil || b.Type == "" {
		return c, nil, errTypeStays()
	}
	if b.Certificate != "" && b.Certificate != old.PEM {
		if leaf, err = keypair.ParseCert([]byte(b.Certificate)); err != nil {
			return c, nil, errs.Invalid("Invalid certificate material: %v", err)
		}
		if err := current(leaf); err != nil {
			return c, nil, err
		}
	}
	if !by.Admin {
		// The restricted may put a new certificate in the place of their own.
		was := render(old).CertificatePut
		if b.Name != was.Name || b.Restricted != was.Restricted || !slices.Equal(b.Projects, was.Projects) {
			return c, nil, errs.Forbidden("Only the certificate can be changed")
		}
	}
	return c, leaf, nil
}

func (s *Service) delete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	c, err := s.load(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.Delete(ctx, c, r.Caller().Requestor())
}

func render(c Certificate) api.Certificate {
	return api.Certificate{Fingerprint: c.Fingerprint, CertificatePut: api.CertificatePut{Name: c.Name, Type: c.Type.String(),
		Restricted: c.Restricted, Projects: append([]string{}, c.Projects...), Certificate: c.PEM}}
}
