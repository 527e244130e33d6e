package file

import (
	"context"
	"io"
	"net/http"
	"path"
	"strconv"
	"time"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/host/guestfs"
	"sett/lxd/instance"
	"sett/lxd/rest"
	"sett/shared/errs"
)

// Handler is the endpoints.
type Handler struct {
	instances *instance.Service
	bus       *event.Bus
}

// New makes the endpoints.
func New(i *instance.Service, bus *event.Bus) *Handler { return &Handler{instances: i, bus: bus} }

// Routes are the endpoints of files.
func (h *Handler) Routes() []rest.Route {
	one := rest.Route{Path: "/1.0/instances/{name}/files", Scope: rest.InProject, Kind: entity.Instance, Where: rest.OnInstance}
	sftp := one
	sftp.Path = "/1.0/instances/{name}/sftp"
	// Snapshots are there to be read; what asks for more finds no route.
	old, oldSFTP := one, sftp
	old.Path, old.Extension = "/1.0/instances/{name}/snapshots/{snapshot}/files", "sett_snapshot_files"
	oldSFTP.Path, oldSFTP.Extension = "/1.0/instances/{name}/snapshots/{snapshot}/sftp", "sett_snapshot_files"
	stream := func(r *rest.Route) { r.Body.Stream = true }
	return instance.WithLegacy([]rest.Route{
		// Whoever may look at an instance may not look into it: that is work with it.
		one.As(http.MethodGet, "Read a file or list a directory of an instance", auth.EditProject, h.get),
		one.As(http.MethodHead, "Describe a file of an instance", auth.EditProject, h.head),
		one.As(http.MethodPost, "Write a file, make a directory or a symbolic link in an instance", auth.EditProject, h.post, stream),
		one.As(http.MethodDelete, "Remove a file of an instance", auth.EditProject, h.delete),
		sftp.As(http.MethodGet, "Reach the files of an instance by SFTP", auth.EditProject, h.sftp),
		old.As(http.MethodGet, "Read a file or list a directory of a snapshot", auth.EditProject, h.get),
		old.As(http.MethodHead, "Describe a file of a snapshot", auth.EditProject, h.head),
		oldSFTP.As(http.MethodGet, "Read the files of a snapshot by SFTP", auth.EditProject, h.sftp),
	})
}

// open gets access to the files of the instance in the path of a request. It ends
// with the request's context.
func (h *Handler) open(ctx context.Context, r *rest.Request) (*instance.Instance, *instance.Files, func(), error) {
	i, err := h.instances.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, nil, nil, err
	}
	var f *instance.Files
	if sn := r.Value(1); sn != "" {
		f, err = h.instances.OpenSnapshotFiles(ctx, i, sn)
	} else {
		f, err = h.instances.OpenFiles(ctx, i)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, f.Kill)
	return i, f, func() {
		stop()
		_ = f.Close()
	}, nil
}

// look opens what the request names.
func (h *Handler) look(ctx context.Context, r *rest.Request) (i *instance.Instance, o *guestfs.Opened, name string, done func(), err error) {
	if name, err = named(r); err != nil {
		return nil, nil, "", nil, err
	}
	i, f, done, err := h.open(ctx, r)
	if err != nil {
		return nil, nil, "", nil, err
	}
	if o, err = f.Open(name); err != nil {
		done()
		return nil, nil, "", nil, err
	}
	return i, o, name, done, nil
}

func named(r *rest.Request) (string, error) {
	p := r.Query("path")
	if p == "" {
		return "", errs.Invalid("Missing path argument")
	}
	return path.Clean("/" + p), nil
}

// headers describe what was opened.
func headers(o *guestfs.Opened) map[string]string {
	return map[string]string{
		"X-LXD-uid": strconv.Itoa(o.UID), "X-LXD-gid": strconv.Itoa(o.GID), "X-LXD-mode": mode(o.Mode),
		"X-LXD-modified": o.Modified.UTC().Truncate(time.Second).String(), "X-LXD-type": o.Type,
	}
}

func mode(m uint32) string {
	s := strconv.FormatUint(uint64(m), 8)
	for len(s) < 4 {
		s = "0" + s
	}
	return s
}

func (h *Handler) get(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, o, name, done, err := h.look(ctx, r)
	if err != nil {
		return nil, err
	}
	h.tell("retrieved", i, r, name)
	if o.Type == guestfs.Directory {
		done()
		return rest.SyncHeaders(o.Names, headers(o)), nil
	}
	return rest.Raw(func(w http.ResponseWriter, hr *http.Request) error {
		defer done()
		hd := w.Header()
		for k, v := range headers(o) {
			hd.Set(k, v)
		}
		hd.Set("Content-Type", "application/octet-stream")
		hd.Set("Content-Disposition", "inline;filename="+quoted(path.Base(name)))
		if o.Type == guestfs.Symlink {
			return link(w, hr, name, o)
		}
		return content(w, hr, o)
	}), nil
}

// quoted makes a name safe for a header; most are as they are.
func quoted(name string) string {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f || c == '"' || c == ';' || c == '\\' {
			return strconv.QuoteToASCII(name)
		}
	}
	return name
}

func (h *Handler) head(ctx context.Context, r *rest.Request) (rest.Response, error) {
	_, o, _, done, err := h.look(ctx, r)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := o.Skip(); err != nil {
		return nil, err
	}
	return rest.Raw(func(w http.ResponseWriter, _ *http.Request) error {
		for k, v := range headers(o) {
			w.Header().Set(k, v)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		return nil
	}), nil
}

func (h *Handler) post(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name, err := named(r)
	if err != nil {
		return nil, err
	}
	owner, err := owner(r)
	if err != nil {
		return nil, err
	}
	kind, write := r.Header("X-LXD-type"), r.Header("X-LXD-write")
	if kind == "" {
		kind = guestfs.File
	}
	if kind != guestfs.File && kind != guestfs.Directory && kind != guestfs.Symlink {
		return nil, errs.Invalid("Bad file type: %s", kind)
	}
	if write != "" && write != "overwrite" && write != "append" {
		return nil, errs.Invalid("Bad file write mode: %s", write)
	}
	i, f, done, err := h.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer done()
	switch kind {
	case guestfs.Directory:
		_, err = f.Mkdir(name, owner)
	case guestfs.Symlink:
		var target []byte
		if target, err = io.ReadAll(io.LimitReader(r.Body(), 4097)); err == nil && len(target) > 4096 {
			err = errs.Invalid("The target of a symbolic link is at most 4096 bytes long")
		}
		if err == nil {
			_, err = f.Symlink(name, string(target), owner)
		}
	default:
		_, err = f.Write(name, owner, write == "append", r.Body())
	}
	if err != nil {
		return nil, err
	}
	h.tell("pushed", i, r, name)
	return rest.Empty(), nil
}

// owner reads the headers about owner and mode; -1 is for those that are not there.
func owner(r *rest.Request) (guestfs.Owner, error) {
	o := guestfs.Owner{UID: -1, GID: -1, Mode: -1}
	for _, f := range []struct {
		header string
		base   int
		max    int64
		to     *int
	}{{"X-LXD-uid", 10, 1<<32 - 2, &o.UID}, {"X-LXD-gid", 10, 1<<32 - 2, &o.GID}, {"X-LXD-mode", 0, 0o7777, &o.Mode}} {
		v := r.Header(f.header)
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, f.base, 64)
		if err != nil || n < -1 || n > f.max {
			return o, errs.Invalid("Invalid value %q of header %s", v, f.header)
		}
		*f.to = int(n)
	}
	return o, nil
}

func (h *Handler) delete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	name, err := named(r)
	if err != nil {
		return nil, err
	}
	i, f, done, err := h.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := f.Remove(name); err != nil {
		return nil, err
	}
	h.tell("deleted", i, r, name)
	return rest.Empty(), nil
}

func (h *Handler) tell(what string, i *instance.Instance, r *rest.Request, name string) {
	more := map[string]any{"path": name}
	if sn := r.Value(1); sn != "" {
		more["snapshot"] = sn
	}
	h.bus.Lifecycle("instance-file-"+what, i.Ref(), r.Caller().Requestor(), more)
}

// sftp joins the client's connection with the file server's until one of them ends.
func (h *Handler) sftp(ctx context.Context, r *rest.Request) (rest.Response, error) {
	if err := r.Upgrades("sftp"); err != nil {
		return nil, err
	}
	_, f, done, err := h.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer done()
	server, err := f.SFTP()
	if err != nil {
		return nil, err
	}
	conn, err := r.TakeOver("sftp")
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(server, conn)
		ended <- struct{}{}
	}()
	go func() {
		_, _ = io.Copy(conn, server)
		ended <- struct{}{}
	}()
	<-ended
	_ = conn.Close()
	f.Kill()
	<-ended
	return rest.Upgraded(), nil
}
