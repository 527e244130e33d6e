package ui

import (
	"net/http"

	"sett/lxd/auth"
	"sett/lxd/rest"
	"sett/shared/api"
)

// Extension is the API extension that all of this is.
const Extension = "sett_webui"

// Routes are the endpoints under /1.0/webui.
func (s *Service) Routes() []rest.Route {
	links := rest.Route{Path: "/1.0/webui/links", Extension: Extension}
	all := rest.Route{Path: "/1.0/webui/sessions", Extension: Extension}
	one := rest.Route{Path: "/1.0/webui/sessions/{id}", Extension: Extension}
	return []rest.Route{
		links.As(http.MethodPost, "Make a link that logs a browser in once", auth.Trusted, s.createLink, func(r *rest.Route) { r.Reply = api.WebUILink{} }),
		all.As(http.MethodGet, "List the browsers that are logged in", auth.Trusted, s.list, func(r *rest.Route) { r.Reply = []api.WebUISession{} }),
		all.As(http.MethodPost, "Log a browser in by a link's token", auth.Public, s.login, func(r *rest.Route) {
			r.Body.Type, r.Body.Limit, r.Reply = api.WebUISessionsPost{}, 4<<10, api.WebUISession{}
		}),
		one.As(http.MethodGet, "Show a browser's session; the name current is the caller's own", auth.Trusted, s.get, func(r *rest.Route) { r.Reply = api.WebUISession{} }),
		one.As(http.MethodDelete, "Log a browser out", auth.Trusted, s.delete),
	}
}
