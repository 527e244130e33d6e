//go:build system

package peer_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/peer"
)

// connector is this test again, in a namespace: it connects and waits.
func TestMain(m *testing.M) {
	if path := os.Getenv("PEER_CONNECT"); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			os.Exit(1)
		}
		if os.Getenv("PEER_LEAVE") != "" {
			// Somebody else keeps the connection, as a guest would who waits for the
			// number to become another's.
			f, err := c.(*net.UnixConn).File()
			if err != nil {
				os.Exit(1)
			}
			heir := exec.Command("sleep", "1000")
			heir.ExtraFiles = []*os.File{f}
			if heir.Start() != nil {
				os.Exit(1)
			}
			fmt.Println(heir.Process.Pid)
			os.Exit(0)
		}
		_, _ = bufio.NewReader(c).ReadByte() // until it is closed
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Who connected and has gone is nobody, whoever holds the connection now.
func TestPeerThatIsGone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), "PEER_CONNECT="+l.Addr().String(), "PEER_LEAVE=1")
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	heir, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(heir, syscall.SIGKILL) }()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if p, err := peer.Of(s.(*net.UnixConn)); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("%+v %v", p, err)
	}
}

// A guest may make namespaces inside of its own; it is in its own all the same, and in
// nobody else's.
func TestPeerIsInTheNamespacesAboveIt(t *testing.T) {
	t.Parallel()
	guest := func() (*exec.Cmd, peer.Namespace) {
		c := exec.Command("/bin/sh", "-c", "sleep 1000 & wait")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		n, err := peer.NamespaceOf(c.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return c, n
	}
	a, inA := guest()
	_, inB := guest()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// Two namespaces deeper than the guest.
	in := exec.Command("nsenter", "--target", strconv.Itoa(a.Process.Pid), "--pid", "--", "unshare", "--pid", "--fork",
		"unshare", "--pid", "--fork", "/proc/self/exe", "-test.run=none")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for n := range in.Args {
		in.Args[n] = strings.Replace(in.Args[n], "/proc/self/exe", self, 1)
	}
	in.Env = append(os.Environ(), "PEER_CONNECT="+l.Addr().String())
	if err := in.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Wait() })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p, err := peer.Of(s.(*net.UnixConn))
	_ = s.Close()
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Namespaces) != 4 {
		t.Fatalf("namespaces: %v, want its own, one between, the guest's and ours", p.Namespaces)
	}
	own, _ := peer.NamespaceOf(os.Getpid())
	if p.Namespaces[2] != inA || p.Namespaces[3] != own {
		t.Errorf("%v is not below %v and %v", p.Namespaces, inA, own)
	}
	for _, n := range p.Namespaces {
		if n == inB {
			t.Error("it is taken for a process of another guest")
		}
	}
}
