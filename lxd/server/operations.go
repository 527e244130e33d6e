package server

import (
	"context"
	"strconv"
	"strings"
	"time"

	"sett/lxd/entity"
	"sett/lxd/event"
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
	known := map[string]bool{}
	add := func(project string, a api.Operation) {
		known[a.ID] = true
		if !all && project != "" && project != r.Project().Name || !canSee(r, project, a.Requestor) {
			return
		}
		k := strings.ToLower(a.Status)
		urls[k] = append(urls[k], "/1.0/operations/"+a.ID)
		objs[k] = append(objs[k], a)
	}
	for _, o := range s.ops.List() {
		add(o.Project(), o.API())
	}
	if withHistory(r) && s.history != nil {
		was, err := s.history.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, e := range was {
			if !known[e.ID] {
				add(e.Project, e.Operation)
			}
		}
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

// withHistory tells whether a list is to hold what has ended long ago.
func withHistory(r *rest.Request) bool {
	v := r.Query(historyQuery)
	return v == "1" || v == "true"
}

const historyQuery = "history"

func canSee(r *rest.Request, project string, by *event.Requestor) bool {
	if project == "" {
		return r.Caller().Admin || r.Caller().Is(by)
	}
	return r.Caller().CanSee(project)
}

// find gives an operation to those who may know of it.
func (s *Service) find(r *rest.Request) (*op.Operation, error) {
	o, err := s.ops.Get(r.Value(0))
	if err != nil {
		return nil, err
	}
	if !canSee(r, o.Project(), o.Requestor()) {
		return nil, errs.Forbidden("not authorized")
	}
	return o, nil
}

// remembered is find for operations that are over.
func (s *Service) remembered(ctx context.Context, r *rest.Request) (api.Operation, error) {
	if s.history == nil {
		return api.Operation{}, errs.NotFound("Operation %q not found", r.Value(0))
	}
	e, err := s.history.Find(ctx, r.Value(0))
	if err != nil {
		return api.Operation{}, err
	}
	if !canSee(r, e.Project, e.Requestor) {
		return api.Operation{}, errs.Forbidden("not authorized")
	}
	return e.Operation, nil
}

func (s *Service) handleOp(ctx context.Context, r *rest.Request) (rest.Response, error) {
	o, err := s.find(r)
	if errs.Is(err, errs.KindNotFound) {
		was, err := s.remembered(ctx, r)
		if err != nil {
			return nil, err
		}
		return rest.Sync(was), nil
	}
	if err != nil {
		return nil, err
	}
	return rest.Sync(o.API()), nil
}

func (s *Service) handleOpCancel(ctx context.Context, r *rest.Request) (rest.Response, error) {
	o, err := s.find(r)
	if errs.Is(err, errs.KindNotFound) {
		if _, err := s.remembered(ctx, r); err != nil {
			return nil, err
		}
		return nil, errs.Invalid("Only running operations can be cancelled")
	}
	if err != nil {
		return nil, err
	}
	if err := o.Cancel(); err != nil {
		return nil, err
	}
	s.bus.Lifecycle("operation-cancelled", entity.New(entity.Operation, o.Project(), o.ID()), r.Caller().Requestor(), nil)
	return rest.Empty(), nil
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
		was, err := s.remembered(ctx, r)
		if err != nil {
			return nil, err
		}
		return rest.Sync(was), nil
	}
	if secret := r.Query("secret"); secret != "" || !r.Caller().Trusted() {
		if !o.HasSecret(secret) {
			return nil, errs.Forbidden("not authorized")
		}
	} else if !canSee(r, o.Project(), o.Requestor()) {
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
