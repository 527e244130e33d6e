package storage_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/cluster/clustertest"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/event"
	"sett/lxd/lock"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/lxd/storage"
	"sett/lxd/storage/driver"
	"sett/lxd/storage/fake"
	"sett/shared/api"
	"sett/shared/errs"
)

// node is one member with storage of its own.
type node struct {
	*storage.Service
	*clustertest.Member
	t    *testing.T
	dir  string
	kind *fake.Kind
}

func nodes(t *testing.T, n int) (*db.DB, []*node) {
	t.Helper()
	d := dbtest.Open(t)
	var out []*node
	for _, m := range clustertest.New(t, d, n) {
		x := &node{Member: m, t: t, dir: t.TempDir(), kind: &fake.Kind{}}
		for _, d := range []string{"storage-pools", "disks"} {
			if err := os.Mkdir(filepath.Join(x.dir, d), 0o711); err != nil {
				t.Fatal(err)
			}
		}
		x.start(d)
		out = append(out, x)
	}
	return d, out
}

func (x *node) start(d *db.DB) {
	x.t.Helper()
	x.Service = storage.New(storage.Deps{DB: d, Bus: event.NewBus(""), Locks: lock.New(), Drivers: driver.NewRegistry(x.kind),
		Log: slog.New(slog.DiscardHandler), Dir: x.dir, Here: x.Member.Here, Relay: x.Member.Relay})
	ctx := context.WithoutCancel(x.t.Context())
	if err := x.Start(ctx); err != nil {
		x.t.Fatal(err)
	}
	s := x.Service
	x.t.Cleanup(func() {
		if err := s.Close(ctx); err != nil {
			x.t.Error(err)
		}
	})
	x.Serve(x.t, rest.New(rest.Deps{
		Log:          slog.New(slog.DiscardHandler),
		Authenticate: clustertest.Caller(auth.Caller{Protocol: "unix", Admin: true}),
		Project:      project.New(d).Chain,
	}, x.Routes()))
}

func (x *node) want(code int, text, method, path, body string) {
	x.t.Helper()
	req, err := http.NewRequestWithContext(x.t.Context(), method, x.URL()+path, strings.NewReader(body))
	if err != nil {
		x.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != code || !strings.Contains(string(b), text) {
		x.t.Errorf("%s %s: %d %s; want %d with %s", method, path, resp.StatusCode, b, code, text)
	}
}

func (x *node) has(pool string) bool {
	_, err := os.Stat(filepath.Join(x.dir, "storage-pools", pool))
	return err == nil
}

const pools, p1 = "/1.0/storage-pools", "/1.0/storage-pools/p"

// define tells all members of the pool p.
func define(ns []*node) {
	for _, n := range ns {
		ns[0].want(201, "", "POST", pools+"?target="+n.Here.Name(), `{"name":"p","driver":"fake"}`)
	}
}

func TestAPoolIsToldOfEverywhereAndThenMade(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 3)
	a := ns[0]
	a.want(400, "not pending on any node", "POST", pools, `{"name":"p","driver":"fake"}`)
	a.want(404, "m9", "POST", pools+"?target=m9", `{"name":"p","driver":"fake"}`)
	a.want(400, `\"user.x\" may not be used as member-specific key`, "POST", pools+"?target=m1", `{"name":"p","driver":"fake","config":{"user.x":"y"}}`)
	define(ns[:2])
	a.want(409, `already defined on member \"m2\"`, "POST", pools+"?target=m2", `{"name":"p","driver":"fake"}`)
	a.want(400, "not defined on nodes: m3", "POST", pools, `{"name":"p","driver":"fake"}`)
	a.want(200, `"status":"Pending","locations":["m1","m2"]`, "GET", p1, "")
	ns[2].want(201, "", "POST", pools+"?target=m3", `{"name":"p","driver":"fake","config":{"source":"/somewhere"}}`)
	a.want(400, `\"source\" is cluster member specific`, "POST", pools, `{"name":"p","driver":"fake","config":{"source":"/x"}}`)
	if a.has("p") {
		t.Error("a pool that is only told of was made")
	}
	ns[1].want(201, "", "POST", pools, `{"name":"p","driver":"fake","description":"d","config":{"user.x":"y"}}`)
	ns[1].want(409, "already created", "POST", pools, `{"name":"p","driver":"fake"}`)
	for _, n := range ns {
		if !n.has("p") {
			t.Errorf("%s has no pool", n.Here.Name())
		}
		// Each sees what all share, and its own when it is named.
		n.want(200, `{"config":{"user.x":"y"},"description":"d","name":"p","driver":"fake","used_by":null,"status":"Created","locations":["m1","m2","m3"]}`, "GET", p1, "")
		n.want(200, filepath.Join(n.dir, "storage-pools/p"), "GET", p1+"?target="+n.Here.Name(), "")
	}
	a.want(400, `\"source\" is cluster member specific`, "PATCH", p1, `{"config":{"source":"/x"}}`)
	a.want(400, `\"user.x\" may not be used as member-specific`, "PATCH", p1+"?target=m1", `{"config":{"user.x":"z"}}`)
	a.want(200, "", "PUT", p1, `{"config":{"user.x":"z"},"description":"e"}`)
	a.want(200, `"description":"e"`, "GET", p1, "")
	ns[2].want(200, `"user.x":"z"`, "GET", p1+"?target=m3", "")
	a.want(200, `{"space"`, "GET", p1+"/resources", "")
	ns[1].want(200, "", "DELETE", p1, "")
	for _, n := range ns {
		if n.has("p") {
			t.Errorf("%s still has the pool", n.Here.Name())
		}
		n.want(404, "", "GET", p1, "")
	}
}

func TestAMemberThatFailsLeavesThePoolInError(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 3)
	define(ns)
	bad := errors.New("no room")
	ns[2].kind.Break(func(step, _ string) error {
		if step == "createpool" {
			return bad
		}
		return nil
	})
	ns[0].want(500, "m3: no room", "POST", pools, `{"name":"p","driver":"fake"}`)
	ns[1].want(200, `"status":"Errored"`, "GET", p1, "")
	ns[2].want(200, `"status":"Pending"`, "GET", p1+"?target=m3", "")
	ns[0].want(200, `"status":"Created"`, "GET", p1+"?target=m1", "")
	if ns[2].has("p") {
		t.Error("something is left where it failed")
	}
	// Nothing goes into it as long as it is not whole.
	if err := ns[0].CreateVolume(t.Context(), vol("a"), 0, nil); errs.Status(err) != 503 {
		t.Errorf("got %v", err)
	}
	ns[2].kind.Break(nil)
	ns[1].want(201, "", "POST", pools, `{"name":"p","driver":"fake"}`)
	ns[1].want(200, `"status":"Created"`, "GET", p1, "")
}

func TestWhereItBeganCanFailToo(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 2)
	define(ns)
	ns[0].kind.Break(func(step, _ string) error {
		if step == "createpool" {
			return errors.New("no room")
		}
		return nil
	})
	ns[0].want(500, "no room", "POST", pools, `{"name":"p","driver":"fake"}`)
	ns[0].want(200, `"status":"Errored"`, "GET", p1, "")
	if ns[1].has("p") {
		t.Error("the others were told although it failed at home")
	}
	ns[1].want(200, "", "DELETE", p1, "") // what never was goes without ado
	ns[1].want(404, "", "GET", p1, "")
}

func TestMembersThatAreDownAreNamed(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 3)
	define(ns)
	ns[2].Down.Store(true)
	ns[0].want(503, "m3", "POST", pools, `{"name":"p","driver":"fake"}`)
	ns[0].want(200, `"status":"Errored"`, "GET", p1, "")
	ns[2].Down.Store(false)
	ns[0].want(201, "", "POST", pools, `{"name":"p","driver":"fake"}`)
	ns[2].Down.Store(true)
	ns[0].want(503, "m3", "DELETE", p1, "")
	ns[0].want(200, `"status":"Errored","locations":["m1","m3"]`, "GET", p1, "") // m2's part is gone
	ns[2].Down.Store(false)
	ns[1].want(200, "", "DELETE", p1, "")
	for _, n := range ns {
		if n.has("p") {
			t.Errorf("%s still has the pool", n.Here.Name())
		}
	}
	define(ns)
	// Known to be offline: nothing is begun.
	ns[0].Cluster.SetThreshold(1)
	ns[0].want(503, "m2, m3", "POST", pools, `{"name":"p","driver":"fake"}`)
	ns[0].want(200, `"status":"Pending"`, "GET", p1, "")
}

func TestAKilledMemberCleansUpAndTriesAgain(t *testing.T) {
	t.Parallel()
	d, ns := nodes(t, 2)
	define(ns)
	ns[0].want(201, "", "POST", pools, `{"name":"p","driver":"fake"}`)
	// As if m2 had died in the middle of its part.
	dbtest.Exec(t, d, `UPDATE storage_pools SET state = 2`)
	dbtest.Exec(t, d, `UPDATE storage_pools_nodes SET state = 3 WHERE node_id = 2`)
	ns[1].start(d)
	if err := ns[1].Close(t.Context()); err != nil { // waits for the cleaning
		t.Fatal(err)
	}
	if ns[1].has("p") {
		t.Error("what was half-made is left")
	}
	ns[0].want(201, "", "POST", pools, `{"name":"p","driver":"fake"}`)
	if !ns[1].has("p") {
		t.Error("it was not made again")
	}
}

func TestVolumesOfOneNameOnTwoMembers(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 2)
	define(ns)
	ns[0].want(201, "", "POST", pools, `{"name":"p","driver":"fake"}`)
	img := storage.Volume{Pool: "p", Type: driver.Image, Name: strings.Repeat("a", 64)}
	for _, n := range ns {
		if err := n.CreateVolume(t.Context(), img, 0, func(context.Context, string) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	ns[0].want(200, `"location":"m1"`, "GET", p1+"/volumes/image?recursion=1", "")
	ns[0].want(200, `"location":"m2"`, "GET", p1+"/volumes/image?recursion=1", "")
	ns[0].want(200, `?target=m2"`, "GET", p1+"/volumes", "")
	ns[1].want(200, `"location":"m2"`, "GET", p1+"/volumes/image/"+img.Name, "")
	if err := ns[0].DeleteVolume(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	if ok, err := ns[1].Exists(t.Context(), img); !ok || err != nil {
		t.Errorf("the other member's volume went too: %v", err)
	}
	ns[1].want(200, `"location":"m2"`, "GET", p1+"/volumes/image/"+img.Name, "")
}

func TestAJoinerMakesItsPartOfEachPool(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 2)
	// m1 was alone when its pool was made.
	if err := ns[0].CreatePool(t.Context(), storage.Pool{Name: "p", Driver: "fake", Config: map[string]string{"user.x": "y"}}, nil); err != nil {
		t.Fatal(err)
	}
	keys, err := ns[0].JoinConfig(t.Context())
	if err != nil || len(keys) != 1 || keys[0].Entity != "storage-pool" || keys[0].Name != "p" || keys[0].Key != "source" {
		t.Fatalf("got %+v %v", keys, err)
	}
	if err := ns[1].CreateHere(t.Context(), []api.ClusterMemberConfigKey{{Entity: "storage-pool", Name: "p", Key: "user.x", Value: "z"}}); errs.Status(err) != 400 {
		t.Errorf("got %v", err)
	}
	if err := ns[1].CreateHere(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if !ns[1].has("p") {
		t.Error("nothing was made")
	}
	ns[0].want(200, `"status":"Created","locations":["m1","m2"]`, "GET", p1, "")
	if err := ns[1].DeleteHere(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ns[1].has("p") {
		t.Error("it is still there")
	}
	ns[0].want(200, `"status":"Created","locations":["m1"]`, "GET", p1, "")
	// The rest of the cluster is not asked.
	ns[0].want(200, filepath.Join(ns[0].dir, "storage-pools/p"), "GET", p1+"?target=m1", "")
	// Of two pools the second fails: the first is taken back.
	if err := ns[0].CreatePool(t.Context(), storage.Pool{Name: "q", Driver: "fake"}, nil); err != nil {
		t.Fatal(err)
	}
	ns[1].kind.Break(func(step, path string) error {
		if step == "createpool" && strings.HasSuffix(path, "/q") {
			return errors.New("no room")
		}
		return nil
	})
	if err := ns[1].CreateHere(t.Context(), nil); err == nil || ns[1].has("p") || ns[1].has("q") {
		t.Errorf("got %v, p %v, q %v", err, ns[1].has("p"), ns[1].has("q"))
	}
}
