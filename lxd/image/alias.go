package image

import (
	"context"
	"errors"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/shared/api"
	"sett/shared/errs"
)

// Alias finds an alias of a project.
func (s *Service) Alias(ctx context.Context, project, name string) (Alias, error) {
	return alias(ctx, s.DB, project, name)
}

func alias(ctx context.Context, q db.Querier, project, name string) (Alias, error) {
	var w db.Where
	all, err := db.SelectWhere[Alias](ctx, q, stmtAliases, w.Eq("projects.name", project).Eq("a.name", name), "")
	if err != nil {
		return Alias{}, err
	}
	if len(all) == 0 {
		return Alias{}, errs.NotFound("Image alias %q not found", name)
	}
	return all[0], nil
}

// Aliases lists the aliases of a project by name.
func (s *Service) Aliases(ctx context.Context, project string) ([]Alias, error) {
	var w db.Where
	return db.SelectWhere[Alias](ctx, s.DB, stmtAliases, w.Eq("projects.name", project), "ORDER BY a.name")
}

// CreateAlias names an image.
func (s *Service) CreateAlias(ctx context.Context, project, name, description, target string, by *event.Requestor) error {
	if name == "" || target == "" {
		return errs.Invalid("An alias needs a name and a target")
	}
	i, err := s.Find(ctx, project, target)
	if err != nil {
		return err
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.addAlias(ctx, tx, i, name, description, by) })
}

func (s *Service) addAlias(ctx context.Context, tx *db.Tx, i Image, name, description string, by *event.Requestor) error {
	_, err := db.Exec(ctx, tx, stmtAliasCreate, name, description, i.ID, i.Project)
	if errors.Is(err, db.ErrDuplicate) {
		return errs.Conflict("Alias %q already exists", name)
	}
	if err == nil {
		tx.AfterCommit(func() {
			s.Bus.Lifecycle("image-alias-created", entity.New(entity.ImageAlias, i.Project, name), by, map[string]any{"target": i.Fingerprint})
		})
	}
	return err
}

// UpdateAlias replaces what an alias stands for by what change makes of it as it is.
// change may be called more than once.
func (s *Service) UpdateAlias(ctx context.Context, of Alias, change func(now Alias) (api.ImageAliasesEntryPut, error), by *event.Requestor) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		a, err := alias(ctx, tx, of.Project, of.Name)
		if err != nil {
			return err
		}
		p, err := change(a)
		if err != nil {
			return err
		}
		if p.Target == "" {
			return errs.Invalid("The target field is required")
		}
		i, err := find(ctx, tx, a.Project, p.Target)
		if err != nil {
			return err
		}
		tx.AfterCommit(func() {
			s.Bus.Lifecycle("image-alias-updated", entity.New(entity.ImageAlias, a.Project, a.Name), by, map[string]any{"target": i.Fingerprint})
		})
		return db.ExecOne(ctx, tx, stmtAliasUpdate, p.Description, i.ID, a.ID)
	})
}

// RenameAlias gives an alias another name.
func (s *Service) RenameAlias(ctx context.Context, a Alias, to string, by *event.Requestor) error {
	if to == "" {
		return errs.Invalid("An alias needs a name")
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := alias(ctx, tx, a.Project, to); err == nil {
			return errs.Conflict("Alias %q already exists", to)
		}
		tx.AfterCommit(func() {
			s.Bus.Lifecycle("image-alias-renamed", entity.New(entity.ImageAlias, a.Project, to), by, map[string]any{"old_name": a.Name})
		})
		return db.ExecOne(ctx, tx, stmtAliasRename, to, a.ID)
	})
}

// DeleteAlias forgets a name; the image stays.
func (s *Service) DeleteAlias(ctx context.Context, a Alias, by *event.Requestor) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		tx.AfterCommit(func() {
			s.Bus.Lifecycle("image-alias-deleted", entity.New(entity.ImageAlias, a.Project, a.Name), by, nil)
		})
		return db.ExecOne(ctx, tx, stmtAliasDelete, a.ID)
	})
}
