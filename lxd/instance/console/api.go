package console

import (
	"context"
	"errors"
	"math"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"sett/lxd/auth"
	"sett/lxd/container"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/instance"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// logFile is the name of the log among those of the instance.
const logFile = "console.log"

// Handler is the endpoint.
type Handler struct {
	instances *instance.Service
	ops       *op.Manager
	bus       *event.Bus

	mu   sync.Mutex
	held map[int64]*session // by the instance's id
}

// New makes the endpoint.
func New(i *instance.Service, ops *op.Manager, bus *event.Bus) *Handler {
	return &Handler{instances: i, ops: ops, bus: bus, held: map[int64]*session{}}
}

// Routes are the endpoints of the console.
func (h *Handler) Routes() []rest.Route {
	one := rest.Route{Path: "/1.0/instances/{name}/console", Scope: rest.InProject, Kind: entity.Instance, Where: rest.OnInstance}
	return instance.WithLegacy([]rest.Route{
		one.As(http.MethodPost, "Connect to the console of an instance", auth.EditProject, h.post, func(r *rest.Route) { r.Body.Type = api.InstanceConsolePost{} }),
		one.As(http.MethodGet, "Read the console log of an instance", auth.ViewProject, h.log),
		one.As(http.MethodDelete, "Clear the console log of an instance", auth.EditProject, h.clear),
	})
}

func (h *Handler) post(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := rest.Decode[api.InstanceConsolePost](r)
	if err != nil {
		return nil, err
	}
	switch req.Type {
	case "", "console":
	case "vga":
		return nil, errs.Invalid("Only virtual machines have a console of type vga; use the type console")
	default:
		return nil, errs.Invalid("Unknown console type %q; there are console and vga", req.Type)
	}
	if req.Width < 0 || req.Height < 0 || req.Width > math.MaxUint16 || req.Height > math.MaxUint16 {
		return nil, errs.Invalid("A console cannot be %d columns wide and %d lines high", req.Width, req.Height)
	}
	i, err := h.instances.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	p, err := h.instances.Process(i)
	if err != nil {
		return nil, err
	}
	s := newSession(p, i.Name, req.Width, req.Height)
	if err := h.take(ctx, i, s, req.Force); err != nil {
		return nil, err
	}
	release := func() { h.release(i.ID, s) }
	o, err := h.ops.Start(ctx, op.Spec{
		Class: op.Websocket, Description: "Showing console", Project: i.Project, Resources: []entity.Ref{i.Ref()},
		MoreResources: map[string][]string{"containers": {"/1.0/containers/" + i.Name}},
		Requestor:     r.Caller().Requestor(), Session: true,
		Metadata: map[string]any{"fds": s.secret}, Streams: s,
		Run: func(ctx context.Context, _ *op.Operation) error {
			defer release()
			return s.run(ctx)
		},
	})
	if err != nil {
		release()
		return nil, err
	}
	h.bus.Lifecycle("instance-console", i.Ref(), r.Caller().Requestor(), map[string]any{"type": "console"})
	return rest.Async(o.URL(), o.API()), nil
}

// handOver bounds how long a viewer may take to let go of the console.
const handOver = 10 * time.Second

// take makes s the viewer of an instance.
func (h *Handler) take(ctx context.Context, i *instance.Instance, s *session, force bool) error {
	ctx, cancel := context.WithTimeout(ctx, handOver)
	defer cancel()
	for {
		h.mu.Lock()
		other := h.held[i.ID]
		if other == nil {
			h.held[i.ID] = s
			h.mu.Unlock()
			return nil
		}
		h.mu.Unlock()
		if !force {
			return errs.Conflict("The console of instance %q is in use by another client; detach it there, or take it over with force", i.Name)
		}
		other.end(errs.Conflict("The console of instance %q was taken over by another client", i.Name))
		select {
		case <-other.over:
		case <-ctx.Done():
			return errs.Unavailable("The client that has the console of instance %q does not let go of it", i.Name)
		}
	}
}

func (h *Handler) release(id int64, s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[id] == s {
		delete(h.held, id)
	}
	s.end(errDetached)
	close(s.over)
}

func (h *Handler) log(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := h.instances.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	send := func(b []byte) rest.Response {
		h.bus.Lifecycle("instance-console-retrieved", i.Ref(), r.Caller().Requestor(), nil)
		return rest.Raw(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Disposition", "inline;filename="+logFile)
			_, err := w.Write(b)
			return err
		})
	}
	if p := h.instances.Alive(i); p != nil {
		b, err := p.ConsoleLog(ctx, false)
		if err == nil {
			return send(b), nil
		}
		if !errors.Is(err, container.ErrNotRunning) {
			return nil, err
		}
	}
	b, err := container.ReadConsoleLog(h.file(i), instance.ConsoleLogSize)
	if err != nil {
		return nil, err
	}
	return send(b), nil
}

func (h *Handler) clear(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := h.instances.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	if p := h.instances.Alive(i); p != nil {
		if _, err := p.ConsoleLog(ctx, true); err != nil && !errors.Is(err, container.ErrNotRunning) {
			return nil, err
		}
	}
	if err := container.ClearConsoleLog(h.file(i)); err != nil {
		return nil, err
	}
	h.bus.Lifecycle("instance-console-reset", i.Ref(), r.Caller().Requestor(), nil)
	return rest.Empty(), nil
}

// file is where the log of an instance is, also when it has stopped.
func (h *Handler) file(i *instance.Instance) string {
	return filepath.Join(h.instances.LogDir(i.Project, i.Name), logFile)
}
