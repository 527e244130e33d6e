package instance

import (
	"context"
	"maps"
	"strings"

	"github.com/google/uuid"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/instance/template"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
)

// imagePrefix begins the keys that an instance takes over from its image.
const imagePrefix = "image."

func (s *Service) handleRebuild(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.Load(ctx, r.Project().Name, r.Value(0))
	if err != nil {
		return nil, err
	}
	req, err := rest.Decode[api.InstanceRebuildPost](r)
	if err != nil {
		return nil, err
	}
	// What is wrong with the request is told before an operation begins.
	if _, _, err := s.planRebuild(ctx, r.Caller(), i, req.Source); err != nil {
		return nil, err
	}
	return s.operation(ctx, r, i, doRebuild, func(ctx context.Context, _ *op.Operation) error {
		return s.Rebuild(ctx, r.Caller(), i.Project, i.Name, req.Source)
	})
}

// Rebuild makes an instance anew of an image, or of nothing. Its name, configuration,
// devices and profiles stay; its files do not. A rebuild that fails or is cancelled
// leaves them as they were.
func (s *Service) Rebuild(ctx context.Context, as auth.Caller, project, name string, src api.InstanceSource) error {
	i, unlock, err := s.claimWhole(ctx, project, name, "rebuild")
	if err != nil {
		return err
	}
	defer unlock()
	n, fingerprint, err := s.planRebuild(ctx, as, i, src)
	if err != nil {
		return err
	}
	return s.rebuild(ctx, i, n, fingerprint, as.Requestor())
}

// planRebuild says what an instance will be, and of which image; none is "".
func (s *Service) planRebuild(ctx context.Context, as auth.Caller, i *Instance, src api.InstanceSource) (*Instance, string, error) {
	if st := s.State(i.ID); st != Stopped {
		return nil, "", errs.Invalid("Instance %q is %s; it must be stopped to be rebuilt", i.Name, strings.ToLower(st.String()))
	}
	names, err := db.Select[string](ctx, s.DB, stmtSnapshotNames, i.ID)
	if err != nil {
		return nil, "", err
	}
	if len(names) > 0 {
		return nil, "", errs.Invalid("Instance %q has %d snapshots and cannot be rebuilt; delete them first", i.Name, len(names))
	}
	var img *Image
	switch src.Type {
	case "none":
	case "image":
		found, err := s.Images.Resolve(ctx, i.Project, src)
		if err != nil {
			return nil, "", err
		}
		img = &found
	case "":
		return nil, "", errs.Invalid("The source of the instance has no type; use image or none")
	default:
		return nil, "", errs.Invalid("An instance cannot be rebuilt of source type %q; use image or none", src.Type)
	}
	n, err := s.renewed(i, img)
	if err != nil {
		return nil, "", err
	}
	// What the daemon notes itself is not what the caller asks for.
	was := spec(i)
	was.Config = maps.Clone(was.Config)
	for k, v := range n.Config {
		if strings.HasPrefix(k, volatilePrefix) {
			was.Config[k] = v
		}
	}
	return n, n.Config[volBaseImage], s.judge(ctx, as, was, n)
}

// renewed is the instance with what it takes over from an image; nil stands for none.
func (s *Service) renewed(i *Instance, img *Image) (*Instance, error) {
	n := i.clone()
	n.Config = maps.Clone(i.Config)
	maps.DeleteFunc(n.Config, func(k, _ string) bool {
		return strings.HasPrefix(k, imagePrefix) || k == volBaseImage || k == volPending
	})
	if img != nil {
		if img.Type != "" && img.Type != "container" {
			return nil, errs.NotImplemented("Image %q is for a virtual machine; virtual machines are not implemented", img.Fingerprint)
		}
		for k, v := range img.Properties {
			n.Config[imagePrefix+k] = v
		}
		n.Config[volBaseImage] = img.Fingerprint
		if img.Architecture != "" {
			n.Architecture = img.Architecture
		}
	}
	n.Config[volDiskMap] = "[]" // images hold the guest's own ids
	n.Config[volApply] = template.Create
	n.Config[volInstanceID] = uuid.NewString()
	n.expandedConfig = nil
	return n, s.checkArchitecture(n.Architecture)
}

// rebuild works on an instance that is stopped. Content and rows cannot change as one:
// the mark makes a daemon that dies on the way do it again.
func (s *Service) rebuild(ctx context.Context, i, n *Instance, fingerprint string, by *event.Requestor) error {
	if err := s.patchConfig(ctx, i, map[string]string{volPending: pendingRebuild + fingerprint}); err != nil {
		return err
	}
	done(ctx, n.Config)
	begun, err := s.renew(ctx, n, fingerprint)
	if err != nil {
		if !begun { // the content is what it was
			ctx, cancel := s.cleanup()
			defer cancel()
			if err := s.patchConfig(ctx, i, map[string]string{volPending: ""}); err != nil {
				log.From(ctx).Warn("Could not note that a rebuild has failed", "instance", i.Name, "err", err)
			}
		}
		return err
	}
	if fingerprint != "" {
		if err := s.Images.Used(ctx, i.Project, fingerprint); err != nil {
			log.From(ctx).Warn("Could not note the use of an image", "image", fingerprint, "err", err)
		}
	}
	s.tell("instance-rebuilt", n, by, nil)
	return nil
}

// renew may run any number of times. begun tells whether the content has changed.
func (s *Service) renew(ctx context.Context, n *Instance, fingerprint string) (begun bool, err error) {
	v, root, err := volume(n)
	if err != nil {
		return false, err
	}
	size, err := rootSize(root)
	if err != nil {
		return false, err
	}
	if err := s.unread(n, itself); err != nil {
		return false, err
	}
	l := s.liveOf(n.ID)
	defer l.shutFiles("")()
	l.keeping.Lock()
	defer l.keeping.Unlock()
	if err := s.Storage.Rebuild(ctx, v, fingerprint, size); err != nil {
		return false, err
	}
	ctx, end := op.Insist(ctx)
	defer end()
	return true, s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return store(ctx, tx, n) })
}

// rebuildAgain ends a rebuild that was cut off. Where the image has been deleted since,
// the instance stays what it was: the content is exchanged shortly before the rows, so
// that is what it most likely is.
func (s *Service) rebuildAgain(ctx context.Context, i *Instance) error {
	fingerprint := strings.TrimPrefix(i.Config[volPending], pendingRebuild)
	var img *Image
	if fingerprint != "" {
		found, err := s.Images.Resolve(ctx, i.Project, api.InstanceSource{Type: "image", Fingerprint: fingerprint})
		if errs.Is(err, errs.KindNotFound) {
			log.From(ctx).Warn("The image of a rebuild that was cut off is gone; the instance stays as it is", "instance", i.Name, "image", fingerprint)
			return s.patchConfig(ctx, i, map[string]string{volPending: ""})
		}
		if err != nil {
			return err
		}
		img = &found
	}
	n, err := s.renewed(i, img)
	if err != nil {
		return err
	}
	if _, err := s.renew(ctx, n, fingerprint); err != nil {
		return err
	}
	now, err := s.loadID(ctx, i.ID)
	if err == nil && now != nil {
		*i = *now
	}
	return err
}
