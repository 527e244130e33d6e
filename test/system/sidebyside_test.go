//go:build system

package system

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
}

func newJudge(t *testing.T) *judge {
	t.Helper()
	for _, p := range []string{judgeDaemon, judgeClient} {
		if out, err := exec.Command(p, "--version").Output(); err != nil || strings.TrimSpace(string(out)) != "5.0.2" {
			t.Skipf("%s 5.0.2 is not installed", p)
		}
	}
	var b [2]byte
	rand.Read(b[:])
	token := hex.EncodeToString(b[:])
	j := &judge{t: t, dir: filepath.Join(os.TempDir(), "judge-"+token), bridge: "jdg" + token}
	var err error
	if j.image, err = tiny(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(j.dir, "lxd"), 0o711); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(j.dir, "lxd.out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(judgeDaemon, "--group", "root")
	cmd.Env, cmd.Stdout, cmd.Stderr = j.environ("daemon"), out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		j.must(judgeDaemon, "shutdown", "--timeout", "30")
		_ = cmd.Wait()
		for _, m := range []string{"devlxd", "shmounts", "guestapi"} {
			_ = exec.Command("umount", "-l", filepath.Join(j.dir, "lxd", m)).Run()
		}
		_ = exec.Command("ip", "link", "delete", j.bridge).Run()
		if err := os.RemoveAll(j.dir); err != nil {
			t.Error(err)
		}
	})
	j.must(judgeDaemon, "waitready", "--timeout", "60")
	j.must(judgeClient, "network", "create", j.bridge, "ipv4.address=none", "ipv6.address=none")
	j.must(judgeClient, "storage", "create", "default", "dir")
	j.must(judgeClient, "profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
	j.must(judgeClient, "profile", "device", "add", "default", "eth0", "nic", "name=eth0", "network="+j.bridge)
	j.must(judgeClient, "image", "import", j.image, "--alias", "tiny", "-q")
	return j
}

func (j *judge) environ(who string) []string {
	return append(os.Environ(), "LXD_DIR="+filepath.Join(j.dir, "lxd"), "LXD_CONF="+filepath.Join(j.dir, who), "TERM=dumb", "LC_ALL=C")
}

func (j *judge) must(argv ...string) {
	j.t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = j.environ("setup")
	if out, err := cmd.CombinedOutput(); err != nil {
		j.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// step runs one command line and writes down all that a script could see of it.
func (j *judge) step(client, who, line, stdin string) string {
	line = strings.NewReplacer("BRIDGE", j.bridge, "IMAGE", j.image).Replace(line)
	// The shell splits the words; exec keeps it out of the exit code.
	cmd := exec.Command("sh", "-c", `exec "$CLIENT" `+line)
	cmd.Env = append(j.environ(who), "CLIENT="+client)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run()
	return fmt.Sprintf("exit %d\nstdout:\n%sstderr:\n%s", cmd.ProcessState.ExitCode(), plain(stdout.String()), plain(stderr.String()))
}

// plain replaces what differs from run to run.
func plain(s string) string {
	for _, r := range []struct{ re, to string }{
		// Progress, which the judge shows even where nobody can see it.
		{`(?:\r[^\r\n]*)+\r?`, ""},
		{`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "UUID"},
		{`00:16:3e(?::[0-9a-f]{2}){3}`, "MAC"},
		{`veth[0-9a-f]{8}`, "VETH"},
		{`20\d\d-\d\d-\d\dT[0-9:.]+Z`, "TIME"},
		{`20\d\d/\d\d/\d\d \d\d:\d\d UTC`, "DATE"},
		{`[0-9.]+[GMK]iB`, "SIZE"},
		// The judge adds this line or not, as its own race goes.
		{"\nTry `lxc info --show-log [a-z0-9]+` for more info", ""},
	} {
		s = regexp.MustCompile(r.re).ReplaceAllString(s, r.to)
	}
	return s
}

// TestSideBySide runs each line of testdata/sidebyside.txt with Debian's lxc and
// with ours against one LXD and compares exit codes and all output. The whole file
// runs with one client first, then with the other, and must leave nothing behind.
func TestSideBySide(t *testing.T) {
	script, err := os.ReadFile("testdata/sidebyside.txt")
	if err != nil {
		t.Fatal(err)
	}
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	j := newJudge(t)
	type result struct{ line, out string }
	runAll := func(client, who string) (out []result) {
		for line := range strings.Lines(string(script)) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			// "command << text" pipes the text in.
			command, stdin, _ := strings.Cut(line, " << ")
			out = append(out, result{line, j.step(client, who, command, stdin)})
		}
		return out
	}
	// Both begin with a configuration, so that neither greets a new user.
	for _, who := range []string{"theirs", "ours"} {
		dir := filepath.Join(j.dir, who)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.yml"), []byte("default-remote: local\nremotes: {}\naliases: {}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, got := runAll(judgeClient, "theirs"), runAll(bin.lxc(), "ours")
	for i := range want {
		if want[i].out != got[i].out {
			t.Errorf("lxc %s\n--- LXD's client:\n%s\n--- ours:\n%s", want[i].line, want[i].out, got[i].out)
		}
	}
}
