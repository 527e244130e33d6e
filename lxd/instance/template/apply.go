package template

import (
	"context"
	"errors"
	"maps"
	"slices"

	"sett/lxd/host/inside"
	"sett/lxd/host/render"
	"sett/shared/api"
	"sett/shared/errs"
)

// Renderer makes text of templates; render.Jail is the one for templates of others.
type Renderer interface {
	Render(ctx context.Context, j render.Job) ([]string, error)
}

// Why a template is rendered.
const (
	Create = "create"
	Copy   = "copy"
	Rename = "rename"
	Start  = "start"
)

// Guest is what templates learn of an instance, and who owns what they make.
type Guest struct {
	Instance map[string]string
	Config   map[string]string
	Devices  map[string]map[string]string
	UID, GID int // of the guest's root, on disk
}

// Apply renders the templates for a start, those for each of the triggers in turn,
// and writes the texts into the guest's root file system. The guest must not run.
func (v *Volume) Apply(ctx context.Context, r Renderer, g Guest, triggers ...string) error {
	m, err := v.Metadata()
	if err != nil || len(m.Templates) == 0 {
		return err
	}
	rootfs, err := v.root.Sub("rootfs")
	if err != nil {
		return strange(err)
	}
	defer func() { _ = rootfs.Close() }()
	job := render.Job{Instance: g.Instance, Config: g.Config, Devices: g.Devices}
	if job.Files, err = v.due(rootfs, m, triggers); err != nil || len(job.Files) == 0 {
		return err
	}
	texts, err := r.Render(ctx, job)
	var wrong *render.Error
	if errors.As(err, &wrong) {
		return errs.Invalid("%v; \"lxc config template edit\" can mend it", wrong)
	}
	if err != nil {
		return err
	}
	for n, f := range job.Files {
		if err := rootfs.Put(f.Path, inside.File{Data: []byte(texts[n]), UID: g.UID, GID: g.GID, Mode: 0o644}); err != nil {
			return errs.Invalid("The text of template %q cannot be written to %q in the instance: %w", m.Templates[f.Path].Template, f.Path, err)
		}
	}
	return nil
}

// due are the templates that the triggers call for.
func (v *Volume) due(rootfs *inside.Root, m api.ImageMetadata, triggers []string) ([]render.File, error) {
	var files []render.File
	made := map[string]bool{}
	for _, trigger := range triggers {
		for _, path := range slices.Sorted(maps.Keys(m.Templates)) {
			t := m.Templates[path]
			if t == nil || !slices.Contains(t.When, trigger) {
				continue
			}
			if t.CreateOnly {
				there, err := rootfs.Exists(path)
				if err != nil {
					return nil, errs.Invalid("Whether the instance has a %q cannot be told: %w", path, err)
				}
				if there || made[path] {
					continue
				}
			}
			source, err := v.Template(t.Template)
			if err != nil {
				return nil, err
			}
			made[path] = true
			files = append(files, render.File{Trigger: trigger, Path: path, Source: string(source), Properties: t.Properties})
		}
	}
	return files, nil
}
