package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/auth"
	"sett/lxd/db/dbtest"
	localdb "sett/lxd/db/node"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/lxd/op/history"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/lxd/server"
	"sett/shared/api"
	"sett/shared/errs"
)

// fakeDaemon stands in for the daemon.
type fakeDaemon struct {
	ready chan struct{}
	stops chan string
}

func (d *fakeDaemon) Environment(context.Context) api.ServerEnvironment {
	return api.ServerEnvironment{Server: "lxd", ServerName: "here"}
}
func (d *fakeDaemon) Ready() <-chan struct{} { return d.ready }
func (d *fakeDaemon) WaitReady(ctx context.Context) error {
	select {
	case <-d.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
func (d *fakeDaemon) Stop(all, force bool) <-chan error {
	d.stops <- map[bool]string{true: "force"}[force]
	done := make(chan error)
	close(done)
	return done
}
func (d *fakeDaemon) SQL(_ context.Context, database, query string) (any, error) {
	if database != "global" {
		return nil, errs.Invalid("There is no database %q", database)
	}
	return query, nil
}
func (d *fakeDaemon) Dump(context.Context, string, bool) (string, error) { return "CREATE", nil }

type world struct {
	t      *testing.T
	daemon *fakeDaemon
	ops    *op.Manager
	bus    *event.Bus
	s      *server.Service
	server http.Handler

	mu     sync.Mutex
	caller auth.Caller
}

var (
	admin      = auth.Caller{Protocol: "unix", Username: "root", Admin: true}
	restricted = auth.Caller{Protocol: "tls", Username: "abc", Projects: []string{"default"}}
)

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, daemon: &fakeDaemon{ready: make(chan struct{}), stops: make(chan string, 1)}, bus: event.NewBus(""), caller: admin}
	global, local := dbtest.Open(t), dbtest.Open(t)
	w.ops = op.New(t.Context(), w.bus, "", time.Minute)
	w.s = server.New(server.Deps{DB: global, Local: local, Ops: w.ops, Bus: w.bus, Daemon: w.daemon})
	w.server = rest.New(rest.Deps{Log: slog.New(slog.DiscardHandler), Project: project.New(global).Chain,
		Authenticate: func(*http.Request) (auth.Caller, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.caller, nil
		}}, w.s.Routes())
	return w
}

// as lets another one call.
func (w *world) as(c auth.Caller) *world {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.caller = c
	return w
}

func (w *world) want(code int, text, method, url, body string, hdr ...string) http.Header {
	w.t.Helper()
	req := httptest.NewRequest(method, url, strings.NewReader(body))
	for i := 0; i+1 < len(hdr); i += 2 {
		req.Header.Set(hdr[i], hdr[i+1])
	}
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, req)
	b, _ := io.ReadAll(rec.Result().Body)
	if rec.Code != code || !strings.Contains(string(b), text) {
		w.t.Errorf("%s %s: %d %s; want %d with %s", method, url, rec.Code, b, code, text)
	}
	return rec.Result().Header
}

// start begins an operation that lasts until the test ends.
func (w *world) start(s op.Spec) *op.Operation {
	w.t.Helper()
	s.Run = func(ctx context.Context, _ *op.Operation) error { <-ctx.Done(); return ctx.Err() }
	o, err := w.ops.Start(w.t.Context(), s)
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	w := setup(t)
	etag := w.want(200, `"config":{}`, "GET", "/1.0", "").Get("Etag")
	w.want(200, "", "PUT", "/1.0", `{"config":{"user.a":"1","core.shutdown_timeout":7}}`, "If-Match", etag)
	w.want(412, "ETag", "PUT", "/1.0", `{"config":{}}`, "If-Match", etag)
	w.want(200, "", "PATCH", "/1.0", `{"config":{"user.b":"2"}}`)
	w.want(200, `"config":{"core.shutdown_timeout":"7","user.a":"1","user.b":"2"}`, "GET", "/1.0", "")
	w.want(400, "nope", "PATCH", "/1.0", `{"config":{"nope":"1"}}`)
	w.want(400, "core.shutdown_timeout", "PATCH", "/1.0", `{"config":{"core.shutdown_timeout":"soon"}}`)
	w.want(200, "", "PATCH", "/1.0", `{"config":{"user.n":12345678,"user.t":true}}`)
	w.want(200, `"user.n":"12345678","user.t":"true"}`, "GET", "/1.0", "")
	w.want(200, "", "PATCH", "/1.0", `{"config":{"user.n":"","user.t":null}}`)
	w.want(400, "user.o", "PATCH", "/1.0", `{"config":{"user.o":{"a":"b"}}}`)
	w.want(200, "", "PATCH", "/1.0", `{"config":{"user.a":null}}`)
	w.s.Forget() // what is stored is what was said
	w.want(200, `"config":{"core.shutdown_timeout":"7","user.b":"2"}`, "GET", "/1.0", "")
}

func TestFollowersGoAlongOrRefuse(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var seen []string
	w.s.Follow(func(_ context.Context, _, new map[string]string) (func(), error) {
		seen = append(seen, new["user.a"])
		return func() { seen = append(seen, "undone") }, nil
	})
	w.s.Follow(func(_ context.Context, _, new map[string]string) (func(), error) {
		if new["user.a"] == "bad" {
			return nil, errs.Invalid("not with me")
		}
		return nil, nil
	})
	w.want(200, "", "PUT", "/1.0", `{"config":{"user.a":"good"}}`)
	w.want(400, "not with me", "PUT", "/1.0", `{"config":{"user.a":"bad"}}`)
	w.want(200, `"user.a":"good"`, "GET", "/1.0", "")
	if got := strings.Join(seen, " "); got != "good bad undone" {
		t.Errorf("the first one saw: %s", got)
	}
}

func TestWhoSeesWhatOfTheServer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.want(200, "", "PUT", "/1.0", `{"config":{"user.a":"mine"}}`)
	w.as(restricted).want(200, `"config":{}`, "GET", "/1.0", "")
	w.want(403, "", "PUT", "/1.0", `{"config":{}}`)
	w.want(403, "", "POST", "/internal/sql", `{"database":"global","query":"SELECT 1"}`)
	w.want(403, "", "PUT", "/internal/shutdown", "")
	w.as(auth.Caller{}).want(200, `"auth":"untrusted"`, "GET", "/1.0", "")
	w.want(403, "not authorized", "GET", "/1.0", "", "X-LXD-authenticated", "true")
	w.want(403, "", "GET", "/1.0/operations", "")
	w.want(403, "", "GET", "/1.0/events", "")
}

func TestOperationsAreShownToThoseWhoMaySeeThem(t *testing.T) {
	t.Parallel()
	w := setup(t)
	foreign := w.start(op.Spec{Description: "of nobody's project", Requestor: admin.Requestor()})
	mine := w.start(op.Spec{Description: "mine", Requestor: restricted.Requestor()})
	other := w.start(op.Spec{Description: "elsewhere", Project: "other"})
	w.want(200, foreign.ID(), "GET", "/1.0/operations", "")
	w.want(200, "elsewhere", "GET", "/1.0/operations?recursion=1&all-projects=true", "")
	w.as(restricted).want(200, `{"running":["`+mine.URL()+`"]}`, "GET", "/1.0/operations", "")
	w.want(200, "mine", "GET", mine.URL(), "")
	for _, o := range []*op.Operation{foreign, other} {
		w.want(403, "", "GET", o.URL(), "")
		w.want(403, "", "DELETE", o.URL(), "")
		w.want(403, "", "GET", o.URL()+"/wait?timeout=0", "")
	}
	sub := w.bus.Subscribe(event.Filter{Types: []event.Type{event.TypeLifecycle}})
	defer sub.Close()
	w.want(200, "", "DELETE", mine.URL(), "")
	if e := (<-sub.C()).Metadata.(event.Lifecycle); e.Action != "operation-cancelled" || e.Source != mine.URL() || e.Requestor.Username != restricted.Username {
		t.Errorf("the cancel was told as %+v", e)
	}
	w.want(200, `"status":"Cancelled"`, "GET", mine.URL()+"/wait", "")
	w.want(404, "not found", "GET", "/1.0/operations/none", "")
}

func TestWaitEndsWhenItsTimeIsUp(t *testing.T) {
	t.Parallel()
	w := setup(t)
	o := w.start(op.Spec{Description: "long"})
	w.want(200, `"status":"Running"`, "GET", o.URL()+"/wait?timeout=0", "")
	w.want(400, "timeout", "GET", o.URL()+"/wait?timeout=soon", "")
	go func() { _ = o.Cancel() }()
	// More seconds than a time can hold.
	w.want(200, `"status":"Cancelled"`, "GET", o.URL()+"/wait?timeout=9223372037", "")

	secret := w.start(op.Spec{Metadata: map[string]any{"secret": "s3cret"}})
	w.as(auth.Caller{})
	w.want(403, "", "GET", secret.URL()+"/wait?timeout=0", "")
	w.want(403, "", "GET", secret.URL()+"/wait?timeout=0&secret=wrong", "")
	w.want(200, "Running", "GET", secret.URL()+"/wait?timeout=0&secret=s3cret", "")
	w.want(403, "", "GET", "/1.0/operations/none/wait", "")
}

func TestEventsOfNoProjectAreForAdminsAndTheirCause(t *testing.T) {
	t.Parallel()
	w := setup(t)
	srv := httptest.NewServer(w.server)
	defer srv.Close()
	listen := func(c auth.Caller, query string) *websocket.Conn {
		w.as(c)
		conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/1.0/events"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	next := func(c *websocket.Conn) api.Event {
		var e api.Event
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if err := c.ReadJSON(&e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	description := func(e api.Event) string {
		var o api.Operation
		if err := json.Unmarshal(e.Metadata, &o); err != nil {
			t.Fatal(err)
		}
		return o.Description
	}
	all, few := listen(admin, "?type=operation"), listen(restricted, "?type=operation")
	w.start(op.Spec{Description: "theirs", Requestor: admin.Requestor()})
	w.start(op.Spec{Description: "nobody's"})
	w.start(op.Spec{Description: "mine", Requestor: restricted.Requestor()})
	if d := description(next(all)); d != "theirs" {
		t.Errorf("an admin saw %q first", d)
	}
	if d := description(next(few)); d != "mine" {
		t.Errorf("a restricted caller saw %q first", d)
	}
	w.as(restricted).want(403, "", "GET", "/1.0/events?type=logging", "")
	w.want(403, "", "GET", "/1.0/events?all-projects=true", "")
	w.as(admin).want(400, "supported", "GET", "/1.0/events?type=nope", "")
}

// TestAListenerThatReadsNothingIsCutOff: whoever tells of events waits for no client.
func TestAListenerThatReadsNothingIsCutOff(t *testing.T) {
	t.Parallel()
	w := setup(t)
	srv := httptest.NewServer(w.server)
	defer srv.Close()
	conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/1.0/events?type=logging", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := strings.Repeat("x", 32<<10)
	told := 0
	for ; w.bus.Wants(event.TypeLogging) && told < 5000; told++ {
		w.bus.Publish(event.Event{Type: event.TypeLogging, Metadata: event.Logging{Message: text}})
	}
	if w.bus.Wants(event.TypeLogging) {
		t.Fatalf("it still counts after %d events", told)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	n := 0
	for ; err == nil; n++ {
		_, _, err = conn.ReadMessage()
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() || n > told { // the last of them was none
		t.Errorf("read %d of %d events, then %v", n, told, err)
	}
}

func TestInternalEndpoints(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.want(503, "not ready", "GET", "/internal/ready", "")
	close(w.daemon.ready)
	w.want(200, "", "GET", "/internal/ready?wait=1", "")
	w.want(200, "SELECT 1", "POST", "/internal/sql", `{"database":"global","query":"SELECT 1"}`)
	w.want(400, "no database", "POST", "/internal/sql", `{"database":"x","query":"SELECT 1"}`)
	w.want(400, "No query", "POST", "/internal/sql", `{"database":"x"}`)
	w.want(200, "CREATE", "GET", "/internal/sql?database=global", "")
	w.want(200, "", "PUT", "/internal/shutdown?force=true", "")
	if got := <-w.daemon.stops; got != "force" {
		t.Errorf("stopped with %q", got)
	}
}

func TestHistoryShowsTheRestrictedTheirProjectsOnly(t *testing.T) {
	t.Parallel()
	w := setup(t)
	local, err := localdb.Open(t.Context(), t.TempDir(), "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Close() })
	past := history.Open(t.Context(), local.DB, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = past.Close(context.Background()) })
	w.ops = op.New(t.Context(), w.bus, "", 0)
	w.ops.Keep(past)
	global := dbtest.Open(t)
	dbtest.Exec(t, global, `INSERT INTO projects (name, description) VALUES ('web', '')`)
	w.s = server.New(server.Deps{DB: global, Local: local.DB, Ops: w.ops, Bus: w.bus, Daemon: w.daemon, History: past})
	w.server = rest.New(rest.Deps{Log: slog.New(slog.DiscardHandler), Project: project.New(global).Chain,
		Authenticate: func(*http.Request) (auth.Caller, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.caller, nil
		}}, w.s.Routes())
	ids := map[string]string{}
	for name, p := range map[string]string{"mine": "default", "theirs": "web", "servers": ""} {
		o, err := w.ops.Start(t.Context(), op.Spec{Description: "Doing " + name, Project: p, Run: func(context.Context, *op.Operation) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		<-o.Done()
		for _, err := w.ops.Get(o.ID()); err == nil; _, err = w.ops.Get(o.ID()) { // the history alone shall answer
			<-time.After(time.Millisecond)
		}
		ids[name] = o.ID()
	}
	one := func(name string) string { return "/1.0/operations/" + ids[name] }
	w.as(restricted)
	w.want(200, "Doing mine", "GET", one("mine"), "")
	w.want(200, "Doing mine", "GET", one("mine")+"/wait", "")
	w.want(403, "not authorized", "GET", one("theirs"), "")
	w.want(403, "not authorized", "GET", one("theirs")+"/wait", "")
	w.want(403, "not authorized", "DELETE", one("theirs"), "")
	w.want(403, "not authorized", "GET", one("servers"), "")
	w.want(400, "Only running", "DELETE", one("mine"), "")
	w.as(auth.Caller{}).want(403, "", "GET", one("mine")+"/wait", "")
	for _, c := range []struct {
		caller auth.Caller
		query  string
		want   string
	}{
		{restricted, "history=true", "mine"}, {restricted, "", ""},
		{admin, "history=1", "mine servers"}, {admin, "history=true&all-projects=true", "mine servers theirs"}, {admin, "history=true&project=web", "servers theirs"},
	} {
		req := httptest.NewRequest("GET", "/1.0/operations?recursion=1&"+c.query, nil)
		rec := httptest.NewRecorder()
		w.as(c.caller).server.ServeHTTP(rec, req)
		var got []string
		for _, name := range []string{"mine", "servers", "theirs"} {
			if strings.Contains(rec.Body.String(), "Doing "+name) {
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s with %q sees %v, want %s", c.caller.Protocol, c.query, got, c.want)
		}
	}
}
