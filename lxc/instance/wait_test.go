package instance

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"sett/client"
	"sett/client/clienttest"
	"sett/lxc/cli"
	"sett/shared/api"
)

// waiting is a server whose instance c1 goes from one state to the next each time that
// it is looked at, and stays in the last one.
func waiting(t *testing.T, states ...api.InstanceState) (*clienttest.Server, cli.Resource) {
	t.Helper()
	s := clienttest.New(t)
	var n atomic.Int64
	s.Handle("GET /1.0/instances/c1/state", func(w http.ResponseWriter, _ *http.Request) {
		b, err := json.Marshal(states[min(int(n.Add(1))-1, len(states)-1)])
		if err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(api.Response{Type: api.SyncResponse, Status: "Success", StatusCode: 200, Metadata: b})
	})
	c, err := client.ConnectLXDUnix(s.Socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Disconnect)
	return s, cli.Resource{Server: c, Name: "c1"}
}

func state(code api.StatusCode, addresses ...string) api.InstanceState {
	n := api.InstanceStateNetwork{}
	for _, a := range addresses {
		scope := "global"
		if strings.HasPrefix(a, "fe80") {
			scope = "link"
		}
		n.Addresses = append(n.Addresses, api.InstanceStateNetworkAddress{Address: a, Scope: scope})
	}
	return api.InstanceState{Status: code.String(), StatusCode: code, Network: map[string]api.InstanceStateNetwork{"eth0": n,
		"lo": {Addresses: []api.InstanceStateNetworkAddress{{Address: "10.9.9.9", Scope: "global"}}}}}
}

func TestWait(t *testing.T) {
	t.Parallel()
	running := state(api.Running)
	sys := map[string]clienttest.Command{"cat": {Stdout: "systemd\n"}}
	says := func(word string) map[string]clienttest.Command {
		return map[string]clienttest.Command{"cat": sys["cat"], "systemctl": {Stdout: word + "\n", Code: 1}}
	}
	for name, c := range map[string]struct {
		until  string
		states []api.InstanceState
		exec   map[string]clienttest.Command
		fails  string
	}{
		"nothing":            {until: "", states: []api.InstanceState{state(api.Stopped)}},
		"running":            {until: waitRunning, states: []api.InstanceState{state(api.Starting), running}},
		"stopped":            {until: waitRunning, states: []api.InstanceState{state(api.Stopped)}, fails: "has stopped"},
		"address":            {until: waitIP, states: []api.InstanceState{running, state(api.Running, "fe80::1"), state(api.Running, "fe80::1", "10.0.0.2")}},
		"no address":         {until: waitIP, states: []api.InstanceState{state(api.Running, "fe80::1")}, fails: "no address"},
		"systemd runs":       {until: waitReady, states: []api.InstanceState{running}, exec: says("running")},
		"systemd is bruised": {until: waitReady, states: []api.InstanceState{running}, exec: says("degraded")},
		"systemd works":      {until: waitReady, states: []api.InstanceState{running}, exec: says("starting"), fails: "its init says: starting"},
		"told /dev/lxd":      {until: waitReady, states: []api.InstanceState{running, state(api.Ready)}, exec: map[string]clienttest.Command{"cat": {Stdout: "init\n"}}},
		"an init that is mute": {until: waitReady, states: []api.InstanceState{running}, exec: map[string]clienttest.Command{"cat": {Stdout: "init\n"}},
			fails: "its init (init) cannot tell"},
		"dies": {until: waitReady, states: []api.InstanceState{running, state(api.Stopped)}, exec: says("starting"), fails: "has stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := waiting(t, c.states...)
			if c.exec != nil {
				s.Exec("c1", c.exec)
			}
			w := &waitFlag{until: c.until, timeout: 60}
			if c.fails != "" {
				w.timeout = 1
			}
			if c.fails != "" && c.exec != nil {
				w.timeout = 2 // the guest is to be asked before
			}
			if err := w.check(); err != nil {
				t.Fatal(err)
			}
			err := w.wait(context.Background(), r, "c1")
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("got %v, want %q", err, c.fails)
			}
		})
	}
	if err := (&waitFlag{until: "soon"}).check(); err == nil {
		t.Error("an unknown word was taken")
	}
}

// TestWaitForAMuteGuestEnds: without /dev/lxd an init that does not tell is known to never
// do so, long before the time is over.
func TestWaitForAMuteGuestEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		devlxd, init string
		timeout      int
		fails        string
	}{
		"off":                  {"false", "init", 60, "c1 cannot say that it is ready: its init (init) does not tell, and security.devlxd is off"},
		"on":                   {"true", "init", 5, "within 5 seconds"},
		"by default":           {"", "init", 5, "within 5 seconds"},
		"off, but it can tell": {"false", "systemd", 5, "its init says: starting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := waiting(t, state(api.Running))
			s.Exec("c1", map[string]clienttest.Command{"cat": {Stdout: c.init + "\n"}, "systemctl": {Stdout: "starting\n"}})
			s.Handle("GET /1.0/instances/c1", func(w http.ResponseWriter, _ *http.Request) {
				b, err := json.Marshal(api.Instance{Name: "c1", ExpandedConfig: map[string]string{"security.devlxd": c.devlxd}})
				if err != nil {
					t.Error(err)
				}
				_ = json.NewEncoder(w).Encode(api.Response{Type: api.SyncResponse, Status: "Success", StatusCode: 200, Metadata: b})
			})
			w := &waitFlag{until: waitReady, timeout: c.timeout}
			if err := w.wait(context.Background(), r, "c1"); err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("got %v, want %q", err, c.fails)
			}
		})
	}
}
