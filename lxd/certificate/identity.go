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
	server  atomic.Pointer[keypair.Pair]
	cluster atomic.Pointer[keypair.Pair]
}

// LoadIdentity reads the certificates in LXD_DIR and makes the server's own at the
// first start.
func LoadIdentity(dir string) (*Identity, error) {
	server, _, err := keypair.Ensure(dir, ServerFile, keypair.NewServer)
	if err != nil {
		return nil, err
	}
	i := &Identity{dir: dir}
	i.server.Store(server)
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

// Server is this member's own pair. It changes when the server makes a cluster.
func (i *Identity) Server() *keypair.Pair { return i.server.Load() }

// Network is the pair that clients see.
func (i *Identity) Network() *keypair.Pair {
	if p := i.cluster.Load(); p != nil {
		return p
	}
	return i.Server()
}

// Share makes what clients know of this server the certificate of a new cluster, and
// gives the server another one of its own: the key of the first one will be in the
// hands of all members, and nobody but this one may pass for it. undo takes it back.
func (i *Identity) Share() (undo func() error, err error) {
	old := i.Network()
	own, err := keypair.NewServer()
	if err != nil {
		return nil, err
	}
	back := func() error {
		i.server.Store(old)
		return errors.Join(old.Save(i.dir, ServerFile), i.Adopt(nil, nil))
	}
	if err := i.Adopt(old.Cert, old.Key); err != nil {
		return nil, errors.Join(err, back())
	}
	if err := own.Save(i.dir, ServerFile); err != nil {
		return nil, errors.Join(err, back())
	}
	i.server.Store(own)
	return back, nil
}

// Adopt writes the certificate and key that a cluster shares, in PEM; without any it
// removes them.
func (i *Identity) Adopt(cert, key []byte) error {
	if cert == nil {
		return errors.Join(keypair.Remove(i.dir, ClusterFile), i.Reload())
	}
	p, err := keypair.Parse(cert, key)
	if err != nil {
		return err
	}
	if err := p.Save(i.dir, ClusterFile); err != nil {
		return err
	}
	return i.Reload()
}
