package instance_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sett/lxd/auth"
	"sett/lxd/cluster/clustertest"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/lxd/profile"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// worlds are members over one database, each with an engine of its own and one
// instance: c1 on m1 and so on.
func worlds(t *testing.T, n int) []*world {
	t.Helper()
	first := setup(t)
	var out []*world
	for i, m := range clustertest.New(t, first.db, n) {
		w := newWorld(t, first.db)
		w.member = m
		w.s = w.service()
		wait := rest.Route{Path: "/1.0/operations/{id}/wait", Method: "GET", Summary: "x", Need: auth.Trusted, Handler: func(ctx context.Context, r *rest.Request) (rest.Response, error) {
			o, err := w.ops.Get(r.Value(0))
			if err != nil {
				return nil, err
			}
			_ = o.Wait(ctx)
			return rest.Sync(o.API()), nil
		}}
		m.Serve(t, rest.New(rest.Deps{Log: slog.New(slog.DiscardHandler), Project: project.New(first.db).Chain,
			Authenticate: clustertest.Caller(auth.Caller{Protocol: "unix", Admin: true})}, append(w.s.Routes(), wait)))
		w.ok(w.create(fmt.Sprintf("c%d", i+1)))
		out = append(out, w)
	}
	return out
}

func (w *world) get(method, path, body string, into any) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.member.URL()+path, strings.NewReader(body))
	w.ok(err)
	resp, err := http.DefaultClient.Do(req)
	w.ok(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	w.ok(err)
	var a api.Response
	w.ok(json.Unmarshal(b, &a))
	if a.Error != "" {
		w.t.Fatalf("%s %s: %s", method, path, a.Error)
	}
	w.ok(a.MetadataAsStruct(into))
}

// shown is a list as "name@location state", by recursion.
func (w *world) shown(recursion int) string {
	w.t.Helper()
	var is []api.InstanceFull
	w.get("GET", fmt.Sprintf("/1.0/instances?recursion=%d", recursion), "", &is)
	var out []string
	for _, i := range is {
		st := i.Status
		if i.State != nil && i.State.Status != st {
			st += " but " + i.State.Status
		}
		out = append(out, i.Name+"@"+i.Location+" "+st)
	}
	return strings.Join(out, ", ")
}

func TestListsShowWhatAllMembersDo(t *testing.T) {
	t.Parallel()
	ws := worlds(t, 3)
	ws[1].ok(ws[1].start("c2"))
	for _, w := range ws {
		for _, recursion := range []int{1, 2} {
			if got := w.shown(recursion); got != "c1@m1 Stopped, c2@m2 Running, c3@m3 Stopped" {
				t.Errorf("%s with recursion %d: %s", w.member.Here.Name(), recursion, got)
			}
		}
	}
	ws[1].member.Down.Store(true)
	if got := ws[0].shown(2); got != "c1@m1 Stopped, c2@m2 Error, c3@m3 Stopped" {
		t.Error(got)
	}
	ws[1].member.Down.Store(false)
	// Known to be offline: not even asked.
	ws[0].member.Cluster.SetThreshold(1)
	if got := ws[0].shown(1); got != "c1@m1 Stopped, c2@m2 Error, c3@m3 Error" {
		t.Error(got)
	}
}

func TestASilentMemberCostsAListLittle(t *testing.T) {
	t.Parallel()
	ws := worlds(t, 2)
	stuck := make(chan struct{})
	defer close(stuck)
	ws[1].member.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stuck:
		case <-r.Context().Done():
		}
	}))
	began := time.Now()
	if got := ws[0].shown(2); got != "c1@m1 Stopped, c2@m2 Error" {
		t.Error(got)
	}
	if d := time.Since(began); d > 1500*time.Millisecond {
		t.Errorf("it took %s", d)
	}
}

func TestAllInstancesOfAllMembersAreStopped(t *testing.T) {
	t.Parallel()
	ws := worlds(t, 3)
	for i, w := range ws {
		w.ok(w.start(fmt.Sprintf("c%d", i+1)))
	}
	var o api.Operation
	ws[0].get("PUT", "/1.0/instances", `{"state":{"action":"stop","force":true,"timeout":-1}}`, &o)
	ws[0].get("GET", "/1.0/operations/"+o.ID+"/wait", "", &o)
	if o.StatusCode != api.Success {
		t.Errorf("%+v", o)
	}
	for i, w := range ws {
		w.is(fmt.Sprintf("c%d", i+1), instance.Stopped)
	}
	for i, w := range ws {
		w.ok(w.start(fmt.Sprintf("c%d", i+1)))
	}
	ws[2].member.Down.Store(true)
	ws[0].get("PUT", "/1.0/instances", `{"state":{"action":"stop","force":true,"timeout":-1}}`, &o)
	ws[0].get("GET", "/1.0/operations/"+o.ID+"/wait", "", &o)
	if o.StatusCode != api.Failure || !strings.Contains(o.Err, "m3") {
		t.Errorf("%+v", o)
	}
	ws[1].is("c2", instance.Stopped)
	ws[2].is("c3", instance.Running)
}

func TestNobodyTouchesInstancesOfOtherMembers(t *testing.T) {
	t.Parallel()
	ws := worlds(t, 2)
	for what, f := range map[string]func() error{
		"start":  func() error { return ws[0].start("c2") },
		"stop":   func() error { return ws[0].stop("c2", instance.StopOptions{Force: true}) },
		"delete": func() error { return ws[0].s.Delete(t.Context(), "default", "c2", nil) },
		"update": func() error {
			return ws[0].s.Update(t.Context(), admin, ws[0].load("c2"), instance.Change{Config: map[string]string{"user.a": "b"}})
		},
		"rename": func() error { return ws[0].s.Rename(t.Context(), "default", "c2", "d2", nil) },
	} {
		if err := f(); errs.Status(err) != http.StatusServiceUnavailable || !strings.Contains(err.Error(), `"m2"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if ws[0].guest("c2") != nil {
		t.Error("it runs in a second place")
	}
}

func TestInstancesOfOtherMembersFollowAProfile(t *testing.T) {
	t.Parallel()
	ws := worlds(t, 2)
	ws[1].ok(ws[1].start("c2"))
	ws[0].ok(ws[0].s.Profiles.Update(t.Context(), "default", "default", func(p profile.Profile) (profile.Profile, error) {
		p.Config = map[string]string{"limits.processes": "77"}
		return p, nil
	}, nil))
	if got := ws[1].guest("c2").Limits(); !strings.Contains(fmt.Sprint(got), "77") {
		t.Errorf("it runs with %v", got)
	}
}

// TestAnInstanceThatMovesAwayNeedNotFollowHere: its turn to follow a profile comes when it
// is on another member, where it does not run.
func TestAnInstanceThatMovesAwayNeedNotFollowHere(t *testing.T) {
	t.Parallel()
	ws := worlds(t, 2)
	w := ws[0]
	w.ok(w.create("away"))
	w.ok(w.start("c1"))
	unlock, err := w.s.Locks.TryLock("move", w.load("away").Ref())
	w.ok(err)
	reached, goOn := make(chan struct{}), make(chan struct{})
	var first sync.Once
	w.nics.during = func(string) {
		first.Do(func() { close(reached) })
		<-goOn
	}
	result := make(chan error, 1)
	go func() {
		result <- w.s.Profiles.Update(t.Context(), "default", "default", func(p profile.Profile) (profile.Profile, error) {
			p.Devices = maps.Clone(p.Devices)
			p.Devices["a"] = nic()
			return p, nil
		}, nil)
	}()
	<-reached
	dbtest.Exec(t, w.db, stmtElsewhere)
	unlock()
	close(goOn)
	w.ok(<-result)
}

const stmtElsewhere db.Stmt = `UPDATE instances SET node_id = 2 WHERE name = 'away'`
