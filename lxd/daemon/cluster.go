package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"sett/lxd/certificate"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db/node"
	"sett/lxd/member"
	"sett/lxd/server"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
	"sett/shared/validate"
)

// own shows this member's certificate to other members.
type own struct{ d *Daemon }

// Own implements cluster.Identity.
func (o own) Own() (*tls.Certificate, error) { return &o.d.own.identity.Server().TLS, nil }

// dialDatabase reaches the database of another member.
func (d *Daemon) dialDatabase(ctx context.Context, address string) (net.Conn, error) {
	return member.Dial(ctx, d.own.cluster, address)
}

// disown has another member drop this one from the database.
func (d *Daemon) disown(ctx context.Context, who node.Identity) error {
	err := errs.Unavailable("No other member of the cluster is known")
	for _, p := range d.own.cluster.Peers() {
		if p.Address == who.Address {
			continue
		}
		t := relay.New(d.own.cluster).To(cluster.Member{Name: p.Name, Address: p.Address})
		t.Alive = nil // nobody has been heard of yet
		ask, cancel := context.WithTimeout(ctx, disownTime)
		err = t.Call(ask, relay.Request{Method: http.MethodDelete, Path: "/internal/cluster/raft-node/" + url.PathEscape(who.Address)}, nil)
		cancel()
		if err == nil || errs.Is(err, errs.KindNotFound) {
			return nil
		}
	}
	return err
}

// disownTime bounds what one member may take to drop another one.
const disownTime = 15 * time.Second

// known takes over what the last daemon knew of this member and the others, before
// the database can be asked.
func (d *Daemon) known(ctx context.Context, local *node.DB, who *node.Identity) error {
	id, err := certificate.LoadIdentity(d.o.Dir)
	if err != nil {
		return fmt.Errorf("the server's certificate: %w", err)
	}
	d.own.identity = id
	d.own.cluster = cluster.New(cluster.Options{Here: d.here, Log: d.log, Identity: own{d}})
	if who == nil {
		return nil
	}
	peers, err := member.KnownPeers(ctx, local)
	if err != nil {
		return err
	}
	d.own.cluster.SetPeers(peers)
	d.here.Set(cluster.Member{ID: who.ID, Name: who.Name, Address: who.Address})
	return nil
}

// part is a kind of thing of which each member has its own part.
type part interface {
	JoinConfig(ctx context.Context) ([]api.ClusterMemberConfigKey, error)
	CreateHere(ctx context.Context, config []api.ClusterMemberConfigKey) error
	DeleteHere(ctx context.Context) error
	// Plan is what CreateHere is about to make. On a server that was killed meanwhile, and
	// stands alone again, Unsettle has Start remove what there is of it.
	Plan(ctx context.Context, config []api.ClusterMemberConfigKey) (json.RawMessage, error)
	Unsettle(ctx context.Context, plan json.RawMessage) error
}

// resources implements member.Resources over all parts.
type resources []part

func (d *Daemon) resources() resources {
	var out resources
	for _, s := range []any{d.own.storage, d.own.networks} {
		if p, ok := s.(part); ok {
			out = append(out, p)
		}
	}
	return out
}

func (rs resources) JoinConfig(ctx context.Context) ([]api.ClusterMemberConfigKey, error) {
	out := []api.ClusterMemberConfigKey{}
	for _, r := range rs {
		keys, err := r.JoinConfig(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, keys...)
	}
	return out, nil
}

func (rs resources) CreateHere(ctx context.Context, config []api.ClusterMemberConfigKey) error {
	var u undo.Stack
	defer u.Run()
	for _, r := range rs {
		if err := r.CreateHere(ctx, config); err != nil {
			return err
		}
		u.Push(func() error { return r.DeleteHere(context.WithoutCancel(ctx)) })
	}
	u.Commit()
	return nil
}

// Plan implements member.Resources: a plan for each part, in their order.
func (rs resources) Plan(ctx context.Context, config []api.ClusterMemberConfigKey) (string, error) {
	plans := make([]json.RawMessage, len(rs))
	for i, r := range rs {
		var err error
		if plans[i], err = r.Plan(ctx, config); err != nil {
			return "", err
		}
	}
	b, err := json.Marshal(plans)
	return string(b), err
}

// unsettle takes up what a daemon that was killed while it joined was about to make.
func (d *Daemon) unsettle(ctx context.Context) error {
	text, err := member.TakePlan(ctx, d.st.Local)
	if err != nil || text == "" || d.here.Clustered() {
		return err
	}
	var plans []json.RawMessage
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		return fmt.Errorf("read what was about to be made for a cluster: %w", err)
	}
	for i, r := range d.resources() {
		if i < len(plans) {
			if err := r.Unsettle(ctx, plans[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (rs resources) DeleteHere(ctx context.Context) error {
	var all []error
	for i := len(rs) - 1; i >= 0; i-- {
		all = append(all, rs[i].DeleteHere(ctx))
	}
	return errors.Join(all...)
}

// forget drops what is remembered of a database that is another one now, or that
// another member has changed.
func (d *Daemon) forget(ctx context.Context) {
	d.own.server.Forget()
	if err := d.own.certificates.Trust().Refresh(ctx); err != nil {
		d.log.Warn("Could not read the trusted certificates", "err", err)
	}
}

// Members have a listener of their own where the one for clients is not at their
// address.

// arrange listens for clients at one address and for members at another one, or with
// one listener where that will do.
func (d *Daemon) arrange(ctx context.Context, clients, members string) error {
	if members == "" || covers(clients, members) {
		if err := d.peers.Move(ctx, ""); err != nil {
			return err
		}
		return d.https.Move(ctx, clients)
	}
	if err := d.https.Move(ctx, clients); err != nil {
		return err
	}
	return d.peers.Move(ctx, members)
}

// covers reports whether a listener at one address hears what is sent to another.
func covers(listener, address string) bool {
	l, err := validate.ListenAddress(listener)
	if err != nil || listener == "" {
		return false
	}
	a, err := validate.ListenAddress(address)
	if err != nil {
		return false
	}
	if l == a {
		return true
	}
	lh, lp, err := net.SplitHostPort(l)
	if err != nil {
		return false
	}
	ah, ap, err := net.SplitHostPort(a)
	if err != nil || lp != ap {
		return false
	}
	ip := net.ParseIP(lh)
	if lh != "" && (ip == nil || !ip.IsUnspecified()) {
		return false
	}
	to := net.ParseIP(ah)
	return lh == "" || ip.To4() == nil || to != nil && to.To4() != nil
}

// listenMembers implements member.Deps.Listen. A server that was not on the network
// before is there for clients too, at the same address, and goes on to be when it is a
// member no more.
func (d *Daemon) listenMembers(ctx context.Context, address string) (undo func() error, err error) {
	c, err := d.st.Local.Config(ctx)
	if err != nil {
		return nil, err
	}
	before := map[string]string{member.HTTPSAddress.Name(): member.HTTPSAddress.Get(c), server.HTTPSAddress.Name(): server.HTTPSAddress.Get(c)}
	was := server.HTTPSAddress.Get(c)
	clients := cmp.Or(was, address)
	store := func(ctx context.Context, keys map[string]string) error {
		err := d.st.Local.SetConfig(ctx, keys)
		d.own.server.Forget()
		return err
	}
	if err := d.arrange(ctx, clients, address); err != nil {
		return nil, err
	}
	if err := store(ctx, map[string]string{member.HTTPSAddress.Name(): address, server.HTTPSAddress.Name(): clients}); err != nil {
		return nil, errors.Join(err, d.arrange(ctx, was, ""))
	}
	return func() error {
		ctx := context.WithoutCancel(ctx)
		return errors.Join(store(ctx, before), d.arrange(ctx, was, ""))
	}, nil
}

// membersAddress is where members call this one, in a configuration; empty on a
// server that stands alone.
func (d *Daemon) membersAddress(c map[string]string) string {
	if !d.here.Clustered() {
		return ""
	}
	if a := member.HTTPSAddress.Get(c); a != "" {
		return a
	}
	return d.here.Address()
}

// waiting is for what a start waits.
type waiting struct {
	text string
	vain bool // nothing will come of it
}

// databaseWait is how long a request waits with a daemon that waits for other members.
const databaseWait = 10 * time.Second

// waitDatabase waits until the database serves, which on a member of a cluster needs
// others. It gives up when the daemon ends.
func (d *Daemon) waitDatabase() bool {
	if !d.here.Clustered() {
		return true
	}
	var told time.Time
	for patience := time.Second; ; patience = 5 * time.Second {
		ctx, cancel := context.WithTimeout(d.ctx, patience)
		err := d.st.Ready(ctx)
		cancel()
		if err == nil {
			break
		}
		if d.ctx.Err() != nil {
			return false
		}
		// The others may have changed while this one was away.
		if rerr := d.own.members.Refresh(d.ctx); rerr != nil {
			err = errs.Unavailable("%w; %w", err, rerr)
		}
		d.waiting.Store(&waiting{text: err.Error(), vain: errors.Is(err, member.ErrRemoved)})
		if time.Since(told) > 30*time.Second {
			d.log.Warn("Waiting for the database of the cluster", "err", err)
			told = time.Now()
		}
		select {
		case <-d.ctx.Done():
			return false
		case <-time.After(500 * time.Millisecond):
		}
	}
	d.waiting.Store(nil)
	if err := d.own.members.TakePlace(d.ctx); err != nil {
		d.log.Warn("Could not take this member's place in the cluster", "err", err)
	}
	d.forget(d.ctx)
	return true
}
