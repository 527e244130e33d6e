package client_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	"sett/client"
	"sett/client/clienttest"
	"sett/shared/api"
	"sett/shared/keypair"
)

// proxy is an HTTP proxy that lets through what is asked of it by CONNECT.
func proxy(t *testing.T, used *atomic.Int32) *url.URL {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		used.Add(1)
		up, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer up.Close()
		down, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer down.Close()
		_, _ = io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(up, down); _ = up.Close() }()
		_, _ = io.Copy(down, up)
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestRequestsAndWebsocketsGoThroughTheProxyWithTheCertificate(t *testing.T) {
	t.Parallel()
	fake := clienttest.Play()
	fake.Async("PUT /1.0/instances/c1/state", api.Operation{})
	own, err := keypair.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	var shown, resumed atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 1 && keypair.Fingerprint(r.TLS.PeerCertificates[0]) == own.Fingerprint() {
			shown.Add(1)
		} else {
			t.Errorf("%s without the client's certificate", r.URL)
		}
		if r.TLS.DidResume {
			resumed.Add(1)
		}
		fake.ServeHTTP(w, r)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	defer srv.Close()
	var used atomic.Int32
	through := proxy(t, &used)
	c, err := client.ConnectLXD(srv.URL, &client.ConnectionArgs{
		TLSServerCert: string(keypair.EncodeCert(srv.Certificate().Raw)), TLSClientCert: string(own.Cert), TLSClientKey: string(own.Key),
		Proxy: func(*http.Request) (*url.URL, error) { return through, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect()
	op, err := c.UpdateInstanceState("c1", api.InstanceStatePut{Action: "start"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Wait(); err != nil { // listens to events, over a websocket
		t.Fatal(err)
	}
	if used.Load() < 2 || shown.Load() < 3 {
		t.Errorf("%d connections through the proxy, %d requests with the certificate", used.Load(), shown.Load())
	}
	if resumed.Load() == 0 {
		t.Error("the websocket's connection was signed for anew")
	}
}

// TestStrangersAreToldSo: only where a client may be unknown does it take what strangers see.
func TestStrangersAreToldSo(t *testing.T) {
	t.Parallel()
	fake := clienttest.Play()
	fake.Sync("POST /1.0/certificates", nil)
	var asked atomic.Int32
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-LXD-authenticated") == "true" {
			asked.Add(1)
		}
		fake.ServeHTTP(w, r)
	}))
	defer srv.Close()
	args := &client.ConnectionArgs{TLSServerCert: string(keypair.EncodeCert(srv.Certificate().Raw))}
	count := func(what string, want int32) {
		t.Helper()
		if got := asked.Swap(0); got != want {
			t.Errorf("%s: the server was asked to refuse %d times, want %d", what, got, want)
		}
	}
	c, err := client.ConnectLXDWithContext(context.Background(), srv.URL, args)
	if err != nil {
		t.Fatal(err)
	}
	count("connect", 1)
	if err := c.CreateCertificate(api.CertificatesPost{Password: "x"}); err != nil {
		t.Fatal(err)
	}
	count("asking to be trusted", 0)
	c.RequireAuthenticated(false)
	if _, _, err := c.GetServer(); err != nil {
		t.Fatal(err)
	}
	count("turned off", 0)
	if _, err := client.ConnectPublicLXD(srv.URL, args); err != nil {
		t.Fatal(err)
	}
	count("public", 0)
}
