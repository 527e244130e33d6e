package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/event"
	ufake "sett/lxd/host/unpack/fake"
	"sett/lxd/image"
	"sett/lxd/lock"
	"sett/lxd/op"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/shared/errs"
)

// jail is the fake one; no test here has metadata in a squashfs.
type jail struct{ ufake.Jail }

func (jail) Only(context.Context, string, string, ...string) error {
	return errs.Internal("not in this test")
}

type pools struct {
	deleted []string
	look    func() // runs when an image is to go
}

func (p *pools) DeleteImage(_ context.Context, fp string) error {
	p.deleted = append(p.deleted, fp)
	if p.look != nil {
		p.look()
	}
	return nil
}

type world struct {
	t      *testing.T
	dir    string
	db     *db.DB
	pools  *pools
	s      *image.Service
	caller auth.Caller
	server http.Handler
	ops    *op.Manager
	config map[string]string // the server's
	full   atomic.Bool       // the disk with the images
	onLook func()            // runs when somebody looks whether it is
	sync   func(path string) error
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), db: dbtest.Open(t), pools: &pools{}, caller: auth.Caller{Protocol: "unix", Admin: true}}
	if err := os.Mkdir(filepath.Join(w.dir, "images"), 0o700); err != nil {
		t.Fatal(err)
	}
	bus := event.NewBus("")
	ops := op.New(t.Context(), bus, "", time.Minute)
	w.ops = ops
	w.s = image.New(image.Deps{DB: w.db, Bus: bus, Ops: ops, Locks: lock.New(), Pools: w.pools, Unpacker: jail{}, Dir: w.dir,
		Config: func(context.Context) (map[string]string, error) { return w.config, nil },
		Full: func(*os.File) bool {
			if w.onLook != nil {
				w.onLook()
			}
			return w.full.Load()
		},
		Sync: func(path string) error {
			if w.sync == nil {
				return nil
			}
			return w.sync(strings.TrimPrefix(path, w.dir))
		}})
	rs := append(w.s.Routes(), rest.Route{Path: "/1.0/operations/{id}", Method: "GET", Summary: "x", Need: auth.Public,
		Handler: func(ctx context.Context, r *rest.Request) (rest.Response, error) {
			o, err := ops.Get(r.Value(0))
			if err != nil {
				return nil, err
			}
			_ = o.Wait(ctx)
			return rest.Sync(o.API()), nil
		}})
	w.server = rest.New(rest.Deps{Log: slog.New(slog.DiscardHandler), Project: project.New(w.db).Chain,
		Authenticate: func(*http.Request) (auth.Caller, error) { return w.caller, nil }}, rs)
	return w
}

// tarball makes an archive: names and contents in turn; a name with a slash at its
// end is a folder.
func tarball(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for n := 0; n < len(files); n += 2 {
		h := &tar.Header{Name: files[n], Mode: 0o644, Size: int64(len(files[n+1]))}
		if strings.HasSuffix(files[n], "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, files[n+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const meta = "architecture: amd64\ncreation_date: 1700000000\nproperties:\n  os: Debian\n  release: bookworm\n"

func unified(t *testing.T) []byte {
	return tarball(t, "metadata.yaml", meta, "rootfs/", "", "rootfs/etc", "x")
}

func (w *world) do(method, url string, body []byte, hdr ...string) (int, string, http.Header) {
	w.t.Helper()
	req := httptest.NewRequest(method, url, bytes.NewReader(body))
	for n := 0; n+1 < len(hdr); n += 2 {
		req.Header.Set(hdr[n], hdr[n+1])
	}
	rec := httptest.NewRecorder()
	w.server.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String(), rec.Header()
}

func (w *world) want(code int, text, method, url, body string, hdr ...string) string {
	w.t.Helper()
	got, b, _ := w.do(method, url, []byte(body), hdr...)
	if got != code || !strings.Contains(b, text) {
		w.t.Errorf("%s %s: %d %s; want %d with %s", method, url, got, b, code, text)
	}
	return b
}

// run waits for the operation that a request begins and returns it.
func (w *world) run(method, url string, body []byte, hdr ...string) map[string]any {
	w.t.Helper()
	code, b, _ := w.do(method, url, body, hdr...)
	var e struct{ Operation string }
	if code != 202 || json.Unmarshal([]byte(b), &e) != nil {
		w.t.Fatalf("%s %s: %d %s", method, url, code, b)
	}
	_, b, _ = w.do("GET", e.Operation, nil)
	var o struct{ Metadata map[string]any }
	if err := json.Unmarshal([]byte(b), &o); err != nil {
		w.t.Fatal(err)
	}
	return o.Metadata
}

func (w *world) files() []string {
	var out []string
	ents, _ := os.ReadDir(filepath.Join(w.dir, "images"))
	for _, e := range ents {
		out = append(out, e.Name())
	}
	return out
}

func sum(bs ...[]byte) string {
	h := sha256.New()
	for _, b := range bs {
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestLifeOfAUnifiedImage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	b := unified(t)
	fp := sum(b)
	o := w.run("POST", "/1.0/images", b, "X-LXD-filename", "deb.tar", "X-LXD-properties", "flavour=sweet", "X-LXD-fingerprint", fp)
	if o["status"] != "Success" || o["metadata"].(map[string]any)["fingerprint"] != fp {
		t.Fatalf("operation %v", o)
	}
	w.want(200, `"properties":{"flavour":"sweet","os":"Debian","release":"bookworm"}`, "GET", "/1.0/images/"+fp[:6], "")
	w.want(200, `"architecture":"x86_64","cached":false,"filename":"deb.tar"`, "GET", "/1.0/images/"+fp, "")
	w.want(200, `["/1.0/images/`+fp+`"]`, "GET", "/1.0/images", "")
	w.want(200, `[]`, "GET", "/1.0/images?filter=properties.os+eq+Alpine", "")

	if o := w.run("POST", "/1.0/images", b); o["status"] != "Failure" || !strings.Contains(o["err"].(string), "already exists") || o["metadata"].(map[string]any)["fingerprint"] != fp {
		t.Errorf("second upload: %v", o)
	}
	if got := w.files(); len(got) != 1 || got[0] != fp {
		t.Errorf("files %v", got)
	}
	code, got, h := w.do("GET", "/1.0/images/"+fp+"/export", nil)
	if code != 200 || got != string(b) || h.Get("Content-Disposition") != "inline;filename="+fp+".tar" {
		t.Errorf("export: %d, %d bytes, %v", code, len(got), h)
	}

	w.want(201, "", "POST", "/1.0/images/aliases", `{"name":"debian/12","target":"`+fp+`","description":"d"}`)
	w.want(409, "already exists", "POST", "/1.0/images/aliases", `{"name":"debian/12","target":"`+fp+`"}`)
	w.want(404, "not found", "POST", "/1.0/images/aliases", `{"name":"x","target":"abcdef"}`)
	for _, u := range []string{"/1.0/images/aliases/debian/12", "/1.0/images/aliases/debian%2F12"} {
		w.want(200, `{"description":"d","target":"`+fp+`","name":"debian/12","type":"container"}`, "GET", u, "")
	}
	w.want(200, `"aliases":[{"name":"debian/12","description":"d"}]`, "GET", "/1.0/images/"+fp, "")
	w.want(200, "", "PATCH", "/1.0/images/aliases/debian%2F12", `{"description":"e"}`)
	w.want(201, "", "POST", "/1.0/images/aliases/debian%2F12", `{"name":"deb"}`)
	w.want(200, `"description":"e"`, "GET", "/1.0/images/aliases/deb", "")

	_, _, h = w.do("GET", "/1.0/images/"+fp, nil)
	w.want(200, "", "PATCH", "/1.0/images/"+fp, `{"public":true,"properties":{"flavour":""}}`, "If-Match", h.Get("ETag"))
	w.want(412, "ETag", "PUT", "/1.0/images/"+fp, `{}`, "If-Match", h.Get("ETag"))
	// What is not said of its end leaves that as it is; no word of profiles means the usual one.
	w.want(200, `"expires_at":"1970-01-01T00:00:00Z"`, "GET", "/1.0/images/"+fp, "")
	w.want(200, "", "PATCH", "/1.0/images/"+fp, `{"profiles":[],"expires_at":"2040-01-01T00:00:00Z"}`)
	w.want(200, `"expires_at":"2040-01-01T00:00:00Z","profiles":[]`, "GET", "/1.0/images/"+fp, "")
	w.want(200, "", "PUT", "/1.0/images/"+fp, `{"public":true,"properties":{"os":"Debian","release":"bookworm"}}`)
	w.want(200, `"expires_at":"2040-01-01T00:00:00Z","profiles":["default"]`, "GET", "/1.0/images/"+fp, "")
	w.want(200, "", "PATCH", "/1.0/images/"+fp, `{"expires_at":"1970-01-01T00:00:00Z"}`)
	w.want(200, `"expires_at":"1970-01-01T00:00:00Z"`, "GET", "/1.0/images/"+fp, "")
	w.want(200, `"properties":{"os":"Debian","release":"bookworm"},"public":true`, "GET", "/1.0/images/"+fp, "")

	if o := w.run("DELETE", "/1.0/images/"+fp, nil); o["status"] != "Success" {
		t.Errorf("delete: %v", o)
	}
	w.want(404, "not found", "GET", "/1.0/images/aliases/deb", "")
	if got := w.files(); len(got) != 0 || len(w.pools.deleted) != 1 {
		t.Errorf("left %v, pools told %v", got, w.pools.deleted)
	}
}

func TestSplitImage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	m, root := tarball(t, "metadata.yaml", meta), tarball(t, "etc", "x")
	var body bytes.Buffer
	mw := multipart.NewWriter(&body)
	for n, b := range map[string][]byte{"metadata": m} {
		p, _ := mw.CreateFormFile(n, "meta.tar")
		_, _ = p.Write(b)
	}
	p, _ := mw.CreateFormFile("rootfs", "root.tar")
	_, _ = p.Write(root)
	_ = mw.Close()
	fp := sum(m, root)
	if o := w.run("POST", "/1.0/images", body.Bytes(), "Content-Type", mw.FormDataContentType()); o["status"] != "Success" {
		t.Fatalf("operation %v", o)
	}
	code, got, h := w.do("GET", "/1.0/images/"+fp+"/export", nil)
	if code != 200 || !strings.HasPrefix(h.Get("Content-Type"), "multipart/form-data") {
		t.Fatalf("export %d %v", code, h)
	}
	_, params, _ := strings.Cut(h.Get("Content-Type"), "boundary=")
	mr := multipart.NewReader(strings.NewReader(got), params)
	for _, want := range []struct {
		name, file string
		content    []byte
	}{{"metadata", "meta-" + fp + ".tar", m}, {"rootfs", fp + ".tar", root}} {
		p, err := mr.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(p)
		if p.FormName() != want.name || p.FileName() != want.file || !bytes.Equal(b, want.content) {
			t.Errorf("part %s %s, %d bytes", p.FormName(), p.FileName(), len(b))
		}
	}
}

func TestBrokenImagesLeaveNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, c := range map[string]struct {
		body []byte
		text string
	}{
		"not an archive":  {[]byte("hello, this is not an archive at all"), ""},
		"no metadata":     {tarball(t, "rootfs/", ""), "metadata.yaml"},
		"no architecture": {tarball(t, "metadata.yaml", "properties: {}\n", "rootfs/", ""), "architecture"},
		"odd hardware":    {tarball(t, "metadata.yaml", "architecture: pdp11\n", "rootfs/", ""), "architecture"},
		"bad yaml":        {tarball(t, "metadata.yaml", "{{{", "rootfs/", ""), "not right"},
		"cut off":         {unified(t)[:560], ""},
	} {
		if o := w.run("POST", "/1.0/images", c.body); o["status"] != "Failure" || !strings.Contains(o["err"].(string), c.text) {
			t.Errorf("%s: %v", name, o)
		}
	}
	w.want(400, "empty", "POST", "/1.0/images", "")
	w.want(400, "fingerprint", "POST", "/1.0/images", string(unified(t)), "X-LXD-fingerprint", "abc")
	w.want(501, `\"url\"`, "POST", "/1.0/images", `{"source":{"type":"url"}}`, "Content-Type", "application/json")
	w.want(501, `\"url\"`, "POST", "/1.0/images", `{"source":{"type":"url"}}`)
	w.want(501, `\"url\"`, "POST", "/1.0/images", `{"source":{"type":"url"}}`, "Content-Type", "application/x-www-form-urlencoded")
	w.want(400, "boundary", "POST", "/1.0/images", "x", "Content-Type", "multipart/form-data")
	if got := w.files(); len(got) != 0 {
		t.Errorf("left %v", got)
	}
	w.want(200, `"metadata":[]`, "GET", "/1.0/images", "")
}

func TestStrangersSeePublicImagesOnly(t *testing.T) {
	t.Parallel()
	w := setup(t)
	b := unified(t)
	fp := sum(b)
	w.run("POST", "/1.0/images", b)
	w.want(201, "", "POST", "/1.0/images/aliases", `{"name":"deb","target":"`+fp+`"}`)
	code, body, _ := w.do("POST", "/1.0/images/"+fp+"/secret", nil)
	var e struct {
		Metadata struct{ Metadata map[string]string }
	}
	if code != 202 || json.Unmarshal([]byte(body), &e) != nil {
		t.Fatal(code, body)
	}
	admin := w.caller
	w.caller = auth.Caller{}
	w.want(200, `"metadata":[]`, "GET", "/1.0/images?recursion=1", "")
	w.want(404, "not found", "GET", "/1.0/images/"+fp, "")
	w.want(404, "not found", "GET", "/1.0/images/"+fp+"/export?secret=wrong", "")
	w.want(404, "not found", "GET", "/1.0/images/aliases/deb", "")
	w.want(403, "", "DELETE", "/1.0/images/"+fp, "")
	secret := e.Metadata.Metadata["secret"]
	w.want(200, fp, "GET", "/1.0/images/"+fp+"?secret="+secret, "") // a look does not use it up
	if code, _, _ := w.do("GET", "/1.0/images/"+fp+"/export?secret="+secret, nil); code != 200 {
		t.Errorf("export with the secret: %d", code)
	}
	w.want(404, "not found", "GET", "/1.0/images/"+fp+"/export?secret="+secret, "")
	w.caller = admin
	w.want(200, "", "PATCH", "/1.0/images/"+fp, `{"public":true}`)
	w.caller = auth.Caller{}
	w.want(200, fp, "GET", "/1.0/images", "")
	w.want(200, fp, "GET", "/1.0/images/aliases/deb", "")
}

func TestLeftoversGoAtStart(t *testing.T) {
	t.Parallel()
	w := setup(t)
	b := unified(t)
	w.run("POST", "/1.0/images", b)
	for _, n := range []string{"lxd_build_1/meta", strings.Repeat("a", 64), strings.Repeat("b", 64) + ".rootfs"} {
		p := filepath.Join(w.dir, "images", n)
		_ = os.MkdirAll(filepath.Dir(p), 0o700)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.files(); len(got) != 1 || got[0] != sum(b) {
		t.Errorf("left %v", got)
	}
}

func TestPrefixesAreNotPatterns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run("POST", "/1.0/images", unified(t))
	w.run("POST", "/1.0/images", tarball(t, "metadata.yaml", meta, "rootfs/", "", "rootfs/other", "y"))
	w.want(404, "not found", "GET", "/1.0/images/%25", "")
	w.want(404, "not found", "GET", "/1.0/images/_", "")
}

func TestStrangersLearnNothingFromPrefixes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for n := range 17 { // two of them begin alike
		w.run("POST", "/1.0/images", tarball(t, "metadata.yaml", meta, "rootfs/", "", "rootfs/n", strings.Repeat("x", n)))
	}
	seen := map[string]bool{}
	prefix := ""
	for _, f := range w.files() {
		if seen[f[:1]] {
			prefix = f[:1]
		}
		seen[f[:1]] = true
	}
	w.want(400, "more than one", "GET", "/1.0/images/"+prefix, "")
	w.caller = auth.Caller{}
	w.want(404, "not found", "GET", "/1.0/images/"+prefix, "")
}

func TestProjectsThatShareImagesSeeThemOnly(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dbtest.Exec(t, w.db, `INSERT INTO projects (name, description) VALUES ('web', '')`)
	b := unified(t)
	fp := sum(b)
	w.run("POST", "/1.0/images", b)
	w.want(201, "", "POST", "/1.0/images/aliases", `{"name":"deb","target":"`+fp+`"}`)
	w.caller = auth.Caller{Protocol: "tls", Projects: []string{"web"}}
	w.want(200, fp, "GET", "/1.0/images?project=web", "")
	w.want(200, fp, "GET", "/1.0/images/"+fp[:12]+"?project=web", "")
	w.want(200, fp, "GET", "/1.0/images/aliases/deb?project=web", "")
	w.want(404, "", "GET", "/1.0/images/"+fp, "")
	w.want(403, "", "DELETE", "/1.0/images/"+fp+"?project=web", "")
	w.want(403, "", "PATCH", "/1.0/images/"+fp+"?project=web", `{"public":true}`)
	w.want(403, "", "DELETE", "/1.0/images/aliases/deb?project=web", "")
	w.caller = auth.Caller{Protocol: "tls", Projects: []string{"other"}}
	w.want(404, "", "GET", "/1.0/images/"+fp+"?project=web", "")
}

// TestFilesGoBeforeThePoolsLetGo: an instance that is created meanwhile must not unpack
// the image again behind the back of who deletes it.
func TestFilesGoBeforeThePoolsLetGo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	b := unified(t)
	w.run("POST", "/1.0/images", b)
	w.pools.look = func() {
		if got := w.files(); len(got) != 0 {
			t.Errorf("still there: %v", got)
		}
	}
	w.run("DELETE", "/1.0/images/"+sum(b), nil)
	if len(w.pools.deleted) != 1 {
		t.Errorf("pools were told %v", w.pools.deleted)
	}
}

// TestImagesOutliveTheirDatabase starts on the files of images that are older than the
// database, and on some that are not.
func TestImagesOutliveTheirDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	b := unified(t)
	old, late := sum(b), strings.Repeat("b", 64)
	for _, n := range []string{old, strings.Repeat("a", 64) + ".rootfs", late, "lxd_build_1"} {
		p := filepath.Join(w.dir, "images", n)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if n != late {
			then := time.Now().Add(-time.Hour)
			if err := os.Chtimes(p, then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.files(); !slices.Equal(got, []string{strings.Repeat("a", 64) + ".rootfs", old}) {
		t.Errorf("left: %v", got)
	}
	// What is imported again takes the place of what was kept, and of what is cut off.
	if err := os.Truncate(filepath.Join(w.dir, "images", old), 7); err != nil {
		t.Fatal(err)
	}
	if o := w.run("POST", "/1.0/images", b); o["status"] != "Success" {
		t.Errorf("imported again: %v", o)
	}
	w.want(200, old, "GET", "/1.0/images", "")
	if code, got, _ := w.do("GET", "/1.0/images/"+old+"/export", nil); code != 200 || got != string(b) {
		t.Errorf("export: %d, %d bytes", code, len(got))
	}
}

// TestUploadsEndBeforeTheDiskIsFull: the database may be on it.
func TestUploadsEndBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.full.Store(true)
	w.want(503, "no room for the image", "POST", "/1.0/images", string(unified(t)))
	body, kind, _ := split(t)
	w.want(503, "no room for the image", "POST", "/1.0/images", string(body), "Content-Type", kind)
	if got := w.files(); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

// TestFilesAreOnDiskBeforeTheirRecord, or a power cut would leave the record of an image
// with nothing in it.
func TestFilesAreOnDiskBeforeTheirRecord(t *testing.T) {
	t.Parallel()
	body, kind, fp := split(t)
	for fail := range 4 {
		w := setup(t)
		var synced []string
		w.sync = func(path string) error {
			w.want(200, `"metadata":[]`, "GET", "/1.0/images", "")
			if len(synced) == fail {
				return unix.ENOSPC
			}
			synced = append(synced, filepath.Base(path))
			return nil
		}
		o := w.run("POST", "/1.0/images", body, "Content-Type", kind)
		if fail == 3 { // nothing is synced after the record
			slices.Sort(synced[:2])
			if o["status"] != "Success" || !slices.Equal(synced, []string{"meta", "rootfs", "images"}) {
				t.Errorf("%v, synced: %v", o, synced)
			}
			w.sync = nil
			w.want(200, fp, "GET", "/1.0/images", "")
			continue
		}
		if text, _ := o["err"].(string); !strings.Contains(text, "no room for the image") {
			t.Errorf("%d: %v", fail, o)
		}
		w.sync = nil
		w.want(200, `"metadata":[]`, "GET", "/1.0/images", "")
		if got := w.files(); len(got) != 0 {
			t.Errorf("%d: left %v", fail, got)
		}
	}
}

// TestChangesAtOnceLoseNothing changes one image from many sides.
func TestChangesAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	b := unified(t)
	w.run("POST", "/1.0/images", b)
	w.want(201, "", "POST", "/1.0/images/aliases", `{"name":"deb","target":"`+sum(b)+`"}`)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			w.want(200, "", "PATCH", "/1.0/images/"+sum(b), fmt.Sprintf(`{"properties":{"p%d":"1"}}`, n))
		})
	}
	wg.Wait()
	for n := range 8 {
		w.want(200, fmt.Sprintf(`"p%d":"1"`, n), "GET", "/1.0/images/"+sum(b), "")
	}
	_, _, h := w.do("GET", "/1.0/images/aliases/deb", nil)
	var changed atomic.Int64
	for n := range 8 {
		wg.Go(func() {
			code, text, _ := w.do("PATCH", "/1.0/images/aliases/deb", []byte(fmt.Sprintf(`{"description":"%d"}`, n)), "If-Match", h.Get("Etag"))
			switch code {
			case 200:
				changed.Add(1)
			case 412:
			default:
				t.Errorf("%d %s", code, text)
			}
		})
	}
	wg.Wait()
	if changed.Load() != 1 {
		t.Errorf("%d changes of the same state", changed.Load())
	}
}

// TestTheSameImageInTwoProjects lists both where all projects are asked for.
func TestTheSameImageInTwoProjects(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dbtest.Exec(t, w.db, `INSERT INTO projects (name, description) VALUES ('web', '')`)
	dbtest.Exec(t, w.db, `INSERT INTO projects_config (project_id, key, value) SELECT id, 'features.images', 'true' FROM projects WHERE name = 'web'`)
	dbtest.Exec(t, w.db, `INSERT INTO profiles (name, description, project_id) SELECT 'default', '', id FROM projects WHERE name = 'web'`)
	b := unified(t)
	fp := sum(b)
	w.run("POST", "/1.0/images", b)
	w.run("POST", "/1.0/images?project=web", b)
	w.want(200, `["/1.0/images/`+fp+`","/1.0/images/`+fp+`?project=web"]`, "GET", "/1.0/images?all-projects=true", "")
	// One goes, and the other keeps the files.
	w.run("DELETE", "/1.0/images/"+fp, nil)
	if got := w.files(); !slices.Equal(got, []string{fp}) || len(w.pools.deleted) > 0 {
		t.Errorf("files %v, pools were told %v", got, w.pools.deleted)
	}
	w.run("DELETE", "/1.0/images/"+fp+"?project=web", nil)
	if got := w.files(); len(got) != 0 {
		t.Errorf("left %v", got)
	}
}

// TestTheSameImageTwiceAtOnce: one of many uploads wins, and the others say why not.
func TestTheSameImageTwiceAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	b := unified(t)
	var won, lost atomic.Int64
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			o := w.run("POST", "/1.0/images", b)
			if o["status"] == "Success" {
				won.Add(1)
			} else if err, _ := o["err"].(string); strings.Contains(err, "already exists") {
				lost.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 5 {
		t.Errorf("%d uploads won, %d lost", won.Load(), lost.Load())
	}
	if got := w.files(); !slices.Equal(got, []string{sum(b)}) {
		t.Errorf("files %v", got)
	}
}
