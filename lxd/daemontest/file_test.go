package daemontest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/client"
	"sett/lxd/daemontest"
	"sett/shared/api"
)

// put is what a test writes with; owners are left alone, as tests have no others.
func put(text string, more ...func(*client.InstanceFileArgs)) client.InstanceFileArgs {
	a := client.InstanceFileArgs{Content: strings.NewReader(text), UID: -1, GID: -1, Mode: -1}
	for _, f := range more {
		f(&a)
	}
	return a
}

func contents(t *testing.T, s *daemontest.Server, name string) (string, *client.InstanceFileResponse) {
	t.Helper()
	body, resp, err := s.GetInstanceFile("c1", name)
	if err != nil {
		return err.Error(), &client.InstanceFileResponse{}
	}
	if body == nil {
		return "", resp
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	s.Must(err)
	return string(b), resp
}

func TestFilesOverTheAPI(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	for _, state := range []string{"start", "stop"} {
		s.SetState("c1", state)
		dir := "/" + state
		s.Must(s.CreateInstanceFile("c1", dir, put("", func(a *client.InstanceFileArgs) { a.Type, a.Mode = "directory", 0o711 })))
		s.Must(s.CreateInstanceFile("c1", dir, put("", func(a *client.InstanceFileArgs) { a.Type = "directory" })))
		s.Must(s.CreateInstanceFile("c1", dir+"/f", put("one", func(a *client.InstanceFileArgs) { a.Mode = 0o640 })))
		s.Must(s.CreateInstanceFile("c1", dir+"/f", put(" two", func(a *client.InstanceFileArgs) { a.WriteMode, a.Mode = "append", 0o600 })))
		if b, resp := contents(t, s, dir+"/f"); b != "one two" || resp.Mode != 0o640 || resp.Type != "file" || resp.UID != int64(os.Getuid()) {
			t.Errorf("%q, %+v", b, resp)
		}
		s.Must(s.CreateInstanceFile("c1", dir+"/l", put("f", func(a *client.InstanceFileArgs) { a.Type = "symlink" })))
		if b, resp := contents(t, s, dir+"/l"); b != dir+"/f" || resp.Type != "symlink" {
			t.Errorf("%q, %+v", b, resp)
		}
		_, resp := contents(t, s, dir)
		slices.Sort(resp.Entries)
		if resp.Type != "directory" || resp.Mode != 0o711 || strings.Join(resp.Entries, " ") != "f l" {
			t.Errorf("%+v", resp)
		}
		if err := s.DeleteInstanceFile("c1", dir); status(err) != 400 {
			t.Errorf("delete a full directory: %v", err)
		}
		s.Must(s.DeleteInstanceFile("c1", dir+"/l"))
		s.Must(s.DeleteInstanceFile("c1", dir+"/f"))
		s.Must(s.DeleteInstanceFile("c1", dir))
		if err := s.DeleteInstanceFile("c1", dir); status(err) != 404 {
			t.Errorf("delete nothing: %v", err)
		}
	}
	for _, c := range []struct {
		method, path string
		headers      []string
		want         int
	}{
		{"GET", "/1.0/instances/c1/files", nil, 400},
		{"GET", "/1.0/instances/nobody/files?path=/x", nil, 404},
		{"GET", "/1.0/instances/c1/files?path=/none", nil, 404},
		{"POST", "/1.0/instances/c1/files?path=/x", []string{"X-LXD-type", "fifo"}, 400},
		{"POST", "/1.0/instances/c1/files?path=/x", []string{"X-LXD-write", "shred"}, 400},
		{"POST", "/1.0/instances/c1/files?path=/x", []string{"X-LXD-uid", "root"}, 400},
		{"POST", "/1.0/instances/c1/files?path=/x", []string{"X-LXD-mode", "0888"}, 400},
		{"POST", "/1.0/instances/c1/files?path=/x", []string{"X-LXD-type", "symlink", "body", strings.Repeat("x", 5000)}, 400},
		{"POST", "/1.0/instances/c1/files?path=/none/x", nil, 404},
		{"POST", "/1.0/instances/c1/files?path=/", nil, 400},
		{"POST", "/1.0/instances/c1/files?path=" + strings.Repeat("x", 256), nil, 400},
		{"DELETE", "/1.0/instances/c1/files?path=/", nil, 400},
		{"GET", "/1.0/instances/c1/sftp", nil, 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://x"+c.path, nil)
		s.Must(err)
		for i := 0; i+1 < len(c.headers); i += 2 {
			if c.headers[i] == "body" {
				req.Body = io.NopCloser(strings.NewReader(c.headers[i+1]))
				continue
			}
			req.Header.Set(c.headers[i], c.headers[i+1])
		}
		if got, b := ask(t, s, req); got.StatusCode != c.want {
			t.Errorf("%s %.60s %v: %d %s", c.method, c.path, c.headers, got.StatusCode, b)
		}
	}
	if _, err := os.Lstat(filepath.Join(rootfs(s, "c1"), "x")); !os.IsNotExist(err) {
		t.Errorf("a refused request left something: %v", err)
	}
}

func ask(t *testing.T, s *daemontest.Server, req *http.Request) (*http.Response, string) {
	t.Helper()
	h, err := s.GetHTTPClient()
	s.Must(err)
	resp, err := h.Do(req)
	s.Must(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	s.Must(err)
	return resp, string(b)
}

func TestPartsOfFiles(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	s.Must(s.CreateInstanceFile("c1", "/a \"b\"", put("0123456789")))
	for _, c := range []struct {
		method, header, value string
		code                  int
		body                  string
	}{
		{"GET", "Range", "bytes=2-5", 206, "2345"}, {"GET", "Range", "bytes=-3", 206, "789"}, {"GET", "Range", "bytes=8-", 206, "89"},
		{"GET", "Range", "bytes=20-30", 416, "invalid range: failed to overlap\n"}, {"GET", "Range", "bytes=0-1,4-5", 200, "0123456789"},
		{"GET", "If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 304, ""},
		{"GET", "", "", 200, "0123456789"}, {"HEAD", "", "", 200, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://x/1.0/instances/c1/files?path=a%20%22b%22", nil)
		s.Must(err)
		if c.header != "" {
			req.Header.Set(c.header, c.value)
		}
		resp, b := ask(t, s, req)
		if resp.StatusCode != c.code || b != c.body || resp.Header.Get("X-LXD-type") != "file" || resp.Header.Get("X-LXD-mode") != "0644" {
			t.Errorf("%s %s %s: %d %q, %v", c.method, c.header, c.value, resp.StatusCode, b, resp.Header)
		}
	}
	if err := unix.Mkfifo(filepath.Join(rootfs(s, "c1"), "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	if b, _ := contents(t, s, "/fifo"); !strings.Contains(b, "not a file") {
		t.Errorf("a FIFO: %q", b)
	}
}

func TestSFTPEndsWithTheInstance(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	s.SetState("c1", "start")
	c, err := s.GetInstanceFileSFTP("c1")
	s.Must(err)
	defer c.Close()
	f, err := c.Create("/f")
	s.Must(err)
	big := bytes.Repeat([]byte("x"), 300_000)
	_, err = f.Write(big)
	s.Must(err)
	s.Must(f.Close())
	if b, err := os.ReadFile(filepath.Join(rootfs(s, "c1"), "f")); err != nil || !bytes.Equal(b, big) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if es, err := c.ReadDir("/"); err != nil || len(es) == 0 {
		t.Errorf("%v, %v", es, err)
	}
	s.SetState("c1", "stop")
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("the connection outlives the container")
	}
	// One to the stopped instance does not keep it from going away.
	c, err = s.GetInstanceFileSFTP("c1")
	s.Must(err)
	defer c.Close()
	op, err := s.DeleteInstance("c1")
	s.Wait(op, err)
	if _, err := c.ReadDir("/"); err == nil {
		t.Error("the connection outlives the instance")
	}
}

func TestFilesOfSnapshotsCanBeRead(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	s.Must(s.CreateInstanceFile("c1", "/f", put("before")))
	op, err := s.CreateInstanceSnapshot("c1", api.InstanceSnapshotsPost{Name: "s0"})
	s.Wait(op, err)
	s.Must(s.CreateInstanceFile("c1", "/f", put("after")))
	body, resp, err := s.GetInstanceFile("c1/s0", "/f")
	s.Must(err)
	b, err := io.ReadAll(body)
	s.Must(err)
	_ = body.Close()
	if string(b) != "before" || resp.Type != "file" {
		t.Errorf("%q, %+v", b, resp)
	}
	if err := s.CreateInstanceFile("c1/s0", "/f", put("x")); err == nil {
		t.Error("a snapshot was written to")
	}
	if _, _, err := s.GetInstanceFile("c1/none", "/f"); status(err) != 404 {
		t.Errorf("no snapshot: %v", err)
	}
	c, err := s.GetInstanceFileSFTP("c1/s0")
	s.Must(err)
	defer c.Close()
	if fi, err := c.Stat("/f"); err != nil || fi.Size() != 6 {
		t.Errorf("%v, %v", fi, err)
	}
	op, err = s.DeleteInstanceSnapshot("c1", "s0")
	s.Wait(op, err)
	if _, err := c.Stat("/f"); err == nil {
		t.Error("the connection outlives the snapshot")
	}
}

// TestFileServersWaitForTheNextUser: many small requests, from many at once, and
// requests that go wrong in between.
func TestFileServersWaitForTheNextUser(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	s.Create("c1", "tiny")
	for _, state := range []string{"start", "stop", "start"} {
		s.SetState("c1", state)
		var all sync.WaitGroup
		for n := range 8 {
			all.Add(1)
			go func() {
				defer all.Done()
				for k := range 10 {
					name := fmt.Sprintf("/f%d-%d", n, k)
					text := strings.Repeat(name, 1000*(k%3))
					if err := s.CreateInstanceFile("c1", name, put(text)); err != nil {
						t.Error(err)
						return
					}
					if k%3 == 1 { // a client that goes away in the middle
						if body, _, err := s.GetInstanceFile("c1", name); err == nil {
							_ = body.Close()
						}
					}
					if b, _ := contents(t, s, name); b != text {
						t.Errorf("%s: %d bytes, not %d", name, len(b), len(text))
					}
					if _, _, err := s.GetInstanceFile("c1", "/none"); status(err) != 404 {
						t.Error(err)
					}
					if err := s.DeleteInstanceFile("c1", name); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		all.Wait()
	}
	s.SetState("c1", "stop")
	s.Must(s.CreateInstanceFile("c1", "/f", put("x")))
	op, err := s.RenameInstance("c1", api.InstancePost{Name: "c2"})
	s.Wait(op, err)
	op, err = s.DeleteInstance("c2")
	s.Wait(op, err)
}
