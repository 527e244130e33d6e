package cmd

import (
	"strings"
	"testing"

	"sett/lxd/daemontest"
	"sett/shared/api"
)

func TestInitMakesAClusterAndJoinsIt(t *testing.T) {
	t.Parallel()
	a, b, c := daemontest.New(t), daemontest.New(t), daemontest.New(t)
	for _, s := range []*daemontest.Server{a, b, c} {
		s.Address = daemontest.FreeAddress(t)
	}
	// cluster, address, joining, name, password, storage, remote storage, MAAS, interface, images, print
	want(t, a, 1, "not implemented", strings.Join([]string{"yes", a.Address, "no", "one", "no", "no", "yes"}, "\n")+"\n", "init")
	want(t, a, 0, "", strings.Join([]string{"yes", a.Address, "no", "one", "no", "no", "no", "no", "no", "", "no"}, "\n")+"\n", "init")
	want(t, a, 0, "", "cluster:\n  server_name: one\n  enabled: true\n", "init", "--preseed") // a second time

	// By the dialogue: cluster, address, joining, token, wipe, print.
	tok := a.Token("two").String()
	want(t, b, 1, "needs a join token", strings.Join([]string{"yes", b.Address, "yes", "no"}, "\n")+"\n", "init")
	want(t, b, 1, "Nothing was changed", strings.Join([]string{"yes", b.Address, "yes", tok, "no"}, "\n")+"\n", "init")
	want(t, b, 0, "", strings.Join([]string{"yes", b.Address, "yes", "yes", tok, "yes", "no"}, "\n")+"\n", "init")

	// By a file.
	tok = b.Token("three").String()
	want(t, c, 0, "is for a server called", "cluster:\n  server_name: x\n  enabled: true\n  server_address: "+c.Address+"\n  cluster_token: "+tok+"\n", "init", "--preseed")
	names, err := c.GetClusterMemberNames()
	if err != nil || strings.Join(names, " ") != "one three two" {
		t.Errorf("members %v, %v", names, err)
	}
	want(t, c, 1, "No member of the cluster answers", "cluster:\n  cluster_token: "+fakeToken+"\n", "init", "--preseed")
}

// fakeToken names a server that nobody knows and a port where nobody is.
const fakeToken = "eyJzZXJ2ZXJfbmFtZSI6ImEiLCJmaW5nZXJwcmludCI6IjAwIiwiYWRkcmVzc2VzIjpbIjEyNy4wLjAuMToxIl0sInNlY3JldCI6IngiLCJleHBpcmVzX2F0IjoiMjAzMC0wMS0wMVQwMDowMDowMFoifQ=="

func TestClusterIsMendedByHand(t *testing.T) {
	t.Parallel()
	ms := daemontest.Cluster(t, 3)
	a := ms[0]
	want(t, a, 1, "must not run", "", "cluster", "show")
	want(t, a, 0, ms[1].Address, "", "cluster", "list-database")
	want(t, a, 1, "no member at", "", "cluster", "remove-raft-node", "-q", "127.0.0.1:1")
	want(t, a, 1, "Nothing was changed", "no\n", "cluster", "remove-raft-node", "127.0.0.1:1")
	a.Must(a.RenameClusterMember("m1", api.ClusterMemberPost{ServerName: "left"}))
	for _, m := range ms {
		m.Stop()
	}
	want(t, a, 0, "role: ", "", "cluster", "show")
	want(t, a, 1, "At least one member must be a voter", "members: [{id: 1, address: 'x:1', role: spare}]", "cluster", "edit")
	want(t, a, 1, "There is no member 9", "members: [{id: 9, address: 'x:1', role: voter}]", "cluster", "edit")
	// The others are lost.
	want(t, a, 0, "", "", "cluster", "recover-from-quorum-loss", "-q")
	a.Start()
	for _, gone := range []string{"m2", "m3"} {
		a.Must(a.DeleteClusterMember(gone, true))
	}
	names, err := a.GetClusterMemberNames()
	if err != nil || strings.Join(names, " ") != "left" {
		t.Errorf("members %v, %v", names, err)
	}
}

func TestLoneServerHasNoClusterToMend(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Stop()
	want(t, s, 1, "not a member of a cluster", "", "cluster", "recover-from-quorum-loss", "-q")
}
