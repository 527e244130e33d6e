// Package daemontest runs a whole daemon in a temporary folder for tests: the real
// chain, slices and databases, with fakes in place of the host. It needs no root and
// touches nothing outside of its folder.
package daemontest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sett/client"
	"sett/lxd/container"
	enginefake "sett/lxd/container/fake"
	"sett/lxd/daemon"
	"sett/lxd/host/idmap"
	"sett/lxd/host/render"
	unpackfake "sett/lxd/host/unpack/fake"
	netdriver "sett/lxd/network/driver"
	netfake "sett/lxd/network/fake"
	"sett/lxd/storage/driver"
	storagefake "sett/lxd/storage/fake"
	"sett/shared/api"
	"sett/shared/errs"
)

// patience is how long a test waits for what should take milliseconds.
const patience = 30 * time.Second

// Server is a daemon under test and a connection to it. Its fakes outlive a restart,
// as a host does.
type Server struct {
	client.InstanceServer // connected; new after each Start

	Dir     string // LXD_DIR
	Address string // for members of a cluster
	Daemon  *daemon.Daemon
	Engine  *enginefake.Engine
	Storage *storagefake.Kind
	Network *netfake.Driver
	States  chan string // what the daemon tells the service manager

	t       testing.TB
	options []func(*daemon.Options)
	http    *http.Client
}

// New starts a daemon, waits until it is ready, and stops it at the end of the test.
// options change what it is made of.
func New(t testing.TB, options ...func(*daemon.Options)) *Server {
	t.Helper()
	// Not t.TempDir: a socket's path has little room.
	dir, err := os.MkdirTemp("", "sett")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("something is left below LXD_DIR: %v", err)
		}
	})
	s := &Server{Dir: filepath.Join(dir, "lxd"), Engine: enginefake.New(), Storage: &storagefake.Kind{}, Network: netfake.New("bridge"),
		States: make(chan string, 64), t: t, options: options}
	t.Cleanup(s.Stop)
	s.Start()
	return s
}

// Options are what the daemon of s is made of.
func (s *Server) Options() daemon.Options {
	o := daemon.Options{
		Dir:            s.Dir,
		LogHandler:     slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}),
		Engine:         func() (container.Engine, error) { return s.Engine, nil },
		StorageDrivers: driver.NewRegistry(s.Storage),
		NetworkDrivers: func(*slog.Logger) []netdriver.Driver { return []netdriver.Driver{s.Network} },
		IDs:            IDs{},
		Unpacker:       Unpacker{},
		Templates:      render.Direct{},
		Tell:           func(state string) { s.States <- state },
	}
	for _, f := range s.options {
		f(&o)
	}
	return o
}

// Start starts the daemon, on the folder as it is, and connects to it.
func (s *Server) Start() {
	s.t.Helper()
	s.Launch()
	s.WaitReady()
}

// WaitReady waits until the daemon is ready, which on a member of a cluster takes
// others.
func (s *Server) WaitReady() {
	s.t.Helper()
	select {
	case <-s.Daemon.Ready():
	case <-time.After(patience):
		s.t.Fatal("the daemon did not become ready")
	}
}

// TryStart is Start of a daemon that may refuse to.
func (s *Server) TryStart() error {
	s.t.Helper()
	err := s.tryLaunch()
	if err == nil {
		s.WaitReady()
	}
	return err
}

// Launch starts the daemon and connects to it, ready or not.
func (s *Server) Launch() {
	s.t.Helper()
	if err := s.tryLaunch(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) tryLaunch() error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d, err := daemon.Start(ctx, s.Options())
	if err != nil {
		return err
	}
	s.Daemon = d
	socket := filepath.Join(s.Dir, "unix.socket")
	s.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	if _, err := os.Stat(socket); err != nil {
		return nil // the test brought a listener of its own
	}
	s.InstanceServer, err = client.ConnectLXDUnixWithContext(context.Background(), socket, nil)
	return err
}

// Stop stops the daemon; containers of the fake engine go on. It may be called twice.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.End(); err != nil {
		s.t.Errorf("the daemon did not end in order: %v", err)
	}
}

// End is Stop of a daemon that need not end in order.
func (s *Server) End() error {
	s.t.Helper()
	if s.Daemon == nil {
		return nil
	}
	if s.InstanceServer != nil {
		s.Disconnect()
	}
	s.http.CloseIdleConnections()
	s.Daemon.Stop(false, false)
	select {
	case <-s.Daemon.Stopped():
	case <-time.After(patience):
		s.t.Fatal("the daemon did not stop")
	}
	err := s.Daemon.Err()
	s.Daemon = nil
	return err
}

// Restart is Stop and Start.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Setup makes the pool "pool" and the network "br0", and gives the default profile a
// root disk in the pool.
func (s *Server) Setup() {
	s.t.Helper()
	s.Must(s.CreateStoragePool(api.StoragePoolsPost{Name: "pool", Driver: "fake"}))
	s.Must(s.CreateNetwork(api.NetworksPost{Name: "br0", Type: "bridge", NetworkPut: api.NetworkPut{Config: map[string]string{"ipv4.address": "none", "ipv6.address": "none"}}}))
	p, etag, err := s.GetProfile("default")
	s.Must(err)
	put := p.Writable()
	put.Devices = map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "pool"}}
	s.Must(s.UpdateProfile("default", put, etag))
}

// Must ends the test when err is not nil.
func (s *Server) Must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Wait waits for an operation and ends the test when it fails.
func (s *Server) Wait(op client.Operation, err error) {
	s.t.Helper()
	s.Must(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.Must(op.WaitContext(ctx))
}

// Do sends a request as it is, without the client library's help, and returns the
// status and the envelope. A body that is neither bytes nor nil is sent as JSON.
func (s *Server) Do(method, path string, body any) (int, api.Response) {
	s.t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	case string:
		r = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		s.Must(err)
		r = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://lxd"+path, r)
	s.Must(err)
	resp, err := s.http.Do(req)
	s.Must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	s.Must(err)
	var a api.Response
	if method == http.MethodHead { // has no body
		return resp.StatusCode, a
	}
	if err := json.Unmarshal(text, &a); err != nil {
		s.t.Fatalf("%s %s: %s is no envelope: %.200q", method, path, resp.Status, text)
	}
	return resp.StatusCode, a
}

// IDs is an id range that nobody checks.
type IDs struct{}

// Map implements instance.IDs.
func (IDs) Map() (idmap.Map, error) {
	return idmap.Map{{UID: true, HostID: 1000000, Range: 65536}, {GID: true, HostID: 1000000, Range: 65536}}, nil
}

// Mountable implements instance.IDs.
func (IDs) Mountable(context.Context, string) bool { return true }

// Shift implements instance.IDs.
func (IDs) Shift(context.Context, string, idmap.Map, idmap.Map) error { return nil }

// Unpacker takes tarballs apart without root.
type Unpacker struct{ unpackfake.Jail }

// Only implements image.Unpacker: it is asked about squashfs, which takes the real jail.
func (Unpacker) Only(context.Context, string, string, ...string) error {
	return errs.Invalid("the tests' unpacker does not know squashfs")
}

// Image is a small unified image, different for each name.
func Image(name string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, text string) {
		h.Size, h.Mode = int64(len(text)), 0o755
		if w.WriteHeader(&h) == nil { // a buffer takes everything
			_, _ = io.WriteString(w, text)
		}
	}
	add(tar.Header{Name: "metadata.yaml", Typeflag: tar.TypeReg},
		fmt.Sprintf("architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: test\n  description: %s\n", name))
	add(tar.Header{Name: "rootfs", Typeflag: tar.TypeDir}, "")
	add(tar.Header{Name: "rootfs/etc", Typeflag: tar.TypeDir}, "")
	add(tar.Header{Name: "rootfs/etc/hostname", Typeflag: tar.TypeReg}, name+"\n")
	_ = w.Close()
	return b.Bytes()
}

// Import imports Image under an alias and returns its fingerprint.
func (s *Server) Import(alias string) string {
	s.t.Helper()
	op, err := s.CreateImage(api.ImagesPost{}, &client.ImageCreateArgs{MetaFile: bytes.NewReader(Image(alias)), MetaName: "image.tar"})
	s.Wait(op, err)
	fingerprint, _ := op.Get().Metadata["fingerprint"].(string)
	if fingerprint == "" {
		s.t.Fatalf("the operation does not tell the fingerprint: %v", op.Get().Metadata)
	}
	s.Must(s.CreateImageAlias(api.ImageAliasesPost{ImageAliasesEntry: api.ImageAliasesEntry{Name: alias, ImageAliasesEntryPut: api.ImageAliasesEntryPut{Target: fingerprint}}}))
	return fingerprint
}

// Create creates a stopped instance from an image alias.
func (s *Server) Create(name, alias string) {
	s.t.Helper()
	op, err := s.CreateInstance(api.InstancesPost{Name: name, Source: api.InstanceSource{Type: "image", Alias: alias}})
	s.Wait(op, err)
}

// SetState starts, stops, freezes or unfreezes an instance by force.
func (s *Server) SetState(name, action string) {
	s.t.Helper()
	op, err := s.UpdateInstanceState(name, api.InstanceStatePut{Action: action, Timeout: -1, Force: true}, "")
	s.Wait(op, err)
}
