package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"sett/lxd/auth"
	"sett/lxd/entity"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
	"sett/shared/units"
)

// backupRoutes are the endpoints below /1.0/instances/{name}/backups.
func (s *Service) backupRoutes() []rest.Route {
	all := rest.Route{Path: "/1.0/instances/{name}/backups", Scope: rest.InProject, Kind: entity.Instance, Where: rest.OnInstance, Extension: "container_backup"}
	one := all
	one.Path += "/{backup}"
	export := one
	export.Path += "/export"
	body := func(v any) func(*rest.Route) { return func(r *rest.Route) { r.Body.Type = v } }
	reply := func(v any) func(*rest.Route) { return func(r *rest.Route) { r.Reply = v } }
	return []rest.Route{
		all.As(http.MethodGet, "List the backups of an instance", auth.ViewProject, s.handleBackups, reply([]api.InstanceBackup{})),
		all.As(http.MethodPost, "Make a backup of an instance", auth.EditProject, s.handleBackupCreate, body(api.InstanceBackupsPost{})),
		one.As(http.MethodGet, "Show a backup of an instance", auth.ViewProject, s.handleBackup, reply(api.InstanceBackup{})),
		one.As(http.MethodPost, "Rename a backup", auth.EditProject, s.handleBackupPost, body(api.InstanceBackupPost{})),
		one.As(http.MethodDelete, "Delete a backup", auth.EditProject, s.handleBackupDelete),
		export.As(http.MethodGet, "Download a backup", auth.EditProject, s.handleExport),
	}
}

func renderBackup(b *Backup) api.InstanceBackup {
	return api.InstanceBackup{Name: b.Name, CreatedAt: b.Created, ExpiresAt: b.Expires, InstanceOnly: b.InstanceOnly, ContainerOnly: b.InstanceOnly, OptimizedStorage: b.Optimized}
}

func (s *Service) handleBackups(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	all, err := s.Backups(ctx, i)
	if err != nil {
		return nil, err
	}
	urls, objs := []string{}, []api.InstanceBackup{}
	for _, b := range all {
		urls, objs = append(urls, b.Ref(i).URL()), append(objs, renderBackup(b))
	}
	if r.Recursion() == 0 {
		return rest.Sync(urls), nil
	}
	return rest.Sync(objs), nil
}

func (s *Service) oneBackup(ctx context.Context, r *rest.Request) (*Instance, *Backup, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, nil, err
	}
	b, err := s.Backup(ctx, i, r.Value(1))
	return i, b, err
}

func (s *Service) handleBackup(ctx context.Context, r *rest.Request) (rest.Response, error) {
	_, b, err := s.oneBackup(ctx, r)
	if err != nil {
		return nil, err
	}
	return rest.Sync(renderBackup(b)), nil
}

func (s *Service) handleBackupCreate(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	req, err := rest.Decode[api.InstanceBackupsPost](r)
	if err != nil {
		return nil, err
	}
	o, err := s.PlanBackup(ctx, i, NewBackup{Name: req.Name, Expires: req.ExpiresAt, InstanceOnly: req.InstanceOnly || req.ContainerOnly,
		Optimized: req.OptimizedStorage, Compression: req.CompressionAlgorithm})
	if err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	res, err := s.backupOperation(ctx, r, i, o.Name, doBackup, func(ctx context.Context, run *op.Operation) error {
		o.Progress = progress(run, "create_backup_progress")
		_, err := s.CreateBackup(ctx, i.Project, i.Name, o, by)
		return err
	})
	if err != nil {
		o.Drop()
	}
	return res, err
}

// backupOperation is an operation that names a backup the way clients look for it.
func (s *Service) backupOperation(ctx context.Context, r *rest.Request, i *Instance, name, what string, run func(context.Context, *op.Operation) error) (rest.Response, error) {
	o, err := s.Ops.Start(ctx, op.Spec{Description: what, Project: i.Project, Resources: []entity.Ref{i.Ref()},
		MoreResources: map[string][]string{"containers": {"/1.0/containers/" + i.Name}, "backups": {"/1.0/backups/" + name}},
		Requestor:     r.Caller().Requestor(), Run: run})
	if err != nil {
		return nil, err
	}
	return rest.Async(o.URL(), o.API()), nil
}

// progress tells clients a few times a second how much has been done.
func progress(o *op.Operation, key string) func(int64) {
	begun := time.Now()
	last := begun
	return func(bytes int64) {
		now := time.Now()
		if now.Sub(last) < 300*time.Millisecond {
			return
		}
		last = now
		speed := int64(float64(bytes) / now.Sub(begun).Seconds())
		o.Set(map[string]any{key: fmt.Sprintf("%s (%s/s)", units.GetByteSizeString(bytes, 2), units.GetByteSizeString(speed, 2))})
	}
}

func (s *Service) handleBackupPost(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, b, err := s.oneBackup(ctx, r)
	if err != nil {
		return nil, err
	}
	req, err := rest.Decode[api.InstanceBackupPost](r)
	if err != nil {
		return nil, err
	}
	if err := checkBackupName(req.Name); err != nil {
		return nil, err
	}
	if _, err := s.Backup(ctx, i, req.Name); err == nil {
		return nil, backupTaken(i, req.Name)
	}
	by := r.Caller().Requestor()
	return s.backupOperation(ctx, r, i, req.Name, doBackupRename, func(ctx context.Context, _ *op.Operation) error {
		return s.RenameBackup(ctx, i, b.Name, req.Name, by)
	})
}

func (s *Service) handleBackupDelete(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, b, err := s.oneBackup(ctx, r)
	if err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	return s.backupOperation(ctx, r, i, b.Name, doBackupDelete, func(ctx context.Context, _ *op.Operation) error {
		return s.DeleteBackup(ctx, i, b.Name, by)
	})
}

// handleExport sends the file of a backup. It goes on to the end when the backup is
// deleted meanwhile.
func (s *Service) handleExport(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, b, err := s.oneBackup(ctx, r)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(s.backupDir(i.Project, i.Name), b.Name))
	if err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	return rest.Raw(func(w http.ResponseWriter, hr *http.Request) error {
		defer f.Close()
		s.Bus.Lifecycle("instance-backup-retrieved", b.Ref(i), by, nil)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", "inline;filename=")
		http.ServeContent(w, hr, "", b.Created, f)
		return nil
	}), nil
}

// handleImport makes an instance of a backup, which is the body of the request. It is
// written to disk and looked into before the answer.
func (s *Service) handleImport(ctx context.Context, r *rest.Request) (rest.Response, error) {
	var u undo.Stack
	defer u.Run()
	f, err := s.spool("import", &u)
	if err != nil {
		return nil, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r.Body()}, make([]byte, 256<<10))
	var own *os.PathError
	switch {
	case errors.As(err, &own):
		return nil, noRoom(err)
	case err != nil:
		return nil, errs.Invalid("The backup did not arrive whole: %v", err)
	case n == 0:
		return nil, errs.Invalid("The backup is empty")
	}
	p, err := s.PlanImport(ctx, r.Caller(), r.Project().Name, f.File, ImportOptions{Name: r.Header("X-LXD-name"), Pool: r.Header("X-LXD-pool")})
	if err != nil {
		return nil, err
	}
	by := r.Caller().Requestor()
	file := u.Take()
	o, err := s.operation(ctx, r, p.Instance, doImport, func(ctx context.Context, _ *op.Operation) error {
		defer file.Run()
		return s.Import(ctx, p, by)
	})
	if err != nil {
		file.Run()
		p.Drop()
		return nil, err
	}
	return o, nil
}
