//go:build system

package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// btrfsEverywhere gives each member its part of a btrfs pool called "bt".
func (f *fleet) btrfsEverywhere() {
	f.t.Helper()
	for i := range f.members {
		f.members[0].lxc("storage", "create", "bt", "btrfs", "size=1GiB", "--target", f.name(i))
	}
	f.members[0].lxc("storage", "create", "bt", "btrfs")
}

// at is where the instance is, as every member has to say.
func (f *fleet) at(c string) string {
	f.t.Helper()
	all := map[string]bool{}
	for _, h := range f.members {
		all[strings.TrimSpace(h.lxc("list", "^"+c+"$", "--columns", "L", "--format", "csv"))] = true
	}
	if len(all) != 1 {
		f.t.Errorf("%s is at %v", c, all)
	}
	for m := range all {
		return m
	}
	return ""
}

// nothing demands that a member has nothing of an instance, nor anything half-made.
func (h *host) nothing(c string) {
	h.t.Helper()
	h.noTraces(c)
	for _, d := range []string{"containers", "snapshots", "logs", "devices"} {
		if _, err := os.Lstat(filepath.Join(h.lxdDir(), d, c)); err == nil {
			h.t.Errorf("left: %s/%s", d, c)
		}
	}
	hosts, _ := filepath.Glob(filepath.Join(h.lxdDir(), "networks/*/*/"+c+".*"))
	for _, l := range hosts {
		h.t.Errorf("left: %s", l)
	}
	h.eventually("the garbage of "+c+" to go", func() bool { return len(h.pieces(c)) == 0 })
}

// mounted is a path in LXD_DIR as the daemon, which has mounts of its own, sees it.
func (h *host) mounted(path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", h.pid()), h.lxdDir(), path)
}

// pieces are the folders of an instance in pools, whole or half-made.
func (h *host) pieces(c string) (all []string) {
	for _, p := range []string{"containers/" + c, "containers-snapshots/" + c, ".sett/new/*", ".sett/trash/*"} {
		found, _ := filepath.Glob(h.mounted("storage-pools/*/" + p))
		all = append(all, found...)
	}
	return all
}

// TestInstancesMoveBetweenMembers moves one between pools of both kinds on three members:
// it stays what it was.
func TestInstancesMoveBetweenMembers(t *testing.T) {
	t.Parallel()
	clients(t, func(t *testing.T, client string) {
		f := newFleet(t, 3)
		f.form()
		f.setUpCluster()
		f.btrfsEverywhere()
		for _, h := range f.members {
			h.client = client
		}
		a, b, third := f.members[0], f.members[1], f.members[2]
		for _, pool := range []string{"bt", "default"} {
			c := a.name("on" + pool)
			a.lxc("launch", "tiny", c, "--target", f.name(0), "--storage", pool, "-c", "user.colour=blue")
			a.waitBooted(c)
			a.inside(c, "echo one > /root/f; ln /root/f /root/g; mkfifo /root/p; touch /root/x; chown 12:34 /root/x; chmod 4711 /root/x; sync")
			a.lxc("snapshot", c, "s1")
			a.inside(c, "echo two > /root/f; sync")
			mac := a.lxc("config", "get", c, "volatile.eth0.hwaddr")
			uuid := a.lxc("config", "get", c, "volatile.uuid")
			if r := third.try("move", c, "--target", f.name(1), "--stateless"); r.code == 0 || !strings.Contains(r.stderr, "Instance is running") {
				t.Errorf("one that runs: exit %d, %s", r.code, r.stderr)
			}
			a.lxc("stop", "--force", c)
			third.lxc("move", c, "--target", f.name(1))
			if at := f.at(c); at != f.name(1) {
				t.Fatalf("it is at %q", at)
			}
			a.nothing(c)
			if now := b.lxc("config", "get", c, "volatile.eth0.hwaddr"); now != mac {
				t.Errorf("its address was %q and is %q", mac, now)
			}
			if now := b.lxc("config", "get", c, "volatile.uuid"); now != uuid {
				t.Errorf("its id was %q and is %q", uuid, now)
			}
			third.lxc("start", c)
			third.waitBooted(c)
			if out := third.inside(c, "cat /root/f /root/g; stat -c '%u %g %a' /root/x; test -p /root/p && hostname"); out != "two\ntwo\n12 34 4711\n"+c {
				t.Errorf("inside is %q", out)
			}
			if b.ipv4(c) == nil {
				t.Error("it has no address")
			}
			third.lxc("stop", "--force", c)
			third.lxc("restore", c, "s1")
			// Home, with another name.
			d := a.name("home" + pool)
			b.lxc("move", c, d, "--target", f.name(0))
			b.nothing(c)
			a.lxc("start", d)
			a.waitBooted(d)
			if out := a.inside(d, "cat /root/f; hostname"); out != "one\n"+d {
				t.Errorf("inside is %q", out)
			}
			if s := a.snapshotsOf(d); s != "s1" {
				t.Errorf("its snapshots are %q", s)
			}
			if out := a.lxc("config", "get", d, "user.colour"); out != "blue\n" {
				t.Errorf("its colour is %q", out)
			}
			a.lxc("stop", "--force", d)
		}
	})
}

// TestMovesToOtherPoolsOfMembers: where the pools are of different kinds, or hold what
// streams cannot, it is files that go.
func TestMovesToOtherPoolsOfMembers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2)
	f.form()
	f.setUpCluster()
	f.btrfsEverywhere()
	a, b := f.members[0], f.members[1]
	c := a.name("c1")
	a.lxc("launch", "tiny", c, "--target", f.name(0), "--storage", "bt")
	a.waitBooted(c)
	a.inside(c, "echo one > /root/f; chown 12:34 /root/f; sync")
	a.lxc("snapshot", c, "s1")
	a.lxc("stop", "--force", c)
	is := func(h *host) {
		t.Helper()
		h.lxc("start", c)
		h.waitBooted(c)
		if out := h.inside(c, "cat /root/f; stat -c '%u %g' /root/f"); out != "one\n12 34" {
			t.Errorf("inside is %q", out)
		}
		h.lxc("stop", "--force", c)
	}
	// What only root may set cannot go with the files.
	inside := a.mounted("storage-pools/bt/containers/" + c + "/rootfs/root/f")
	if err := unix.Setxattr(inside, "trusted.x", []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	if r := a.try("move", c, "--target", f.name(1), "--storage", "default"); r.code == 0 || !strings.Contains(r.stderr, `/rootfs/root/f: its attribute "trusted.x" would be lost`) {
		t.Errorf("with an attribute of root's: exit %d, %s", r.code, r.stderr)
	}
	b.eventually("what has come in vain to go", func() bool {
		leases, _ := filepath.Glob(filepath.Join(b.lxdDir(), "networks/*/*/"+c+".*"))
		return len(leases) == 0 && len(b.pieces(c)) == 0
	})
	b.nothing(c)
	is(a)
	if err := unix.Removexattr(inside, "trusted.x"); err != nil {
		t.Fatal(err)
	}
	a.lxc("move", c, "--target", f.name(1), "--storage", "default")
	a.nothing(c)
	is(b)
	if p := b.pool(c); p != "default" {
		t.Errorf("it is in pool %q", p)
	}
	b.lxc("move", c, "--target", f.name(0), "--storage", "bt")
	b.nothing(c)
	is(a)
	a.lxc("restore", c, "s1")
	is(a)

	// A subvolume inside.
	root := a.mounted("storage-pools/bt/containers/" + c + "/rootfs")
	if out, err := exec.Command("btrfs", "subvolume", "create", root+"/sub").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(root+"/sub/f", []byte("inside"), 0o644); err != nil {
		t.Fatal(err)
	}
	a.lxc("move", c, "--target", f.name(1))
	a.nothing(c)
	got, err := os.ReadFile(b.mounted("storage-pools/bt/containers/" + c + "/rootfs/sub/f"))
	if string(got) != "inside" {
		t.Errorf("in a subvolume is %q, %v", got, err)
	}
	is(b)
}

// TestKillsDuringAMoveBetweenMembers kills the target, and then the member that sends, in
// the middle of a transfer and at other moments: the instance is whole on one of them, and
// nothing is left on the other.
func TestKillsDuringAMoveBetweenMembers(t *testing.T) {
	for _, pool := range []string{"bt", "default"} {
		t.Run(pool, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 3)
			f.form()
			f.setUpCluster()
			f.btrfsEverywhere()
			a, third := f.members[0], f.members[2]
			c := a.name("k" + pool)
			a.lxc("launch", "tiny", c, "--target", f.name(0), "--storage", pool)
			a.waitBooted(c)
			a.inside(c, "dd if=/dev/urandom of=/root/big bs=1M count=200 2>/dev/null; sync")
			sum := a.inside(c, "sha256sum /root/big")
			a.lxc("stop", "--force", c)
			a.lxc("snapshot", c, "s1")
			at := 0
			for _, kill := range []struct {
				target bool
				after  time.Duration // of the first piece that has come; less: when it has arrived
			}{{true, 0}, {true, 100 * time.Millisecond}, {false, 0}, {false, 100 * time.Millisecond}, {true, 300 * time.Millisecond}, {false, 500 * time.Millisecond},
				{false, 900 * time.Millisecond}, {false, -1}, {true, -1}, {false, -1}} {
				from, to := f.members[at], f.members[1-at]
				victim := from
				if kill.target {
					victim = to
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				move := third.command(ctx, third.client, "move", c, "--target", f.name(1-at))
				move.Env = third.environ()
				var said bytes.Buffer
				move.Stderr = &said
				if err := move.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- move.Wait() }()
				third.eventually("the instance to come", func() bool {
					if kill.after < 0 {
						var i struct{ Location string }
						_, a := third.request("GET", "/1.0/instances/"+c, nil) // which may look where it was a moment before
						_ = json.Unmarshal(a.Metadata, &i)
						return i.Location == f.name(1-at)
					}
					return len(to.pieces(c)) > 0
				})
				<-time.After(kill.after)
				victim.seen()
				victim.stop(syscall.SIGKILL)
				err := <-ended
				cancel()
				victim.start()
				third.eventually("the instance to be known again", func() bool { s := third.state(c); return s == "STOPPED" })
				now := f.at(c)
				t.Logf("%s: target killed: %v, after %s: it is at %s; the client said %v %s", pool, kill.target, kill.after, now, err, strings.TrimSpace(said.String()))
				if now != f.name(at) {
					at = 1 - at
				}
				if now != f.name(at) {
					t.Fatalf("it is at %q", now)
				}
				f.members[1-at].nothing(c)
				h := f.members[at]
				third.lxc("start", c)
				third.waitBooted(c)
				if out := h.inside(c, "sha256sum /root/big"); out != sum {
					t.Errorf("it holds %q", out)
				}
				third.lxc("stop", "--force", c)
				if s := h.snapshotsOf(c); s != "s1" {
					t.Errorf("its snapshots are %q", s)
				}
			}
			// And the next try works.
			third.lxc("move", c, fmt.Sprint(c, "x"), "--target", f.name(1-at))
			f.members[at].nothing(c)
			third.lxc("delete", fmt.Sprint(c, "x"))
		})
	}
}
