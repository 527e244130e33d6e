package client

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"sett/shared/api"
)

// ImageCreateArgs are the files of an image to upload.
type ImageCreateArgs struct {
	MetaFile        io.Reader // The unified tarball, or the metadata of a split image
	MetaName        string
	RootfsFile      io.Reader // Only for split images
	RootfsName      string
	Type            string // "container" or "virtual-machine"; only for split images
	ProgressHandler func(progress ProgressData)
}

// ImageFileRequest says where the files of an image go.
type ImageFileRequest struct {
	MetaFile        io.Writer // The unified tarball, or the metadata of a split image
	RootfsFile      io.Writer // Only for split images
	ProgressHandler func(progress ProgressData)
	Secret          string // For a caller without trust
}

// ImageFileResponse tells what came.
type ImageFileResponse struct {
	MetaName   string
	MetaSize   int64
	RootfsName string // Empty: the image is one file
	RootfsSize int64
}

// CreateImage uploads the files of args, or has the server make the image
// itself as image.Source says when args is nil. Files are streamed.
func (r *ProtocolLXD) CreateImage(image api.ImagesPost, args *ImageCreateArgs) (Operation, error) {
	if args == nil {
		op, _, err := r.queryOperation(http.MethodPost, "/1.0/images", image, "")
		return op, err
	}
	if args.MetaFile == nil {
		return nil, errors.New("Metadata file is required")
	}
	var body io.Reader
	kind := "application/octet-stream"
	if args.RootfsFile == nil {
		body = withProgress(args.MetaFile, args.ProgressHandler)
	} else {
		pr, pw := io.Pipe()
		mw := multipart.NewWriter(pw)
		kind = mw.FormDataContentType()
		go func() { _ = pw.CloseWithError(writeParts(mw, args)) }()
		defer func() { _ = pr.Close() }()
		body = withProgress(pr, args.ProgressHandler)
	}
	req, err := r.request(http.MethodPost, "/1.0/images", body, "")
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kind)
	imageHeaders(req.Header, image)
	if image.Filename == "" && args.MetaName != "" {
		req.Header.Set("X-LXD-filename", args.MetaName)
	}
	op, _, err := r.doOperation(req)
	return op, err
}

func imageHeaders(h http.Header, image api.ImagesPost) {
	if image.Filename != "" {
		h.Set("X-LXD-filename", image.Filename)
	}
	if image.Public {
		h.Set("X-LXD-public", "true")
	}
	if len(image.Properties) > 0 {
		q := url.Values{}
		for k, v := range image.Properties {
			q.Set(k, v)
		}
		h.Set("X-LXD-properties", q.Encode())
	}
	if len(image.Profiles) > 0 {
		q := url.Values{}
		for _, p := range image.Profiles {
			q.Add("profile", p)
		}
		h.Set("X-LXD-profiles", q.Encode())
	}
	if image.Source != nil {
		if image.Source.Fingerprint != "" {
			h.Set("X-LXD-fingerprint", image.Source.Fingerprint)
		}
		if image.Source.Secret != "" {
			h.Set("X-LXD-secret", image.Source.Secret)
		}
	}
}

func writeParts(mw *multipart.Writer, args *ImageCreateArgs) error {
	rootfs := "rootfs"
	if args.Type == "virtual-machine" {
		rootfs = "rootfs.img"
	}
	for _, part := range []struct {
		field, name string
		from        io.Reader
	}{{"metadata", args.MetaName, args.MetaFile}, {rootfs, args.RootfsName, args.RootfsFile}} {
		w, err := mw.CreateFormFile(part.field, part.name)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, part.from); err != nil {
			return err
		}
	}
	return mw.Close()
}

// GetImageFile downloads the files of an image and checks its fingerprint.
func (r *ProtocolLXD) GetImageFile(fingerprint string, req ImageFileRequest) (*ImageFileResponse, error) {
	if req.MetaFile == nil {
		return nil, errors.New("No place for the image was given")
	}
	p := path("images", fingerprint, "export")
	if req.Secret != "" {
		p += "?secret=" + url.QueryEscape(req.Secret)
	}
	body, resp, err := r.stream(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	total := resp.ContentLength
	from := io.Reader(body)
	if req.ProgressHandler != nil {
		from = &progressReader{r: body, total: total, report: req.ProgressHandler}
	}
	sum := sha256.New()
	out := &ImageFileResponse{}
	kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil && kind == "multipart/form-data" {
		err = readParts(multipart.NewReader(from, params["boundary"]), req, sum, out)
	} else {
		_, disp, derr := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
		if derr != nil || disp["filename"] == "" {
			return nil, errors.New("Server sent an image without a file name")
		}
		out.MetaName = disp["filename"]
		out.MetaSize, err = io.Copy(io.MultiWriter(req.MetaFile, sum), from)
	}
	if err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.HasPrefix(got, fingerprint) {
		return nil, fmt.Errorf("Image fingerprint doesn't match. Got %s expected %s", got, fingerprint)
	}
	return out, nil
}

func readParts(mr *multipart.Reader, req ImageFileRequest, sum hash.Hash, out *ImageFileResponse) error {
	meta, err := mr.NextPart()
	if err != nil {
		return err
	}
	if meta.FormName() != "metadata" {
		return errors.New("Invalid multipart image")
	}
	out.MetaName = meta.FileName()
	if out.MetaSize, err = io.Copy(io.MultiWriter(req.MetaFile, sum), meta); err != nil {
		return err
	}
	rootfs, err := mr.NextPart()
	if err != nil {
		return err
	}
	if n := rootfs.FormName(); n != "rootfs" && n != "rootfs.img" {
		return errors.New("Invalid multipart image")
	}
	if req.RootfsFile == nil {
		return errors.New("Image has two files, a place for its root file system is needed")
	}
	out.RootfsName = rootfs.FileName()
	out.RootfsSize, err = io.Copy(io.MultiWriter(req.RootfsFile, sum), rootfs)
	return err
}
