package daemon

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sett/lxd/auth"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// trio is three members over one database. Each has routes of all sorts, which answer
// with the name of the member that ran them.
type trio struct {
	db    *db.DB
	by    map[string]*httptest.Server
	all   map[string]*cluster.Cluster
	ops   map[string]*op.Manager
	ready map[string]http.Handler
	heard map[string][]string // members that were waited for before they were asked
	// stopping is the member that takes nothing on any more.
	stopping string
	// unknown is the member that has just been removed, dialled the one that is called
	// over TLS, which nobody here answers.
	unknown, dialled string
}

// asMember marks the connections of members in these tests.
const asMember = "X-Test-Member"

type wire struct{ t *trio }

type noIdentity struct{}

func (noIdentity) Own() (*tls.Certificate, error) { return &tls.Certificate{}, nil }

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	name, _, _ := strings.Cut(r.URL.Host, ".")
	at := w.t.by[name].Listener.Addr().String()
	if w.t.unknown == name || w.t.dialled == name {
		here := cluster.Alone()
		here.Set(cluster.Member{ID: 9, Name: "m9", Address: "m9.test:8443"})
		c := cluster.New(cluster.Options{Here: here, Identity: noIdentity{}})
		if w.t.dialled == name {
			c.SetPeers([]cluster.Peer{{Name: name, Address: at}})
		}
		return c.Client(cluster.Member{Address: at}).Transport.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", at
	r.Header.Set(asMember, "yes")
	return http.DefaultTransport.RoundTrip(r)
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	x := &trio{db: dbtest.Open(t), by: map[string]*httptest.Server{}, all: map[string]*cluster.Cluster{}, ops: map[string]*op.Manager{}, ready: map[string]http.Handler{}, heard: map[string][]string{}}
	x.exec(t, `UPDATE nodes SET name = 'm1', address = 'm1.test:8443' WHERE id = 1`)
	x.exec(t, `INSERT INTO nodes (id, name, address, schema, api_extensions) VALUES (2, 'm2', 'm2.test:8443', 1, 0), (3, 'm3', 'm3.test:8443', 1, 0)`)
	x.exec(t, `INSERT INTO instances (node_id, name, architecture, project_id) VALUES (1, 'a', 'x86_64', 1), (1, 'b', 'x86_64', 1), (3, 'c', 'x86_64', 1)`)
	for id, name := range []string{"", "m1", "m2", "m3"} {
		if id == 0 {
			continue
		}
		here := cluster.Alone()
		here.Set(cluster.Member{ID: int64(id), Name: name, Address: name + ".test:8443"})
		c := cluster.New(cluster.Options{DB: x.db, Here: here})
		ops := op.New(t.Context(), event.NewBus(name), name, time.Minute)
		ops.Follow(here.ID)
		f := &forwarder{db: x.db, relay: relay.Over(c, func(cluster.Member) http.RoundTripper { return wire{x} }), ops: ops,
			leader: func(context.Context) (string, error) { return "m2.test:8443", nil },
			heard:  func(_ context.Context, m cluster.Member) { x.heard[name] = append(x.heard[name], m.Name) }}
		answer := func(_ context.Context, r *rest.Request) (rest.Response, error) {
			if r.ContentLength() > 0 {
				text, err := io.ReadAll(r.Body())
				return rest.Sync(fmt.Sprintf("%s got %s", name, text)), err
			}
			return rest.Sync(fmt.Sprintf("%s for %s", name, r.Caller().Username)), nil
		}
		route := func(path string, w rest.Where) rest.Route {
			return rest.Route{Method: "GET", Path: path, Summary: "x", Need: auth.EditProject, Scope: rest.InProject, Where: w, Handler: answer,
				Locate: func(_ context.Context, r *rest.Request) (int64, error) {
					return map[string]int64{"on3": 3, "on9": 9}[r.Value(0)], nil
				}}
		}
		post := func(r rest.Route) rest.Route {
			r.Method = http.MethodPost
			return r
		}
		h := rest.New(rest.Deps{
			Log:     slog.New(slog.DiscardHandler),
			Project: func(_ context.Context, name string) (rest.Project, error) { return rest.Project{Name: name}, nil },
			Authenticate: func(r *http.Request) (auth.Caller, error) {
				if r.Header.Get(asMember) != "" {
					return auth.Caller{Protocol: auth.Cluster, Username: "member", Admin: true}, nil
				}
				return auth.Caller{Protocol: "tls", Username: "web", Projects: []string{"default"}}, nil
			},
			Gate: func(context.Context, *rest.Route) error {
				if name == x.stopping {
					return errs.Unavailable("%s is shutting down", name)
				}
				return nil
			},
			Forward: f.forward,
		}, []rest.Route{route("/here", rest.Here), route("/instances/{name}", rest.OnInstance), post(route("/instances/{name}", rest.OnInstance)), route("/target", rest.OnTarget), route("/place", rest.OnPlacement),
			route("/1.0/operations/{id}", rest.OnOperation), route("/leader", rest.OnLeader), route("/shared", rest.OnTargetOrLeader), route("/objects/{name}", rest.OnObject)})
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		x.by[name], x.all[name], x.ops[name], x.ready[name] = s, c, ops, h
	}
	return x
}

func (x *trio) exec(t *testing.T, q string) {
	t.Helper()
	if _, err := x.db.Run(t.Context(), q); err != nil {
		t.Fatal(err)
	}
}

func (x *trio) get(t *testing.T, member, path string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", x.by[member].URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a api.Response
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatalf("%s: %s", path, b)
	}
	if a.Error != "" {
		return resp.StatusCode, a.Error
	}
	var text string
	_ = a.MetadataAsStruct(&text)
	return resp.StatusCode, text
}

func TestRequestsReachTheMemberOfTheirObject(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	o, err := x.ops["m3"].Start(t.Context(), op.Spec{Class: op.Token})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ asked, path, want string }{
		{"m2", "/here", "m2"}, {"m2", "/here?target=m1", "m2"},
		{"m2", "/instances/a", "m1"}, {"m1", "/instances/a", "m1"}, {"m1", "/instances/c", "m3"}, {"m2", "/instances/nobody", "m2"},
		{"m2", "/instances/c?project=default", "m3"},
		{"m2", "/target", "m2"}, {"m2", "/target?target=m3", "m3"}, {"m2", "/target?target=m2", "m2"},
		{"m1", "/place", "m2"}, {"m1", "/place?target=m3", "m3"}, // m2 has no instance yet
		{"m1", "/1.0/operations/" + o.ID(), "m3"}, {"m3", "/1.0/operations/" + o.ID(), "m3"}, {"m1", "/1.0/operations/nonsense", "m1"},
		{"m1", "/leader", "m2"}, {"m1", "/shared", "m2"}, {"m1", "/shared?target=m3", "m3"}, {"m2", "/shared?target=m1", "m1"},
		{"m1", "/objects/on3", "m3"}, {"m1", "/objects/any", "m1"}, {"m1", "/objects/on9", "m1"},
	} {
		if code, got := x.get(t, c.asked, c.path); code != 200 || got != c.want+" for web" {
			t.Errorf("%s asked for %s: %d %q, want %s", c.asked, c.path, code, got, c.want)
		}
	}
	if got := x.heard; len(got) != 1 || !slices.Equal(got["m1"], []string{"m3"}) {
		t.Errorf("before they were asked, %v were waited for", got)
	}
	for path, want := range map[string]int{"/target?target=m9": 404, "/place?target=m9": 404, "/place?target=@group": 501} {
		if code, text := x.get(t, "m1", path); code != want {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}

func TestARestrictedCallerStaysSoOnOtherMembers(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	if code, text := x.get(t, "m1", "/instances/c?project=secret"); code != 403 {
		t.Errorf("%d %s", code, text)
	}
	// Even where the first member did not look: what it says of the caller counts.
	if code, text := x.get(t, "m3", "/target?project=secret", func(r *http.Request) {
		r.Header.Set(asMember, "yes")
		relay.Identity{Caller: auth.Caller{Protocol: "tls", Username: "web", Projects: []string{"default"}}}.Mark(r.Header)
	}); code != 403 {
		t.Errorf("%d %s", code, text)
	}
}

// TestNothingIsSentOnTwice asks a member for what is elsewhere, as another member
// with an outdated view would.
func TestNothingIsSentOnTwice(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	relayed := func(r *http.Request) {
		r.Header.Set(asMember, "yes")
		relay.Identity{Caller: auth.Caller{Protocol: "unix", Admin: true}}.Mark(r.Header)
	}
	if code, text := x.get(t, "m2", "/instances/a", relayed); code != 503 || !strings.Contains(text, `"m1"`) {
		t.Errorf("%d %s", code, text)
	}
	if code, text := x.get(t, "m1", "/place", relayed); code != 200 || !strings.HasPrefix(text, "m1 ") {
		t.Errorf("%d %s", code, text)
	}
	// What a member asks by itself is about that member.
	if code, text := x.get(t, "m2", "/instances/a", func(r *http.Request) { r.Header.Set(asMember, "yes") }); code != 200 || !strings.HasPrefix(text, "m2 ") {
		t.Errorf("%d %s", code, text)
	}
}

// TestAGuessIsRightOrAskedAgain moves an instance to and fro behind the back of a member
// that has just sent something on to it.
func TestAGuessIsRightOrAskedAgain(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	body := strings.Repeat("x", 10<<10)
	posted := func(r *http.Request) {
		r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	on := func(want string) {
		t.Helper()
		if code, text := x.get(t, "m1", "/instances/c", posted); code != 200 || text != want+" got "+body {
			t.Errorf("%d %.80s, want %s", code, text, want)
		}
		if code, text := x.get(t, "m1", "/instances/c"); code != 200 || text != want+" for web" {
			t.Errorf("%d %s, want %s", code, text, want)
		}
	}
	on("m3")
	// It is not asked for again: nobody could be reached there.
	x.exec(t, `UPDATE nodes SET address = 'm9.test:8443' WHERE name = 'm3'`)
	on("m3")
	x.exec(t, `UPDATE nodes SET address = 'm3.test:8443' WHERE name = 'm3'`)
	x.exec(t, `UPDATE instances SET node_id = 2 WHERE name = 'c'`)
	on("m2")
	x.exec(t, `UPDATE instances SET node_id = 1 WHERE name = 'c'`)
	on("m1")
	x.exec(t, `UPDATE instances SET node_id = 3 WHERE name = 'c'`)
	on("m3")
	// Its member is stopped right after it has moved, is removed, and ends.
	x.exec(t, `UPDATE instances SET node_id = 2 WHERE name = 'c'`)
	x.stopping = "m3"
	on("m2")
	x.stopping = ""
	x.exec(t, `UPDATE instances SET node_id = 3 WHERE name = 'c'`)
	on("m3")
	x.exec(t, `UPDATE instances SET node_id = 2 WHERE name = 'c'`)
	x.unknown = "m3"
	on("m2")
	x.unknown = ""
	// What listens there by now is not the member.
	x.exec(t, `UPDATE instances SET node_id = 3 WHERE name = 'c'`)
	on("m3")
	x.exec(t, `UPDATE instances SET node_id = 2 WHERE name = 'c'`)
	x.dialled = "m3"
	on("m2")
	x.dialled = ""
	x.exec(t, `UPDATE instances SET node_id = 3 WHERE name = 'c'`)
	on("m3")
	x.by["m3"].Close()
	x.dialled = "m3"
	x.exec(t, `UPDATE instances SET node_id = 2 WHERE name = 'c'`)
	on("m2")
	// One that is gone is no guess.
	x.exec(t, `UPDATE instances SET node_id = 1 WHERE name = 'c'`)
	x.all["m1"].SetThreshold(0)
	on("m1")
}

func TestPlacementLeavesOutWhoCannot(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	x.exec(t, `UPDATE nodes SET state = 2 WHERE name = 'm2'`) // evacuated
	if code, text := x.get(t, "m1", "/place"); code != 200 || !strings.HasPrefix(text, "m3 ") {
		t.Errorf("%d %s", code, text)
	}
	x.exec(t, `UPDATE nodes SET state = 0 WHERE name = 'm2'`)
	x.exec(t, `INSERT INTO nodes_config (node_id, key, value) VALUES (2, 'scheduler.instance', 'manual')`)
	if code, text := x.get(t, "m1", "/place"); code != 200 || !strings.HasPrefix(text, "m3 ") {
		t.Errorf("%d %s", code, text)
	}
	x.all["m1"].SetThreshold(time.Nanosecond) // all others are offline
	if code, text := x.get(t, "m1", "/place"); code != 200 || !strings.HasPrefix(text, "m1 ") {
		t.Errorf("%d %s", code, text)
	}
	if code, text := x.get(t, "m1", "/target?target=m3"); code != 503 || !strings.Contains(text, `"m3"`) {
		t.Errorf("%d %s", code, text)
	}
	x.exec(t, `UPDATE nodes SET state = 2 WHERE name = 'm1'`)
	if code, text := x.get(t, "m1", "/place"); code != 503 || !strings.Contains(text, "--target") {
		t.Errorf("%d %s", code, text)
	}
}
