package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/image"
	"sett/shared/archive"
	"sett/shared/errs"
)

// instances has one instance, "c1", with a snapshot, and counts who holds it.
type instances struct {
	dir   string
	text  string
	taken atomic.Int64
	held  atomic.Int64
}

func (i *instances) Publish(_ context.Context, _, name string) (*image.Source, error) {
	if name != "c1" && name != "c1/snap" {
		return nil, errs.NotFound("Instance not found")
	}
	i.taken.Add(1)
	i.held.Add(1)
	once := atomic.Bool{}
	return &image.Source{Dir: i.dir, Metadata: []byte(i.text), Architecture: "x86_64", Release: func() {
		if !once.Swap(true) {
			i.held.Add(-1)
		}
	}}, nil
}

const ownMeta = "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: Debian\ntemplates:\n  /etc/hostname:\n    when: [create]\n    template: hostname.tpl\nunknown: kept\n"

// publishing is a world with an instance.
func publishing(t *testing.T) (*world, *instances) {
	t.Helper()
	w := setup(t)
	i := &instances{dir: t.TempDir(), text: ownMeta}
	for name, text := range map[string]string{"rootfs/etc/passwd": "root", "rootfs/bin/sh": strings.Repeat("sh", 1<<16), "templates/hostname.tpl": "{{ name }}", "backup.yaml": "secret"} {
		p := filepath.Join(i.dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.s.Attach(i)
	t.Cleanup(func() {
		if n := i.held.Load(); n != 0 {
			t.Errorf("%d sources are still held", n)
		}
	})
	return w, i
}

func (w *world) post(body string) map[string]any {
	w.t.Helper()
	return w.run("POST", "/1.0/images", []byte(body), "Content-Type", "application/json")
}

// content reads the files of an image's archive.
func (w *world) content(fp string) (format archive.Format, names []string, text map[string]string) {
	w.t.Helper()
	f, err := os.Open(filepath.Join(w.dir, "images", fp))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if format, err = archive.DetectFile(f); err != nil {
		w.t.Fatal(err)
	}
	r, err := archive.Decompress(format, f)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	text = map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return format, names, text
		}
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			w.t.Fatal(err)
		}
		names = append(names, h.Name)
		text[h.Name] = string(b)
	}
}

func fingerprint(t *testing.T, o map[string]any) string {
	t.Helper()
	md, _ := o["metadata"].(map[string]any)
	fp, _ := md["fingerprint"].(string)
	if o["status"] != "Success" || fp == "" {
		t.Fatalf("operation %v", o)
	}
	return fp
}

func TestAnInstanceBecomesAnImage(t *testing.T) {
	t.Parallel()
	w, _ := publishing(t)
	fp := fingerprint(t, w.post(`{"source":{"type":"instance","name":"c1"}}`))
	format, names, text := w.content(fp)
	if format != archive.Gzip || names[0] != "metadata.yaml" || text["metadata.yaml"] != ownMeta {
		t.Errorf("%s, %q, metadata %q", format, names, text["metadata.yaml"])
	}
	for _, n := range []string{"rootfs/", "rootfs/etc/passwd", "rootfs/bin/sh", "templates/", "templates/hostname.tpl"} {
		if !slices.Contains(names, n) {
			t.Errorf("no %s in %q", n, names)
		}
	}
	if slices.Contains(names, "backup.yaml") || slices.Contains(names, "rootfs/backup.yaml") {
		t.Errorf("the daemon's own file is in the image: %q", names)
	}
	// It is a day old at most, whatever the image was that the instance came from.
	b := w.want(200, `"properties":{"os":"Debian"}`, "GET", "/1.0/images/"+fp, "")
	if strings.Contains(b, `"created_at":"2023`) || !strings.Contains(b, `"expires_at":"0001-01-01T00:00:00Z"`) || !strings.Contains(b, `"profiles":["default"]`) {
		t.Errorf("image %s", b)
	}
	// The same again is the same image.
	if o := w.post(`{"source":{"type":"instance","name":"c1"}}`); !strings.Contains(o["err"].(string), "already exists") {
		t.Errorf("again: %v", o)
	}
	if got := w.files(); !slices.Equal(got, []string{fp}) {
		t.Errorf("files %q", got)
	}
}

func TestPublishDoesAllThatTheRequestSays(t *testing.T) {
	t.Parallel()
	w, _ := publishing(t)
	fp := fingerprint(t, w.post(`{"source":{"type":"snapshot","name":"c1/snap"},"compression_algorithm":"none","public":true,"filename":"web.tar",
		"properties":{"a":"b"},"expires_at":"2040-01-01T00:00:00Z","aliases":[{"name":"web","description":"of mine"}]}`))
	format, _, text := w.content(fp)
	if format != archive.Tar || !strings.Contains(text["metadata.yaml"], "expiry_date: 2208988800") || strings.Contains(text["metadata.yaml"], "Debian") ||
		!strings.Contains(text["metadata.yaml"], "hostname.tpl") {
		t.Errorf("%s, metadata %q", format, text["metadata.yaml"])
	}
	for _, want := range []string{`"properties":{"a":"b"}`, `"public":true`, `"filename":"web.tar"`, `"expires_at":"2040-01-01T00:00:00Z"`, `{"name":"web","description":"of mine"}`} {
		w.want(200, want, "GET", "/1.0/images/"+fp, "")
	}
}

func TestAnInstanceWithoutMetadataGetsSome(t *testing.T) {
	t.Parallel()
	w, i := publishing(t)
	i.text = ""
	if err := os.RemoveAll(filepath.Join(i.dir, "templates")); err != nil {
		t.Fatal(err)
	}
	fp := fingerprint(t, w.post(`{"source":{"type":"container","name":"c1"},"compression_algorithm":"zstd -1"}`))
	if format, _, text := w.content(fp); format != archive.Zstd || !strings.Contains(text["metadata.yaml"], "architecture: x86_64") {
		t.Errorf("%s, metadata %q", format, text["metadata.yaml"])
	}
}

func TestPublishAsksTheServerForItsCompression(t *testing.T) {
	t.Parallel()
	w, _ := publishing(t)
	w.config = map[string]string{"images.compression_algorithm": "xz -1"}
	fp := fingerprint(t, w.post(`{"source":{"type":"instance","name":"c1"}}`))
	if format, _, _ := w.content(fp); format != archive.XZ {
		t.Errorf("format %s", format)
	}
}

func TestPublishRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	w, i := publishing(t)
	w.run("POST", "/1.0/images", unified(t), "X-LXD-aliases", "alias=taken")
	before := i.taken.Load()
	for body, want := range map[string]string{
		`{}`:                          "names no source",
		`{"source":{"type":"other"}}`: "not implemented",
		`{"source":{"type":"url"}}`:   "not implemented",
		`{"source":{"type":"virtual-machine","name":"c1"}}`:                                      "Virtual machines",
		`{"source":{"type":"instance"}}`:                                                         "names no instance",
		`{"source":{"type":"instance","name":"c1/snap"}}`:                                        "not the name of a instance",
		`{"source":{"type":"snapshot","name":"c1"}}`:                                             "not the name of a snapshot",
		`{"source":{"type":"instance","name":"c2"}}`:                                             "Instance not found",
		`{"source":{"type":"instance","name":"c1"},"compression_algorithm":"sh -c id"}`:          "not known",
		`{"source":{"type":"instance","name":"c1"},"compression_algorithm":"gzip -S /etc"}`:      "not allowed",
		`{"source":{"type":"instance","name":"c1"},"filename":"../x"}`:                           "not the name of a file",
		`{"source":{"type":"instance","name":"c1"},"aliases":[{"name":"taken"}]}`:                "already exists",
		`{"source":{"type":"instance","name":"c1"},"aliases":[{"name":""}]}`:                     "needs a name",
		`{"source":{"type":"instance","name":"c1"},"compression_algorithm":"none","aliases":{}}`: "Invalid JSON",
	} {
		code, b, _ := w.do("POST", "/1.0/images", []byte(body), "Content-Type", "application/json")
		if code < 400 || code == 500 || !strings.Contains(b, want) {
			t.Errorf("%s: %d %s", body, code, b)
		}
	}
	if n := i.taken.Load(); n != before {
		t.Errorf("%d requests that cannot be have taken the instance", n-before)
	}
}

// TestPublishLeavesNothingBehind fails each step.
func TestPublishLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*world, *instances)
		req   string
		want  string
	}{
		"full disk":      {spoil: func(w *world, _ *instances) { w.full.Store(true) }, want: "no room for the image"},
		"no root":        {spoil: func(_ *world, i *instances) { os.RemoveAll(filepath.Join(i.dir, "rootfs")) }, want: "no root file system"},
		"strange root":   {spoil: func(_ *world, i *instances) { swap(i.dir, "rootfs") }, want: "not a directory"},
		"strange tpl":    {spoil: func(_ *world, i *instances) { swap(i.dir, "templates") }, want: "not a directory"},
		"no metadata":    {spoil: func(_ *world, i *instances) { i.text = "a: [" }, want: "metadata.yaml cannot be read"},
		"profile gone":   {req: `,"profiles":["nope"]`, want: "does not exist"},
		"no image dir":   {spoil: func(w *world, _ *instances) { os.RemoveAll(filepath.Join(w.dir, "images")) }, want: "no such file"},
		"no arch":        {spoil: func(_ *world, i *instances) { i.text = "architecture: pdp11\n" }, want: "architecture that is not known"},
		"names too deep": {spoil: func(_ *world, i *instances) { deep(filepath.Join(i.dir, "rootfs")) }, want: "longer than tar can unpack"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, i := publishing(t)
			if c.spoil != nil {
				c.spoil(w, i)
			}
			o := w.post(`{"source":{"type":"instance","name":"c1"}` + c.req + `}`)
			if err, _ := o["err"].(string); !strings.Contains(err, c.want) {
				t.Errorf("got %q", err)
			}
			if got := w.files(); len(got) != 0 {
				t.Errorf("left behind: %q", got)
			}
			w.want(200, `"metadata":[]`, "GET", "/1.0/images", "")
		})
	}
}

// swap puts a link to the host in place of a folder.
func swap(dir, name string) {
	_ = os.RemoveAll(filepath.Join(dir, name))
	_ = os.Symlink("/etc", filepath.Join(dir, name))
}

func deep(dir string) {
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	for range 30 {
		if err != nil {
			return
		}
		next := -1
		if err = unix.Mkdirat(fd, strings.Repeat("d", 200), 0o700); err == nil {
			next, err = unix.Openat(fd, strings.Repeat("d", 200), unix.O_DIRECTORY, 0)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)
}

// TestPublishCanBeCancelled stops it in the middle: the sink asks for room, which is
// when the operation is cancelled.
func TestPublishCanBeCancelled(t *testing.T) {
	t.Parallel()
	w, i := publishing(t)
	noise := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	for n := range noise {
		noise[n] ^= byte(n * n >> 9)
	}
	if err := os.WriteFile(filepath.Join(i.dir, "rootfs/big"), noise, fs.FileMode(0o600)); err != nil {
		t.Fatal(err)
	}
	w.onLook = func() {
		for _, o := range w.ops.List() {
			if err := o.Cancel(); err != nil {
				t.Error(err)
			}
		}
	}
	o := w.post(`{"source":{"type":"instance","name":"c1"},"compression_algorithm":"none"}`)
	if o["status"] != "Cancelled" {
		t.Errorf("operation %v", o)
	}
	if got := w.files(); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

// TestWhatAKilledPublishLeavesGoes starts the service anew.
func TestWhatAKilledPublishLeavesGoes(t *testing.T) {
	t.Parallel()
	w, _ := publishing(t)
	dir := filepath.Join(w.dir, "images", "lxd_build_1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "meta"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.files(); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

// TestAnAliasThatIsTakenMeanwhile loses the race for a name after the packing.
func TestAnAliasThatIsTakenMeanwhile(t *testing.T) {
	t.Parallel()
	w, _ := publishing(t)
	w.run("POST", "/1.0/images", unified(t))
	var once atomic.Bool
	w.onLook = func() {
		if !once.Swap(true) {
			b, _ := json.Marshal(map[string]string{"name": "web", "target": sum(unified(t))})
			w.want(201, "", "POST", "/1.0/images/aliases", string(b))
		}
	}
	o := w.post(`{"source":{"type":"instance","name":"c1"},"aliases":[{"name":"web"}]}`)
	if err, _ := o["err"].(string); !strings.Contains(err, "already exists") {
		t.Errorf("operation %v", o)
	}
	if got := w.files(); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
}
