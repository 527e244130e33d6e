package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/db/migrations"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/host/fsmount"
	"sett/lxd/host/unpack"
	"sett/lxd/lock"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
)

// Pools is what images need of storage pools: unpacked copies lie there.
type Pools interface {
	// DeleteImage removes the volumes of an image from all pools.
	DeleteImage(ctx context.Context, fingerprint string) error
}

// Unpacker takes archives apart without the host in reach.
type Unpacker interface {
	Image(ctx context.Context, img unpack.Image, dir string) error
	Only(ctx context.Context, path, dir string, names ...string) error
}

// Deps are what the service is built from.
type Deps struct {
	DB       *db.DB
	Bus      *event.Bus
	Ops      *op.Manager
	Locks    *lock.Manager
	Pools    Pools
	Unpacker Unpacker
	Dir      string        // LXD_DIR
	Here     *cluster.Here // this member
	Relay    *relay.Relay  // the way to the others
	// Config is the server's configuration.
	Config func(ctx context.Context) (map[string]string, error)
	// Full reports whether the file system of a file is nearly full; nil stands for
	// the usual.
	Full func(f *os.File) bool
	// Sync waits until what is in a file, or the names in a folder, are on the disk; nil
	// stands for the usual.
	Sync func(path string) error
}

// Service holds the rules of images.
type Service struct {
	Deps
	instances Instances
}

// New makes the service. The instances come later, by Attach, because they stand above
// images.
func New(d Deps) *Service {
	if d.Full == nil {
		d.Full = fsmount.IsFull
	}
	if d.Sync == nil {
		d.Sync = toDisk
	}
	return &Service{Deps: d}
}

// Attach says where the instances are that images can be made of. It is called once,
// before any request.
func (s *Service) Attach(i Instances) { s.instances = i }

// Ref names an image.
func ref(project, fingerprint string) entity.Ref {
	return entity.New(entity.Image, project, fingerprint)
}

// file is where the metadata, or the whole, of an image is.
func (s *Service) file(fingerprint string) string {
	return filepath.Join(s.Dir, "images", fingerprint)
}

// rootfs is where the root file system of an image of two parts is.
func (s *Service) rootfs(fingerprint string) string { return s.file(fingerprint) + ".rootfs" }

// Start removes files that no image owns: what an upload or a delete left behind
// when the daemon was killed. Those that are older than the database stay: it has come in
// the place of one that knew them.
func (s *Service) Start(ctx context.Context) error {
	known, err := db.Select[string](ctx, s.DB, stmtFingerprints)
	if err != nil {
		return err
	}
	born, err := migrations.Born(ctx, s.DB)
	if err != nil {
		return err
	}
	ents, err := os.ReadDir(filepath.Join(s.Dir, "images"))
	if err != nil {
		return err
	}
	have := map[string]bool{}
	for _, e := range ents {
		fp := strings.TrimSuffix(e.Name(), ".rootfs")
		if slices.Contains(known, fp) {
			have[fp] = have[fp] || fp == e.Name()
			continue
		}
		if len(fp) == 64 && isHex(fp) {
			if fi, err := e.Info(); err == nil && fi.ModTime().Before(born) {
				log.From(ctx).Warn("Keeping an image that the database does not know; import its file again, or remove it", "file", e.Name())
				continue
			}
		}
		log.From(ctx).Info("Removing what is left of an image", "file", e.Name())
		if err := os.RemoveAll(filepath.Join(s.Dir, "images", e.Name())); err != nil {
			return err
		}
	}
	return errors.Join(s.settleHere(ctx, have), s.resolve(ctx))
}

// What operations on images are called. After a crash it tells what one was to do.
const (
	doImport = "Downloading image"
	doDelete = "Deleting image"
)

// resolve tells of operations that were interrupted what became of them: what was left of
// their files is gone by now.
func (s *Service) resolve(ctx context.Context) error {
	for _, e := range s.Ops.Interrupted() {
		if e.Description != doImport && e.Description != doDelete {
			continue
		}
		var w db.Where // a project may share the images of the default one
		all, err := load(ctx, s.DB, db.In(&w, "projects.name", []string{e.Project, entity.DefaultProject}))
		if err != nil {
			return err
		}
		is := func(i Image) bool {
			if e.Description == doDelete {
				return slices.ContainsFunc(e.Resources["images"], func(u string) bool { return strings.HasSuffix(u, "/"+i.Fingerprint) })
			}
			return i.Uploaded.After(e.CreatedAt)
		}
		there := slices.ContainsFunc(all, is)
		switch {
		case e.Description == doImport && there:
			s.Ops.Resolve(e.ID, op.Finished("the image is there"))
		case e.Description == doImport:
			s.Ops.Resolve(e.ID, op.RolledBack("nothing of the image is left"))
		case there:
			s.Ops.Resolve(e.ID, op.RolledBack("the image is there"))
		default:
			s.Ops.Resolve(e.ID, op.Finished("the image is gone"))
		}
	}
	return nil
}

// Find returns the image of a project whose fingerprint begins with prefix.
func (s *Service) Find(ctx context.Context, project, prefix string) (Image, error) {
	return find(ctx, s.DB, project, prefix)
}

func find(ctx context.Context, q db.Querier, project, prefix string) (Image, error) {
	all, err := matches(ctx, q, project, prefix)
	if err != nil {
		return Image{}, err
	}
	return only(prefix, all)
}

// matches are the images of a project whose fingerprints begin with prefix.
func matches(ctx context.Context, q db.Querier, project, prefix string) ([]Image, error) {
	if !isHex(prefix) {
		return nil, nil
	}
	var w db.Where
	return load(ctx, q, w.Eq("projects.name", project).Is("i.fingerprint LIKE ?", strings.ToLower(prefix)+"%"))
}

func only(prefix string, all []Image) (Image, error) {
	switch len(all) {
	case 0:
		return Image{}, errs.NotFound("Image %q not found", prefix)
	case 1:
		return all[0], nil
	}
	return Image{}, errs.Invalid("Partial fingerprint %q matches more than one image", prefix)
}

// isHex keeps the wildcards of LIKE out.
func isHex(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// List returns the images of a project, or of all.
func (s *Service) List(ctx context.Context, project string) ([]Image, error) {
	var w db.Where
	if project != "" {
		w.Eq("projects.name", project)
	}
	return load(ctx, s.DB, &w)
}

// Resolve finds the image that the source of a new instance names.
func (s *Service) Resolve(ctx context.Context, project string, src api.InstanceSource) (Image, error) {
	if src.Server != "" {
		return Image{}, errs.NotImplemented("Images of other servers are not implemented; import the image first")
	}
	switch {
	case src.Fingerprint != "":
		return s.Find(ctx, project, src.Fingerprint)
	case src.Alias != "":
		a, err := s.Alias(ctx, project, src.Alias)
		if err != nil {
			return Image{}, err
		}
		return s.Find(ctx, project, a.Target)
	case len(src.Properties) > 0:
		return s.newest(ctx, project, src.Properties)
	}
	return Image{}, errs.Invalid("Must specify one of alias, fingerprint or properties for init from image")
}

func (s *Service) newest(ctx context.Context, project string, want map[string]string) (Image, error) {
	all, err := s.List(ctx, project)
	if err != nil {
		return Image{}, err
	}
	var best Image
	for _, i := range all {
		fits := true
		for k, v := range want {
			fits = fits && i.Properties[k] == v
		}
		if fits && (best.ID == 0 || i.Created.After(best.Created)) {
			best = i
		}
	}
	if best.ID == 0 {
		return Image{}, errs.NotFound("No image has the properties asked for")
	}
	return best, nil
}

// Used notes that an image has been used.
func (s *Service) Used(ctx context.Context, project, fingerprint string) error {
	now := time.Now().UTC()
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtUsed, now, fingerprint, project)
		return err
	})
}

// Fill unpacks an image into an empty folder: metadata.yaml, templates, rootfs.
func (s *Service) Fill(ctx context.Context, fingerprint, dir string) error {
	if err := s.ensure(ctx, fingerprint); err != nil {
		return err
	}
	img := unpack.Image{Meta: s.file(fingerprint)}
	if _, err := os.Lstat(s.rootfs(fingerprint)); err == nil {
		img.Rootfs = s.rootfs(fingerprint)
	}
	return s.Unpacker.Image(ctx, img, dir)
}

// Update replaces what can change about an image by what change makes of it as it is.
// change may be called more than once.
func (s *Service) Update(ctx context.Context, of Image, change func(now Image) (api.ImagePut, error), by *event.Requestor) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		var w db.Where
		all, err := load(ctx, tx, w.Eq("i.id", of.ID))
		if err != nil {
			return err
		}
		i, err := only(of.Fingerprint, all)
		if err != nil {
			return err
		}
		p, err := change(i)
		if err != nil {
			return err
		}
		i.Public, i.AutoUpdate, i.Profiles = p.Public, p.AutoUpdate, p.Profiles
		if !p.ExpiresAt.IsZero() {
			i.Expires = p.ExpiresAt
		}
		i.Properties = map[string]string{}
		for k, v := range p.Properties {
			if v != "" {
				i.Properties[k] = v
			}
		}
		if i.Profiles == nil {
			i.Profiles = []string{"default"}
		}
		if err := store(ctx, tx, &i); err != nil {
			return err
		}
		tx.AfterCommit(func() { s.Bus.Lifecycle("image-updated", ref(i.Project, i.Fingerprint), by, nil) })
		return nil
	})
}

// Delete removes an image. Instances made from it are not touched.
func (s *Service) Delete(ctx context.Context, i Image, by *event.Requestor) error {
	unlock, err := s.Locks.Lock(ctx, op.Doing(ctx, "delete of an image"), ref("", i.Fingerprint))
	if err != nil {
		return err
	}
	defer unlock()
	ctx, end, err := op.Commit(ctx)
	if err != nil {
		return err
	}
	defer end()
	// The row goes first: from then on nobody finds the image, and what a crash
	// leaves of its files is removed at the next start.
	last := false
	holders, err := s.holders(ctx, i.Fingerprint)
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := db.ExecOne(ctx, tx, stmtDelete, i.ID); err != nil {
			return err
		}
		left, err := db.Select[string](ctx, tx, stmtFingerprints)
		last = !slices.Contains(left, i.Fingerprint)
		return err
	})
	if err != nil {
		return err
	}
	s.Bus.Lifecycle("image-deleted", ref(i.Project, i.Fingerprint), by, nil)
	if !last {
		return nil // another project has it too
	}
	s.deleteElsewhere(ctx, i.Fingerprint, holders)
	if err := s.dropFiles(ctx, i.Fingerprint); err != nil { // nobody could ask for it again
		log.From(ctx).Warn("Could not remove all files of an image; they go when the daemon starts again", "image", i.Fingerprint, "err", err)
	}
	return nil
}
