package daemontest_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sett/lxd/daemontest"
	"sett/shared/api"
	"sett/shared/keypair"
)

func members(t *testing.T, s *daemontest.Server) map[string]api.ClusterMember {
	t.Helper()
	all, err := s.GetClusterMembers()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]api.ClusterMember{}
	for _, m := range all {
		out[m.ServerName] = m
	}
	return out
}

func profile(name string) api.ProfilesPost { return api.ProfilesPost{Name: name} }

// wantProfiles checks what the databases of servers hold, besides the default one.
func wantProfiles(t *testing.T, s *daemontest.Server, names ...string) {
	t.Helper()
	got, err := s.GetProfileNames()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := append([]string{"default"}, names...)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("profiles %v, want %v", got, want)
	}
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Fatalf("error %v, want one with %q", err, part)
	}
}

func TestClusterForms(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 4)
	for i, m := range ms {
		m.Must(m.CreateProfile(profile(fmt.Sprintf("p%d", i))))
	}
	for i, m := range ms {
		wantProfiles(t, m, "p0", "p1", "p2", "p3")
		srv, _, err := m.GetServer()
		m.Must(err)
		name := fmt.Sprintf("m%d", i+1)
		if !srv.Environment.ServerClustered || srv.Environment.ServerName != name || srv.Config["core.https_address"] != m.Address || srv.Config["cluster.https_address"] != m.Address {
			t.Errorf("%s shows itself as %+v with %v", name, srv.Environment, srv.Config)
		}
		c, _, err := m.GetCluster()
		m.Must(err)
		if !c.Enabled || c.ServerName != name {
			t.Errorf("%s is %+v", name, c)
		}
	}
	eventually(t, "three voters and one that stands by", func() bool {
		all := members(t, ms[3])
		n := map[string]int{}
		for _, m := range all {
			for _, r := range m.Roles {
				n[r]++
			}
		}
		return len(all) == 4 && n["database"] == 3 && n["database-leader"] == 1 && n["database-standby"] == 1
	})
	for _, m := range members(t, ms[1]) {
		if m.Status != "Online" || m.Message != "Fully operational" || m.Architecture == "" || m.FailureDomain != "default" || !slices.Equal(m.Groups, []string{"default"}) {
			t.Errorf("member %+v", m)
		}
	}
}

func TestJoiningIsRefused(t *testing.T) {
	t.Parallel()
	first := daemontest.Cluster(t, 1)[0]
	s := daemontest.New(t)
	s.Address = daemontest.FreeAddress(t)
	s.Must(s.CreateProfile(profile("mine")))
	tok := first.Token("m2")

	for what, c := range map[string]struct {
		change func(*api.ClusterPut)
		want   string
	}{
		"no token":       {func(p *api.ClusterPut) { p.ClusterPassword = "x" }, "needs a join token"},
		"another secret": {func(p *api.ClusterPut) { bad := *tok; bad.Secret = "x"; p.ClusterPassword = bad.String() }, "join token is not valid"},
		"another name":   {func(p *api.ClusterPut) { p.ServerName = "m9" }, "is for a server called"},
		"no name":        {func(p *api.ClusterPut) { p.ServerName = "" }, "ServerName is required"},
		"another certificate": {func(p *api.ClusterPut) {
			bad := *tok
			bad.Fingerprint = strings.Repeat("0", 64)
			p.ClusterPassword = bad.String()
		}, "certificate that is not the one"},
		"address of others": {func(p *api.ClusterPut) { p.ServerAddress = first.Address }, "Cannot listen"},
		"any address":       {func(p *api.ClusterPut) { p.ServerAddress = "[::]:8443" }, "Other members cannot call"},
		"nobody there":      {func(p *api.ClusterPut) { p.ClusterAddress = daemontest.FreeAddress(t) }, "Cannot reach the cluster"},
	} {
		put := s.JoinWith(tok)
		c.change(&put)
		err := s.Cluster(put)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	wantProfiles(t, s, "default"[:0]+"mine")
	if n := len(members(t, first)); n != 1 {
		t.Errorf("the cluster has %d members", n)
	}

	// What the joining server has would be lost.
	s.Must(s.CreateStoragePool(api.StoragePoolsPost{Name: "pool", Driver: "fake"}))
	wantError(t, s.Cluster(s.JoinWith(tok)), "1 storage pools")
	s.Must(s.DeleteStoragePool("pool"))

	// A token works once.
	s.Must(s.Cluster(s.JoinWith(tok)))
	wantProfiles(t, s)
	third := daemontest.New(t)
	third.Address = daemontest.FreeAddress(t)
	wantError(t, third.Cluster(third.JoinWith(tok)), "not valid")
	wantError(t, s.Cluster(s.JoinWith(tok)), "already clustered")

	// Whoever makes a second one, or revokes it, ends the first; any member knows it.
	old := s.Token("m3")
	now := s.Token("m3")
	wantError(t, third.Cluster(third.JoinWith(old)), "not valid")
	put := third.JoinWith(now)
	put.ClusterAddress = first.Address // not the one that made it
	third.Must(third.Cluster(put))
}

func TestRemovedMemberStandsAloneAndIsAStranger(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 3)
	a, b, c := ms[0], ms[1], ms[2]
	a.Must(a.CreateProfile(profile("p")))
	// What it could keep: its own pair, and the one that members share.
	old, err := tls.LoadX509KeyPair(filepath.Join(c.Dir, "server.crt"), filepath.Join(c.Dir, "server.key"))
	a.Must(err)
	shared, err := tls.LoadX509KeyPair(filepath.Join(c.Dir, "cluster.crt"), filepath.Join(c.Dir, "cluster.key"))
	a.Must(err)
	if code := knock(t, b.Address, old); code != http.StatusSwitchingProtocols {
		t.Fatalf("a member that asks for the database gets %d", code)
	}
	ear, code := upgrade(t, b.Address, old, "/internal/events", "sett-events")
	if code != http.StatusSwitchingProtocols {
		t.Fatalf("a member that asks for the events gets %d", code)
	}
	if err := b.DeleteClusterMember("m3", false); err != nil {
		t.Fatal(err)
	}
	// What it has open is closed; until then the rest of the removal may be heard.
	_ = ear.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, ear); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the removed member still hears what happens: %v", err)
	}
	wantProfiles(t, c)
	if got, _, err := c.GetCluster(); err != nil || got.Enabled {
		t.Errorf("the removed server is %+v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "cluster.key")); !os.IsNotExist(err) {
		t.Errorf("it kept the shared key: %v", err)
	}
	for _, m := range []*daemontest.Server{a, b} {
		if n := len(members(t, m)); n != 2 {
			t.Errorf("%d members are left", n)
		}
		for _, pair := range []tls.Certificate{old, shared} {
			if code := knock(t, m.Address, pair); code != http.StatusForbidden {
				t.Errorf("a stranger that asks for the database gets %d", code)
			}
		}
	}
	// It goes on alone, and may come back.
	c.Must(c.CreateProfile(profile("own")))
	c.Restart()
	wantProfiles(t, c, "own")
	c.Join(a, "again")
	wantProfiles(t, c, "p")
	wantError(t, a.DeleteClusterMember("m9", false), "not found")
	// Also when it is asked itself.
	c.Must(c.DeleteClusterMember("again", false))
	a.Must(a.CreateProfile(profile("q")))
	wantProfiles(t, b, "p", "q")
}

// knock asks for the database and returns the status of the answer.
func knock(t *testing.T, address string, pair tls.Certificate) int {
	t.Helper()
	conn, code := upgrade(t, address, pair, "/internal/database", "dqlite")
	conn.Close()
	return code
}

// upgrade asks for a connection of its own and returns it, with the status of the answer.
func upgrade(t *testing.T, address string, pair tls.Certificate, path, protocol string) (net.Conn, int) {
	t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", path, protocol)
	b := make([]byte, 12)
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	var code int
	if _, err := fmt.Sscanf(string(b), "HTTP/1.1 %d", &code); err != nil {
		t.Fatal(err)
	}
	return conn, code
}

func TestMemberIsRemovedByForceWhileItIsAway(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 4)
	a, d := ms[0], ms[3]
	d.Stop()
	a.Must(a.DeleteClusterMember("m4", true))
	d.Launch()
	if err := d.CreateProfile(profile("ghost")); err == nil {
		t.Error("a removed member could write")
	}
	wantProfiles(t, a)
	if got, err := a.GetClusterMemberNames(); err != nil || slices.Contains(got, "m4") {
		t.Errorf("members %v, %v", got, err)
	}
}

// TestNothingStaysOfAMemberRemovedByForce: instances, images that only it had, and its part
// of pools and networks.
func TestNothingStaysOfAMemberRemovedByForce(t *testing.T) {
	t.Parallel()
	ms, shared := trio(t, 3)
	a, c := ms[0], ms[2]
	createOn(a, "m3", "c3") // which gets the shared image too
	only := c.Import("only")
	c.Stop()
	a.Must(a.DeleteClusterMember("m3", true))
	is, err := a.GetInstanceNames(api.InstanceTypeAny)
	if err != nil || len(is) != 0 {
		t.Errorf("instances %v, %v", is, err)
	}
	if _, _, err := a.GetImage(only); status(err) != http.StatusNotFound {
		t.Errorf("an image that only the lost member had: %v", err)
	}
	if _, _, err := a.GetImage(shared); err != nil {
		t.Errorf("an image that another one has: %v", err)
	}
	for _, table := range []string{"instances", "images_nodes", "storage_pools_nodes", "networks_nodes", "storage_pools_config", "networks_config", "storage_volumes", "nodes_commits"} {
		code, r := a.Do(http.MethodPost, "/internal/sql", map[string]string{"database": "global", "query": "SELECT count(*) FROM " + table + " WHERE node_id = 3"})
		if code != http.StatusOK || !strings.Contains(string(r.Metadata), "[[0]]") {
			t.Errorf("%s: %d %s", table, code, r.Metadata)
		}
	}
	// The name is free for another server.
	d := daemontest.New(t)
	d.Address = daemontest.FreeAddress(t)
	d.Join(a, "m3")
	createOn(a, "m3", "c3")
}

// TestMembersKeepTheirCertificates: without them the others would not talk to them.
func TestMembersKeepTheirCertificates(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 2)
	a := ms[0]
	own, err := tls.LoadX509KeyPair(filepath.Join(ms[1].Dir, "server.crt"), filepath.Join(ms[1].Dir, "server.key"))
	a.Must(err)
	fingerprint := keypair.Fingerprint(own.Leaf)
	wantError(t, a.DeleteCertificate(fingerprint), `cluster member "m2"`)
	put, etag, err := a.GetCertificate(fingerprint)
	a.Must(err)
	w := put.Writable()
	a.Must(a.UpdateCertificate(fingerprint, w, etag)) // the same again
	w.Name = "other"
	wantError(t, a.UpdateCertificate(fingerprint, w, etag), `cluster member "m2"`)
	stranger := pair(t)
	wantError(t, a.CreateCertificate(api.CertificatesPost{CertificatePut: api.CertificatePut{Name: "m2", Type: "server",
		Certificate: base64.StdEncoding.EncodeToString(stranger.Leaf.Raw)}}), "joins the cluster")
	a.Must(ms[1].CreateProfile(profile("p")))
	wantProfiles(t, a, "p")
}

func TestMembersAreRenamedAndChanged(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 2)
	a, b := ms[0], ms[1]
	wantError(t, a.RenameClusterMember("m2", api.ClusterMemberPost{ServerName: "m1"}), "already has a member")
	a.Must(a.RenameClusterMember("m2", api.ClusterMemberPost{ServerName: "new"}))
	srv, _, err := b.GetServer()
	a.Must(err)
	if srv.Environment.ServerName != "new" {
		t.Errorf("the member calls itself %q", srv.Environment.ServerName)
	}
	m, etag, err := b.GetClusterMember("new")
	a.Must(err)
	put := m.Writable()
	put.Description, put.FailureDomain, put.Config = "d", "rack1", map[string]string{"scheduler.instance": "manual", "user.x": "y"}
	put.Roles = append(put.Roles, "event-hub")
	a.Must(b.UpdateClusterMember("new", put, etag))
	wantError(t, b.UpdateClusterMember("new", put, etag), "ETag")
	m, _, err = a.GetClusterMember("new")
	a.Must(err)
	if m.Description != "d" || m.FailureDomain != "rack1" || m.Config["scheduler.instance"] != "manual" || !slices.Contains(m.Roles, "event-hub") {
		t.Errorf("member %+v", m)
	}
	// To unset a key is to set it to nothing.
	put = m.Writable()
	put.Config["user.x"] = ""
	a.Must(a.UpdateClusterMember("new", put, ""))
	m, _, err = b.GetClusterMember("new")
	a.Must(err)
	if _, there := m.Config["user.x"]; there || m.Config["scheduler.instance"] != "manual" {
		t.Errorf("after a key was unset the member has %v", m.Config)
	}
	put = m.Writable()
	put.Config = map[string]string{"scheduler.instance": "maybe"}
	wantError(t, a.UpdateClusterMember("new", put, ""), "scheduler.instance")
	put = m.Writable()
	put.Groups = []string{"g"}
	wantError(t, a.UpdateClusterMember("new", put, ""), "not implemented")
	b.Restart()
	if srv, _, err = b.GetServer(); err != nil || srv.Environment.ServerName != "new" {
		t.Errorf("after a restart it calls itself %q, %v", srv.Environment.ServerName, err)
	}
}

func TestLeaderGoesAndComesBack(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 3)
	eventually(t, "three voters", func() bool {
		n := 0
		for _, m := range members(t, ms[0]) {
			if slices.Contains(m.Roles, "database") {
				n++
			}
		}
		return n == 3
	})
	leader, others := ms[0], ms[1:]
	stop := make(chan struct{})
	longest := make(chan time.Duration)
	go func() {
		var most time.Duration
		for i := 0; ; i++ {
			select {
			case <-stop:
				longest <- most
				return
			default:
			}
			at := time.Now()
			if err := others[0].CreateProfile(profile(fmt.Sprintf("p%d", i))); err != nil {
				t.Errorf("write %d: %v", i, err)
			}
			most = max(most, time.Since(at))
		}
	}()
	leader.Stop()
	close(stop)
	if most := <-longest; most > 5*time.Second {
		t.Errorf("a write took %s", most)
	}
	others[1].Must(others[1].CreateProfile(profile("late")))
	leader.Start()
	names, err := leader.GetProfileNames()
	leader.Must(err)
	if !slices.Contains(names, "late") {
		t.Errorf("the member that was away has %v", names)
	}
}

func TestAllMembersRestart(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 3)
	ms[2].Must(ms[2].CreateProfile(profile("p")))
	for _, m := range ms {
		m.Stop()
	}
	// One of them alone answers, and says what it waits for.
	ms[0].Launch()
	if _, _, err := ms[0].GetServer(); err != nil {
		t.Errorf("a member without the others: %v", err)
	}
	select {
	case <-ms[0].Daemon.Ready():
		t.Error("a member is ready without a majority")
	default:
	}
	ms[1].Launch()
	ms[2].Launch()
	for _, m := range ms {
		m.WaitReady()
		wantProfiles(t, m, "p")
	}
}

func TestSharedCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 2)
	shown := func(address string) string {
		c, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(context.Background(), "tcp", address)
		ms[0].Must(err)
		defer c.Close()
		tc, ok := c.(*tls.Conn)
		if !ok {
			t.Fatal("no TLS")
		}
		return string(tc.ConnectionState().PeerCertificates[0].Raw)
	}
	if shown(ms[0].Address) != shown(ms[1].Address) {
		t.Error("members show two certificates")
	}
	was := shown(ms[0].Address)
	cert, err := os.ReadFile(filepath.Join(ms[1].Dir, "server.crt"))
	ms[0].Must(err)
	key, err := os.ReadFile(filepath.Join(ms[1].Dir, "server.key"))
	ms[0].Must(err)
	wantError(t, ms[0].UpdateClusterCertificate(api.ClusterCertificatePut{ClusterCertificate: string(cert), ClusterCertificateKey: "x"}, ""), "not a pair")
	ms[0].Must(ms[0].UpdateClusterCertificate(api.ClusterCertificatePut{ClusterCertificate: string(cert), ClusterCertificateKey: string(key)}, ""))
	if now := shown(ms[0].Address); now == was || now != shown(ms[1].Address) {
		t.Error("the certificate is not the new one everywhere")
	}
}

func TestClusterCannotBeMadeWithoutAnAddress(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	put := api.ClusterPut{Cluster: api.Cluster{ServerName: "m1", Enabled: true}}
	wantError(t, s.Cluster(put), "core.https_address")
	srv, etag, err := s.GetServer()
	s.Must(err)
	w := srv.Writable()
	_, port, err := net.SplitHostPort(daemontest.FreeAddress(t))
	s.Must(err)
	w.Config["core.https_address"] = "[::]:" + port
	s.Must(s.UpdateServer(w, etag))
	wantError(t, s.Cluster(put), "wildcard")
	put.ServerName = "no spaces"
	wantError(t, s.Cluster(put), "cannot be called")
	_, err = s.GetClusterMembers()
	wantError(t, err, "not clustered")
}

func TestFailedJoinLeavesBothAsBefore(t *testing.T) {
	t.Parallel()
	a := daemontest.Cluster(t, 1)[0]
	a.Setup()
	s := daemontest.New(t)
	s.Address = daemontest.FreeAddress(t)
	s.Must(s.CreateProfile(profile("mine")))
	cert, err := os.ReadFile(filepath.Join(s.Dir, "server.crt"))
	s.Must(err)
	s.Storage.Break(func(string, string) error { return errors.New("the disk is broken") })
	wantError(t, s.Cluster(s.JoinWith(a.Token("m2"))), "the disk is broken")
	s.Storage.Break(nil)

	wantProfiles(t, s, "mine")
	if c, _, err := s.GetCluster(); err != nil || c.Enabled {
		t.Errorf("the server is %+v, %v", c, err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "cluster.crt")); !os.IsNotExist(err) {
		t.Errorf("the cluster's certificate is left: %v", err)
	}
	if now, err := os.ReadFile(filepath.Join(s.Dir, "server.crt")); err != nil || string(now) != string(cert) {
		t.Errorf("the server's certificate has changed: %v", err)
	}
	srv, _, err := s.GetServer()
	s.Must(err)
	if srv.Config["cluster.https_address"] != nil || srv.Config["core.https_address"] != nil || srv.Environment.ServerClustered {
		t.Errorf("the server shows %+v", srv.Config)
	}
	if n := len(members(t, a)); n != 1 {
		t.Errorf("the cluster has %d members", n)
	}
	wantProfiles(t, a)
	s.Must(s.CreateProfile(profile("more")))
	s.Restart()
	wantProfiles(t, s, "mine", "more")

	// Nothing is in the way of a second attempt.
	s.Join(a, "m2")
	wantProfiles(t, s)
	pools, err := s.GetStoragePoolNames()
	if err != nil || !slices.Equal(pools, []string{"pool"}) {
		t.Errorf("pools %v, %v", pools, err)
	}
	// And it leaves what it got.
	s.Must(a.DeleteClusterMember("m2", false))
	if pools, err = s.GetStoragePoolNames(); err != nil || len(pools) != 0 {
		t.Errorf("the removed member has the pools %v, %v", pools, err)
	}
}
