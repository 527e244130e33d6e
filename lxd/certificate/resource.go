package certificate

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/api"
)

// PathToken is where members ask each other for tokens.
const PathToken = "/internal/certificates/token"

// TokenUse is what they ask.
type TokenUse struct {
	Secret string `json:"secret"`
}

// bodyLimit is more than any certificate needs; strangers may send one.
const bodyLimit = 256 << 10

// Routes are the endpoints under /1.0/certificates. Strangers may ask to be trusted;
// the restricted see and change their own certificate.
func (s *Service) Routes() []rest.Route {
	all := rest.Route{Path: "/1.0/certificates"}
	one := rest.Route{Path: "/1.0/certificates/{fingerprint}", Kind: entity.Certificate}
	body := func(v any) func(*rest.Route) {
		return func(r *rest.Route) { r.Body = rest.Body{Type: v, Limit: bodyLimit} }
	}
	etag := func(r *rest.Route) { r.ETag = true }
	return []rest.Route{
		all.As(http.MethodGet, "List the trusted certificates", auth.Trusted, s.list, func(r *rest.Route) { r.Reply = []api.Certificate{} }),
		all.As(http.MethodPost, "Trust a certificate, or give out a token", auth.Public, s.create, body(api.CertificatesPost{})),
		one.As(http.MethodGet, "Show a trusted certificate", auth.Trusted, s.get, etag, func(r *rest.Route) { r.Reply = api.Certificate{} }),
		one.As(http.MethodPut, "Replace what is known of a certificate", auth.Trusted, s.put, etag, body(api.CertificatePut{})),
		one.As(http.MethodPatch, "Change what is known of a certificate", auth.Trusted, s.patch, etag, body(api.CertificatePut{})),
		one.As(http.MethodDelete, "Trust a certificate no more", auth.Trusted, s.delete),
		rest.Route{Path: PathToken}.As(http.MethodPost, "Use up a token that this member has given out", auth.Member, s.useToken, body(TokenUse{})),
	}
}
