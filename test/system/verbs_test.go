//go:build system

package system

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/shared/api"
)

// verb is something that a person does, which can go wrong on the way. c runs and has the
// snapshot s1; d is there only if the verb wants it.
type verb struct {
	name string
	args []string
	with bool        // d is to be there
	done func() bool // it is
	undo func()      // takes back what it did; nil: nothing need be
}

// verbs are those that change pools. The small image, a container c that has some
// content, and a backup of it are there.
func (h *host) verbs(c, d string) []verb {
	h.t.Helper()
	h.launch(c, "-c", "boot.autostart=false")
	h.inside(c, "dd if=/dev/urandom of=/root/big bs=1M count=12 2>/dev/null; for i in $(seq 60); do mkdir /root/d$i; echo $i > /root/d$i/f; done; sync")
	h.lxc("snapshot", c, "s1")
	file, out := filepath.Join(h.dir, "b.tar"), filepath.Join(h.dir, "out.tar")
	h.lxc("export", c, file, "--compression", "none")
	there := func() bool { return h.state(d) != "" }
	snapshot := func(name string) func() bool {
		return func() bool { return slices.Contains(h.snapshotNames(c), name) }
	}
	never := func() bool { return false } // to do it again harms nobody
	lxc := func(args ...string) func() { return func() { h.lxc(args...) } }
	// The alias comes after the image, and may not.
	published := func() (out []string) {
		for _, i := range strings.Fields(h.lxc("image", "list", "--format", "csv", "--columns", "lf")) {
			if alias, fingerprint, _ := strings.Cut(i, ","); alias != "tiny" {
				out = append(out, fingerprint)
			}
		}
		return out
	}
	return []verb{
		{"create", []string{"init", "tiny", d}, false, there, lxc("delete", d)},
		{"delete", []string{"delete", d}, true, func() bool { return !there() }, nil},
		{"start", []string{"start", d}, true, func() bool { return h.state(d) == "RUNNING" }, lxc("delete", "--force", d)},
		{"snapshot", []string{"snapshot", c, "s2"}, false, snapshot("s2"), lxc("delete", c+"/s2")},
		{"restore", []string{"restore", c, "s1"}, false, never, nil},
		{"copy", []string{"copy", c, d}, false, there, lxc("delete", d)},
		{"refresh", []string{"copy", c, d, "--refresh"}, true, func() bool { return false }, lxc("delete", d)},
		{"export", []string{"export", c, out, "--compression", "none"}, false, never, nil},
		{"import", []string{"import", file, d}, false, there, lxc("delete", d)},
		{"publish", []string{"publish", c + "/s1", "--alias", "web", "--compression", "none"}, false,
			func() bool { return len(published()) == 1 }, func() { h.lxc("image", "delete", published()[0]) }},
	}
}

// holds compares what the API shows with what is on disk, when all is quiet.
func (h *host) holds(what string) {
	h.t.Helper()
	h.eventually(what+": no operation", func() bool { return !strings.Contains(h.lxc("operation", "list"), "RUNNING") })
	shown := strings.Fields(h.lxc("list", "--format", "csv", "--columns", "n"))
	slices.Sort(shown)
	pool := filepath.Join(h.lxdDir(), "storage-pools/default")
	if on := dirNames(filepath.Join(pool, "containers")); !slices.Equal(on, shown) {
		h.t.Errorf("%s: %q are shown, and the pool holds %q", what, shown, on)
	}
	for _, n := range shown {
		snaps := h.snapshotNames(n)
		slices.Sort(snaps)
		if on := dirNames(filepath.Join(pool, "containers-snapshots", n)); !slices.Equal(on, snaps) {
			h.t.Errorf("%s: of %s the snapshots %q are shown, and the pool holds %q", what, n, snaps, on)
		}
		for _, link := range []string{"containers", "snapshots"} {
			if _, err := os.Stat(filepath.Join(h.lxdDir(), link, n)); err != nil && (link == "containers" || len(snaps) > 0) {
				h.t.Errorf("%s: %v", what, err)
			}
		}
	}
	for _, n := range dirNames(filepath.Join(pool, "containers-snapshots")) {
		if !slices.Contains(shown, n) {
			h.t.Errorf("%s: the pool holds snapshots of %s", what, n)
		}
	}
	for _, d := range []string{"new", "trash"} {
		h.eventually(what+": the pool to be clean", func() bool { return len(dirNames(filepath.Join(pool, ".sett", d))) == 0 })
	}
	for _, n := range h.spooled() {
		// That of a client which could not delete it any more goes when its time is over.
		var backups []api.InstanceBackup
		if slices.Contains(shown, n) {
			h.get("/1.0/instances/"+n+"/backups?recursion=1", &backups)
		}
		files := dirNames(filepath.Join(h.lxdDir(), "backups/instances", n))
		if len(backups) != 1 || len(files) != 1 || files[0] != backups[0].Name || !backups[0].ExpiresAt.After(time.Now()) {
			h.t.Errorf("%s: left in the folder of backups: %s %v; known are %v", what, n, files, backups)
			continue
		}
		h.finish(h.begun("DELETE", "/1.0/instances/"+n+"/backups/"+files[0], nil))
	}
	for _, n := range dirNames(filepath.Join(h.lxdDir(), "images")) {
		if strings.HasPrefix(n, "lxd_") {
			h.t.Errorf("%s: left in the folder of images: %s", what, n)
		}
	}
}

// up brings c into the state in which each verb finds it.
func (h *host) up(c string) {
	h.t.Helper()
	// That init was killed may be noticed only now.
	h.eventually(c+" to run", func() bool {
		if h.state(c) == "STOPPED" {
			h.lxc("start", c)
		}
		return h.try("exec", c, "--", "cat", "/run/booted").code == 0
	})
}

// once does a verb, undoes it and looks whether all is as it was.
func (h *host) once(v verb, what, c, d string) {
	h.t.Helper()
	if !v.done() {
		h.lxc(v.args...)
	}
	if v.undo != nil {
		v.undo()
	}
	h.up(c)
	if h.state(d) != "" {
		h.lxc("delete", "--force", d)
	}
	h.holds(what + ", tried again")
	h.noTracesOf(d)
}

// noTracesOf is noTraces while another container is there.
func (h *host) noTracesOf(d string) {
	h.t.Helper()
	for _, m := range append(h.mounts(), h.cgroups()...) {
		if strings.Contains(m, d) {
			h.t.Errorf("left of %s: %s", d, m)
		}
	}
}

// TestVerbsWhileOthersGo ends the guest, the client, or what the client wants, some time
// after a verb has begun.
func TestVerbsWhileOthersGo(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			h.setUp(driver)
			c, d := h.name("c1"), h.name("d1")
			for n, v := range h.verbs(c, d) {
				for fault, strike := range map[string]func(*exec.Cmd){
					"init killed": func(*exec.Cmd) {
						var s api.InstanceState // a restore may have ended it
						if h.get("/1.0/instances/"+c+"/state", &s); s.Pid > 0 {
							_ = syscall.Kill(int(s.Pid), syscall.SIGKILL)
						}
					},
					"client killed":      func(cmd *exec.Cmd) { _ = cmd.Process.Kill() },
					"client interrupted": func(cmd *exec.Cmd) { _ = cmd.Process.Signal(os.Interrupt) },
				} {
					after := []time.Duration{4, 30}[n%2]
					what := fmt.Sprintf("%s, %s after %d ms", v.name, fault, after)
					if v.with {
						h.lxc("init", "tiny", d)
					}
					h.up(c)
					cmd := exec.Command(h.client, v.args...)
					cmd.Env = h.environ()
					if err := cmd.Start(); err != nil {
						t.Fatal(err)
					}
					<-time.After(after * time.Millisecond)
					strike(cmd)
					_ = cmd.Wait()
					h.holds(what)
					if s := h.state(c); s != "RUNNING" && (s != "STOPPED" || fault != "init killed" && v.name != "restore") {
						t.Errorf("%s: %s is %s", what, c, s)
					}
					h.once(v, what, c, d)
				}
			}
			h.lxc("delete", "--force", c)
			h.noTraces(c)
		})
	}
}

// fillUp leaves a file system so much room.
func fillUp(t *testing.T, dir string, leave int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for _, chunk := range []int64{16 << 20, 1 << 20, 64 << 10} {
		for err == nil {
			if err = unix.Fallocate(int(f.Fd()), 0, size, chunk); err == nil {
				size += chunk
			}
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	if err := f.Truncate(max(size-leave, 0)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// TestVerbsInAFullPool lets each verb run into the end of a pool, sooner or later. What
// does not fit says so and leaves nothing.
func TestVerbsInAFullPool(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t)
			pool, dir := []string{"default", "btrfs", "size=256MiB"}, filepath.Join(h.lxdDir(), "storage-pools/default")
			if driver == "dir" {
				disk := filepath.Join(h.dir, "disk")
				dir = filepath.Join(h.dir, "mnt")
				if err := os.Mkdir(dir, 0o711); err != nil {
					t.Fatal(err)
				}
				work(t, "/", "truncate", "-s", "128M", disk)
				work(t, "/", "mkfs.ext4", "-q", disk)
				work(t, "/", "mount", "-o", "loop", disk, dir)
				defer func() {
					h.empty()
					work(t, "/", "umount", dir)
				}()
				if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil {
					t.Fatal(err)
				}
				pool = []string{"default", "dir", "source=" + dir}
			}
			h.setUpIn(pool...)
			c, d := h.name("c1"), h.name("d1")
			failed := map[string]int{}
			for _, v := range h.verbs(c, d) {
				for _, leave := range []int64{0, 6 << 20, 17 << 20} {
					what := fmt.Sprintf("%s with %d KiB left", v.name, leave>>10)
					if v.with {
						h.lxc("init", "tiny", d)
					}
					h.up(c)
					fillUp(t, dir, leave)
					if r := h.try(v.args...); r.code != 0 {
						failed[v.name]++
						if !strings.Contains(r.stderr, "is full") && !strings.Contains(r.stderr, "No space") && !strings.Contains(r.stderr, "no space") || strings.Count(r.stderr, "\n") > 2 {
							t.Errorf("%s: %s", what, r.stderr)
						}
						h.holds(what)
					}
					if err := os.Remove(filepath.Join(dir, "fill")); err != nil {
						t.Fatal(err)
					}
					h.once(v, what, c, d)
				}
			}
			t.Logf("refused: %v", failed)
			for _, v := range map[string][]string{"dir": {"create", "snapshot", "restore", "copy", "refresh", "import"}, "btrfs": {"import"}}[driver] {
				if failed[v] == 0 {
					t.Errorf("%s has never found the pool full", v)
				}
			}
			h.lxc("delete", "--force", c)
			h.noTraces(c)
		})
	}
}
