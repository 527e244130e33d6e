package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"sett/client"
	"sett/client/clienttest"
	"sett/shared/api"
)

func connect(t testing.TB) (*clienttest.Server, client.InstanceServer) {
	t.Helper()
	s := clienttest.New(t)
	c, err := client.ConnectLXDUnixWithContext(context.Background(), s.Socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Disconnect)
	return s, c
}

func TestErrorsKeepTheirStatus(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	s.Fail("GET /1.0/profiles/nope", 404, "Profile not found")
	_, _, err := c.GetProfile("nope")
	var status api.StatusError
	if !errors.As(err, &status) || status.Status() != 404 || err.Error() != "Profile not found" {
		t.Errorf("got %v", err)
	}
}

func TestAnswerThatIsNoEnvelopeIsAnError(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	s.Handle("GET /1.0/profiles/x", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html>")
	})
	if _, _, err := c.GetProfile("x"); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("got %v", err)
	}
}

func TestServerIsAskedWhatItIsWhenThatMatters(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	asked, down := 0, true
	s.Handle("GET /1.0", func(w http.ResponseWriter, _ *http.Request) {
		asked++
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, `{"type":"sync","status_code":200,"metadata":{"api_extensions":["console"],"environment":{"server_clustered":true}}}`)
	})
	s.Sync("GET /1.0/profiles/p", api.Profile{Name: "p"})
	c, err := client.ConnectLXDUnixWithContext(context.Background(), s.Socket, &client.ConnectionArgs{SkipGetServer: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Disconnect)
	if _, _, err := c.GetProfile("p"); err != nil || asked != 0 {
		t.Errorf("%v, asked %d times for what is no matter", err, asked)
	}
	// That the server says nothing does not mean that it lacks something.
	if _, err := c.GetOperationHistory(false); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
	down = false
	if _, err := c.UseProject("p").UseTarget("m").GetOperationHistory(false); err == nil || !strings.Contains(err.Error(), `missing the required "sett_operation_history"`) {
		t.Errorf("got %v", err)
	}
	if !c.IsClustered() || !c.HasExtension("console") || asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

// TestOutOfReachIsFoundOutOnce: each attempt to reach a server that is off takes ten seconds.
func TestOutOfReachIsFoundOutOnce(t *testing.T) {
	t.Parallel()
	dialled := 0
	off := &http.Client{Transport: &http.Transport{DialContext: func(_ context.Context, network, _ string) (net.Conn, error) {
		dialled++
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
	}}}
	c, err := client.ConnectLXDHTTP(context.Background(), "http://off.example", off, &client.ConnectionArgs{SkipGetServer: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ExecInstance("c1", api.InstanceExecPost{}, nil)
	_, _, plain := c.RawQuery("POST", "/1.0/instances/c1/exec", nil, "")
	if err == nil || plain == nil || err.Error() != plain.Error() {
		t.Errorf("got %v, want %v", err, plain)
	}
	if dialled != 2 {
		t.Errorf("dialled %d times for two requests", dialled)
	}
}

func TestETagTravels(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	s.Sync("GET /1.0/profiles/p", api.Profile{Name: "p"})
	s.Sync("PUT /1.0/profiles/p", nil)
	p, etag, err := c.GetProfile("p")
	if err != nil || etag != clienttest.ETag {
		t.Fatalf("%q, %v", etag, err)
	}
	if err := c.UpdateProfile("p", p.Writable(), etag); err != nil {
		t.Fatal(err)
	}
	want := `PUT /1.0/profiles/p If-Match:e1 {"config":null,"description":"","devices":null}`
	if got := s.Requests(); len(got) != 1 || got[0] != want {
		t.Errorf("got %q", got)
	}
}

func TestProjectAndTargetTravel(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	s.Sync("GET /1.0/instances?project=p+1&target=m1", []string{"/1.0/instances/a%20b?project=p+1"})
	names, err := c.UseProject("p 1").UseTarget("m1").GetInstanceNames(api.InstanceTypeAny)
	if err != nil || len(names) != 1 || names[0] != "a b" {
		t.Errorf("%v, %v", names, err)
	}
}

func TestNamesAreEscaped(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	s.Sync("GET /1.0/images/aliases/debian%2F12", api.ImageAliasesEntry{Name: "debian/12"})
	a, _, err := c.GetImageAlias("debian/12")
	if err != nil || a.Name != "debian/12" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestOperationEnds(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	s.Async("DELETE /1.0/instances/good", api.Operation{})
	s.Async("DELETE /1.0/instances/bad", api.Operation{StatusCode: api.Failure, Err: "It is busy"})
	op, err := c.DeleteInstance("good")
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Wait(); err != nil {
		t.Error(err)
	}
	if op, err = c.DeleteInstance("bad"); err != nil {
		t.Fatal(err)
	}
	if err := op.Wait(); err == nil || err.Error() != "It is busy" {
		t.Errorf("got %v", err)
	}
}

// Servers may hide their events from a caller; waiting then asks.
func TestOperationEndsWithoutEvents(t *testing.T) {
	t.Parallel()
	s := clienttest.New(t)
	c, err := client.ConnectLXDHTTP(context.Background(), "http://api", &http.Client{Transport: noEvents{s}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Async("DELETE /1.0/instances/c1", api.Operation{StatusCode: api.Failure, Err: "It is busy"})
	op, err := c.DeleteInstance("c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Wait(); err == nil || err.Error() != "It is busy" {
		t.Errorf("got %v", err)
	}
}

// noEvents hands requests to the server without any connection.
type noEvents struct{ s *clienttest.Server }

func (n noEvents) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	n.s.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	s.Handle("DELETE /1.0/instances/c1", func(w http.ResponseWriter, _ *http.Request) {
		s.Reply(w, api.Operation{ID: "slow", StatusCode: api.Running})
	})
	s.Sync("GET /1.0/operations/slow", api.Operation{ID: "slow", StatusCode: api.Running})
	op, err := c.DeleteInstance("c1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := op.WaitContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestEventsArrive(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	l, err := c.GetEvents()
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 2)
	target, err := l.AddHandler([]string{api.EventTypeLifecycle}, func(e api.Event) {
		var lc api.EventLifecycle
		_ = json.Unmarshal(e.Metadata, &lc)
		got <- lc.Action
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Send(api.Event{Type: api.EventTypeLogging, Metadata: json.RawMessage(`{}`)})
	s.Send(api.Event{Type: api.EventTypeLifecycle, Metadata: json.RawMessage(`{"action":"instance-created"}`)})
	if a := <-got; a != "instance-created" {
		t.Errorf("got %q", a)
	}
	if err := l.RemoveHandler(target); err != nil {
		t.Error(err)
	}
	l.Disconnect()
	if err := l.Wait(); !errors.Is(err, client.ErrDisconnected) || l.IsActive() {
		t.Errorf("got %v", err)
	}
	if _, err := c.GetEvents(); err != nil {
		t.Errorf("listening again: %v", err)
	}
}

type closer struct{ bytes.Buffer }

func (*closer) Close() error { return nil }

func TestExecCarriesStreamsControlAndCode(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	control := make(chan string, 1)
	s.Exec("c1", map[string]clienttest.Command{"cat": {Stderr: "oops", Code: 3, Control: control}})
	var out, errOut closer
	args := client.InstanceExecArgs{
		Stdin: io.NopCloser(strings.NewReader("hello")), Stdout: &out, Stderr: &errOut, DataDone: make(chan bool),
		Control: func(conn *websocket.Conn) {
			_ = conn.WriteJSON(api.InstanceExecControl{Command: "signal", Signal: 15})
		},
	}
	op, err := c.ExecInstance("c1", api.InstanceExecPost{Command: []string{"cat"}, WaitForWS: true}, &args)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Wait(); err != nil {
		t.Fatal(err)
	}
	<-args.DataDone
	if out.String() != "hello" || errOut.String() != "oops" {
		t.Errorf("stdout %q, stderr %q", out.String(), errOut.String())
	}
	if m := <-control; m != `{"command":"signal","args":null,"signal":15}` {
		t.Errorf("control %s", m)
	}
	if code := op.Get().Metadata["return"]; code != 3.0 {
		t.Errorf("code %v", code)
	}
}

// TestBriefCommandsNeedNoControl has a command end before its control socket is connected.
func TestBriefCommandsNeedNoControl(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	s.Exec("c1", map[string]clienttest.Command{"true": {Stdout: "done", Brief: true}})
	var out closer
	args := client.InstanceExecArgs{
		Stdout: &out, DataDone: make(chan bool),
		Control: func(*websocket.Conn) { t.Error("there is no control socket") },
	}
	op, err := c.ExecInstance("c1", api.InstanceExecPost{Command: []string{"true"}, WaitForWS: true}, &args)
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Wait(); err != nil {
		t.Fatal(err)
	}
	<-args.DataDone
	if out.String() != "done" {
		t.Errorf("stdout %q", out.String())
	}
}

func TestSplitImageIsUploadedInParts(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	got := make(chan string, 1)
	s.Handle("POST /1.0/images", func(w http.ResponseWriter, r *http.Request) {
		s.Reply(w, s.Start(api.Operation{Metadata: map[string]any{"fingerprint": "f"}}))
		got <- r.Header.Get("X-LXD-properties") + " " + r.Header.Get("X-LXD-public") + " " + r.Header.Get("X-LXD-filename")
	})
	var req api.ImagesPost
	req.Public, req.Properties = true, map[string]string{"os": "debian & co"}
	op, err := c.CreateImage(req, &client.ImageCreateArgs{
		MetaFile: strings.NewReader("meta"), MetaName: "m.tar", RootfsFile: strings.NewReader("root"), RootfsName: "r.squashfs",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Wait(); err != nil {
		t.Fatal(err)
	}
	if h := <-got; h != "os=debian+%26+co true m.tar" {
		t.Errorf("headers %q", h)
	}
	body := s.Requests()[0]
	for _, part := range []string{`name="metadata"; filename="m.tar"`, `name="rootfs"; filename="r.squashfs"`, "meta", "root"} {
		if !strings.Contains(body, part) {
			t.Errorf("body lacks %s", part)
		}
	}
}

func TestImageIsDownloadedAndChecked(t *testing.T) {
	t.Parallel()
	s, c := connect(t)
	sum := sha256.Sum256([]byte("metaroot"))
	fp := hex.EncodeToString(sum[:])
	serve := func(w http.ResponseWriter, _ *http.Request) {
		mw := multipart.NewWriter(w)
		w.Header().Set("Content-Type", mw.FormDataContentType())
		a, _ := mw.CreateFormFile("metadata", "meta.tar.xz")
		_, _ = io.WriteString(a, "meta")
		b, _ := mw.CreateFormFile("rootfs", "x.squashfs")
		_, _ = io.WriteString(b, "root")
		_ = mw.Close()
	}
	s.Handle("GET /1.0/images/"+fp+"/export", serve)
	s.Handle("GET /1.0/images/0000/export", serve)
	var meta, root bytes.Buffer
	resp, err := c.GetImageFile(fp, client.ImageFileRequest{MetaFile: &meta, RootfsFile: &root})
	if err != nil || meta.String() != "meta" || root.String() != "root" || resp.RootfsName != "x.squashfs" || resp.MetaSize != 4 {
		t.Errorf("%+v, %v, %q, %q", resp, err, meta.String(), root.String())
	}
	if _, err := c.GetImageFile("0000", client.ImageFileRequest{MetaFile: &meta, RootfsFile: &root}); err == nil || !strings.Contains(err.Error(), "fingerprint doesn't match") {
		t.Errorf("got %v", err)
	}
}

// A pinned certificate is all that counts: other servers are refused, and names
// and authorities do not matter.
func TestServerCertificateIsPinned(t *testing.T) {
	t.Parallel()
	fake := clienttest.New(t)
	srv := httptest.NewTLSServer(fake)
	defer srv.Close()
	cert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	if _, err := client.ConnectLXD(srv.URL, &client.ConnectionArgs{TLSServerCert: cert}); err != nil {
		t.Error(err)
	}
	other := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("another")}))
	for _, args := range []*client.ConnectionArgs{{TLSServerCert: other}, nil} {
		if _, err := client.ConnectLXD(srv.URL, args); err == nil {
			t.Errorf("%+v: a strange server was trusted", args)
		}
	}
}
