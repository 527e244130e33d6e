package api

import (
	"time"
)

// Types of certificates.
const (
	CertificateTypeClient  = "client"
	CertificateTypeServer  = "server"
	CertificateTypeMetrics = "metrics"
	CertificateTypeUnknown = "unknown"
)

// CertificatePut holds what can be changed about a trusted certificate.
type CertificatePut struct {
	Name       string   `json:"name" yaml:"name"`
	Type       string   `json:"type" yaml:"type"`
	Restricted bool     `json:"restricted" yaml:"restricted"`
	Projects   []string `json:"projects" yaml:"projects"`
	// PEM here, but base64 of the DER form in CertificatesPost.
	Certificate string `json:"certificate" yaml:"certificate"`
}

// CertificatesPost asks to trust a certificate or, with Token, for a token that another client can trust itself with.
type CertificatesPost struct {
	CertificatePut `yaml:",inline"`

	// Trust password or token; none is needed from a trusted caller.
	Password string `json:"password" yaml:"password"`
	Token    bool   `json:"token" yaml:"token"`
}

// Certificate is a trusted certificate.
type Certificate struct {
	CertificatePut `yaml:",inline"`

	Fingerprint string `json:"fingerprint" yaml:"fingerprint"`
}

// CertificateAddToken is what a trust token carries.
type CertificateAddToken struct {
	ClientName  string    `json:"client_name" yaml:"client_name"`
	Fingerprint string    `json:"fingerprint" yaml:"fingerprint"`
	Addresses   []string  `json:"addresses" yaml:"addresses"`
	Secret      string    `json:"secret" yaml:"secret"`
	ExpiresAt   time.Time `json:"expires_at" yaml:"expires_at"`
}

// Writable returns the part of a certificate that PUT and PATCH take.
func (c *Certificate) Writable() CertificatePut { return c.CertificatePut }

// String is the form in which a token travels.
func (t *CertificateAddToken) String() string { return encodeToken(t) }
