//go:build system

package btrfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	host "sett/lxd/host/btrfs"
	"sett/lxd/host/loop"
	"sett/lxd/storage/btrfs"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

const levels = 30

var long = strings.Repeat("d", 200)

// deep walks down a chain of folders, making them on demand.
func deep(t *testing.T, top string, create bool) host.Dir {
	t.Helper()
	d, err := host.Open(top)
	must(t, err)
	for range levels {
		if create {
			must(t, unix.Mkdirat(d.FD(), long, 0o755))
		}
		next, err := host.OpenAt(d.FD(), long)
		d.Close()
		must(t, err)
		d = next
	}
	return d
}

// What a guest nests deeper than a path can be is copied and removed all the same.
func TestDeepNestedSubvolumes(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "256MiB"})
	ctx := t.Context()
	a := driver.Volume{Type: driver.Container, Name: "a"}
	must(t, p.Create(ctx, a, nil))
	d := deep(t, p.Path(a), true)
	must(t, d.Create("one"))
	one, err := host.OpenAt(d.FD(), "one")
	must(t, err)
	must(t, one.Create("two"))
	two, err := host.OpenAt(one.FD(), "two")
	must(t, err)
	fd, err := unix.Openat(two.FD(), "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
	must(t, err)
	_, err = unix.Write(fd, []byte("deep"))
	must(t, err, unix.Close(fd))
	must(t, two.SetReadOnly(true), one.SetReadOnly(true), two.Close(), one.Close(), d.Close()) // as a guest may
	must(t, p.Copy(ctx, a.Renamed("b"), a, driver.CopyOpts{}))
	c := deep(t, p.Path(a.Renamed("b")), false)
	fd, err = unix.Openat(c.FD(), "one/two/file", unix.O_RDONLY, 0)
	must(t, err)
	b := make([]byte, 8)
	if n, err := unix.Read(fd, b); err != nil || string(b[:n]) != "deep" {
		t.Errorf("the copy has %q, %v", b[:n], err)
	}
	must(t, unix.Close(fd), c.Close())
	must(t, p.Delete(ctx, a), p.Delete(ctx, a.Renamed("b")), p.Close(ctx))
	out, err := exec.Command("btrfs", "subvolume", "list", filepath.Clean(p.Path(a)+"/../..")).CombinedOutput()
	if err != nil || strings.Contains(string(out), "one") {
		t.Errorf("left: %s, %v", out, err)
	}
}

func TestLimitRefusesWhatItWouldNotCount(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "256MiB"})
	ctx := t.Context()
	a := driver.Volume{Type: driver.Container, Name: "a"}
	must(t, p.Create(ctx, a, nil))
	d, err := host.Open(p.Path(a))
	must(t, err)
	defer d.Close()
	must(t, d.Create("own"))
	if err := p.SetQuota(ctx, a, 10<<20); !errs.Is(err, errs.KindInvalid) || !strings.Contains(err.Error(), "subvolumes") {
		t.Errorf("got %v", err)
	}
	must(t, d.Destroy("own"), p.SetQuota(ctx, a, 10<<20), p.SetQuota(ctx, a, 0))
}

// A pool whose making broke off, in the record of which there is no source yet, does
// not take along what was there before.
func TestForeignFileSurvivesTheRecoveryOfAPool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "storage-pools"), 0o711), os.MkdirAll(filepath.Join(dir, "disks"), 0o711))
	env := driver.Env{Pool: "x", Dir: dir, Config: map[string]string{"size": "128MiB"}, Logf: t.Logf}
	file := env.LoopFile()
	must(t, os.WriteFile(file, []byte("precious"), 0o600))
	p, err := btrfs.New().New(env)
	must(t, err)
	if _, err := p.CreatePool(t.Context()); !errs.Is(err, errs.KindConflict) {
		t.Errorf("create: %v", err)
	}
	must(t, p.DeletePool(t.Context()))
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("after the recovery: %q, %v", b, err)
	}
	must(t, os.Remove(file))
	// What our own broken attempt has left goes.
	must(t, loop.Create(file, 128<<20), p.DeletePool(t.Context()))
	if _, err := os.Lstat(file); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
	dev, err := btrfs.New().New(driver.Env{Pool: "y", Dir: dir, Config: map[string]string{"source": device(t)}, Logf: t.Logf})
	must(t, err)
	must(t, dev.DeletePool(t.Context()))
}

// device is a block device with a file system of somebody else's, which must be there
// at the end.
func device(t *testing.T) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "disk")
	must(t, loop.Create(img, 128<<20))
	dev, err := loop.Attach(t.Context(), img)
	must(t, err)
	if out, err := exec.Command("mkfs.btrfs", "-q", dev.Name()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("blkid", "-o", "value", "-s", "TYPE", dev.Name()).Output(); strings.TrimSpace(string(out)) != "btrfs" {
			t.Errorf("the device holds %q, %v", out, err)
		}
		dev.Close()
	})
	return dev.Name()
}
