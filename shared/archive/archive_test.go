package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"sett/shared/archive"
	"sett/shared/errs"
)

func tarball(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f, Size: int64(len(f)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pack(t *testing.T, f archive.Format, in []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch f {
	case archive.Tar:
		return in
	case archive.Gzip:
		w = gzip.NewWriter(&b)
	case archive.XZ:
		w, err = xz.NewWriter(&b)
	case archive.Zstd:
		w, err = zstd.NewWriter(&b)
	case archive.LZ4:
		w = lz4.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(in); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// file reads one file out of a tarball.
func file(ctx context.Context, format archive.Format, r io.Reader, name string) (text []byte, err error) {
	found := false
	err = archive.Walk(ctx, format, r, func(e archive.Entry, r io.Reader) error {
		if e.Name != name {
			return nil
		}
		found = true
		if text, err = io.ReadAll(r); err != nil {
			return err
		}
		return archive.ErrStop
	})
	if err == nil && !found {
		err = errs.NotFound("no %s", name)
	}
	return text, err
}

func TestFileOutOfEveryFormat(t *testing.T) {
	t.Parallel()
	plain := tarball(t, "./other", "./metadata.yaml", "rootfs/x")
	for _, f := range []archive.Format{archive.Tar, archive.Gzip, archive.XZ, archive.Zstd, archive.LZ4} {
		b := pack(t, f, plain)
		got, err := archive.DetectFile(bytes.NewReader(b))
		if err != nil || got != f {
			t.Errorf("%s is taken for %q, %v", f, got, err)
		}
		text, err := file(t.Context(), f, bytes.NewReader(b), "metadata.yaml")
		if err != nil || string(text) != "./metadata.yaml" {
			t.Errorf("%s: %q, %v", f, text, err)
		}
		// A download that broke off.
		_, err = file(t.Context(), f, bytes.NewReader(b[:len(b)/3]), "nothing")
		if !errs.Is(err, errs.KindInvalid) {
			t.Errorf("%s, cut: %v", f, err)
		}
	}
	if f, err := archive.Detect([]byte("hsqs....")); err != nil || f != archive.SquashFS {
		t.Errorf("squashfs: %q, %v", f, err)
	}
	for _, s := range []string{"", "BZ", "hello"} {
		if _, err := archive.Detect([]byte(s)); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestHostileNamesAreRefused(t *testing.T) {
	t.Parallel()
	b := tarball(t, "a/../../etc/passwd")
	if _, err := file(t.Context(), archive.Tar, bytes.NewReader(b), "x"); err == nil || !strings.Contains(err.Error(), "..") {
		t.Errorf("got %v", err)
	}
	b = tarball(t, "metadata.yaml")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := file(ctx, archive.Tar, bytes.NewReader(b), "other"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
