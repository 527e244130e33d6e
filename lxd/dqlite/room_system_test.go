//go:build system

package dqlite

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/canonical/go-dqlite/client"
	"golang.org/x/sys/unix"
)

// small makes a folder on a file system of so many MiB.
func small(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size="+strconv.Itoa(mib)+"m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillBut leaves so many bytes free.
func fillBut(t *testing.T, dir string, leave uint64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "ballast"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		_, free, err := freeOf(dir)
		if err != nil {
			t.Fatal(err)
		}
		if free <= leave {
			return
		}
		if _, err := f.Write(make([]byte, min(free-leave, 1<<20))); err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}

// taken waits until the engine has so many segments.
func taken(t *testing.T, n *Node, segments int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	have := 0
	for range 1000 {
		have = 0
		names, err := openSegments(n.opts.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if fi, err := os.Stat(name); err == nil && fi.Size() >= segmentSize {
				have++
			}
		}
		if have >= segments {
			return
		}
		<-tick.C
	}
	t.Fatalf("the engine has taken %d segments", have)
}

// TestAMemberRestsBeforeItsRoomIsSpent writes to a full disk until the node of a member
// rests, which it does before it would find no room. It has all that was acknowledged when
// it is woken.
func TestAMemberRestsBeforeItsRoomIsSpent(t *testing.T) {
	t.Parallel()
	top := small(t, 128)
	members := client.NewInmemNodeStore()
	if err := members.Set(t.Context(), []Member{{ID: 1, Address: "a:1"}}); err != nil {
		t.Fatal(err)
	}
	tight := make(chan struct{}, 100)
	n := start(t, Options{Dir: filepath.Join(top, "global"), Address: "a:1", Members: members, Tight: func() { tight <- struct{}{} },
		Dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("there is nobody") }})
	mustExec(t, n, `CREATE TABLE a (x TEXT)`)
	taken(t, n, leastSegments+1)
	fillBut(t, top, 0)
	acked := 0
	for !n.Resting() {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		_, err := n.DB().ExecContext(ctx, `INSERT INTO a VALUES (?)`, strings.Repeat("x", 100_000))
		cancel()
		if err == nil {
			acked++
		} else if strings.Contains(err.Error(), "not an error") || strings.Contains(err.Error(), "full") {
			t.Fatalf("after %d writes the engine found no room: %v", acked, err)
		}
	}
	if acked < 60 { // one of the segments that it had
		t.Errorf("it rests after %d writes", acked)
	}
	if len(tight) != 1 {
		t.Errorf("it said %d times that it is short of room", len(tight))
	}
	t.Logf("%d writes", acked)
	// What it had is held.
	if r, err := n.Room(); err != nil || !r.Short || r.reserve < segmentSize {
		t.Errorf("%+v %v", r, err)
	}
	if err := os.Remove(filepath.Join(top, "ballast")); err != nil {
		t.Fatal(err)
	}
	if err := n.Wake(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := count(t, n); c != acked && c != acked+1 { // the last one may have been cut off from its answer
		t.Errorf("%d rows of %d", c, acked)
	}
	if r, err := n.Room(); err != nil || r.reserve != 0 {
		t.Errorf("with room: %+v %v", r, err)
	}
}

// TestANodeStartsAgainAndAgainOnAFullDisk fills what a stopped node leaves each time.
func TestANodeStartsAgainAndAgainOnAFullDisk(t *testing.T) {
	t.Parallel()
	top := small(t, 96)
	dir := filepath.Join(top, "global")
	run := func() {
		n, err := Start(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustExec(t, n, `CREATE TABLE IF NOT EXISTS a (x TEXT)`)
		mustExec(t, n, `INSERT INTO a VALUES ('x')`)
		taken(t, n, leastSegments)
		fillBut(t, top, 0)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		fillBut(t, top, 0)
	}
	for range 8 {
		run()
	}
	if err := os.Remove(filepath.Join(dir, reserveName)); err != nil {
		t.Fatal(err)
	}
	fillBut(t, top, 4<<20)
	if _, err := Start(Options{Dir: dir}); !errors.Is(err, errFull) || !strings.Contains(err.Error(), "4 MiB free") {
		t.Errorf("a start without room: %v", err)
	}
	// It holds what is left of the room for the next attempt.
	if err := os.Remove(filepath.Join(top, "ballast")); err != nil {
		t.Fatal(err)
	}
	n := start(t, Options{Dir: dir})
	if c := count(t, n); c != 8 {
		t.Errorf("%d rows of 8", c)
	}
}

// TestAVoteNeedsNoRoom: a node that has never voted can write down that it does.
func TestAVoteNeedsNoRoom(t *testing.T) {
	t.Parallel()
	top := small(t, 96)
	n := start(t, Options{Dir: filepath.Join(top, "global")})
	mustExec(t, n, `CREATE TABLE a (x TEXT)`)
	fillBut(t, top, 0)
	f, err := os.OpenFile(filepath.Join(top, "global", "metadata2"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 32)); err != nil {
		t.Error(err)
	}
	if err := f.Truncate(0); err != nil { // it is not what a node can read
		t.Error(err)
	}
}
