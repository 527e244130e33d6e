package daemontest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"

	"sett/lxd/daemon"
	"sett/shared/api"
)

// Cluster starts n daemons, each in a folder of its own and with fakes of its own,
// and makes them a cluster whose members are called m1, m2 and so on. They talk TLS
// over loopback.
func Cluster(t testing.TB, n int, options ...func(*daemon.Options)) []*Server {
	t.Helper()
	var all []*Server
	for i := range n {
		s := New(t, options...)
		s.Address = FreeAddress(t)
		if i == 0 {
			s.Enable("m1")
		} else {
			s.Join(all[0], fmt.Sprintf("m%d", i+1))
		}
		all = append(all, s)
	}
	return all
}

// FreeAddress is an address on loopback that nobody listens on. Its port is none of
// those that the kernel picks by itself: by the time that the address is used, or used
// again after a restart, such a port could be somebody else's.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
}

// Enable makes s the first member of a cluster.
func (s *Server) Enable(name string) {
	s.t.Helper()
	srv, etag, err := s.GetServer()
	s.Must(err)
	put := srv.Writable()
	put.Config["core.https_address"] = s.Address
	s.Must(s.UpdateServer(put, etag))
	s.Must(s.Cluster(api.ClusterPut{Cluster: api.Cluster{ServerName: name, Enabled: true}}))
}

// Cluster asks s to make or join a cluster, and waits.
func (s *Server) Cluster(put api.ClusterPut) error {
	op, err := s.UpdateCluster(put, "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return op.WaitContext(ctx)
}

// Token makes a join token on s.
func (s *Server) Token(name string) *api.ClusterMemberJoinToken {
	s.t.Helper()
	op, err := s.CreateClusterMember(api.ClusterMembersPost{ServerName: name})
	s.Must(err)
	o := op.Get()
	tok, err := o.ToClusterJoinToken()
	s.Must(err)
	return tok
}

// JoinWith is what clients send to join a cluster with a token.
func (s *Server) JoinWith(tok *api.ClusterMemberJoinToken) api.ClusterPut {
	return api.ClusterPut{Cluster: api.Cluster{ServerName: tok.ServerName, Enabled: true},
		ClusterAddress: tok.Addresses[0], ServerAddress: s.Address, ClusterPassword: tok.String()}
}

// Join makes s a member of the cluster of another one.
func (s *Server) Join(other *Server, name string) {
	s.t.Helper()
	s.Must(s.Cluster(s.JoinWith(other.Token(name))))
}
