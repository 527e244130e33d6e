//go:build system

package system

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sett/shared/keypair"
)

// administrator keeps a server from another machine, and writes down all that she sees.
type administrator struct {
	elsewhere
	address string
	seen    []said
}

// does runs a command; stdin may be empty.
func (a *administrator) does(stdin string, args ...string) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.client, args...)
	cmd.Env = append(os.Environ(), "LXD_DIR="+filepath.Join(a.conf, "none"), "LXD_CONF="+a.conf, "TERM=dumb", "LC_ALL=C",
		"VISUAL=", "EDITOR="+filepath.Join(a.conf, "editor"))
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	if ctx.Err() != nil {
		a.t.Fatalf("lxc %s: no end", strings.Join(args, " "))
	}
	a.seen = append(a.seen, said{a.plain(strings.Join(args, " ")), a.plain(stdout.String()), a.plain(stderr.String()), cmd.ProcessState.ExitCode()})
	return stdout.String()
}

// plain replaces what differs from one client, or server, to the other.
func (a *administrator) plain(s string) string {
	s = strings.NewReplacer(a.conf, "CONF", a.address, "ADDRESS").Replace(plain(s))
	for _, r := range []struct{ re, to string }{
		{`eyJ[A-Za-z0-9+/=]{60,}`, "TOKEN"},
		{`\b[0-9a-f]{64}\b`, "FINGERPRINT"},
		{`\b[0-9a-f]{12}\b`, "FINGER"},
		{`[A-Z][a-z]{2} [0-9]+, 20\d\d at [0-9:]+[ap]m \(UTC\)`, "DATE"},
		{`(?m)^ +[A-Za-z0-9+/=]{4,}\n`, ""}, // the lines of a certificate
		{` {2,}`, "  "},
		{`-{3,}`, "---"},
	} {
		s = regexp.MustCompile(r.re).ReplaceAllString(s, r.to)
	}
	return s
}

// administer adds a server as a remote, does what can be done to remotes and to trusted
// clients, and leaves the server as it was. grant makes a token on the server itself.
func administer(t *testing.T, client, address string, grant func(name string) string) []said {
	t.Helper()
	a := &administrator{elsewhere: newElsewhere(t, client), address: address}
	noGreeting(t, a.conf)
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(a.conf, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	edits := func(script string) { write("editor", "#!/bin/sh\n"+script+"\n", 0o755) }

	token := grant("desk")
	a.does("", "remote", "add", "lab", token)
	a.does("", "remote", "add", "lab", token)      // there already
	a.does("", "remote", "add", "again", token)    // a client that is trusted needs none
	a.does("", "remote", "remove", "again")        //
	a.does("", "remote", "remove", "again")        //
	a.does("", "remote", "list", "-f", "csv")      //
	a.does("", "remote", "get-default")            //
	a.does("", "remote", "switch", "nope")         //
	a.does("", "remote", "switch", "lab")          //
	a.does("", "remote", "get-default")            //
	a.does("", "list", "-f", "csv")                // of the new default
	a.does("", "remote", "list", "-f", "csv")      //
	a.does("", "remote", "rename", "lab", "local") // taken
	a.does("", "remote", "rename", "nope", "x")    //
	a.does("", "remote", "rename", "lab", "lib")   // the default follows, the certificate too
	a.does("", "remote", "get-default")            //
	a.does("", "list", "lab:", "-f", "csv")        //
	a.does("", "list", "lib:", "-f", "csv")        //
	a.does("", "remote", "set-url", "lib", "https://127.0.0.1:1")
	a.does("", "remote", "list", "-f", "csv")
	if r := a.does("", "list", "lib:", "-f", "csv"); r != "" {
		t.Errorf("a remote whose URL leads nowhere answers %q", r)
	}
	a.does("", "remote", "set-url", "nope", "https://127.0.0.1:1")
	a.does("", "remote", "set-url", "lib", "https://"+address)
	a.does("", "list", "-f", "csv")
	a.does("", "remote", "remove", "lib") // not the default
	a.does("", "remote", "switch", "local")

	// Trust.
	a.does("", "config", "trust", "list", "lib:", "-f", "csv")
	a.does("", "config", "trust", "list", "lib:", "-f", "yaml")
	a.does("", "config", "trust", "list", "lib:")
	pair, err := keypair.NewClient()
	if err != nil {
		t.Fatal(err)
	}
	fp := pair.Fingerprint()
	crt := write("guest.crt", string(pair.Cert), 0o600)
	a.does("", "config", "trust", "add", "lib:", crt, "--name", "guest", "--restricted", "--projects", "default")
	a.does("", "config", "trust", "add", "lib:", crt, "--name", "guest") // known
	a.does("", "config", "trust", "add", "lib:", filepath.Join(a.conf, "none.crt"))
	a.does("", "config", "trust", "add", "lib:", write("nonsense.crt", "nonsense", 0o600))
	a.does("", "config", "trust", "add", "lib:", crt, "--type", "odd")
	a.does("", "config", "trust", "list", "lib:", "-f", "csv")
	a.does("", "config", "trust", "show", "lib:"+fp)
	a.does("", "config", "trust", "show", "lib:"+fp[:12])
	a.does("", "config", "trust", "show", "lib:ffff")
	a.does("", "config", "trust", "show", "lib:")
	edits(`sed -i 's/^name: guest$/name: visitor/; s/^restricted: true$/restricted: false/; s/^projects:.*/projects: []/; /^- default$/d' "$1"`)
	a.does("", "config", "trust", "edit", "lib:"+fp[:12])
	a.does("", "config", "trust", "show", "lib:"+fp)
	edits(`exit 3`)
	a.does("", "config", "trust", "edit", "lib:"+fp)
	a.does("name: piped\nrestricted: true\nprojects: [default]\ntype: client\n", "config", "trust", "edit", "lib:"+fp)
	a.does("", "config", "trust", "show", "lib:"+fp)
	a.does("name: piped\nrestricted: true\nprojects: [nope]\ntype: client\n", "config", "trust", "edit", "lib:"+fp)
	a.does("nonsense: [", "config", "trust", "edit", "lib:"+fp)
	a.does("{}", "config", "trust", "edit", "lib:ffff")
	a.does("", "config", "trust", "show", "lib:"+fp)
	a.does("", "config", "trust", "remove", "lib:"+fp[:12])
	a.does("", "config", "trust", "remove", "lib:"+fp)
	a.does("", "config", "trust", "list", "lib:", "-f", "csv")

	// Tokens. LXD's client takes "lib:" alone for the name of a file.
	a.does("", "config", "trust", "list-tokens", "lib:", "-f", "csv")
	a.does("", "remote", "switch", "lib")
	first := lastField(a.does("", "config", "trust", "add", "--name", "first"))
	a.does("second\n", "config", "trust", "add") // asks for the name
	a.does("", "config", "trust", "add", "--name", "third", "-q")
	a.does("", "remote", "switch", "local")
	a.does("", "config", "trust", "list-tokens", "lib:", "-f", "csv")
	a.does("", "config", "trust", "list-tokens", "lib:")
	a.does("", "config", "trust", "revoke-token", "lib:first")
	a.does("", "config", "trust", "revoke-token", "lib:first")
	a.does("", "config", "trust", "revoke-token", "lib:nope")
	a.does("", "config", "trust", "revoke-token", "lib:second")
	a.does("", "config", "trust", "list-tokens", "lib:", "-f", "yaml")
	a.does("", "config", "trust", "revoke-token", "lib:third")
	a.does("", "config", "trust", "list-tokens", "lib:", "-f", "csv")

	// A stranger comes with the token that was revoked, then with one that another has used.
	stranger := &administrator{elsewhere: newElsewhere(t, client), address: address}
	noGreeting(t, stranger.conf)
	stranger.does("", "remote", "add", "lab", first)
	stranger.does("", "remote", "add", "lab", token)
	stranger.does("", "remote", "list", "-f", "csv")
	a.seen = append(a.seen, stranger.seen...)

	// The end of it: who removes herself is let in no more.
	for line := range strings.Lines(a.does("", "config", "trust", "list", "lib:", "-f", "csv")) {
		if f := strings.Split(line, ","); len(f) > 3 && f[1] == "desk" {
			a.does("", "config", "trust", "remove", "lib:"+f[3])
		}
	}
	a.does("", "config", "trust", "list", "lib:", "-f", "csv")
	a.does("", "remote", "remove", "lib")
	a.does("", "remote", "list", "-f", "csv")
	if client == judgeClient {
		return a.seen // it keeps the certificate of a remote that it could not add
	}
	if left, err := filepath.Glob(filepath.Join(a.conf, "servercerts", "*")); err != nil || len(left) > 0 {
		t.Errorf("certificates of remotes that are gone: %q, %v", left, err)
	}
	return a.seen
}

func lastField(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return ""
	}
	return f[len(f)-1]
}

// trustUnlike is what our client does otherwise than LXD's, and why.
var trustUnlike = map[string]string{
	"remote add again TOKEN": "LXD's client asks for trust that it has, fails, and leaves a certificate behind",
	"remote remove again":    "the remote is there",
}

// TestRemotesAndTrustAlike keeps LXD and our daemon from another machine, with LXD's client
// and with ours. All four say the same; only errors are put in other words by another
// daemon.
func TestRemotesAndTrustAlike(t *testing.T) {
	j := newJudge(t)
	h := newHost(t)
	theirs, ours := freeAddress(t), freeAddress(t)
	j.must(judgeClient, "config", "set", "core.https_address", theirs)
	h.lxc("config", "set", "core.https_address", ours)
	byLXD := func(name string) string {
		cmd := exec.Command(judgeClient, "config", "trust", "add", "--name", name, "-q")
		cmd.Env = j.environ("setup")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return lastField(string(out))
	}
	byUs := func(name string) string { return lastField(h.lxc("config", "trust", "add", "--name", name, "-q")) }
	want := administer(t, judgeClient, theirs, byLXD)
	for _, x := range []struct {
		who             string
		client, address string
		grant           func(string) string
	}{
		{"our client with LXD", h.bin.lxc(), theirs, byLXD},
		{"LXD's client with our daemon", judgeClient, ours, byUs},
		{"our client with our daemon", h.bin.lxc(), ours, byUs},
	} {
		got := administer(t, x.client, x.address, x.grant)
		if len(got) != len(want) {
			t.Fatalf("%s: %d commands, not %d", x.who, len(got), len(want))
		}
		for i, w := range want {
			g := got[i]
			if x.client != judgeClient && trustUnlike[w.line] != "" {
				continue
			}
			if w.line != g.line || w.code != g.code || w.stdout != g.stdout || strings.HasPrefix(w.stderr, "Error: ") != strings.HasPrefix(g.stderr, "Error: ") {
				t.Errorf("%s: lxc %s\n--- LXD's client with LXD:\n%s\n--- not so:\n%s", x.who, w.line, w, g)
			}
		}
	}
}
