//go:build system

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// otherPool makes a second pool of the other driver, called "other".
func (h *host) otherPool(driver string) {
	h.t.Helper()
	if driver == "dir" {
		h.lxc("storage", "create", "other", "btrfs", "size=1GiB")
	} else {
		h.lxc("storage", "create", "other", "dir")
	}
}

// pool is where the root volume of an instance lies on disk, by the link to it.
func (h *host) pool(c string) string {
	h.t.Helper()
	to, err := os.Readlink(filepath.Join(h.lxdDir(), "containers", c))
	if err != nil {
		h.t.Fatal(err)
	}
	return filepath.Base(filepath.Dir(filepath.Dir(to)))
}

// snapshotsOf are the names of the snapshots of an instance, oldest first.
func (h *host) snapshotsOf(c string) string {
	h.t.Helper()
	var urls []string
	h.get("/1.0/instances/"+c+"/snapshots", &urls)
	for i, u := range urls {
		urls[i] = filepath.Base(u)
	}
	return strings.Join(urls, " ")
}

func (h *host) inside(c string, script string) string {
	h.t.Helper()
	return strings.TrimSpace(h.lxc("exec", c, "--", "sh", "-c", script))
}

func TestCopiesRefreshesAndMoves(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			clients(t, func(t *testing.T, client string) {
				h := newHost(t)
				h.client = client
				h.setUp(driver)
				h.otherPool(driver)
				a, b, c, d := h.name("a1"), h.name("b1"), h.name("c1"), h.name("d1")
				h.launch(a, "-c", "user.colour=blue")
				h.inside(a, "echo one > /root/f; ln /root/f /root/g; mkfifo /root/p; touch /root/x; chown 12:34 /root/x; chmod 4711 /root/x; sync")
				h.lxc("snapshot", a, "s1")
				h.inside(a, "echo two > /root/f; sync")
				holds := func(c, text string) {
					t.Helper()
					if got := h.inside(c, "cat /root/f; cat /root/g; stat -c '%u:%g %a' /root/x; test -p /root/p && hostname"); got != text+"\n"+text+"\n12:34 4711\n"+c {
						t.Errorf("%s holds %q, want %q", c, got, text)
					}
				}
				// One that runs, and goes on.
				before := h.initPID(a)
				h.lxc("copy", a, b, "-c", "user.colour=red")
				if h.initPID(a) != before || h.state(a) != "RUNNING" || h.state(b) != "STOPPED" {
					t.Errorf("the source is %s, the copy %s", h.state(a), h.state(b))
				}
				h.lxc("start", b)
				h.waitBooted(b)
				holds(b, "two")
				if got := strings.TrimSpace(h.lxc("config", "get", b, "user.colour")); got != "red" {
					t.Errorf("the colour is %q", got)
				}
				mac := func(c string) string {
					return strings.TrimSpace(h.lxc("config", "get", c, "volatile.eth0.hwaddr"))
				}
				own := mac(b)
				if own == "" || own == mac(a) {
					t.Errorf("the MAC address is %q, that of the source %q", own, mac(a))
				}
				// A snapshot, into the other pool.
				h.lxc("copy", a+"/s1", c, "--storage", "other")
				if h.pool(c) != "other" || h.snapshotsOf(c) != "" {
					t.Errorf("it is in %s with snapshots %s", h.pool(c), h.snapshotsOf(c))
				}
				h.lxc("start", c)
				h.waitBooted(c)
				holds(c, "one")
				h.lxc("delete", "--force", c)
				// With its snapshots, there and back.
				h.lxc("copy", a, c, "--storage", "other")
				h.lxc("copy", c, d, "--storage", "default")
				h.lxc("delete", c)
				if h.snapshotsOf(d) != "s1" {
					t.Errorf("snapshots %q", h.snapshotsOf(d))
				}
				h.lxc("restore", d, "s1")
				h.lxc("start", d)
				h.waitBooted(d)
				holds(d, "one")
				h.lxc("delete", "--force", d)
				// A refresh, from one that runs, in either pool.
				h.lxc("copy", a, d, "--storage", "other", "--instance-only")
				h.lxc("stop", "--force", b)
				h.inside(a, "echo three > /root/f; rm -r /root/p; mkfifo /root/p; sync")
				h.lxc("delete", a+"/s1")
				h.lxc("snapshot", a, "s2")
				for _, c := range []string{b, d} {
					h.lxc("copy", a, c, "--refresh")
					if h.snapshotsOf(c) != "s2" {
						t.Errorf("snapshots %q", h.snapshotsOf(c))
					}
				}
				if mac(b) != own || h.pool(b) != "default" || h.pool(d) != "other" {
					t.Errorf("the MAC address was %q and is %q; the pools are %s, %s", own, mac(b), h.pool(b), h.pool(d))
				}
				// One that is not there yet is made; the origin runs beside it.
				e := h.name("fresh")
				h.lxc("copy", a, e, "--refresh")
				h.lxc("start", e)
				if h.snapshotsOf(e) != "s2" || mac(e) == own || mac(e) == mac(a) {
					t.Errorf("snapshots %q, MAC addresses %q and %q", h.snapshotsOf(e), mac(a), mac(e))
				}
				h.lxc("delete", "--force", e)
				if r := h.try("copy", b, a, "--refresh"); r.code == 0 || !strings.Contains(r.stderr, "running") {
					t.Errorf("refresh of one that runs: exit %d, %q", r.code, r.stderr)
				}
				if r := h.try("move", a, "--storage", "other"); r.code == 0 || !strings.Contains(r.stderr, "running") {
					t.Errorf("move of one that runs: exit %d, %q", r.code, r.stderr)
				}
				h.lxc("delete", "--force", a)
				for _, c := range []string{b, d} {
					h.lxc("start", c)
					h.waitBooted(c)
					holds(c, "three")
					h.lxc("stop", "--force", c)
				}
				// Moves.
				h.lxc("move", b, "--storage", "other")
				if h.pool(b) != "other" || mac(b) != own || h.snapshotsOf(b) != "s2" {
					t.Errorf("it is in %s with %q and %q", h.pool(b), mac(b), h.snapshotsOf(b))
				}
				h.lxc("move", b, a, "--storage", "default")
				h.lxc("restore", a, "s2")
				h.lxc("start", a)
				h.waitBooted(a)
				holds(a, "three")
				if mac(a) != own {
					t.Errorf("the MAC address is %q, it was %q", mac(a), own)
				}
				if r := h.try("copy", a, d); r.code == 0 || !strings.Contains(r.stderr, "already exists") {
					t.Errorf("onto another: exit %d, %q", r.code, r.stderr)
				}
				h.lxc("delete", "--force", a, d)
			})
		})
	}
}

// TestKilledCopies kills the daemon at several moments of a copy, a refresh and a move.
// Each leaves the source as it was and either a whole copy or none, and can be done again.
func TestKilledCopies(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			h.otherPool(driver)
			a, b := h.name("a1"), h.name("b1")
			h.launch(a)
			h.inside(a, "dd if=/dev/urandom of=/root/big bs=1M count=64 2>/dev/null; for i in $(seq 300); do mkdir /root/d$i; echo $i > /root/d$i/f; done; sync")
			h.lxc("snapshot", a, "s1")
			h.lxc("stop", "--force", a)
			sum := func(c string) string {
				h.lxc("start", c)
				h.waitBooted(c)
				got := h.inside(c, "cat /root/big /root/d*/f | md5sum")
				h.lxc("stop", "--force", c)
				return got
			}
			want := sum(a)
			for i, after := range []time.Duration{5, 20, 60, 120, 250} {
				what := fmt.Sprint(driver, " after ", after, " ms")
				after *= time.Millisecond
				storage := []string{"default", "other"}[i%2]
				h.killWhile(after, "copy", a, b, "--storage", storage)
				if st := h.state(b); st != "" {
					if st != "STOPPED" || sum(b) != want || h.snapshotsOf(b) != "s1" {
						t.Errorf("%s: the copy is %s", what, st)
					}
					h.lxc("delete", b)
				}
				h.lxc("copy", a, b, "--storage", storage)
				h.killWhile(after, "copy", a, b, "--refresh")
				if sum(b) != want || h.snapshotsOf(b) != "s1" {
					t.Errorf("%s: the refreshed copy has %q", what, h.snapshotsOf(b))
				}
				h.lxc("copy", a, b, "--refresh")
				h.lxc("delete", b)
				to := map[string]string{"default": "other", "other": "default"}[h.pool(a)]
				h.killWhile(after, "move", a, "--storage", to)
				if sum(a) != want || h.snapshotsOf(a) != "s1" {
					t.Errorf("%s: the moved instance has %q", what, h.snapshotsOf(a))
				}
				for _, p := range []string{"default", "other"} {
					if there := dirNames(filepath.Join(h.lxdDir(), "storage-pools", p, "containers")); (len(there) > 0) != (p == h.pool(a)) {
						t.Errorf("%s: pool %s holds %v, the instance is in %s", what, p, there, h.pool(a))
					}
				}
			}
			h.lxc("delete", a)
		})
	}
}

// TestCopyIntoAPoolThatIsFull: what does not fit leaves nothing, and takes nothing away.
func TestCopyIntoAPoolThatIsFull(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	h.lxc("storage", "create", "other", "btrfs", "size=256MiB")
	a, b, c := h.name("a1"), h.name("b1"), h.name("c1")
	h.launch(a)
	h.inside(a, "echo one > /root/f; sync")
	h.lxc("stop", "--force", a)
	h.lxc("copy", a, b, "--storage", "other")
	h.lxc("start", a)
	h.waitBooted(a)
	h.inside(a, "echo two > /root/f; dd if=/dev/urandom of=/root/big bs=1M count=260 2>/dev/null; sync")
	h.lxc("snapshot", a, "s1")
	h.lxc("stop", "--force", a)
	for _, args := range [][]string{{"copy", a, c, "--storage", "other"}, {"copy", a, b, "--refresh"}, {"move", a, "--storage", "other"}} {
		if r := h.try(args...); r.code == 0 || !strings.Contains(r.stderr, "The storage pool is full") {
			t.Errorf("%v: exit %d, %q", args, r.code, r.stderr)
		}
	}
	if st := h.state(c); st != "" {
		t.Errorf("the copy is %s", st)
	}
	if h.pool(a) != "default" || h.snapshotsOf(a) != "s1" || h.snapshotsOf(b) != "" {
		t.Errorf("it is in %s with %q, the copy has %q", h.pool(a), h.snapshotsOf(a), h.snapshotsOf(b))
	}
	for _, dir := range []string{"containers", "containers-snapshots"} {
		if got := dirNames(filepath.Join(h.lxdDir(), "storage-pools", "other", dir)); strings.Join(got, " ") != map[string]string{"containers": b}[dir] {
			t.Errorf("the pool holds %v in %s", got, dir)
		}
	}
	for c, text := range map[string]string{a: "two", b: "one"} {
		h.eventually("start of "+c, func() bool { return h.try("start", c).code == 0 || h.state(c) == "RUNNING" })
		h.waitBooted(c)
		if got := h.inside(c, "cat /root/f"); got != text {
			t.Errorf("%s holds %q", c, got)
		}
	}
	h.lxc("delete", "--force", a, b)
}

// TestOriginGoesOnWhileItsFilesAreCopied: the copy takes seconds, and meanwhile the origin is
// changed, snapshotted, published, stopped and started as if there was none.
func TestOriginGoesOnWhileItsFilesAreCopied(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			clients(t, func(t *testing.T, client string) {
				h := newHost(t)
				h.client = client
				h.setUp(driver)
				a, b := h.name("a1"), h.name("b1")
				copying := []string{"copy", a, b}
				if driver == "btrfs" { // where no file is copied unless it goes elsewhere
					h.otherPool(driver)
					copying = append(copying, "--storage", "other")
				}
				h.launch(a)
				h.inside(a, "mkdir /root/many && cd /root/many && i=0 && while [ $i -lt 30000 ]; do echo $i > $i; i=$((i+1)); done; sync")
				h.lxc("snapshot", a, "s1")
				done := make(chan result, 1)
				go func() { done <- h.try(copying...) }()
				h.eventually("the copy has begun", func() bool {
					var is []string
					h.get("/1.0/instances", &is)
					return len(is) == 2
				})
				h.lxc("config", "set", a, "user.colour", "green")
				refused := func(args ...string) {
					t.Helper()
					if r := h.try(args...); r.code == 0 || !strings.Contains(r.stderr, "a copy of it is being made") {
						t.Fatalf("%v: exit %d, %q", args, r.code, r.stderr)
					}
				}
				refused("delete", a+"/s1")
				h.lxc("stop", "--force", a)
				refused("delete", a)
				h.lxc("start", a)
				select {
				case r := <-done:
					t.Fatalf("the copy is over already, so nothing has been shown: %+v", r)
				default:
				}
				h.lxc("publish", a, "--force", "--alias", "web", "--compression", "none")
				if s := h.state(a); s != "RUNNING" {
					t.Errorf("after publishing it is %s", s)
				}
				h.lxc("snapshot", a, "s2")
				if r := <-done; r.code != 0 {
					t.Fatalf("copy: exit %d, %q", r.code, r.stderr)
				}
				if got := h.snapshotsOf(b); got != "s1" {
					t.Errorf("the copy has the snapshots %q", got)
				}
				h.lxc("start", b)
				h.waitBooted(b)
				if got := h.inside(b, "cd /root/many; ls | wc -l; cat 29999"); got != "30000\n29999" {
					t.Errorf("the copy holds %q", got)
				}
				h.lxc("delete", a+"/s1")
				h.lxc("delete", "--force", a)
			})
		})
	}
}
