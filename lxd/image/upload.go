package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gopkg.in/yaml.v2"

	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/archive"
	"sett/shared/errs"
	"sett/shared/undo"
)

// maxMetadata is how long a metadata.yaml may be.
const maxMetadata = 1 << 20

// upload is an image that has arrived and is not yet known to be good.
type upload struct {
	dir         string // a folder of its own, on the file system where the image will be
	split       bool
	size        int64
	fingerprint string
	filename    string
	public      bool
	properties  map[string]string
	profiles    []string
	aliases     []api.ImageAlias
	autoUpdate  bool
	created     time.Time // zero: as its metadata says
}

func (u *upload) meta() string   { return filepath.Join(u.dir, "meta") }
func (u *upload) rootfs() string { return filepath.Join(u.dir, "rootfs") }
func (u *upload) drop() error    { return os.RemoveAll(u.dir) }

// receive writes the body of a request to disk and reads its headers.
func (s *Service) receive(r *rest.Request) (_ *upload, err error) {
	u := &upload{filename: filepath.Base(r.Header("X-LXD-filename")), properties: map[string]string{}}
	if r.Header("X-LXD-filename") == "" {
		u.filename = ""
	}
	if v := r.Header("X-LXD-public"); v != "" {
		u.public = v == "1" || strings.EqualFold(v, "true") || strings.EqualFold(v, "yes") || strings.EqualFold(v, "on")
	}
	for header, into := range map[string]func(url.Values){
		"X-LXD-properties": func(v url.Values) {
			for k := range v {
				u.properties[k] = v.Get(k)
			}
		},
		"X-LXD-profiles": func(v url.Values) { u.profiles = v["profile"] },
		"X-LXD-aliases": func(v url.Values) {
			for _, n := range v["alias"] {
				u.aliases = append(u.aliases, api.ImageAlias{Name: n})
			}
		},
	} {
		v, err := url.ParseQuery(r.Header(header))
		if err != nil {
			return nil, errs.Invalid("Header %s cannot be read: %v", header, err)
		}
		into(v)
	}
	if u.dir, err = os.MkdirTemp(filepath.Join(s.Dir, "images"), "lxd_build_"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = u.drop()
			err = full(err)
		}
	}()
	sum := sha256.New()
	typ, params, _ := mime.ParseMediaType(r.Header("Content-Type"))
	if typ == "multipart/form-data" {
		err = s.parts(u, multipart.NewReader(r.Body(), params["boundary"]), sum)
	} else {
		u.size, err = s.save(u.meta(), r.Body(), sum)
	}
	if err != nil {
		return nil, err
	}
	if u.size == 0 {
		return nil, errs.Invalid("The image is empty")
	}
	u.fingerprint = hex.EncodeToString(sum.Sum(nil))
	if want := r.Header("X-LXD-fingerprint"); want != "" && !strings.EqualFold(want, u.fingerprint) {
		return nil, errs.Invalid("The image's fingerprint is %s, the request says %s", u.fingerprint, want)
	}
	return u, nil
}

// parts reads an image of two files; the metadata comes first, as both count for the
// fingerprint in this order.
func (s *Service) parts(u *upload, r *multipart.Reader, sum io.Writer) error {
	for n, want := range []string{"metadata", "rootfs"} {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			return errs.Invalid("The image lacks its part %q", want)
		}
		if err != nil {
			return errs.Invalid("The image cannot be read: %v", err)
		}
		if p.FormName() == "rootfs.img" {
			return errs.NotImplemented("Images of virtual machines are not implemented")
		}
		if p.FormName() != want {
			return errs.Invalid("The image's part %d is %q, not %q", n+1, p.FormName(), want)
		}
		path := u.meta()
		if n == 1 {
			path, u.split = u.rootfs(), true
		} else if u.filename == "" {
			u.filename = filepath.Base(p.FileName())
		}
		size, err := s.save(path, p, sum)
		if err != nil {
			return err
		}
		u.size += size
	}
	return nil
}

// save writes to a new file what comes.
func (s *Service) save(path string, r io.Reader, sum io.Writer) (int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := io.CopyBuffer(&sink{f: f, full: s.Full, sum: sum}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	var ours *os.PathError
	switch {
	case err == nil:
		return n, f.Close()
	case errors.As(err, &ours), errors.Is(err, unix.ENOSPC):
		return n, err
	}
	return n, errs.Invalid("The image did not arrive whole: %v", err)
}

func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errs.Unavailable("There is no room for the image: %v", err)
	}
	return err
}

// accept looks into an image that has arrived and makes it one of ours.
func (s *Service) accept(ctx context.Context, project string, up *upload, by *event.Requestor) (*Image, error) {
	meta, err := s.metadata(ctx, up)
	if err != nil {
		return nil, err
	}
	for k, v := range up.properties {
		meta.Properties[k] = v
	}
	i := &Image{row: row{Project: project, Fingerprint: up.fingerprint, Filename: up.filename, Size: up.size, Public: up.public,
		Architecture: meta.Architecture, Created: unixTime(meta.CreationDate), Expires: time.Unix(max(meta.ExpiryDate, 0), 0).UTC(), Uploaded: time.Now().UTC(), AutoUpdate: up.autoUpdate},
		Properties: meta.Properties, Profiles: up.profiles}
	if !up.created.IsZero() {
		i.Created = up.created
		// That it never expires is the zero time of an image that is published here, and the
		// epoch of one that comes from elsewhere, as LXD has it.
		if meta.ExpiryDate == 0 {
			i.Expires = time.Time{}
		}
	}
	if i.Profiles == nil {
		i.Profiles = []string{"default"}
	}
	unlock, err := s.Locks.Lock(ctx, op.Doing(ctx, "import of an image"), ref("", i.Fingerprint))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := s.Find(ctx, project, i.Fingerprint); err == nil {
		return nil, errs.Conflict("Image with same fingerprint already exists")
	}
	var u undo.Stack
	defer u.Run()
	moves := map[string]string{up.meta(): s.file(i.Fingerprint)}
	if up.split {
		moves[up.rootfs()] = s.rootfs(i.Fingerprint)
	}
	for from, to := range moves {
		had, whole := there(from, to)
		if whole {
			continue // another project has it, or a database that was lost had it
		}
		if err := s.place(from, to); err != nil {
			return nil, full(err)
		}
		if !had { // what was broken is not to come back
			u.Push(func() error { return os.Remove(to) })
		}
	}
	if err := s.Sync(filepath.Join(s.Dir, "images")); err != nil {
		return nil, full(err)
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insert(ctx, tx, s.Here.ID(), i); err != nil {
			return err
		}
		for _, a := range up.aliases {
			if err := s.addAlias(ctx, tx, *i, a.Name, a.Description, by); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	u.Commit()
	s.Bus.Lifecycle("image-created", ref(project, i.Fingerprint), by, map[string]any{"type": "container"})
	return i, nil
}

// place moves a file that has come to where it is kept. Before there is a record of it, the
// folder is to be synced too: after a power cut, a record must not be of an empty file.
func (s *Service) place(from, to string) error {
	if err := s.Sync(from); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func toDisk(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// there reports whether a file is where another one is to go, and whether it is as long as
// that. Its name says what is in it.
func there(from, to string) (had, whole bool) {
	a, err := os.Lstat(from)
	if err != nil {
		return false, false
	}
	b, err := os.Lstat(to)
	return err == nil, err == nil && a.Size() == b.Size()
}

// metadata reads metadata.yaml out of an image, and nothing else.
func (s *Service) metadata(ctx context.Context, up *upload) (api.ImageMetadata, error) {
	var m api.ImageMetadata
	f, err := os.Open(up.meta())
	if err != nil {
		return m, err
	}
	defer f.Close()
	format, err := archive.DetectFile(f)
	if err != nil {
		return m, err
	}
	var text []byte
	if format == archive.SquashFS {
		text, err = s.fromSquashFS(ctx, up)
	} else {
		text, err = fromTarball(ctx, format, f, up.split)
	}
	if err != nil {
		return m, fmt.Errorf("The image's metadata.yaml cannot be read: %w", err)
	}
	if err := yaml.Unmarshal(text, &m); err != nil {
		return m, errs.Invalid("The image's metadata.yaml is not right: %v", err)
	}
	if m.Architecture == "" {
		return m, errs.Invalid("The image's metadata.yaml names no architecture")
	}
	if m.Architecture = canonical(m.Architecture); m.Architecture == "" {
		return m, errs.Invalid("The image's metadata.yaml names an architecture that is not known")
	}
	if m.Properties == nil {
		m.Properties = map[string]string{}
	}
	return m, nil
}

// fromTarball reads metadata.yaml and no further than it must. Where there is no
// second file, it looks for the root file system too: without one this is half an image.
func fromTarball(ctx context.Context, format archive.Format, f io.Reader, split bool) (text []byte, err error) {
	rootfs := split
	err = archive.Walk(ctx, format, f, func(e archive.Entry, r io.Reader) error {
		switch {
		case e.Name == "rootfs" || strings.HasPrefix(e.Name, "rootfs/"):
			rootfs = true
		case e.Name == "metadata.yaml" && !e.Dir && !e.Link:
			if e.Size > maxMetadata {
				return errs.Invalid("metadata.yaml is larger than %d bytes", maxMetadata)
			}
			if text, err = io.ReadAll(io.LimitReader(r, maxMetadata)); err != nil {
				return errs.Invalid("The archive is broken: %w", err)
			}
		}
		if text != nil && rootfs {
			return archive.ErrStop
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case text == nil:
		return nil, errs.NotFound("The archive has no metadata.yaml")
	case !rootfs:
		return nil, errs.Invalid("The image has no rootfs; add the file that holds it")
	}
	return text, nil
}

func (s *Service) fromSquashFS(ctx context.Context, up *upload) ([]byte, error) {
	dir := filepath.Join(up.dir, "look")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := s.Unpacker.Only(ctx, up.meta(), dir, "metadata.yaml"); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fi, err := root.Lstat("metadata.yaml")
	if err != nil || !fi.Mode().IsRegular() || fi.Size() > maxMetadata {
		return nil, errs.Invalid("The image has no usable metadata.yaml")
	}
	return root.ReadFile("metadata.yaml")
}

// canonical is the kernel's name of an architecture, whatever a distribution calls it.
func canonical(a string) string {
	for name, others := range map[string][]string{
		"x86_64": {"amd64"}, "i686": {"i386", "i586", "386"}, "aarch64": {"arm64"}, "armv7l": {"armhf", "armv6l", "armv7"}, "riscv64": nil,
		"ppc64le": {"ppc64el"}, "ppc64": {"powerpc64"}, "s390x": nil, "mips64": nil, "mips": nil, "ppc": {"powerpc"}, "riscv32": nil,
	} {
		if a == name {
			return name
		}
		for _, o := range others {
			if a == o {
				return name
			}
		}
	}
	return ""
}

func unixTime(n int64) time.Time {
	if n <= 0 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

// sizeText is how operations tell the size of an image.
func sizeText(n int64) string { return strconv.FormatInt(n, 10) }
