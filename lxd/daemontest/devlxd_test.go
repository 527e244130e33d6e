package daemontest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/container"
	"sett/lxd/daemon"
	"sett/lxd/daemontest"
	"sett/lxd/devlxd"
	"sett/shared/api"
)

// rootID is root of an unprivileged guest on the host of these tests.
const rootID = 1000000

// byName takes the name of a client's own socket for who it is: in place of the kernel.
func byName(o *daemon.Options) {
	o.Guests = func(c *net.UnixConn) (devlxd.Caller, error) {
		var w devlxd.Caller
		var n int
		if _, err := fmt.Sscanf(filepath.Base(c.RemoteAddr().String()), "%d-%d-%d", &w.Instance, &w.UID, &n); err != nil {
			return w, errors.New("no guest")
		}
		return w, nil
	}
}

// guest is a process of an instance.
type guest struct {
	t      *testing.T
	http   *http.Client
	dialer func(ctx context.Context, network, addr string) (net.Conn, error)
}

func guestOf(t *testing.T, s *daemontest.Server, id int64, uid int) *guest {
	dir := t.TempDir()
	n := 0
	g := &guest{t: t}
	g.dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
		n++
		d := net.Dialer{LocalAddr: &net.UnixAddr{Net: "unix", Name: filepath.Join(dir, fmt.Sprintf("%d-%d-%d", id, uid, n))}}
		return d.DialContext(ctx, "unix", filepath.Join(s.Dir, "devlxd", "sock"))
	}
	tr := &http.Transport{DialContext: g.dialer}
	t.Cleanup(tr.CloseIdleConnections)
	g.http = &http.Client{Transport: tr, Timeout: 30 * time.Second}
	return g
}

func (g *guest) do(method, path, body string) (int, string) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, "http://lxd"+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	resp, err := g.http.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSuffix(string(b), "\n")
}

func change(s *daemontest.Server, name string, do func(*api.InstancePut)) {
	inst, etag, err := s.GetInstance(name)
	s.Must(err)
	put := inst.Writable()
	do(&put)
	op, err := s.UpdateInstance(name, put, etag)
	s.Wait(op, err)
}

// TestGuestAPI asks one daemon, one thing after the other.
func TestGuestAPI(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t, byName)
	s.Setup()
	fingerprint := s.Import("tiny")
	for _, name := range []string{"c1", "c2"} {
		s.Create(name, "tiny")
		s.SetState(name, "start")
	}
	guestHearsOfChanges(t, s)
	guestLearnsAboutItself(t, s)
	guestGetsPublicImagesOnly(t, s, fingerprint)
	strangersGetNothing(t, s)
	guestIsBounded(t, s)
	guestSaysThatItIsReady(t, s)
}

func guestLearnsAboutItself(t *testing.T, s *daemontest.Server) {
	t.Helper()
	change(s, "c1", func(p *api.InstancePut) {
		p.Config["user.a"] = "one\ntwo"
		p.Config["cloud-init.user-data"] = "#cloud-config"
		p.Config["user.meta-data"] = "more: yes"
		p.Devices["n0"] = map[string]string{"type": "none"}
	})
	inst, _, err := s.GetInstance("c1")
	s.Must(err)
	id := inst.Config["volatile.cloud-init.instance-id"]
	g := guestOf(t, s, 1, rootID)
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/", "", 200, `["/1.0"]`},
		{"GET", "/1.0", "", 200, `{"state":"Started","api_version":"1.0","location":"none","instance_type":"container"}`},
		{"GET", "/1.0/config", "", 200, `["/1.0/config/cloud-init.user-data","/1.0/config/user.a","/1.0/config/user.b","/1.0/config/user.meta-data"]`},
		{"GET", "/1.0/config/user.a", "", 200, "one\ntwo"},
		{"GET", "/1.0/config/user.none", "", 404, "not found"},
		{"GET", "/1.0/config/limits.memory", "", 403, "not authorized"},
		{"GET", "/1.0/config/volatile.uuid", "", 403, "not authorized"},
		{"GET", "/1.0/meta-data", "", 200, "#cloud-config\ninstance-id: " + id + "\nlocal-hostname: c1\nmore: yes"},
		{"GET", "/1.0/devices", "", 200, `{"n0":{"type":"none"},"root":{"path":"/","pool":"pool","type":"disk"}}`},
		{"GET", "/1.0/images/aa/export", "", 403, "not authorized"},
		{"GET", "/1.0/none", "", 404, "404 page not found"},
		{"DELETE", "/1.0", "", 405, "Method Not Allowed"},
		{"GET", "/1.0/events?type=lifecycle", "", 400, `"lifecycle" isn't a supported event type`},
		{"PATCH", "/1.0", `{"state": "Done"}`, 400, `Invalid state "Done" (use Started or Ready)`},
		{"PATCH", "/1.0", strings.Repeat(" ", 5000) + `{}`, 400, "Invalid JSON: http: request body too large"},
	} {
		if code, text := g.do(c.method, c.path, c.body); code != c.code || text != c.want {
			t.Errorf("%s %s: %d %s\nwant %d %s", c.method, c.path, code, text, c.code, c.want)
		}
	}
}

func guestSaysThatItIsReady(t *testing.T, s *daemontest.Server) {
	t.Helper()
	g := guestOf(t, s, 1, rootID)
	see := func(status string) {
		t.Helper()
		inst, _, err := s.GetInstance("c1")
		s.Must(err)
		st, _, err := s.GetInstanceState("c1")
		s.Must(err)
		if inst.Status != status || st.Status != status {
			t.Errorf("status %s and %s, want %s", inst.Status, st.Status, status)
		}
	}
	see("Running")
	if code, text := g.do("PATCH", "/1.0", `{"state": "Ready"}`); code != 200 || text != "" {
		t.Fatalf("%d %s", code, text)
	}
	see("Ready")
	if _, text := g.do("GET", "/1.0", ""); !strings.Contains(text, `"state":"Ready"`) {
		t.Error(text)
	}
	s.Restart()
	see("Ready")
	g.http.CloseIdleConnections() // these went with the daemon
	if code, text := g.do("PATCH", "/1.0", `{"state": "Started"}`); code != 200 {
		t.Fatalf("after a restart of the daemon: %d %s", code, text)
	}
	see("Running")
	if code, _ := g.do("PATCH", "/1.0", `{"state": "Ready"}`); code != 200 {
		t.Fatal(code)
	}
	s.SetState("c1", "restart")
	see("Running") // the new life has not said anything yet
}

func strangersGetNothing(t *testing.T, s *daemontest.Server) {
	t.Helper()
	for _, c := range []struct {
		who  string
		g    *guest
		code int
	}{
		{"a process of the host", guestOf(t, s, 0, 0), 403},
		{"root of the host", guestOf(t, s, 1, 0), 401},
		{"a user of the guest", guestOf(t, s, 1, rootID+1000), 401},
		{"another guest's root", guestOf(t, s, 1, 2000000), 401},
		{"an instance that is gone", guestOf(t, s, 77, rootID), 403},
	} {
		if code, text := c.g.do("GET", "/1.0/config", ""); code != c.code {
			t.Errorf("%s: %d %s, want %d", c.who, code, text, c.code)
		}
	}
	change(s, "c1", func(p *api.InstancePut) { p.Config["security.devlxd"] = "false" })
	if code, text := guestOf(t, s, 1, rootID).do("GET", "/", ""); code != 403 || text != "not authorized" {
		t.Errorf("with security.devlxd=false: %d %s", code, text)
	}
	defer change(s, "c1", func(p *api.InstancePut) { p.Config["security.devlxd"] = "true" })
	if g := s.Engine.Guest(container.ID{Daemon: daemon.Name(s.Dir), Project: "default", Name: "c1"}); g == nil {
		t.Error("no guest")
	} else {
		for _, m := range g.Mounts() {
			if m.Target == "dev/lxd" {
				t.Error("/dev/lxd is still there")
			}
		}
	}
}

func guestHearsOfChanges(t *testing.T, s *daemontest.Server) {
	t.Helper()
	g := guestOf(t, s, 1, rootID)
	d := websocket.Dialer{NetDialContext: g.dialer}
	ws, _, err := d.DialContext(t.Context(), "ws://lxd/1.0/events?type=config", nil)
	s.Must(err)
	defer ws.Close()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://lxd/1.0/events", nil)
	resp, err := g.http.Do(req)
	s.Must(err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)

	change(s, "c1", func(p *api.InstancePut) {
		p.Config["user.a"], p.Config["limits.processes"] = "1", "100"
		p.Devices["n0"] = map[string]string{"type": "none"}
	})
	p, etag, err := s.GetProfile("default")
	s.Must(err)
	put := p.Writable()
	put.Config["user.b"] = "2"
	s.Must(s.UpdateProfile("default", put, etag))
	change(s, "c1", func(p *api.InstancePut) { delete(p.Devices, "n0") })

	type event struct {
		Type      string
		Timestamp time.Time
		Metadata  json.RawMessage
	}
	const a, b = `{"key":"user.a","old_value":"","value":"1"}`, `{"key":"user.b","old_value":"","value":"2"}`
	for _, want := range []string{a, b} {
		var e event
		_ = ws.SetReadDeadline(time.Now().Add(30 * time.Second))
		s.Must(ws.ReadJSON(&e))
		if e.Type != "config" || string(e.Metadata) != want || e.Timestamp.IsZero() {
			t.Errorf("%s %s, want %s", e.Type, e.Metadata, want)
		}
	}
	for _, want := range []string{a, `{"name":"n0","action":"added","config":{"type":"none"}}`, b, `{"name":"n0","action":"removed","config":{"type":"none"}}`} {
		if !lines.Scan() {
			t.Fatal("the stream has ended")
		}
		var e event
		s.Must(json.Unmarshal(lines.Bytes(), &e))
		if string(e.Metadata) != want {
			t.Errorf("%s %s, want %s", e.Type, e.Metadata, want)
		}
	}
	// Who is to hear no more hears no more, also by what was opened before.
	change(s, "c1", func(p *api.InstancePut) { p.Config["security.devlxd"] = "false" })
	if lines.Scan() {
		t.Errorf("told %s", lines.Bytes())
	}
	var e event
	if err := ws.ReadJSON(&e); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("told %s %s (%v)", e.Type, e.Metadata, err)
	}
	change(s, "c1", func(p *api.InstancePut) { delete(p.Config, "security.devlxd") })
}

func guestGetsPublicImagesOnly(t *testing.T, s *daemontest.Server, fingerprint string) {
	t.Helper()
	change(s, "c1", func(p *api.InstancePut) { p.Config["security.devlxd.images"] = "true" })
	g := guestOf(t, s, 1, rootID)
	if code, text := g.do("GET", "/1.0/images/"+fingerprint+"/export", ""); code != 404 {
		t.Errorf("a private image: %d %.100q", code, text)
	}
	img, etag, err := s.GetImage(fingerprint)
	s.Must(err)
	put := img.Writable()
	put.Public = true
	s.Must(s.UpdateImage(fingerprint, put, etag))
	if code, text := g.do("GET", "/1.0/images/"+fingerprint+"/export", ""); code != 200 || !bytes.Equal([]byte(text), bytes.TrimSuffix(daemontest.Image("tiny"), []byte("\n"))) {
		t.Errorf("a public image: %d, %d bytes", code, len(text))
	}
}

// One guest cannot take the connections of another, nor keep the daemon busy.
func guestIsBounded(t *testing.T, s *daemontest.Server) {
	t.Helper()
	g := guestOf(t, s, 2, rootID)
	open := 0
	for range 40 {
		c, err := g.dialer(t.Context(), "", "")
		s.Must(err)
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		// What is too much is closed without an answer, maybe while we write.
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: lxd\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && resp.StatusCode == 200 {
			open++
		}
	}
	if open != 32 {
		t.Errorf("one guest holds %d connections", open)
	}
	if code, text := guestOf(t, s, 1, rootID).do("GET", "/", ""); code != 200 {
		t.Errorf("the other guest: %d %s", code, text)
	}
}
