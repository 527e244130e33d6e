//go:build system

package system

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The judge is Debian's LXD, where it is installed.
const (
	judgeDaemon = "/usr/bin/lxd"
	judgeClient = "/usr/bin/lxc"
)

// judge is a running LXD of its own folder and bridge.
type judge struct {
	t      *testing.T
	dir    string
	bridge string
	image  string
	box    int // runs in the namespaces of this process; 0: in ours
}

// newJudge is an LXD with a pool, a bridge and the small image.
func newJudge(t *testing.T) *judge {
	t.Helper()
	j := startJudge(t, 0)
	var err error
	if j.image, err = tiny(); err != nil {
		t.Fatal(err)
	}
	j.must(judgeClient, "network", "create", j.bridge, "ipv4.address=none", "ipv6.address=none")
	j.must(judgeClient, "storage", "create", "default", "dir")
	j.must(judgeClient, "profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
	j.must(judgeClient, "profile", "device", "add", "default", "eth0", "nic", "name=eth0", "network="+j.bridge)
	j.must(judgeClient, "image", "import", j.image, "--alias", "tiny", "-q")
	return j
}

// startJudge starts an empty LXD, in a box unless that is 0, and ends it with the test.
func startJudge(t *testing.T, box int) *judge {
	t.Helper()
	for _, p := range []string{judgeDaemon, judgeClient} {
		if out, err := exec.Command(p, "--version").Output(); err != nil || strings.TrimSpace(string(out)) != "5.0.2" {
			t.Skipf("%s 5.0.2 is not installed", p)
		}
	}
	var b [2]byte
	rand.Read(b[:])
	token := hex.EncodeToString(b[:])
	j := &judge{t: t, dir: filepath.Join(os.TempDir(), "judge-"+token), bridge: "jdg" + token, box: box}
	if err := os.MkdirAll(filepath.Join(j.dir, "lxd"), 0o711); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(j.dir, "lxd.out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := j.command(judgeDaemon, "--group", "root")
	cmd.Env, cmd.Stdout, cmd.Stderr = j.environ("daemon"), out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end := j.command(judgeDaemon, "shutdown", "--timeout", "30")
		end.Env = j.environ("setup")
		if out, err := end.CombinedOutput(); err != nil {
			t.Errorf("LXD does not end: %v\n%s", err, out)
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait()
		for _, m := range []string{"devlxd", "shmounts", "guestapi"} {
			_ = j.command("umount", "-l", filepath.Join(j.dir, "lxd", m)).Run()
		}
		_ = exec.Command("ip", "link", "delete", j.bridge).Run()
		if err := os.RemoveAll(j.dir); err != nil {
			t.Error(err)
		}
	})
	j.must(judgeDaemon, "waitready", "--timeout", "60")
	return j
}

// command is a program to run where this LXD is.
func (j *judge) command(program string, args ...string) *exec.Cmd {
	if j.box == 0 {
		return exec.Command(program, args...)
	}
	return exec.Command("nsenter", append([]string{"--target", strconv.Itoa(j.box), "--net", "--mount", "--", program}, args...)...)
}

func (j *judge) environ(who string) []string {
	return append(os.Environ(), "LXD_DIR="+filepath.Join(j.dir, "lxd"), "LXD_CONF="+filepath.Join(j.dir, who), "TERM=dumb", "LC_ALL=C")
}

func (j *judge) must(argv ...string) {
	j.t.Helper()
	cmd := j.command(argv[0], argv[1:]...)
	cmd.Env = j.environ("setup")
	if out, err := cmd.CombinedOutput(); err != nil {
		j.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// side is a client with a daemon.
type side struct {
	client, bridge, image string
	env                   []string
}

// said is all that a script can see of a command.
type said struct {
	line, stdout, stderr string
	code                 int
}

func (s said) String() string {
	return fmt.Sprintf("exit %d\nstdout:\n%sstderr:\n%s", s.code, s.stdout, s.stderr)
}

// run runs one line of the script; "command << text" pipes the text in.
func (s side) run(line string) said {
	command, stdin, _ := strings.Cut(line, " << ")
	command = strings.NewReplacer("BRIDGE", s.bridge, "IMAGE", s.image).Replace(command)
	// The shell splits the words; exec keeps it out of the exit code.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", `exec "$CLIENT" `+command)
	cmd.Env = append(slices.Clone(s.env), "CLIENT="+s.client)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return said{line, plain(stdout.String()), plain(stderr.String()), cmd.ProcessState.ExitCode()}
}

// script runs all lines of testdata/sidebyside.txt.
func (s side) script(t *testing.T) (out []said) {
	t.Helper()
	text, err := os.ReadFile("testdata/sidebyside.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, s.run(line))
		}
	}
	return out
}

// noGreeting writes a configuration, so that the client does not greet a new user.
func noGreeting(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.yml"), []byte("default-remote: local\nremotes: {}\naliases: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// plain replaces what differs from run to run.
func plain(s string) string {
	for _, r := range []struct{ re, to string }{
		// Progress, which the judge shows even where nobody can see it.
		{`(?:\r[^\r\n]*)+\r?`, ""},
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "UUID"},
		{`00:16:3e(?::[0-9a-f]{2}){3}`, "MAC"},
		{`veth[0-9a-f]{8}`, "VETH"},
		{`PID: [0-9]+`, "PID: N"},
		{`20\d\d-\d\d-\d\dT[0-9:.]+Z`, "TIME"},
		{`20\d\d/\d\d/\d\d \d\d:\d\d UTC`, "DATE"},
		{`[0-9.]+[GMK]iB`, "SIZE"},
		// The judge adds this line or not, as its own race goes.
		{"\nTry `lxc info --show-log [a-z0-9]+` for more info", ""},
	} {
		s = regexp.MustCompile(r.re).ReplaceAllString(s, r.to)
	}
	return sortUsers(s)
}

// sortUsers brings the lists of those who use a thing into an order; the judge has none.
func sortUsers(s string) string {
	lines := strings.Split(s, "\n")
	user := regexp.MustCompile(`^\s*(- |")/1\.0/`)
	for i := 0; i < len(lines); i++ {
		n := i
		for n < len(lines) && user.MatchString(lines[n]) {
			lines[n] = strings.TrimSuffix(lines[n], ",")
			n++
		}
		slices.Sort(lines[i:n])
		i = n
	}
	return strings.Join(lines, "\n")
}

// TestSideBySide runs each line of testdata/sidebyside.txt with Debian's lxc and
// with ours against one LXD and compares exit codes and all output. The whole file
// runs with one client first, then with the other, and must leave nothing behind.
func TestSideBySide(t *testing.T) {
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	j := newJudge(t)
	run := func(client, who string) []said {
		noGreeting(t, filepath.Join(j.dir, who))
		return side{client, j.bridge, j.image, j.environ(who)}.script(t)
	}
	want, got := run(judgeClient, "theirs"), run(bin.lxc(), "ours")
	for i := range want {
		if want[i] != got[i] {
			t.Errorf("lxc %s\n--- LXD's client:\n%s\n--- ours:\n%s", want[i].line, want[i], got[i])
		}
	}
}

// otherwise are the lines that our daemon answers otherwise than LXD, and why.
var otherwise = map[string]string{
	"config set core.proxy_http=http://x": "not built, and refused by name",
	"config show":                         "the same",
	"config get core.proxy_http":          "the same",
	"exec w1 --cwd /nonexistent -- pwd":   "LXD runs the command in another folder and says nothing",
	// The folder that a disk appeared in stays when the disk goes: whether it was there
	// before only the guest could tell.
	"exec w1 -- sh -c 'ls -d /mnt2/bin; ls /mnt'": "the folder of a disk that goes stays",
}

// TestDaemonsAlike runs the same lines with Debian's lxc against LXD and against our
// daemon. What is wrong is said in other words; that something is wrong, the exit codes
// and all that goes to standard output are the same.
func TestDaemonsAlike(t *testing.T) {
	j := newJudge(t)
	h := newHost(t)
	h.lxc("network", "create", h.bridge(), "ipv4.address=none", "ipv6.address=none")
	h.lxc("storage", "create", "default", "dir")
	h.lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
	h.lxc("profile", "device", "add", "default", "eth0", "nic", "name=eth0", "network="+h.bridge())
	h.importTiny()
	noGreeting(t, filepath.Join(j.dir, "theirs"))
	noGreeting(t, h.confDir())
	alike := func(s string) string {
		s = strings.NewReplacer(h.bridge(), "BRIDGE", j.bridge, "BRIDGE", h.dir, "DIR", j.dir, "DIR").Replace(s)
		for _, r := range []struct{ re, to string }{
			// LXD moves the ids of files on disk and unpacks images anew; both are shown as progress.
			{`(?:\n?[\r ]*(?:Retrieving image|Remapping container filesystem)[^\n\r]*\n? *)+`, ""},
			{`\n[\n\r ]*\n`, "\n"},
			{`(volatile\.last_state\.idmap"?: ).*`, "${1}IDMAP"},
			{`(?m)^(\s*usage: )[0-9]+$`, "${1}N"},
			// A pool of ours keeps images unpacked, which LXD's "dir" does not.
			{`(?m)^\s*(?:- )?"?(?:/1\.0/images/)?[0-9a-f]{64}"?,?\n`, ""},
			{`"/1\.0/images/[0-9a-f]{64}",?`, ""},
			{`(?m)^\s*images:\n`, ""},
			{`(default,dir,.*,,)\d`, "${1}N"},
			{`(\| default \| dir .*\| )\d`, "${1}N"},
			{`[ -]{2,}`, "  "},
		} {
			s = regexp.MustCompile(r.re).ReplaceAllString(s, r.to)
		}
		return s
	}
	want := side{judgeClient, j.bridge, j.image, j.environ("theirs")}.script(t)
	got := side{judgeClient, h.bridge(), j.image, append(h.environ(), "TERM=dumb", "LC_ALL=C")}.script(t)
	for i, w := range want {
		g := got[i]
		if otherwise[w.line] != "" {
			continue
		}
		if w.code != g.code || alike(w.stdout) != alike(g.stdout) || strings.HasPrefix(w.stderr, "Error: ") != strings.HasPrefix(g.stderr, "Error: ") {
			t.Errorf("lxc %s\n--- LXD:\n%s\n--- ours:\n%s", w.line, w, g)
		}
	}
}

// TestBadInputAlike sends what clients should not to both daemons and compares the codes
// of the answers, and of the operations that find out later.
func TestBadInputAlike(t *testing.T) {
	j := newJudge(t)
	h := newHost(t)
	h.setUp("dir")
	c := h.name("c1")
	h.launch(c)
	j.must(judgeClient, "launch", "tiny", c, "-q")
	t.Cleanup(func() { j.must(judgeClient, "delete", "-f", c) })
	codes := func(socket string, q badRequest) [2]int {
		code, a := ask(t, socket, q.method, q.path, q.body)
		if code != http.StatusAccepted {
			return [2]int{code}
		}
		_, a = ask(t, socket, "GET", a.Operation+"/wait?timeout=30", nil)
		var o struct {
			Code int `json:"status_code"`
		}
		if err := json.Unmarshal(a.Metadata, &o); err != nil {
			t.Fatal(err)
		}
		return [2]int{code, o.Code}
	}
	theirs := badInput(c, j.bridge, h.token)
	for i, q := range badInput(c, h.bridge(), h.token) {
		if q.unlike != "" {
			continue
		}
		want, got := codes(filepath.Join(j.dir, "lxd", "unix.socket"), theirs[i]), codes(h.socket(), q)
		if want != got {
			t.Errorf("%s: LXD gives %v, we give %v", q.what, want, got)
		}
	}
}
