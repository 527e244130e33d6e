//go:build system && measure

package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What clusters and the browser are held to, measured. It takes a quiet machine and is
// no part of any other run:
//
//	make build
//	SETT_BIN=$PWD/bin go test -tags "libsqlite3 system measure" -count=1 -v -timeout 30m -run TestMeasure ./test/system
//
// Numbers are reported, and fail nothing unless something is lost: a machine that does
// other things is slower.

// spread is a series of measurements.
type spread []time.Duration

func (s spread) String() string {
	s = slices.Clone(s)
	slices.Sort(s)
	at := func(q float64) time.Duration { return s[int(q*float64(len(s)-1)+0.5)].Round(100 * time.Microsecond) }
	return fmt.Sprintf("median %s, p90 %s, min %s, max %s of %d", at(0.5), at(0.9), at(0), at(1), len(s))
}

// whole waits until all members are online and have their votes again.
func (f *fleet) whole() {
	f.t.Helper()
	f.members[0].eventually("the cluster to be whole", func() bool {
		out := f.members[0].try("cluster", "list", "--format", "csv").stdout
		votes := 0
		for line := range strings.Lines(out) {
			if strings.Contains(line, "ONLINE") && strings.Contains(line, "database") && !strings.Contains(line, "standby") {
				votes++
			}
		}
		return votes == len(f.members)
	})
}

// TestMeasureLeaderDeath kills the leader again and again under writes through all
// members.
func TestMeasureLeaderDeath(t *testing.T) {
	const kills = 12
	f := newFleet(t, 3)
	f.form()
	w, stop := f.write()
	var gaps spread
	for range kills {
		f.whole()
		// The leader looks for a follower that is back once a second, and has to tell it
		// what it missed: a member that died and one that is not back yet are two.
		<-time.After(3 * time.Second)
		w.acks(f.members[0], 10)
		victim := f.leader()
		w.restart()
		f.members[victim].stop(syscall.SIGKILL)
		w.acks(f.members[0], 10)
		w.mu.Lock()
		gaps = append(gaps, w.gap)
		w.mu.Unlock()
		t.Logf("killed %s: %s without a write", f.name(victim), gaps[len(gaps)-1].Round(time.Millisecond))
		f.members[victim].start()
	}
	stop()
	f.check(w)
	t.Logf("without a write after the leader's death: %s; %d writes acknowledged, all there; slowest request %s",
		gaps, len(w.acked), w.slowest.Round(time.Millisecond))
	f.dropProfiles(w)
}

// TestMeasureListWithADeadMember asks for all instances while one of three members was
// killed, and while its cable is cut.
func TestMeasureListWithADeadMember(t *testing.T) {
	f := newFleet(t, 3)
	f.form()
	f.setUpCluster()
	h := f.members[0]
	for i := range f.members {
		h.lxc("launch", "tiny", h.name(fmt.Sprint("c", i)), "--target", f.name(i))
	}
	ask := func(what string, by *host) {
		first := timed(func() { by.lxc("list") })
		var rest spread
		for range 10 {
			rest = append(rest, timed(func() { by.lxc("list") }))
		}
		t.Logf("lxc list, %s: first %s, then %s", what, first.Round(time.Millisecond), rest)
	}
	ask("all members there", h)
	for _, leads := range []bool{true, false} {
		victim := f.leader()
		if !leads {
			victim = (victim + 1) % 3
		}
		other := f.members[(victim+1)%3]
		f.members[victim].stop(syscall.SIGKILL)
		ask(fmt.Sprintf("a member killed (leader: %v)", leads), other)
		f.members[victim].start()
		f.whole()
		f.unplug(victim)
		ask(fmt.Sprintf("a member's cable cut (leader: %v)", leads), other)
		f.replug(victim)
		f.whole()
	}
}

// TestMeasureJoin joins an empty server to a cluster of one, and another one.
func TestMeasureJoin(t *testing.T) {
	f := newFleet(t, 5)
	first := f.members[0]
	first.lxc("config", "set", "core.https_address", f.address(0)+":8443")
	t.Logf("cluster enable: %s", timed(func() { first.lxc("cluster", "enable", f.name(0)) }).Round(time.Millisecond))
	var all spread
	for i := range f.members[1:] {
		all = append(all, timed(func() { f.join(i + 1) }))
	}
	t.Logf("token and join: %s", all)
}

// TestMeasureExecThroughAnotherMember compares exec through the member of an instance
// with exec through another one.
func TestMeasureExecThroughAnotherMember(t *testing.T) {
	f := newFleet(t, 3)
	f.form()
	f.setUpCluster()
	a, b := f.members[0], f.members[1]
	n := a.name("c1")
	a.lxc("launch", "tiny", n, "--target", f.name(0))
	a.waitBooted(n)
	var here, there spread
	pause := func() { <-time.After(100 * time.Millisecond) } // none pays for what the one before has left
	for i := range 60 {
		pause()
		one := timed(func() { a.lxc("exec", n, "--", "true") })
		pause()
		other := timed(func() { b.lxc("exec", n, "--", "true") })
		if i >= 10 { // the first ones open connections
			here, there = append(here, one), append(there, other)
		}
	}
	t.Logf("lxc exec through its own member: %s", here)
	t.Logf("lxc exec through another member: %s", there)
}

// used is the processor time that a daemon has taken so far.
func (h *host) used() time.Duration {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid()))
	if err != nil {
		h.t.Fatal(err)
	}
	// Behind the name, which may hold anything, come the state and, as the 12th and 13th
	// word, the ticks in user and kernel mode: 100 a second.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

// TestMeasureIdle adds up what daemons take of the processors while nothing happens.
func TestMeasureIdle(t *testing.T) {
	f := newFleet(t, 3)
	f.form()
	f.whole()
	lone := newHost(t)
	all := append(slices.Clone(f.members), lone)
	<-time.After(10 * time.Second) // the last of what came before
	before := make([]time.Duration, len(all))
	for i, h := range all {
		before[i] = h.used()
	}
	<-time.After(20 * time.Second)
	var members time.Duration
	for i, h := range all {
		took := h.used() - before[i]
		if h == lone {
			t.Logf("a server that stands alone: %s in 20 s", took)
			continue
		}
		members += took
		t.Logf("%s: %s in 20 s", f.name(i), took)
	}
	t.Logf("three members: %s in 20 s", members)
}

// TestMeasureKeystrokes compares how long a key takes to come back in the browser's
// terminal with 'lxc exec'.
func TestMeasureKeystrokes(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed, so there is no web interface to measure")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("Chromium is not installed; run 'make deps'")
	}
	h := newHost(t)
	h.setUp("dir")
	h.launch(h.name("c1"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, filepath.Join(top(), "test/ui/keystrokes.mjs"))
	cmd.Env = append(h.environ(), "SETT_LXC="+h.bin.lxc(), "SETT_LXD="+h.bin.lxd(), "SETT_CHROMIUM="+chromium, "SETT_TOKEN="+h.token,
		"HOME="+t.TempDir(), "TERM=xterm")
	cmd.Stdin, _ = os.Open(os.DevNull)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
