package client

import (
	"net/http"

	"sett/shared/api"
)

// CertificateClient works with the certificates that a server trusts.
type CertificateClient interface {
	GetCertificateFingerprints() ([]string, error)
	GetCertificates() ([]api.Certificate, error)
	GetCertificate(fingerprint string) (*api.Certificate, string, error)
	CreateCertificate(req api.CertificatesPost) error
	UpdateCertificate(fingerprint string, put api.CertificatePut, ETag string) error
	DeleteCertificate(fingerprint string) error
	CreateCertificateToken(req api.CertificatesPost) (Operation, error)
}

// GetCertificateFingerprints lists the fingerprints of the trusted certificates.
func (r *ProtocolLXD) GetCertificateFingerprints() ([]string, error) {
	p := path("certificates")
	return names(r, p, p)
}

// GetCertificates lists the trusted certificates.
func (r *ProtocolLXD) GetCertificates() ([]api.Certificate, error) {
	return list[api.Certificate](r, path("certificates")+"?recursion=1")
}

// GetCertificate returns a trusted certificate.
func (r *ProtocolLXD) GetCertificate(fingerprint string) (*api.Certificate, string, error) {
	return fetch[api.Certificate](r, path("certificates", fingerprint))
}

// CreateCertificate makes a trusted certificate.
func (r *ProtocolLXD) CreateCertificate(req api.CertificatesPost) error {
	return r.exec(http.MethodPost, path("certificates"), req, "")
}

// UpdateCertificate replaces what can be changed about a trusted certificate.
func (r *ProtocolLXD) UpdateCertificate(fingerprint string, put api.CertificatePut, etag string) error {
	return r.exec(http.MethodPut, path("certificates", fingerprint), put, etag)
}

// DeleteCertificate removes a trusted certificate.
func (r *ProtocolLXD) DeleteCertificate(fingerprint string) error {
	return r.exec(http.MethodDelete, path("certificates", fingerprint), nil, "")
}

// CreateCertificateToken asks for a token that another client can trust itself with.
func (r *ProtocolLXD) CreateCertificateToken(req api.CertificatesPost) (Operation, error) {
	req.Token = true
	op, _, err := r.queryOperation(http.MethodPost, path("certificates"), req, "")
	return op, err
}
