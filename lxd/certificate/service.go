package certificate

import (
	"context"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
)

// Type says what a certificate is for. The numbers stand in the database.
type Type int64

// The types of certificates.
const (
	Client  Type = 1
	Server  Type = 2
	Metrics Type = 3
)

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
	Identity *Identity
}

// Service holds the rules of trust.
type Service struct {
	Deps
	trust *Trust
}

// New makes the service.
func New(d Deps) *Service {
	s := &Service{Deps: d}
	s.trust = &Trust{load: func(ctx context.Context) ([]Certificate, error) { return load(ctx, s.DB, nil) }}
	return s
}

// Trust is who is trusted, for those who let callers in.
func (s *Service) Trust() *Trust { return s.trust }
