package member

import (
	"context"
	"slices"

	"sett/lxd/cluster"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

func (s *Service) cluster(ctx context.Context) (api.Cluster, error) {
	c := api.Cluster{Enabled: s.here.Clustered(), MemberConfig: []api.ClusterMemberConfigKey{}}
	if c.Enabled {
		c.ServerName = s.here.Name()
	}
	keys, err := s.Resources.JoinConfig(ctx)
	if err != nil {
		return c, err
	}
	c.MemberConfig = append(c.MemberConfig, keys...)
	return c, nil
}

func (s *Service) getCluster(ctx context.Context, _ *rest.Request) (rest.Response, error) {
	c, err := s.cluster(ctx)
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(c, c), nil
}

func (s *Service) putCluster(ctx context.Context, r *rest.Request) (rest.Response, error) {
	q, err := rest.Decode[api.ClusterPut](r)
	if err != nil {
		return nil, err
	}
	c, err := s.cluster(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.CheckETag(c); err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	spec := op.Spec{Requestor: by, Fixed: true, MoreResources: map[string][]string{"cluster": {}}}
	switch {
	case !q.Enabled:
		if c.Enabled {
			return nil, errs.Invalid("A member leaves its cluster with \"lxc cluster remove %s\" on any member", s.here.Name())
		}
		return nil, errs.Invalid("This server is not clustered")
	case q.ServerName == "":
		return nil, errs.Invalid("ServerName is required when enabling clustering")
	case q.ClusterAddress == "":
		address, err := s.checkEnable(ctx, q.ServerName)
		if err != nil {
			return nil, err
		}
		spec.Description = "Creating bootstrap node"
		spec.Run = func(ctx context.Context, _ *op.Operation) error { return s.enable(ctx, q.ServerName, address, by) }
	default:
		e, err := s.checkJoin(ctx, &q)
		if err != nil {
			return nil, err
		}
		spec.Description = "Joining cluster"
		spec.Run = func(ctx context.Context, _ *op.Operation) error { return s.join(ctx, e, q, by) }
	}
	o, err := s.Ops.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return rest.Async(o.URL(), o.API()), nil
}

func (s *Service) putCertificate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	q, err := rest.Decode[api.ClusterCertificatePut](r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.setCertificate(ctx, q, r.Caller().Requestor())
}

func (s *Service) listMembers(ctx context.Context, r *rest.Request) (rest.Response, error) {
	ms, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	if r.Recursion() > 0 {
		return rest.Sync(ms), nil
	}
	names := make([]string, len(ms))
	for i, m := range ms {
		names[i] = m.ServerName
	}
	return rest.Sync(rest.URLs(r.Path(), "", names)), nil
}

func (s *Service) postMembers(ctx context.Context, r *rest.Request) (rest.Response, error) {
	q, err := rest.Decode[api.ClusterMembersPost](r)
	if err != nil {
		return nil, err
	}
	o, err := s.token(ctx, q.ServerName, r.Caller().Requestor())
	if err != nil {
		return nil, err
	}
	return rest.Async(o.URL(), o.API()), nil
}

func (s *Service) getMember(ctx context.Context, r *rest.Request) (rest.Response, error) {
	m, _, err := s.one(ctx, r.Name())
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(m, m.ClusterMemberPut), nil
}

func (s *Service) putMember(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.changeMember(ctx, r, func(api.ClusterMemberPut) (api.ClusterMemberPut, error) { return rest.Decode[api.ClusterMemberPut](r) })
}

func (s *Service) patchMember(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return s.changeMember(ctx, r, func(now api.ClusterMemberPut) (api.ClusterMemberPut, error) {
		err := rest.DecodeOnto(r, &now)
		return now, err
	})
}

func (s *Service) changeMember(ctx context.Context, r *rest.Request, body func(now api.ClusterMemberPut) (api.ClusterMemberPut, error)) (rest.Response, error) {
	s.given.Lock()
	defer s.given.Unlock()
	now, m, err := s.one(ctx, r.Name())
	if err != nil {
		return nil, err
	}
	if err := r.CheckETag(now.ClusterMemberPut); err != nil {
		return nil, err
	}
	was := slices.Clone(now.Roles)
	put, err := body(now.ClusterMemberPut)
	if err != nil {
		return nil, err
	}
	now.Roles = was
	return rest.Empty(), s.update(ctx, m, now.ClusterMemberPut, put, r.Caller().Requestor())
}

func (s *Service) postMember(ctx context.Context, r *rest.Request) (rest.Response, error) {
	q, err := rest.Decode[api.ClusterMemberPost](r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.rename(ctx, r.Name(), q.ServerName, r.Caller().Requestor())
}

func (s *Service) deleteMember(ctx context.Context, r *rest.Request) (rest.Response, error) {
	force := r.Query("force") == "1" || r.Query("force") == "true"
	return rest.Empty(), s.remove(ctx, r.Name(), force, r.Caller().Requestor())
}

func (s *Service) listGroups(_ context.Context, r *rest.Request) (rest.Response, error) {
	if err := s.clustered(); err != nil {
		return nil, err
	}
	if r.Recursion() > 0 {
		return nil, errs.NotImplemented("Groups of cluster members are not implemented in this version")
	}
	return rest.Sync(rest.URLs(r.Path(), "", []string{"default"})), nil
}

// unbuilt refuses by name.
func unbuilt(what string) rest.Handler {
	return func(context.Context, *rest.Request) (rest.Response, error) {
		return nil, errs.NotImplemented("%s: not implemented in this version", what)
	}
}

// What members ask of each other.

func (s *Service) postAccept(ctx context.Context, r *rest.Request) (rest.Response, error) {
	hr := r.HTTP()
	if hr.TLS == nil || len(hr.TLS.PeerCertificates) == 0 {
		return nil, errs.Forbidden("A joining server shows its certificate")
	}
	q, err := rest.Decode[acceptRequest](r)
	if err != nil {
		return nil, err
	}
	reply, err := s.accept(ctx, q, hr.TLS.PeerCertificates[0])
	if err != nil {
		return nil, err
	}
	return rest.Sync(reply), nil
}

func (s *Service) postPeek(ctx context.Context, r *rest.Request) (rest.Response, error) {
	q, err := rest.Decode[TokenRequest](r)
	if err != nil {
		return nil, err
	}
	keys, err := s.peek(ctx, q)
	if err != nil {
		return nil, err
	}
	return rest.Sync(keys), nil
}

// deleteRaftNode is for administrators who mend what a broken removal has left.
func (s *Service) deleteRaftNode(ctx context.Context, r *rest.Request) (rest.Response, error) {
	if err := s.clustered(); err != nil {
		return nil, err
	}
	all, err := s.Store.Node().Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.Address == r.Name() {
			return rest.Empty(), s.dropRaft(ctx, m.ID)
		}
	}
	return nil, errs.NotFound("The database has no member at %s", r.Name())
}

func (s *Service) postWithdraw(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name := r.Caller().Username
	m, err := s.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if m.State != cluster.StatePending {
		return nil, errs.Invalid("Cluster member %q has joined; remove it instead", name)
	}
	return rest.Empty(), s.forgetWhole(ctx, m)
}

func (s *Service) getPeers(ctx context.Context, _ *rest.Request) (rest.Response, error) {
	return rest.Sync(s.Cluster.Peers()), nil
}

func (s *Service) postRefresh(ctx context.Context, _ *rest.Request) (rest.Response, error) {
	err := s.Refresh(ctx)
	s.Changed(ctx)
	s.kick()
	return rest.Empty(), err
}

func (s *Service) postHeartbeat(ctx context.Context, r *rest.Request) (rest.Response, error) {
	h, err := rest.Decode[heartbeat](r)
	if err != nil {
		return nil, err
	}
	if err := s.hear(ctx, h); err != nil {
		return nil, err
	}
	return rest.Sync(s.room()), nil
}

func (s *Service) getRoom(_ context.Context, _ *rest.Request) (rest.Response, error) {
	return rest.Sync(s.room()), nil
}

func (s *Service) postToken(_ context.Context, r *rest.Request) (rest.Response, error) {
	q, err := rest.Decode[TokenRequest](r)
	if err != nil {
		return nil, err
	}
	if !s.checkToken(q.Name, q.Secret, q.Use) {
		return nil, errs.NotFound("This member has no such token")
	}
	return rest.Empty(), nil
}

func (s *Service) postLeave(ctx context.Context, _ *rest.Request) (rest.Response, error) {
	return rest.Empty(), s.leave(ctx)
}

func (s *Service) postReset(ctx context.Context, _ *rest.Request) (rest.Response, error) {
	return rest.Empty(), s.reset(ctx)
}

func (s *Service) putShared(_ context.Context, r *rest.Request) (rest.Response, error) {
	q, err := rest.Decode[api.ClusterCertificatePut](r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.Identity.Adopt([]byte(q.ClusterCertificate), []byte(q.ClusterCertificateKey))
}
