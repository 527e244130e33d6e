package file

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"sett/client"
	"sett/lxc/cli"
)

// tree is a server with files, which may lie about them.
type tree struct {
	client.InstanceServer
	files map[string]string // path -> "d names", "l target" or "f content"
}

func (s tree) GetInstanceFile(_, name string) (io.ReadCloser, *client.InstanceFileResponse, error) {
	v, ok := s.files[name]
	if !ok {
		return nil, nil, errors.New("not found")
	}
	kind, text, _ := strings.Cut(v, " ")
	r := &client.InstanceFileResponse{Mode: 0o4755}
	switch kind {
	case "d":
		r.Type, r.Entries = "directory", strings.Fields(text)
		return nil, r, nil
	case "l":
		r.Type = "symlink"
	case "f":
		r.Type = "file"
	}
	return io.NopCloser(strings.NewReader(text)), r, nil
}

func fetch(t *testing.T, files map[string]string, into string) error {
	t.Helper()
	c := &pull{App: &cli.App{Out: io.Discard, Err: io.Discard, Quiet: true}, recursive: true}
	return c.one(place{Resource: cli.Resource{Server: tree{files: files}, Name: "c1"}, path: "/t"}, into, true)
}

func TestPullStaysBelowItsTarget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(dir, "into")
	if err := fetch(t, map[string]string{"/t": "d f l d", "/t/f": "f one", "/t/l": "l " + secret, "/t/d": "d f", "/t/d/f": "f two"}, into); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(into, "t/d/f")); err != nil || string(b) != "two" {
		t.Errorf("%q, %v", b, err)
	}
	if fi, err := os.Stat(filepath.Join(into, "t/f")); err != nil || fi.Mode() != 0o755 {
		t.Errorf("set-id bits of a guest: %v, %v", fi.Mode(), err)
	}
	for name, files := range map[string]map[string]string{
		"a name that climbs":          {"/t": "d ../../secret", "/t/../../secret": "f evil", "/secret": "f evil"},
		"a link of an earlier pull":   {"/t": "d l", "/t/l": "f evil"},
		"a folder for a link":         {"/t": "d l", "/t/l": "d secret", "/t/l/secret": "f evil"},
		"a folder for an outer link":  {"/t": "d out", "/t/out": "d secret", "/t/out/secret": "f evil"},
		"a link, then what it is for": {"/t": "d x x", "/t/x": "l " + secret},
	} {
		_ = os.Symlink(dir, filepath.Join(into, "t/out"))
		_ = os.Remove(filepath.Join(into, "t/l"))
		_ = os.Symlink(secret, filepath.Join(into, "t/l"))
		_ = fetch(t, files, into) // it may fail
		if b, err := os.ReadFile(secret); err != nil || string(b) != "mine" {
			t.Fatalf("%s: %q, %v", name, b, err)
		}
	}
}

func TestLinksAreFollowedOnlySoFar(t *testing.T) {
	t.Parallel()
	p := place{Resource: cli.Resource{Server: tree{files: map[string]string{"/a": "l b", "/b": "l /dir/../c", "/c": "f text", "/loop": "l loop"}}}, path: "/a"}
	content, _, err := open(p)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(content); string(b) != "text" {
		t.Errorf("%q", b)
	}
	p.path = "/loop"
	if _, _, err := open(p); err == nil {
		t.Error("a loop has an end")
	}
}

// TestGate logs in by SSH and speaks with a server of SFTP.
func TestGate(t *testing.T) {
	t.Parallel()
	g, err := newGate("me", false)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no network:", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- g.serve(ctx, l, func() (io.ReadWriteCloser, error) {
			a, b := net.Pipe()
			s := sftp.NewRequestServer(b, sftp.InMemHandler())
			go func() { _ = s.Serve(); _ = b.Close() }()
			return a, nil
		}, func(error) {})
	}()
	login := func(user, password string) (*ssh.Client, error) {
		return ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.Password(password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	}
	for _, c := range [][2]string{{"me", "guess"}, {"you", g.password}, {"me", ""}} {
		if conn, err := login(c[0], c[1]); err == nil {
			_ = conn.Close()
			t.Errorf("let %v in", c)
		}
	}
	conn, err := login("me", g.password)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := conn.NewSession(); err != nil || s.Run("id") == nil {
		t.Errorf("a command was run: %v", err)
	}
	c, err := sftp.NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create("/f")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	_ = f.Close()
	if fi, err := c.Stat("/f"); err != nil || fi.Size() != 5 {
		t.Errorf("%v, %v", fi, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
