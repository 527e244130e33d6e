//go:build system

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bulk gives a guest enough files for a copy of them to take a while.
func (h *host) bulk(c string) {
	h.t.Helper()
	h.inside(c, "dd if=/dev/urandom of=/root/big bs=1M count=32 2>/dev/null; for i in $(seq 60); do mkdir -p /root/t/$i; for j in 1 2 3 4 5 6 7 8 9; do echo $i > /root/t/$i/$j; done; done; sync")
}

// halfMade are the folders of a pool that have no name yet, or none any more.
func (h *host) halfMade(pool string) []string {
	return dirNames(filepath.Join(h.lxdDir(), "storage-pools", pool, ".sett/new"))
}

// TestCopiesOfARunningGuestOnDir: all that is made of a guest that writes all the while shows
// it at one moment, though the pool has to copy file by file.
func TestCopiesOfARunningGuestOnDir(t *testing.T) {
	h := newHost(t)
	h.setUp("dir")
	h.otherPool("dir")
	a, b, c := h.name("a1"), h.name("b1"), h.name("c1")
	h.launch(a)
	h.bulk(a)
	h.writeInStep(a)
	// A file that a copy has to take twice, and that has room for once.
	h.lxc("exec", a, "--", "sh", "-c", "(while :; do dd if=/dev/zero of=/root/hot bs=1M count=32 conv=notrunc; done) > /dev/null 2>&1 &")
	still := frozen(t, h.initPID(a))
	rootfs := func(kind string, name ...string) string {
		return filepath.Join(append([]string{h.lxdDir(), kind}, append(name, "rootfs")...)...)
	}
	for n := range 3 {
		h.lxc("snapshot", a, fmt.Sprint("s", n))
		inStep(t, rootfs("snapshots", a, fmt.Sprint("s", n)))
		refresh := []string{"--refresh"}[:min(n, 1)]
		h.lxc(append([]string{"copy", a, b, "--instance-only"}, refresh...)...)
		inStep(t, rootfs("containers", b))
		h.lxc(append([]string{"copy", a, c, "--instance-only", "--storage", "other", "-d", "root,size=96MiB"}, refresh...)...)
		inStep(t, rootfs("containers", c))
		for _, copied := range []string{rootfs("containers", b), rootfs("containers", c), rootfs("snapshots", a, fmt.Sprint("s", n))} {
			if out, err := exec.Command("diff", "-r", filepath.Join(rootfs("containers", a), "root/t"), filepath.Join(copied, "root/t")).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", copied, err, out)
			}
		}
	}
	if still() {
		t.Error("the guest stands still")
	}
	for _, pool := range []string{"default", "other"} {
		h.eventually("the work of pool "+pool+" to be gone", func() bool { return len(h.halfMade(pool)) == 0 })
	}
	// A daemon that dies in the first pass, or while the guest stands still.
	for n := range 5 {
		h.killWhile(time.Duration(20+n*60)*time.Millisecond, "copy", a, h.name("d1"), "--instance-only")
		if still := frozen(t, h.initPID(a)); still() {
			t.Errorf("kill %d: the guest stands still", n)
		}
		h.eventually("the half copy to be gone", func() bool { return len(h.halfMade("default")) == 0 })
		if h.state(h.name("d1")) != "" {
			inStep(t, rootfs("containers", h.name("d1")))
			h.lxc("delete", h.name("d1"))
		}
	}
	for _, name := range []string{b, c} {
		h.lxc("start", name)
		h.waitBooted(name)
	}
	h.lxc("delete", "--force", a, b, c)
}

// TestBackupsOnDirWithSharedBlocks: where the file system of a dir pool can share blocks, a
// backup is what the instance was at one moment.
func TestBackupsOnDirWithSharedBlocks(t *testing.T) {
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"truncate", "-s", "1G", image}, {"mkfs.btrfs", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	h := newHost(t)
	h.setUpIn("default", "dir", "source="+dir)
	a := h.name("a1")
	h.launch(a)
	h.bulk(a)
	h.writeInStep(a)
	still := frozen(t, h.initPID(a))
	for range 2 {
		out := t.TempDir()
		file := filepath.Join(out, "b.tar")
		h.lxc("export", a, file, "--compression", "none")
		if b, err := exec.Command("tar", "-C", out, "-xf", file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		inStep(t, filepath.Join(out, "backup/container/rootfs"))
		if still() {
			t.Error("the guest stands still")
		}
		h.eventually("the copy to be gone", func() bool { return len(h.halfMade("default")) == 0 })
	}
	for n := range 5 {
		h.killWhile(time.Duration(50+n*60)*time.Millisecond, "export", a, filepath.Join(t.TempDir(), "b.tar"), "--compression", "xz")
		h.eventually("the copy to be gone after the daemon was killed", func() bool { return len(h.halfMade("default")) == 0 })
		if left := h.spooled(); len(left) > 0 {
			t.Errorf("left in the folder of backups: %v", left)
		}
		if still := frozen(t, h.initPID(a)); still() {
			t.Errorf("kill %d: the guest stands still", n)
		}
	}
	h.lxc("delete", "--force", a)
}
