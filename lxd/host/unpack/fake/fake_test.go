package fake_test

import (
	"archive/tar"
	"os"
	"path/filepath"
	"testing"

	"sett/lxd/host/unpack"
	"sett/lxd/host/unpack/fake"
	"sett/shared/errs"
)

func write(t *testing.T, names ...string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	for _, n := range names {
		if err := w.WriteHeader(&tar.Header{Name: n, Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestUnpacksUnifiedAndSplit(t *testing.T) {
	t.Parallel()
	unified := write(t, "metadata.yaml", "rootfs/bin/sh")
	meta, root := write(t, "./metadata.yaml"), write(t, "bin/sh")
	for _, img := range []unpack.Image{{Meta: unified}, {Meta: meta, Rootfs: root}} {
		dir := t.TempDir()
		if err := (fake.Jail{}).Image(t.Context(), img, dir); err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"metadata.yaml", "rootfs/bin/sh"} {
			if _, err := os.Stat(filepath.Join(dir, n)); err != nil {
				t.Error(err)
			}
		}
	}
	if err := (fake.Jail{}).Image(t.Context(), unpack.Image{Meta: meta}, t.TempDir()); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("without rootfs: %v", err)
	}
}
