package image

import (
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"slices"

	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/rest"
	"sett/shared/archive"
)

// handleExport sends the file of an image, or its two files as parts.
func (s *Service) handleExport(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.one(ctx, r, true)
	if err != nil {
		return nil, err
	}
	meta, rootfs, err := s.files(ctx, i)
	if err != nil {
		return nil, err
	}
	return rest.Raw(s.send(i, meta, rootfs, r.Caller().Requestor())), nil
}

// Guest sends an image to a guest that asks for it by its fingerprint: one that is
// public, or that was fetched from elsewhere and is nobody's secret.
func (s *Service) Guest(ctx context.Context, fingerprint string) (func(http.ResponseWriter, *http.Request) error, error) {
	all, err := matches(ctx, s.DB, entity.DefaultProject, fingerprint)
	if err != nil {
		return nil, err
	}
	i, err := only(fingerprint, slices.DeleteFunc(all, func(i Image) bool { return !i.Public && !i.Cached }))
	if err != nil {
		return nil, err
	}
	meta, rootfs, err := s.files(ctx, i)
	if err != nil {
		return nil, err
	}
	return s.send(i, meta, rootfs, nil), nil
}

// files opens what an image consists of; rootfs is nil for one in one piece.
func (s *Service) files(ctx context.Context, i Image) (meta, rootfs *named, err error) {
	if err := s.ensure(ctx, i.Fingerprint); err != nil {
		return nil, nil, err
	}
	if meta, err = open(s.file(i.Fingerprint)); err != nil {
		return nil, nil, err
	}
	if rootfs, err = open(s.rootfs(i.Fingerprint)); err != nil && !os.IsNotExist(err) {
		_ = meta.Close()
		return nil, nil, err
	}
	return meta, rootfs, nil
}

// send answers with the files of an image and closes them.
func (s *Service) send(i Image, meta, rootfs *named, by *event.Requestor) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, hr *http.Request) error {
		defer meta.Close()
		s.Bus.Lifecycle("image-retrieved", ref(i.Project, i.Fingerprint), by, nil)
		if rootfs == nil {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Disposition", "inline;filename="+i.Fingerprint+meta.ext)
			http.ServeContent(w, hr, "", i.Uploaded, meta)
			return nil
		}
		defer rootfs.Close()
		mw := multipart.NewWriter(w)
		w.Header().Set("Content-Type", mw.FormDataContentType())
		for _, p := range []struct {
			name, file string
			from       io.Reader
		}{{"metadata", "meta-" + i.Fingerprint + meta.ext, meta}, {"rootfs", i.Fingerprint + rootfs.ext, rootfs}} {
			part, err := mw.CreateFormFile(p.name, p.file)
			if err != nil {
				return err
			}
			if _, err := io.Copy(part, p.from); err != nil {
				return err
			}
		}
		return mw.Close()
	}
}

// named is a file with the ending that its content calls for.
type named struct {
	*os.File
	ext string
}

func open(path string) (*named, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	format, err := archive.DetectFile(f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &named{f, format.Ext()}, nil
}
