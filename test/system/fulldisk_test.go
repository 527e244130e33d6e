//go:build system

package system

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// addSmall adds member i, whose folder is a file system of so many MiB.
func (f *fleet) addSmall(i, mib int) *host {
	f.t.Helper()
	h := prepareHost(f.t)
	if err := unix.Mount("small", h.lxdDir(), "tmpfs", 0, "mode=711,size="+strconv.Itoa(mib)+"m"); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = unix.Unmount(h.lxdDir(), unix.MNT_DETACH) })
	h.box = f.hold() // has the mount, because it began after it
	f.netbox("plug", strconv.Itoa(f.sw), strconv.Itoa(h.box), f.address(i)+"/24")
	h.start()
	f.members = append(f.members, h)
	return h
}

// fill leaves no room where a host has its folder; drain makes it free again.
func (h *host) fill() {
	h.t.Helper()
	f, err := os.OpenFile(filepath.Join(h.lxdDir(), "ballast"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

func (h *host) drain() {
	h.t.Helper()
	if err := os.Remove(filepath.Join(h.lxdDir(), "ballast")); err != nil {
		h.t.Fatal(err)
	}
}

// pour writes so many MiB to the cluster's database through a member.
func (h *host) pour(name string, mib int) {
	h.t.Helper()
	text := strings.Repeat("x", 256<<10)
	for i := range 4 * mib {
		code, a := h.request("POST", "/1.0/profiles", map[string]any{"name": name + strconv.Itoa(i), "description": text})
		if code != http.StatusCreated {
			h.t.Fatalf("write %d: %d %s", i, code, a.Error)
		}
	}
}

// TestClusterFullDisk fills the disk of one of three members. The cluster goes on writing
// through all of them, a leader gives way, the full member says what is wrong, and has
// lost nothing when it has room again.
func TestClusterFullDisk(t *testing.T) {
	for name, small := range map[string]int{"leader": 0, "follower": 1} {
		t.Run(name, func(t *testing.T) {
			f := &fleet{t: t}
			f.sw = f.hold()
			f.netbox("switch", strconv.Itoa(f.sw))
			for i := range 3 {
				if i == small {
					f.addSmall(i, 192)
				} else {
					f.add(i)
				}
			}
			t.Cleanup(f.end)
			f.form()
			full, other := f.members[small], f.members[2]
			if l := f.leader(); l != 0 {
				t.Fatalf("%s leads", f.name(l))
			}
			says := func() bool {
				return strings.Contains(other.lxc("cluster", "show", f.name(small)), "nearly full")
			}
			w, stop := f.write()
			defer stop()
			w.acks(other, 20)
			w.restart()
			full.fill()
			other.eventually("the cluster to say which member is full", says)
			if l := f.leader(); l == small {
				t.Errorf("%s leads without room for the log", f.name(l))
			}
			// More than libraft has room for beforehand, so that the full member can write no
			// more of it. The others can, and it does not hold them up.
			other.pour("big", 28)
			w.acks(other, 100)
			t.Logf("disk full: at most %s without a write", w.gap.Round(time.Millisecond))
			if log, err := os.ReadFile(full.logFile()); err != nil || !strings.Contains(string(log), "The file system that holds this member's database is nearly full") {
				t.Errorf("the full member does not say so: %v", err)
			}
			// It answers, and passes writes on.
			full.lxc("profile", "create", "through")
			if l := f.leader(); l == small {
				t.Errorf("%s leads again", f.name(l))
			}

			// It starts without room too.
			full.stop(syscall.SIGKILL)
			full.fill()
			full.start()
			full.lxc("profile", "create", "through2")
			w.acks(other, 20)

			full.drain()
			other.eventually("the member to have room", func() bool { return !says() })
			stop()
			// With one of the others dead nothing is written without it.
			other.stop(syscall.SIGKILL)
			full.eventually("a write with the member's vote", func() bool {
				return postProfile(t.Context(), full.socket(), "vote") == http.StatusCreated
			})
			first := f.members[3-2-small]
			first.stop(syscall.SIGKILL)
			other.start()
			other.eventually("a write without the third", func() bool {
				return postProfile(t.Context(), other.socket(), "last") == http.StatusCreated
			})
			first.start()
			f.check(w)
			f.dropProfiles(w)
		})
	}
}

// TestClusterFullDiskPasses gives a full member its room back while it runs.
func TestClusterFullDiskPasses(t *testing.T) {
	f := &fleet{t: t}
	f.sw = f.hold()
	f.netbox("switch", strconv.Itoa(f.sw))
	f.addSmall(0, 192)
	f.add(1)
	f.add(2)
	t.Cleanup(f.end)
	f.form()
	full, other := f.members[0], f.members[2]
	full.fill()
	other.eventually("another leader", func() bool { return f.leader() != 0 })
	w, stop := f.write()
	defer stop()
	w.acks(other, 50)
	other.pour("big", 28)
	full.drain()
	other.eventually("the member to have room", func() bool {
		return !strings.Contains(other.lxc("cluster", "show", f.name(0)), "nearly full")
	})
	w.acks(full, 50)
	stop()
	dead := f.members[f.leader()]
	dead.stop(syscall.SIGKILL)
	full.eventually("a write with the member's vote", func() bool {
		return postProfile(t.Context(), full.socket(), "vote") == http.StatusCreated
	})
	dead.start()
	f.check(w)
	f.dropProfiles(w)
}

// saysFull is a part of what a write is answered while no majority has room.
const saysFull = "because its file system is full on "

// fillAll leaves no room on any member, at the same moment.
func (f *fleet) fillAll() {
	var wg sync.WaitGroup
	for _, h := range f.members {
		wg.Go(h.fill)
	}
	wg.Wait()
}

// writeLarge makes large profiles through all members, which use up within seconds what
// raft has for its log, until they are refused.
func (f *fleet) writeLarge() (acked *[]string, refused func()) {
	acked = new([]string)
	text := strings.Repeat("x", 256<<10)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, h := range f.members {
		wg.Go(func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("large%d-%d", i, n)
				code := postProfileAs(f.t.Context(), h.socket(), name, text)
				if code != http.StatusCreated {
					return
				}
				mu.Lock()
				*acked = append(*acked, name)
				mu.Unlock()
			}
		})
	}
	return acked, wg.Wait
}

// refused waits until writes through a member are refused for want of room, in words
// that name a member, and takes some more to see that they come at once.
func (f *fleet) refused(h *host) {
	f.t.Helper()
	refused := func() bool {
		code, a := h.request("POST", "/1.0/profiles", map[string]any{"name": "refused"})
		return code == http.StatusServiceUnavailable && strings.Contains(a.Error, saysFull) && strings.Contains(a.Error, f.name(0)+" (")
	}
	h.eventually("a write to be refused", refused)
	start := time.Now()
	for range 20 {
		if !refused() {
			f.t.Fatal("a write was answered otherwise")
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		f.t.Errorf("20 writes were refused within %s only", took)
	}
}

// reads reads all profiles through all members that live.
func (f *fleet) reads() {
	f.t.Helper()
	for i, h := range f.members {
		if !h.alive() {
			f.t.Fatalf("%s has ended: %s", f.name(i), h.logTail())
		}
		start := time.Now()
		var urls []string
		h.get("/1.0/profiles", &urls)
		if took := time.Since(start); took > 3*time.Second || len(urls) < 20 {
			f.t.Errorf("%s took %s to list %d profiles", f.name(i), took, len(urls))
		}
	}
}

// writesAgain waits until a member writes, and says how long that took since a moment.
func (f *fleet) writesAgain(h *host, since time.Time) {
	f.t.Helper()
	h.eventually("a write", func() bool {
		return postProfile(f.t.Context(), h.socket(), "again"+strconv.FormatInt(time.Now().UnixNano(), 36)) == http.StatusCreated
	})
	took := time.Since(since)
	f.t.Logf("room made: the first write after %s", took.Round(time.Millisecond))
	if took > 10*time.Second {
		f.t.Errorf("the first write came %s after there was room", took)
	}
}

// pids are the daemons' processes.
func (f *fleet) pids() []int {
	var out []int
	for _, h := range f.members {
		out = append(out, h.pid())
	}
	return out
}

// TestClusterFullDisks fills the disks of all members at once, under writes. What is
// written then is refused, what is there can be read, also by members that are killed
// and started while there is no room, and writes come back when a majority has room.
func TestClusterFullDisks(t *testing.T) {
	f := &fleet{t: t}
	f.sw = f.hold()
	f.netbox("switch", strconv.Itoa(f.sw))
	for i := range 3 {
		f.addSmall(i, 192)
	}
	t.Cleanup(f.end)
	f.form()
	w, stop := f.write()
	defer stop()
	w.acks(f.members[0], 50)
	large, refused := f.writeLarge()
	f.fillAll()
	refused()
	for _, h := range f.members {
		f.refused(h)
	}
	f.reads()

	// The leader dies, and another one is stopped; both come back without room.
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		h := f.members[f.leader()]
		h.stop(sig)
		h.fill()
		h.start()
		f.reads()
		f.refused(h)
	}
	// All die, as when the power is lost.
	for _, h := range f.members {
		h.stop(syscall.SIGKILL)
	}
	f.fillAll()
	for _, h := range f.members {
		h.begin()
	}
	for _, h := range f.members {
		if r := h.run(h.bin.lxd(), "waitready", "--timeout", "30"); r.code != 0 {
			t.Fatalf("a daemon did not become ready: %s\n%s", r.stderr, h.logTail())
		}
	}
	f.reads()
	for _, h := range f.members {
		f.refused(h)
	}

	before := f.pids()
	start := time.Now()
	f.members[0].drain()
	f.members[1].drain()
	for _, h := range f.members {
		f.writesAgain(h, start)
	}
	w.acks(f.members[2], 50)
	if l := f.leader(); l == 2 {
		t.Error("the member without room leads")
	}
	f.members[2].drain()
	f.members[0].eventually("the last member to have room", func() bool {
		return !strings.Contains(f.members[0].lxc("cluster", "list"), "nearly full")
	})
	w.acks(f.members[0], 50)
	if after := f.pids(); !slices.Equal(before, after) {
		t.Errorf("processes %v became %v", before, after)
	}
	stop()
	// With one of the others dead nothing is written without the last one.
	dead := f.members[1]
	dead.stop(syscall.SIGKILL)
	f.members[2].eventually("a write with the last member's vote", func() bool {
		return postProfile(t.Context(), f.members[2].socket(), "vote") == http.StatusCreated
	})
	dead.start()
	w.acked = append(w.acked, *large...)
	f.check(w)
	f.dropProfiles(w)
}

// TestClusterFullDiskOfTwo fills the disk of the only voter of two members.
func TestClusterFullDiskOfTwo(t *testing.T) {
	f := &fleet{t: t}
	f.sw = f.hold()
	f.netbox("switch", strconv.Itoa(f.sw))
	f.addSmall(0, 192)
	f.add(1)
	t.Cleanup(f.end)
	f.form()
	f.setUpCluster()
	voter := f.members[0]
	guest := voter.name("runs")
	voter.lxc("launch", "tiny", guest, "--target", f.name(0))
	hostname := func() {
		t.Helper()
		for _, h := range f.members {
			if out := h.lxc("exec", guest, "--", "hostname"); out != guest+"\n" {
				t.Errorf("hostname says %q", out)
			}
		}
	}
	w, stop := f.write()
	defer stop()
	w.acks(f.members[0], 50)
	voter.fill()
	for _, h := range f.members {
		f.refused(h)
	}
	f.reads()
	hostname()
	voter.stop(syscall.SIGKILL)
	voter.fill()
	voter.start()
	f.reads()
	hostname()
	for _, h := range f.members {
		f.refused(h)
	}
	start := time.Now()
	voter.drain()
	for _, h := range f.members {
		f.writesAgain(h, start)
	}
	w.acks(f.members[1], 50)
	stop()
	f.check(w)
	f.dropProfiles(w)
}

// TestClusterFullDiskOfFour fills the disk of a voter whose part another member can have:
// then the cluster goes on also when another voter dies.
func TestClusterFullDiskOfFour(t *testing.T) {
	f := &fleet{t: t}
	f.sw = f.hold()
	f.netbox("switch", strconv.Itoa(f.sw))
	for i := range 4 {
		if i == 1 {
			f.addSmall(i, 192)
		} else {
			f.add(i)
		}
	}
	t.Cleanup(f.end)
	f.form()
	full, other := f.members[1], f.members[3]
	w, stop := f.write()
	defer stop()
	w.acks(other, 20)
	votes := func(i int) bool {
		for line := range strings.SplitSeq(other.lxc("cluster", "list", "--format", "csv"), "\n") {
			if strings.HasPrefix(line, f.name(i)+",") {
				return strings.Contains(line, "database") && !strings.Contains(line, "database-standby")
			}
		}
		return false
	}
	other.eventually("the parts of four members", func() bool { return votes(0) && votes(1) && votes(2) && !votes(3) })
	full.fill()
	other.eventually("another voter", func() bool { return votes(3) && !votes(1) })
	f.members[2].stop(syscall.SIGKILL)
	for _, h := range []*host{f.members[0], full, other} {
		h.eventually("a write", func() bool {
			return postProfile(t.Context(), h.socket(), "without"+strconv.FormatInt(time.Now().UnixNano(), 36)) == http.StatusCreated
		})
	}
	w.acks(other, 50)
	f.members[2].start()
	full.drain()
	other.eventually("the member to have room", func() bool {
		return !strings.Contains(other.lxc("cluster", "list"), "nearly full")
	})
	stop()
	f.check(w)
	f.dropProfiles(w)
}
