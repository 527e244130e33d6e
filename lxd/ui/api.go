package ui

import (
	"context"
	"time"

	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

func (s *Service) createLink(ctx context.Context, r *rest.Request) (rest.Response, error) {
	l, err := s.Link(ctx, r.Caller())
	if err != nil {
		return nil, err
	}
	return rest.Sync(l), nil
}

// login needs no rights but the token. It sets a cookie, so it too must come from
// our own page: else another site could log its visitors in as somebody else.
func (s *Service) login(ctx context.Context, r *rest.Request) (rest.Response, error) {
	if err := fromOurPages(r.HTTP()); err != nil {
		return nil, err
	}
	b, err := rest.Decode[api.WebUISessionsPost](r)
	if err != nil {
		return nil, err
	}
	agent := r.Header("User-Agent")
	if len(agent) > 300 {
		agent = agent[:300]
	}
	x, text, err := s.Login(ctx, b.Token, listenerOf(ctx), r.HTTP().RemoteAddr, agent)
	if err != nil {
		return nil, err
	}
	return s.withCookie(r, text, x.Expires, x.API(x.UUID)), nil
}

// withCookie answers with metadata and sets the cookie.
func (s *Service) withCookie(r *rest.Request, text string, expires time.Time, metadata any) rest.Response {
	c := s.cookie(r.HTTP().TLS != nil, text, expires)
	return rest.SyncHeaders(metadata, map[string]string{"Set-Cookie": c.String(), "Cache-Control": "no-store"})
}

func (s *Service) list(ctx context.Context, r *rest.Request) (rest.Response, error) {
	all, err := s.Sessions(ctx, r.Caller())
	if err != nil {
		return nil, err
	}
	now, _, err := s.current(r.HTTP())
	if err != nil {
		return nil, err
	}
	urls, objs := []string{}, []api.WebUISession{}
	for _, x := range all {
		urls = append(urls, rest.URLs(r.Path(), "", []string{x.UUID})...)
		objs = append(objs, x.API(now.UUID))
	}
	if r.Recursion() > 0 {
		return rest.Sync(objs), nil
	}
	return rest.Sync(urls), nil
}

// named finds the session of the path among those that the caller may know of.
func (s *Service) named(ctx context.Context, r *rest.Request) (x Session, current string, err error) {
	now, _, err := s.current(r.HTTP())
	if err != nil {
		return x, "", err
	}
	name := r.Name()
	if name == "current" {
		name = now.UUID
	}
	all, err := s.Sessions(ctx, r.Caller())
	if err != nil {
		return x, "", err
	}
	for _, x := range all {
		if x.UUID == name {
			return x, now.UUID, nil
		}
	}
	return x, "", errs.NotFound("Session %q not found", r.Name())
}

func (s *Service) get(ctx context.Context, r *rest.Request) (rest.Response, error) {
	x, current, err := s.named(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.Sync(x.API(current)), nil
}

func (s *Service) delete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	x, current, err := s.named(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.Revoke(ctx, x); err != nil {
		return nil, err
	}
	if x.UUID == current {
		return s.withCookie(r, "", time.Unix(0, 0), struct{}{}), nil
	}
	return rest.Empty(), nil
}
