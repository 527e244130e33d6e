package daemontest_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"sett/lxd/daemontest"
	"sett/lxd/db/migrations"
	"sett/shared/keypair"
)

// TestAServerThatWasKilledOnItsWayInMayComeAgain has a cluster let a server in that says
// nothing more, as one that was killed then.
func TestAServerThatWasKilledOnItsWayInMayComeAgain(t *testing.T) {
	t.Parallel()
	a := daemontest.Cluster(t, 1)[0]
	s := daemontest.New(t)
	s.Address = daemontest.FreeAddress(t)
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.Dir, "server.crt"), filepath.Join(s.Dir, "server.key"))
	a.Must(err)
	l, err := tls.Listen("tcp", s.Address, &tls.Config{Certificates: []tls.Certificate{pair}})
	a.Must(err)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).HandshakeContext(t.Context())
			_ = c.Close()
		}
	}()
	srv, _, err := a.GetServer()
	a.Must(err)
	steps, err := migrations.Global()
	a.Must(err)
	q, err := json.Marshal(map[string]any{"name": "m2", "address": s.Address, "secret": a.Token("m2").Secret,
		"architecture": "x86_64", "schema": len(steps), "api_extensions": len(srv.APIExtensions)})
	a.Must(err)
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+a.Address+"/internal/cluster/accept", bytes.NewReader(q))
	a.Must(err)
	resp, err := tr.RoundTrip(req)
	a.Must(err)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the server is not let in: %s", resp.Status)
	}
	a.Must(l.Close())
	if _, err := net.Dial("tcp", s.Address); err == nil {
		t.Fatal("somebody else listens there")
	}

	s.Join(a, "m2")
	if n := len(members(t, a)); n != 2 {
		t.Errorf("the cluster has %d members", n)
	}
}

// TestAClusterThatWasNearlyMadeIsMadeAnew begins with what a daemon leaves that is killed
// while it makes a cluster: a certificate that nobody has.
func TestAClusterThatWasNearlyMadeIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Address = daemontest.FreeAddress(t)
	pair, err := keypair.NewServer()
	s.Must(err)
	_, err = s.Daemon.SQL(t.Context(), "global", fmt.Sprintf(
		`INSERT INTO certificates (fingerprint, type, name, certificate) VALUES ('%s', 2, 'm1', '%s')`, pair.Fingerprint(), pair.Cert))
	s.Must(err)
	s.Enable("m1")
	other := daemontest.New(t)
	other.Address = daemontest.FreeAddress(t)
	other.Join(s, "m2")
	if n := len(members(t, other)); n != 2 {
		t.Errorf("the cluster has %d members", n)
	}
}
