package network_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"sett/lxd/auth"
	"sett/lxd/cluster/clustertest"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/event"
	"sett/lxd/lock"
	"sett/lxd/network"
	"sett/lxd/network/driver"
	"sett/lxd/network/fake"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/shared/api"
)

// node is one member with networks of its own.
type node struct {
	*clustertest.Member
	svc *network.Service
	t   *testing.T
	drv *fake.Driver
	dir string
}

func nodes(t *testing.T, n int) (*db.DB, []*node) {
	t.Helper()
	d := dbtest.Open(t)
	var out []*node
	for _, m := range clustertest.New(t, d, n) {
		x := &node{Member: m, t: t, drv: fake.New("bridge"), dir: t.TempDir()}
		x.start(d)
		out = append(out, x)
	}
	return d, out
}

func (x *node) start(d *db.DB) {
	x.t.Helper()
	x.svc = network.New(network.Deps{DB: d, Bus: event.NewBus(""), Locks: lock.New(), Drivers: []driver.Driver{x.drv}, Host: host{x.drv},
		Log: slog.New(slog.DiscardHandler), Dir: x.dir, Seed: "seed", Here: x.Here, Relay: x.Relay})
	x.Serve(x.t, rest.New(rest.Deps{
		Log:          slog.New(slog.DiscardHandler),
		Authenticate: clustertest.Caller(auth.Caller{Protocol: "unix", Admin: true}),
		Project:      project.New(d).Chain,
	}, x.svc.Routes()))
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

func (x *node) config(name string) map[string]string {
	s, _ := x.drv.Running(name)
	return s.Config
}

const nets, one = "/1.0/networks", "/1.0/networks/n1"

func define(ns []*node) {
	for _, n := range ns {
		ns[0].want(201, "", "POST", nets+"?target="+n.Here.Name(), `{"name":"n1"}`)
	}
}

func TestANetworkIsToldOfEverywhereAndThenMade(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 3)
	a := ns[0]
	a.want(400, "not pending on any node", "POST", nets, `{"name":"n1"}`)
	a.want(400, `\"ipv4.address\" may not be used as member-specific key`, "POST", nets+"?target=m1", `{"name":"n1","config":{"ipv4.address":"none"}}`)
	define(ns[:2])
	a.want(409, `already defined on member \"m2\"`, "POST", nets+"?target=m2", `{"name":"n1"}`)
	a.want(400, "not defined on nodes: m3", "POST", nets, `{"name":"n1"}`)
	a.want(201, "", "POST", nets+"?target=m3", `{"name":"n1","config":{"bridge.external_interfaces":"eth9"}}`)
	a.want(200, `"status":"Pending","locations":["m1","m2","m3"]`, "GET", one, "")
	a.want(400, `\"bridge.external_interfaces\" is cluster member specific`, "POST", nets, `{"name":"n1","config":{"bridge.external_interfaces":"x"}}`)
	a.want(201, "", "POST", nets, `{"name":"n1","config":{"ipv6.address":"none"}}`)
	a.want(409, "already created", "POST", nets, `{"name":"n1"}`)
	subnet := a.config("n1")["ipv4.address"]
	for _, n := range ns {
		if c := n.config("n1"); subnet == "" || c["ipv4.address"] != subnet {
			t.Errorf("%s runs with %v", n.Here.Name(), c)
		}
	}
	if c := ns[2].config("n1"); c["bridge.external_interfaces"] != "eth9" {
		t.Errorf("m3 runs with %v", c)
	}
	ns[2].want(200, `"config":{"ipv4.address":"`+subnet+`"`, "GET", one, "") // without its own keys
	ns[2].want(200, `"bridge.external_interfaces":"eth9"`, "GET", one+"?target=m3", "")
	a.want(400, `is cluster member specific`, "PATCH", one, `{"config":{"bridge.external_interfaces":"x"}}`)
	ns[1].want(200, "", "PATCH", one+"?target=m2", `{"config":{"bridge.external_interfaces":"eth8"}}`)
	if ns[1].config("n1")["bridge.external_interfaces"] != "eth8" || ns[0].config("n1")["bridge.external_interfaces"] != "" {
		t.Error("a member's own key went elsewhere, or nowhere")
	}
	a.want(200, "", "PATCH", one, `{"config":{"ipv4.nat":"true"}}`)
	for i, n := range ns {
		if c := n.config("n1"); c["ipv4.nat"] != "true" || i > 0 && c["bridge.external_interfaces"] == "" {
			t.Errorf("%s runs with %v", n.Here.Name(), c)
		}
	}
	a.Cluster.SetThreshold(1) // the others have not been heard of for so long
	a.want(503, "m2, m3 are offline", "PATCH", one, `{"config":{"ipv4.nat":"false"}}`)
	a.want(200, "", "PATCH", one+"?target=m1", `{"config":{"bridge.external_interfaces":"eth7"}}`)
	a.want(200, "", "PATCH", one, `{"config":{"user.x":"y"}}`)
	if c := a.config("n1"); c["bridge.external_interfaces"] != "eth7" || c["ipv4.nat"] != "true" {
		t.Errorf("m1 runs with %v", c)
	}
	a.Cluster.SetThreshold(time.Hour)
	a.want(200, `"location":""}]`, "GET", one+"/leases", "") // the gateway, once
	a.want(400, "cannot be renamed", "POST", one, `{"name":"n2"}`)
	ns[1].want(200, "", "DELETE", one, "")
	for _, n := range ns {
		if _, ok := n.drv.Running("n1"); ok {
			t.Errorf("%s still runs it", n.Here.Name())
		}
		n.want(404, "", "GET", "/1.0/networks/n1/leases", "")
	}
}

func TestAMemberThatFailsLeavesTheNetworkInError(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 3)
	define(ns)
	ns[2].drv.Fail("Start", errors.New("no such device"))
	ns[0].want(500, "m3: ", "POST", nets, `{"name":"n1"}`)
	ns[1].want(200, `"status":"Errored"`, "GET", one, "")
	subnet := ns[0].config("n1")["ipv4.address"]
	ns[2].drv.Fail("Start", nil)
	ns[1].want(201, "", "POST", nets, `{"name":"n1"}`)
	ns[1].want(200, `"status":"Created"`, "GET", one, "")
	for _, n := range ns {
		if n.config("n1")["ipv4.address"] != subnet {
			t.Errorf("%s runs with %v, not %s", n.Here.Name(), n.config("n1"), subnet)
		}
	}
	ns[2].Down.Store(true)
	ns[0].want(503, "m3", "DELETE", one, "")
	ns[0].want(200, `"status":"Errored"`, "GET", one, "")
	ns[2].Down.Store(false)
	ns[0].want(200, "", "DELETE", one, "")
	define(ns)
	ns[0].Cluster.SetThreshold(1)
	ns[0].want(503, "m2, m3", "POST", nets, `{"name":"n1"}`)
	ns[0].want(200, `"status":"Pending"`, "GET", one, "")
}

func TestAKilledMemberTakesAwayWhatWasHalfMade(t *testing.T) {
	t.Parallel()
	d, ns := nodes(t, 2)
	define(ns)
	ns[0].want(201, "", "POST", nets, `{"name":"n1"}`)
	dbtest.Exec(t, d, `UPDATE networks SET state = 2`)
	dbtest.Exec(t, d, `UPDATE networks_nodes SET state = 3 WHERE node_id = 2`)
	ns[1].start(d)
	ns[1].svc.Start(t.Context())
	if _, ok := ns[1].drv.Running("n1"); ok {
		t.Error("what was half-made runs")
	}
	ns[1].want(201, "", "POST", nets, `{"name":"n1"}`)
	if _, ok := ns[1].drv.Running("n1"); !ok {
		t.Error("it was not made again")
	}
}

func TestAJoinerMakesItsPartOfEachNetwork(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 2)
	ctx := context.Background()
	if err := ns[0].svc.Create(ctx, network.Network{Project: "default", Name: "n1", Config: map[string]string{"bridge.external_interfaces": "eth9"}}, nil); err != nil {
		t.Fatal(err)
	}
	keys, err := ns[0].svc.JoinConfig(ctx)
	if err != nil || len(keys) != 1 || keys[0].Entity != "network" || keys[0].Key != "bridge.external_interfaces" {
		t.Fatalf("got %+v %v", keys, err)
	}
	if err := ns[1].svc.CreateHere(ctx, []api.ClusterMemberConfigKey{{Entity: "network", Name: "n1", Key: "bridge.external_interfaces", Value: "eth7"}}); err != nil {
		t.Fatal(err)
	}
	if c := ns[1].config("n1"); c["bridge.external_interfaces"] != "eth7" || c["ipv4.address"] != ns[0].config("n1")["ipv4.address"] {
		t.Errorf("m2 runs with %v", c)
	}
	ns[0].want(200, `"locations":["m1","m2"]`, "GET", one, "")
	if err := ns[1].svc.DeleteHere(ctx); err != nil {
		t.Fatal(err)
	}
	if _, ok := ns[1].drv.Running("n1"); ok {
		t.Error("it still runs")
	}
	ns[0].want(200, `"locations":["m1"]`, "GET", one, "")
}
