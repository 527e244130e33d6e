package project_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/db/dbtest"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/shared/errs"
)

type world struct {
	t      *testing.T
	s      *project.Service
	caller auth.Caller
	server http.Handler
}

func setup(t *testing.T) *world {
	t.Helper()
	d := dbtest.Open(t)
	dbtest.Exec(t, d, `INSERT INTO projects (name, description) VALUES ('web', 'of the web')`)
	dbtest.Exec(t, d, `INSERT INTO projects_config (project_id, key, value) SELECT id, 'features.profiles', 'yes' FROM projects WHERE name = 'web'`)
	dbtest.Exec(t, d, `INSERT INTO projects_config (project_id, key, value) SELECT id, 'features.images', 'false' FROM projects WHERE name = 'web'`)
	dbtest.Exec(t, d, `INSERT INTO profiles (name, description, project_id) SELECT 'p', '', id FROM projects WHERE name = 'web'`)
	w := &world{t: t, s: project.New(d), caller: auth.Caller{Protocol: "unix", Admin: true}}
	w.server = rest.New(rest.Deps{Log: slog.New(slog.DiscardHandler), Project: w.s.Chain,
		Authenticate: func(*http.Request) (auth.Caller, error) { return w.caller, nil }}, w.s.Routes())
	return w
}

func (w *world) want(code int, text, method, url string) {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, httptest.NewRequest(method, url, strings.NewReader("{}")))
	b, _ := io.ReadAll(rec.Result().Body)
	if rec.Code != code || !strings.Contains(string(b), text) {
		w.t.Errorf("%s %s: %d %s; want %d with %s", method, url, rec.Code, b, code, text)
	}
}

func TestProjectsAreListedWithWhatUsesThem(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.want(200, `["/1.0/projects/default","/1.0/projects/web"]`, "GET", "/1.0/projects")
	w.want(200, `"used_by":["/1.0/profiles/p?project=web"]`, "GET", "/1.0/projects?recursion=1")
	w.want(200, `"description":"of the web"`, "GET", "/1.0/projects/web")
	w.want(404, "not found", "GET", "/1.0/projects/nope")
}

func TestRestrictedCallersSeeTheirProjects(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.caller = auth.Caller{Protocol: "tls", Projects: []string{"web"}}
	w.want(200, `["/1.0/projects/web"]`, "GET", "/1.0/projects")
	w.want(200, "web", "GET", "/1.0/projects/web")
	w.want(403, "not authorized", "GET", "/1.0/projects/default")
	w.want(403, "not authorized", "GET", "/1.0/projects/nope") // whether it exists or not
	w.caller = auth.Caller{}
	w.want(403, "", "GET", "/1.0/projects")
}

func TestFeaturesDecideWhereThingsAre(t *testing.T) {
	t.Parallel()
	w := setup(t)
	p, err := w.s.Chain(t.Context(), "web")
	if err != nil || p.Effective("features.profiles") != "web" || p.Effective("features.images") != "default" || p.Effective("features.networks") != "default" {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := w.s.Chain(t.Context(), "nope"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("got %v", err)
	}
}
