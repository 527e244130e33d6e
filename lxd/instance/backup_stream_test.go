package instance

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"

	"sett/shared/archive"
	"sett/shared/errs"
)

// TestStreamsAreReadOnceInTheirOrder: what is passed over is not looked for again, however
// many snapshots an index names.
func TestStreamsAreReadOnceInTheirOrder(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{{Name: "a.bin", Typeflag: tar.TypeReg}, {Name: "b.bin", Typeflag: tar.TypeSymlink, Linkname: "a.bin"},
		{Name: "b.bin", Typeflag: tar.TypeReg}, {Name: "c.bin", Typeflag: tar.TypeReg}} {
		text := "of " + h.Name
		if h.Typeflag != tar.TypeReg {
			text = ""
		}
		h.Size, h.Mode = int64(len(text)), 0o600
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := archive.NewReader(t.Context(), archive.Tar, &b)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"a.bin", "b.bin"} {
		if err := member(r, name); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "of "+name {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	if err := member(r, "a.bin"); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("what was passed over: %v", err)
	}
}
