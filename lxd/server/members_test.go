package server_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/auth"
	"sett/lxd/cluster/clustertest"
	"sett/lxd/db/dbtest"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/lxd/server"
	"sett/shared/api"
)

// node is one member.
type node struct {
	*clustertest.Member
	s    *server.Service
	bus  *event.Bus
	ops  *op.Manager
	stop context.CancelFunc
	t    *testing.T
}

func nodes(t *testing.T, n int) []*node {
	t.Helper()
	out := deaf(t, n)
	for _, x := range out {
		x.hear()
	}
	return out
}

// hear begins to listen to the others.
func (x *node) hear() {
	ctx, stop := context.WithCancel(context.WithoutCancel(x.t.Context()))
	x.stop = stop
	x.s.Listen(ctx)
	x.t.Cleanup(func() { stop(); x.s.Close() })
}

// deaf are members that do not listen to each other yet.
func deaf(t *testing.T, n int) []*node {
	t.Helper()
	d := dbtest.Open(t)
	var out []*node
	for _, m := range clustertest.New(t, d, n) {
		x := &node{Member: m, bus: event.NewBus(m.Here.Name()), t: t}
		x.ops = op.New(t.Context(), x.bus, m.Here.Name(), time.Minute)
		x.ops.Follow(m.Here.ID)
		x.s = server.New(server.Deps{DB: d, Local: dbtest.Open(t), Ops: x.ops, Bus: x.bus, Daemon: &fakeDaemon{}, Relay: m.Relay})
		m.Serve(t, rest.New(rest.Deps{Log: slog.New(slog.DiscardHandler), Project: project.New(d).Chain,
			Authenticate: clustertest.Caller(auth.Caller{Protocol: "unix", Username: "root", Admin: true})}, x.s.Routes()))
		out = append(out, x)
	}
	return out
}

// listen is a client's event stream.
func (x *node) listen(query string) *websocket.Conn {
	x.t.Helper()
	c, _, err := websocket.DefaultDialer.DialContext(x.t.Context(), "ws"+strings.TrimPrefix(x.URL(), "http")+"/1.0/events"+query, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { _ = c.Close() })
	return c
}

// next waits for the next event for which want holds.
func next(t *testing.T, c *websocket.Conn, want func(api.Event) bool) api.Event {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		_, b, err := c.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		var e api.Event
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if want(e) {
			return e
		}
	}
}

// ends waits for the end of an operation, as a client does, and returns it.
func ends(t *testing.T, c *websocket.Conn, id string) api.Operation {
	t.Helper()
	var o api.Operation
	next(t, c, func(e api.Event) bool {
		return e.Type == api.EventTypeOperation && json.Unmarshal(e.Metadata, &o) == nil && o.ID == id && o.StatusCode.IsFinal()
	})
	return o
}

func TestEventsOfAllMembersComeOnceEach(t *testing.T) {
	t.Parallel()
	ns := nodes(t, 3)
	c := ns[0].listen("?type=lifecycle")
	for _, n := range ns {
		n.bus.Publish(event.Event{Type: event.TypeLifecycle, Project: "default", Metadata: event.Lifecycle{Action: "did " + n.Here.Name()}})
	}
	seen := map[string]int{}
	for range ns {
		e := next(t, c, func(api.Event) bool { return true })
		seen[e.Location]++
		if !strings.Contains(string(e.Metadata), "did "+e.Location) {
			t.Errorf("%s says %s", e.Location, e.Metadata)
		}
	}
	for _, n := range ns {
		if seen[n.Here.Name()] != 1 {
			t.Errorf("saw %v", seen)
		}
	}
	// Another round would show what was passed on twice.
	ns[2].bus.Publish(event.Event{Type: event.TypeLifecycle, Metadata: event.Lifecycle{Action: "last"}})
	if e := next(t, c, func(api.Event) bool { return true }); !strings.Contains(string(e.Metadata), "last") {
		t.Errorf("got %s", e.Metadata)
	}
}

func TestLogsAreFetchedForWhoAsks(t *testing.T) {
	t.Parallel()
	ns := nodes(t, 2)
	lifecycle := ns[0].listen("?type=lifecycle")
	ns[1].bus.Lifecycle("x", entity.New(entity.Project, "", "default"), nil, nil)
	next(t, lifecycle, func(api.Event) bool { return true }) // the stream is up
	if ns[1].bus.Wants(event.TypeLogging) {
		t.Error("logs go to a member where nobody reads them")
	}
	logs := ns[0].listen("?type=logging")
	for !ns[1].bus.Wants(event.TypeLogging) {
		<-time.After(time.Millisecond)
	}
	ns[1].bus.Publish(event.Event{Type: event.TypeLogging, Metadata: event.Logging{Message: "hello"}})
	if e := next(t, logs, func(api.Event) bool { return true }); e.Location != "m2" || !strings.Contains(string(e.Metadata), "hello") {
		t.Errorf("got %+v", e)
	}
	_ = logs.Close()
	for ns[1].bus.Wants(event.TypeLogging) {
		<-time.After(time.Millisecond)
	}
}

func TestOperationsOfAllMembersAreListed(t *testing.T) {
	t.Parallel()
	ns := nodes(t, 3)
	var ids []string
	for _, n := range ns {
		o, err := n.ops.Start(t.Context(), op.Spec{Class: op.Token, Project: "default"})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, o.ID())
	}
	list := func() map[string]string {
		req := httptest.NewRequest("GET", ns[0].URL()+"/1.0/operations?recursion=1", nil)
		req.RequestURI = ""
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var a api.Response
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
		var by map[string][]api.Operation
		if err := a.MetadataAsStruct(&by); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, o := range by["running"] {
			out[o.ID] = o.Location
		}
		return out
	}
	got := list()
	for i, id := range ids {
		if got[id] != ns[i].Here.Name() {
			t.Errorf("operation %d is at %q", i, got[id])
		}
		if int(op.MemberOf(id)) != i+1 {
			t.Errorf("the id %s does not tell its member", id)
		}
	}
	ns[2].Down.Store(true)
	if got := list(); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestOperationsOfAMemberThatDiesFail(t *testing.T) {
	t.Parallel()
	ns := nodes(t, 2)
	c := ns[0].listen("?type=operation")
	goOn := make(chan struct{})
	o, err := ns[1].ops.Start(t.Context(), op.Spec{Project: "default", Run: func(context.Context, *op.Operation) error { <-goOn; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer close(goOn)
	next(t, c, func(e api.Event) bool { return strings.Contains(string(e.Metadata), o.ID()) })
	ns[1].Down.Store(true)
	ns[1].Cut()
	if got := ends(t, c, o.ID()); got.StatusCode != api.Failure || !strings.Contains(got.Err, `"m2"`) {
		t.Errorf("got %+v", got)
	}
	if ns[0].Relay.Reachable(ns[1].Here.Member()) {
		t.Error("a member that is out of reach is still asked")
	}
}

func TestWhatEndedWhileNobodyListenedIsTold(t *testing.T) {
	t.Parallel()
	ns := nodes(t, 2)
	c := ns[0].listen("?type=operation")
	goOn := make(chan struct{})
	o, err := ns[1].ops.Start(t.Context(), op.Spec{Project: "default", Run: func(context.Context, *op.Operation) error { <-goOn; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	next(t, c, func(e api.Event) bool { return strings.Contains(string(e.Metadata), o.ID()) })
	ns[1].Down.Store(true)
	ns[1].Cut()
	close(goOn)
	<-o.Done()
	ns[1].Down.Store(false)
	if got := ends(t, c, o.ID()); got.StatusCode != api.Success {
		t.Errorf("got %+v", got)
	}
}

// TestWhatBeganAndEndedBeforeAnybodyListenedIsTold: the client listens before this
// member does, and the operation is over by then.
func TestWhatBeganAndEndedBeforeAnybodyListenedIsTold(t *testing.T) {
	t.Parallel()
	ns := deaf(t, 2)
	c := ns[0].listen("?type=operation&project=default")
	o, err := ns[1].ops.Start(t.Context(), op.Spec{Project: "default", Run: func(context.Context, *op.Operation) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	<-o.Done()
	ns[0].hear()
	if got := ends(t, c, o.ID()); got.StatusCode != api.Success || got.Location != "m2" {
		t.Errorf("got %+v", got)
	}
}

// TestQuestionsWaitUntilTheirMemberIsHeard: or the end of an operation could fall between
// the answer and the first event.
func TestQuestionsWaitUntilTheirMemberIsHeard(t *testing.T) {
	t.Parallel()
	ns := deaf(t, 3)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		ns[0].s.Heard(t.Context(), ns[1].Here.Member())
	}()
	select {
	case <-heard:
		t.Error("a member that nobody listens to was not waited for")
	case <-time.After(50 * time.Millisecond):
	}
	ns[2].Down.Store(true)
	ns[0].hear()
	<-heard
	began := time.Now()
	ns[0].s.Heard(t.Context(), ns[1].Here.Member())
	ns[0].s.Heard(t.Context(), ns[2].Here.Member())
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("members that are heard or out of reach were waited for, %s long", took)
	}
}

func TestOthersFollowTheSharedConfiguration(t *testing.T) {
	t.Parallel()
	ns := nodes(t, 3)
	told := make(chan string, 8)
	for _, n := range ns {
		if _, err := n.s.Config(t.Context()); err != nil { // from now on it is remembered
			t.Fatal(err)
		}
		n.s.Follow(func(_ context.Context, old, new map[string]string) (func(), error) {
			told <- n.Here.Name() + " " + old["core.shutdown_timeout"] + ">" + new["core.shutdown_timeout"]
			return nil, nil
		})
	}
	ns[2].Down.Store(true) // is told nothing, and stops nobody
	if err := ns[0].s.SetConfig(t.Context(), map[string]string{"core.shutdown_timeout": "9"}, nil); err != nil {
		t.Fatal(err)
	}
	got := []string{<-told, <-told}
	slices.Sort(got)
	if !slices.Equal(got, []string{"m1 >9", "m2 >9"}) {
		t.Errorf("got %v", got)
	}
	if c, err := ns[1].s.Config(t.Context()); err != nil || c["core.shutdown_timeout"] != "9" {
		t.Errorf("got %v %v", c, err)
	}
}
