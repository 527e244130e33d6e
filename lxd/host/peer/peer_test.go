package peer_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"sett/lxd/host/peer"
)

func TestPeerIsWhoConnected(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := peer.Of(s.(*net.UnixConn))
	if err != nil {
		t.Fatal(err)
	}
	own, err := peer.NamespaceOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != os.Getpid() || int(p.UID) != os.Getuid() || len(p.Namespaces) != 1 || p.Namespaces[0] != own {
		t.Errorf("%+v, want process %d in %v", p, os.Getpid(), own)
	}
}
