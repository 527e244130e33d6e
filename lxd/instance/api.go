package instance

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"strings"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// handleList answers at three levels: URLs, instances, instances with their state.
// Each level costs the same few statements however many instances there are.
func (s *Service) handleList(ctx context.Context, r *rest.Request) (rest.Response, error) {
	all, err := r.AllProjects()
	if err != nil {
		return nil, err
	}
	filter, err := r.Filter()
	if err != nil {
		return nil, err
	}
	project := r.Project().Name
	if all {
		project = ""
	}
	switch typ := api.InstanceType(r.Query("instance-type")); typ {
	case api.InstanceTypeAny, api.InstanceTypeContainer, api.InstanceTypeVM:
	default:
		return nil, errs.Invalid("Invalid instance type %q", typ)
	}
	prefix := strings.TrimSuffix(r.Path(), "/")
	if strings.HasSuffix(prefix, "/virtual-machines") || r.Query("instance-type") == string(api.InstanceTypeVM) {
		if r.Recursion() == 0 {
			return rest.Sync([]string{}), nil
		}
		return rest.Sync([]api.Instance{}), nil
	}
	if r.Recursion() == 0 && filter.Empty() {
		names, err := s.names(ctx, project)
		if err != nil {
			return nil, err
		}
		urls := []string{}
		for _, n := range names {
			if r.Caller().CanSee(n.Project) {
				urls = append(urls, rest.URLs(prefix, n.Project, []string{n.Name})...)
			}
		}
		return rest.Sync(urls), nil
	}
	insts, err := s.List(ctx, project)
	if err != nil {
		return nil, err
	}
	seen := insts[:0]
	for _, i := range insts {
		if r.Caller().CanSee(i.Project) {
			seen = append(seen, i)
		}
	}
	if r.Recursion() < 2 {
		objs := make([]api.Instance, len(seen))
		states := s.look(ctx, seen, false)
		for n, i := range seen {
			objs[n] = s.renderAs(i, states.code(i))
		}
		if objs, err = rest.Keep(filter, objs); err != nil {
			return nil, err
		}
		if r.Recursion() == 0 {
			urls := []string{}
			for _, o := range objs {
				urls = append(urls, rest.URLs(prefix, o.Project, []string{o.Name})...)
			}
			return rest.Sync(urls), nil
		}
		return rest.Sync(objs), nil
	}
	full, err := s.full(ctx, seen)
	if err != nil {
		return nil, err
	}
	if full, err = rest.Keep(filter, full); err != nil {
		return nil, err
	}
	return rest.Sync(full), nil
}

func (s *Service) handleCreate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	if r.Header("Content-Type") == "application/octet-stream" {
		return s.handleImport(ctx, r)
	}
	req, err := rest.Decode[api.InstancesPost](r)
	if err != nil {
		return nil, err
	}
	p, err := s.PlanCreate(ctx, r.Caller(), r.Project().Name, req)
	if err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	refs := []entity.Ref{p.Instance.Ref()}
	if p.from != nil {
		refs = append(refs, p.from.instance.Ref())
	}
	what := doCreate
	if p.refresh != nil {
		what = doRefresh
	}
	o, err := s.operationOn(ctx, r, refs, what, func(ctx context.Context, o *op.Operation) error {
		p.Meter(o)
		return s.Create(ctx, p, by)
	})
	if err != nil {
		p.Drop()
		return nil, err
	}
	return o, nil
}

// operation starts an operation on an instance and makes the answer.
func (s *Service) operation(ctx context.Context, r *rest.Request, i *Instance, what string, run func(context.Context, *op.Operation) error) (rest.Response, error) {
	return s.operationOn(ctx, r, []entity.Ref{i.Ref()}, what, run)
}

// operationOn is operation for several instances.
func (s *Service) operationOn(ctx context.Context, r *rest.Request, refs []entity.Ref, what string, run func(context.Context, *op.Operation) error) (rest.Response, error) {
	var old []string
	for _, ref := range refs {
		old = append(old, "/1.0/containers/"+ref.Name())
	}
	o, err := s.Ops.Start(ctx, op.Spec{Description: what, Project: refs[0].Project, Resources: refs,
		MoreResources: map[string][]string{"containers": old}, Requestor: r.Caller().Requestor(), Run: run})
	if err != nil {
		return nil, err
	}
	return rest.Async(o.URL(), o.API()), nil
}

func (s *Service) handleGet(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	if r.Recursion() == 0 {
		return rest.SyncETag(s.render(i), etag(i)), nil
	}
	full, err := s.full(ctx, []*Instance{i})
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(full[0], etag(i)), nil
}

func (s *Service) handlePut(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	if err := r.CheckETag(etag(i)); err != nil {
		return nil, err
	}
	b, err := rest.Decode[api.InstancePut](r)
	if err != nil {
		return nil, err
	}
	if b.Restore != "" {
		return s.handleRestore(ctx, r, i, b)
	}
	if err := allowed(r, i, b.Config, b.Devices); err != nil {
		return nil, err
	}
	c := change(b)
	c.Exact = r.Header("If-Match") != ""
	return s.operation(ctx, r, i, doUpdate, func(ctx context.Context, _ *op.Operation) error {
		return s.Update(ctx, r.Caller(), i, c)
	})
}

func (s *Service) handleRestore(ctx context.Context, r *rest.Request, i *Instance, b api.InstancePut) (rest.Response, error) {
	if b.Stateful {
		return nil, errs.NotImplemented("Restoring state is not implemented")
	}
	sn, err := s.Snapshot(ctx, i, strings.TrimPrefix(b.Restore, i.Name+"/"))
	if err != nil {
		return nil, err
	}
	if err := project.CheckHost(r.Caller(), sn.before(i), spec(sn.of(i))); err != nil {
		return nil, err
	}
	return s.operation(ctx, r, i, doRestore, func(ctx context.Context, _ *op.Operation) error {
		return s.Restore(ctx, r.Caller(), i.Project, i.Name, b.Restore)
	})
}

// allowed asks early whether the caller may give an instance this configuration, so that
// he is refused at once and not by an operation; Update asks again.
func allowed(r *rest.Request, i *Instance, config map[string]string, devices map[string]map[string]string) error {
	return project.CheckHost(r.Caller(), project.Spec{Config: i.Config, Devices: i.Devices}, project.Spec{Config: config, Devices: devices})
}

func change(b api.InstancePut) Change {
	return Change{Architecture: b.Architecture, Description: b.Description, Ephemeral: b.Ephemeral, Config: b.Config, Devices: b.Devices, Profiles: b.Profiles}
}

func (s *Service) handlePatch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return rest.Empty(), s.Patch(ctx, r.Caller(), r.Project().Name, r.Value(0), func(i *Instance) (Change, error) {
		if err := r.CheckETag(etag(i)); err != nil {
			return Change{}, err
		}
		// The body goes on top of a copy of what there is: fields that it lacks stay.
		b := s.render(i.clone()).InstancePut
		b.Config, b.Devices = maps.Clone(b.Config), maps.Clone(b.Devices)
		raw := struct {
			*api.InstancePut
			Restore *json.RawMessage `json:"restore"`
		}{InstancePut: &b}
		if err := rest.DecodeOnto(r, &raw); err != nil {
			return Change{}, err
		}
		if raw.Restore != nil {
			return Change{}, errs.Invalid("Restore can't be done with PATCH; use PUT")
		}
		return change(b), nil
	})
}

func (s *Service) handlePost(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	b, err := rest.Decode[api.InstancePost](r)
	if err != nil {
		return nil, err
	}
	switch {
	case b.Project != "" && b.Project != i.Project:
		return nil, errs.NotImplemented("Moving instances to other projects is not implemented; copy the instance and delete it")
	case b.Target != nil || b.Migration && b.Pool == "" && r.Query("target") == "":
		return nil, errs.NotImplemented("Moving instances to other servers is not implemented")
	case b.Pool != "" || r.Query("target") != "":
		return s.handleMove(ctx, r, i, b)
	}
	// What is wrong with the request is told before an operation begins.
	if err := CheckName(b.Name); err != nil {
		return nil, err
	}
	if err := s.freeName(ctx, i.Project, b.Name); err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	return s.operation(ctx, r, i, doRename, func(ctx context.Context, _ *op.Operation) error {
		return s.Rename(ctx, i.Project, i.Name, b.Name, by)
	})
}

// handleMove tells what is wrong with the request before an operation begins; Move looks
// again.
func (s *Service) handleMove(ctx context.Context, r *rest.Request, i *Instance, b api.InstancePost) (rest.Response, error) {
	to := NewPlace{Member: r.Query("target"), Pool: b.Pool, Name: b.Name, Only: b.InstanceOnly || b.ContainerOnly}
	var err error
	if to.Member != "" {
		_, _, err = s.checkRelocate(ctx, r.Caller(), i, to)
	} else {
		_, err = s.checkMove(ctx, r.Caller(), i, to)
	}
	if err != nil {
		return nil, err
	}
	return s.operation(ctx, r, i, doMove, func(ctx context.Context, o *op.Operation) error {
		return s.Move(ctx, r.Caller(), i.Project, i.Name, to, meter(o, i.Name))
	})
}

func (s *Service) handleDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	if st := s.State(i.ID); st != Stopped && st != Errored {
		return nil, errs.Invalid("Instance is running")
	}
	by := r.Caller().Requestor()
	return s.operation(ctx, r, i, doDelete, func(ctx context.Context, _ *op.Operation) error {
		return s.Delete(ctx, i.Project, i.Name, by)
	})
}

func (s *Service) handleState(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	states, err := s.states(ctx, []*Instance{i})
	if err != nil {
		return nil, err
	}
	return rest.Sync(states[0]), nil
}

// actions are what PUT state knows, with the words of their operations.
var actions = map[string]string{"start": doStart, "stop": doStop, "restart": doRestart, "freeze": doFreeze, "unfreeze": doUnfreeze}

func (s *Service) handleStatePut(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	req, err := decodeState(r)
	if err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	return s.operation(ctx, r, i, actions[req.Action], func(ctx context.Context, _ *op.Operation) error {
		return s.act(ctx, i, req, by)
	})
}

func decodeState(r *rest.Request) (api.InstanceStatePut, error) {
	req := api.InstanceStatePut{Timeout: -1}
	if err := rest.DecodeOnto(r, &req); err != nil {
		return req, err
	}
	return req, checkState(req)
}

func checkState(req api.InstanceStatePut) error {
	if actions[req.Action] == "" {
		return errs.Invalid("Unknown action %q (use start, stop, restart, freeze or unfreeze)", req.Action)
	}
	if req.Stateful {
		return errs.NotImplemented("Stateful stop and start are not implemented")
	}
	return nil
}

func (s *Service) act(ctx context.Context, i *Instance, req api.InstanceStatePut, by *event.Requestor) error {
	o := StopOptions{Force: req.Force, Timeout: time.Duration(min(req.Timeout, math.MaxInt32)) * time.Second}
	switch req.Action {
	case "start":
		if s.State(i.ID) == Frozen { // as LXD does
			return s.Unfreeze(ctx, i.Project, i.Name, by)
		}
		return s.Start(ctx, i.Project, i.Name, by)
	case "stop":
		return s.Stop(ctx, i.Project, i.Name, o, by)
	case "restart":
		return s.Restart(ctx, i.Project, i.Name, o, by)
	case "freeze":
		return s.Freeze(ctx, i.Project, i.Name, by)
	default:
		return s.Unfreeze(ctx, i.Project, i.Name, by)
	}
}

// handleStateAll acts on every instance of the project that is in a fitting state.
func (s *Service) handleStateAll(ctx context.Context, r *rest.Request) (rest.Response, error) {
	b := api.InstancesPut{State: &api.InstanceStatePut{Timeout: -1}}
	if err := rest.DecodeOnto(r, &b); err != nil {
		return nil, err
	}
	if b.State == nil {
		return nil, errs.Invalid("The request has no state")
	}
	req := *b.State
	if err := checkState(req); err != nil {
		return nil, err
	}
	insts, err := s.List(ctx, r.Project().Name)
	if err != nil {
		return nil, err
	}
	fits := map[string][]State{"start": {Stopped}, "stop": {Running, Frozen}, "restart": {Running}, "freeze": {Running}, "unfreeze": {Frozen}}
	var todo []*Instance
	var refs []entity.Ref
	for _, i := range insts {
		if !s.local(i) {
			continue
		}
		for _, st := range fits[req.Action] {
			if s.State(i.ID) == st {
				todo, refs = append(todo, i), append(refs, i.Ref())
			}
		}
	}
	by, as := r.Caller().Requestor(), r.Identity()
	more := false // that other members have to do
	if !r.Alone() {
		if more, err = s.elsewhere(ctx, r.Project().Name); err != nil {
			return nil, err
		}
	}
	o, err := s.Ops.Start(ctx, op.Spec{Description: actions[req.Action], Project: r.Project().Name, Resources: refs, Requestor: by,
		Run: func(ctx context.Context, o *op.Operation) error {
			if !more {
				return s.actAll(ctx, todo, req, by)
			}
			there := make(chan []cluster.MemberError, 1)
			go func() { there <- s.actElsewhere(ctx, as, o.Project(), b) }()
			err := s.actAll(ctx, todo, req, by)
			for _, e := range <-there {
				err = errors.Join(err, e)
			}
			return err
		}})
	if err != nil {
		return nil, err
	}
	return rest.Async(o.URL(), o.API()), nil
}

func (s *Service) actAll(ctx context.Context, todo []*Instance, req api.InstanceStatePut, by *event.Requestor) error {
	results := make([]error, len(todo))
	free := make(chan struct{}, 4)
	done := make(chan struct{})
	for n, i := range todo {
		go func() {
			free <- struct{}{}
			results[n] = s.act(ctx, i, req, by)
			<-free
			done <- struct{}{}
		}()
	}
	for range todo {
		<-done
	}
	text := ""
	for n, err := range results {
		if err != nil {
			text += "\n - Instance " + todo[n].Name + ": " + err.Error()
		}
	}
	if text != "" {
		return errs.Internal("Some instances did not follow:%s", text)
	}
	return nil
}
