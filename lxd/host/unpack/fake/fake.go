// Package fake unpacks images without root, for tests: owners, device nodes and
// attributes are left out.
package fake

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"sett/lxd/host/unpack"
	"sett/shared/archive"
	"sett/shared/errs"
)

// Jail stands in for unpack.Jail. The zero value is ready.
type Jail struct {
	// Fail, when set, is asked before each image; its error is the result.
	Fail func(unpack.Image) error
}

// Image unpacks an image of tarballs into the empty folder dir.
func (j Jail) Image(ctx context.Context, img unpack.Image, dir string) error {
	if j.Fail != nil {
		if err := j.Fail(img); err != nil {
			return err
		}
	}
	if err := extract(ctx, img.Meta, "", dir); err != nil {
		return err
	}
	rootfs := filepath.Join(dir, "rootfs")
	if img.Rootfs != "" {
		if err := os.Mkdir(rootfs, 0o755); err != nil {
			return err
		}
		return extract(ctx, img.Rootfs, "", rootfs)
	}
	if fi, err := os.Lstat(rootfs); err != nil || !fi.IsDir() {
		return errs.Invalid("The image has no rootfs folder")
	}
	return nil
}

// Below unpacks folders of a tarball, each into a folder of its own.
func (j Jail) Below(ctx context.Context, path string, into map[string]string) error {
	for _, folder := range slices.Sorted(maps.Keys(into)) {
		if j.Fail != nil {
			if err := j.Fail(unpack.Image{Meta: path, Rootfs: folder}); err != nil {
				return err
			}
		}
		if err := extract(ctx, path, folder+"/", into[folder]); err != nil {
			return err
		}
	}
	return nil
}

// Stream unpacks a plain tarball into a folder.
func (j Jail) Stream(ctx context.Context, r io.Reader, dir string) error {
	if j.Fail != nil {
		if err := j.Fail(unpack.Image{Rootfs: "a stream"}); err != nil {
			return err
		}
	}
	if err := extractFrom(ctx, r, "", dir); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

func extract(ctx context.Context, file, below, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	format, err := archive.DetectFile(f)
	if err != nil {
		return err
	}
	plain, err := archive.Decompress(format, f)
	if err != nil {
		return err
	}
	defer plain.Close()
	return extractFrom(ctx, plain, below, dir)
}

func extractFrom(ctx context.Context, plain io.Reader, below, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for t := tar.NewReader(plain); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err != nil {
			return errs.Invalid("The image cannot be unpacked: %w", err)
		}
		name, ok := strings.CutPrefix(path.Clean("/" + h.Name)[1:], below)
		if !ok {
			continue
		}
		h.Linkname = strings.TrimPrefix(h.Linkname, below)
		if err := one(root, name, h, t); err != nil {
			return errs.Invalid("The image cannot be unpacked: %w", err)
		}
	}
}

func one(root *os.Root, name string, h *tar.Header, r io.Reader) error {
	if name == "" {
		return nil
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(h.Mode)&0o777 | 0o200
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, mode|0o700)
	case tar.TypeSymlink:
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(path.Clean("/" + h.Linkname)[1:], name)
	case tar.TypeReg:
		w, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		return errors.Join(err, w.Close())
	}
	return nil
}
