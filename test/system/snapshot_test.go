//go:build system

package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestSnapshotsOfAContainer(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			clients(t, func(t *testing.T, client string) {
				h := newHost(t)
				h.client = client
				h.setUp(driver)
				c := h.name("c1")
				h.launch(c)
				write := func(text string) {
					t.Helper()
					h.lxc("exec", c, "--", "sh", "-c", "echo "+text+" > /root/f; chown 12:34 /root/f; sync")
				}
				holds := func(text string) {
					t.Helper()
					if got := h.lxc("exec", c, "--", "cat", "/root/f"); strings.TrimSpace(got) != text {
						t.Errorf("the file holds %q, want %q", got, text)
					}
				}
				write("one")
				h.lxc("snapshot", c)
				write("two")
				h.lxc("config", "set", c, "user.a=2")
				h.lxc("snapshot", c, "second", "--no-expiry")
				if s := h.state(c); s != "RUNNING" {
					t.Errorf("after snapshots it is %s", s)
				}
				if got := strings.TrimSpace(h.lxc("list", c, "--format", "csv", "--columns", "nS")); got != c+",2" {
					t.Errorf("the list shows %q", got)
				}
				if got := h.lxc("info", c); !strings.Contains(got, "snap0") || !strings.Contains(got, "second") {
					t.Errorf("info shows\n%s", got)
				}
				before := h.initPID(c)
				h.lxc("restore", c, "snap0")
				h.waitBooted(c)
				holds("one")
				if h.initPID(c) == before {
					t.Error("the old init runs on")
				}
				if got := h.lxc("config", "get", c, "user.a"); strings.TrimSpace(got) != "" {
					t.Errorf("the configuration is not that of the snapshot: %q", got)
				}
				h.lxc("rename", c+"/snap0", c+"/first")
				if got := h.lxc("config", "show", c+"/first"); !strings.Contains(got, "name: first") || !strings.Contains(got, "expires_at: 0001-01-01T00:00:00Z") {
					t.Errorf("config show: %s", got)
				}
				h.lxcIn("expires_at: 2099-01-02T00:00:00Z\n", "config", "edit", c+"/first")
				if got := h.lxc("config", "show", c+"/first"); !strings.Contains(got, "expires_at: 2099-01-02T00:00:00Z") {
					t.Errorf("after the edit: %s", got)
				}
				if r := h.try("snapshot", c, "first"); r.code == 0 || !strings.Contains(r.stderr, "already") {
					t.Errorf("a name twice: exit %d, %q", r.code, r.stderr)
				}
				h.lxc("snapshot", c, "first", "--reuse")
				h.lxc("delete", c+"/first")
				h.lxc("stop", "--force", c)
				h.lxc("restore", c, "second")
				if s := h.state(c); s != "STOPPED" {
					t.Errorf("after a restore it is %s", s)
				}
				h.lxc("start", c)
				h.waitBooted(c)
				holds("two")
				if got := strings.TrimSpace(h.lxc("exec", c, "--", "stat", "-c", "%u:%g", "/root/f")); got != "12:34" {
					t.Errorf("the file belongs to %s", got)
				}
				d := h.name("d1")
				h.lxc("stop", "--force", c)
				h.lxc("rename", c, d)
				h.lxc("restore", d, "second")
				h.lxc("delete", d)
				h.noTraces(c)
				h.noTraces(d)
			})
		})
	}
}

// frozen reads whether the guest stands still.
func frozen(t *testing.T, pid int) func() bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	path, want := "", []byte("FROZEN")
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case f[1] == "freezer":
			path = filepath.Join("/sys/fs/cgroup/freezer", f[2], "freezer.state")
		case f[0] == "0" && path == "":
			path, want = filepath.Join("/sys/fs/cgroup", f[2], "cgroup.events"), []byte("frozen 1")
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	buf := make([]byte, 128)
	return func() bool {
		n, _ := syscall.Pread(int(f.Fd()), buf, 0)
		return n > 0 && bytes.Contains(buf[:n], want)
	}
}

// standstill is how often and how long a guest stood still.
type standstill struct {
	times        int
	longest, all time.Duration
}

// watchStandstill watches a guest until quit is closed.
func watchStandstill(still func() bool, quit <-chan struct{}) (s standstill) {
	var since time.Time
	for {
		switch now := still(); {
		case now && since.IsZero():
			since = time.Now()
			s.times++
		case !now && !since.IsZero():
			took := time.Since(since)
			s.longest, s.all, since = max(s.longest, took), s.all+took, time.Time{}
		}
		select {
		case <-quit:
			return s
		case <-time.After(200 * time.Microsecond):
		}
	}
}

func TestSnapshotOnBtrfsIsConsistentAndHoldsTheGuestForAMoment(t *testing.T) {
	h := newHost(t)
	h.setUp("btrfs")
	c := h.name("c1")
	h.launch(c)
	h.writeInStep(c)
	still := frozen(t, h.initPID(c))
	const n, allowed = 10, 50 * time.Millisecond
	series := func() (s standstill) {
		quit := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { s = watchStandstill(still, quit) })
		for range n {
			h.lxc("snapshot", c)
		}
		close(quit)
		wg.Wait()
		return s
	}
	// A machine that has other things to do gets more than one chance.
	var s standstill
	all := 0
	for range 4 {
		s = series()
		all += n
		t.Logf("stood still %d times, at most for %s", s.times, s.longest)
		if s.times > 0 && s.longest <= allowed {
			break
		}
	}
	if s.times == 0 || s.longest > allowed {
		t.Errorf("the guest stood still %d times, at most for %s", s.times, s.longest)
	}
	for i := range all {
		inStep(t, filepath.Join(h.lxdDir(), "snapshots", c, fmt.Sprintf("snap%d", i), "rootfs"))
	}
}

// writeInStep has a guest write first to one file, then to the other, for ever: the first
// is never behind, and no more than one line ahead.
func (h *host) writeInStep(c string) {
	h.t.Helper()
	h.lxc("exec", c, "--", "sh", "-c", "cd /root; (i=0; while :; do i=$((i+1)); echo $i >> a; echo $i >> b; done) > /dev/null 2>&1 &")
}

// inStep checks the root file system of a guest that was copied while it wrote in step.
func inStep(t *testing.T, rootfs string) {
	t.Helper()
	last := func(name string) int {
		b, err := os.ReadFile(filepath.Join(rootfs, "root", name))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Fields(string(b))
		if len(lines) == 0 {
			return 0
		}
		i, err := strconv.Atoi(lines[len(lines)-1])
		if err != nil {
			t.Fatal(err)
		}
		if i != len(lines) {
			t.Errorf("%s has %d lines and ends with %d", name, len(lines), i)
		}
		return i
	}
	if a, b := last("a"), last("b"); a < b || a > b+1 {
		t.Errorf("%s: %d and %d", rootfs, a, b)
	}
}

func TestDaemonKilledWhileItTakesASnapshot(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			c := h.name("c1")
			h.launch(c)
			for n := range 4 {
				h.killWhile(time.Duration(n)*15*time.Millisecond, "snapshot", c, fmt.Sprintf("s%d", n))
				still := frozen(t, h.initPID(c))
				if still() || h.state(c) != "RUNNING" {
					t.Errorf("after a kill it is %s, still: %v", h.state(c), still())
				}
				list, _ := os.ReadDir(filepath.Join(h.lxdDir(), "snapshots", c))
				shown := strings.TrimSpace(h.lxc("list", c, "--format", "csv", "--columns", "S"))
				if shown != strconv.Itoa(len(list)) {
					t.Errorf("shown %s, on disk %v", shown, list)
				}
				h.lxc("snapshot", c, fmt.Sprintf("s%d", n), "--reuse")
			}
			h.lxc("restore", c, "s0")
			h.waitBooted(c)
			h.lxc("delete", "--force", c)
			h.noTraces(c)
		})
	}
}
