package network_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/device"
	"sett/lxd/event"
	"sett/lxd/host/netlink"
	"sett/lxd/lock"
	"sett/lxd/network"
	"sett/lxd/network/driver"
	"sett/lxd/network/fake"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// host has two interfaces, and what the fake runs.
type host struct{ d *fake.Driver }

func (host) Interfaces(context.Context) ([]netlink.Interface, error) {
	return []netlink.Interface{{Name: "lo", Type: "loopback"}, {Name: "eth0", Type: "physical"}, {Name: "veth0", Type: "unknown"}, {Name: "n1", Type: "bridge"}}, nil
}

func (host) State(_ context.Context, name string) (netlink.State, error) {
	if name == "eth0" || name == "lo" {
		return netlink.State{Name: name, MTU: 1500, Type: "broadcast", Up: true}, nil
	}
	return netlink.State{}, errs.NotFound("Network interface %q not found", name)
}

type fixture struct {
	db      *db.DB
	svc     *network.Service
	driver  *fake.Driver
	server  http.Handler
	events  *event.Subscription
	restart func() *network.Service
}

func setup(t *testing.T) *fixture {
	t.Helper()
	d := dbtest.Open(t)
	bus := event.NewBus("")
	drv := fake.New("bridge")
	f := &fixture{db: d, driver: drv}
	dir := t.TempDir()
	f.restart = func() *network.Service {
		return network.New(network.Deps{DB: d, Bus: bus, Locks: lock.New(), Drivers: []driver.Driver{drv}, Host: host{drv},
			Log: slog.New(slog.DiscardHandler), Dir: dir, Seed: "seed"})
	}
	f.svc = f.restart()
	f.events = bus.Subscribe(event.Filter{})
	t.Cleanup(f.events.Close)
	f.server = rest.New(rest.Deps{
		Log:          slog.New(slog.DiscardHandler),
		Authenticate: func(*http.Request) (auth.Caller, error) { return auth.Caller{Protocol: "unix", Admin: true}, nil },
		Project:      project.New(d).Chain,
	}, f.svc.Routes())
	return f
}

func (f *fixture) do(t *testing.T, method, url, body string, hdr ...string) (int, string, http.Header) {
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

func (f *fixture) want(t *testing.T, code int, text string, method, url, body string, hdr ...string) {
	t.Helper()
	got, b, _ := f.do(t, method, url, body, hdr...)
	if got != code || !strings.Contains(b, text) {
		t.Errorf("%s %s %s: %d %s; want %d with %s", method, url, body, got, b, code, text)
	}
}

const n1 = `{"name":"n1","description":"d","config":{"ipv4.address":"10.1.2.1/24","ipv6.address":"none","user.x":"y"}}`

func TestLifeOfANetwork(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, `"metadata":null`, "POST", "/1.0/networks", n1)
	f.want(t, 200, `"metadata":{"config":{"ipv4.address":"10.1.2.1/24","ipv6.address":"none","user.x":"y"},"description":"d","name":"n1","type":"bridge","used_by":null,"managed":true,"status":"Created","locations":["none"]}}`,
		"GET", "/1.0/networks/n1", "")
	f.want(t, 200, `["/1.0/networks/n1","/1.0/networks/lo","/1.0/networks/eth0"]`, "GET", "/1.0/networks", "")
	f.want(t, 200, `{"config":{},"description":"","name":"eth0","type":"physical","used_by":null,"managed":false,"status":"","locations":null}]`, "GET", "/1.0/networks?recursion=1", "")
	f.want(t, 200, `"name":"veth0","type":"unknown"`, "GET", "/1.0/networks/veth0", "") // not listed, and there
	f.want(t, 200, `"addresses":[{"family":"inet","address":"10.1.2.1","netmask":"24","scope":"global"}]`, "GET", "/1.0/networks/n1/state", "")
	if s, _ := f.driver.Running("n1"); !s.New {
		t.Error("it was not started as a new one")
	}
	f.want(t, 200, `"mtu":1500,"state":"up"`, "GET", "/1.0/networks/eth0/state", "")
	f.want(t, 200, `[{"hostname":"n1.gw","hwaddr":"","address":"10.1.2.1","type":"gateway","location":""}]`, "GET", "/1.0/networks/n1/leases", "")

	_, _, h := f.do(t, "GET", "/1.0/networks/n1", "")
	f.want(t, 200, `"metadata":{}`, "PATCH", "/1.0/networks/n1", `{"config":{"ipv4.nat":"true"}}`, "If-Match", h.Get("ETag"))
	f.want(t, 412, "ETag", "PATCH", "/1.0/networks/n1", `{"config":{"ipv4.nat":"true"}}`, "If-Match", h.Get("ETag"))
	f.want(t, 200, `"ipv4.address":"10.1.2.1/24","ipv4.nat":"true"`, "GET", "/1.0/networks/n1", "")
	if s, _ := f.driver.Running("n1"); s.Config["ipv4.nat"] != "true" {
		t.Errorf("the driver runs %v", s.Config)
	}
	f.want(t, 200, "", "PUT", "/1.0/networks/n1", `{"config":{"ipv4.address":"auto","ipv6.address":"none","user.x":""}}`)
	_, b, _ := f.do(t, "GET", "/1.0/networks/n1", "")
	if strings.Contains(b, "auto") || strings.Contains(b, "user.x") || !strings.Contains(b, `"ipv4.address":"10.`) {
		t.Errorf("after the PUT: %s", b)
	}

	f.want(t, 200, "", "PUT", "/1.0/networks/n1", `{"config":{"ipv6.address":"none"}}`)
	if _, b, _ = f.do(t, "GET", "/1.0/networks/n1", ""); strings.Contains(b, "ipv4.address") {
		t.Errorf("what was taken out came back: %s", b)
	}

	f.want(t, 201, "", "POST", "/1.0/networks/n1", `{"name":"n2"}`)
	f.want(t, 404, "not found", "GET", "/1.0/networks/n3", "")
	f.want(t, 200, `"name":"n2"`, "GET", "/1.0/networks/n2", "")
	if _, ok := f.driver.Running("n1"); ok {
		t.Error("the old name still runs")
	}
	f.want(t, 200, `"metadata":{}`, "DELETE", "/1.0/networks/n2", "")
	f.want(t, 404, "Network not found", "DELETE", "/1.0/networks/n2", "")

	var actions []string
	for len(f.events.C()) > 0 {
		actions = append(actions, (<-f.events.C()).Metadata.(event.Lifecycle).Action)
	}
	if got := strings.Join(actions, " "); got != "network-created network-updated network-updated network-updated network-renamed network-deleted" {
		t.Errorf("events: %s", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	for _, c := range []struct {
		code                    int
		text, method, url, body string
	}{
		{409, "already exists", "POST", "", n1},
		{409, `interface \"eth0\" already exists`, "POST", "", `{"name":"eth0"}`},
		{400, "No name", "POST", "", `{}`},
		{400, "too short", "POST", "", `{"name":"a"}`},
		{400, "too long", "POST", "", `{"name":"a123456789012345"}`},
		{400, "invalid characters", "POST", "", `{"name":"a/b"}`},
		{400, "reserved", "POST", "", `{"name":"all"}`},
		{400, "Unknown driver", "POST", "", `{"name":"n2","type":"foo"}`},
		{501, "macvlan", "POST", "", `{"name":"n2","type":"macvlan"}`},
		{400, "ipv4.address", "POST", "", `{"name":"n2","config":{"ipv4.address":"x"}}`},
		{400, "nope", "POST", "", `{"name":"n2","config":{"nope":"x"}}`},
		{400, "JSON", "POST", "", `{bad`},
		{404, "Network not found", "PUT", "/nope", `{}`},
		{404, "Network not found", "PUT", "/eth0", `{}`},
		{400, "nope", "PUT", "/n1", `{"config":{"nope":"x"}}`},
		{404, "Network not found", "DELETE", "/eth0", ``},
		{404, "Network not found", "GET", "/nope/leases", ``},
		{404, "not found", "GET", "/nope/state", ``},
		{400, "not provided", "POST", "/n1", `{}`},
		{409, "already exists", "POST", "/n1", `{"name":"eth0"}`},
		{404, "not found", "POST", "/nope", `{"name":"n9"}`},
	} {
		f.want(t, c.code, c.text, c.method, "/1.0/networks"+c.url, c.body)
	}
	f.want(t, 200, `["/1.0/networks/n1","/1.0/networks/lo","/1.0/networks/eth0"]`, "GET", "/1.0/networks", "")
}

func TestUsersKeepANetwork(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	ex := func(q db.Stmt) { dbtest.Exec(t, f.db, q) }
	// The profile's nic uses the network; c1 takes it, c2 hides it with a device of its own.
	ex(`INSERT INTO profiles_devices (profile_id, name, type) VALUES (1, 'eth0', 'nic')`)
	ex(`INSERT INTO profiles_devices_config (profile_device_id, key, value) SELECT id, 'network', 'n1' FROM profiles_devices`)
	for _, n := range []db.Stmt{"c1", "c2"} {
		ex(`INSERT INTO instances (node_id, name, architecture, project_id) VALUES (1, '` + n + `', 'x86_64', 1)`)
		ex(`INSERT INTO instances_profiles (instance_id, profile_id, apply_order) SELECT id, 1, 0 FROM instances WHERE name = '` + n + `'`)
	}
	ex(`INSERT INTO instances_devices (instance_id, name, type) SELECT id, 'eth0', 'none' FROM instances WHERE name = 'c2'`)
	ex(`INSERT INTO instances_devices (instance_id, name, type) SELECT id, 'eth1', 'nic' FROM instances WHERE name = 'c2'`)
	ex(`INSERT INTO instances_devices_config (instance_device_id, key, value) SELECT id, 'parent', 'eth0' FROM instances_devices WHERE name = 'eth1'`)
	ex(`INSERT INTO instances_devices_config (instance_device_id, key, value) SELECT id, 'nictype', 'bridged' FROM instances_devices WHERE name = 'eth1'`)
	f.want(t, 200, `"used_by":["/1.0/profiles/default","/1.0/instances/c1"]`, "GET", "/1.0/networks/n1", "")
	f.want(t, 200, `"used_by":["/1.0/instances/c2"]`, "GET", "/1.0/networks/eth0", "")
	f.want(t, 400, "The network is currently in use", "DELETE", "/1.0/networks/n1", "")
	f.want(t, 400, "Network is currently in use", "POST", "/1.0/networks/n1", `{"name":"n2"}`)
}

func TestWhatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	bad := errors.New("no such luck")
	for _, step := range []string{"Fill", "Start"} {
		f.driver.Fail(step, bad)
		f.want(t, 500, "no such luck", "POST", "/1.0/networks", n1)
		f.driver.Fail(step, nil)
		f.want(t, 200, `["/1.0/networks/lo","/1.0/networks/eth0","/1.0/networks/n1"]`, "GET", "/1.0/networks", "")
		if _, err := f.svc.Load(t.Context(), "default", "n1"); !errs.Is(err, errs.KindNotFound) {
			t.Errorf("%s left a row: %v", step, err)
		}
	}
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	f.driver.Fail("Update", bad)
	f.want(t, 500, "no such luck", "PATCH", "/1.0/networks/n1", `{"description":"new","config":{"ipv4.nat":"true"}}`)
	f.want(t, 200, `"description":"d"`, "GET", "/1.0/networks/n1", "")
	f.want(t, 200, "", "PATCH", "/1.0/networks/n1", `{"config":{"user.x":"z"}}`) // needs no driver
	f.driver.Fail("Start", bad)
	f.want(t, 500, "no such luck", "POST", "/1.0/networks/n1", `{"name":"n2"}`)
	f.driver.Fail("Start", nil)
	f.want(t, 200, `"name":"n1"`, "GET", "/1.0/networks/n1", "")
	f.driver.Fail("Delete", bad)
	f.want(t, 500, "no such luck", "DELETE", "/1.0/networks/n1", "")
	f.want(t, 200, `"name":"n1"`, "GET", "/1.0/networks/n1", "")
}

// TestWhatCannotBeStoredIsTakenBack has the database refuse the last step of each change.
func TestWhatCannotBeStoredIsTakenBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	refuse := func(on db.Stmt, do func()) {
		dbtest.Exec(t, f.db, `CREATE TRIGGER refuse BEFORE `+on+` BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`)
		do()
		dbtest.Exec(t, f.db, `DROP TRIGGER refuse`)
	}
	for _, on := range []db.Stmt{"INSERT ON networks", "INSERT ON networks_config", "UPDATE ON networks_nodes", "UPDATE ON networks"} {
		refuse(on, func() { f.want(t, 500, "", "POST", "/1.0/networks", n1) })
		if _, err := f.svc.Load(t.Context(), "default", "n1"); !errs.Is(err, errs.KindNotFound) {
			t.Errorf("%s: a row stayed: %v", on, err)
		}
		if _, ok := f.driver.Running("n1"); ok {
			t.Errorf("%s: it runs", on)
		}
	}
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	asBefore := func(what db.Stmt) {
		t.Helper()
		f.want(t, 200, `{"config":{"ipv4.address":"10.1.2.1/24","ipv6.address":"none","user.x":"y"},"description":"d","name":"n1"`, "GET", "/1.0/networks/n1", "")
		if s, ok := f.driver.Running("n1"); !ok || len(s.Config) != 3 || s.Config["ipv4.address"] != "10.1.2.1/24" {
			t.Errorf("%s: %v runs", what, s.Config)
		}
		if s, ok := f.driver.Running("n2"); ok {
			t.Errorf("%s: %v runs", what, s)
		}
	}
	for _, on := range []db.Stmt{"UPDATE ON networks", "DELETE ON networks_config", "INSERT ON networks_config"} {
		refuse(on, func() {
			f.want(t, 500, "", "PUT", "/1.0/networks/n1", `{"description":"e","config":{"ipv4.address":"10.1.3.1/24","ipv4.nat":"true"}}`)
		})
		asBefore(on)
	}
	refuse("UPDATE OF name ON networks", func() { f.want(t, 500, "", "POST", "/1.0/networks/n1", `{"name":"n2"}`) })
	asBefore("a new name")
	refuse("DELETE ON networks", func() { f.want(t, 500, "", "DELETE", "/1.0/networks/n1", "") })
	asBefore("a delete")
	f.driver.Fail("Start", errors.New("no"))
	refuse("DELETE ON networks", func() { f.want(t, 500, "", "DELETE", "/1.0/networks/n1", "") })
	f.want(t, 200, `"status":"Unavailable"`, "GET", "/1.0/networks/n1", "") // known, and to be deleted once more
	f.want(t, 200, "", "DELETE", "/1.0/networks/n1", "")
}

// late has something happen while a network is taken off the host.
type late struct {
	*fake.Driver
	meanwhile func()
}

func (d late) Delete(ctx context.Context, s driver.Spec) error {
	d.meanwhile()
	return d.Driver.Delete(ctx, s)
}

func TestUserThatComesDuringTheDeleteKeepsTheNetwork(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	s := network.New(network.Deps{DB: f.db, Bus: event.NewBus(""), Locks: lock.New(), Host: host{f.driver}, Log: slog.New(slog.DiscardHandler), Dir: t.TempDir(), Seed: "seed",
		Drivers: []driver.Driver{late{f.driver, func() {
			dbtest.Exec(t, f.db, `INSERT INTO profiles_devices (profile_id, name, type) VALUES (1, 'eth0', 'nic')`)
			dbtest.Exec(t, f.db, `INSERT INTO profiles_devices_config (profile_device_id, key, value) SELECT id, 'network', 'n1' FROM profiles_devices`)
		}}}})
	if err := s.Delete(t.Context(), "default", "n1", nil); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
	if n, err := s.Load(t.Context(), "default", "n1"); err != nil || s.Status(n) != "Created" {
		t.Errorf("%+v, %v", n, err)
	}
	if _, ok := f.driver.Running("n1"); !ok {
		t.Error("it does not run")
	}
}

func TestDaemonStartsWhatIsWholeAndRemovesTheRest(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	dbtest.Exec(t, f.db, `INSERT INTO networks (project_id, name, type, state) VALUES (1, 'half', 'bridge', 0)`)
	dbtest.Exec(t, f.db, `INSERT INTO networks (project_id, name, type, state) VALUES (1, 'bad', 'gone', 1)`)
	s := f.restart()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Start(ctx); close(done) }()
	select {
	case <-s.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("never ready")
	}
	if s, ok := f.driver.Running("n1"); !ok || s.New {
		t.Errorf("n1 runs %v, as a new one %v", ok, s.New)
	}
	if _, err := s.Load(ctx, "default", "half"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("half: %v", err)
	}
	cancel()
	<-done
}

func TestStatusTellsWhatDoesNotRun(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	f.driver.Fail("Start", errors.New("no"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.svc.Start(ctx); close(done) }()
	<-f.svc.Ready()
	f.want(t, 200, `"status":"Unavailable"`, "GET", "/1.0/networks/n1", "")
	f.want(t, 200, "", "PATCH", "/1.0/networks/n1", `{"config":{"user.x":"z"}}`) // starts nothing
	f.want(t, 200, `"status":"Unavailable"`, "GET", "/1.0/networks/n1", "")
	f.want(t, 200, "", "PATCH", "/1.0/networks/n1", `{"config":{"ipv4.nat":"true"}}`)
	f.want(t, 200, `"status":"Created"`, "GET", "/1.0/networks/n1", "")
	cancel()
	<-done
}

// as answers to somebody who has some projects only.
func (f *fixture) as(projects ...string) *fixture {
	r := *f
	r.server = rest.New(rest.Deps{
		Log:          slog.New(slog.DiscardHandler),
		Authenticate: func(*http.Request) (auth.Caller, error) { return auth.Caller{Protocol: "tls", Projects: projects}, nil },
		Project:      project.New(f.db).Chain,
	}, f.svc.Routes())
	return &r
}

func TestNeighboursStayUnknown(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	ex := func(q db.Stmt) { dbtest.Exec(t, f.db, q) }
	ex(`INSERT INTO projects (name, description) VALUES ('p1', ''), ('p2', '')`)
	// c1 is in p1, c2 in p2; each has an address that its own device says, one that its
	// profile says and one that was picked, and an interface on eth0.
	for _, n := range []string{"1", "2"} {
		q := func(s string) { ex(db.Stmt(strings.ReplaceAll(s, "#", n))) }
		q(`INSERT INTO instances (node_id, name, architecture, project_id) SELECT 1, 'c#', 'x86_64', id FROM projects WHERE name = 'p#'`)
		q(`INSERT INTO instances_config (instance_id, key, value) VALUES (#, 'volatile.eth0.hwaddr', '00:16:3e:00:0#:01')`)
		q(`INSERT INTO instances_devices (id, instance_id, name, type) VALUES (#, #, 'eth1', 'nic')`)
		q(`INSERT INTO instances_devices_config (instance_device_id, key, value) VALUES (#, 'hwaddr', '00:16:3E:00:0#:02'), (#, 'parent', 'eth0'), (#, 'nictype', 'bridged')`)
		q(`INSERT INTO profiles (id, project_id, name) SELECT 1#, id, 'own' FROM projects WHERE name = 'p#'`)
		q(`INSERT INTO profiles_devices (id, profile_id, name, type) VALUES (#, 1#, 'eth2', 'nic')`)
		q(`INSERT INTO profiles_devices_config (profile_device_id, key, value) VALUES (#, 'hwaddr', '00:16:3e:00:0#:03')`)
		q(`INSERT INTO instances_profiles (instance_id, profile_id, apply_order) VALUES (#, 1#, 0)`)
		for k, d := range []string{"eth0", "eth1", "eth2"} {
			l := device.Lease{Project: "p" + n, Instance: "c" + n + d, Device: d, HWAddr: "00:16:3e:00:0" + n + ":0" + strconv.Itoa(k+1), IPv4: "10.1.2." + n + strconv.Itoa(k+1)}
			if _, err := f.svc.Devices().SetLease(t.Context(), "n1", l); err != nil {
				t.Fatal(err)
			}
		}
	}
	stray := device.Lease{Project: "p1", Instance: "gone", Device: "eth0", HWAddr: "00:16:3e:00:09:01", IPv4: "10.1.2.91"}
	if _, err := f.svc.Devices().SetLease(t.Context(), "n1", stray); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f             *fixture
		project, want string
	}{
		{f, "p1", "10.1.2.11 10.1.2.12 10.1.2.13"}, {f.as("p1"), "p1", "10.1.2.11 10.1.2.12 10.1.2.13"},
		{f, "p2", "10.1.2.21 10.1.2.22 10.1.2.23"}, {f, "default", "10.1.2.1"}, {f.as("default"), "default", "10.1.2.1"},
	} {
		var reply struct{ Metadata []api.NetworkLease }
		_, b, _ := c.f.do(t, "GET", "/1.0/networks/n1/leases?project="+c.project, "")
		if err := json.Unmarshal([]byte(b), &reply); err != nil {
			t.Fatal(err, b)
		}
		var got []string
		for _, l := range reply.Metadata {
			got = append(got, l.Address)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("in %s: %v, want %s", c.project, got, c.want)
		}
	}
	f.want(t, 200, `"used_by":["/1.0/instances/c1?project=p1","/1.0/instances/c2?project=p2"]`, "GET", "/1.0/networks/eth0", "")
	f.as("default", "p1").want(t, 200, `"used_by":["/1.0/instances/c1?project=p1"]`, "GET", "/1.0/networks/eth0", "")
}

func TestMemberKeysAreStoredWithTheMember(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	dbtest.Exec(t, f.db, `INSERT INTO networks_config (network_id, node_id, key, value) VALUES (1, 1, 'bridge.mtu', '1400')`)
	n, err := f.svc.Load(t.Context(), "default", "n1")
	if err != nil || n.Config["bridge.mtu"] != "1400" {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestDevicesGetLeases(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(t, 201, "", "POST", "/1.0/networks", n1)
	v := f.svc.Devices()
	n, err := v.Network(ctx, "default", "n1")
	if err != nil || n.Type != "bridge" || n.Status != "Created" || n.Config["ipv4.address"] != "10.1.2.1/24" {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := v.Network(ctx, "default", "eth0"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("eth0: %v", err)
	}
	l := device.Lease{Project: "default", Instance: "c1", Device: "eth0", HWAddr: "00:16:3e:01:02:03", IPv4: "10.1.2.9"}
	if _, err := v.SetLease(ctx, "n1", l); err != nil {
		t.Fatal(err)
	}
	other := device.Lease{Project: "default", Instance: "c2", Device: "eth0", HWAddr: "00:16:3e:01:02:04", IPv4: "10.1.2.9"}
	if _, err := v.SetLease(ctx, "n1", other); !errs.Is(err, errs.KindConflict) {
		t.Errorf("taken: %v", err)
	}
	dbtest.Exec(t, f.db, `INSERT INTO instances (node_id, name, architecture, project_id) VALUES (1, 'c1', 'x86_64', 1)`)
	dbtest.Exec(t, f.db, `INSERT INTO instances_config (instance_id, key, value) VALUES (1, 'volatile.eth0.hwaddr', '00:16:3e:01:02:03')`)
	_, b, _ := f.do(t, "GET", "/1.0/networks/n1/leases", "")
	var reply struct{ Metadata []map[string]string }
	if err := json.Unmarshal([]byte(b), &reply); err != nil || len(reply.Metadata) != 2 || reply.Metadata[1]["location"] != "none" || reply.Metadata[1]["type"] != "static" {
		t.Errorf("%s %v", b, err)
	}
	if err := v.RemoveLease(ctx, "n1", l); err != nil {
		t.Error(err)
	}
	if err := v.RemoveLease(ctx, "gone", l); err != nil {
		t.Errorf("of a network that is gone: %v", err)
	}
}
