package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v2"

	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/host/idmap"
	"sett/lxd/host/pack"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// Instances is what images need of instances, to be made of them.
type Instances interface {
	// Publish finds an instance, or, behind a slash, a snapshot of one, and keeps it as
	// it is until the source is released. An instance that runs is refused.
	Publish(ctx context.Context, project, name string) (*Source, error)
}

// Source is what an image is made of.
type Source struct {
	Dir          string        // holds rootfs, and templates where there are any
	Metadata     []byte        // its metadata.yaml; empty where there is none
	Architecture string        // of the instance
	IDs          idmap.Shifter // turns the ids on disk into the guest's own
	Release      func()
}

const stmtSource db.Stmt = `
SELECT i.node_id FROM instances AS i JOIN projects AS p ON p.id = i.project_id WHERE p.name = ? AND i.name = ?`

// fromInstance tells of the types of sources that are instances or snapshots.
var fromInstance = map[string]bool{"instance": true, "container": true, "snapshot": true}

// locateSource sends the making of an image to where the instance is.
func (s *Service) locateSource(ctx context.Context, r *rest.Request) (int64, error) {
	if !isJSON(r) || r.Relayed() {
		return 0, nil
	}
	if err := r.ReadBody(); err != nil {
		return 0, err
	}
	req, err := rest.Decode[api.ImagesPost](r)
	if err != nil {
		return 0, err
	}
	if req.Source == nil || !fromInstance[req.Source.Type] {
		return 0, nil
	}
	name, _, _ := strings.Cut(req.Source.Name, "/")
	ids, err := db.Select[int64](ctx, s.DB, stmtSource, r.Project().Name, name)
	if err != nil || len(ids) == 0 {
		return 0, err // the handler says what is missing
	}
	return ids[0], nil
}

// handleMake adds an image of which the server itself has the content.
func (s *Service) handleMake(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := rest.Decode[api.ImagesPost](r)
	if err != nil {
		return nil, err
	}
	p, err := s.planPublish(ctx, r.Project().Name, r.Effective(), req, r.Caller().Requestor())
	if err != nil {
		return nil, err
	}
	o, err := s.Ops.Start(ctx, op.Spec{Description: doImport, Project: r.Project().Name, Requestor: p.by,
		Run: func(ctx context.Context, o *op.Operation) error {
			progress := o.Progress("create_image_from_container_pack", "Image pack", 0)
			i, err := s.publish(ctx, p, progress.At)
			if err == nil {
				o.Set(map[string]any{"fingerprint": i.Fingerprint, "size": sizeText(i.Size)})
			}
			return err
		}})
	if err != nil {
		p.source.Release()
		return nil, err
	}
	return rest.Async(o.URL(), o.API()), nil
}

// plan is a request for an image that has been found to be right.
type plan struct {
	project   string // the one that gets the image
	req       api.ImagesPost
	algorithm pack.Algorithm
	source    *Source
	by        *event.Requestor
}

// planPublish checks a request before anything is made. Whoever gets a plan must
// publish it, or release its source. project is where the instance is, and images
// where its images are.
func (s *Service) planPublish(ctx context.Context, project, images string, req api.ImagesPost, by *event.Requestor) (*plan, error) {
	src := req.Source
	switch {
	case src == nil || src.Type == "":
		return nil, errs.Invalid("The request names no source of the image")
	case src.Type == "virtual-machine":
		return nil, errs.NotImplemented("Virtual machines are not implemented")
	case !fromInstance[src.Type]:
		return nil, errs.NotImplemented("Adding an image from source type %q is not implemented; upload its file", src.Type)
	case src.Name == "":
		return nil, errs.Invalid("The request names no instance to make the image of")
	case (src.Type == "snapshot") != strings.Contains(src.Name, "/"):
		return nil, errs.Invalid("Source %q is not the name of a %s", src.Name, src.Type)
	case req.Filename != filepath.Base(req.Filename) && req.Filename != "":
		return nil, errs.Invalid("%q is not the name of a file", req.Filename)
	}
	how := req.CompressionAlgorithm
	if how == "" {
		config, err := s.Config(ctx)
		if err != nil {
			return nil, err
		}
		how = Compression.Get(config)
	}
	p := &plan{project: images, req: req, by: by}
	var err error
	if p.algorithm, err = pack.ParseAlgorithm(how); err != nil {
		return nil, err
	}
	for _, a := range req.Aliases {
		if a.Name == "" {
			return nil, errs.Invalid("An alias needs a name")
		}
		if _, err := s.Alias(ctx, images, a.Name); err == nil {
			return nil, errs.Conflict("Alias %q already exists", a.Name)
		} else if !errs.Is(err, errs.KindNotFound) {
			return nil, err
		}
	}
	p.source, err = s.instances.Publish(ctx, project, src.Name)
	return p, err
}

// publish makes the image of a plan. What there is of it goes when it fails, or, if the
// daemon is killed, at the next start.
func (s *Service) publish(ctx context.Context, p *plan, progress func(bytes int64)) (*Image, error) {
	defer p.source.Release()
	now := time.Now().UTC()
	text, changed, err := metadataOf(p, now)
	if err != nil {
		return nil, err
	}
	up := &upload{filename: p.req.Filename, public: p.req.Public, aliases: p.req.Aliases, profiles: p.req.Profiles, autoUpdate: p.req.AutoUpdate, created: now}
	if up.dir, err = os.MkdirTemp(filepath.Join(s.Dir, "images"), "lxd_build_"); err != nil {
		return nil, full(err)
	}
	defer up.drop() //nolint:errcheck // what is left is removed at the next start
	f, err := os.OpenFile(up.meta(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, full(err)
	}
	defer f.Close()
	sum := sha256.New()
	out := &sink{f: f, full: s.Full, sum: sum}
	if err := write(ctx, p, text, changed, out, progress); err != nil {
		return nil, full(err)
	}
	if err := f.Close(); err != nil {
		return nil, full(err)
	}
	up.size, up.fingerprint = out.size, hex.EncodeToString(sum.Sum(nil))
	// The instance is needed no longer.
	p.source.Release()
	return s.accept(ctx, p.project, up, p.by)
}

// write writes the image: what is to be known of it first, so that who looks for that
// need not read on.
func write(ctx context.Context, p *plan, metadata []byte, changed time.Time, out io.Writer, progress func(bytes int64)) error {
	dir := p.source.Dir
	z, err := pack.Compress(ctx, p.algorithm, out)
	if err != nil {
		return err
	}
	err = func() error {
		w := pack.NewWriter(z)
		w.Time = changed
		if err := w.File("metadata.yaml", 0o644, metadata); err != nil {
			return err
		}
		if err := tree(ctx, w, dir, "rootfs", pack.Options{IDs: p.source.IDs, Progress: progress}); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return errs.Invalid("The instance has no root file system")
			}
			return err
		}
		// Templates are files of the image's, not of the guest's.
		if err := tree(ctx, w, dir, "templates", pack.Options{}); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return w.Close()
	}()
	// What writing into the compressor says is not the cause when it has ended.
	if cerr := z.Close(); cerr != nil && (err == nil || errors.Is(err, unix.EPIPE)) {
		err = cerr
	}
	var at *os.PathError
	if errors.As(err, &at) && at.Op == "pack" {
		return fmt.Errorf("The instance cannot be packed: %w", err)
	}
	return err
}

// tree packs a folder of an instance's volume.
func tree(ctx context.Context, w *pack.Writer, dir, name string, o pack.Options) error {
	f, err := pack.OpenFolder(dir, name)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.Tree(ctx, f, name, o)
}

// metadataOf is the metadata.yaml of an image, that of the instance with what the
// request says on top, and its age: the same instance makes the same image again.
func metadataOf(p *plan, now time.Time) (text []byte, at time.Time, err error) {
	var m api.ImageMetadata
	if err := yaml.Unmarshal(p.source.Metadata, &m); err != nil {
		return nil, at, errs.Invalid("The instance's metadata.yaml cannot be read: %v", err)
	}
	same := len(p.source.Metadata) > 0 && m.Architecture != "" && p.req.Properties == nil && p.req.ExpiresAt.IsZero()
	if m.Architecture == "" {
		m.Architecture = p.source.Architecture
	}
	if m.CreationDate == 0 {
		m.CreationDate = now.Unix()
	}
	at = time.Unix(m.CreationDate, 0)
	if same {
		return p.source.Metadata, at, nil // to the letter
	}
	if p.req.Properties != nil {
		m.Properties = p.req.Properties
	}
	if !p.req.ExpiresAt.IsZero() {
		m.ExpiryDate = p.req.ExpiresAt.Unix()
	}
	text, err = yaml.Marshal(m)
	return text, at, err
}

// sink is the file of an image that grows. It ends before the disk is full to the brim:
// the database may be on it.
type sink struct {
	f          *os.File
	full       func(*os.File) bool
	sum        io.Writer
	size, next int64
}

// lookEvery is after how many bytes the sink looks for the room that is left.
const lookEvery = 4 << 20

func (s *sink) Write(b []byte) (int, error) {
	if s.size >= s.next {
		if s.full(s.f) {
			return 0, unix.ENOSPC
		}
		s.next = s.size + lookEvery
		// It has to be on the disk before it is recorded: what is written meanwhile is not
		// waited for then.
		_ = unix.SyncFileRange(int(s.f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
	n, err := s.f.Write(b)
	s.size += int64(n)
	_, _ = s.sum.Write(b[:n])
	return n, err
}
