package member

import (
	"context"

	"sett/lxd/certificate"
	"sett/lxd/cluster"
	"sett/lxd/db"
	"sett/lxd/db/node"
	"sett/lxd/dqlite"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/shared/errs"
	"sett/shared/undo"
	"sett/shared/validate"
)

// checkEnable refuses what cannot become the first member of a cluster, and returns
// the address that it will have.
func (s *Service) checkEnable(ctx context.Context, name string) (address string, err error) {
	if s.here.Clustered() {
		return "", errs.Invalid("This server is already clustered")
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	c, err := s.Config(ctx)
	if err != nil {
		return "", err
	}
	address = HTTPSAddress.Get(c)
	if address == "" {
		address = c["core.https_address"]
	}
	if address == "" {
		return "", errs.Invalid("Other members could not reach this server; set cluster.https_address or core.https_address to one of its addresses first")
	}
	if address, err = validate.ListenAddress(address); err != nil {
		return "", err
	}
	if wildcard(address) {
		return "", errs.Invalid("Cannot use the wildcard core.https_address %q as cluster.https_address; set cluster.https_address or core.https_address to one address of this server", address)
	}
	return address, nil
}

// enable makes this server the first member of a new cluster.
func (s *Service) enable(ctx context.Context, name, address string, by *event.Requestor) error {
	s.change.Lock()
	defer s.change.Unlock()
	if s.here.Clustered() {
		return errs.Invalid("This server is already clustered")
	}
	late := context.WithoutCancel(ctx)
	var u undo.Stack
	u.OnError = s.undoFailed
	defer u.Run()

	me := cluster.Member{ID: dqlite.AloneID, Name: name, Address: address, Schema: s.schema, Extensions: s.Extensions, Architecture: s.Architecture}
	unshare, err := s.Identity.Share()
	if err != nil {
		return err
	}
	u.Push(unshare)
	pem := string(s.Identity.Server().Cert)
	if err := s.first(ctx, me, pem); err != nil {
		return err
	}
	u.Push(func() error {
		return s.first(late, cluster.Member{ID: me.ID, Name: cluster.AloneName, Address: "0.0.0.0", Schema: 1}, "")
	})
	deafen, err := s.Listen(ctx, address)
	if err != nil {
		return err
	}
	u.Push(deafen)
	if err := s.learn(ctx, []cluster.Peer{{Name: name, Address: address, Certificate: pem}}); err != nil {
		return err
	}
	u.Push(func() error { return s.learn(late, nil) })
	back, err := s.Store.Enable(ctx, node.Identity{ID: me.ID, Name: name, Address: address})
	if err != nil {
		return err
	}
	u.Push(func() error { return back(late) })
	s.here.Set(me)
	u.Commit()
	s.Changed(ctx)
	s.kick()
	s.Bus.Lifecycle("cluster-enabled", entity.New(entity.Member, "", name), by, nil)
	return nil
}

// first writes the one row that a lone server has in nodes. pem is the certificate
// of its own; without one, nobody is trusted as a member.
func (s *Service) first(ctx context.Context, m cluster.Member, pem string) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.ExecOne(ctx, tx, stmtFirst, m.Name, m.Address, m.Schema, m.Extensions, m.Architecture, m.ID); err != nil {
			return err
		}
		// What an attempt left behind that was killed would be taken for a member's.
		if err := certificate.DeleteServers(ctx, tx); err != nil || pem == "" {
			return err
		}
		return certificate.CreateServer(ctx, tx, m.Name, pem)
	})
}

func (s *Service) undoFailed(err error) {
	s.Log.Error("Could not take back a step of a change of the cluster", "err", err)
}
