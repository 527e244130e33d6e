package rest_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/cluster/relay"
	"sett/lxd/rest"
	"sett/shared/errs"
)

// TestOnlyMembersSayWhoStandsBehindARequest sends the same header as different callers.
func TestOnlyMembersSayWhoStandsBehindARequest(t *testing.T) {
	t.Parallel()
	web := auth.Caller{Protocol: "tls", Username: "f1", Projects: []string{"web"}}
	member := auth.Caller{Protocol: auth.Cluster, Username: "m2", Admin: true}
	for _, c := range []struct {
		name    string
		from    auth.Caller
		behind  *auth.Caller
		need    auth.Need
		query   string
		status  int
		relayed bool
	}{
		{"a stranger says it is an admin", auth.Caller{}, &admin, auth.Admin, "", 403, false},
		{"a restricted caller says it is an admin", web, &admin, auth.Admin, "", 403, false},
		{"a restricted caller asks for another project", web, &admin, auth.ViewProject, "?project=default", 403, false},
		{"a member sends on what a stranger asks", member, &auth.Caller{}, auth.Trusted, "", 403, true},
		{"a member sends on what a stranger may ask", member, &auth.Caller{}, auth.Public, "", 200, true},
		{"a member sends on what a restricted caller asks", member, &web, auth.EditProject, "?project=web", 200, true},
		{"a member sends on what a restricted caller may not ask", member, &web, auth.EditProject, "?project=default", 403, true},
		{"a member sends on what an admin asks", member, &admin, auth.Admin, "", 200, true},
		{"a member asks by itself", member, nil, auth.Member, "", 200, false},
		{"a member sends on what is for members", member, &admin, auth.Member, "", 403, true},
		{"a member sends on what a member asks", member, &member, auth.Admin, "", 403, true},
		{"an admin asks what is for members", admin, nil, auth.Member, "", 403, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ran := false
			s := rest.New(rest.Deps{
				Log:          slog.New(slog.DiscardHandler),
				Authenticate: func(*http.Request) (auth.Caller, error) { return c.from, nil },
				Project:      func(_ context.Context, name string) (rest.Project, error) { return rest.Project{Name: name}, nil },
			}, []rest.Route{{Method: "GET", Path: "/1.0/x", Summary: "x", Need: c.need, Scope: rest.InProject, Handler: func(_ context.Context, r *rest.Request) (rest.Response, error) {
				ran = true
				if r.Relayed() != c.relayed {
					t.Errorf("relayed: %v", r.Relayed())
				}
				if c.relayed && (r.Caller().Username != c.behind.Username || r.Caller().Protocol != c.behind.Protocol) {
					t.Errorf("the caller is %+v", r.Caller())
				}
				if r.Header("X-Lxd-Forwarded-Caller") != "" {
					t.Error("the handler sees what members say to each other")
				}
				return rest.Empty(), nil
			}}})
			req := httptest.NewRequest("GET", "/1.0/x"+c.query, nil)
			if c.behind != nil {
				relay.Identity{Caller: *c.behind, Request: "r"}.Mark(req.Header)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			if refused := w.Header().Get("X-Lxd-Forwarded-Elsewhere") != ""; refused != (c.behind != nil && !ran) {
				t.Errorf("it says that it has done nothing: %v, ran %v", refused, ran)
			}
			if w.Code != c.status || ran != (c.status == 200) {
				t.Errorf("%d, ran %v: %s", w.Code, ran, w.Body)
			}
		})
	}
}

// TestErrorsAreToldAfterSomethingInBetween has another member answer "100 Continue" and
// then nothing more.
func TestErrorsAreToldAfterSomethingInBetween(t *testing.T) {
	t.Parallel()
	s := rest.New(rest.Deps{
		Log:          slog.New(slog.DiscardHandler),
		Authenticate: func(*http.Request) (auth.Caller, error) { return admin, nil },
		Forward: func(w http.ResponseWriter, _ *rest.Request) (bool, error) {
			w.WriteHeader(http.StatusContinue)
			return true, errs.Unavailable("Cluster member \"m2\" does not answer")
		},
	}, []rest.Route{{Method: "POST", Path: "/1.0/x", Summary: "x", Need: auth.Admin,
		Handler: func(context.Context, *rest.Request) (rest.Response, error) { return rest.Empty(), nil }}})
	web := httptest.NewServer(s)
	defer web.Close()
	resp, err := web.Client().Post(web.URL+"/1.0/x", "application/json", strings.NewReader("{}")) //nolint:noctx // ends with the test's server
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(b), "m2") {
		t.Errorf("got %s %s", resp.Status, b)
	}
}
