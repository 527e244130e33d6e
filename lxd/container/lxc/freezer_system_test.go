//go:build system

package lxc_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/container/containertest"
)

// idler is a process in the background that holds none of the script's output.
const idler = `( exec >/dev/null 2>&1; touch /tmp/idle; exec sleep 1000 ) & while [ ! -e /tmp/idle ]; do :; done`

// A guest that may use v1's freezer has stopped processes where no signal ends
// them, in groups of its own.
func TestGuestCannotFreezeItselfAgainstItsEnd(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/sys/fs/cgroup/freezer/freezer.state"); err != nil {
		if _, err := os.Stat("/sys/fs/cgroup/freezer/cgroup.procs"); err != nil {
			t.Skip("this host has no freezer of cgroup v1")
		}
	}
	for name, script := range map[string]string{
		"one group": `mkdir f; ` + idler + `; echo $! >f/cgroup.procs; echo FROZEN >f/freezer.state; until grep -qx FROZEN f/freezer.state; do :; done; cat f/freezer.state`,
		"nested groups": `mkdir -p f/g/h; ` + idler + `; echo $! >f/g/h/cgroup.procs
			for d in f/g/h f/g f; do echo FROZEN >$d/freezer.state; done; until grep -qx FROZEN f/g/h/freezer.state; do :; done; cat f/g/h/freezer.state`,
		"init too": `mkdir f && echo 1 >f/cgroup.procs; echo FROZEN >f/freezer.state; until grep -qx FROZEN f/freezer.state; do :; done; cat f/freezer.state`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, newEngine(t), spec(t, unprivileged, true))
			setUp := "mkdir -p /tmp/fz; mount -t cgroup -o freezer none /tmp/fz && cd /tmp/fz && "
			code, out := sh(t, p, setUp+"{ "+script+"; }")
			if code != 0 || !strings.HasSuffix(out, "FROZEN") {
				t.Fatalf("the guest could not freeze: %d, %q", code, out)
			}
			ctx, cancel := context.WithTimeout(context.Background(), containertest.Deadline)
			defer cancel()
			begin := time.Now()
			if err := p.Kill(ctx); err != nil {
				t.Fatalf("kill: %v", err)
			}
			t.Logf("killed in %v", time.Since(begin))
		})
	}
}

// The paths of groups that lie deep enough cannot be named to the kernel.
func TestDeepGroupsAreCleanedUp(t *testing.T) {
	t.Parallel()
	s := spec(t, unprivileged, true)
	p := start(t, newEngine(t), s)
	long := strings.Repeat("d", 200)
	script := `mkdir -p /tmp/fz && mount -t cgroup -o pids none /tmp/fz && cd /tmp/fz && d=` + long + `
		i=0; while [ $i -lt 40 ]; do mkdir $d && cd -P $d || exit 1; i=$((i+1)); done; ` + idler + `; echo $! >cgroup.procs; grep -c . cgroup.procs`
	if code, out := sh(t, p, script); code != 0 || out != "1" {
		t.Fatalf("the guest could not make its groups: %d, %q", code, out)
	}
	group := filepath.Join("/sys/fs/cgroup/pids", "lxd.payload."+s.ID.Daemon+"."+s.ID.Project+"_"+s.ID.Name, long)
	if err := unix.Access(group, unix.F_OK); err != nil {
		t.Fatalf("the groups are elsewhere: %v", err)
	}
	if err := p.Kill(context.Background()); err != nil {
		t.Fatalf("kill: %v", err)
	}
	if err := unix.Access(group, unix.F_OK); err == nil {
		t.Error("the deep groups are still there")
	}
}
