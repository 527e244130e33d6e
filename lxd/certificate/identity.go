package certificate

import (
	"errors"
	"io/fs"
	"sync/atomic"

	"sett/shared/keypair"
)

// The files of key pairs below LXD_DIR, without their endings.
const (
	ServerFile  = "server"
	ClusterFile = "cluster"
)

// Identity is what the server shows of itself: its own certificate, server.crt, to
// other members, and the one that a cluster shares, cluster.crt, to everybody else.
// Alone, the first is shown to all.
type Identity struct {
	dir     string
	server  *keypair.Pair
	cluster atomic.Pointer[keypair.Pair]
}

// LoadIdentity reads the certificates in LXD_DIR and makes the server's own at the
// first start.
func LoadIdentity(dir string) (*Identity, error) {
	server, _, err := keypair.Ensure(dir, ServerFile, keypair.NewServer)
	if err != nil {
		return nil, err
	}
	i := &Identity{dir: dir, server: server}
	return i, i.Reload()
}

// Reload reads cluster.crt and cluster.key again, after they were written or
// removed. Listeners show the new certificate from the next connection on.
func (i *Identity) Reload() error {
	p, err := keypair.Load(i.dir, ClusterFile)
	if errors.Is(err, fs.ErrNotExist) {
		p, err = nil, nil
	}
	if err != nil {
		return err
	}
	i.cluster.Store(p)
	return nil
}

// Server is this member's own pair; it never changes.
func (i *Identity) Server() *keypair.Pair { return i.server }

// Network is the pair that clients see.
func (i *Identity) Network() *keypair.Pair {
	if p := i.cluster.Load(); p != nil {
		return p
	}
	return i.server
}
