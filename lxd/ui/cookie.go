package ui

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"sett/lxd/auth"
	"sett/shared/errs"
)

// cookieName is the session's cookie. With TLS its prefix makes browsers insist that
// it came over TLS from this very host. Servers on one host, which cookies do not tell
// apart by port, tell theirs apart by the name.
func (s *Service) cookieName(tls bool) string {
	if tls {
		return "__Host-sett-" + s.deps.Server()
	}
	return "sett-" + s.deps.Name
}

func (s *Service) cookie(tls bool, value string, expires time.Time) *http.Cookie {
	c := &http.Cookie{Name: s.cookieName(tls), Value: value, Path: "/", HttpOnly: true, Secure: tls, SameSite: http.SameSiteStrictMode, Expires: expires}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// Authenticate says whose session a request's cookie names. Without one that is good
// the caller is unknown, which is no error. A cookie goes along with what other sites
// make the browser send, so requests that one of those could have made are refused.
func (s *Service) Authenticate(r *http.Request) (auth.Caller, error) {
	x, ok, err := s.current(r)
	if err != nil || !ok {
		return auth.Caller{Address: r.RemoteAddr}, err
	}
	if err := fromOurPages(r); err != nil {
		return auth.Caller{}, err
	}
	c, ok := s.deps.Caller(r.Context(), x.Protocol, x.Username)
	if !ok {
		return auth.Caller{Address: r.RemoteAddr}, nil
	}
	c.Address = r.RemoteAddr
	return c, nil
}

// current loads the session of a request's cookie.
func (s *Service) current(r *http.Request) (Session, bool, error) {
	cookie, err := r.Cookie(s.cookieName(r.TLS != nil))
	if err != nil || cookie.Value == "" {
		return Session{}, false, nil
	}
	return s.find(r.Context(), cookie.Value, listenerOf(r.Context()))
}

// fromOurPages refuses requests that a page of another origin has made. Browsers tell
// by Sec-Fetch-Site, older ones by Origin only, and what changes something carries one
// of the two.
func fromOurPages(r *http.Request) error {
	safe := (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Upgrade") == ""
	site := r.Header.Get("Sec-Fetch-Site")
	unproven := !safe && site != "same-origin" && r.Header.Get("Origin") == ""
	if OtherSite(r) || unproven {
		return errs.Forbidden("Requests of other sites are not taken from a logged-in browser")
	}
	return nil
}

// OtherSite reports whether a browser says that a page of another origin makes a
// request. Programs say nothing of the kind.
func OtherSite(r *http.Request) bool {
	site, origin := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Origin")
	return site != "" && site != "same-origin" && site != "none" || origin != "" && !sameHost(origin, r.Host)
}

func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}
