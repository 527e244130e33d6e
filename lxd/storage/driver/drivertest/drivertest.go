// Package drivertest is the suite that every storage driver passes, fakes included.
package drivertest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// Options say how to run the suite.
type Options struct {
	Kind driver.Kind
	// Config of the pool under test.
	Config map[string]string
	// Dir is used as LXD_DIR; empty: a temporary one.
	Dir string
}

// Run runs the suite on pools that it makes and deletes.
func Run(t *testing.T, o Options) {
	t.Helper()
	for _, c := range []struct {
		name string
		f    func(*testing.T, *pool)
	}{
		{"CreateFillsTheVolume", createFills},
		{"CreateThatFailsLeavesNothing", createFails},
		{"CancelledCreateLeavesNothing", createCancelled},
		{"CopyIsIndependent", copyIndependent},
		{"CopyTakesSnapshotsAlong", copySnapshots},
		{"CopyHoldsWritersStill", copyQuiet},
		{"SnapshotsCanComeFromElsewhere", foreignSnapshots},
		{"ShowsOneMomentOrTheVolumeItself", show},
		{"SnapshotKeepsTheOldContent", snapshot},
		{"SnapshotHoldsWritersStill", quiet},
		{"RestoreBringsTheOldContentBack", restore},
		{"RefreshReplacesTheContent", refresh},
		{"ReplaceShowsTheOldContentUntilItIsDone", replace},
		{"RenameMovesSnapshotsAndMayBeRepeated", rename},
		{"DeleteRefusesWhileThereAreSnapshots", deleteRefuses},
		{"NamesCannotLeaveThePool", names},
		{"ProjectsAreKeptApart", projects},
		{"QuotaShowsInUsage", quota},
		{"LeftOversGoAtTheNextMount", leftovers},
		{"PoolGoesWithoutTrace", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPool(t, o)
			if c.f != nil {
				c.f(t, p)
			}
		})
	}
}

type pool struct {
	driver.Driver
	ctx  context.Context
	dir  string
	conf map[string]string
	o    Options
}

func newPool(t *testing.T, o Options) *pool {
	t.Helper()
	ctx := t.Context()
	dir := o.Dir
	if dir == "" {
		dir = t.TempDir()
	}
	for _, d := range []string{"storage-pools", "disks"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	p := &pool{ctx: ctx, dir: dir, o: o, conf: map[string]string{}}
	for k, v := range o.Config {
		p.conf[k] = v
	}
	env := driver.Env{Pool: "p" + strconv.Itoa(os.Getpid()), Config: p.conf, Dir: dir, Logf: t.Logf}
	if err := driver.ValidatePool(o.Kind, p.conf); err != nil {
		t.Fatal(err)
	}
	d, err := o.Kind.New(env)
	if err != nil {
		t.Fatal(err)
	}
	p.Driver = d
	more, err := d.CreatePool(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range more {
		p.conf[k] = v
	}
	if err := d.UpdatePool(ctx, p.conf, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		if err := d.DeletePool(ctx); err != nil {
			t.Errorf("delete pool: %v", err)
		}
		for _, sub := range []string{"storage-pools", "disks"} {
			if es, _ := os.ReadDir(filepath.Join(dir, sub)); len(es) > 0 {
				t.Errorf("%s is left in %s", es[0].Name(), sub)
			}
		}
	})
	return p
}

func vol(name string) driver.Volume {
	return driver.Volume{Type: driver.Container, Content: driver.Filesystem, Project: "default", Name: name}
}

func write(text string) driver.Filler {
	return func(_ context.Context, dir string) error {
		if err := os.MkdirAll(filepath.Join(dir, driver.Rootfs), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, driver.Rootfs, "file"), []byte(text), 0o644)
	}
}

func (p *pool) put(t *testing.T, v driver.Volume, text string) {
	t.Helper()
	if err := write(text)(p.ctx, p.Path(v)); err != nil {
		t.Fatal(err)
	}
}

func (p *pool) want(t *testing.T, v driver.Volume, text string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.Path(v), driver.Rootfs, "file"))
	if err != nil || string(b) != text {
		t.Fatalf("%s holds %q, %v; want %q", v.Name, b, err, text)
	}
}

func (p *pool) absent(t *testing.T, v driver.Volume) {
	t.Helper()
	if ok, err := p.Exists(p.ctx, v); ok || err != nil {
		t.Fatalf("%s: there %v, %v", v.Name, ok, err)
	}
	// Nothing half-made is left either, once the garbage is gone.
	if err := p.Close(p.ctx); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(p.dir, "storage-pools", "p"+strconv.Itoa(os.Getpid()))
	for _, d := range []string{"new", "trash"} {
		if es, _ := os.ReadDir(filepath.Join(root, ".sett", d)); len(es) > 0 {
			t.Fatalf("%s is left in %s", es[0].Name(), d)
		}
	}
}

func must(t *testing.T, errors ...error) {
	t.Helper()
	for _, err := range errors {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func createFills(t *testing.T, p *pool) {
	v := vol("a")
	must(t, p.Create(p.ctx, v, write("one")), p.Mount(p.ctx, v), p.Mount(p.ctx, v))
	p.want(t, v, "one")
	must(t, p.Unmount(p.ctx, v), p.Unmount(p.ctx, v), p.Unmount(p.ctx, v))
	if err := p.Create(p.ctx, v, nil); !errs.Is(err, errs.KindConflict) {
		t.Errorf("second create: %v", err)
	}
	vs, err := p.List(p.ctx, driver.Container)
	if err != nil || len(vs) != 1 || vs[0].Name != "a" || vs[0].Project != "default" {
		t.Errorf("list: %v, %v", vs, err)
	}
	must(t, p.Delete(p.ctx, v), p.Delete(p.ctx, v))
	p.absent(t, v)
	if err := p.Mount(p.ctx, v); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("mount of nothing: %v", err)
	}
}

func createFails(t *testing.T, p *pool) {
	boom := errors.New("boom")
	err := p.Create(p.ctx, vol("a"), func(ctx context.Context, dir string) error {
		return errors.Join(write("half")(ctx, dir), boom)
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	p.absent(t, vol("a"))
	if err := p.Copy(p.ctx, vol("b"), vol("a"), driver.CopyOpts{}); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("copy of nothing: %v", err)
	}
	p.absent(t, vol("b"))
	if err := p.CreateSnapshot(p.ctx, vol("a/s"), nil); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("snapshot of nothing: %v", err)
	}
}

func createCancelled(t *testing.T, p *pool) {
	ctx, cancel := context.WithCancel(p.ctx)
	err := p.Create(ctx, vol("a"), func(ctx context.Context, dir string) error {
		defer cancel()
		return write("half")(ctx, dir)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.absent(t, vol("a"))
}

func copyIndependent(t *testing.T, p *pool) {
	img := driver.Volume{Type: driver.Image, Name: "0123abcd"}
	must(t, p.Create(p.ctx, img, write("image")), p.Copy(p.ctx, vol("a"), img, driver.CopyOpts{}))
	p.want(t, vol("a"), "image")
	p.put(t, vol("a"), "mine")
	p.want(t, img, "image")
	must(t, p.Delete(p.ctx, img))
	p.want(t, vol("a"), "mine")
	must(t, p.Delete(p.ctx, vol("a")))
}

func copySnapshots(t *testing.T, p *pool) {
	a, b := vol("a"), vol("b")
	must(t, p.Create(p.ctx, a, write("one")), p.CreateSnapshot(p.ctx, a.Snapshot("s1"), nil))
	p.put(t, a, "two")
	must(t, p.Copy(p.ctx, b, a, driver.CopyOpts{Snapshots: []string{"s1"}}))
	p.want(t, b, "two")
	p.want(t, b.Snapshot("s1"), "one")
	// A copy of a snapshot is a volume that can be written.
	must(t, p.Copy(p.ctx, vol("c"), a.Snapshot("s1"), driver.CopyOpts{}))
	p.put(t, vol("c"), "three")
	// One that fails midway leaves nothing.
	if err := p.Copy(p.ctx, vol("d"), a, driver.CopyOpts{Snapshots: []string{"s1", "no"}}); err == nil {
		t.Error("copy with a missing snapshot worked")
	}
	p.absent(t, vol("d"))
	p.absent(t, vol("d/s1"))
}

func snapshot(t *testing.T, p *pool) {
	a := vol("a")
	must(t, p.Create(p.ctx, a, write("one")), p.CreateSnapshot(p.ctx, a.Snapshot("s1"), nil))
	p.put(t, a, "two")
	must(t, p.CreateSnapshot(p.ctx, a.Snapshot("s2"), nil))
	p.want(t, a.Snapshot("s1"), "one")
	p.want(t, a.Snapshot("s2"), "two")
	if err := p.CreateSnapshot(p.ctx, a.Snapshot("s1"), nil); !errs.Is(err, errs.KindConflict) {
		t.Errorf("second snapshot of a name: %v", err)
	}
	if err := p.RenameSnapshot(p.ctx, a.Snapshot("s1"), "s2"); !errs.Is(err, errs.KindConflict) {
		t.Errorf("rename onto another: %v", err)
	}
	if err := p.RenameSnapshot(p.ctx, a.Snapshot("no"), "s3"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("rename of nothing: %v", err)
	}
	must(t, p.RenameSnapshot(p.ctx, a.Snapshot("s1"), "old"))
	got, err := p.ListSnapshots(p.ctx, a)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"old", "s2"}) {
		t.Errorf("snapshots %v, %v", got, err)
	}
	must(t, p.DeleteSnapshot(p.ctx, a.Snapshot("old")), p.DeleteSnapshot(p.ctx, a.Snapshot("old")),
		p.DeleteSnapshot(p.ctx, a.Snapshot("s2")), p.Delete(p.ctx, a))
	p.absent(t, a)
}

func quiet(t *testing.T, p *pool) {
	a := vol("a")
	must(t, p.Create(p.ctx, a, write("one")))
	w := &writer{p: p, v: a}
	must(t, p.CreateSnapshot(p.ctx, a.Snapshot("s1"), w.quiet))
	p.want(t, a.Snapshot("s1"), w.last)
	w.check(t)
	// Where there is nothing to take they go on all the same.
	if err := p.CreateSnapshot(p.ctx, a.Snapshot("s1"), w.quiet); !errs.Is(err, errs.KindConflict) {
		t.Errorf("second snapshot of a name: %v", err)
	}
	if w.held == 0 || w.held != w.resumed {
		t.Errorf("held still %d times, resumed %d times", w.held, w.resumed)
	}
	busy := errs.Internal("they do not stop")
	if err := p.CreateSnapshot(p.ctx, a.Snapshot("s2"), func(context.Context) (func(), error) { return nil, busy }); !errors.Is(err, busy) {
		t.Errorf("got %v", err)
	}
	if got, err := p.ListSnapshots(p.ctx, a); err != nil || !slices.Equal(got, []string{"s1"}) {
		t.Errorf("snapshots %v, %v", got, err)
	}
}

func restore(t *testing.T, p *pool) {
	a := vol("a")
	must(t, p.Create(p.ctx, a, write("one")), p.CreateSnapshot(p.ctx, a.Snapshot("s1"), nil))
	p.put(t, a, "two")
	must(t, p.Restore(p.ctx, a.Snapshot("s1")))
	p.want(t, a, "one")
	p.put(t, a, "three")
	p.want(t, a.Snapshot("s1"), "one")
	if err := p.Restore(p.ctx, a.Snapshot("no")); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("restore of nothing: %v", err)
	}
	p.want(t, a, "three")
}

func copyQuiet(t *testing.T, p *pool) {
	a := vol("a")
	must(t, p.Create(p.ctx, a, write("one")))
	w := &writer{p: p, v: a}
	must(t, p.Copy(p.ctx, vol("b"), a, driver.CopyOpts{Quiet: w.quiet}))
	p.want(t, vol("b"), w.last)
	w.check(t)
	p.put(t, vol("b"), "mine")
	w = &writer{p: p, v: a}
	must(t, p.Refresh(p.ctx, vol("b"), a, driver.CopyOpts{Quiet: w.quiet}))
	p.want(t, vol("b"), w.last)
	w.check(t)
	p.put(t, vol("b"), "two")
	p.put(t, a, "three")
	busy := errs.Internal("they do not stop")
	no := driver.CopyOpts{Quiet: func(context.Context) (func(), error) { return nil, busy }}
	if err := errors.Join(p.Copy(p.ctx, vol("c"), a, no), p.Refresh(p.ctx, vol("b"), a, no)); !errors.Is(err, busy) {
		t.Errorf("got %v", err)
	}
	p.absent(t, vol("c"))
	p.want(t, vol("b"), "two")
	// What is to be done last fails.
	boom := errors.New("boom")
	bad := driver.CopyOpts{Ready: func(_ context.Context, dir string) error {
		if b, err := os.ReadFile(filepath.Join(dir, driver.Rootfs, "file")); err != nil || string(b) != "three" {
			t.Errorf("ready with %q, %v", b, err)
		}
		return boom
	}}
	if err := p.Copy(p.ctx, vol("c"), a, bad); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if err := p.Refresh(p.ctx, vol("b"), a, bad); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	p.absent(t, vol("c"))
	p.want(t, vol("b"), "two")
	ctx, cancel := context.WithCancel(p.ctx)
	cancel()
	if err := p.Copy(ctx, vol("c"), a, driver.CopyOpts{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.absent(t, vol("c"))
}

func foreignSnapshots(t *testing.T, p *pool) {
	a, b := vol("a"), vol("b")
	must(t, p.Create(p.ctx, a.Snapshot("s1"), write("one")), p.Create(p.ctx, a, write("two")))
	if err := p.Create(p.ctx, a.Snapshot("s1"), nil); !errs.Is(err, errs.KindConflict) {
		t.Errorf("second snapshot of a name: %v", err)
	}
	boom := errors.New("boom")
	err := p.Create(p.ctx, vol("c/s"), func(context.Context, string) error { return boom })
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	p.absent(t, vol("c/s"))
	must(t, p.Restore(p.ctx, a.Snapshot("s1")))
	p.want(t, a, "one")
	must(t, p.Create(p.ctx, b, write("other")), p.Copy(p.ctx, b.Snapshot("s1"), a.Snapshot("s1"), driver.CopyOpts{}))
	p.want(t, b.Snapshot("s1"), "one")
	p.want(t, b, "other")
	got, err := p.ListSnapshots(p.ctx, b)
	if err != nil || !slices.Equal(got, []string{"s1"}) {
		t.Errorf("snapshots %v, %v", got, err)
	}
	must(t, p.DeleteSnapshot(p.ctx, b.Snapshot("s1")), p.Delete(p.ctx, b))
	p.absent(t, b)
}

func show(t *testing.T, p *pool) {
	a := vol("a")
	must(t, p.Create(p.ctx, a, write("one")))
	read := func(view driver.View) string {
		b, err := os.ReadFile(filepath.Join(view.Dir, driver.Rootfs, "file"))
		must(t, err)
		return string(b)
	}
	view, err := p.Show(p.ctx, a, nil)
	must(t, err)
	if got := read(view); got != "one" || view.Dir != p.Path(a) || view.Quiet != nil {
		t.Errorf("holds %q in %s", got, view.Dir)
	}
	view.Release()
	w := &writer{p: p, v: a}
	view, err = p.Show(p.ctx, a, w.quiet)
	must(t, err)
	if view.Quiet == nil { // a copy of one moment
		p.put(t, a, "later")
		if got := read(view); got != w.last || view.Dir == p.Path(a) {
			t.Errorf("holds %q in %s", got, view.Dir)
		}
	} else if view.Dir != p.Path(a) || w.held != 0 {
		t.Errorf("shows %s, held still %d times", view.Dir, w.held)
	}
	view.Release()
	w.check(t)
	busy := errs.Internal("they do not stop")
	if view, err := p.Show(p.ctx, a, func(context.Context) (func(), error) { return nil, busy }); err == nil && view.Quiet == nil || err != nil && !errors.Is(err, busy) {
		t.Errorf("got %v", err)
	}
	if _, err := p.Show(p.ctx, vol("no"), w.quiet); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	p.absent(t, vol("no"))
	must(t, p.Close(p.ctx))
	if left, err := os.ReadDir(filepath.Join(filepath.Dir(filepath.Dir(p.Path(a))), ".sett/new")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// writer writes to a volume until it is held still and as soon as it may again. What it
// writes has the same length and the same time whenever it is written.
type writer struct {
	p             *pool
	v             driver.Volume
	held, resumed int
	last          string // what it wrote before it stood still for the last time
}

func (w *writer) write() error {
	w.last = "number " + strconv.Itoa(w.held+w.resumed)
	file := filepath.Join(w.p.Path(w.v), driver.Rootfs, "file")
	return errors.Join(os.WriteFile(file, []byte(w.last), 0o644), os.Chtimes(file, time.Unix(1e9, 0), time.Unix(1e9, 0)))
}

func (w *writer) quiet(context.Context) (func(), error) {
	err := w.write()
	w.held++
	last := w.last
	return func() {
		w.resumed++
		if err := w.write(); err != nil {
			panic(err)
		}
		w.last = last
	}, err
}

func (w *writer) check(t *testing.T) {
	t.Helper()
	if w.held != w.resumed || w.held > 2 {
		t.Errorf("held still %d times, resumed %d times", w.held, w.resumed)
	}
}

func replace(t *testing.T, p *pool) {
	a := vol("a")
	must(t, p.Create(p.ctx, a, write("one")), p.CreateSnapshot(p.ctx, a.Snapshot("s"), nil))
	must(t, p.Replace(p.ctx, a, func(ctx context.Context, dir string) error {
		p.want(t, a, "one")
		return write("two")(ctx, dir)
	}))
	p.want(t, a, "two")
	p.want(t, a.Snapshot("s"), "one")
	boom := errors.New("boom")
	err := p.Replace(p.ctx, a, func(ctx context.Context, dir string) error {
		return errors.Join(write("half")(ctx, dir), boom)
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	p.want(t, a, "two")
	if err := p.Replace(p.ctx, vol("no"), nil); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	p.absent(t, vol("no"))
}

func refresh(t *testing.T, p *pool) {
	must(t, p.Create(p.ctx, vol("a"), write("one")), p.Create(p.ctx, vol("b"), write("old")))
	must(t, p.Refresh(p.ctx, vol("b"), vol("a"), driver.CopyOpts{}))
	p.want(t, vol("b"), "one")
	p.put(t, vol("b"), "two")
	p.want(t, vol("a"), "one")
	// A volume that is changed in a copy of itself.
	boom := errors.New("boom")
	change := func(err error) driver.CopyOpts {
		return driver.CopyOpts{Ready: func(ctx context.Context, dir string) error { return errors.Join(write("changed")(ctx, dir), err) }}
	}
	if err := p.Refresh(p.ctx, vol("a"), vol("a"), change(boom)); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	p.want(t, vol("a"), "one")
	must(t, p.Refresh(p.ctx, vol("a"), vol("a"), change(nil)))
	p.want(t, vol("a"), "changed")
}

func rename(t *testing.T, p *pool) {
	a, b := vol("a"), vol("b")
	must(t, p.Create(p.ctx, a, write("one")), p.CreateSnapshot(p.ctx, a.Snapshot("s"), nil), p.Rename(p.ctx, a, "b"))
	p.want(t, b, "one")
	p.want(t, b.Snapshot("s"), "one")
	must(t, p.Rename(p.ctx, a, "b")) // it may have been interrupted after the last step
	must(t, p.Create(p.ctx, a, nil))
	if err := p.Rename(p.ctx, a, "b"); !errs.Is(err, errs.KindConflict) {
		t.Errorf("onto another: %v", err)
	}
	if err := p.Rename(p.ctx, vol("x"), "y"); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}

func deleteRefuses(t *testing.T, p *pool) {
	a := vol("a")
	must(t, p.Create(p.ctx, a, write("one")), p.CreateSnapshot(p.ctx, a.Snapshot("s"), nil))
	if err := p.Delete(p.ctx, a); !errs.Is(err, errs.KindConflict) {
		t.Errorf("got %v", err)
	}
	p.want(t, a, "one")
	p.want(t, a.Snapshot("s"), "one")
}

func names(t *testing.T, p *pool) {
	for _, n := range []string{"", "..", "../x", "a/../../x", "/etc", "a/b/c", ".hidden", "a\x00b"} {
		if err := p.Create(p.ctx, vol(n), nil); err == nil {
			t.Errorf("create %q worked", n)
		}
		if err := p.Delete(p.ctx, vol(n)); err == nil {
			t.Errorf("delete %q worked", n)
		}
		if err := p.Rename(p.ctx, vol("a"), n); err == nil {
			t.Errorf("rename to %q worked", n)
		}
	}
	vm := vol("a")
	vm.Type = driver.VirtualMachine
	if err := p.Create(p.ctx, vm, nil); !errs.Is(err, errs.KindNotImplemented) {
		t.Errorf("virtual machine: %v", err)
	}
	block := vol("a")
	block.Content = driver.Block
	if err := p.Create(p.ctx, block, nil); !errs.Is(err, errs.KindNotImplemented) {
		t.Errorf("block volume: %v", err)
	}
}

func projects(t *testing.T, p *pool) {
	one, two := vol("a"), vol("a")
	two.Project = "other"
	must(t, p.Create(p.ctx, one, write("one")), p.Create(p.ctx, two, write("two")))
	p.want(t, one, "one")
	p.want(t, two, "two")
	must(t, p.Delete(p.ctx, one))
	p.want(t, two, "two")
	cust := driver.Volume{Type: driver.Custom, Project: "default", Name: "my_data"}
	must(t, p.Create(p.ctx, cust, nil))
	vs, err := p.List(p.ctx, driver.Custom)
	if err != nil || len(vs) != 1 || vs[0].Name != "my_data" || vs[0].Project != "default" {
		t.Errorf("custom: %v, %v", vs, err)
	}
}

func quota(t *testing.T, p *pool) {
	a := vol("a")
	must(t, p.Create(p.ctx, a, write("one")), p.SetQuota(p.ctx, a, 64<<20))
	if ok, why := p.Quota(p.ctx); !ok {
		if why == "" {
			t.Error("no limits, and no reason")
		}
		return
	}
	u, err := p.Usage(p.ctx, a)
	if err != nil || u.Total != 64<<20 {
		t.Fatalf("usage %+v, %v", u, err)
	}
	all, err := p.UsageAll(p.ctx)
	if err != nil || all[a.Key()].Total != 64<<20 {
		t.Fatalf("all %+v, %v", all, err)
	}
	must(t, p.SetQuota(p.ctx, a, 0))
	if u, err := p.Usage(p.ctx, a); err != nil || u.Total != -1 {
		t.Fatalf("usage without a limit %+v, %v", u, err)
	}
	if r, err := p.Resources(p.ctx); err != nil || r.SpaceTotal == 0 {
		t.Errorf("resources %+v, %v", r, err)
	}
}

// leftovers imitates a daemon that was killed: a second driver on the same pool finds
// what the first was making.
func leftovers(t *testing.T, p *pool) {
	must(t, p.Create(p.ctx, vol("keep"), write("one")))
	env := driver.Env{Pool: "p" + strconv.Itoa(os.Getpid()), Config: p.conf, Dir: p.dir, Logf: t.Logf}
	err := p.Create(p.ctx, vol("a"), func(ctx context.Context, dir string) error {
		must(t, write("half")(ctx, dir))
		next, err := p.o.Kind.New(env)
		must(t, err, next.MountPool(p.ctx), next.Close(p.ctx))
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the half-made volume is still there: %v", err)
		}
		// What the own process is making stays.
		must(t, p.MountPool(p.ctx))
		return errors.New("killed")
	})
	if err == nil {
		t.Error("create worked")
	}
	p.want(t, vol("keep"), "one")
	p.absent(t, vol("a"))
}
