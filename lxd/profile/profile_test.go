package profile_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/event"
	"sett/lxd/profile"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/shared/errs"
)

// users stands in for the instances.
type users struct {
	before, after []string
	look          func() // in place of a look at the instances before a change
	follow        func() // in place of instances that follow a change
}

func (u *users) CheckConfig(c map[string]string) error {
	if _, ok := c["bad.key"]; ok {
		return errs.Invalid("Unknown configuration key %q", "bad.key")
	}
	return nil
}
func (u *users) CheckDevices(context.Context, string, map[string]map[string]string) error { return nil }
func (u *users) BeforeProfile(_ context.Context, old, _ profile.Profile) error {
	u.before = append(u.before, old.Name)
	if u.look != nil {
		u.look()
	}
	return nil
}
func (u *users) AfterProfile(_ context.Context, old profile.Profile) error {
	u.after = append(u.after, old.Name)
	if u.follow != nil {
		u.follow()
	}
	return nil
}

type fixture struct {
	db     *db.DB
	users  *users
	server http.Handler
	events *event.Subscription
}

func setup(t *testing.T) fixture {
	t.Helper()
	d := dbtest.Open(t)
	bus := event.NewBus("")
	s := profile.New(d, bus)
	u := &users{}
	s.Attach(u)
	sub := bus.Subscribe(event.Filter{})
	t.Cleanup(sub.Close)
	return fixture{d, u, rest.New(rest.Deps{
		Log:          slog.New(slog.DiscardHandler),
		Authenticate: func(*http.Request) (auth.Caller, error) { return auth.Caller{Protocol: "unix", Admin: true}, nil },
		Project:      project.New(d).Chain,
	}, s.Routes()), sub}
}

func (f fixture) do(t *testing.T, method, url, body string, hdr ...string) (int, string, http.Header) {
	t.Helper()
	req := httptest.NewRequest(method, url, strings.NewReader(body))
	for i := 0; i+1 < len(hdr); i += 2 {
		req.Header.Set(hdr[i], hdr[i+1])
	}
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, req)
	b, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(b), w.Result().Header
}

func (f fixture) want(t *testing.T, code int, text string, method, url, body string, hdr ...string) {
	t.Helper()
	got, b, _ := f.do(t, method, url, body, hdr...)
	if got != code || !strings.Contains(b, text) {
		t.Errorf("%s %s: %d %s; want %d with %s", method, url, got, b, code, text)
	}
}

const web = `{"name":"web","description":"d","config":{"limits.cpu":"2","user.x":"y"},"devices":{"eth0":{"type":"nic","nictype":"p2p"},"root":{"type":"disk","path":"/"}}}`

func TestLifeOfAProfile(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, `"metadata":null`, "POST", "/1.0/profiles", web)
	f.want(t, 409, `Profile \"web\" already exists`, "POST", "/1.0/profiles", web)
	f.want(t, 200, `{"config":{"limits.cpu":"2","user.x":"y"},"description":"d","devices":{"eth0":{"nictype":"p2p","type":"nic"},"root":{"path":"/","type":"disk"}},"name":"web","used_by":[]}`,
		"GET", "/1.0/profiles/web", "")
	f.want(t, 200, `["/1.0/profiles/default","/1.0/profiles/web"]`, "GET", "/1.0/profiles", "")
	f.want(t, 200, `"name":"web"`, "GET", "/1.0/profiles?recursion=1", "")

	_, _, h := f.do(t, "GET", "/1.0/profiles/web", "")
	f.want(t, 200, "", "PATCH", "/1.0/profiles/web", `{"config":{"user.x":"z"}}`, "If-Match", h.Get("ETag"))
	f.want(t, 412, "ETag", "PATCH", "/1.0/profiles/web", `{"config":{"user.x":"q"}}`, "If-Match", h.Get("ETag"))
	f.want(t, 200, `"config":{"limits.cpu":"2","user.x":"z"},"description":"d","devices":{"eth0"`, "GET", "/1.0/profiles/web", "")
	f.want(t, 200, "", "PUT", "/1.0/profiles/web", `{"devices":{"eth0":{"type":"none"}}}`)
	f.want(t, 200, `"config":{},"description":"","devices":{"eth0":{"type":"none"}}`, "GET", "/1.0/profiles/web", "")

	f.want(t, 201, "", "POST", "/1.0/profiles/web", `{"name":"www"}`)
	f.want(t, 404, "not found", "GET", "/1.0/profiles/web", "")
	f.want(t, 200, "", "DELETE", "/1.0/profiles/www", "")
	f.want(t, 404, "not found", "DELETE", "/1.0/profiles/www", "")

	var actions []string
	for len(f.events.C()) > 0 {
		actions = append(actions, (<-f.events.C()).Metadata.(event.Lifecycle).Action)
	}
	if got := strings.Join(actions, " "); got != "profile-created profile-updated profile-updated profile-renamed profile-deleted" {
		t.Errorf("events: %s", got)
	}
	if len(f.users.before) != 2 || len(f.users.after) != 2 {
		t.Errorf("instances were told %v, %v", f.users.before, f.users.after)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/profiles", web)
	f.want(t, 403, "cannot be deleted", "DELETE", "/1.0/profiles/default", "")
	f.want(t, 403, "cannot be renamed", "POST", "/1.0/profiles/default", `{"name":"x"}`)
	f.want(t, 409, "already in use", "POST", "/1.0/profiles/web", `{"name":"default"}`)
	f.want(t, 400, "slashes", "POST", "/1.0/profiles", `{"name":"a/b"}`)
	f.want(t, 400, "No name", "POST", "/1.0/profiles", `{}`)
	f.want(t, 400, "bad.key", "PUT", "/1.0/profiles/web", `{"config":{"bad.key":"1"}}`)
	f.want(t, 400, "bad.key", "POST", "/1.0/profiles", `{"name":"x","config":{"bad.key":"1"}}`)
	f.want(t, 404, `Project \"nope\" not found`, "GET", "/1.0/profiles?project=nope", "")
	f.want(t, 404, `Profile \"x\" not found`, "PUT", "/1.0/profiles/x", "{}")
	// What was refused changed nothing.
	f.want(t, 200, `"limits.cpu":"2"`, "GET", "/1.0/profiles/web", "")
}

func TestAProfileInUseStays(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/profiles", web)
	dbtest.Exec(t, f.db, `INSERT INTO instances (node_id, name, architecture, project_id) VALUES (1, 'c1', 'x86_64', 1)`)
	dbtest.Exec(t, f.db, `INSERT INTO instances_profiles (instance_id, profile_id) SELECT 1, id FROM profiles WHERE name = 'web'`)
	f.want(t, 400, "in use", "DELETE", "/1.0/profiles/web", "")
	_, body, _ := f.do(t, "GET", "/1.0/profiles/web", "")
	var e struct {
		Metadata struct {
			UsedBy []string `json:"used_by"`
		}
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil || len(e.Metadata.UsedBy) != 1 || e.Metadata.UsedBy[0] != "/1.0/instances/c1" {
		t.Errorf("%v %s", err, body)
	}
}

func TestChangesOfAProfileComeOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/profiles", `{"name":"p","config":{"user.a":"0"}}`)
	_, _, hdr := f.do(t, "GET", "/1.0/profiles/p", "")
	following, goOn := make(chan struct{}), make(chan struct{})
	f.users.follow = func() {
		f.users.follow = nil
		close(following)
		<-goOn
	}
	first := make(chan int, 1)
	go func() {
		code, _, _ := f.do(t, "PATCH", "/1.0/profiles/p", `{"config":{"user.a":"1"}}`)
		first <- code
	}()
	<-following
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req := httptest.NewRequest("PUT", "/1.0/profiles/p", strings.NewReader(`{}`)).WithContext(ctx)
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, req)
	if w.Code == 200 {
		t.Error("a second change went in between")
	}
	close(goOn)
	if code := <-first; code != 200 {
		t.Errorf("first change: %d", code)
	}
	f.want(t, 412, "ETag", "PUT", "/1.0/profiles/p", `{}`, "If-Match", hdr.Get("Etag"))
	f.want(t, 200, `"user.a":"1"`, "GET", "/1.0/profiles/p", "")
}

// TestAChangeThroughAnotherMemberIsNotUndone: that one knows nothing of the lock here.
func TestAChangeThroughAnotherMemberIsNotUndone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/profiles", `{"name":"p","config":{"user.a":"0"}}`)
	f.users.look = func() {
		dbtest.Exec(t, f.db, `UPDATE profiles_config SET value = 'theirs' WHERE key = 'user.a'`)
	}
	f.want(t, 412, "meanwhile", "PATCH", "/1.0/profiles/p", `{"config":{"user.b":"1"}}`)
	f.want(t, 200, `"config":{"user.a":"theirs"}`, "GET", "/1.0/profiles/p", "")
	f.users.look = nil
	f.want(t, 200, "", "PATCH", "/1.0/profiles/p", `{"config":{"user.b":"1"}}`)
	f.want(t, 200, `"config":{"user.a":"theirs","user.b":"1"}`, "GET", "/1.0/profiles/p", "")
}
