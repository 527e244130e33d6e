//go:build system

package btrfs_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sett/lxd/host/loop"
	"sett/lxd/storage/btrfs"
	"sett/lxd/storage/driver"
	"sett/lxd/storage/driver/drivertest"
	"sett/shared/errs"
)

func TestConformanceOnOwnFile(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Options{Kind: btrfs.New(), Config: map[string]string{"size": "256MiB"}})
}

func TestConformanceOnDevice(t *testing.T) {
	t.Parallel()
	img := filepath.Join(t.TempDir(), "disk")
	must(t, loop.Create(img, 256<<20))
	dev, err := loop.Attach(t.Context(), img)
	must(t, err)
	defer dev.Close()
	drivertest.Run(t, drivertest.Options{Kind: btrfs.New(), Config: map[string]string{"source": dev.Name()}})
}

func TestConformanceInFolder(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "512MiB"})
	src := filepath.Join(p.Path(driver.Volume{Type: driver.Custom, Name: "x"}), "../..", "inner")
	drivertest.Run(t, drivertest.Options{Kind: btrfs.New(), Config: map[string]string{"source": filepath.Clean(src)}})
	must(t, os.Remove(src))
}

func must(t *testing.T, errors ...error) {
	t.Helper()
	for _, err := range errors {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newPool(t *testing.T, dir string, conf map[string]string) driver.Driver {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "storage-pools"), 0o711), os.MkdirAll(filepath.Join(dir, "disks"), 0o711))
	env := driver.Env{Pool: "x", Dir: dir, Config: conf, Logf: t.Logf}
	must(t, driver.ValidatePool(btrfs.New(), conf), btrfs.New().Validate(t.Context(), env))
	p, err := btrfs.New().New(env)
	must(t, err)
	more, err := p.CreatePool(t.Context())
	must(t, err)
	for k, v := range conf {
		if more[k] == "" {
			more[k] = v
		}
	}
	must(t, p.UpdatePool(t.Context(), more, nil))
	t.Cleanup(func() {
		must(t, p.DeletePool(context.WithoutCancel(t.Context())))
	})
	return p
}

func TestNestedSubvolumesAreCopiedAndRemoved(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "256MiB"})
	ctx := t.Context()
	a := driver.Volume{Type: driver.Container, Name: "a"}
	must(t, p.Create(ctx, a, nil))
	in := filepath.Join(p.Path(a), "rootfs/var")
	must(t, os.MkdirAll(in, 0o755))
	for _, n := range []string{"one", "one/two"} {
		out, err := exec.Command("btrfs", "subvolume", "create", filepath.Join(in, n)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	must(t, os.WriteFile(filepath.Join(in, "one/two/file"), []byte("deep"), 0o600))
	must(t, p.CreateSnapshot(ctx, a.Snapshot("s"), nil), p.Copy(ctx, a.Renamed("b"), a, driver.CopyOpts{}),
		p.Copy(ctx, a.Renamed("c"), a.Snapshot("s"), driver.CopyOpts{}))
	for _, v := range []driver.Volume{a.Snapshot("s"), a.Renamed("b"), a.Renamed("c")} {
		b, err := os.ReadFile(filepath.Join(p.Path(v), "rootfs/var/one/two/file"))
		if err != nil || string(b) != "deep" {
			t.Errorf("%s: %q, %v", v.Name, b, err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.Path(a.Snapshot("s")), "x"), nil, 0o600); err == nil {
		t.Error("the snapshot can be written")
	}
	must(t, p.Restore(ctx, a.Snapshot("s")), p.DeleteSnapshot(ctx, a.Snapshot("s")), p.Delete(ctx, a), p.Close(ctx))
	left, _ := filepath.Glob(filepath.Join(p.Path(a), "../../.sett/*/*"))
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestLimitHoldsAndIsExplained(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "256MiB"})
	ctx := t.Context()
	a := driver.Volume{Type: driver.Container, Name: "a", Config: map[string]string{"size": "10MiB"}}
	must(t, p.Create(ctx, a, nil))
	err := os.WriteFile(filepath.Join(p.Path(a), "big"), make([]byte, 20<<20), 0o600)
	if err == nil {
		// Accounting may lag behind what is not yet written out.
		f, e := os.OpenFile(filepath.Join(p.Path(a), "big"), os.O_WRONLY, 0)
		must(t, e)
		err = f.Sync()
		f.Close()
	}
	if !strings.Contains(driver.Explain(err).Error(), "size limit") {
		t.Errorf("got %v", err)
	}
}

func TestUsageIsWhatAVolumeWroteItself(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "256MiB"})
	ctx := t.Context()
	fill := func(name string, n int) driver.Filler {
		return func(_ context.Context, dir string) error {
			f, err := os.Create(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			defer f.Close()
			if _, err := f.Write(bytes.Repeat([]byte("sett"), n/4)); err != nil {
				return err
			}
			return f.Sync()
		}
	}
	img, a := driver.Volume{Type: driver.Image, Name: "0123"}, driver.Volume{Type: driver.Container, Name: "a"}
	must(t, p.Create(ctx, img, fill("base", 8<<20)), p.Copy(ctx, a, img, driver.CopyOpts{}), fill("own", 2<<20)(ctx, p.Path(a)))
	out, err := exec.Command("btrfs", "filesystem", "sync", p.Path(a)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	u, err := p.Usage(ctx, a)
	if err != nil || u.Used < 2<<20 || u.Used > 3<<20 || u.Total != -1 {
		t.Errorf("usage %+v, %v", u, err)
	}
	all, err := p.UsageAll(ctx)
	if err != nil || all[a.Key()] != u || all[img.Key()].Used < 8<<20 {
		t.Errorf("all: %+v, %v", all, err)
	}
}

func TestFullPoolIsExplainedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "128MiB"})
	big := driver.Volume{Type: driver.Custom, Name: "big"}
	err := p.Create(t.Context(), big, func(_ context.Context, dir string) error {
		f, err := os.Create(filepath.Join(dir, "f"))
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fallocate(int(f.Fd()), 0, 0, 1<<30)
	})
	if err == nil || err.Error() != "The storage pool is full; free some space or make it larger" {
		t.Errorf("got %v", err)
	}
	if ok, _ := p.Exists(t.Context(), big); ok {
		t.Error("the volume is there")
	}
}

func TestPoolGrowsButDoesNotShrink(t *testing.T) {
	t.Parallel()
	p := newPool(t, t.TempDir(), map[string]string{"size": "128MiB"})
	ctx := t.Context()
	must(t, p.UpdatePool(ctx, map[string]string{"size": "256MiB"}, []string{"size"}))
	if r, err := p.Resources(ctx); err != nil || r.SpaceTotal != 256<<20 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := p.UpdatePool(ctx, map[string]string{"size": "128MiB"}, []string{"size"}); !errs.Is(err, errs.KindInvalid) {
		t.Errorf("shrink: %v", err)
	}
}

func TestDeviceWithAFileSystemIsNotOverwritten(t *testing.T) {
	t.Parallel()
	img, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	must(t, loop.Create(img, 128<<20))
	dev, err := loop.Attach(t.Context(), img)
	must(t, err)
	defer dev.Close()
	if out, err := exec.Command("mkfs.ext4", "-q", dev.Name()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p, err := btrfs.New().New(driver.Env{Pool: "x", Dir: dir, Config: map[string]string{"source": dev.Name()}, Logf: t.Logf})
	must(t, err)
	if _, err := p.CreatePool(t.Context()); !errs.Is(err, errs.KindConflict) {
		t.Errorf("got %v", err)
	}
	if out, err := exec.Command("blkid", "-o", "value", "-s", "TYPE", dev.Name()).Output(); strings.TrimSpace(string(out)) != "ext4" {
		t.Errorf("now it holds %q, %v", out, err)
	}
}

// TestAFolderElsewhereIsNotMounted: the file system of a pool may not be there today, and
// nothing is to be written where its place is.
func TestAFolderElsewhereIsNotMounted(t *testing.T) {
	t.Parallel()
	src, dir := t.TempDir(), t.TempDir()
	must(t, unix.Mount("tmpfs", src, "tmpfs", 0, "size=1m"), os.Mkdir(filepath.Join(dir, "storage-pools"), 0o711))
	defer unix.Unmount(src, unix.MNT_DETACH) //nolint:errcheck // then the folder stays
	p, err := btrfs.New().New(driver.Env{Pool: "x", Dir: dir, Config: map[string]string{"source": src}, Logf: t.Logf})
	must(t, err)
	if err := p.MountPool(t.Context()); err == nil || !strings.Contains(err.Error(), "not on a btrfs file system") {
		t.Errorf("got %v", err)
		must(t, p.UnmountPool(t.Context()))
	}
	if es, _ := os.ReadDir(src); len(es) > 0 {
		t.Errorf("written: %v", es)
	}
}
