package member

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/db/node"
	"sett/shared/errs"
)

const notePeers = "peers"

// KnownPeers is what a member knew of the others when it last ran, for the time until
// the database can be asked.
func KnownPeers(ctx context.Context, local *node.DB) ([]cluster.Peer, error) {
	text, err := local.Note(ctx, notePeers)
	if err != nil || text == "" {
		return nil, err
	}
	var ps []cluster.Peer
	return ps, json.Unmarshal([]byte(text), &ps)
}

// learn takes over who the members are. Connections to the database of those who are
// no members any more are cut.
func (s *Service) learn(ctx context.Context, peers []cluster.Peer) error {
	if slices.Equal(s.Cluster.Peers(), peers) {
		return nil
	}
	s.Cluster.SetPeers(peers)
	text := ""
	if len(peers) > 0 {
		b, err := json.Marshal(peers)
		if err != nil {
			return err
		}
		text = string(b)
	}
	return s.Store.Local.SetNote(ctx, notePeers, text)
}

// Refresh asks the database, or where it does not answer the other members, who the
// members are.
func (s *Service) Refresh(ctx context.Context) error {
	if !s.here.Clustered() {
		return nil
	}
	quick, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	peers, err := loadPeers(quick, s.DB)
	if err != nil {
		if peers, err = s.askPeers(ctx); err != nil {
			return err
		}
		return s.learn(ctx, peers)
	}
	if err := s.learn(ctx, peers); err != nil {
		return err
	}
	return s.follow(quick)
}

// follow takes over what the database has of this member: its name may be another.
func (s *Service) follow(ctx context.Context) error {
	ms, err := s.Cluster.Members(ctx)
	if err != nil {
		return err
	}
	now := s.here.Member()
	for _, m := range ms {
		if m.ID != now.ID || !s.here.Clustered() {
			continue
		}
		if m != now {
			s.here.Set(m)
		}
		if m.Name != now.Name {
			return s.Store.Local.SetIdentity(ctx, &node.Identity{ID: m.ID, Name: m.Name, Address: m.Address})
		}
		return nil
	}
	return ErrRemoved
}

// ErrRemoved is what a member finds that was removed while it was away.
var ErrRemoved = errs.Unavailable("The cluster does not know this server any more: it was removed. To use the server again, stop it, move its LXD_DIR away and start it anew")

// askPeers asks those who were known for those who are.
func (s *Service) askPeers(ctx context.Context) ([]cluster.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, cluster.NotifyTime)
	defer cancel()
	type answer struct {
		peers []cluster.Peer
		err   error
	}
	known := s.Cluster.Peers()
	answers := make(chan answer, len(known))
	asked := 0
	for _, p := range known {
		if p.Address == s.here.Address() {
			continue
		}
		asked++
		go func() {
			var a answer
			t := s.relay().To(cluster.Member{Name: p.Name, Address: p.Address})
			t.Alive = nil
			a.err = t.Call(ctx, relay.Request{Method: http.MethodGet, Path: pathPeers}, &a.peers)
			answers <- a
		}()
	}
	err := errs.Unavailable("No other member of the cluster answers")
	for range asked {
		a := <-answers
		if a.err == nil && len(a.peers) > 0 {
			return a.peers, nil
		}
		if errs.Is(a.err, errs.KindForbidden) {
			err = ErrRemoved
		}
	}
	return nil, err
}

// refresher lets strangers be the reason of a look at most once a second.
type refresher struct {
	mu   sync.Mutex
	last time.Time
}

func (r *refresher) may() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.last) < time.Second {
		return false
	}
	r.last = time.Now()
	return true
}

// Recognise finds the member that has shown a certificate. One that is not known may
// have become a member a moment ago.
func (s *Service) Recognise(ctx context.Context, fingerprint string) (cluster.Peer, bool) {
	if p, ok := s.Cluster.Recognise(fingerprint); ok {
		return p, true
	}
	if !s.here.Clustered() || !s.refresh.may() {
		return cluster.Peer{}, false
	}
	if err := s.Refresh(ctx); err != nil {
		s.Log.Debug("Could not look for a new member", "err", err)
	}
	return s.Cluster.Recognise(fingerprint)
}

func (s *Service) relay() *relay.Relay { return relay.New(s.Cluster) }

// Tell is tell for others that have changed what members remember: trusted
// certificates, the shared configuration. Alone there is nobody to be told.
func (s *Service) Tell(ctx context.Context) {
	if s.here.Clustered() {
		s.tell(ctx)
	}
}

// tell makes all other members look into the database again. Those that cannot be
// reached learn it from the next heartbeat.
func (s *Service) tell(ctx context.Context) {
	for _, e := range s.Cluster.Notify(ctx, func(ctx context.Context, m cluster.Member) error {
		return s.relay().To(m).Call(ctx, relay.Request{Method: http.MethodPost, Path: pathRefresh}, nil)
	}) {
		s.Log.Warn("Could not tell a member that the cluster has changed", "member", e.Member.Name, "err", e.Err)
	}
}

// changed is for after a change of the table of members.
func (s *Service) changed(ctx context.Context) error {
	err := s.Refresh(ctx)
	s.Changed(ctx)
	s.tell(ctx)
	s.kick()
	return err
}

// Announce writes down which version this member runs.
func (s *Service) Announce(ctx context.Context) error {
	// Mostly it is there, and a member starts where nothing can be written too.
	same, err := db.Exists(ctx, s.DB, stmtSame, s.schema, s.Extensions, s.Architecture, s.here.ID())
	if err != nil || same {
		return err
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtVersion, s.schema, s.Extensions, s.Architecture, s.here.ID())
		return err
	})
}

// Runs reports whether the daemon of a member answers.
func (s *Service) Runs(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, cluster.DialTime)
	defer cancel()
	t := s.relay().To(cluster.Member{Address: address})
	t.Alive = nil
	return t.Call(ctx, relay.Request{Method: http.MethodGet, Path: pathPeers}, nil) == nil
}

// TakePlace takes over what the database has of this member and of the others. It is
// for the start of the daemon.
func (s *Service) TakePlace(ctx context.Context) error {
	if err := s.Refresh(ctx); err != nil {
		return err
	}
	if me := s.here.Member(); me.State == cluster.StatePending {
		// Killed at the very end of joining.
		if err := s.created(ctx, me.ID); err != nil {
			return err
		}
		return s.changed(ctx)
	}
	s.kick()
	return nil
}
