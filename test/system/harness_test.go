//go:build system

package system

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sett/test/lib/tinyimage"
)

// patience is how long anything may take before a test gives up on it. It is long,
// because machines that run tests are slow at bad moments.
const patience = 60 * time.Second

// programs are the binaries under test.
type programs struct{ dir string }

func (p programs) lxd() string { return filepath.Join(p.dir, "lxd") }
func (p programs) lxc() string { return filepath.Join(p.dir, "lxc") }

// top is the root of the source tree.
func top() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}

// built returns the programs of $SETT_BIN, or builds them once.
var built = sync.OnceValues(func() (programs, error) {
	if dir := os.Getenv("SETT_BIN"); dir != "" {
		return programs{dir}, nil
	}
	out, err := exec.Command("make", "-C", top(), "build").CombinedOutput()
	if err != nil {
		return programs{}, fmt.Errorf("make build: %w\n%s", err, out)
	}
	return programs{filepath.Join(top(), "bin")}, nil
})

// tiny returns the path of the small test image, made once per run.
var tiny = sync.OnceValues(func() (string, error) {
	f, err := os.CreateTemp("", "sett-tiny-*.tar.gz")
	if err != nil {
		return "", err
	}
	defer f.Close()
	return f.Name(), tinyimage.Write(f, tinyimage.Options{})
})

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "The system tests need root.")
		os.Exit(1)
	}
	code := m.Run()
	if path, err := tiny(); err == nil {
		os.Remove(path)
	}
	os.Exit(code)
}

// host is one daemon with all that belongs to it.
type host struct {
	t      *testing.T
	bin    programs
	client string // the lxc program in use
	token  string
	dir    string // holds LXD_DIR and LXD_CONF
	args   []string
	env    []string
	box    int  // runs in the namespaces of this process; 0: in ours
	over   bool // emptied and stopped by its fleet

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	links  map[string]bool // interfaces seen on our bridges
}

// newHost prepares a folder and starts a daemon in it. When the test ends the daemon
// is emptied and stopped, and everything that is left of it fails the test.
func newHost(t *testing.T) *host {
	t.Helper()
	h := prepareHost(t)
	h.start()
	return h
}

// prepareHost does the same without starting the daemon.
func prepareHost(t *testing.T) *host {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	var b [3]byte
	rand.Read(b[:])
	// Not t.TempDir: unix sockets have short paths, and the name must show the token.
	h := &host{t: t, bin: bin, client: bin.lxc(), token: hex.EncodeToString(b[:]), links: map[string]bool{}}
	h.dir = filepath.Join(os.TempDir(), "sett-"+h.token)
	for _, d := range []string{h.dir, h.lxdDir(), h.confDir()} {
		if err := os.Mkdir(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(h.end)
	return h
}

func (h *host) lxdDir() string  { return filepath.Join(h.dir, "lxd") }
func (h *host) confDir() string { return filepath.Join(h.dir, "conf") }
func (h *host) logFile() string { return filepath.Join(h.dir, "lxd.log") }
func (h *host) socket() string  { return filepath.Join(h.lxdDir(), "unix.socket") }

// name makes the name of an instance that no other daemon on this machine uses.
func (h *host) name(s string) string { return s + "-" + h.token }

// bridge is the name of our bridge; interface names are at most 15 characters.
func (h *host) bridge() string { return "sys" + h.token }

func (h *host) environ() []string {
	env := []string{"LXD_DIR=" + h.lxdDir(), "LXD_CONF=" + h.confDir()}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "LXD_") && !strings.HasPrefix(e, "NOTIFY_") && !strings.HasPrefix(e, "LISTEN_") {
			env = append(env, e)
		}
	}
	return append(env, h.env...)
}

// command is a program to run where this host is.
func (h *host) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	if h.box != 0 {
		args = append([]string{"--target", strconv.Itoa(h.box), "--net", "--mount", "--", program}, args...)
		program = "nsenter"
	}
	return exec.CommandContext(ctx, program, args...)
}

// start runs the daemon and waits until it is ready.
func (h *host) start() {
	h.t.Helper()
	h.begin()
	if r := h.run(h.bin.lxd(), "waitready", "--timeout", "30"); r.code != 0 {
		h.t.Fatalf("the daemon did not become ready: %s\n%s", r.stderr, h.logTail())
	}
}

// begin runs the daemon and does not wait for it.
func (h *host) begin() {
	h.t.Helper()
	cmd := h.command(context.Background(), h.bin.lxd(), append([]string{"--logfile", h.logFile(), "--debug"}, h.args...)...)
	cmd.Env = h.environ()
	out, err := os.OpenFile(filepath.Join(h.dir, "lxd.out"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	// A group of its own, so that a ^C at the terminal does not take it away before
	// the test has cleaned up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	exited := make(chan struct{})
	h.mu.Lock()
	h.cmd, h.exited = cmd, exited
	h.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
}

// pid is the daemon's process id.
func (h *host) pid() int { return h.cmd.Process.Pid }

// stop ends the daemon by a signal and waits until it is gone. SIGTERM is what init
// systems send; SIGKILL is a crash. Containers go on in both cases.
func (h *host) stop(sig syscall.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil {
		h.t.Fatalf("signal the daemon: %v", err)
	}
	select {
	case <-h.exited:
	case <-time.After(patience):
		h.t.Fatalf("the daemon does not end after %s\n%s", sig, h.logTail())
	}
}

func (h *host) alive() bool {
	if h.cmd == nil {
		return false
	}
	select {
	case <-h.exited:
		return false
	default:
		return true
	}
}

// result is what a program said.
type result struct {
	stdout, stderr string
	code           int
}

func (h *host) run(program string, args ...string) result {
	h.t.Helper()
	return h.runIn(nil, program, args...)
}

// runIn runs a program with the host's environment and the given standard input.
func (h *host) runIn(stdin io.Reader, program string, args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.command(ctx, program, args...)
	cmd.Env = h.environ()
	cmd.Stdin = stdin
	cmd.WaitDelay = time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if ctx.Err() != nil {
		h.t.Fatalf("%s %s: no end after %s\nstdout: %s\nstderr: %s\n%s", filepath.Base(program), strings.Join(args, " "), patience, &out, &errOut, h.logTail())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("%s: %v", program, err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// lxc runs the client, which must succeed, and returns its standard output.
func (h *host) lxc(args ...string) string {
	h.t.Helper()
	return h.lxcIn("", args...)
}

func (h *host) lxcIn(stdin string, args ...string) string {
	h.t.Helper()
	r := h.runIn(strings.NewReader(stdin), h.client, args...)
	if r.code != 0 {
		h.t.Fatalf("lxc %s: exit %d\nstdout: %s\nstderr: %s\n%s", strings.Join(args, " "), r.code, r.stdout, r.stderr, h.logTail())
	}
	return r.stdout
}

// try runs the client, which may fail.
func (h *host) try(args ...string) result {
	h.t.Helper()
	return h.run(h.client, args...)
}

// setUp makes a pool of the given driver, a bridge and the default profile, and
// imports the small image as "tiny".
func (h *host) setUp(driver string) {
	h.t.Helper()
	pool := []string{"default", driver}
	if driver == "btrfs" {
		pool = append(pool, "size=1GiB")
	}
	h.setUpIn(pool...)
}

// setUpIn is setUp with the given pool, whose name is "default".
func (h *host) setUpIn(pool ...string) {
	h.t.Helper()
	h.lxc(append([]string{"storage", "create"}, pool...)...)
	h.lxc("network", "create", h.bridge())
	h.lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
	h.lxc("profile", "device", "add", "default", "eth0", "nic", "network="+h.bridge(), "name=eth0")
	h.importTiny()
}

func (h *host) importTiny() {
	h.t.Helper()
	path, err := tiny()
	if err != nil {
		h.t.Fatal(err)
	}
	h.lxc("image", "import", path, "--alias", "tiny")
}

// launch starts an instance of the small image and waits until it has booted.
func (h *host) launch(name string, args ...string) {
	h.t.Helper()
	h.lxc(append([]string{"launch", "tiny", name}, args...)...)
	h.waitBooted(name)
}

func (h *host) waitBooted(name string) {
	h.t.Helper()
	h.eventually("boot of "+name, func() bool {
		return h.try("exec", name, "--", "cat", "/run/booted").code == 0
	})
	h.seen()
}

// state is what 'lxc list' calls it: RUNNING, STOPPED, ..., or "" for no instance.
func (h *host) state(name string) string {
	h.t.Helper()
	return strings.TrimSpace(h.lxc("list", "^"+name+"$", "--columns", "s", "--format", "csv"))
}

// ipv4 waits for the address of an instance.
func (h *host) ipv4(name string) net.IP {
	h.t.Helper()
	var ip net.IP
	h.eventually("IPv4 address of "+name, func() bool {
		out := h.lxc("list", "^"+name+"$", "--columns", "4", "--format", "csv")
		if f := strings.Fields(out); len(f) > 0 {
			ip = net.ParseIP(f[0])
		}
		return ip != nil
	})
	return ip
}

// initPID is the process id of an instance's init on the host.
func (h *host) initPID(name string) int {
	h.t.Helper()
	var s struct {
		PID int `json:"pid"`
	}
	h.get("/1.0/instances/"+name+"/state", &s)
	if s.PID <= 0 {
		h.t.Fatalf("%s has no process", name)
	}
	return s.PID
}

// eventually polls, since much of what these tests wait for happens outside of the
// daemon and sends no event.
func (h *host) eventually(what string, done func() bool) {
	h.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			h.t.Fatalf("waited %s for: %s\n%s", patience, what, h.logTail())
		case <-tick.C:
		}
	}
}

// answer is the envelope of the REST API.
type answer struct {
	Type      string          `json:"type"`
	Code      int             `json:"status_code"`
	ErrorCode int             `json:"error_code"`
	Error     string          `json:"error"`
	Operation string          `json:"operation"`
	Metadata  json.RawMessage `json:"metadata"`
}

// request speaks to the API without a client library in between. A body that is a
// string is sent as it is, anything else as JSON.
func (h *host) request(method, path string, body any) (int, answer) {
	h.t.Helper()
	return ask(h.t, h.socket(), method, path, body)
}

// ask is request for the daemon behind a socket.
func ask(t *testing.T, socket, method, path string, body any) (int, answer) {
	t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(j)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://unix"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, a
}

// get fetches an object, which must exist.
func (h *host) get(path string, into any) {
	h.t.Helper()
	code, a := h.request("GET", path, nil)
	if code != http.StatusOK {
		h.t.Fatalf("GET %s: %d %s", path, code, a.Error)
	}
	if err := json.Unmarshal(a.Metadata, into); err != nil {
		h.t.Fatalf("GET %s: %v", path, err)
	}
}

// logTail is the end of what the daemon has said, for messages.
func (h *host) logTail() string {
	var out strings.Builder
	if h.cmd != nil && !h.alive() {
		fmt.Fprintf(&out, "the daemon has ended: %s\n", h.cmd.ProcessState)
	}
	for _, f := range []string{"lxd.out", "lxd.log"} {
		b, _ := os.ReadFile(filepath.Join(h.dir, f))
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		fmt.Fprintf(&out, "--- %s\n%s\n", f, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
	return out.String()
}

// clients runs a test with our client, and with LXD's own where that is installed.
func clients(t *testing.T, f func(t *testing.T, client string)) {
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("our-client", func(t *testing.T) { f(t, bin.lxc()) })
	const theirs = "/usr/bin/lxc"
	if out, err := exec.Command(theirs, "--version").Output(); err == nil && strings.HasPrefix(string(out), "5.0.") {
		t.Run("lxd-client", func(t *testing.T) { f(t, theirs) })
	}
}
