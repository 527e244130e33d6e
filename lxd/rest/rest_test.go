package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/shared/errs"
)

type thing struct {
	Config map[string]string `json:"config"`
	Text   string            `json:"text"`
}

func server(t *testing.T, caller auth.Caller) *rest.Server {
	t.Helper()
	get := func(_ context.Context, r *rest.Request) (rest.Response, error) {
		switch r.Name() {
		case "gone":
			return nil, errs.NotFound("Thing %q not found", r.Name())
		case "panic":
			panic("ouch")
		}
		return rest.SyncETag(map[string]any{"name": r.Name(), "project": r.Effective(), "url": r.Ref().URL(), "html": "<&>"}, r.Name()), nil
	}
	put := func(_ context.Context, r *rest.Request) (rest.Response, error) {
		if err := r.CheckETag(r.Name()); err != nil {
			return nil, err
		}
		if _, err := rest.Decode[thing](r); err != nil { // a transaction that is tried again decodes again
			return nil, err
		}
		th := thing{Config: map[string]string{"a": "1", "b": "2"}, Text: "old"}
		if err := rest.DecodeOnto(r, &th); err != nil {
			return nil, err
		}
		return rest.Sync(th), nil
	}
	post := func(context.Context, *rest.Request) (rest.Response, error) {
		return rest.Async("/1.0/operations/x", map[string]any{"id": "x"}), nil
	}
	base := rest.Route{Summary: "x", Need: auth.EditProject, Scope: rest.InProject, Feature: "features.things", Kind: entity.Profile}
	mk := func(method, path string, h rest.Handler, f func(*rest.Route)) rest.Route {
		r := base
		r.Method, r.Path, r.Handler = method, path, h
		if f != nil {
			f(&r)
		}
		return r
	}
	return rest.New(rest.Deps{
		Log:          slog.New(slog.DiscardHandler),
		Authenticate: func(*http.Request) (auth.Caller, error) { return caller, nil },
		Project: func(_ context.Context, name string) (rest.Project, error) {
			if name == "nope" {
				return rest.Project{}, errs.NotFound("Project not found")
			}
			return rest.Project{Name: name, Features: map[string]bool{"features.things": name != "thin"}}, nil
		},
	}, []rest.Route{
		mk("GET", "/1.0/things/{name}", get, nil),
		mk("PUT", "/1.0/things/{name}", put, func(r *rest.Route) { r.Body.Limit = 64 }),
		mk("POST", "/1.0/things", post, nil),
		mk("GET", "/1.0/things", func(_ context.Context, r *rest.Request) (rest.Response, error) {
			all, err := r.AllProjects()
			return rest.Sync(all), err
		}, func(r *rest.Route) { r.Need = auth.ViewProject; r.Lists = true }),
		mk("GET", "/1.0/view/{name}", get, func(r *rest.Route) { r.Need = auth.ViewProject }),
		mk("GET", "/1.0/public/{name}", get, func(r *rest.Route) { r.Need = auth.Public }),
		mk("GET", "/1.0/stream", func(context.Context, *rest.Request) (rest.Response, error) {
			return rest.Raw(func(w http.ResponseWriter, _ *http.Request) error {
				_, _ = io.WriteString(w, "half")
				_ = http.NewResponseController(w).Flush()
				return errors.New("the disk is broken")
			}), nil
		}, func(r *rest.Route) { r.Kind = "" }),
		mk("GET", "/1.0/secret", get, func(r *rest.Route) { r.Need = auth.Admin; r.Kind = "" }),
	})
}

var admin = auth.Caller{Protocol: "unix", Admin: true}

func do(t *testing.T, s http.Handler, method, url, body string, hdr ...string) (*http.Response, string) {
	t.Helper()
	req := httptest.NewRequest(method, url, strings.NewReader(body))
	for i := 0; i+1 < len(hdr); i += 2 {
		req.Header.Set(hdr[i], hdr[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	res := w.Result()
	b, _ := io.ReadAll(res.Body)
	return res, string(b)
}

func TestSyncAnswerToTheByte(t *testing.T) {
	t.Parallel()
	res, body := do(t, server(t, admin), "GET", "/1.0/things/a%2Fb?project=web", "")
	want := `{"type":"sync","status":"Success","status_code":200,"operation":"","error_code":0,"error":"","metadata":{"html":"<&>","name":"a/b","project":"web","url":"/1.0/profiles/a%2Fb?project=web"}}` + "\n"
	if body != want || res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s\n got %s\nwant %s", res.StatusCode, res.Header, body, want)
	}
	tag, _ := rest.ETag("a/b")
	if res.Header.Get("ETag") != `"`+tag+`"` {
		t.Errorf("ETag %s", res.Header.Get("ETag"))
	}
}

func TestErrorAnswerToTheByte(t *testing.T) {
	t.Parallel()
	res, body := do(t, server(t, admin), "GET", "/1.0/things/gone", "")
	want := `{"type":"error","status":"","status_code":0,"operation":"","error_code":404,"error":"Thing \"gone\" not found","metadata":null}` + "\n\n"
	if body != want || res.StatusCode != 404 || res.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestAsyncAnswer(t *testing.T) {
	t.Parallel()
	res, body := do(t, server(t, admin), "POST", "/1.0/things", "{}")
	want := `{"type":"async","status":"Operation created","status_code":100,"operation":"/1.0/operations/x","error_code":0,"error":"","metadata":{"id":"x"}}` + "\n"
	if body != want || res.StatusCode != 202 || res.Header.Get("Location") != "/1.0/operations/x" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	s := server(t, admin)
	for _, c := range []struct {
		method, url, body string
		hdr               []string
		code              int
		text              string
	}{
		{"DELETE", "/1.0/things", "", nil, 501, "not implemented"},
		{"BREW", "/1.0/things", "", nil, 404, "not found"},
		{"GET", "/1.0/nothing", "", nil, 404, "not found"},
		{"GET", "/1.0/things/", "", nil, 404, "not found"},
		{"OPTIONS", "/1.0/nothing", "", nil, 200, ""},
		{"GET", "/1.0/things/panic", "", nil, 500, "Internal error"},
		{"GET", "/1.0/things/x?project=nope", "", nil, 404, "Project not found"},
		{"PUT", "/1.0/things/x", "{", nil, 400, "Invalid JSON"},
		{"PUT", "/1.0/things/x", "", nil, 400, "needs a JSON body"},
		{"PUT", "/1.0/things/x", `{"text": 1}`, nil, 400, `field "text"`},
		{"PUT", "/1.0/things/x", `{"text": "` + strings.Repeat("x", 100) + `"}`, nil, 413, "larger than 64 bytes"},
		{"PUT", "/1.0/things/x", "{}", []string{"If-Match", "abc"}, 412, "ETag doesn't match"},
		{"GET", "/1.0/things?all-projects=true&project=x", "", nil, 400, "all projects"},
	} {
		res, body := do(t, s, c.method, c.url, c.body, c.hdr...)
		if res.StatusCode != c.code || !strings.Contains(body, strings.ReplaceAll(c.text, `"`, `\"`)) {
			t.Errorf("%s %s: %d %s", c.method, c.url, res.StatusCode, body)
		}
	}
}

func TestMatchingETagPassesQuotedOrNot(t *testing.T) {
	t.Parallel()
	tag, _ := rest.ETag("x")
	for _, h := range []string{tag, `"` + tag + `"`} {
		if res, body := do(t, server(t, admin), "PUT", "/1.0/things/x", `{"text":"n"}`, "If-Match", h); res.StatusCode != 200 {
			t.Errorf("%s: %d %s", h, res.StatusCode, body)
		}
	}
}

func TestDecodeOntoMergesMapsAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	_, body := do(t, server(t, admin), "PUT", "/1.0/things/x", `{"config":{"b":"3","c":"4"}}`)
	var e struct{ Metadata thing }
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatal(err)
	}
	if c := e.Metadata.Config; c["a"] != "1" || c["b"] != "3" || c["c"] != "4" || e.Metadata.Text != "old" {
		t.Errorf("got %+v", e.Metadata)
	}
}

func TestFeaturesDecideWhereThingsLive(t *testing.T) {
	t.Parallel()
	_, body := do(t, server(t, admin), "GET", "/1.0/things/x?project=thin", "")
	if !strings.Contains(body, `"project":"default"`) {
		t.Error(body)
	}
}

func TestRestrictedCallersStayInTheirProjects(t *testing.T) {
	t.Parallel()
	s := server(t, auth.Caller{Protocol: "tls", Projects: []string{"web"}})
	for url, code := range map[string]int{
		"/1.0/things/x?project=web":                   200,
		"/1.0/things/x":                               403,
		"/1.0/things/x?project=db":                    403,
		"/1.0/things/x?project=nope":                  403, // not 404: its existence is none of their business
		"/1.0/things/x?project=db&all-projects=true":  403,
		"/1.0/things?project=db&all-projects=perhaps": 403,
		"/1.0/things?project=db&all-projects=true":    400,
		"/1.0/things?all-projects=true":               200,
		"/1.0/secret?project=web":                     403,
		"/1.0/view/x?all-projects=true":               403,
		"/1.0/view/x?project=db&all-projects=true":    403,
	} {
		if res, body := do(t, s, "GET", url, ""); res.StatusCode != code {
			t.Errorf("%s: %d %s", url, res.StatusCode, body)
		}
	}
	if res, _ := do(t, server(t, auth.Caller{}), "GET", "/1.0/things/x", ""); res.StatusCode != 403 {
		t.Errorf("stranger: %d", res.StatusCode)
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	obj := map[string]any{"name": "c1", "status": "Running", "ephemeral": false,
		"config": map[string]string{"user.a.b": "x y"}, "devices": map[string]any{"root": map[string]string{"path": "/"}}}
	for f, want := range map[string]bool{
		"":                                 true,
		"name eq c1":                       true,
		"name eq C1":                       true,
		"name ne c1":                       false,
		"not name eq c2":                   true,
		"name eq c2 or status eq running":  true,
		"name eq c1 and status eq stopped": false,
		`config.user.a.b eq "x y"`:         true,
		"devices.root.path eq /":           true,
		"ephemeral eq false":               true,
		"missing eq x":                     false,
		"name eq C.":                       true,
		"name eq c":                        false,
		"name eq ^c":                       true,
		"name eq (c1":                      false,
		"name ne c.*":                      false,
		"name eq x|c1":                     true,
		"name eq c2 and name eq c2 or name eq c1": true,
	} {
		p, err := rest.ParseFilter(f)
		if err != nil {
			t.Errorf("%q: %v", f, err)
			continue
		}
		if got, _ := p.Match(obj); got != want {
			t.Errorf("%q: %v", f, got)
		}
	}
	for _, f := range []string{"name", "name eq", "name is x", "name eq x name eq y", `name eq "x`} {
		if _, err := rest.ParseFilter(f); errs.Status(err) != 400 {
			t.Errorf("%q: %v", f, err)
		}
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	got := rest.URLs("/1.0/profiles", "web", []string{"a b"})
	if len(got) != 1 || got[0] != "/1.0/profiles/a%20b?project=web" {
		t.Error(got)
	}
}

func TestBrokenBodyDoesNotEndAsIfWhole(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(server(t, admin))
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/1.0/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); string(b) != "half" || err == nil {
		t.Errorf("got %q and %v; want an error after the half", b, err)
	}
}

func TestStrangersLearnOfNoProject(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]auth.Caller{"stranger": {}, "restricted": {Protocol: "tls", Projects: []string{"mine"}}} {
		s := server(t, c)
		if res, body := do(t, s, "GET", "/1.0/public/gone?project=nope", ""); res.StatusCode != 404 || !strings.Contains(body, "Thing") {
			t.Errorf("%s, no such project: %d %s", name, res.StatusCode, body)
		}
		if res, _ := do(t, s, "GET", "/1.0/view/x?project=nope", ""); res.StatusCode != 403 {
			t.Errorf("%s, a route that is not public: %d", name, res.StatusCode)
		}
	}
	if res, body := do(t, server(t, admin), "GET", "/1.0/public/gone?project=nope", ""); res.StatusCode != 404 || !strings.Contains(body, "Project") {
		t.Errorf("admin: %d %s", res.StatusCode, body)
	}
}

// trickle is a body that says when somebody waits for it, and comes when it is let go.
type trickle struct {
	waiting, letGo chan struct{}
	body           io.Reader
}

func (b *trickle) Read(p []byte) (int, error) {
	if b.waiting != nil {
		close(b.waiting)
		b.waiting = nil
		<-b.letGo
	}
	return b.body.Read(p)
}

// TestHandlersBeginWhenTheBodyIsThere: what they lock, no slow client keeps locked.
func TestHandlersBeginWhenTheBodyIsThere(t *testing.T) {
	t.Parallel()
	begun := make(chan string, 2)
	s := rest.New(rest.Deps{
		Log:          slog.New(slog.DiscardHandler),
		Authenticate: func(*http.Request) (auth.Caller, error) { return admin, nil },
	}, []rest.Route{{Summary: "x", Need: auth.Admin, Method: "PUT", Path: "/1.0/things/{name}", Handler: func(_ context.Context, r *rest.Request) (rest.Response, error) {
		begun <- r.Name()
		_, err := rest.Decode[thing](r)
		return rest.Empty(), err
	}}})
	waiting, letGo, answer := make(chan struct{}), make(chan struct{}), make(chan int, 1)
	go func() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("PUT", "/1.0/things/slow", &trickle{waiting, letGo, strings.NewReader(`{"text":"n"}`)}))
		answer <- w.Code
	}()
	<-waiting
	if res, body := do(t, s, "PUT", "/1.0/things/fast", "{}"); res.StatusCode != 200 {
		t.Errorf("the fast one: %d %s", res.StatusCode, body)
	}
	close(letGo)
	if code := <-answer; code != 200 {
		t.Errorf("the slow one: %d", code)
	}
	if first, second := <-begun, <-begun; first != "fast" || second != "slow" {
		t.Errorf("begun: %s, then %s", first, second)
	}
}
