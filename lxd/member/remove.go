package member

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/shared/errs"
)

// leaveTime bounds what a leaving member may take to put its pools and networks away.
const leaveTime = 2 * time.Minute

// remove takes a member out of the cluster. By force it does so without the member's
// doing, and with all that was on it: so nothing of it may run any more, as it would go
// on where nobody knows of it.
func (s *Service) remove(ctx context.Context, name string, force bool, by *event.Requestor) error {
	m, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	ms, err := s.Cluster.Members(ctx)
	if err != nil {
		return err
	}
	if len(ms) == 1 {
		return errs.Invalid("The last member cannot be removed from its cluster")
	}
	if m.ID == s.here.ID() {
		return s.removeHere(ctx, ms, force)
	}
	online := s.Cluster.Online(m)
	if force && online {
		// A while passes before one that has died counts as offline.
		online = s.Runs(ctx, m.Address)
	}
	if force && online {
		names, err := db.Select[string](ctx, s.DB, stmtInstances, m.ID)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return errs.Invalid("Cluster member %q is online and has the instances %s; move or delete them, or shut the member down to remove it with all that is on it",
				name, strings.Join(names, ", "))
		}
	}
	if !force {
		if !online {
			return errs.Unavailable("Cluster member %q is offline; bring it back, or remove it by force, with all that is on it", name)
		}
		if err := s.checkUnused(ctx, m); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, leaveTime)
		defer cancel()
		if err := s.relay().To(m).Call(ctx, relay.Request{Method: http.MethodPost, Path: pathLeave}, nil); err != nil {
			return err
		}
	}
	// The way to the member ends with what is known of it.
	to := s.relay().To(m)
	if err := s.forgetWhole(ctx, m); err != nil {
		return err
	}
	if online {
		quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := to.Call(quick, relay.Request{Method: http.MethodPost, Path: pathReset}, nil); err != nil {
			s.Log.Warn("The removed member does not answer; it cannot reach the cluster any more, but does not know why", "member", name, "err", err)
		}
	}
	s.Bus.Lifecycle("cluster-member-removed", entity.New(entity.Member, "", name), by, nil)
	return nil
}

// removeHere has another member remove this one: whoever is removed cannot write to
// the database any more.
func (s *Service) removeHere(ctx context.Context, ms []cluster.Member, force bool) error {
	path := "/1.0/cluster/members/" + url.PathEscape(s.here.Name())
	if force {
		path += "?force=1"
	}
	for _, m := range ms {
		if m.ID != s.here.ID() && m.State != cluster.StatePending && s.Cluster.Online(m) {
			return s.relay().To(m).Call(ctx, relay.Request{Method: http.MethodDelete, Path: path}, nil)
		}
	}
	return errs.Unavailable("No other member is online that could remove this one")
}

// checkUnused refuses to remove a member with things that would be lost.
func (s *Service) checkUnused(ctx context.Context, m cluster.Member) error {
	for _, x := range []struct {
		what string
		stmt db.Stmt
	}{{"instances", stmtInstances}, {"custom volumes", stmtVolumes}, {"images", stmtImages}} {
		names, err := db.Select[string](ctx, s.DB, x.stmt, m.ID)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			return errs.Invalid("Cluster member %q still has the following %s: %s", m.Name, x.what, strings.Join(names, ", "))
		}
	}
	return nil
}

// leave is what a member does before it is removed.
func (s *Service) leave(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()
	if err := s.clustered(); err != nil {
		return err
	}
	return s.Resources.DeleteHere(ctx)
}

// reset makes a member that the cluster has forgotten stand alone, with an empty
// database and nobody that it knows.
func (s *Service) reset(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()
	if err := s.clustered(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.Store.Leave(ctx); err != nil {
		return err
	}
	s.here.Leave()
	if err := s.learn(ctx, nil); err != nil {
		return err
	}
	if err := s.Identity.Adopt(nil, nil); err != nil {
		return err
	}
	s.Changed(ctx)
	s.Log.Info("This server has left the cluster and stands alone")
	// Last: the answer still goes over a connection to it.
	_, err := s.Listen(ctx, "")
	return err
}
