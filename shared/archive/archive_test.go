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

func TestFileOutOfEveryFormat(t *testing.T) {
	t.Parallel()
	plain := tarball(t, "./other", "./metadata.yaml", "rootfs/x")
	for _, f := range []archive.Format{archive.Tar, archive.Gzip, archive.XZ, archive.Zstd, archive.LZ4} {
		b := pack(t, f, plain)
		got, err := archive.DetectFile(bytes.NewReader(b))
		if err != nil || got != f {
			t.Errorf("%s is taken for %q, %v", f, got, err)
		}
		text, err := archive.File(t.Context(), f, bytes.NewReader(b), "metadata.yaml", 100)
		if err != nil || string(text) != "./metadata.yaml" {
			t.Errorf("%s: %q, %v", f, text, err)
		}
		// A download that broke off.
		_, err = archive.File(t.Context(), f, bytes.NewReader(b[:len(b)/3]), "nothing", 100)
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

func TestHostileNamesAndSizesAreRefused(t *testing.T) {
	t.Parallel()
	b := tarball(t, "a/../../etc/passwd")
	if _, err := archive.File(t.Context(), archive.Tar, bytes.NewReader(b), "x", 10); err == nil || !strings.Contains(err.Error(), "..") {
		t.Errorf("got %v", err)
	}
	b = tarball(t, "metadata.yaml")
	if _, err := archive.File(t.Context(), archive.Tar, bytes.NewReader(b), "metadata.yaml", 5); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("too large: %v", err)
	}
	if _, err := archive.File(t.Context(), archive.Tar, bytes.NewReader(b), "other", 5); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("missing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := archive.File(ctx, archive.Tar, bytes.NewReader(b), "other", 5); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
