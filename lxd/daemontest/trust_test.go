package daemontest_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"sett/lxd/daemontest"
	"sett/shared/api"
	"sett/shared/keypair"
)

func pair(t *testing.T) *keypair.Pair {
	t.Helper()
	p, err := keypair.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// trust adds a certificate as the admin does and returns a client that shows it.
func trust(t *testing.T, s *daemontest.Server, put api.CertificatePut) (*http.Client, *keypair.Pair) {
	t.Helper()
	p := pair(t)
	if put.Type == "" {
		put.Type = "client"
	}
	put.Certificate = base64.StdEncoding.EncodeToString(p.Leaf.Raw)
	s.Must(s.CreateCertificate(api.CertificatesPost{CertificatePut: put}))
	return s.Browser(p), p
}

// token makes a token and returns its secret.
func token(t *testing.T, s *daemontest.Server, put api.CertificatePut) (operation api.Operation, secret string) {
	t.Helper()
	put.Type = "client"
	op, err := s.CreateCertificateToken(api.CertificatesPost{CertificatePut: put})
	s.Must(err)
	operation = op.Get()
	secret, _ = operation.Metadata["secret"].(string)
	return operation, secret
}

func TestTokensWorkOnceAndInTime(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	url := "https://" + s.Listen() + "/1.0/certificates"
	o, secret := token(t, s, api.CertificatePut{Name: "laptop", Restricted: true, Projects: []string{"default"}})
	srv, _, err := s.GetServer()
	s.Must(err)
	if len(secret) != 64 || o.Class != "token" || o.Metadata["fingerprint"] != srv.Environment.CertificateFingerprint || len(o.Metadata["addresses"].([]any)) != 1 {
		t.Fatalf("token operation %+v", o)
	}
	if code, a := s.Do(http.MethodPatch, "/1.0", map[string]any{"config": map[string]string{"core.remote_token_expiry": "x"}}); code != http.StatusBadRequest {
		t.Errorf("a span of x: %d %s", code, a.Error)
	}
	first, second := pair(t), pair(t)
	ask := func(p *keypair.Pair, password string, more api.CertificatePut) (int, string) {
		resp, a := s.Ask(s.Browser(p), http.MethodPost, url, api.CertificatesPost{CertificatePut: more, Password: password})
		return resp.StatusCode, a.Error
	}
	// What is wrong with a request does not use the token up.
	if code, text := ask(nil, secret, api.CertificatePut{}); code != http.StatusBadRequest || text != "No client certificate provided" {
		t.Errorf("without a certificate: %d %s", code, text)
	}
	if code, text := ask(nil, "wrong", api.CertificatePut{}); code != http.StatusForbidden {
		t.Errorf("without a certificate and token: %d %s", code, text)
	}
	// The one who uses it cannot ask for more than it was given out for.
	if code, text := ask(first, secret, api.CertificatePut{Name: "root", Type: "server"}); code != http.StatusCreated {
		t.Fatalf("the token: %d %s", code, text)
	}
	c, _, err := s.GetCertificate(first.Fingerprint()[:12])
	s.Must(err)
	if c.Name != "laptop" || c.Type != "client" || !c.Restricted || len(c.Projects) != 1 || c.Certificate != string(keypair.EncodeCert(first.Leaf.Raw)) {
		t.Errorf("became %+v", c)
	}
	if code, _ := ask(second, secret, api.CertificatePut{}); code != http.StatusForbidden {
		t.Errorf("the second use: %d", code)
	}
	// In the form in which the command line hands it on.
	_, secret = token(t, s, api.CertificatePut{Name: "second"})
	long := (&api.CertificateAddToken{ClientName: "second", Secret: secret}).String()
	if code, text := ask(second, long, api.CertificatePut{}); code != http.StatusCreated {
		t.Errorf("the encoded token: %d %s", code, text)
	}
	// Revoked, it is worth nothing.
	o, secret = token(t, s, api.CertificatePut{Name: "third"})
	s.Must(s.DeleteOperation(o.ID))
	if code, _ := ask(pair(t), secret, api.CertificatePut{}); code != http.StatusForbidden {
		t.Errorf("a revoked token: %d", code)
	}
	// With a time it says when it ends.
	if code, a := s.Do(http.MethodPatch, "/1.0", map[string]any{"config": map[string]string{"core.remote_token_expiry": "1H"}}); code != http.StatusOK {
		t.Fatal(code, a.Error)
	}
	o, _ = token(t, s, api.CertificatePut{Name: "fourth"})
	if at, _ := o.Metadata["expiresAt"].(string); !strings.Contains(at, "T") {
		t.Errorf("expires at %v", o.Metadata["expiresAt"])
	}
	for what, put := range map[string]api.CertificatePut{"a server's": {Type: "server"}, "a project that is not there": {Type: "client", Restricted: true, Projects: []string{"nope"}}} {
		if _, err := s.CreateCertificateToken(api.CertificatesPost{CertificatePut: put}); err == nil {
			t.Errorf("a token for %s", what)
		}
	}
}

func TestPasswordOpensAndStaysHidden(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	url := "https://" + s.Listen()
	p := pair(t)
	ask := func(password string) int {
		resp, _ := s.Ask(s.Browser(p), http.MethodPost, url+"/1.0/certificates", api.CertificatesPost{CertificatePut: api.CertificatePut{Type: "client"}, Password: password})
		return resp.StatusCode
	}
	if code := ask(""); code != http.StatusForbidden {
		t.Errorf("no password where none is set: %d", code)
	}
	set := func(v any) {
		t.Helper()
		if code, a := s.Do(http.MethodPatch, "/1.0", map[string]any{"config": map[string]any{"core.trust_password": v}}); code != http.StatusOK {
			t.Fatal(code, a.Error)
		}
	}
	set("sesame")
	srv, etag, err := s.GetServer()
	s.Must(err)
	if srv.Config["core.trust_password"] != true {
		t.Errorf("the password shows as %v", srv.Config["core.trust_password"])
	}
	// What was shown, sent back, changes nothing.
	s.Must(s.UpdateServer(srv.Writable(), etag))
	if _, a := s.Do(http.MethodPost, "/internal/sql", map[string]string{"database": "global", "query": "SELECT value FROM config"}); strings.Contains(string(a.Metadata), "sesame") {
		t.Error("the password is in the database")
	}
	if code := ask("wrong"); code != http.StatusForbidden {
		t.Errorf("a wrong password: %d", code)
	}
	resp, _ := s.Ask(s.Browser(p), http.MethodGet, url+"/1.0", nil)
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the public view: %d", resp.StatusCode)
	}
	if code := ask("sesame"); code != http.StatusCreated {
		t.Errorf("the right password: %d", code)
	}
	if code := ask("sesame"); code != http.StatusBadRequest {
		t.Errorf("already trusted: %d", code)
	}
	if resp, a := s.Ask(s.Browser(p), http.MethodGet, url+"/1.0/instances", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("trusted: %d %s", resp.StatusCode, a.Error)
	}
	// Removed, it is a stranger's at once, on the connection that it has.
	c := s.Browser(p)
	s.Ask(c, http.MethodGet, url+"/1.0/instances", nil)
	s.Must(s.DeleteCertificate(p.Fingerprint()))
	if resp, _ := s.Ask(c, http.MethodGet, url+"/1.0/instances", nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("after its removal: %d", resp.StatusCode)
	}
	set("")
	if code := ask("sesame"); code != http.StatusForbidden {
		t.Errorf("a password that was unset: %d", code)
	}
}

func TestClientsAreToldThatTheirCertificateIsGone(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	url := "https://" + s.Listen() + "/1.0"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	s.Must(err)
	req.Header.Set("X-LXD-authenticated", "true")
	resp, err := s.Browser(pair(t)).Do(req)
	s.Must(err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("got %s", resp.Status)
	}
}

func TestTheRestrictedRenewTheirCertificateOnly(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	base := "https://" + s.Listen() + "/1.0/certificates"
	_, other := trust(t, s, api.CertificatePut{Name: "admin"})
	c, own := trust(t, s, api.CertificatePut{Name: "web", Restricted: true, Projects: []string{"default"}})
	resp, a := s.Ask(c, http.MethodGet, base+"?recursion=1", nil)
	var all []api.Certificate
	s.Must(a.MetadataAsStruct(&all))
	if resp.StatusCode != http.StatusOK || len(all) != 1 || all[0].Fingerprint != own.Fingerprint() {
		t.Errorf("sees %d %+v", resp.StatusCode, all)
	}
	mine := base + "/" + own.Fingerprint()
	next := pair(t)
	for _, x := range []struct {
		method, url string
		body        any
		want        int
	}{
		{http.MethodGet, base + "/" + other.Fingerprint(), nil, http.StatusNotFound},
		{http.MethodDelete, base + "/" + other.Fingerprint(), nil, http.StatusNotFound},
		{http.MethodGet, base + "/" + own.Fingerprint()[:7], nil, http.StatusOK},
		{http.MethodPatch, mine, map[string]any{"restricted": false}, http.StatusForbidden},
		{http.MethodPatch, mine, map[string]any{"projects": []string{"default", "other"}}, http.StatusForbidden},
		{http.MethodPatch, mine, map[string]any{"name": "x"}, http.StatusForbidden},
		{http.MethodPatch, mine, map[string]any{"type": "server"}, http.StatusForbidden},
		{http.MethodPut, mine, map[string]any{"type": "client"}, http.StatusForbidden},
		{http.MethodPatch, mine, map[string]any{"certificate": "xx"}, http.StatusBadRequest},
		{http.MethodPost, base, map[string]any{"token": true, "type": "client"}, http.StatusForbidden},
		{http.MethodPatch, mine, map[string]any{"certificate": string(next.Cert)}, http.StatusOK},
		{http.MethodGet, mine, nil, http.StatusForbidden}, // the old certificate is a stranger's now
	} {
		if resp, a := s.Ask(c, x.method, x.url, x.body); resp.StatusCode != x.want {
			t.Errorf("%s %s %v: %d %s, want %d", x.method, strings.TrimPrefix(x.url, base), x.body, resp.StatusCode, a.Error, x.want)
		}
	}
	if resp, a := s.Ask(s.Browser(next), http.MethodGet, base+"/"+next.Fingerprint(), nil); resp.StatusCode != http.StatusOK {
		t.Errorf("the new certificate: %d %s", resp.StatusCode, a.Error)
	}
}

func TestCertificatesComeAndGo(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	listener, err := s.GetEvents()
	s.Must(err)
	events := make(chan api.EventLifecycle, 16)
	_, err = listener.AddHandler([]string{"lifecycle"}, func(e api.Event) {
		var l api.EventLifecycle
		if json.Unmarshal(e.Metadata, &l) == nil {
			events <- l
		}
	})
	s.Must(err)
	_, p := trust(t, s, api.CertificatePut{})
	c, etag, err := s.GetCertificate(p.Fingerprint())
	s.Must(err)
	if c.Name != p.Leaf.Subject.CommonName || c.Type != "client" || c.Projects == nil {
		t.Errorf("certificate %+v", c)
	}
	if err := s.CreateCertificate(api.CertificatesPost{CertificatePut: api.CertificatePut{Certificate: base64.StdEncoding.EncodeToString(p.Leaf.Raw)}}); err == nil {
		t.Error("the same certificate twice")
	}
	put := c.Writable()
	put.Name, put.Restricted, put.Projects = "renamed", true, []string{"default"}
	s.Must(s.UpdateCertificate(p.Fingerprint(), put, etag))
	if err := s.UpdateCertificate(p.Fingerprint(), put, etag); err == nil {
		t.Error("a stale ETag was taken")
	}
	_, metrics := trust(t, s, api.CertificatePut{Type: "metrics"})
	prints, err := s.GetCertificateFingerprints()
	s.Must(err)
	if len(prints) != 2 {
		t.Errorf("fingerprints %q", prints)
	}
	if _, _, err := s.GetCertificate(""); err == nil {
		t.Error("no fingerprint is one")
	}
	s.Must(s.DeleteCertificate(metrics.Fingerprint()))
	s.Must(s.DeleteCertificate(p.Fingerprint()[:10]))
	for _, want := range []string{"certificate-created", "certificate-updated", "certificate-created", "certificate-deleted", "certificate-deleted"} {
		if l := <-events; l.Action != want || !strings.HasPrefix(l.Source, "/1.0/certificates/") {
			t.Errorf("event %+v, want %s", l, want)
		}
	}
	s.Restart()
	if prints, err := s.GetCertificateFingerprints(); err != nil || len(prints) != 0 {
		t.Errorf("left: %q %v", prints, err)
	}
}

// TestMembersTrustAlike: a token works at any member, once; who is trusted or removed at
// one member is at all; and what all share they know at once.
func TestMembersTrustAlike(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 3)
	url := func(s *daemontest.Server) string {
		srv, _, err := s.GetServer()
		s.Must(err)
		return "https://" + srv.Environment.Addresses[0]
	}
	p := pair(t)
	o, secret := token(t, ms[0], api.CertificatePut{Name: "anywhere", Restricted: true, Projects: []string{"default"}})
	if list, _ := o.Metadata["addresses"].([]any); len(list) != len(ms) || "https://"+fmt.Sprint(list[0]) != url(ms[0]) {
		t.Errorf("the token leads to %v", o.Metadata["addresses"])
	}
	post := func(s *daemontest.Server, c *http.Client, password string) int {
		resp, a := s.Ask(c, http.MethodPost, url(s)+"/1.0/certificates", api.CertificatesPost{CertificatePut: api.CertificatePut{Type: "client"}, Password: password})
		if resp.StatusCode != http.StatusCreated {
			t.Logf("%d %s", resp.StatusCode, a.Error)
		}
		return resp.StatusCode
	}
	c := ms[1].Browser(p)
	if code := post(ms[1], c, secret); code != http.StatusCreated {
		t.Fatalf("a token of another member: %d", code)
	}
	if code := post(ms[2], ms[2].Browser(pair(t)), secret); code != http.StatusForbidden {
		t.Errorf("its second use: %d", code)
	}
	for _, m := range ms {
		if resp, a := m.Ask(c, http.MethodGet, url(m)+"/1.0/instances", nil); resp.StatusCode != http.StatusOK {
			t.Errorf("a member does not know the client: %d %s", resp.StatusCode, a.Error)
		}
	}
	ms[2].Must(ms[2].DeleteCertificate(p.Fingerprint()))
	for _, m := range ms {
		if resp, _ := m.Ask(c, http.MethodGet, url(m)+"/1.0/instances", nil); resp.StatusCode != http.StatusForbidden {
			t.Errorf("a member still knows the client: %d", resp.StatusCode)
		}
	}
	if code, a := ms[0].Do(http.MethodPatch, "/1.0", map[string]any{"config": map[string]any{"core.trust_password": "sesame"}}); code != http.StatusOK {
		t.Fatal(code, a.Error)
	}
	if code, a := ms[1].Do(http.MethodPatch, "/1.0", map[string]any{"config": map[string]any{"user.b": "1"}}); code != http.StatusOK {
		t.Fatal(code, a.Error)
	}
	if code := post(ms[2], ms[2].Browser(p), "sesame"); code != http.StatusCreated {
		t.Errorf("the password that another member has set: %d", code)
	}
}
