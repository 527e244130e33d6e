package server

import (
	"context"
	"strconv"
	"strings"
	"time"

	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

func (s *Service) handleOps(ctx context.Context, r *rest.Request) (rest.Response, error) {
	all, err := r.AllProjects()
	if err != nil {
		return nil, err
	}
	urls, objs := map[string][]string{}, map[string][]api.Operation{}
	for _, o := range s.ops.List() {
		if !all && o.Project() != "" && o.Project() != r.Project().Name || !canSee(r, o) {
			continue
		}
		a := o.API()
		k := strings.ToLower(a.Status)
		urls[k] = append(urls[k], o.URL())
		objs[k] = append(objs[k], a)
	}
	for k, os := range s.opsElsewhere(ctx, r) {
		objs[k] = append(objs[k], os...)
		for _, o := range os {
			urls[k] = append(urls[k], "/1.0/operations/"+o.ID)
		}
	}
	if r.Recursion() > 0 {
		return rest.Sync(objs), nil
	}
	return rest.Sync(urls), nil
}

func canSee(r *rest.Request, o *op.Operation) bool {
	if o.Project() == "" {
		return r.Caller().Admin || r.Caller().Is(o.Requestor())
	}
	return r.Caller().CanSee(o.Project())
}

// find gives an operation to those who may know of it.
func (s *Service) find(r *rest.Request) (*op.Operation, error) {
	o, err := s.ops.Get(r.Value(0))
	if err != nil {
		return nil, err
	}
	if !canSee(r, o) {
		return nil, errs.Forbidden("not authorized")
	}
	return o, nil
}

func (s *Service) handleOp(_ context.Context, r *rest.Request) (rest.Response, error) {
	o, err := s.find(r)
	if err != nil {
		return nil, err
	}
	return rest.Sync(o.API()), nil
}

func (s *Service) handleOpCancel(_ context.Context, r *rest.Request) (rest.Response, error) {
	o, err := s.find(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), o.Cancel()
}

// longestWait is the number of seconds above which a wait has no end: more would not
// fit into a time.
const longestWait = 1 << 31

// handleOpWait answers when the operation has ended or the time is up; either way
// it is not an error. A stranger who knows the operation's secret may wait too.
func (s *Service) handleOpWait(ctx context.Context, r *rest.Request) (rest.Response, error) {
	o, err := s.ops.Get(r.Value(0))
	if err != nil {
		if !r.Caller().Trusted() {
			return nil, errs.Forbidden("not authorized")
		}
		return nil, err
	}
	if secret := r.Query("secret"); secret != "" || !r.Caller().Trusted() {
		if !o.HasSecret(secret) {
			return nil, errs.Forbidden("not authorized")
		}
	} else if !canSee(r, o) {
		return nil, errs.Forbidden("not authorized")
	}
	var late <-chan time.Time
	if v := r.Query("timeout"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, errs.Invalid("Invalid timeout %q", v)
		}
		if n >= 0 && n <= longestWait {
			t := time.NewTimer(time.Duration(n) * time.Second)
			defer t.Stop()
			late = t.C
		}
	}
	select {
	case <-o.Done():
	case <-late:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return rest.Sync(o.API()), nil
}

// handleOpWebsocket needs no trust: the secret of the stream is what counts.
func (s *Service) handleOpWebsocket(_ context.Context, r *rest.Request) (rest.Response, error) {
	o, err := s.ops.Get(r.Value(0))
	if err != nil {
		return nil, err
	}
	secret := r.Query("secret")
	if secret == "" {
		return nil, errs.Invalid("Missing websocket secret")
	}
	if err := o.Connect(secret, r.Upgrade); err != nil {
		return nil, err
	}
	return rest.Upgraded(), nil
}
