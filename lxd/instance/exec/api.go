package exec

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

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

// Handler is the endpoint.
type Handler struct {
	instances *instance.Service
	ops       *op.Manager
	bus       *event.Bus
}

// New makes the endpoint.
func New(i *instance.Service, ops *op.Manager, bus *event.Bus) *Handler {
	return &Handler{instances: i, ops: ops, bus: bus}
}

// Routes are the endpoints of exec.
func (h *Handler) Routes() []rest.Route {
	one := rest.Route{Path: "/1.0/instances/{name}/exec", Scope: rest.InProject, Kind: entity.Instance, Where: rest.OnInstance}
	return instance.WithLegacy([]rest.Route{
		one.As(http.MethodPost, "Run a command in an instance", auth.EditProject, h.post, func(r *rest.Route) { r.Body.Type = api.InstanceExecPost{} }),
	})
}

func (h *Handler) post(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := rest.Decode[api.InstanceExecPost](r)
	if err != nil {
		return nil, err
	}
	i, err := h.instances.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	if len(req.Command) == 0 || req.Command[0] == "" {
		return nil, errs.Invalid("No command was given")
	}
	for _, a := range req.Command {
		if strings.ContainsRune(a, 0) {
			return nil, errs.Invalid("A command cannot hold NUL characters")
		}
	}
	if req.RecordOutput && req.WaitForWS {
		return nil, errs.Invalid("Output is either recorded or sent over websockets; choose one of wait-for-websocket and record-output")
	}
	p, err := h.instances.Process(i)
	if err != nil {
		return nil, err
	}
	spec := container.ExecSpec{Command: req.Command, Cwd: req.Cwd, UID: req.User, GID: req.Group,
		PTY: req.Interactive && req.WaitForWS, Width: req.Width, Height: req.Height}
	if spec.PTY && (spec.Width <= 0 || spec.Height <= 0) { // a client without a terminal of its own
		spec.Width, spec.Height = 80, 25
	}
	env := environment(i.ExpandedConfig(), req)
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(env[k], 0) {
			return nil, errs.Invalid("Environment variable %q cannot be set", k)
		}
		spec.Env = append(spec.Env, k+"="+env[k])
	}
	// Programs ask it whether they run in a container. It is no part of what the
	// operation shows.
	if _, ok := env["container"]; !ok {
		spec.Env = append(spec.Env, "container=lxc")
	}
	s := newSession(p, spec)
	os := op.Spec{Description: "Executing command", Project: i.Project, Resources: []entity.Ref{i.Ref()}, Requestor: r.Caller().Requestor(), Session: true,
		MoreResources: map[string][]string{"containers": {"/1.0/containers/" + i.Name}}}
	if req.WaitForWS {
		os.Metadata = map[string]any{"command": req.Command, "environment": env, "interactive": req.Interactive, "fds": s.secrets()}
		os.Class, os.Streams, os.Run = op.Websocket, s, s.run
	} else {
		dir := ""
		if req.RecordOutput {
			dir = h.instances.LogDir(i.Project, i.Name)
		}
		os.Run = func(ctx context.Context, o *op.Operation) error {
			return s.alone(ctx, o, dir, i.Ref().Path()+"/logs/")
		}
	}
	o, err := h.ops.Start(ctx, os)
	if err != nil {
		return nil, err
	}
	h.bus.Lifecycle("instance-exec", i.Ref(), r.Caller().Requestor(), map[string]any{"command": req.Command})
	return rest.Async(o.URL(), o.API()), nil
}

// environment is what a command gets: the instance's own variables, then what every
// shell needs, then what the client asks for.
func environment(cfg map[string]string, req api.InstanceExecPost) map[string]string {
	env := map[string]string{}
	for k, v := range cfg {
		if name, ok := strings.CutPrefix(k, "environment."); ok {
			env[name] = v
		}
	}
	maps.Copy(env, req.Environment)
	set := func(k, v string) {
		if _, ok := env[k]; !ok {
			env[k] = v
		}
	}
	set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	if req.User == 0 {
		set("HOME", "/root")
		set("USER", "root")
	}
	set("LANG", "C.UTF-8")
	return env
}
