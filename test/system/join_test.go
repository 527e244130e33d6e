//go:build system

package system

import (
	"context"
	"encoding/base64"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// initiate is a server in a network of its own on which "lxd init" is run.
type initiate struct {
	t    *testing.T
	in   func(program string, args ...string) *exec.Cmd // of "lxd" and "lxc", with its environment
	seen *[]said
}

// init gives answers to "lxd init" and writes down what it asked: of each question the
// words to choose from, the default, and what it is about where that is a word of the API.
func (i initiate) init(what, stdin string, args ...string) string {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), patience)
	defer cancel()
	cmd := i.in("lxd", append([]string{"init"}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	var out strings.Builder
	// LXD's asks some questions without end when the answers do.
	cmd.Stdout = &bounded{&out, 1 << 16}
	first, rest, pools := strings.Cut(stdin, properties)
	_, _ = io.WriteString(in, first)
	if pools {
		cmd.Stdout = &answering{to: cmd.Stdout, in: in, rest: rest}
	} else {
		_ = in.Close()
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		i.t.Fatal(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait()
	stop()
	asked := regexp.MustCompile(`\(yes/no[^)]*\)|\[default=[^\]]*\]|"\w+" property for [a-z -]+ "\w+"|Invalid input|Error:`).FindAllString(out.String(), -1)
	// LXD asks for what the pools have in no order.
	for at := 0; at < len(asked); at++ {
		end := at
		for end < len(asked) && strings.Contains(asked[end], " property for ") {
			end++
		}
		slices.Sort(asked[at:end])
		at = max(at, end-1)
	}
	*i.seen = append(*i.seen, said{what, strings.Join(asked, "\n") + "\n", out.String(), cmd.ProcessState.ExitCode()})
	return out.String()
}

func (i initiate) lxc(args ...string) string {
	i.t.Helper()
	out, err := i.in("lxc", args...).Output()
	if err != nil {
		i.t.Fatalf("lxc %s: %v\n%s", strings.Join(args, " "), err, err.(*exec.ExitError).Stderr)
	}
	return string(out)
}

// properties stands in answers for the size and the source of a pool, for which LXD asks in
// no order.
const properties = "(properties)\n"

// answering passes on what is asked, and answers what is asked of pools.
type answering struct {
	to   io.Writer
	in   io.WriteCloser
	text string
	said int
	rest string // the answers after those
}

func (a *answering) Write(p []byte) (int, error) {
	a.text += string(p)
	asked := regexp.MustCompile(`"(\w+)" property for storage pool`).FindAllStringSubmatch(a.text, -1)
	for ; a.said < len(asked); a.said++ {
		answer := "\n"
		if asked[a.said][1] == "size" {
			answer = "150MiB\n"
		}
		if a.said == 1 { // the last
			answer += a.rest
		}
		_, _ = io.WriteString(a.in, answer)
		if a.said == 1 {
			_ = a.in.Close()
		}
	}
	return a.to.Write(p)
}

// bounded passes on so many bytes, and ends who writes more.
type bounded struct {
	to   io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, io.ErrShortWrite
	}
	return b.to.Write(p)
}

// forge changes a join token.
func forge(t *testing.T, token, old, now string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(token)
	if err != nil || !strings.Contains(string(b), old) {
		t.Fatalf("a token without %s: %s, %v", old, b, err)
	}
	return base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(string(b), old, now)))
}

// answers are the lines that somebody types.
func answers(s ...string) string { return strings.Join(s, "\n") + "\n" }

// dialogues makes a cluster of the first of three servers by "lxd init", tries to join it
// in all ways that go wrong, lets the second join by the dialogue and the third by a file.
func dialogues(t *testing.T, a, b, c initiate) {
	t.Helper()
	a.init("a new cluster", answers("yes", "10.99.0.1", "no", "m0", "no", "no", "no", "no", "no", "", "no"))
	a.lxc("storage", "create", "loop", "btrfs", "size=200MiB", "--target", "m0")
	a.lxc("storage", "create", "loop", "btrfs")
	a.lxc("profile", "create", "web")

	token := lastField(a.lxc("cluster", "add", "m1"))
	b.init("the end of input", answers("yes", "10.99.0.2"))
	b.init("a change of mind", answers("yes", "", "yes", token, "no"))
	b.init("a change of mind, the token apart", answers("yes", "", "yes", "yes", token, "no"))
	b.init("nonsense for a token", answers("yes", "", "yes", "nonsense", "yes", "nonsense", token, "no"))
	b.init("nonsense for yes or no", answers("perhaps", "yes", "", "maybe", "yes", token, "no"))
	b.init("an address of another server", answers("yes", "10.99.0.77", "10.99.0.2", "yes", token, "no"))
	b.init("an address of all servers", answers("yes", "0.0.0.0", "10.99.0.2", "yes", token, "no"))
	b.init("a port too", answers("yes", "10.99.0.2:8444", "yes", token, "no"))
	b.init("a wrong address in the token", answers("yes", "", "yes", forge(t, token, ":8443", ":9"), "yes", "", "", "no"))
	b.init("a wrong fingerprint in the token", answers("yes", "", "yes", forge(t, token, `"fingerprint":"`, `"fingerprint":"00`), "yes", "", "", "no"))
	b.init("a wrong secret in the token", answers("yes", "", "yes", forge(t, token, `"secret":"`, `"secret":"00`), "yes", "", "", "no"))
	if out := b.init("what is left of all that", "", "--dump"); strings.Contains(out, "8443") || strings.Contains(out, "web") {
		t.Errorf("a server that did not join has %s", out)
	}

	b.init("it joins", answers("yes", "", "yes", token, "yes")+properties+answers("no"))
	if out := a.lxc("cluster", "list", "-f", "csv"); strings.Count(out, "ONLINE") != 2 {
		t.Errorf("members: %s", out)
	}
	if out := b.lxc("storage", "get", "loop", "size", "--target", "m1"); out != "150MiB\n" {
		t.Errorf("the size that was chosen is %s", out)
	}
	b.init("a used token", answers("yes", "", "yes", token, "yes", "", "", "no"))
	b.init("of a member", answers("", "no", "no", "no", "no", "", "no"))
	dump := b.init("a dump of a member", "", "--dump")
	(*b.seen)[len(*b.seen)-1].stdout += dump

	preseed := func(token string) string {
		return "cluster:\n  enabled: true\n  server_address: 10.99.0.3:8443\n  cluster_token: " + token + "\n" +
			"  member_config:\n  - entity: storage-pool\n    name: loop\n    key: size\n    value: 160MiB\n"
	}
	c.init("a file with a used token", preseed(token), "--preseed")
	token = lastField(a.lxc("cluster", "add", "m2"))
	c.init("a file with nonsense for a token", preseed("nonsense"), "--preseed")
	c.init("a file with a wrong address in the token", preseed(forge(t, token, ":8443", ":9")), "--preseed")
	c.init("a file with an address of another server", strings.Replace(preseed(token), "10.99.0.3", "10.99.0.77", 1), "--preseed")
	c.init("a file with another name than the token", strings.Replace(preseed(token), "enabled: true\n", "enabled: true\n  server_name: other\n", 1), "--preseed")
	if out := a.lxc("cluster", "list", "-f", "csv"); strings.Count(out, "ONLINE") != 3 {
		t.Errorf("members: %s", out)
	}
	if out := a.lxc("storage", "get", "loop", "size", "--target", "m2"); out != "160MiB\n" {
		t.Errorf("the size in the file is %s", out)
	}
}

// TestJoinDialogueAlike gives the same answers to LXD's "lxd init" and to ours: both ask
// the same number of questions, with the same defaults, so that scripts fit both.
func TestJoinDialogueAlike(t *testing.T) {
	var theirs, ours []said
	t.Run("LXD", func(t *testing.T) {
		f := &fleet{t: t, sw: 0}
		f.sw = f.hold()
		f.netbox("switch", strconv.Itoa(f.sw))
		var is []initiate
		for i := range 3 {
			box := f.hold()
			f.netbox("plug", strconv.Itoa(f.sw), strconv.Itoa(box), f.address(i)+"/24")
			j := startJudge(t, box)
			is = append(is, initiate{t, func(program string, args ...string) *exec.Cmd {
				cmd := j.command("/usr/bin/"+program, args...)
				cmd.Env = j.environ("setup")
				return cmd
			}, &theirs})
		}
		t.Cleanup(func() { _ = is[0].in("lxc", "storage", "delete", "loop").Run() })
		dialogues(t, is[0], is[1], is[2])
	})
	if len(theirs) == 0 {
		t.Skip("no LXD to compare with")
	}
	t.Run("ours", func(t *testing.T) {
		f := newFleet(t, 3)
		var is []initiate
		for _, h := range f.members {
			is = append(is, initiate{t, func(program string, args ...string) *exec.Cmd {
				cmd := h.command(context.Background(), "env", append([]string{h.bin.dir + "/" + program}, args...)...)
				cmd.Env = h.environ()
				return cmd
			}, &ours})
		}
		dialogues(t, is[0], is[1], is[2])
	})
	for i, w := range theirs {
		if i >= len(ours) {
			break
		}
		g := ours[i]
		if w.stdout != g.stdout || w.code != g.code {
			t.Errorf("%s\n--- LXD: exit %d\n%s\n%s\n--- ours: exit %d\n%s\n%s", w.line, w.code, w.stdout, w.stderr, g.code, g.stdout, g.stderr)
		}
	}
	if !slices.ContainsFunc(ours, func(s said) bool { return s.line == "it joins" && s.code == 0 }) {
		t.Error("nobody joined")
	}
}
