package daemontest_test

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

func TestHTTPSMovesWithItsKey(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	first := s.Listen()
	srv, _, err := s.GetServer()
	s.Must(err)
	if srv.Environment.Certificate == "" || len(srv.Environment.CertificateFingerprint) != 64 {
		t.Errorf("the server tells its certificate as %q, %q", srv.Environment.Certificate, srv.Environment.CertificateFingerprint)
	}
	c := s.Browser(nil)
	resp, a := s.Ask(c, http.MethodGet, "https://"+first+"/1.0", nil)
	var seen api.Server
	s.Must(a.MetadataAsStruct(&seen))
	if resp.ProtoMajor != 2 || seen.Auth != "untrusted" || strings.Contains(string(a.Metadata), "environment") {
		t.Errorf("a stranger sees %s %s", resp.Proto, a.Metadata)
	}
	// An address that cannot be had is refused, and the old one stays.
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	s.Must(err)
	defer busy.Close()
	for _, bad := range []string{busy.Addr().String(), "192.0.2.77:8443", "*:8443", "1.2.3.4:99999"} {
		code, a := s.Do(http.MethodPatch, "/1.0", map[string]any{"config": map[string]string{"core.https_address": bad}})
		if code != http.StatusBadRequest || !strings.Contains(a.Error, bad) {
			t.Errorf("%s: %d %s", bad, code, a.Error)
		}
	}
	s.Ask(c, http.MethodGet, "https://"+first+"/1.0", nil)
	_, port, err := net.SplitHostPort(first)
	s.Must(err)
	// From one address to all of them on the same port: the old one is in the way.
	if code, a := s.Do(http.MethodPatch, "/1.0", map[string]any{"config": map[string]string{"core.https_address": ":" + port}}); code != http.StatusOK {
		t.Fatal(code, a.Error)
	}
	s.Ask(s.Browser(nil), http.MethodGet, "https://"+first+"/1.0", nil)
	if code, a := s.Do(http.MethodPatch, "/1.0", map[string]any{"config": map[string]string{"core.https_address": ""}}); code != http.StatusOK {
		t.Fatal(code, a.Error)
	}
	if conn, err := net.DialTimeout("tcp", first, 5*time.Second); err == nil {
		_ = conn.Close()
		t.Error("the daemon listens without an address")
	}
}

func TestHTTPSComesBackWithTheDaemon(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.Must(err)
	address := l.Addr().String()
	s.Must(l.Close())
	if code, a := s.Do(http.MethodPatch, "/1.0", map[string]any{"config": map[string]string{"core.https_address": address}}); code != http.StatusOK {
		t.Fatal(code, a.Error)
	}
	print := func() string {
		srv, _, err := s.GetServer()
		s.Must(err)
		return srv.Environment.CertificateFingerprint
	}
	was := print()
	s.Restart()
	s.Ask(s.Browser(nil), http.MethodGet, "https://"+address+"/1.0", nil)
	if now := print(); now != was {
		t.Errorf("the certificate changed from %s to %s", was, now)
	}
	// An occupied address does not keep the daemon from starting.
	s.Stop()
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.Start()
	srv, _, err := s.GetServer()
	s.Must(err)
	if len(srv.Environment.Addresses) != 0 || srv.Config["core.https_address"] != address {
		t.Errorf("addresses %q, config %v", srv.Environment.Addresses, srv.Config)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	address := s.Listen()
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

func TestOversizedHeadersAreRefused(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	address := s.Listen()
	for _, h2 := range []bool{false, true} {
		c := s.Browser(nil)
		if !h2 {
			tr, ok := c.Transport.(*http.Transport)
			if !ok {
				t.Fatal("no transport")
			}
			tr.ForceAttemptHTTP2 = false
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+"/1.0", nil)
		s.Must(err)
		req.Header.Set("X-Big", strings.Repeat("x", 1<<20))
		resp, err := c.Do(req)
		if err == nil {
			var a api.Response
			_ = json.NewDecoder(resp.Body).Decode(&a)
			_ = resp.Body.Close()
			if resp.StatusCode < 400 {
				t.Errorf("HTTP/2 %v: %s", h2, resp.Status)
			}
		}
	}
}
