package image_test

import (
	"bytes"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sett/lxd/auth"
	"sett/lxd/cluster/clustertest"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/event"
	"sett/lxd/image"
	"sett/lxd/lock"
	"sett/lxd/op"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
)

// node is one member with images of its own.
type node struct {
	*clustertest.Member
	s   *image.Service
	ops *op.Manager
	t   *testing.T
	dir string
}

func nodes(t *testing.T, n int) (*db.DB, []*node) {
	t.Helper()
	d := dbtest.Open(t)
	var out []*node
	for _, m := range clustertest.New(t, d, n) {
		x := &node{Member: m, t: t, dir: t.TempDir()}
		if err := os.Mkdir(filepath.Join(x.dir, "images"), 0o700); err != nil {
			t.Fatal(err)
		}
		bus := event.NewBus("")
		x.ops = op.New(t.Context(), bus, "", time.Minute)
		x.s = image.New(image.Deps{DB: d, Bus: bus, Ops: x.ops, Locks: lock.New(), Pools: &pools{}, Unpacker: jail{}, Dir: x.dir, Here: m.Here, Relay: m.Relay})
		m.Serve(t, rest.New(rest.Deps{Log: slog.New(slog.DiscardHandler), Project: project.New(d).Chain,
			Authenticate: clustertest.Caller(auth.Caller{Protocol: "unix", Admin: true})}, x.s.Routes()))
		out = append(out, x)
	}
	return d, out
}

func (x *node) do(method, path string, body []byte) (int, []byte) {
	x.t.Helper()
	req, err := http.NewRequestWithContext(x.t.Context(), method, x.URL()+path, bytes.NewReader(body))
	if err != nil {
		x.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		x.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// run does what ends in an operation and waits for that.
func (x *node) run(method, path string, body []byte) {
	x.t.Helper()
	code, b := x.do(method, path, body)
	if code != http.StatusAccepted {
		x.t.Fatalf("%s %s: %d %s", method, path, code, b)
	}
	for _, o := range x.ops.List() {
		if err := o.Wait(x.t.Context()); err != nil {
			x.t.Fatal(err)
		}
	}
}

func (x *node) has(fp string) bool {
	_, err := os.Stat(filepath.Join(x.dir, "images", fp))
	return err == nil
}

func TestImagesComeFromMembersThatHaveThem(t *testing.T) {
	t.Parallel()
	d, ns := nodes(t, 3)
	b := unified(t)
	fp := sum(b)
	ns[0].run("POST", "/1.0/images", b)
	if !ns[0].has(fp) || ns[1].has(fp) {
		t.Fatal("the image is not where it was uploaded")
	}
	if err := ns[1].s.Fill(t.Context(), fp, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if !ns[1].has(fp) || ns[2].has(fp) {
		t.Error("the image is not where it was used")
	}
	// The one that has it now is enough for the third.
	ns[0].Down.Store(true)
	if code, got := ns[2].do("GET", "/1.0/images/"+fp+"/export", nil); code != 200 || !bytes.Equal(got, b) {
		t.Errorf("%d, %d bytes", code, len(got))
	}
	ns[0].Down.Store(false)
	rows, err := d.Run(t.Context(), `SELECT count(*) FROM images_nodes`)
	if err != nil || rows[0].Rows[0][0] != int64(3) {
		t.Errorf("%v %v", rows, err)
	}
	ns[1].run("DELETE", "/1.0/images/"+fp, nil)
	for _, n := range ns {
		if n.has(fp) {
			t.Errorf("%s still has the image", n.Here.Name())
		}
	}
}

func TestImagesOfTwoParts(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 2)
	body, kind, fp := split(t)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", ns[0].URL()+"/1.0/images", bytes.NewReader(body))
	req.Header.Set("Content-Type", kind)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	for _, o := range ns[0].ops.List() {
		if err := o.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := ns[1].s.Fill(t.Context(), fp, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if !ns[1].has(fp) || !ns[1].has(fp+".rootfs") {
		t.Error("a part is missing")
	}
}

func TestNobodyHasTheImage(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 3)
	b := unified(t)
	fp := sum(b)
	ns[0].run("POST", "/1.0/images", b)
	left := func() {
		t.Helper()
		if es, _ := os.ReadDir(filepath.Join(ns[1].dir, "images")); len(es) > 0 {
			t.Errorf("%s is left", es[0].Name())
		}
	}
	ns[0].Down.Store(true)
	if err := ns[1].s.Fill(t.Context(), fp, t.TempDir()); errs.Status(err) != 503 || !strings.Contains(err.Error(), "m1") {
		t.Errorf("got %v", err)
	}
	left()
	ns[0].Down.Store(false)
	// What arrives must be the image.
	if err := os.WriteFile(filepath.Join(ns[0].dir, "images", fp), []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ns[1].s.Fill(t.Context(), fp, t.TempDir()); err == nil || !strings.Contains(err.Error(), "another one") {
		t.Errorf("got %v", err)
	}
	left()
	if err := os.Remove(filepath.Join(ns[0].dir, "images", fp)); err != nil {
		t.Fatal(err)
	}
	if err := ns[0].s.Start(t.Context()); err != nil { // finds out
		t.Fatal(err)
	}
	if err := ns[1].s.Fill(t.Context(), fp, t.TempDir()); errs.Status(err) != 404 || !strings.Contains(err.Error(), "import it again") {
		t.Errorf("got %v", err)
	}
	left()
}

// split is an image of two files, as the body of an upload.
func split(t *testing.T) (body []byte, kind, fingerprint string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	m, r := tarball(t, "metadata.yaml", meta), tarball(t, "etc/", "", "etc/hostname", "x")
	for _, p := range []struct {
		name string
		text []byte
	}{{"metadata", m}, {"rootfs", r}} {
		f, err := w.CreateFormFile(p.name, p.name+".tar")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(p.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), w.FormDataContentType(), sum(append(m, r...))
}

func TestOnlyMembersFetchFiles(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 2)
	b := unified(t)
	fp := sum(b)
	ns[0].run("POST", "/1.0/images", b)
	for _, c := range []struct{ method, path string }{{"GET", "/internal/images/" + fp + "/meta"}, {"DELETE", "/internal/images/" + fp}} {
		if code, got := ns[0].do(c.method, c.path, nil); code != 403 {
			t.Errorf("%s %s: %d %s", c.method, c.path, code, got)
		}
	}
	// And members nothing but images.
	for _, p := range []string{"..%2F..%2Fetc%2Fpasswd/meta", "abc/meta", fp + "/other", fp + "/..%2F..%2Fx"} {
		if code := status(t, ns[1], p); code != 400 && code != 404 {
			t.Errorf("%s: %d", p, code)
		}
	}
}

func status(t *testing.T, from *node, path string) int {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", from.URL()+"/internal/images/"+path, nil)
	clustertest.Mark(req)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestSecretsTellTheirMember(t *testing.T) {
	t.Parallel()
	_, ns := nodes(t, 2)
	b := unified(t)
	fp := sum(b)
	ns[0].run("POST", "/1.0/images", b)
	code, got := ns[1].do("POST", "/1.0/images/"+fp+"/secret", nil)
	if code != 202 {
		t.Fatalf("%d %s", code, got)
	}
	var o api.Operation
	for _, x := range ns[1].ops.List() {
		o = x.API()
	}
	secret, _ := o.Metadata["secret"].(string)
	if len(secret) != 64 || !strings.HasSuffix(secret, "000002") {
		t.Errorf("the secret is %q", secret)
	}
}
