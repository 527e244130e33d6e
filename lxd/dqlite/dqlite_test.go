package dqlite

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/canonical/go-dqlite/client"
	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

func start(t *testing.T, o Options) *Node {
	t.Helper()
	n, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := n.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return n
}

func mustExec(t *testing.T, n *Node, q string, args ...any) {
	t.Helper()
	if _, err := n.DB().ExecContext(t.Context(), q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func count(t *testing.T, n *Node) int {
	t.Helper()
	var c int
	if err := n.DB().QueryRowContext(t.Context(), `SELECT count(*) FROM a`).Scan(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNodeKeepsItsDataOverARestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "global")
	n := start(t, Options{Dir: dir})
	mustExec(t, n, `CREATE TABLE a (x TEXT)`)
	mustExec(t, n, `INSERT INTO a VALUES (?)`, "one")
	if err := n.Handover(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := n.Dump(t.Context())
	if err != nil || len(files["db.bin"])+len(files["db.bin-wal"]) == 0 {
		t.Fatalf("dump: %d files, %v", len(files), err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if got := count(t, start(t, Options{Dir: dir})); got != 1 {
		t.Fatalf("%d rows after the restart", got)
	}
}

func TestEngineTakesNoStrangersAndLeaksNoSockets(t *testing.T) {
	t.Parallel()
	n := start(t, Options{Dir: t.TempDir()})
	entries, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, e := range entries {
		var fd int
		for _, c := range e.Name() {
			fd = fd*10 + int(c-'0')
		}
		a, err := unix.Getsockname(fd)
		if u, ok := a.(*unix.SockaddrUnix); err != nil || !ok || u.Name != n.local {
			continue
		}
		seen++
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("fd %d of the engine is inherited by children", fd)
		}
	}
	if seen == 0 {
		t.Error("the engine's socket was not found")
	}
}

func TestDamagedLogIsToldAndLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := start(t, Options{Dir: dir})
	mustExec(t, n, `CREATE TABLE a (x TEXT)`)
	for range 5 {
		mustExec(t, n, `INSERT INTO a VALUES (hex(zeroblob(3000)))`)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	var hurt string
	files, err := filepath.Glob(filepath.Join(dir, "0*-0*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no closed segments in %v, %v", files, err)
	}
	hurt = files[len(files)-1]
	data, err := os.ReadFile(hurt)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0xff
	if err := os.WriteFile(hurt, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Start(Options{Dir: dir})
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("%v", err)
	}
	t.Log(err)
	after, err := os.ReadFile(hurt)
	if err != nil || string(after) != string(data) {
		t.Errorf("the damaged segment was touched (%v)", err)
	}
}

func TestSecondNodeInTheSameFolderIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, Options{Dir: dir})
	if _, err := Start(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("%v", err)
	}
}

// A copy of the folder of a running node is what a crash leaves behind.
func TestLogOfACrashedNodeIsFine(t *testing.T) {
	t.Parallel()
	dir, crashed := t.TempDir(), t.TempDir()
	n := start(t, Options{Dir: dir})
	mustExec(t, n, `CREATE TABLE a (x TEXT)`)
	for range 20 {
		mustExec(t, n, `INSERT INTO a VALUES (hex(zeroblob(3000)))`)
	}
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	open := ""
	files, err := filepath.Glob(filepath.Join(crashed, "open-*"))
	if err != nil {
		t.Fatal(err)
	}
	var end int
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for end = len(data); end > 0 && data[end-1] == 0; end-- {
		}
		if end > 10000 {
			open = f
			break
		}
	}
	if open == "" {
		t.Fatalf("no open segment with data in %v", files)
	}
	data, err := os.ReadFile(open)
	if err != nil {
		t.Fatal(err)
	}
	// The last batch was cut short: not acknowledged, so nothing is wrong.
	clear(data[end-100:])
	if err := os.WriteFile(open, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkLog(crashed, false); err != nil {
		t.Fatal(err)
	}
	// One in the middle is broken: what comes behind was acknowledged.
	data[end/2] ^= 0xff
	if err := os.WriteFile(open, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkLog(crashed, false); !errors.Is(err, ErrDamaged) {
		t.Fatalf("%v", err)
	}
	data[end/2] ^= 0xff
	if err := os.WriteFile(open, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := count(t, start(t, Options{Dir: crashed})); got != 19 {
		t.Errorf("%d rows", got)
	}
}

// network stands in for the daemon's listener and TLS: members by address.
type network struct {
	mu    sync.Mutex
	nodes map[string]*Node
	taps  []*tap
}

// tap reads along what an engine sends, as beats does.
type tap struct {
	net.Conn
	mu   sync.Mutex
	b    *beats
	said []byte // the first bytes
	n    int
}

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.said = append(p.said, b[:min(len(b), preamble-min(preamble, len(p.said)))]...)
	p.n += len(b)
	_, _ = p.b.Write(b)
	p.mu.Unlock()
	return p.Conn.Write(b)
}

// understood tells whether all that engines sent was, and how many bytes that were.
func (w *network) understood() (bool, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, n := true, 0
	for _, p := range w.taps {
		p.mu.Lock()
		if len(p.said) == preamble && p.said[12] == dqliteConnect {
			all, n = all && !p.b.all, n+p.n
		}
		p.mu.Unlock()
	}
	return all, n
}

func (w *network) dial(_ context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	n := w.nodes[address]
	w.mu.Unlock()
	if n == nil {
		return nil, errs.Unavailable("nobody at %s", address)
	}
	a, b := net.Pipe()
	go func() { _ = n.Serve(b) }()
	p := &tap{Conn: a, b: newBeats(io.Discard, time.Hour)}
	w.mu.Lock()
	w.taps = append(w.taps, p)
	w.mu.Unlock()
	return p, nil
}

func (w *network) set(address string, n *Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes == nil {
		w.nodes = map[string]*Node{}
	}
	w.nodes[address] = n
}

func TestThreeNodesReachEachOtherThroughTheSeam(t *testing.T) {
	t.Parallel()
	w := &network{}
	members := client.NewInmemNodeStore()
	if err := members.Set(t.Context(), []Member{{ID: 1, Address: "a:1"}}); err != nil {
		t.Fatal(err)
	}
	first := start(t, Options{Dir: t.TempDir(), Address: "a:1", Members: members, Dial: w.dial})
	w.set("a:1", first)
	mustExec(t, first, `CREATE TABLE a (x TEXT)`)
	// More than the log keeps, so that others get a snapshot.
	for range snapshotsShared.Threshold + snapshotsShared.Trailing + 10 {
		mustExec(t, first, `INSERT INTO a VALUES (hex(randomblob(50)))`)
	}
	before := count(t, first)
	all := []Member{{ID: 1, Address: "a:1"}}
	nodes := []*Node{first}
	for i, addr := range []string{"b:1", "c:1"} {
		m := Member{ID: uint64(i + 2), Address: addr, Role: client.Voter}
		all = append(all, m)
		if err := members.Set(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		n, err := Start(Options{Dir: t.TempDir(), ID: m.ID, Address: addr, Members: members, Dial: w.dial})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		w.set(addr, n)
		nodes = append(nodes, n)
		c, err := client.FindLeader(t.Context(), members, client.WithDialFunc(first.dial))
		if err != nil {
			t.Fatal(err)
		}
		err = c.Add(t.Context(), m)
		_ = c.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := nodes[2].DB().ExecContext(ctx, `INSERT INTO a VALUES ('from the third')`); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes[1].DB().ExecContext(ctx, `INSERT INTO a VALUES (hex(randomblob(100000)))`); err != nil {
		t.Fatal(err)
	}
	if got := count(t, first); got != before+2 {
		t.Errorf("%d rows of %d", got, before+2)
	}
	if understood, n := w.understood(); !understood || n < 100_000 {
		t.Errorf("of %d bytes that engines have sent not all were understood", n)
	}
	if err := first.Handover(ctx); err != nil {
		t.Fatal(err)
	}
	if m, err := nodes[1].Leader(ctx); err != nil || m.ID == 1 || m.ID == 0 {
		t.Errorf("leader %+v after the handover, %v", m, err)
	}
}

func TestBridgeEndsWithEitherSide(t *testing.T) {
	t.Parallel()
	n := &Node{}
	n.ctx, n.cancel = context.WithCancel(t.Context())
	for _, end := range []string{"a", "b", "node"} {
		a1, a2 := net.Pipe()
		b1, b2, err := socketpair()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { n.bridge(a2, b2, a2, b2); close(done) }()
		if _, err := a1.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b1, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		switch end {
		case "a":
			_ = a1.Close()
		case "b":
			_ = b1.Close()
		case "node":
			n.cancel()
		}
		<-done
		_, _ = a1.Close(), b1.Close()
	}
}
