package certificate

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/keypair"
	"sett/shared/log"
)

// Type says what a certificate is for. The numbers stand in the database.
type Type int64

// The types of certificates.
const (
	Client  Type = 1
	Server  Type = 2
	Metrics Type = 3
)

func (t Type) String() string {
	switch t {
	case Client:
		return api.CertificateTypeClient
	case Server:
		return api.CertificateTypeServer
	case Metrics:
		return api.CertificateTypeMetrics
	}
	return api.CertificateTypeUnknown
}

// ParseType reads a type; no word means a client's.
func ParseType(word string) (Type, error) {
	switch word {
	case api.CertificateTypeClient, "":
		return Client, nil
	case api.CertificateTypeServer:
		return Server, nil
	case api.CertificateTypeMetrics:
		return Metrics, nil
	}
	return 0, errs.Invalid("Unknown certificate type %q; it is client, server or metrics", word)
}

// Certificate is a trusted certificate as stored.
type Certificate struct {
	ID          int64
	Fingerprint string
	Type        Type
	Name        string
	PEM         string
	Restricted  bool
	Projects    []string
}

// Ref names the certificate.
func (c Certificate) Ref() entity.Ref { return entity.New(entity.Certificate, "", c.Fingerprint) }

// Deps are what the service asks others for.
type Deps struct {
	DB       *db.DB
	Bus      *event.Bus
	Ops      *op.Manager
	Identity *Identity
	// Config is the server's configuration.
	Config func(ctx context.Context) (map[string]string, error)
	// Addresses are where clients reach the server, for tokens.
	Addresses func(ctx context.Context) []string
	// Elsewhere uses up a token that another member has given out, and returns what it
	// was for; nil where there are no members.
	Elsewhere func(ctx context.Context, secret string) (request api.CertificatesPost, ok bool)
	// Changed is told after each change, so that other members look again; may be nil.
	Changed func(ctx context.Context)
}

// Service holds the rules of trust.
type Service struct {
	Deps
	trust *Trust
	guard *guard
}

// New makes the service.
func New(d Deps) *Service {
	s := &Service{Deps: d, guard: newGuard()}
	s.trust = &Trust{load: func(ctx context.Context) ([]Certificate, error) { return load(ctx, s.DB, nil) }}
	return s
}

// Trust is who is trusted, for those who let callers in.
func (s *Service) Trust() *Trust { return s.trust }

// List returns all certificates.
func (s *Service) List(ctx context.Context) ([]Certificate, error) { return load(ctx, s.DB, nil) }

// Load finds a certificate by its fingerprint, or by what that begins with.
func (s *Service) Load(ctx context.Context, prefix string) (Certificate, error) {
	return one(ctx, s.DB, prefix)
}

func one(ctx context.Context, q db.Querier, prefix string) (Certificate, error) {
	prefix = strings.ToLower(prefix)
	if prefix == "" || strings.Trim(prefix, "0123456789abcdef") != "" {
		return Certificate{}, errs.NotFound("Certificate not found")
	}
	var w db.Where
	all, err := load(ctx, q, w.Is("substr(fingerprint, 1, length(?)) = ?", prefix, prefix))
	switch {
	case err != nil:
		return Certificate{}, err
	case len(all) == 0:
		return Certificate{}, errs.NotFound("Certificate not found")
	case len(all) > 1:
		return Certificate{}, errs.Invalid("More than one certificate matches")
	}
	return all[0], nil
}

// current refuses a certificate that nobody can be let in by.
func current(leaf *x509.Certificate) error {
	if time.Now().After(leaf.NotAfter) {
		return errs.Invalid("The certificate has expired on %s", leaf.NotAfter.Format(time.DateOnly))
	}
	return nil
}

// fill derives what follows from the certificate itself.
func (c *Certificate) fill(leaf *x509.Certificate) {
	c.Fingerprint, c.PEM = keypair.Fingerprint(leaf), string(keypair.EncodeCert(leaf.Raw))
	if c.Name == "" {
		c.Name = leaf.Subject.CommonName
	}
}

// shape refuses what no certificate can be and brings the rest into order.
func (c *Certificate) shape() error {
	if len(c.Name) > 255 || strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errs.Invalid("Invalid name %.40q of a certificate", c.Name)
	}
	c.Projects = slices.Compact(slices.Sorted(slices.Values(c.Projects)))
	return nil
}

// Add trusts a certificate.
func (s *Service) Add(ctx context.Context, c Certificate, leaf *x509.Certificate, by *event.Requestor) (Certificate, error) {
	c.fill(leaf)
	if err := c.shape(); err != nil {
		return c, err
	}
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return create(ctx, tx, c) })
	return c, s.changed(ctx, err, "certificate-created", c, by)
}

// Update replaces what is known of the certificate with a fingerprint by what change makes
// of it; where that comes with a leaf, the certificate too. change is part of the
// transaction, and so may run more than once.
func (s *Service) Update(ctx context.Context, fingerprint string, change func(old Certificate) (Certificate, *x509.Certificate, error), by *event.Requestor) error {
	var c Certificate
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		old, err := one(ctx, tx, fingerprint)
		if err != nil {
			return err
		}
		var leaf *x509.Certificate
		if c, leaf, err = change(old); err != nil {
			return err
		}
		c.ID = old.ID
		if leaf != nil {
			c.fill(leaf)
		}
		if c.Type != old.Type {
			return errTypeStays()
		}
		if c.Name == "" {
			c.Name = old.Name
		}
		if err := c.shape(); err != nil {
			return err
		}
		if c.Name != old.Name || c.Fingerprint != old.Fingerprint {
			if err := checkMember(ctx, tx, old); err != nil {
				return err
			}
		}
		return update(ctx, tx, c)
	})
	return s.changed(ctx, err, "certificate-updated", c, by)
}

func errTypeStays() error { return errs.Forbidden("The certificate type cannot be changed") }

// Delete trusts a certificate no more.
func (s *Service) Delete(ctx context.Context, c Certificate, by *event.Requestor) error {
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := checkMember(ctx, tx, c); err != nil {
			return err
		}
		return db.ExecOne(ctx, tx, stmtDelete, c.ID)
	})
	return s.changed(ctx, err, "certificate-deleted", c, by)
}

// changed makes a change true for the next request, here and on other members. The
// table is read even after an error: where the leader was lost nobody knows whether
// the change was made.
func (s *Service) changed(ctx context.Context, err error, action string, c Certificate, by *event.Requestor) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := s.trust.Refresh(ctx); err != nil {
		log.From(ctx).Error("Could not read the trusted certificates again", "err", err)
	}
	if err != nil {
		return err
	}
	if s.Changed != nil {
		s.Changed(ctx)
	}
	s.Bus.Lifecycle(action, c.Ref(), by, nil)
	return nil
}
