package daemontest_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

// browser is what a browser is to the server: a jar of cookies and headers that tell
// where a request comes from.
type browser struct {
	t    *testing.T
	c    *http.Client
	base string // http://host:port
	head http.Header
}

func newBrowser(t *testing.T, page string) *browser {
	t.Helper()
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	b := &browser{t: t, c: &http.Client{Jar: jar, Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, base: u.Scheme + "://" + u.Host}
	t.Cleanup(b.c.CloseIdleConnections)
	b.from("same-origin", b.base)
	return b
}

// from sets what the next requests say of the page that makes them.
func (b *browser) from(site, origin string) {
	b.head = http.Header{}
	if site != "" {
		b.head.Set("Sec-Fetch-Site", site)
	}
	if origin != "" {
		b.head.Set("Origin", origin)
	}
}

func (b *browser) do(method, path, body string) (*http.Response, api.Response) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	for k, v := range b.head {
		req.Header[k] = v
	}
	resp, err := b.c.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	var a api.Response
	_ = json.Unmarshal(text, &a) // pages are not JSON
	return resp, a
}

func (b *browser) want(code int, method, path, body string) api.Response {
	b.t.Helper()
	resp, a := b.do(method, path, body)
	if resp.StatusCode != code {
		b.t.Errorf("%s %s: %d %q, want %d", method, path, resp.StatusCode, a.Error, code)
	}
	return a
}

func (b *browser) login(token string) *http.Cookie {
	b.t.Helper()
	resp, a := b.do("POST", "/1.0/webui/sessions", `{"token":"`+token+`"}`)
	if resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 1 {
		b.t.Fatalf("login: %d %q, cookies %v", resp.StatusCode, a.Error, resp.Cookies())
	}
	return resp.Cookies()[0]
}

// trusted tells whether the server knows who the browser is.
func (b *browser) trusted() bool {
	b.t.Helper()
	a := b.want(http.StatusOK, "GET", "/1.0", "")
	var s api.Server
	if err := json.Unmarshal(a.Metadata, &s); err != nil {
		b.t.Fatal(err)
	}
	return s.Auth == "trusted"
}

func loggedIn(t *testing.T, s *daemontest.Server) *browser {
	t.Helper()
	l, err := s.CreateWebUILink()
	s.Must(err)
	b := newBrowser(t, l.URLs[0])
	b.login(l.Token)
	return b
}

func TestLoginLinkWorksOnce(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	l, err := s.CreateWebUILink()
	s.Must(err)
	if len(l.URLs) != 1 || !strings.HasPrefix(l.URLs[0], "http://127.") || !strings.HasSuffix(l.URLs[0], "/ui/") {
		t.Fatalf("a server without a network address answers at %v", l.URLs)
	}
	if d := time.Until(l.ExpiresAt); d <= 0 || d > 5*time.Minute {
		t.Errorf("the link lives for %s", d)
	}
	b := newBrowser(t, l.URLs[0])
	if b.trusted() {
		t.Fatal("somebody without a session is trusted")
	}
	b.want(http.StatusForbidden, "GET", "/1.0/instances", "")
	b.want(http.StatusForbidden, "POST", "/1.0/webui/sessions", `{"token":"`+l.Token+`x"}`)
	b.want(http.StatusForbidden, "POST", "/1.0/webui/sessions", `{"token":"`+l.Token[1:]+`"}`)
	cookie := b.login(l.Token)
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Secure {
		t.Errorf("the cookie on plain http is %v", cookie)
	}
	if !b.trusted() {
		t.Error("a logged-in browser is not trusted")
	}
	b.want(http.StatusOK, "GET", "/1.0/instances", "")
	other := newBrowser(t, l.URLs[0])
	other.want(http.StatusForbidden, "POST", "/1.0/webui/sessions", `{"token":"`+l.Token+`"}`)
	if other.trusted() {
		t.Error("a link logged two browsers in")
	}

	// Neither secret is in the database.
	dump, err := s.Daemon.Dump(t.Context(), "global", false)
	s.Must(err)
	if strings.Contains(dump, l.Token) || strings.Contains(dump, cookie.Value) || !strings.Contains(dump, "webui_sessions") {
		t.Error("the database holds a secret, or no session")
	}
}

func TestLoginLinkAndSessionExpire(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	l, err := s.CreateWebUILink()
	s.Must(err)
	_, err = s.Daemon.SQL(t.Context(), "global", `UPDATE webui_links SET expiry_date = '2020-01-01T00:00:00Z'`)
	s.Must(err)
	late := newBrowser(t, l.URLs[0])
	late.want(http.StatusForbidden, "POST", "/1.0/webui/sessions", `{"token":"`+l.Token+`"}`)

	b := loggedIn(t, s)
	_, err = s.Daemon.SQL(t.Context(), "global", `UPDATE webui_sessions SET expiry_date = '2020-01-01T00:00:00Z'`)
	s.Must(err)
	if b.trusted() {
		t.Error("a session lives on after its end")
	}
	b.want(http.StatusForbidden, "GET", "/1.0/instances", "")
	if all, err := s.GetWebUISessions(); err != nil || len(all) != 0 {
		t.Errorf("sessions that are over are listed: %v %v", all, err)
	}
}

func TestSessionsAreListedAndRevoked(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	a, b := loggedIn(t, s), loggedIn(t, s)
	all, err := s.GetWebUISessions()
	s.Must(err)
	if len(all) != 2 || all[0].Protocol != "unix" || all[0].Username == "" || all[0].Current || all[0].UserAgent == "" {
		t.Fatalf("the sessions are %+v", all)
	}
	s.Must(s.DeleteWebUISession(all[0].ID))
	if a.trusted() || !b.trusted() {
		t.Error("revoking ended the wrong session")
	}
	if err := s.DeleteWebUISession(all[0].ID); err == nil {
		t.Error("a session was revoked twice")
	}
	var own api.WebUISession
	if err := json.Unmarshal(b.want(http.StatusOK, "GET", "/1.0/webui/sessions/current", "").Metadata, &own); err != nil || own.ID != all[1].ID || !own.Current {
		t.Errorf("the browser's own session is %+v, %v", own, err)
	}
	resp, _ := b.do("DELETE", "/1.0/webui/sessions/current", "")
	if resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 1 || resp.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logging out answers %d and cookies %v", resp.StatusCode, resp.Cookies())
	}
	if b.trusted() {
		t.Error("a browser that logged out is trusted")
	}
}

// TestSessionsOnLoopbackEndWithTheirListener: whoever gets the port after a daemon's
// end sees the cookies of pages left open.
func TestSessionsOnLoopbackEndWithTheirListener(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	b := loggedIn(t, s)
	s.Restart()
	l, err := s.CreateWebUILink()
	s.Must(err)
	u, err := url.Parse(l.URLs[0])
	s.Must(err)
	b.base = "http://" + u.Host
	b.from("same-origin", b.base)
	if b.trusted() {
		t.Error("a session of another listener is good")
	}
	all, err := s.GetWebUISessions()
	s.Must(err)
	if len(all) > 0 {
		t.Errorf("sessions that are over are listed: %+v", all)
	}
}

// TestWebsocketsEndWithTheirSession: they outlast the request that opened them.
func TestWebsocketsEndWithTheirSession(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	a, b := loggedIn(t, s), loggedIn(t, s)
	mine, others := a.events(), b.events()
	all, err := s.GetWebUISessions()
	s.Must(err)
	s.Must(s.DeleteWebUISession(all[0].ID))
	if _, _, err := mine.ReadMessage(); err == nil {
		t.Error("a websocket outlives its session")
	}
	s.Must(s.CreateProfile(api.ProfilesPost{Name: "p1"}))
	if _, m, err := others.ReadMessage(); err != nil || !strings.Contains(string(m), "profile-created") {
		t.Errorf("another session's websocket says %s, %v", m, err)
	}
}

// events listens to the lifecycle events.
func (b *browser) events() *websocket.Conn {
	b.t.Helper()
	head := http.Header{"Origin": {b.base}}
	u, err := url.Parse(b.base)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, k := range b.c.Jar.Cookies(u) {
		head.Add("Cookie", k.String())
	}
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	conn, _, err := dialer.DialContext(b.t.Context(), "ws"+strings.TrimPrefix(b.base, "http")+"/1.0/events?type=lifecycle", head)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	return conn
}

func TestOtherSitesCannotUseASession(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	b := loggedIn(t, s)
	const body = `{"name":"p1"}`
	for _, c := range []struct{ name, site, origin string }{
		{"another site", "cross-site", "http://evil.example"},
		{"another port of the host", "same-site", "http://127.0.0.1:1"},
		{"an old browser at another site", "", "http://evil.example"},
		{"a sandboxed frame", "cross-site", "null"},
		{"an old browser in a sandbox", "", "null"},
		{"a lying origin", "cross-site", b.base},
		{"nothing said", "", ""},
		{"a link followed", "none", ""},
	} {
		b.from(c.site, c.origin)
		if resp, a := b.do("POST", "/1.0/profiles", body); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: a change answers %d %q", c.name, resp.StatusCode, a.Error)
		}
		head := http.Header{}
		for k, v := range b.head {
			head[k] = v
		}
		u, _ := url.Parse(b.base)
		for _, k := range b.c.Jar.Cookies(u) {
			head.Add("Cookie", k.String())
		}
		conn, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws"+strings.TrimPrefix(b.base, "http")+"/1.0/events", head)
		if err == nil {
			conn.Close()
			t.Errorf("%s: events are sent", c.name)
		} else if resp == nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: the websocket ends with %v", c.name, err)
		}
	}
	// Reading needs no proof where the browser gives none, and none of others' pages.
	b.from("", "")
	b.want(http.StatusOK, "GET", "/1.0/profiles", "")
	b.from("none", "")
	b.want(http.StatusOK, "GET", "/1.0/profiles", "")
	b.from("cross-site", "")
	b.want(http.StatusForbidden, "GET", "/1.0/profiles", "")

	b.from("same-origin", b.base)
	b.want(http.StatusCreated, "POST", "/1.0/profiles", body)
	b.from("", b.base)
	b.want(http.StatusOK, "DELETE", "/1.0/profiles/p1", "")

	l, err := s.CreateWebUILink()
	s.Must(err)
	b.from("cross-site", "http://evil.example")
	b.want(http.StatusForbidden, "POST", "/1.0/webui/sessions", `{"token":"`+l.Token+`"}`)
}

// TestNamesThatResolveToLoopbackAreRefused is about DNS rebinding.
func TestNamesThatResolveToLoopbackAreRefused(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	b := loggedIn(t, s)
	for host, code := range map[string]int{"evil.example": 421, "127.0.0.1.evil.example:80": 421, "localhost:4000": 200, "127.0.0.1": 200, "10.0.0.1": 421, "[::1]:8": 200} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", b.base+"/1.0", nil)
		s.Must(err)
		req.Host = host
		resp, err := b.c.Do(req)
		s.Must(err)
		_ = resp.Body.Close()
		if resp.StatusCode != code {
			t.Errorf("Host %s answers %d, want %d", host, resp.StatusCode, code)
		}
	}
}

func TestPagesCarryTheirPolicy(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	l, err := s.CreateWebUILink()
	s.Must(err)
	b := newBrowser(t, l.URLs[0])
	for _, path := range []string{"/ui/", "/ui/login", "/ui/instances/c1"} {
		resp, _ := b.do("GET", path, "")
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "script-src 'self';") || !strings.Contains(csp, "frame-ancestors 'none'") || resp.Header.Get("X-Content-Type-Options") != "nosniff" ||
			resp.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s has the headers %v", path, resp.Header)
		}
	}
	if resp, _ := b.do("GET", "/ui/assets/nothing.js", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a script that is not there answers %d", resp.StatusCode)
	}
	if resp, _ := b.do("POST", "/ui/", ""); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST of a page answers %d", resp.StatusCode)
	}
	b.head.Set("Accept", "text/html")
	if resp, _ := b.do("GET", "/", ""); resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "/ui/" {
		t.Errorf("a browser at / gets %d", resp.StatusCode)
	}
	b.head.Set("Accept", "application/json")
	b.want(http.StatusOK, "GET", "/", "")
}

// TestSessionsHaveTheRightsOfWhoeverMadeTheLink: no more, and not for longer.
func TestSessionsHaveTheRightsOfWhoeverMadeTheLink(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	base := "https://" + s.Listen()
	link := func(c *http.Client) (*http.Response, api.WebUILink) {
		resp, a := s.Ask(c, "POST", base+"/1.0/webui/links", nil)
		var l api.WebUILink
		if resp.StatusCode == http.StatusOK {
			s.Must(json.Unmarshal(a.Metadata, &l))
		}
		return resp, l
	}
	restricted, pair := trust(t, s, api.CertificatePut{Name: "bob", Type: "client", Restricted: true, Projects: []string{"default"}})
	resp, l := link(restricted)
	if resp.StatusCode != http.StatusOK || len(l.URLs) != 1 || l.URLs[0] != base+"/ui/" {
		t.Fatalf("a link over the network: %d %v", resp.StatusCode, l.URLs)
	}
	b := newBrowser(t, l.URLs[0])
	cookie := b.login(l.Token)
	if !cookie.Secure || !cookie.HttpOnly || !strings.HasPrefix(cookie.Name, "__Host-") {
		t.Errorf("the cookie over TLS is %v", cookie)
	}
	b.want(http.StatusOK, "GET", "/1.0/instances", "")
	b.want(http.StatusForbidden, "GET", "/1.0/instances?project=p1", "")
	b.want(http.StatusForbidden, "PATCH", "/1.0", `{"config":{"user.x":"1"}}`)
	admin := loggedIn(t, s)
	admin.want(http.StatusOK, "PATCH", "/1.0", `{"config":{"user.x":"1"}}`)
	if a := b.want(http.StatusOK, "GET", "/1.0/webui/sessions", ""); strings.Count(string(a.Metadata), "/1.0/") != 1 {
		t.Errorf("a restricted caller sees the sessions %s", a.Metadata)
	}
	if a := admin.want(http.StatusOK, "GET", "/1.0/webui/sessions", ""); strings.Count(string(a.Metadata), "/1.0/") != 2 {
		t.Errorf("an administrator sees the sessions %s", a.Metadata)
	}
	conn := admin.events()
	s.Must(s.CreateProfile(api.ProfilesPost{Name: "x"}))
	if _, m, err := conn.ReadMessage(); err != nil || !strings.Contains(string(m), "profile-created") {
		t.Errorf("events over TLS: %s %v", m, err)
	}

	s.Must(s.DeleteCertificate(pair.Fingerprint()))
	if b.trusted() {
		t.Error("a session outlives the trust of its owner")
	}
	metrics, _ := trust(t, s, api.CertificatePut{Name: "m", Type: "metrics"})
	if resp, _ := link(metrics); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a metrics certificate gets a link: %d", resp.StatusCode)
	}
	if resp, _ := link(s.Browser(nil)); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a stranger gets a link: %d", resp.StatusCode)
	}
}

// TestPagesOfOthersCannotUseACertificate: browsers show theirs to whoever makes them.
func TestPagesOfOthersCannotUseACertificate(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	base := "https://" + s.Listen()
	c, _ := trust(t, s, api.CertificatePut{Name: "bob", Type: "client"})
	for origin, want := range map[string]int{"": http.StatusOK, base: http.StatusOK, "https://evil.example": http.StatusForbidden, "null": http.StatusForbidden} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/1.0/profiles", nil)
		s.Must(err)
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := c.Do(req)
		s.Must(err)
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("a page of %q gets %d, want %d", origin, resp.StatusCode, want)
		}
	}
}

// TestSessionsAreGoodOnEachMember: they are in the database that all share.
func TestSessionsAreGoodOnEachMember(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 2)
	l, err := ms[0].CreateWebUILink()
	ms[0].Must(err)
	b := newBrowser(t, l.URLs[0])
	there, _, err := ms[1].GetServer()
	ms[1].Must(err)
	here := b.base
	second := func() {
		b.base = "https://" + there.Environment.Addresses[0]
		b.from("same-origin", b.base)
	}
	second()
	b.login(l.Token) // a link of the first, at the second
	b.want(http.StatusOK, "GET", "/1.0/profiles", "")
	b.base = here
	b.from("same-origin", b.base)
	b.want(http.StatusOK, "GET", "/1.0/profiles", "")
	// What a member hands on for a browser comes from a page of the member's.
	b.want(http.StatusOK, "GET", "/1.0/resources?target="+url.QueryEscape(there.Environment.ServerName), "")
	b.want(http.StatusOK, "DELETE", "/1.0/webui/sessions/current", "")
	second()
	if b.trusted() {
		t.Error("a session that one member has ended is good on another")
	}
}
