//go:build system

package dqlite

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
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
	return tmpfs(t, "size="+strconv.Itoa(mib)+"m")
}

func tmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	unmounted(t, dir)
	return dir
}

// btrfs makes a folder on a btrfs of so many MiB, of which nothing is written, and tells
// the UUID.
func btrfs(t *testing.T, mib int) (dir, uuid string) {
	t.Helper()
	dir = t.TempDir()
	image := filepath.Join(t.TempDir(), "image")
	for _, args := range [][]string{
		{"truncate", "-s", strconv.Itoa(mib) + "M", image},
		{"mkfs.btrfs", "-q", image},
		{"mount", "-o", "loop", image, dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	unmounted(t, dir)
	out, err := exec.Command("blkid", "-s", "UUID", "-o", "value", image).Output()
	if err != nil {
		t.Fatal(err)
	}
	return dir, strings.TrimSpace(string(out))
}

func unmounted(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
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

// flagsOf reads what chattr sets.
func flagsOf(t *testing.T, path string) (f *os.File, flags uint32) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	flags, err = unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		t.Fatal(err)
	}
	return f, flags
}

// TestANodeInACompressedFolder: what is in there is not compressed, and not refused.
func TestANodeInACompressedFolder(t *testing.T) {
	t.Parallel()
	top, _ := btrfs(t, 512)
	f, flags := flagsOf(t, top)
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|compressed)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(top, "global")
	n := start(t, Options{Dir: dir})
	mustExec(t, n, `CREATE TABLE a (x TEXT)`)
	for _, name := range []string{"", "open-1"} {
		if _, flags := flagsOf(t, filepath.Join(dir, name)); flags&nocow == 0 || flags&compressed != 0 {
			t.Errorf("%q has the flags %#x", name, flags)
		}
	}
}

// TestAFileSystemWithRoomIsNotMadeToCount: what others have written to it would be waited
// for at each start and each end of a node.
func TestAFileSystemWithRoomIsNotMadeToCount(t *testing.T) {
	t.Parallel()
	top, uuid := btrfs(t, 512)
	commits := func() int {
		t.Helper()
		stats, err := os.ReadFile(filepath.Join("/sys/fs/btrfs", uuid, "commit_stats"))
		if err != nil {
			t.Fatal(err)
		}
		f := strings.Fields(string(stats))
		if len(f) < 2 || f[0] != "commits" {
			t.Fatalf("%q", stats)
		}
		n, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	count := func() int {
		t.Helper()
		if err := os.WriteFile(filepath.Join(top, "dirty"), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		before := commits()
		if err := commit(top); err != nil {
			t.Fatal(err)
		}
		return commits() - before
	}
	if n := count(); n != 0 {
		t.Errorf("%d times with room", n)
	}
	fillBut(t, top, doubtful-1)
	if n := count(); n == 0 {
		t.Error("never where there is little room")
	}
}

// TestAFileSystemWithoutRoomForAFile is full as well: some are before their last byte is used.
func TestAFileSystemWithoutRoomForAFile(t *testing.T) {
	t.Parallel()
	top := tmpfs(t, "size=4m,nr_inodes=20")
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(top, "file"+strconv.Itoa(i)))
		if err != nil {
			break
		}
		_ = f.Close()
	}
	if err := release(top); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

// TestADiskIsMeasuredWhileAnEngineIsAboutToStart has both try what the disk can do.
func TestADiskIsMeasuredWhileAnEngineIsAboutToStart(t *testing.T) {
	t.Parallel()
	top := small(t, 4)
	done := make(chan error)
	go func() {
		for range 2000 {
			if _, err := timeWrites(t.Context(), filepath.Join(top, probeName), time.Second); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
		if err := release(top); err != nil {
			t.Error(err)
			<-done
			return
		}
	}
}
