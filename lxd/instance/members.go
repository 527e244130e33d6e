package instance

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"sett/lxd/auth"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/profile"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
)

// What an instance is, the database knows; what it does now, only its own member does.
// Lists ask all members for that, at once and for a short time: one that does not
// answer costs a list no more than that, and its instances are shown in error.

// stateTime is how long a list waits for other members.
const stateTime = 800 * time.Millisecond

// local reports whether an instance is on this member.
func (s *Service) local(i *Instance) bool {
	return !s.Here.Clustered() || i.Location == s.Here.Name()
}

// mustBeHere refuses to work on an instance of another member. The chain sends requests
// to where instances are; whatever slips through must not start one a second time.
func (s *Service) mustBeHere(i *Instance) error {
	if s.local(i) {
		return nil
	}
	return errs.Unavailable("Instance %q is on cluster member %q, not on %q", i.Name, i.Location, s.Here.Name())
}

// seen is what is known of the states of instances on all members.
type seen struct {
	s *Service
	// By id. One that its member does not tell of is stopped.
	states map[int64]*api.InstanceState
	silent map[string]bool // members that did not answer
}

// look asks the members of instances for their states: the short ones, or with all that
// the instances use.
func (s *Service) look(ctx context.Context, is []*Instance, full bool) *seen {
	l := &seen{s: s, states: map[int64]*api.InstanceState{}, silent: map[string]bool{}}
	others := map[string]bool{}
	for _, i := range is {
		if !s.local(i) {
			others[i.Location] = true
		}
	}
	if len(others) == 0 {
		return l
	}
	for name := range others {
		l.silent[name] = true
	}
	all, err := s.Relay.Others(ctx)
	if err != nil {
		log.From(ctx).Warn("Could not ask other members for their instances", "err", err)
		return l
	}
	var ask []cluster.Member
	for _, m := range all {
		if others[m.Name] && s.Relay.Online(m) {
			ask = append(ask, m)
		}
	}
	q := relay.Request{Method: http.MethodGet, Path: statesPath + "?full=" + strconv.FormatBool(full)}
	for _, a := range relay.Gather[map[int64]*api.InstanceState](ctx, s.Relay, ask, stateTime, q) {
		if a.Err != nil {
			log.From(ctx).Warn("A member does not tell what its instances do", "member", a.Member.Name, "err", a.Err)
			continue
		}
		delete(l.silent, a.Member.Name)
		for id, st := range a.Value {
			l.states[id] = st
		}
	}
	return l
}

// code is the state of an instance, wherever it is.
func (l *seen) code(i *Instance) api.StatusCode {
	if l.s.local(i) {
		return l.s.code(i)
	}
	st := l.state(i).StatusCode
	if st == api.Running && i.IsReady() {
		return api.Ready
	}
	return st
}

// state is what another member says of an instance.
func (l *seen) state(i *Instance) *api.InstanceState {
	code := api.Stopped
	switch st := l.states[i.ID]; {
	case st != nil:
		return st
	case l.silent[i.Location]:
		code = api.Error
	}
	return &api.InstanceState{Status: code.String(), StatusCode: code, Disk: map[string]api.InstanceStateDisk{}}
}

const (
	statesPath  = "/internal/instances/states"
	profilePath = "/internal/instances/profile"
)

// partRoutes are the endpoints with which members ask and tell each other.
func (s *Service) partRoutes() []rest.Route {
	return []rest.Route{
		rest.Route{Path: statesPath}.As(http.MethodGet, "Tell what the instances of this member do", auth.Member, s.handleStates),
		rest.Route{Path: profilePath}.As(http.MethodPost, "Have the instances of this member follow a profile", auth.Member, s.handleProfile,
			func(r *rest.Route) { r.Body.Type = profilePart{} }),
		rest.Route{Path: arrivalPath}.As(http.MethodPost, "Take an instance that another member sends", auth.Member, s.handleArrival,
			func(r *rest.Route) { r.Body.Stream = true }),
	}
}

func (s *Service) handleStates(ctx context.Context, r *rest.Request) (rest.Response, error) {
	out := map[int64]*api.InstanceState{}
	if r.Query("full") != "true" {
		s.mu.Lock()
		live := make(map[int64]*live, len(s.live))
		for id, l := range s.live {
			live[id] = l
		}
		s.mu.Unlock()
		for id, l := range live {
			if st, _ := l.get(); st != Stopped {
				out[id] = &api.InstanceState{Status: st.String(), StatusCode: st.Code()}
			}
		}
		return rest.Sync(out), nil
	}
	is, err := s.mine(ctx)
	if err != nil {
		return nil, err
	}
	states, err := s.states(ctx, is)
	if err != nil {
		return nil, err
	}
	for n, i := range is {
		out[i.ID] = states[n]
	}
	return rest.Sync(out), nil
}

// profilePart is a change of a profile that running instances are to follow.
type profilePart struct {
	Old profile.Profile `json:"old"`
}

func (s *Service) handleProfile(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b, err := rest.Decode[profilePart](r)
	if err != nil {
		return nil, err
	}
	users, err := s.usersOf(ctx, b.Old.ID)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.followHere(ctx, users, b.Old)
}

// followElsewhere has the instances of other members follow a change of a profile.
// Members that are away have theirs follow when they start again.
func (s *Service) followElsewhere(ctx context.Context, users []*Instance, old profile.Profile) error {
	names := map[string]bool{}
	for _, i := range users {
		if !s.local(i) {
			names[i.Location] = true
		}
	}
	if len(names) == 0 {
		return nil
	}
	others, err := s.Relay.Others(ctx)
	if err != nil {
		return err
	}
	var tell []cluster.Member
	for _, m := range others {
		if names[m.Name] && s.Relay.Online(m) {
			tell = append(tell, m)
		}
	}
	return relay.Join(s.Relay.Tell(ctx, tell, profileTime, func(cluster.Member) relay.Request {
		return relay.Request{Method: http.MethodPost, Path: profilePath, Body: profilePart{Old: old}}
	}))
}

// actElsewhere has other members change the state of all their instances of a project,
// on behalf of who asked for it, and waits until they have done so. It returns what
// went wrong by member.
func (s *Service) actElsewhere(ctx context.Context, as *relay.Identity, project string, b api.InstancesPut) []cluster.MemberError {
	others, err := s.Relay.Others(ctx)
	if err != nil {
		return []cluster.MemberError{{Member: s.Here.Member(), Err: err}}
	}
	failed := make([]error, len(others))
	var wg sync.WaitGroup
	for n, m := range others {
		if !s.Relay.Online(m) {
			failed[n] = errs.Unavailable("It is offline")
			continue
		}
		wg.Go(func() { failed[n] = s.actOn(ctx, s.Relay.To(m), as, project, b) })
	}
	wg.Wait()
	var out []cluster.MemberError
	for n, err := range failed {
		if err != nil {
			out = append(out, cluster.MemberError{Member: others[n], Err: err})
		}
	}
	return out
}

func (s *Service) actOn(ctx context.Context, to relay.Target, as *relay.Identity, project string, b api.InstancesPut) error {
	var o api.Operation
	q := relay.Request{Method: http.MethodPut, Path: "/1.0/instances?project=" + url.QueryEscape(project), Body: b, As: as}
	if err := to.Call(ctx, q, &o); err != nil {
		return err
	}
	id := "/1.0/operations/" + o.ID
	q = relay.Request{Method: http.MethodGet, Path: id + "/wait", As: as}
	if err := to.Call(ctx, q, &o); err != nil {
		if ctx.Err() != nil { // it was cancelled, and what it began there goes with it
			late, cancel := s.cleanup()
			defer cancel()
			err = errors.Join(err, to.Call(late, relay.Request{Method: http.MethodDelete, Path: id, As: as}, nil))
		}
		return err
	}
	if o.StatusCode != api.Success {
		return errs.Internal("%s", o.Err)
	}
	return nil
}

// elsewhere reports whether a project has instances on other members.
func (s *Service) elsewhere(ctx context.Context, project string) (bool, error) {
	if !s.Here.Clustered() {
		return false, nil
	}
	var w db.Where
	rows, err := db.SelectWhere[nameRow](ctx, s.DB, stmtNames, w.Eq("projects.name", project).Is("i.node_id <> ?", s.Here.ID()), "LIMIT 1")
	return len(rows) > 0, err
}
