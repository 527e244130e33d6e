//go:build system

package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// setUpCluster gives the cluster a pool, a bridge and the small image.
func (f *fleet) setUpCluster() {
	f.t.Helper()
	h := f.members[0]
	for i := range f.members {
		h.lxc("storage", "create", "default", "dir", "--target", f.name(i))
		h.lxc("network", "create", h.bridge(), "--target", f.name(i))
	}
	h.lxc("storage", "create", "default", "dir")
	h.lxc("network", "create", h.bridge())
	h.lxc("profile", "device", "add", "default", "root", "disk", "path=/", "pool=default")
	h.lxc("profile", "device", "add", "default", "eth0", "nic", "network="+h.bridge(), "name=eth0")
	h.importTiny()
}

// TestClusterIsOneMachine uses three members as if they were one, with our client and
// through every member.
func TestClusterIsOneMachine(t *testing.T) {
	t.Parallel()
	clients(t, func(t *testing.T, client string) {
		f := newFleet(t, 3)
		for _, h := range f.members {
			h.client = client
		}
		f.form()
		for _, h := range f.members {
			list := h.lxc("cluster", "list", "--format", "csv")
			if n := strings.Count(list, "ONLINE"); n != 3 {
				t.Fatalf("%d members are online:\n%s", n, list)
			}
		}
		f.setUpCluster()
		a, b, c := f.members[0], f.members[1], f.members[2]

		// The image is on the first member only; the others get it when they need it.
		for i := range f.members {
			n := a.name(fmt.Sprint("on", i))
			c.lxc("launch", "tiny", n, "--target", f.name(i))
		}
		for i := range f.members {
			n := a.name(fmt.Sprint("on", i))
			for _, h := range f.members {
				h.eventually("exec in "+n, func() bool {
					r := h.try("exec", n, "--", "hostname")
					return r.code == 0 && r.stdout == n+"\n"
				})
				if out := h.lxc("list", "^"+n+"$", "--columns", "nsL", "--format", "csv"); out != n+",RUNNING,"+f.name(i)+"\n" {
					t.Errorf("%s says %q", h.lxdDir(), out)
				}
			}
		}
		// Streams go through a member as they go through none.
		if out := b.lxcIn(strings.Repeat("x", 1<<20), "exec", a.name("on2"), "--", "wc", "-c"); strings.TrimSpace(out) != "1048576" {
			t.Errorf("of a MiB through another member %q came", out)
		}
		if r := b.try("exec", a.name("on0"), "--", "sh", "-c", "exit 42"); r.code != 42 {
			t.Errorf("exit status 42 came as %d", r.code)
		}
		b.lxcIn("through another\n", "file", "push", "-", a.name("on2")+"/root/note")
		if out := a.lxc("file", "pull", a.name("on2")+"/root/note", "-"); out != "through another\n" {
			t.Errorf("a file that was pushed through another member is %q", out)
		}
		c.lxc("exec", a.name("on2"), "--", "sh", "-c", "setsid -c sh -i </dev/console >/dev/console 2>&1 &")
		v := b.console(a.name("on2"))
		b.eventually("the console through another member", func() bool { return strings.Contains(v.String(), "To detach") })
		v.types(t, "echo $((6*7))-$(hostname)\n")
		b.eventually("an answer at the console", func() bool { return strings.Contains(v.String(), "42-"+a.name("on2")) })
		v.types(t, "\x01")
		<-time.After(200 * time.Millisecond) // LXD's client looks at one key of what comes together
		v.types(t, "q")
		if err := v.end(); err != nil {
			t.Errorf("detach: %v, %q", err, v.String())
		}
		// The member with the fewest instances takes the next one.
		c.lxc("delete", "--force", a.name("on1"))
		c.lxc("launch", "tiny", a.name("placed"))
		if out := c.lxc("list", "^"+a.name("placed")+"$", "--columns", "L", "--format", "csv"); out != f.name(1)+"\n" {
			t.Errorf("a new instance was placed on %q", out)
		}
		// What another member does is seen here.
		b.lxc("stop", "--force", a.name("on0"))
		if out := c.lxc("list", "^"+a.name("on0")+"$", "--columns", "s", "--format", "csv"); out != "STOPPED\n" {
			t.Errorf("an instance that was stopped through another member is %q", out)
		}
		if r := a.try("cluster", "remove", f.name(2)); r.code == 0 {
			t.Error("a member with instances was removed")
		}
		c.lxc("delete", "--force", a.name("on2"))
	})
}

// writes are changes made through all members at once.
type writes struct {
	mu      sync.Mutex
	acked   []string
	slowest time.Duration
	at      time.Time     // of the last acknowledgement
	gap     time.Duration // longest time without one
}

// write makes profiles through every member until stop is called.
func (f *fleet) write() (w *writes, stop func()) {
	w = &writes{at: time.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, h := range f.members {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("w%d-%d", i, n)
				start := time.Now()
				code := postProfile(ctx, h.socket(), name)
				w.mu.Lock()
				now := time.Now()
				if code == http.StatusCreated {
					w.acked = append(w.acked, name)
					w.gap = max(w.gap, now.Sub(w.at))
					w.at = now
				}
				if ctx.Err() == nil {
					w.slowest = max(w.slowest, now.Sub(start))
				}
				w.mu.Unlock()
				if code != http.StatusCreated { // the member is down, or refuses
					select {
					case <-time.After(20 * time.Millisecond):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	return w, func() { cancel(); wg.Wait() }
}

// acks waits until n more writes were acknowledged.
func (w *writes) acks(h *host, n int) {
	h.t.Helper()
	w.mu.Lock()
	from := len(w.acked)
	w.mu.Unlock()
	h.eventually(fmt.Sprintf("%d writes", n), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.acked) >= from+n
	})
}

// restart begins a new measurement of the longest gap.
func (w *writes) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gap, w.at = 0, time.Now()
}

func postProfile(ctx context.Context, socket, name string) int {
	return postProfileAs(ctx, socket, name, "")
}

func postProfileAs(ctx context.Context, socket, name, description string) int {
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}}}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://unix/1.0/profiles", strings.NewReader(`{"name":"`+name+`","description":"`+description+`"}`))
	if err != nil {
		return 0
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// check demands that every acknowledged write is there, seen from every member.
func (f *fleet) check(w *writes) {
	f.t.Helper()
	for i, h := range f.members {
		var urls []string
		h.eventually("profiles", func() bool {
			code, a := h.request("GET", "/1.0/profiles", nil)
			return code == http.StatusOK && json.Unmarshal(a.Metadata, &urls) == nil
		})
		have := map[string]bool{}
		for _, u := range urls {
			have[strings.TrimPrefix(u, "/1.0/profiles/")] = true
		}
		lost := 0
		for _, n := range w.acked {
			if !have[n] {
				lost++
			}
		}
		if lost > 0 {
			f.t.Errorf("%d of %d acknowledged writes are not on %s", lost, len(w.acked), f.name(i))
		}
	}
	if w.slowest > 30*time.Second {
		f.t.Errorf("a write took %s to be answered", w.slowest)
	}
}

// dropProfiles takes the writes away again, for the check for left-overs.
func (f *fleet) dropProfiles(w *writes) {
	f.t.Helper()
	h := f.members[0]
	var urls []string
	h.get("/1.0/profiles", &urls)
	for _, u := range urls {
		if !strings.HasSuffix(u, "/default") {
			h.request("DELETE", u, nil)
		}
	}
}

// TestClusterSurvivesKills kills leader and follower under writes through all members.
func TestClusterSurvivesKills(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	f.form()
	w, stop := f.write()
	w.acks(f.members[0], 20)
	for _, leads := range []bool{true, false} {
		victim := f.leader()
		if !leads {
			victim = (victim + 1) % 3
		}
		w.restart()
		f.members[victim].stop(syscall.SIGKILL)
		w.acks(f.members[0], 10)
		t.Logf("killed %s (leader: %v): at most %s without a write", f.name(victim), leads, w.gap.Round(time.Millisecond))
		f.members[victim].start()
		w.acks(f.members[0], 10)
	}
	stop()
	f.check(w)
	f.dropProfiles(w)
}

// TestClusterOnSlowDisks kills the leader where each member's disk takes long for a write
// that must be on it: an election at the usual pace would be given up before it is decided.
func TestClusterOnSlowDisks(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{150 * time.Millisecond, 400 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			f := newFleet(t, 3)
			f.form()
			w, stop := f.write()
			w.acks(f.members[0], 20)
			for _, h := range f.members {
				h.slowDisk(delay)
			}
			victim := f.leader()
			w.restart()
			f.members[victim].stop(syscall.SIGKILL)
			w.acks(f.members[(victim+1)%3], 10)
			t.Logf("at most %s without a write", w.gap.Round(time.Millisecond))
			f.members[victim].start()
			w.acks(f.members[0], 10)
			stop()
			f.check(w)
			f.dropProfiles(w)
		})
	}
}

// slowDisk has the running daemon wait in each call that has something written to the disk.
func (h *host) slowDisk(delay time.Duration) {
	h.t.Helper()
	cmd := exec.Command("strace", "--quiet=all", "--output=/dev/null", "--follow-forks",
		"--trace=fsync,fdatasync", fmt.Sprintf("--inject=fsync,fdatasync:delay_enter=%d", delay.Microseconds()),
		"--attach="+strconv.Itoa(h.pid()))
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { // before the daemon is stopped
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	h.eventually("strace to hold the daemon", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid()))
		return err == nil && !strings.Contains(string(b), "TracerPid:\t0\n")
	})
}

// TestClusterSurvivesACutCable takes the leader's cable: its peers get neither an
// answer nor a reset from it.
func TestClusterSurvivesACutCable(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	f.form()
	f.setUpCluster()
	victim := f.leader()
	other := f.members[(victim+1)%3]
	n := other.name("far")
	other.lxc("launch", "tiny", n, "--target", f.name(victim))

	w, stop := f.write()
	w.acks(other, 20)
	w.restart()
	f.unplug(victim)
	w.acks(other, 10)
	t.Logf("cable of the leader cut: at most %s without a write", w.gap.Round(time.Millisecond))
	start := time.Now()
	out := other.lxc("list", "--columns", "nsL", "--format", "csv")
	t.Logf("a list took %s", time.Since(start).Round(time.Millisecond))
	if !strings.Contains(out, n+",") || !strings.Contains(out, f.name(victim)) {
		t.Errorf("an instance of the lost member is not named: %q", out)
	}
	if r := other.try("exec", n, "--", "true"); r.code == 0 || !strings.Contains(r.stderr, f.name(victim)) {
		t.Errorf("exec on the lost member: %d %q", r.code, r.stderr)
	}
	// The guest does not notice.
	if r := f.members[victim].run("kill", "-0", fmt.Sprint(f.members[victim].pid())); r.code != 0 {
		t.Error("the member that lost its cable has ended")
	}
	f.replug(victim)
	other.eventually("the member to be back", func() bool {
		return strings.Count(other.try("cluster", "list", "--format", "csv").stdout, "ONLINE") == 3
	})
	other.eventually("its instance to be back", func() bool { return other.try("exec", n, "--", "true").code == 0 })
	stop()
	f.check(w)
	f.dropProfiles(w)
}

// TestClusterPartition cuts one member off by a firewall: the minority refuses writes
// within bounds, the majority goes on, and both agree afterwards.
func TestClusterPartition(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	f.form()
	victim := f.leader()
	f.nft(victim, `table inet cut {
	chain in { type filter hook input priority 0; iifname "eth0" drop
	}
	chain out { type filter hook output priority 0; oifname "eth0" drop
	}
}
`)
	other := f.members[(victim+1)%3]
	other.eventually("the majority to write", func() bool {
		return postProfile(context.Background(), other.socket(), "majority") == http.StatusCreated
	})
	if code := postProfile(context.Background(), f.members[victim].socket(), "minority"); code == http.StatusCreated {
		t.Error("a member without a majority acknowledged a write")
	}
	f.nft(victim, "delete table inet cut\n")
	f.members[victim].eventually("the lost member to see the write", func() bool {
		code, _ := f.members[victim].request("GET", "/1.0/profiles/majority", nil)
		return code == http.StatusOK
	})
	other.lxc("profile", "delete", "majority")
	other.try("profile", "delete", "minority")
}

// TestClusterRestartOfAll ends all members at once, by a kill, and starts them again.
func TestClusterRestartOfAll(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	f.form()
	f.setUpCluster()
	n := f.members[0].name("stays")
	f.members[0].lxc("launch", "tiny", n, "--target", f.name(1))
	pid := f.members[1].initPID(n)
	var wg sync.WaitGroup
	for _, h := range f.members {
		wg.Go(func() { h.stop(syscall.SIGKILL) })
	}
	wg.Wait()
	for _, h := range f.members {
		wg.Go(h.start)
	}
	wg.Wait()
	for _, h := range f.members {
		h.eventually("the container from all members", func() bool { return h.try("exec", n, "--", "true").code == 0 })
	}
	if got := f.members[1].initPID(n); got != pid {
		t.Errorf("the container's init was %d and is %d", pid, got)
	}
}

// clustered asks a daemon whether it is a member.
func (h *host) clustered() bool {
	h.t.Helper()
	var s struct {
		Environment struct {
			Clustered bool `json:"server_clustered"`
		} `json:"environment"`
	}
	h.get("/1.0", &s)
	return s.Environment.Clustered
}

// TestClusterJoinIsKilled kills a server again and again while it joins, each time a
// little later: after that it is a server that stands alone, with what it had, or a
// member like any other, and the cluster lets it in.
func TestClusterJoinIsKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	first, h := f.members[0], f.members[1]
	first.lxc("config", "set", "core.https_address", f.address(0)+":8443")
	first.lxc("cluster", "enable", f.name(0))
	first.lxc("storage", "create", "default", "dir")
	first.lxc("network", "create", first.bridge())
	alone, joined := 0, 0
	var said result
	for wait := time.Duration(0); joined < 2; wait += 10*time.Millisecond + wait/5 {
		if wait > 10*time.Second {
			t.Fatalf("the server never gets in: %q", said.stderr)
		}
		h.lxc("profile", "create", "mine")
		fields := strings.Fields(first.lxc("cluster", "add", f.name(1), "--quiet"))
		done := make(chan struct{})
		go func() {
			defer close(done)
			preseed := fmt.Sprintf("cluster:\n  enabled: true\n  server_address: %s:8443\n  cluster_token: %s\n", f.address(1), fields[len(fields)-1])
			said = h.runIn(strings.NewReader(preseed), h.bin.lxd(), "init", "--preseed")
		}()
		<-time.After(wait)
		h.stop(syscall.SIGKILL)
		<-done
		t.Logf("killed after %s: %.200q", wait, said.stderr)
		h.start()
		if !h.clustered() {
			alone++
			h.lxc("profile", "show", "mine") // nothing is lost
			h.lxc("profile", "delete", "mine")
			continue
		}
		joined++
		h.eventually("both members to be there", func() bool {
			return strings.Count(h.try("cluster", "list", "--format", "csv").stdout, "ONLINE") == 2
		})
		if out := h.lxc("storage", "list", "--format", "csv"); !strings.Contains(out, "default,") {
			t.Errorf("a member without the pool: %s", out)
		}
		first.lxc("cluster", "remove", f.name(1))
		h.eventually("the removed member to be alone", func() bool { return !h.clustered() })
	}
	t.Logf("of %d kills %d left the server alone, %d a member", alone+joined, alone, joined)
	if alone == 0 {
		t.Error("no kill was in time")
	}
	f.join(1)
	h.lxc("profile", "create", "last")
	first.lxc("profile", "delete", "last")
}

// TestClusterManyJoinAtOnce lets three servers in at the same time.
func TestClusterManyJoinAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4)
	first := f.members[0]
	first.lxc("config", "set", "core.https_address", f.address(0)+":8443")
	first.lxc("cluster", "enable", f.name(0))
	var wg sync.WaitGroup
	for i := range f.members[1:] {
		wg.Go(func() { f.join(i + 1) })
	}
	wg.Wait()
	for _, h := range f.members {
		h.eventually("all members to be there", func() bool {
			return strings.Count(h.try("cluster", "list", "--format", "csv").stdout, "ONLINE") == 4
		})
	}
	f.members[3].lxc("profile", "create", "p")
	f.members[1].lxc("profile", "delete", "p")
}

// TestClusterWithoutAMajority asks the member that is left of three: each request is
// answered within bounds, and says what is wrong.
func TestClusterWithoutAMajority(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3)
	f.form()
	f.setUpCluster()
	left := f.members[f.leader()]
	n := left.name("c1")
	left.lxc("launch", "tiny", n, "--target", f.name(f.leader()))
	var others []*host
	for _, h := range f.members {
		if h != left {
			h.stop(syscall.SIGKILL)
			others = append(others, h)
		}
	}
	for _, args := range [][]string{
		{"config", "set", n, "user.x=1"}, {"list"}, {"info"}, {"launch", "tiny", left.name("c2")}, {"exec", n, "--", "true"}, {"profile", "create", "late"},
		{"cluster", "list"}, {"cluster", "remove", "--force", "--yes", f.name(1)}, {"config", "set", "core.trust_password=x"},
	} {
		var r result
		took := timed(func() { r = left.try(args...) })
		t.Logf("lxc %s: %s, %d %.150q", strings.Join(args, " "), took.Round(100*time.Millisecond), r.code, r.stderr)
		if took > 30*time.Second {
			t.Errorf("lxc %s took %s", strings.Join(args, " "), took)
		}
		if r.code != 0 && !strings.Contains(r.stderr, "database") && !strings.Contains(r.stderr, "cluster") {
			t.Errorf("lxc %s does not say what is wrong: %q", strings.Join(args, " "), r.stderr)
		}
	}
	for _, h := range others {
		h.begin()
	}
	left.eventually("the cluster to be back", func() bool { return left.try("exec", n, "--", "true").code == 0 })
	left.eventually("all members to be back", func() bool {
		return strings.Count(left.try("cluster", "list", "--format", "csv").stdout, "ONLINE") == 3
	})
	left.eventually("what was half done to be gone", func() bool {
		left.try("profile", "delete", "late")
		return left.try("profile", "show", "late").code != 0
	})
}

// timed tells how long something takes.
func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// TestClusterRemovedMember: what was removed is a lone server again, and cannot write
// to its old cluster any more.
func TestClusterRemovedMember(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 4)
	f.form()
	f.members[0].lxc("cluster", "remove", f.name(3))
	gone := f.members[3]
	if out := f.members[0].lxc("cluster", "list", "--format", "csv"); strings.Contains(out, f.name(3)) {
		t.Errorf("the removed member is listed:\n%s", out)
	}
	gone.eventually("the removed member to be alone", func() bool { return !gone.clustered() })
	gone.lxc("profile", "create", "own")
	if r := f.members[0].try("profile", "show", "own"); r.code == 0 {
		t.Error("a removed member wrote to the cluster")
	}
	gone.lxc("profile", "delete", "own")

	// Dead and removed by force: when it comes back it is refused, and says so.
	dead := f.members[2]
	dead.stop(syscall.SIGKILL)
	dead.over = true
	f.members[0].lxc("cluster", "remove", f.name(2), "--force", "--yes")
	f.members[0].lxc("profile", "create", "after")
	f.members[0].lxc("profile", "delete", "after")
	dead.begin()
	dead.eventually("the removed member to say what it is", func() bool {
		return strings.Contains(dead.run(dead.bin.lxd(), "waitready", "--timeout", "3").stderr, "removed")
	})
	if r := dead.try("profile", "create", "late"); r.code == 0 || !strings.Contains(r.stderr, "removed") {
		t.Errorf("a removed member answers %d %q", r.code, r.stderr)
	}
	if r := f.members[0].try("profile", "show", "late"); r.code == 0 {
		t.Error("a member that was removed by force wrote to the cluster")
	}
}
