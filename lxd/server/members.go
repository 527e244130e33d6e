package server

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"time"

	"sett/lxd/auth"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/log"
)

const (
	// opsTime is how long a list of operations waits for other members.
	opsTime = 800 * time.Millisecond
	// configTime is how long another member has to follow a change.
	configTime = 10 * time.Second

	configPath = "/internal/server/config"
	eventsPath = "/internal/events"
)

// partRoutes are the endpoints with which members listen to and tell each other.
func (s *Service) partRoutes() []rest.Route {
	return []rest.Route{
		rest.Route{Path: configPath}.As(http.MethodPost, "Follow a change of the shared configuration", auth.Member, s.handleChanged),
		rest.Route{Path: eventsPath, EarlyOK: true, LateOK: true}.As(http.MethodGet, "Listen to the events of this member", auth.Member, s.handleMesh),
	}
}

// opsElsewhere are the operations of other members that a caller may see, by status. A
// member that does not answer is left out: what it runs cannot be known.
func (s *Service) opsElsewhere(ctx context.Context, r *rest.Request) map[string][]api.Operation {
	if r.Alone() {
		return nil
	}
	others, err := s.relay.Others(ctx)
	if err != nil {
		log.From(ctx).Warn("Could not ask other members for their operations", "err", err)
		return nil
	}
	q := url.Values{"recursion": {"1"}}
	for _, k := range []string{"project", "all-projects", historyQuery} {
		if r.HasQuery(k) {
			q.Set(k, r.Query(k))
		}
	}
	out := map[string][]api.Operation{}
	ask := relay.Request{Method: http.MethodGet, Path: "/1.0/operations?" + q.Encode(), As: r.Identity()}
	for _, a := range relay.Gather[map[string][]api.Operation](ctx, s.relay, others, opsTime, ask) {
		if a.Err != nil {
			log.From(ctx).Warn("A member does not tell its operations", "member", a.Member.Name, "err", a.Err)
		}
		for k, os := range a.Value {
			out[k] = append(out[k], os...)
		}
	}
	return out
}

// tellOthers has the other members follow a change of the shared configuration. Those
// that are away read it when they come back.
func (s *Service) tellOthers(ctx context.Context) {
	others, err := s.relay.Others(ctx)
	if err != nil {
		log.From(ctx).Warn("Could not tell other members of a new configuration", "err", err)
		return
	}
	var there []cluster.Member
	for _, m := range others {
		if s.relay.Online(m) {
			there = append(there, m)
		}
	}
	failed := s.relay.Tell(ctx, there, configTime, func(cluster.Member) relay.Request {
		return relay.Request{Method: http.MethodPost, Path: configPath}
	})
	for _, f := range failed {
		log.From(ctx).Warn("A member did not follow the new configuration", "member", f.Member.Name, "err", f.Err)
	}
}

func (s *Service) handleChanged(ctx context.Context, _ *rest.Request) (rest.Response, error) {
	return rest.Empty(), s.Reload(ctx)
}

// Reload follows what another member has changed.
func (s *Service) Reload(ctx context.Context) error {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	known := s.config != nil
	s.mu.Unlock()
	old, err := s.Config(ctx)
	if err != nil {
		return err
	}
	s.Forget()
	now, err := s.Config(ctx)
	if err != nil || !known || maps.Equal(old, now) {
		return err
	}
	for _, f := range s.followers {
		if _, err := f(ctx, old, now); err != nil {
			return err
		}
	}
	return nil
}
