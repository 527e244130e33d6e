//go:build system

package system

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

			// It is not started while there is no room, and says why.
			full.stop(syscall.SIGKILL)
			full.begin()
			<-full.exited
			if log := full.logTail(); !strings.Contains(log, "is full (") {
				t.Errorf("a start without room: %s", log)
			}
			w.acks(other, 20)

			full.drain()
			full.start()
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
