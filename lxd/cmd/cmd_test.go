package cmd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sett/lxd/daemontest"
)

// result is what a run of the command line gave.
type result struct {
	code     int
	out, err string
}

func command(s *daemontest.Server, in string, args ...string) result {
	var out, errText bytes.Buffer
	dir := "/nonexistent"
	if s != nil {
		dir = s.Dir
	}
	code := run(args, &env{in: strings.NewReader(in), out: &out, err: &errText, dir: dir, taken: func(string) bool { return false }})
	return result{code, out.String(), errText.String()}
}

// want runs a command and checks its status, and that a text stands in what it wrote.
func want(t *testing.T, s *daemontest.Server, code int, text, in string, args ...string) result {
	t.Helper()
	r := command(s, in, args...)
	if r.code != code || !strings.Contains(r.out+r.err, text) {
		t.Errorf("lxd %s: %d\n%s%s; want %d with %q", strings.Join(args, " "), r.code, r.out, r.err, code, text)
	}
	return r
}

const preseed = `config:
  user.a: "1"
storage_pools:
- name: data
  driver: fake
  description: first
networks:
- name: br7
  type: bridge
  config: {ipv4.address: none, ipv6.address: none}
profiles:
- name: default
  devices:
    root: {type: disk, path: /, pool: data}
- name: extra
  config: {user.b: "2"}
`

func TestPreseedMakesChangesAndDumpsAgain(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	want(t, s, 0, "", preseed, "init", "--preseed")
	want(t, s, 0, "", preseed, "init", "--preseed") // what is there is kept
	want(t, s, 0, `Warning: the key "used_by" in line 4`, "storage_pools:\n- name: data\n  description: second\n  used_by: []\n", "init", "--preseed")
	p, _, err := s.GetStoragePool("data")
	s.Must(err)
	if p.Description != "second" || p.Driver != "fake" {
		t.Errorf("pool %+v", p)
	}
	dump := want(t, s, 0, "name: extra", "", "init", "--dump").out
	other := daemontest.New(t)
	// Where the pool lies is of the server that was dumped.
	kept := []string{}
	for _, l := range strings.Split(dump, "\n") {
		if !strings.Contains(l, "source: ") {
			kept = append(kept, l)
		}
	}
	want(t, other, 0, "", strings.Join(kept, "\n"), "init", "--preseed")
	d, _, err := other.GetProfile("default")
	other.Must(err)
	if d.Devices["root"]["pool"] != "data" {
		t.Errorf("profile %+v", d)
	}
}

func TestPreseedThatFailsIsTakenBack(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	want(t, s, 0, "", "storage_pools: [{name: old, driver: fake, description: before}]", "init", "--preseed")
	want(t, s, 1, `Failed to set up profile "bad"`, preseed+`- name: bad
  config: {no.such.key: x}
storage_pools:
- {name: old, description: after}
- {name: data, driver: fake}
`, "init", "--preseed")
	if names, err := s.GetStoragePoolNames(); err != nil || len(names) != 1 {
		t.Errorf("pools %v, %v", names, err)
	}
	p, _, err := s.GetStoragePool("old")
	s.Must(err)
	srv, _, err := s.GetServer()
	s.Must(err)
	d, _, err := s.GetProfile("default")
	s.Must(err)
	if _, ok := srv.Config["user.a"]; ok || p.Description != "before" || len(d.Devices) != 0 {
		t.Errorf("left: %v, %q, %v", srv.Config, p.Description, d.Devices)
	}
	want(t, s, 1, "driver", "storage_pools: [{name: old, driver: dir}]", "init", "--preseed")
	want(t, s, 1, "preseed", "storage_pools: 7", "init", "--preseed")
}

func TestInitRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	for text, args := range map[string][]string{
		"--auto and --minimal":       {"--auto", "--minimal"},
		"require --auto":             {"--storage-backend=dir"},
		"--network-port":             {"--auto", "--network-port=1"},
		"isn't supported":            {"--auto", "--storage-backend=zfs"},
		"--storage-create-loop":      {"--auto", "--storage-create-loop=5"},
		"1 GB or more":               {"--auto", "--storage-backend=btrfs", "--storage-create-loop=0"},
		"Failed to connect to local": {"--auto"},
	} {
		want(t, nil, 1, text, "", append([]string{"init"}, args...)...)
	}
}

func TestInitAsksForTheNetwork(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.Must(err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	s.Must(err)
	s.Must(l.Close())
	answers := strings.Join([]string{"no", "no", "no", "no", "no", "yes", "a b", "127.0.0.1", "0", port, "one", "two", "sesame", "sesame", "yes", "no", ""}, "\n")
	want(t, s, 0, "", answers, "init")
	srv, _, err := s.GetServer()
	s.Must(err)
	if srv.Config["core.https_address"] != "127.0.0.1:"+port || srv.Config["core.trust_password"] != true || len(srv.Environment.Addresses) != 1 {
		t.Errorf("config %v, addresses %v", srv.Config, srv.Environment.Addresses)
	}
}

// A server that serves at all its addresses serves at each of them, and at no other one.
func TestInitOfAClusterTakesAnAddressThatIsServed(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	l, err := net.Listen("tcp", "[::]:0")
	s.Must(err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	s.Must(err)
	s.Must(l.Close())
	srv, etag, err := s.GetServer()
	s.Must(err)
	put := srv.Writable()
	put.Config["core.https_address"] = "[::]:" + port
	s.Must(s.UpdateServer(put, etag))
	out := want(t, s, 1, "", "yes\n203.0.113.77:"+port+"\n127.0.0.1:"+port+"\n", "init").out
	if strings.Count(out, "Address at which the other members") != 2 || !strings.Contains(out, "Does it join a cluster") {
		t.Errorf("it says\n%s", out)
	}
}

func TestSQL(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	if got := want(t, s, 0, "", "", "sql", "global", "SELECT id, name FROM profiles").out; got != `+----+---------+
| id |  name   |
+----+---------+
| 1  | default |
+----+---------+
` {
		t.Errorf("got\n%s", got)
	}
	want(t, s, 0, "Rows affected: 1", "UPDATE profiles SET description = 'x'; SELECT 12345678901234567", "sql", "global", "-")
	want(t, s, 0, "=> Query 1:", "UPDATE profiles SET description = 'x'; SELECT 12345678901234567", "sql", "global", "-")
	want(t, s, 0, "12345678901234567", "", "sql", "local", "SELECT 12345678901234567")
	want(t, s, 0, "CREATE TABLE", "", "sql", "local", ".schema")
	want(t, s, 0, "INSERT INTO", "", "sql", "global", ".dump")
	want(t, s, 1, "SELEC", "", "sql", "global", "SELEC 1")
	want(t, s, 1, "use local or global", "", "sql", "other", "SELECT 1")
	want(t, s, 1, "Missing", "", "sql", "global")
}

func TestWaitReady(t *testing.T) {
	t.Parallel()
	s := daemontest.New(t)
	want(t, s, 0, "", "", "waitready", "--timeout=30")
	want(t, nil, 1, "still not running after 1s", "", "waitready", "--timeout=1")
	want(t, nil, 1, "", "", "shutdown", "--timeout=1")
}

func TestVersionAndUnknownVerbs(t *testing.T) {
	t.Parallel()
	want(t, nil, 0, "5.0", "", "version")
	want(t, nil, 1, "Error:", "", "no-such-verb")
	want(t, nil, 0, "--logfile", "", "--help")
}

// Not parallel: the service manager speaks through the environment.
func TestWatchdogIsFedWhileTheDaemonAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	sock, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	asked, answer := make(chan struct{}), make(chan error)
	done := make(chan struct{})
	go func() {
		defer close(done)
		watchdog(ctx, slog.New(slog.DiscardHandler), func(ctx context.Context) error {
			asked <- struct{}{}
			return <-answer
		})
	}()
	ping := func(wait time.Duration) string {
		b := make([]byte, 100)
		_ = sock.SetReadDeadline(time.Now().Add(wait))
		n, _ := sock.Read(b)
		return string(b[:n])
	}
	for range 2 {
		<-asked
		answer <- nil
		if got := ping(10 * time.Second); got != "WATCHDOG=1" {
			t.Errorf("the service manager was told %q", got)
		}
	}
	<-asked
	answer <- errors.New("no answer") // a daemon that hangs is not excused
	<-asked
	if got := ping(time.Millisecond); got != "" {
		t.Errorf("the service manager was told %q", got)
	}
	cancel()
	answer <- context.Canceled
	<-done
	watchdog(t.Context(), slog.New(slog.DiscardHandler), nil) // nobody watches: it returns
}

func TestTablesOfCellsWithSeveralLines(t *testing.T) {
	t.Parallel()
	got := sqlText([]sqlResult{{Type: "select", Columns: []string{"a", "b"}, Rows: [][]any{{"1\n22", "x"}}}})
	if got != "+----+---+\n| a  | b |\n+----+---+\n| 1  | x |\n| 22 |   |\n+----+---+\n" {
		t.Errorf("got\n%s", got)
	}
}
