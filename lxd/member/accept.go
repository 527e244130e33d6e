package member

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/db"
	"sett/lxd/dqlite"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/keypair"
	"sett/shared/undo"
)

// What a joining server and the cluster say to each other:
//
//	joining server                         member whose address is in the token
//	POST accept {name, secret, ...}   ->   checks all, writes the member down as pending,
//	                                       tells the other members its certificate
//	starts its node of the database   <-   {id, shared certificate, members}
//	makes pools and networks
//	writes itself down as created
//	POST refresh to all
//
// or, when something fails in between,
//
//	POST withdraw                     ->   forgets it

type acceptRequest struct {
	Name         string `json:"name"`
	Address      string `json:"address"`
	Secret       string `json:"secret"`
	Architecture string `json:"architecture"`
	Schema       int    `json:"schema"`
	Extensions   int    `json:"api_extensions"`
}

type acceptReply struct {
	ID          int64           `json:"id"`
	Certificate string          `json:"cluster_certificate"`
	Key         string          `json:"cluster_key"`
	Peers       []cluster.Peer  `json:"peers"`
	Raft        []dqlite.Member `json:"raft"`
}

// accept lets a server in that has shown leaf.
func (s *Service) accept(ctx context.Context, q acceptRequest, leaf *x509.Certificate) (*acceptReply, error) {
	if err := s.clustered(); err != nil {
		return nil, err
	}
	if err := s.anyToken(ctx, q.Name, q.Secret, false); err != nil {
		return nil, err
	}
	if err := s.checkAccept(ctx, q); err != nil {
		return nil, err
	}
	pem := string(keypair.EncodeCert(leaf.Raw))
	if err := s.reach(ctx, q.Address, pem); err != nil {
		return nil, err
	}
	if err := s.anyToken(ctx, q.Name, q.Secret, true); err != nil {
		return nil, err
	}
	m := cluster.Member{Name: q.Name, Address: q.Address, Schema: q.Schema, Extensions: q.Extensions, Architecture: q.Architecture}
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) (err error) {
		m.ID, err = enlist(ctx, tx, m, pem)
		return err
	})
	if err != nil {
		return nil, err
	}
	var u undo.Stack
	u.OnError = s.undoFailed
	defer u.Run()
	u.Push(func() error { return s.forgetWhole(ctx, m) })
	if err := s.changed(ctx); err != nil {
		return nil, err
	}
	raft, err := s.Store.Node().Members(ctx)
	if err != nil {
		return nil, err
	}
	u.Commit()
	shared := s.Identity.Network()
	return &acceptReply{ID: m.ID, Certificate: string(shared.Cert), Key: string(shared.Key), Peers: s.Cluster.Peers(), Raft: raft}, nil
}

func (s *Service) checkAccept(ctx context.Context, q acceptRequest) error {
	if err := checkName(q.Name); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(q.Address); err != nil || wildcard(q.Address) {
		return errs.Invalid("%q is no address at which members can reach the joining server", q.Address)
	}
	if q.Architecture == "" {
		return errs.Invalid("The joining server does not say what its architecture is")
	}
	if q.Schema != s.schema {
		return errs.Invalid("The joining server's database schema is %d and that of the cluster is %d; bring both to the same version first", q.Schema, s.schema)
	}
	if q.Extensions != s.Extensions {
		return errs.Invalid("The joining server has %d API extensions and the cluster has %d; bring both to the same version first", q.Extensions, s.Extensions)
	}
	ms, err := s.Cluster.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range ms {
		if m.Name == q.Name {
			return errs.Conflict("The cluster already has a member with name: %s", q.Name)
		}
		if m.Address == q.Address {
			return errs.Conflict("The cluster already has a member with address: %s", q.Address)
		}
	}
	return nil
}

// reach makes sure that the joining server is where it says: the leader of the
// database must be able to call it.
func (s *Service) reach(ctx context.Context, address, pem string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	cfg := cluster.Pinned(cluster.Fingerprint(pem))
	cfg.ServerName = cluster.ServerName
	d := tls.Dialer{Config: cfg}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return errs.Invalid("The cluster cannot reach the joining server at %s: %v", address, err)
	}
	return c.Close()
}

// peek tells a server that has a token what it must bring.
func (s *Service) peek(ctx context.Context, q TokenRequest) ([]api.ClusterMemberConfigKey, error) {
	if err := s.clustered(); err != nil {
		return nil, err
	}
	if err := s.anyToken(ctx, q.Name, q.Secret, false); err != nil {
		return nil, err
	}
	return s.Resources.JoinConfig(ctx)
}

// forget takes a member out of the cluster: out of the database's own members, out of
// the table, and out of what all members trust.
func (s *Service) forget(ctx context.Context, m cluster.Member) error {
	if err := s.dropRaft(ctx, uint64(m.ID)); err != nil {
		return err
	}
	if err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return strike(ctx, tx, m) }); err != nil {
		return err
	}
	// It is gone. Whoever has not heard of it does so by the next heartbeat.
	if err := s.changed(ctx); err != nil {
		s.Log.Warn("Could not learn who the members are", "err", err)
	}
	return nil
}

// forgetTime bounds forgetting a member.
const forgetTime = 30 * time.Second

// forgetWhole is forget that goes on when the client who asked for it goes away: a
// member of which half is left would be in nobody's way but the next one's.
func (s *Service) forgetWhole(ctx context.Context, m cluster.Member) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTime)
	defer cancel()
	return s.forget(ctx, m)
}

// dropRaft removes a member from the database's own members, after somebody else has
// taken over what it did.
func (s *Service) dropRaft(ctx context.Context, id uint64) error {
	n := s.Store.Node()
	all, err := n.Members(ctx)
	if err != nil {
		return err
	}
	var gone, heir *dqlite.Member
	for i, m := range all {
		switch {
		case m.ID == id:
			gone = &all[i]
		case m.Role == dqlite.Voter && (heir == nil || heir.Role != dqlite.Voter || m.ID == n.ID()):
			heir = &all[i]
		case heir == nil || m.ID == n.ID() && heir.Role != dqlite.Voter:
			heir = &all[i]
		}
	}
	if gone == nil {
		return nil
	}
	if heir == nil {
		return errs.Invalid("The last member cannot be removed")
	}
	if gone.Role == dqlite.Voter && heir.Role != dqlite.Voter {
		if err := n.Assign(ctx, heir.ID, dqlite.Voter); err != nil {
			return err
		}
	}
	if l, err := n.Leader(ctx); err == nil && l.ID == id {
		if err := n.Transfer(ctx, *heir); err != nil {
			return err
		}
	}
	err = n.Remove(ctx, id)
	if err == nil {
		return nil
	}
	// A leader that changed in between has perhaps done it.
	now, lerr := n.Members(ctx)
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	for _, m := range now {
		if m.ID == id {
			return err
		}
	}
	return nil
}
