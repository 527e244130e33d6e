package daemontest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"

	"sett/shared/api"
	"sett/shared/keypair"
)

// Listen puts the API on the network, on a free port of the loopback interface, and
// returns the address.
func (s *Server) Listen() string {
	s.t.Helper()
	srv, etag, err := s.GetServer()
	s.Must(err)
	put := srv.Writable()
	put.Config["core.https_address"] = "127.0.0.1:0"
	s.Must(s.UpdateServer(put, etag))
	srv, _, err = s.GetServer()
	s.Must(err)
	if len(srv.Environment.Addresses) != 1 {
		s.t.Fatalf("the daemon listens on %q", srv.Environment.Addresses)
	}
	return srv.Environment.Addresses[0]
}

// Browser is an HTTPS client that shows a certificate, or none, and takes any server.
func (s *Server) Browser(p *keypair.Pair) *http.Client {
	conf := &tls.Config{InsecureSkipVerify: true}
	if p != nil {
		conf.Certificates = []tls.Certificate{p.TLS}
	}
	t := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	s.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// Ask sends a request through a client and returns the answer and its envelope,
// which is empty when there is none.
func (s *Server) Ask(c *http.Client, method, url string, body any) (*http.Response, api.Response) {
	s.t.Helper()
	text, err := json.Marshal(body)
	s.Must(err)
	if body == nil {
		text = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	s.Must(err)
	resp, err := c.Do(req)
	s.Must(err)
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	s.Must(err)
	var a api.Response
	_ = json.Unmarshal(text, &a)
	return resp, a
}
