package archive

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"sett/shared/errs"
)

// ErrStop ends a walk without an error.
var ErrStop = errors.New("stop")

// Entry is one file of a tarball, with a clean name: no leading "./" or "/".
type Entry struct {
	Name string
	Dir  bool
	Link bool
	Size int64
}

// Reader reads a tarball entry by entry, from its beginning.
type Reader struct {
	ctx   context.Context
	plain io.ReadCloser
	tar   *tar.Reader
}

// NewReader begins to read. ctx ends it. Close is to be called, and does not close r.
func NewReader(ctx context.Context, format Format, r io.Reader) (*Reader, error) {
	plain, err := Decompress(format, ctxReader{ctx, r})
	if err != nil {
		return nil, broken(ctx, err)
	}
	return &Reader{ctx, plain, tar.NewReader(plain)}, nil
}

// Next goes to the next entry, of which Read gives the content. io.EOF ends the tarball. A
// name that would lead out of it is an error.
func (r *Reader) Next() (Entry, error) {
	h, err := r.tar.Next()
	if err == io.EOF {
		return Entry{}, err
	}
	if err != nil {
		return Entry{}, broken(r.ctx, err)
	}
	name := path.Clean("/" + h.Name)[1:]
	for part := range strings.SplitSeq(h.Name, "/") {
		if part == ".." {
			return Entry{}, errs.Invalid("The archive has a file name with \"..\" in it: %q", h.Name)
		}
	}
	return Entry{
		Name: name, Dir: h.Typeflag == tar.TypeDir, Size: h.Size,
		Link: h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink,
	}, nil
}

// Read reads the content of the entry.
func (r *Reader) Read(p []byte) (int, error) { return r.tar.Read(p) }

// Close ends the reading.
func (r *Reader) Close() error { return r.plain.Close() }

// Walk reads a tarball from its beginning and calls f for every entry; r is the
// content of that entry.
func Walk(ctx context.Context, format Format, r io.Reader, f func(e Entry, r io.Reader) error) error {
	t, err := NewReader(ctx, format, r)
	if err != nil {
		return err
	}
	defer t.Close()
	for {
		e, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(e, t); err != nil {
			if err == ErrStop {
				return nil
			}
			return err
		}
	}
}

func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errs.Invalid("The archive is broken: %w", err)
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
