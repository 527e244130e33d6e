package daemontest_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxc/cli"
	"sett/lxc/image"
	"sett/lxc/instance"
	"sett/lxc/remote"
	"sett/lxc/server"
	"sett/lxc/settings"
	"sett/lxd/daemontest"
)

// lxc runs one command line with a configuration of its own and returns what it
// prints, errors included.
func lxc(t *testing.T, conf, stdin string, args ...string) (out string, code int) {
	t.Helper()
	var b bytes.Buffer
	app := cli.New(remote.Command, settings.Command, image.Command, instance.List, instance.Launch, instance.Exec, instance.Delete, server.Version, server.Query)
	app.In, app.Out, app.Err = strings.NewReader(stdin), &b, &b
	app.Getenv = func(key string) string {
		return map[string]string{"LXD_CONF": conf, "LXD_GLOBAL_CONF": conf, "HOME": conf, "LXD_DIR": conf}[key]
	}
	code = app.Run(context.Background(), args)
	return b.String(), code
}

func lxcOK(t *testing.T, conf, stdin string, args ...string) string {
	t.Helper()
	out, code := lxc(t, conf, stdin, args...)
	if code != 0 {
		t.Fatalf("lxc %s: %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// cliToken makes a token through one remote's command line.
func cliToken(t *testing.T, conf string, args ...string) string {
	t.Helper()
	out := strings.TrimSpace(lxcOK(t, conf, "", append([]string{"config", "trust", "add", "-q"}, args...)...))
	lines := strings.Split(out, "\n")
	return lines[len(lines)-1]
}

func local(t *testing.T, s *daemontest.Server) string {
	t.Helper()
	conf := t.TempDir()
	lxcOK(t, conf, "", "remote", "add", "here", "unix://"+filepath.Join(s.Dir, "unix.socket"))
	lxcOK(t, conf, "", "remote", "switch", "here")
	return conf
}

func TestRemotesAreAddedByToken(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	s.Setup()
	s.Import("tiny")
	address := s.Listen()
	admin, conf := local(t, s), t.TempDir()
	raw := cliToken(t, admin, "--name", "laptop")
	if out, code := lxc(t, conf, "", "remote", "add", raw); code == 0 {
		t.Errorf("a token without a name: %s", out)
	}
	lxcOK(t, conf, "", "remote", "add", "lab", raw)
	if out, code := lxc(t, conf, "", "remote", "add", "lab", raw); code == 0 || !strings.Contains(out, "Remote lab exists as <https://"+address+">") {
		t.Errorf("the same name: %s", out)
	}
	if out, code := lxc(t, t.TempDir(), "", "remote", "add", "lab", raw); code == 0 || !strings.Contains(out, "not authorized") {
		t.Errorf("the second use: %s", out)
	}
	for _, c := range []struct{ args, want string }{
		{"launch lab:tiny lab:c1", "Starting c1"},
		{"list lab: -f csv -c ns", "c1,RUNNING"},
		{"config trust list lab: -f csv", "client,laptop,"},
		{"config get lab: core.https_address", "127.0.0.1:0"},
		{"config get lab:c1 volatile.last_state.power", "RUNNING"},
		{"image list lab: -f csv", "tiny"},
		{"query lab:/1.0/instances", "/1.0/instances/c1"},
		{"delete -f lab:c1", ""},
	} {
		if out := lxcOK(t, conf, "", strings.Fields(c.args)...); !strings.Contains(out, c.want) {
			t.Errorf("lxc %s prints %s", c.args, out)
		}
	}
	if fi, err := os.Stat(filepath.Join(conf, "client.key")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the client's key: %v %v", fi, err)
	}
	if out := lxcOK(t, conf, "", "remote", "get-client-certificate"); !strings.HasPrefix(out, "-----BEGIN CERTIFICATE-----") {
		t.Errorf("the client's certificate: %s", out)
	}
	// A restricted token makes a client that lands in its project and changes no server.
	small := t.TempDir()
	lxcOK(t, small, "", "remote", "add", "lab", cliToken(t, admin, "--name", "ci", "--restricted", "--projects", "default"))
	lxcOK(t, small, "", "list", "lab:")
	if out, code := lxc(t, small, "", "config", "set", "lab:", "user.x=1"); code == 0 || !strings.Contains(out, "not authorized") {
		t.Errorf("a restricted client configures the server: %s", out)
	}
	if out, code := lxc(t, admin, "", "config", "trust", "add", "--name", "x", "--projects", "default"); code == 0 {
		t.Errorf("projects without a restriction: %s", out)
	}
	cliToken(t, admin, "--name", "gone")
	if out := lxcOK(t, admin, "", "config", "trust", "list-tokens", "-f", "csv"); !strings.Contains(out, "gone,") {
		t.Errorf("tokens: %s", out)
	}
	if out := lxcOK(t, admin, "", "config", "trust", "revoke-token", "gone"); !strings.Contains(out, "Certificate add token for gone deleted") {
		t.Errorf("revoke: %s", out)
	}
	if out := lxcOK(t, admin, "", "config", "trust", "list-tokens", "-f", "csv"); out != "" {
		t.Errorf("tokens: %s", out)
	}
}

func TestRemotesAreAddedByPassword(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	address := s.Listen()
	admin := local(t, s)
	lxcOK(t, admin, "", "config", "set", "core.trust_password", "sesame")
	srv, _, err := s.GetServer()
	s.Must(err)
	print := srv.Environment.CertificateFingerprint
	for _, c := range []struct {
		name, stdin string
		flags       []string
		want        string
		ok          bool
	}{
		{"asked", "y\nsesame\n", nil, "Client certificate now trusted by server: asked", true},
		{"fingerprint", print + "\nsesame\n", nil, "Client certificate now trusted", true},
		{"flags", "", []string{"--accept-certificate", "--password", "sesame"}, "Client certificate now trusted", true},
		{"refused", "n\n", nil, "NACKed", false},
		{"other", strings.Repeat("a", 64) + "\n", nil, "another one", false},
		{"wrong", "y\nwrong\n", nil, "not authorized", false},
		{"silent", "", nil, "EOF", false},
	} {
		conf := t.TempDir()
		out, code := lxc(t, conf, c.stdin, append([]string{"remote", "add", c.name, address}, c.flags...)...)
		if (code == 0) != c.ok || !strings.Contains(out, c.want) {
			t.Errorf("%s: %d\n%s", c.name, code, out)
		}
		left, err := filepath.Glob(filepath.Join(conf, "servercerts", "*"))
		if err != nil || len(left) != map[bool]int{true: 1}[c.ok] {
			t.Errorf("%s: keeps the certificates %q", c.name, left)
		}
		if c.ok {
			lxcOK(t, conf, "", "list", c.name+":")
		} else if out, code := lxc(t, conf, "", "list", c.name+":"); code == 0 || !strings.Contains(out, "doesn't exist") {
			t.Errorf("%s: %s", c.name, out)
		}
	}
}

// TestAPinnedServerIsNoOther: a client that knows a server's certificate talks to no
// other server, whatever that one shows.
func TestAPinnedServerIsNoOther(t *testing.T) {
	t.Parallel()
	a, b := daemontest.New(t), daemontest.New(t)
	a.Listen()
	other := b.Listen()
	conf := t.TempDir()
	lxcOK(t, conf, "", "remote", "add", "lab", cliToken(t, local(t, a), "--name", "x"))
	lxcOK(t, conf, "", "remote", "set-url", "lab", "https://"+other)
	if out, code := lxc(t, conf, "", "list", "lab:"); code == 0 || !strings.Contains(out, "another certificate") {
		t.Errorf("%d %s", code, out)
	}
	lxcOK(t, conf, "", "remote", "rename", "lab", "old")
	if _, err := os.Stat(filepath.Join(conf, "servercerts", "old.crt")); err != nil {
		t.Error(err)
	}
	lxcOK(t, conf, "", "remote", "remove", "old")
	if _, err := os.Stat(filepath.Join(conf, "servercerts", "old.crt")); err == nil {
		t.Error("the certificate of a removed remote is still there")
	}
}
