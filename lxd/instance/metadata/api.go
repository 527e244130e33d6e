package metadata

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/host/render"
	"sett/lxd/instance"
	"sett/lxd/instance/template"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// Handler answers requests.
type Handler struct {
	instances *instance.Service
	bus       *event.Bus
}

// New makes the handler.
func New(instances *instance.Service, bus *event.Bus) *Handler { return &Handler{instances, bus} }

// Routes are the endpoints, under all names of instances.
func (h *Handler) Routes() []rest.Route {
	meta := rest.Route{Path: "/1.0/instances/{name}/metadata", Scope: rest.InProject, Kind: entity.Instance, Where: rest.OnInstance,
		Extension: "container_edit_metadata"}
	tpl := meta
	tpl.Path += "/templates"
	body := func(r *rest.Route) { r.Body.Type, r.ETag = api.ImageMetadata{}, true }
	return instance.WithLegacy([]rest.Route{
		meta.As(http.MethodGet, "Show the image metadata of an instance", auth.ViewProject, h.get,
			func(r *rest.Route) { r.Reply, r.ETag = api.ImageMetadata{}, true }),
		meta.As(http.MethodPut, "Replace the image metadata of an instance", auth.EditProject, h.put, body),
		meta.As(http.MethodPatch, "Change the image metadata of an instance", auth.EditProject, h.patch, body),
		tpl.As(http.MethodGet, "List the templates of an instance, or read the one that ?path= names", auth.ViewProject, h.templates),
		tpl.As(http.MethodPost, "Create or replace the template that ?path= names", auth.EditProject, h.templatePost,
			func(r *rest.Route) { r.Body.Stream = true }),
		tpl.As(http.MethodDelete, "Delete the template that ?path= names", auth.EditProject, h.templateDelete),
	})
}

// read opens the volume of the instance of a request.
func (h *Handler) read(ctx context.Context, r *rest.Request, do func(*instance.Instance, *template.Volume) error) error {
	i, err := h.instances.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return err
	}
	return h.open(ctx, i, do)
}

// change does the same and keeps everybody else from the instance.
func (h *Handler) change(ctx context.Context, r *rest.Request, do func(*instance.Instance, *template.Volume) error) error {
	i, unlock, err := h.instances.Claim(ctx, r.Project().Name, r.Value(0), "metadata edit")
	if err != nil {
		return err
	}
	defer unlock()
	return h.open(ctx, i, do)
}

func (h *Handler) open(ctx context.Context, i *instance.Instance, do func(*instance.Instance, *template.Volume) error) error {
	dir, release, err := h.instances.Volume(ctx, i)
	if err != nil {
		return err
	}
	defer release()
	v, err := template.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(do(i, v), v.Close())
}

func (h *Handler) tell(what string, i *instance.Instance, r *rest.Request) {
	h.bus.Lifecycle("instance-metadata-"+what, entity.New(entity.InstanceMetadata, i.Project, i.Name), r.Caller().Requestor(), nil)
}

func (h *Handler) tellOfTemplate(what string, i *instance.Instance, r *rest.Request, name string) {
	h.bus.Lifecycle("instance-metadata-template-"+what, entity.New(entity.InstanceTemplates, i.Project, i.Name), r.Caller().Requestor(), map[string]any{"path": name})
}

func (h *Handler) get(ctx context.Context, r *rest.Request) (rest.Response, error) {
	var m api.ImageMetadata
	err := h.read(ctx, r, func(i *instance.Instance, v *template.Volume) (err error) {
		m, err = v.Metadata()
		if err == nil {
			h.tell("retrieved", i, r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return rest.SyncETag(m, m), nil
}

func (h *Handler) put(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return h.store(ctx, r, func(api.ImageMetadata) (api.ImageMetadata, error) { return rest.Decode[api.ImageMetadata](r) })
}

func (h *Handler) patch(ctx context.Context, r *rest.Request) (rest.Response, error) {
	return h.store(ctx, r, func(m api.ImageMetadata) (api.ImageMetadata, error) {
		err := rest.DecodeOnto(r, &m)
		return m, err
	})
}

func (h *Handler) store(ctx context.Context, r *rest.Request, change func(api.ImageMetadata) (api.ImageMetadata, error)) (rest.Response, error) {
	return rest.Empty(), h.change(ctx, r, func(i *instance.Instance, v *template.Volume) error {
		m, err := v.Metadata()
		if err != nil {
			return err
		}
		if err := r.CheckETag(m); err != nil {
			return err
		}
		if m, err = change(m); err != nil {
			return err
		}
		if err := v.SetMetadata(m); err != nil {
			return err
		}
		h.tell("updated", i, r)
		return nil
	})
}

func (h *Handler) templates(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name := r.Query("path")
	var names []string
	var text []byte
	err := h.read(ctx, r, func(i *instance.Instance, v *template.Volume) (err error) {
		if name == "" {
			names, err = v.Names()
			return err
		}
		if text, err = v.Template(name); err == nil {
			h.tellOfTemplate("retrieved", i, r, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if name == "" {
		return rest.Sync(names), nil
	}
	return rest.Raw(func(w http.ResponseWriter, hr *http.Request) error {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", "inline;filename="+name)
		http.ServeContent(w, hr, "", time.Time{}, bytes.NewReader(text))
		return nil
	}), nil
}

func needPath(r *rest.Request) (string, error) {
	name := r.Query("path")
	if name == "" {
		return "", errs.Invalid("missing path argument")
	}
	return name, template.CheckName(name)
}

func (h *Handler) templatePost(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name, err := needPath(r)
	if err != nil {
		return nil, err
	}
	// Read before the lock is taken: a client may be slow. One byte more tells what is
	// too long.
	text, err := io.ReadAll(io.LimitReader(r.Body(), render.MaxSource+1))
	if err != nil {
		return nil, errs.Invalid("Cannot read the request body: %v", err)
	}
	return rest.Empty(), h.change(ctx, r, func(i *instance.Instance, v *template.Volume) error {
		if err := v.SetTemplate(name, text); err != nil {
			return err
		}
		h.tellOfTemplate("created", i, r, name)
		return nil
	})
}

func (h *Handler) templateDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name, err := needPath(r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), h.change(ctx, r, func(i *instance.Instance, v *template.Volume) error {
		if err := v.DeleteTemplate(name); err != nil {
			return err
		}
		h.tellOfTemplate("deleted", i, r, name)
		return nil
	})
}
