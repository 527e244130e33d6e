//go:build system

package system

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// freeAddress is an address of the loopback interface that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// elsewhere is a user on another machine: a client with a configuration of its own and
// without a socket.
type elsewhere struct {
	t      *testing.T
	client string
	conf   string
}

func newElsewhere(t *testing.T, client string) elsewhere {
	t.Helper()
	return elsewhere{t, client, t.TempDir()}
}

func (e elsewhere) run(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(e.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.client, args...)
	cmd.Env = append(os.Environ(), "LXD_DIR="+filepath.Join(e.conf, "none"), "LXD_CONF="+e.conf, "TERM=dumb", "LC_ALL=C")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (e elsewhere) must(args ...string) string {
	e.t.Helper()
	out, err := e.run("", args...)
	if err != nil {
		e.t.Fatalf("lxc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// use does what people do with a server of which they have the remote "lab".
func (e elsewhere) use(name string) {
	e.t.Helper()
	e.must("launch", "lab:tiny", "lab:"+name, "-q")
	if out := e.must("list", "lab:", "-f", "csv", "-c", "ns"); !strings.Contains(out, name+",RUNNING") {
		e.t.Errorf("list: %s", out)
	}
	if out, err := e.run("in\n", "exec", "lab:"+name, "--", "sh", "-c", "read x; echo got $x; exit 7"); !strings.Contains(out, "got in") || err == nil || !strings.Contains(err.Error(), "status 7") {
		e.t.Errorf("exec: %v\n%s", err, out)
	}
	e.must("config", "set", "lab:"+name, "user.note=far")
	if out := e.must("config", "get", "lab:"+name, "user.note"); strings.TrimSpace(out) != "far" {
		e.t.Errorf("get: %s", out)
	}
	e.must("delete", "--force", "lab:"+name)
}

// TestClientsOfOtherMachines: our client and LXD's add this server as a remote, by
// token and by password, and run containers on it.
func TestClientsOfOtherMachines(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	address := freeAddress(t)
	h.lxc("config", "set", "core.https_address="+address, "core.trust_password=sesame")
	clients(t, func(t *testing.T, client string) {
		h.t = t
		lines := strings.Fields(h.lxc("config", "trust", "add", "--name", "far", "-q"))
		by := newElsewhere(t, client)
		by.must("remote", "add", "lab", lines[len(lines)-1])
		by.use(h.name("token"))
		if out := by.must("config", "trust", "list", "lab:", "-f", "csv"); !strings.Contains(out, "client,far,") {
			t.Errorf("trusted: %s", out)
		}
		by = newElsewhere(t, client)
		by.must("remote", "add", "lab", address, "--accept-certificate", "--password", "sesame")
		by.use(h.name("password"))
		by = newElsewhere(t, client)
		if out, err := by.run("", "remote", "add", "lab", address, "--accept-certificate", "--password", "wrong"); err == nil {
			t.Errorf("a wrong password: %s", out)
		}
	})
	h.t = t
}

// TestOurClientUsesLXD: our client adds an LXD as a remote, by token and by password.
func TestOurClientUsesLXD(t *testing.T) {
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	j := newJudge(t)
	address := freeAddress(t)
	j.must(judgeClient, "config", "set", "core.https_address="+address, "core.trust_password=sesame")
	cmd := exec.Command(judgeClient, "config", "trust", "add", "--name", "far", "-q")
	cmd.Env = j.environ("setup")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	by := newElsewhere(t, bin.lxc())
	by.must("remote", "add", "lab", lines[len(lines)-1])
	by.use("t" + j.bridge)
	by = newElsewhere(t, bin.lxc())
	by.must("remote", "add", "lab", address, "--accept-certificate", "--password", "sesame")
	by.use("p" + j.bridge)
}
