package member

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/db"
	"sett/lxd/db/node"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
	"sett/shared/validate"
)

// entrance is a member of the cluster that this server wants to join, as a stranger
// sees it.
type entrance struct {
	address     string
	fingerprint string
	secret      string
	http        *http.Client
}

func (s *Service) entrance(address, fingerprint, secret string) *entrance {
	cfg := cluster.Pinned(fingerprint)
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &s.Identity.Server().TLS, nil }
	return &entrance{address, fingerprint, secret, &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}}
}

// callTime bounds what the member that lets a server in may take. It asks all others.
const callTime = 30 * time.Second

func (e *entrance) call(ctx context.Context, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+e.address+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.http.Do(req)
	if err != nil {
		return errs.Unavailable("Cannot reach the cluster at %s: %v", e.address, err)
	}
	defer resp.Body.Close()
	var a api.Response
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return errs.Unavailable("Cannot understand what %s answers: %v", e.address, err)
	}
	if a.Error != "" {
		return errs.FromStatus(a.Code, a.Error)
	}
	if out == nil {
		return nil
	}
	return a.MetadataAsStruct(out)
}

// checkJoin reads what a client asks for, and finds the way in.
func (s *Service) checkJoin(ctx context.Context, q *api.ClusterPut) (*entrance, error) {
	if s.here.Clustered() {
		return nil, errs.Invalid("This server is already clustered")
	}
	if err := checkName(q.ServerName); err != nil {
		return nil, err
	}
	t, err := api.JoinTokenDecode(q.ClusterPassword)
	if err != nil {
		return nil, errs.Invalid("Joining a cluster needs a join token as cluster_password; make one on a member with \"lxc cluster add %s\"", q.ServerName)
	}
	if t.ServerName != q.ServerName {
		return nil, errs.Invalid("The join token is for a server called %q, not %q", t.ServerName, q.ServerName)
	}
	fingerprint := t.Fingerprint
	if q.ClusterCertificate != "" {
		if fingerprint = cluster.Fingerprint(q.ClusterCertificate); fingerprint == "" {
			return nil, errs.Invalid("cluster_certificate is not a certificate in PEM form")
		}
		if fingerprint != t.Fingerprint {
			return nil, errs.Invalid("The cluster's certificate is not the one that the join token names")
		}
	}
	c, err := s.Config(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range []string{q.ServerAddress, HTTPSAddress.Get(c), c["core.https_address"]} {
		if a != "" {
			q.ServerAddress = a
			break
		}
	}
	if q.ServerAddress == "" {
		return nil, errs.Invalid("Joining a cluster needs an address (server_address) at which the other members reach this server")
	}
	if q.ServerAddress, err = validate.ListenAddress(q.ServerAddress); err != nil {
		return nil, err
	}
	if wildcard(q.ServerAddress) {
		return nil, errs.Invalid("Other members cannot call %q; give an address of this server as server_address", q.ServerAddress)
	}
	if q.ClusterAddress, err = validate.ListenAddress(q.ClusterAddress); err != nil {
		return nil, err
	}
	return s.entrance(q.ClusterAddress, fingerprint, t.Secret), s.checkEmpty(ctx)
}

// checkEmpty refuses to join with things that would be lost: the database of the
// cluster takes the place of this server's own.
func (s *Service) checkEmpty(ctx context.Context) error {
	type row struct {
		Kind string
		N    int
	}
	rows, err := db.Select[row](ctx, s.DB, stmtOwnThings)
	if err != nil {
		return err
	}
	var has []string
	for _, r := range rows {
		if r.N > 0 {
			has = append(has, fmt.Sprintf("%d %s", r.N, r.Kind))
		}
	}
	if len(has) > 0 {
		return errs.Invalid("This server has %s, which would be lost: its database is replaced by that of the cluster. Delete them before it joins", strings.Join(has, ", "))
	}
	return nil
}

// notePlan is what a joining server is about to make.
const notePlan = "plan"

// TakePlan returns what the daemon before was about to make for a cluster, once; empty
// when it was not killed then.
func TakePlan(ctx context.Context, local *node.DB) (string, error) {
	text, err := local.Note(ctx, notePlan)
	if err != nil || text == "" {
		return "", err
	}
	return text, local.SetNote(ctx, notePlan, "")
}

// created writes down that a member has all that it needs.
func (s *Service) created(ctx context.Context, id int64) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		return db.ExecOne(ctx, tx, stmtState, int64(cluster.StateCreated), id)
	})
}

// withdrawTime bounds telling the cluster that nobody comes after all.
const withdrawTime = 10 * time.Second

// join makes this server a member of a cluster.
func (s *Service) join(ctx context.Context, e *entrance, q api.ClusterPut, by *event.Requestor) error {
	s.change.Lock()
	defer s.change.Unlock()
	if s.here.Clustered() {
		return errs.Invalid("This server is already clustered")
	}
	late := context.WithoutCancel(ctx)
	var u undo.Stack
	u.OnError = s.undoFailed
	defer u.Run()

	deafen, err := s.Listen(ctx, q.ServerAddress)
	if err != nil {
		return err
	}
	u.Push(deafen)
	var in acceptReply
	err = e.call(ctx, pathAccept, acceptRequest{Name: q.ServerName, Address: q.ServerAddress, Secret: e.secret,
		Architecture: s.Architecture, Schema: s.schema, Extensions: s.Extensions}, &in)
	withdraw := func() error {
		ctx, cancel := context.WithTimeout(late, withdrawTime)
		defer cancel()
		return e.call(ctx, pathWithdraw, struct{}{}, nil)
	}
	if errs.Is(err, errs.KindUnavailable) {
		// The cluster may have let this server in, and only the answer be lost. Where it
		// has not, the server is a stranger that has nothing to withdraw.
		if werr := withdraw(); werr != nil && !errs.Is(werr, errs.KindForbidden) {
			s.undoFailed(werr)
		}
	}
	if err != nil {
		return err
	}
	u.Push(withdraw)
	me := cluster.Member{ID: in.ID, Name: q.ServerName, Address: q.ServerAddress, Schema: s.schema, Extensions: s.Extensions, Architecture: s.Architecture}
	if err := s.learn(ctx, in.Peers); err != nil {
		return err
	}
	u.Push(func() error { return s.learn(late, nil) })
	keep, back, err := s.Store.Join(ctx, node.Identity{ID: me.ID, Name: me.Name, Address: me.Address}, in.Raft)
	if err != nil {
		return err
	}
	u.Push(func() error {
		err := back(late)
		s.Changed(late)
		return err
	})
	if err := s.Identity.Adopt([]byte(in.Certificate), []byte(in.Key)); err != nil {
		return err
	}
	u.Push(func() error { return s.Identity.Adopt(nil, nil) })
	s.here.Set(me)
	u.Push(func() error { s.here.Leave(); return nil })
	s.Changed(ctx)
	plan, err := s.Resources.Plan(ctx, q.MemberConfig)
	if err != nil {
		return err
	}
	if err := s.Store.Local.SetNote(ctx, notePlan, plan); err != nil {
		return err
	}
	u.Push(func() error { return s.Store.Local.SetNote(late, notePlan, "") })
	if err := s.Resources.CreateHere(ctx, q.MemberConfig); err != nil {
		return err
	}
	u.Push(func() error { return s.Resources.DeleteHere(late) })
	// Whoever is killed from here on starts as a member, and writes itself down then: the
	// other way round the cluster would have a member that knows of nothing.
	if err := keep(ctx); err != nil {
		return err
	}
	if err := s.created(ctx, me.ID); err != nil {
		return err
	}
	u.Commit()
	if err := errors.Join(s.Store.DropOld(), s.Store.Local.SetNote(late, notePlan, "")); err != nil {
		s.Log.Warn("Could not drop the database from before joining", "err", err)
	}
	if err := s.changed(ctx); err != nil {
		s.Log.Warn("Could not learn who the members are", "err", err)
	}
	s.Bus.Lifecycle("cluster-member-added", entity.New(entity.Member, "", me.Name), by, nil)
	return nil
}
