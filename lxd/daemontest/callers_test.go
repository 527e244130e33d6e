package daemontest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/auth"
	"sett/lxd/daemontest"
	"sett/lxd/rest"
	"sett/shared/api"
)

// hush stands in the names of all that those who may not see the default project must
// not learn of.
const hush = "hush"

// guarded is a daemon on the network with things in the default project and in
// another one, and somebody of each kind that may call.
type guarded struct {
	*daemontest.Server
	url         string
	fingerprint string
	callers     map[string]*http.Client
}

// callers are who may come over the network, and what the chain makes of them.
var callers = map[string]struct {
	put    api.CertificatePut // without a type: a stranger
	caller auth.Caller
}{
	"stranger":   {},
	"unknown":    {},                                                                              // with a certificate that nobody trusts
	"admin":      {api.CertificatePut{Type: "client"}, auth.Caller{Protocol: "tls", Admin: true}}, // who is no member
	"metrics":    {api.CertificatePut{Type: "metrics"}, auth.Caller{Protocol: "tls", Metrics: true}},
	"no project": {api.CertificatePut{Type: "client", Restricted: true}, auth.Caller{Protocol: "tls", Projects: []string{}}},
	"web":        {api.CertificatePut{Type: "client", Restricted: true, Projects: []string{"web"}}, auth.Caller{Protocol: "tls", Projects: []string{"web"}}},
	"default":    {api.CertificatePut{Type: "client", Restricted: true, Projects: []string{"default"}}, auth.Caller{Protocol: "tls", Projects: []string{"default"}}},
}

// sql runs a statement on the shared database.
func sql(t *testing.T, s *daemontest.Server, query string) {
	t.Helper()
	if code, a := s.Do(http.MethodPost, "/internal/sql", map[string]string{"database": "global", "query": query}); code != http.StatusOK {
		t.Fatalf("%s: %d %s", query, code, a.Error)
	}
}

func guard(t *testing.T) *guarded {
	t.Helper()
	s := daemontest.New(t)
	s.Setup()
	for _, p := range []string{"web", hush + "-project"} {
		sql(t, s, fmt.Sprintf("INSERT INTO projects (name, description) VALUES ('%s', '')", p))
		for _, f := range []string{"images", "profiles", "storage.volumes"} {
			sql(t, s, fmt.Sprintf("INSERT INTO projects_config (project_id, key, value) SELECT id, 'features.%s', 'true' FROM projects WHERE name = '%s'", f, p))
		}
	}
	g := &guarded{Server: s, fingerprint: s.Import(hush + "-image"), callers: map[string]*http.Client{}}
	s.Create(hush+"-instance", hush+"-image")
	s.Must(s.CreateProfile(api.ProfilesPost{Name: hush + "-profile"}))
	g.url = "https://" + s.Listen()
	for name, c := range callers {
		switch {
		case name == "stranger":
			g.callers[name] = s.Browser(nil)
		case c.put.Type == "":
			g.callers[name] = s.Browser(pair(t))
		default:
			c.put.Name = name
			g.callers[name], _ = trust(t, s, c.put)
		}
	}
	return g
}

// path fills a route with things of the default project, or with ones that are not there.
func (g *guarded) path(r rest.Route, there bool) string {
	one := map[string]string{
		"profiles": hush + "-profile", "projects": hush + "-project", "storage-pools": "pool", "networks": "br0", "images": g.fingerprint,
		"aliases": hush + "-image", "instances": hush + "-instance", "containers": hush + "-instance", "virtual-machines": hush + "-instance",
		"volumes": "custom", "logs": "lxc.log", "certificates": strings.Repeat("a", 64),
	}
	segs := strings.Split(r.Path, "/")
	for i, s := range segs {
		if !strings.HasPrefix(s, "{") {
			continue
		}
		segs[i] = "nothing"
		if v := one[segs[i-1]]; v != "" && (there || v == "pool" || v == "custom") {
			segs[i] = v
		} else if segs[i-1] == "images" {
			segs[i] = strings.Repeat("f", 64)
		}
	}
	return strings.Join(segs, "/")
}

// without takes what a request itself names out of its answer.
func without(text, path string) string {
	path, _, _ = strings.Cut(path, "?")
	for seg := range strings.SplitSeq(strings.TrimPrefix(path, "/1.0"), "/") {
		if len(seg) > 4 {
			text = strings.ReplaceAll(text, seg, "X")
		}
	}
	return text
}

// ask sends one request and returns what came back, the text included. Routes that
// wait for a websocket are asked without one.
func (g *guarded) ask(t *testing.T, caller, method, path string) (int, string) {
	t.Helper()
	resp, a := g.Ask(g.callers[caller], method, g.url+path, map[string]any{})
	text, err := json.Marshal(a)
	g.Must(err)
	return resp.StatusCode, string(text) + fmt.Sprint(resp.Header)
}

// TestCallersGetWhatTheTableAllows asks every route as everybody, over TLS.
func TestCallersGetWhatTheTableAllows(t *testing.T) {
	t.Parallel()
	g := guard(t)
	for name, c := range callers {
		for _, r := range g.Daemon.Routes() {
			for _, project := range []string{"", "web"} {
				if project != "" && r.Scope != rest.InProject {
					continue
				}
				path := g.path(r, true)
				in := ""
				if r.Scope == rest.InProject {
					in = "default"
				}
				if project != "" {
					path, in = path+"?project="+project, project
				}
				may := auth.Allow(c.caller, r.Need, in) == nil
				if may && r.Method != http.MethodGet && r.Need != auth.Public {
					continue // would change what the rest of the test looks at
				}
				code, text := g.ask(t, name, r.Method, path)
				switch {
				case !may && code != http.StatusForbidden:
					t.Errorf("%s: %s %s answers %d %.300s", name, r.Method, path, code, text)
				case may && (code == http.StatusUnauthorized || code >= 500 && code != http.StatusNotImplemented):
					t.Errorf("%s: %s %s answers %d %.300s", name, r.Method, path, code, text)
				}
				if text = without(text, path); code < 400 && strings.Contains(path, hush) && !c.caller.CanSee(in) {
					t.Errorf("%s gets %s %s: %d", name, r.Method, path, code)
				}
				if !c.caller.CanSee("default") && strings.Contains(text, hush) {
					t.Errorf("%s learns of other projects by %s %s: %.600s", name, r.Method, path, text)
				}
				if strings.Contains(text, hush+"-project") && !c.caller.Admin {
					t.Errorf("%s learns of other projects by %s %s: %.600s", name, r.Method, path, text)
				}
			}
		}
	}
}

// TestTheRestrictedGetNoHostByTheirProject: whoever may edit a project gives its
// instances nothing that makes them the host's root.
func TestTheRestrictedGetNoHostByTheirProject(t *testing.T) {
	t.Parallel()
	g := guard(t)
	raw := map[string]any{"config": map[string]string{"raw.lxc": "lxc.environment = A=b"}}
	disk := map[string]any{"devices": map[string]any{"host": map[string]string{"type": "disk", "source": "/", "path": "/host"}}}
	plain := map[string]any{"config": map[string]string{"user.x": "1"}}
	with := func(m map[string]any, name string) map[string]any {
		m = maps.Clone(m)
		m["name"], m["source"] = name, map[string]string{"type": "none"}
		return m
	}
	own := "/1.0/instances/" + hush + "-instance"
	for _, c := range []struct {
		method, path string
		body         map[string]any
		want         int
	}{
		{http.MethodPost, "/1.0/instances", with(raw, "c1"), http.StatusForbidden},
		{http.MethodPost, "/1.0/instances", with(disk, "c1"), http.StatusForbidden},
		{http.MethodPut, own, disk, http.StatusForbidden},
		{http.MethodPatch, own, raw, http.StatusForbidden},
		{http.MethodPatch, own, plain, http.StatusOK},
		{http.MethodPost, "/1.0/profiles", with(raw, "p1"), http.StatusForbidden},
		{http.MethodPatch, "/1.0/profiles/default", disk, http.StatusForbidden},
		{http.MethodPatch, "/1.0/profiles/default", plain, http.StatusOK},
		{http.MethodPatch, "/1.0/networks/br0", map[string]any{"config": map[string]string{"raw.dnsmasq": "log-queries"}}, http.StatusForbidden},
	} {
		if resp, a := g.Ask(g.callers["default"], c.method, g.url+c.path, c.body); resp.StatusCode != c.want {
			t.Errorf("%s %s with %v answers %d %s", c.method, c.path, c.body, resp.StatusCode, a.Error)
		}
	}
}

// bodyOf is an answer without its headers.
func bodyOf(text string) string {
	b, _, _ := strings.Cut(text, "map[")
	return b
}

// TestRefusalsDoNotTellWhatIsThere: those who may not see a thing get one answer,
// whether it is there or not.
func TestRefusalsDoNotTellWhatIsThere(t *testing.T) {
	t.Parallel()
	g := guard(t)
	for name, c := range callers {
		if c.caller.CanSee("default") {
			continue
		}
		for _, r := range g.Daemon.Routes() {
			there, not := g.path(r, true), g.path(r, false)
			if there == not || r.Method != http.MethodGet && auth.Allow(c.caller, r.Need, "default") == nil || r.Path == "/1.0/networks/{name}" {
				continue
			}
			code, text := g.ask(t, name, r.Method, there)
			code2, text2 := g.ask(t, name, r.Method, not)
			if text, text2 = without(text, there), without(text2, not); code != code2 || bodyOf(text) != bodyOf(text2) {
				t.Errorf("%s: %s %s answers %d %s; for what is not there %d %s", name, r.Method, there, code, text, code2, text2)
			}
		}
	}
}

// TestListsOfAllProjectsShowTheCallersOwn asks every list for all projects.
func TestListsOfAllProjectsShowTheCallersOwn(t *testing.T) {
	t.Parallel()
	g := guard(t)
	for _, r := range g.Daemon.Routes() {
		if !r.Lists || r.Path == "/1.0/events" {
			continue
		}
		for _, name := range []string{"no project", "web"} {
			for _, recursion := range []string{"0", "1", "2"} {
				path := g.path(r, true) + "?all-projects=true&recursion=" + recursion
				if code, text := g.ask(t, name, r.Method, path); strings.Contains(text, hush) || code >= 500 {
					t.Errorf("%s: %s answers %d %.400s", name, path, code, text)
				}
			}
		}
		if code, text := g.ask(t, "stranger", r.Method, g.path(r, true)+"?all-projects=true"); r.Need != auth.Public && code != http.StatusForbidden {
			t.Errorf("stranger: %s answers %d %.400s", r.Path, code, text)
		}
	}
}

// TestSharedThingsShowNoNeighbours: a project without profiles, images and networks of
// its own uses those of the default project, changes none, and learns of no other user.
func TestSharedThingsShowNoNeighbours(t *testing.T) {
	t.Parallel()
	g := guard(t)
	sql(t, g.Server, "INSERT INTO projects (name, description) VALUES ('tenant', '')")
	g.callers["tenant"], _ = trust(t, g.Server, api.CertificatePut{Restricted: true, Projects: []string{"tenant"}})
	for path, want := range map[string]string{
		"/1.0/profiles?recursion=1": `"name":"default"`, "/1.0/profiles/default": `"name":"default"`, "/1.0/networks?recursion=1": "br0",
		"/1.0/networks/br0": "br0", "/1.0/networks/br0/leases": "", "/1.0/storage-pools?recursion=1": "pool", "/1.0/storage-pools/pool": "pool",
		"/1.0/images?recursion=1": "", "/1.0/instances?recursion=2": "[]", "/1.0/projects?recursion=1": "tenant", "/1.0/operations?recursion=1": "",
		"/1.0/storage-pools/pool/volumes?recursion=1": "",
	} {
		code, text := g.ask(t, "tenant", http.MethodGet, path+map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")]+"project=tenant")
		if code != http.StatusOK || !strings.Contains(text, want) || strings.Contains(text, hush+"-instance") || strings.Contains(text, hush+"-project") {
			t.Errorf("%s: %d %.500s", path, code, text)
		}
	}
	for _, r := range g.Daemon.Routes() {
		if r.Method == http.MethodGet || r.Need != auth.EditProject || r.Feature == "" {
			continue
		}
		if code, text := g.ask(t, "tenant", r.Method, g.path(r, true)+"?project=tenant"); code != http.StatusForbidden {
			t.Errorf("%s %s: %d %.300s", r.Method, r.Path, code, text)
		}
	}
}

// events opens a stream of events as a client.
func events(t *testing.T, c *http.Client, url, query string) (*websocket.Conn, int) {
	t.Helper()
	tr, ok := c.Transport.(*http.Transport)
	if !ok {
		t.Fatal("no transport")
	}
	conf := tr.TLSClientConfig.Clone()
	conf.NextProtos = []string{"http/1.1"}
	d := websocket.Dialer{TLSClientConfig: conf, HandshakeTimeout: 20 * time.Second}
	conn, resp, err := d.DialContext(t.Context(), "wss"+strings.TrimPrefix(url, "https")+"/1.0/events"+query, nil)
	if resp == nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if err != nil {
		return nil, resp.StatusCode
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, resp.StatusCode
}

// TestStreamsEndWithTheTrustThatOpenedThem: what was opened by a certificate ends when
// that is removed, or restricted.
func TestStreamsEndWithTheTrustThatOpenedThem(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	url := "https://" + s.Listen()
	a, removed := trust(t, s, api.CertificatePut{Name: "removed"})
	b, restricted := trust(t, s, api.CertificatePut{Name: "restricted"})
	c, _ := trust(t, s, api.CertificatePut{Name: "stays"})
	streams := map[string]*websocket.Conn{}
	for name, client := range map[string]*http.Client{"removed": a, "restricted": b, "stays": c} {
		conn, code := events(t, client, url, "?all-projects=true")
		if conn == nil {
			t.Fatalf("%s: %d", name, code)
		}
		streams[name] = conn
	}
	// The one who removes itself hears that it worked.
	if resp, e := s.Ask(a, http.MethodDelete, url+"/1.0/certificates/"+removed.Fingerprint(), nil); resp.StatusCode != http.StatusOK {
		t.Errorf("removing itself: %d %s", resp.StatusCode, e.Error)
	}
	put, etag, err := s.GetCertificate(restricted.Fingerprint())
	s.Must(err)
	put.Restricted = true
	s.Must(s.UpdateCertificate(restricted.Fingerprint(), put.Writable(), etag))
	ended := func(conn *websocket.Conn) {
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				var late net.Error
				if errors.As(err, &late) && late.Timeout() {
					t.Error("the stream goes on")
				}
				return
			}
		}
	}
	for _, name := range []string{"removed", "restricted"} {
		_ = streams[name].SetReadDeadline(time.Now().Add(20 * time.Second))
		ended(streams[name])
	}
	s.Must(s.CreateProfile(api.ProfilesPost{Name: "last"}))
	for seen := ""; !strings.Contains(seen, "profiles/last"); {
		_ = streams["stays"].SetReadDeadline(time.Now().Add(20 * time.Second))
		_, text, err := streams["stays"].ReadMessage()
		if err != nil {
			t.Fatal("the stream of another certificate ended:", err)
		}
		seen = string(text)
	}
}

// TestEventsStayInTheirProjects: the restricted hear nothing of other projects and
// nothing of what belongs to none.
func TestEventsStayInTheirProjects(t *testing.T) {
	t.Parallel()
	g := guard(t)
	dial := func(caller, query string) (*websocket.Conn, int) { return events(t, g.callers[caller], g.url, query) }
	for _, c := range []struct{ caller, query string }{
		{"stranger", ""}, {"unknown", ""}, {"metrics", ""}, {"no project", ""}, {"web", ""}, {"web", "?all-projects=true"}, {"default", "?project=web"},
		{"default", "?all-projects=true"}, {"default", "?type=logging"}, {"stranger", "?all-projects=true"},
	} {
		if conn, code := dial(c.caller, c.query); conn != nil || code != http.StatusForbidden {
			t.Errorf("%s hears %s: %d", c.caller, c.query, code)
		}
	}
	web, _ := dial("web", "?project=web")
	def, _ := dial("default", "")
	if web == nil || def == nil {
		t.Fatal("the restricted hear nothing of their own projects")
	}
	token(t, g.Server, api.CertificatePut{Name: hush}) // of no project, with a secret
	g.Must(g.CreateProfile(api.ProfilesPost{Name: hush + "-two"}))
	g.Must(g.UseProject("web").CreateProfile(api.ProfilesPost{Name: "last"}))
	g.Must(g.CreateProfile(api.ProfilesPost{Name: "last"}))
	for who, conn := range map[string]*websocket.Conn{"web": web, "default": def} {
		for seen := ""; !strings.Contains(seen, "profiles/last"); {
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			_, text, err := conn.ReadMessage()
			if err != nil {
				t.Fatalf("%s: %v", who, err)
			}
			seen = string(text)
			if strings.Contains(seen, "secret") || who == "web" && strings.Contains(seen, hush) || who == "default" && strings.Contains(seen, `"web"`) {
				t.Errorf("%s hears %s", who, seen)
			}
		}
	}
}
