package image

import (
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"os"

	"sett/lxd/rest"
	"sett/shared/archive"
)

// handleExport sends the file of an image, or its two files as parts.
func (s *Service) handleExport(ctx context.Context, r *rest.Request) (rest.Response, error) {
	i, err := s.one(ctx, r, true)
	if err != nil {
		return nil, err
	}
	if err := s.ensure(ctx, i.Fingerprint); err != nil {
		return nil, err
	}
	meta, err := open(s.file(i.Fingerprint))
	if err != nil {
		return nil, err
	}
	rootfs, err := open(s.rootfs(i.Fingerprint))
	if err != nil && !os.IsNotExist(err) {
		_ = meta.Close()
		return nil, err
	}
	by := r.Caller().Requestor()
	return rest.Raw(func(w http.ResponseWriter, hr *http.Request) error {
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
	}), nil
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
