package instance_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sett/lxd/auth"
	"sett/lxd/container"
	"sett/lxd/container/fake"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/instance"
	"sett/shared/api"
	"sett/shared/errs"
)

// A copy in the pools of these tests takes the one file of a volume and of its snapshots.

func (p *pools) read(v instance.Volume, snapshot string) ([]byte, error) {
	path := filepath.Join(p.at(v), "content")
	if snapshot != "" {
		path = p.snap(v, snapshot)
	}
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) && snapshot == "" {
		err = nil
	}
	return b, err
}

func (p *pools) copySnapshots(dst, src instance.Volume, names []string) error {
	for _, n := range names {
		b, err := p.read(src, n)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(p.snap(dst, n)), 0o700), os.WriteFile(p.snap(dst, n), b, 0o600))
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pools) content(ctx context.Context, dst, src instance.Volume, o instance.CopyOf) error {
	if o.Quiet != nil {
		resume, err := o.Quiet(ctx)
		if err != nil {
			return err
		}
		defer resume()
	}
	if p.during != nil {
		p.during()
	}
	b, err := p.read(src, o.Snapshot)
	if err != nil {
		return err
	}
	if o.Ready != nil {
		if err := o.Ready(ctx, p.at(dst)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(p.at(dst), "content"), b, 0o600)
}

func (p *pools) Copy(ctx context.Context, dst, src instance.Volume, o instance.CopyOf) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.vols[dst]; ok {
		return errs.Conflict("Storage volume %q already exists", dst.Instance)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(p.at(dst), "rootfs"), 0o755), p.copySnapshots(dst, src, o.Snapshots), p.content(ctx, dst, src, o)); err != nil {
		return err
	}
	if err := p.did("copy", dst); err != nil {
		return errors.Join(err, os.RemoveAll(p.at(dst)), os.RemoveAll(filepath.Dir(p.snap(dst, "any"))))
	}
	p.vols[dst] = 0
	return nil
}

func (p *pools) Refresh(ctx context.Context, dst, src instance.Volume, o instance.CopyOf) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("refresh", dst); err != nil {
		return err
	}
	return errors.Join(p.copySnapshots(dst, src, o.Snapshots), p.content(ctx, dst, src, o))
}

func (p *pools) Link(_ context.Context, v instance.Volume) error { return p.did("link", v) }

// copyOf asks for a copy.
func (w *world) copyOf(source, name string, more ...func(*api.InstancesPost)) error {
	return w.copyAs(admin, "default", source, name, more...)
}

func (w *world) copyAs(as auth.Caller, project, source, name string, more ...func(*api.InstancesPost)) error {
	req := api.InstancesPost{Name: name, Source: api.InstanceSource{Type: "copy", Source: source}}
	for _, f := range more {
		f(&req)
	}
	p, err := w.s.PlanCreate(w.t.Context(), as, project, req)
	if err != nil {
		return err
	}
	return w.s.Create(w.t.Context(), p, nil)
}

func refresh(r *api.InstancesPost)   { r.Source.Refresh = true }
func alone(r *api.InstancesPost)     { r.Source.InstanceOnly = true }
func unsettled(r *api.InstancesPost) { r.Source.AllowInconsistent = true }
func intoOther(r *api.InstancesPost) {
	r.Devices = map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "other"}}
}

// holds checks the content of an instance and the names of its snapshots, in rows and on disk.
func (w *world) holds(pool, name, content string, snapshots ...string) []*instance.Snapshot {
	w.t.Helper()
	v := instance.Volume{Pool: pool, Project: "default", Instance: name}
	if b, err := w.pools.read(v, ""); err != nil || string(b) != content || !hasKey(w.pools.vols, v) {
		w.t.Errorf("%s holds %q, %v; want %q", name, b, err, content)
	}
	all, err := w.s.Snapshots(w.t.Context(), w.load(name))
	w.ok(err)
	var got, disk []string
	for _, sn := range all {
		got = append(got, sn.Name)
	}
	ents, _ := os.ReadDir(filepath.Dir(w.pools.snap(v, "any")))
	for _, e := range ents {
		disk = append(disk, e.Name())
	}
	if !slices.Equal(got, snapshots) {
		w.t.Errorf("%s has snapshots %v, want %v", name, got, snapshots)
	}
	want := slices.Sorted(slices.Values(snapshots))
	if !slices.Equal(disk, want) {
		w.t.Errorf("%s has snapshots %v on disk, want %v", name, disk, want)
	}
	return all
}

// original makes c1 with a snapshot and content.
func original(t *testing.T) *world {
	t.Helper()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		twoNICs(r)
		r.Config = map[string]string{"limits.memory": "64MiB", "user.colour": "blue"}
		r.Description = "first"
	}))
	w.write("one")
	at := time.Date(2040, 5, 6, 7, 8, 9, 0, time.UTC)
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s1", Expires: &at}))
	w.write("two")
	return w
}

func TestCopyTakesWhatIsNotTheInstancesOwn(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2", func(r *api.InstancesPost) {
		r.Config = map[string]string{"user.colour": "red", "limits.memory": ""}
		r.Devices = map[string]map[string]string{"b": nic("live", "2")}
	}))
	a, b := w.load("c1"), w.load("c2")
	if b.Config["user.colour"] != "red" || b.Config["image.os"] != "Debian" || b.Devices["b"]["live"] != "2" || b.Devices["a"]["network"] != "n" || len(b.Profiles) != 1 {
		t.Errorf("%v %v %v", b.Config, b.Devices, b.Profiles)
	}
	if _, ok := b.Config["limits.memory"]; ok {
		t.Error("a key with an empty value was taken over")
	}
	for _, k := range []string{"volatile.base_image", "volatile.last_state.idmap"} {
		if b.Config[k] == "" || b.Config[k] != a.Config[k] {
			t.Errorf("%s is %q, that of the source %q", k, b.Config[k], a.Config[k])
		}
	}
	for _, k := range []string{"volatile.uuid", "volatile.cloud-init.instance-id", "volatile.a.hwaddr", "volatile.b.hwaddr"} {
		if b.Config[k] == "" || b.Config[k] == a.Config[k] {
			t.Errorf("%s is %q, that of the source %q", k, b.Config[k], a.Config[k])
		}
	}
	if b.Config["volatile.apply_template"] != "copy" || b.Ephemeral || b.Description != "" {
		t.Errorf("%v, ephemeral %v, %q", b.Config, b.Ephemeral, b.Description)
	}
	was, now := w.snapshots("s1")[0], w.holds("pool", "c2", "two", "s1")[0]
	if !now.Created.Equal(was.Created) || !now.Expires.Equal(was.Expires) || now.Config["user.colour"] != "blue" || now.Devices["a"]["network"] != "n" {
		t.Errorf("snapshot %+v became %+v", was, now)
	}
	// Back at its snapshot it is the source of then, but keeps what is its own.
	w.ok(w.s.Restore(t.Context(), admin, "default", "c2", "s1"))
	c := w.load("c2").Config
	for _, k := range []string{"volatile.uuid", "volatile.cloud-init.instance-id", "volatile.a.hwaddr", "volatile.idmap.next"} {
		if c[k] != b.Config[k] {
			t.Errorf("%s was %q and is %q", k, b.Config[k], c[k])
		}
	}
	if c["user.colour"] != "blue" {
		t.Errorf("restored %v", c)
	}
	w.holds("pool", "c2", "one", "s1")
}

func TestCopyOfASnapshotIsAnInstance(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.update(func(c *instance.Change) { c.Config["user.colour"] = "green" }))
	w.ok(w.copyOf("c1/s1", "c2", func(r *api.InstancesPost) { r.Ephemeral = true; r.Profiles = []string{"default"} }))
	w.holds("pool", "c2", "one")
	if i := w.load("c2"); i.Config["user.colour"] != "blue" || !i.Ephemeral {
		t.Errorf("%v, ephemeral %v", i.Config, i.Ephemeral)
	}
	w.ok(w.copyOf("c1", "c3", alone, intoOther))
	w.holds("other", "c3", "two")
}

func TestCopyIntoAnotherPoolTakesSnapshotsThere(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2", intoOther))
	sn := w.holds("other", "c2", "two", "s1")[0]
	if sn.Devices["root"]["pool"] != "other" || sn.Devices["root"]["type"] != "disk" || sn.Devices["root"]["path"] != "/" {
		t.Errorf("the snapshot's devices are %v", sn.Devices)
	}
	w.ok(w.s.Restore(t.Context(), admin, "default", "c2", "s1"))
	// And back, where the snapshot has a root disk of its own.
	w.ok(w.copyOf("c2", "c3", func(r *api.InstancesPost) {
		r.Devices = map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "pool"}}
	}))
	if sn := w.holds("pool", "c3", "one", "s1")[0]; sn.Devices["root"]["pool"] != "pool" {
		t.Errorf("the snapshot's devices are %v", sn.Devices)
	}
}

func TestRunningSourceHoldsStillUnlessNobodyMinds(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.start("c1"))
	frozen := false
	w.pools.during = func() { frozen = w.guest("c1").State() == container.Frozen }
	w.ok(w.copyOf("c1", "c2"))
	if !frozen {
		t.Error("the guest went on")
	}
	if w.guest("c1").State() == container.Frozen {
		t.Error("the guest stands still")
	}
	w.ok(w.copyOf("c1", "c3", unsettled))
	if frozen {
		t.Error("the guest was held still")
	}
	w.ok(w.copyOf("c1/s1", "c4"))
	if frozen {
		t.Error("the guest was held still for a copy of a snapshot")
	}
	w.is("c1", instance.Running)
}

func TestBadCopiesAreRefused(t *testing.T) {
	t.Parallel()
	w := original(t)
	from := func(f func(*api.InstancesPost)) func(*api.InstancesPost) { return f }
	for _, c := range []struct {
		source, name, want string
		status             int
		more               func(*api.InstancesPost)
	}{
		{"", "c2", "source instance", 400, nil},
		{"no", "c2", "not found", 404, nil},
		{"c1/no", "c2", "not found", 404, nil},
		{"c1", "c1", "busy", 400, nil},
		{"c1", "-", "Invalid", 400, nil},
		{"c1", "c2", "nope", 404, from(func(r *api.InstancesPost) {
			r.Devices = map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "nope"}}
		})},
		{"c1", "c2", "no.such", 400, from(func(r *api.InstancesPost) { r.Config = map[string]string{"no.such": "1"} })},
		{"c1", "c2", "volatile.sett_pending", 400, from(func(r *api.InstancesPost) { r.Config = map[string]string{"volatile.sett_pending": "x"} })},
		{"c1/s1", "c2", "snapshot", 400, refresh},
		{"c1", "c1", "itself", 400, refresh},
	} {
		if c.more == nil {
			c.more = func(*api.InstancesPost) {}
		}
		if c.want == "busy" { // the name is taken
			c.status, c.want = 409, "already exists"
		}
		if err := w.copyOf(c.source, c.name, c.more); errs.Status(err) != c.status || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q as %q: %v", c.source, c.name, err)
		}
	}
	all, err := w.s.List(t.Context(), "")
	w.ok(err)
	if len(all) != 1 || len(w.pools.vols) != 1 {
		t.Errorf("%d instances, volumes %v", len(all), w.pools.vols)
	}
}

// TestCopyGivesNobodyMoreThanHeHas: what an administrator wrote may go with a copy in its
// project, but not into another one.
func TestCopyGivesNobodyMoreThanHeHas(t *testing.T) {
	t.Parallel()
	w := original(t)
	dbtest.Exec(t, w.db, `INSERT INTO projects (name, description) VALUES ('p', '')`)
	dbtest.Exec(t, w.db, `INSERT INTO profiles (project_id, name, description) SELECT id, 'default', '' FROM projects WHERE name = 'p'`)
	w.ok(w.update(func(c *instance.Change) { c.Config["security.privileged"] = "true" }))
	both := auth.Caller{Protocol: "tls", Projects: []string{"default", "p"}}
	only := auth.Caller{Protocol: "tls", Projects: []string{"p"}}
	from := func(r *api.InstancesPost) { r.Source.Project = "default"; intoOther(r) }
	if err := w.copyAs(only, "p", "c1", "c2", from); errs.Status(err) != 403 {
		t.Errorf("from a project that the caller has not: %v", err)
	}
	if err := w.copyAs(both, "p", "c1", "c2", from); errs.Status(err) != 403 || !strings.Contains(err.Error(), "security.privileged") {
		t.Errorf("privileged into another project: %v", err)
	}
	if err := w.copyAs(both, "default", "c1/s1", "c2", func(r *api.InstancesPost) {
		r.Config = map[string]string{"raw.lxc": "lxc.environment = A=b"}
	}); errs.Status(err) != 403 {
		t.Errorf("with more than the source has: %v", err)
	}
	w.ok(w.copyAs(both, "p", "c1", "c2", from, func(r *api.InstancesPost) { r.Config = map[string]string{"security.privileged": ""} }))
	w.ok(w.copyAs(both, "default", "c1", "c3"))
	i, err := w.s.Load(t.Context(), "p", "c2")
	w.ok(err)
	if i.Config["security.privileged"] != "" || w.load("c3").Config["security.privileged"] != "true" {
		t.Errorf("%v", i.Config)
	}
}

func TestFailedStepsOfACopyLeaveNothing(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	for _, at := range []string{"add a", "add b", "copy"} {
		for name, more := range map[string]func(*api.InstancesPost){"here": func(*api.InstancesPost) {}, "there": intoOther} {
			t.Run(at+" "+name, func(t *testing.T) {
				t.Parallel()
				w := original(t)
				joined, _ := w.nics.holds()
				w.nics.fail[at], w.pools.fail[at] = boom, boom
				if err := w.copyOf("c1", "c2", more); err == nil || !strings.Contains(err.Error(), "boom") {
					t.Fatalf("got %v", err)
				}
				if _, err := w.s.Load(t.Context(), "default", "c2"); !errs.Is(err, errs.KindNotFound) {
					t.Errorf("the copy: %v", err)
				}
				if now, _ := w.nics.holds(); now != joined || len(w.pools.vols) != 1 {
					t.Errorf("%d devices joined, volumes %v", now, w.pools.vols)
				}
				if n, err := db.One[int](t.Context(), w.db, "SELECT COUNT(*) FROM instances_snapshots"); err != nil || n != 1 {
					t.Errorf("%d snapshots, %v", n, err)
				}
				w.holds("pool", "c1", "two", "s1")
				delete(w.nics.fail, at)
				delete(w.pools.fail, at)
				w.ok(w.copyOf("c1", "c2", more)) // the next try works
			})
		}
	}
}

// TestKilledCopyIsCleanedUp: the daemon died before the volume had its name, or after.
func TestKilledCopyIsCleanedUp(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{false, true} {
		w := original(t)
		w.ok(w.copyOf("c1", "c2"))
		if w.load("c2").Config["volatile.sett_pending"] != "create" {
			t.Fatal("nothing tells of the copy")
		}
		v := instance.Volume{Pool: "pool", Project: "default", Instance: "c2"}
		if !whole {
			delete(w.pools.vols, v) // its snapshots are there
		}
		w.s.Close()
		w.s = w.service()
		w.ok(w.s.Recover(t.Context()))
		if whole {
			w.holds("pool", "c2", "two", "s1")
			continue
		}
		if _, err := w.s.Load(t.Context(), "default", "c2"); !errs.Is(err, errs.KindNotFound) {
			t.Errorf("the copy: %v", err)
		}
		if _, err := os.Lstat(filepath.Dir(w.pools.snap(v, "any"))); !os.IsNotExist(err) {
			t.Errorf("its snapshots: %v", err)
		}
		w.holds("pool", "c1", "two", "s1")
	}
}

func TestRefreshBringsContentAndSnapshots(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2", refresh)) // there is none yet
	before := w.load("c2")
	w.ok(w.s.DeleteSnapshot(t.Context(), "default", "c1", "s1", nil))
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s1"})) // another one of its name
	w.write("three")
	w.ok(w.snapshot(instance.NewSnapshot{Name: "s2"}))
	_, err := w.s.CreateSnapshot(t.Context(), "default", "c2", instance.NewSnapshot{Name: "own"}, nil)
	w.ok(err)
	w.ok(w.copyOf("c1", "c2", refresh, alone))
	w.holds("pool", "c2", "three", "s1", "own")
	w.ok(w.copyOf("c1", "c2", refresh))
	all := w.holds("pool", "c2", "three", "s1", "s2")
	want := w.snapshots("s1", "s2")
	if !all[0].Created.Equal(want[0].Created) || !all[1].Created.Equal(want[1].Created) {
		t.Errorf("taken at %v and %v", all[0].Created, all[1].Created)
	}
	v := instance.Volume{Pool: "pool", Project: "default", Instance: "c2"}
	if b, _ := w.pools.read(v, "s1"); string(b) != "two" {
		t.Errorf("s1 holds %q", b)
	}
	after := w.load("c2")
	if !maps.Equal(before.Config, after.Config) {
		t.Errorf("was %v\nis %v", before.Config, after.Config)
	}
	w.ok(w.copyOf("c1", "c3", intoOther))
	w.write("four")
	w.ok(w.copyOf("c1", "c3", refresh))
	w.holds("other", "c3", "four", "s1", "s2")
	w.ok(w.start("c2"))
	if err := w.copyOf("c1", "c2", refresh); errs.Status(err) != 400 || !strings.Contains(err.Error(), "running") {
		t.Errorf("refresh of one that runs: %v", err)
	}
}

func TestFailedRefreshKeepsWhatWasThere(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2"))
	_, err := w.s.CreateSnapshot(t.Context(), "default", "c2", instance.NewSnapshot{Name: "own"}, nil)
	w.ok(err)
	w.write("three")
	w.pools.fail["refresh"] = errs.Internal("boom")
	if err := w.copyOf("c1", "c2", refresh); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Fatalf("got %v", err)
	}
	w.holds("pool", "c2", "two", "s1", "own")
	// Ids that are written otherwise on disk are made to fit, or nothing changes.
	dbtest.Exec(t, w.db, `UPDATE instances_config SET value = '[{"Isuid":true,"Isgid":true,"Hostid":1000000,"Nsid":0,"Maprange":65536}]'
		WHERE key = 'volatile.last_state.idmap' AND instance_id = (SELECT id FROM instances WHERE name = 'c1')`)
	if err := w.copyOf("c1", "c2", refresh); err == nil || !strings.Contains(err.Error(), "shifted") {
		t.Errorf("got %v", err)
	}
	w.holds("pool", "c2", "two", "s1", "own")
	w.ok(w.copyOf("c1", "c4"))
	if a, b := w.load("c1").Config, w.load("c4").Config; a["volatile.last_state.idmap"] != b["volatile.last_state.idmap"] {
		t.Errorf("the copy's ids are %q", b["volatile.last_state.idmap"])
	}
}

// TestRefreshByOlderClients: they end it by writing all that the source says, what the
// daemon has noted of it included, over what the copy says.
func TestRefreshByOlderClients(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2", intoOther))
	before := w.load("c2").Config
	w.ok(w.update(func(c *instance.Change) { c.Config["user.colour"] = "green" }))
	w.ok(w.copyOf("c1", "c2", refresh))
	put := func() error {
		i := w.load("c2")
		c := maps.Clone(w.load("c1").Config)
		maps.DeleteFunc(c, func(k, _ string) bool { return strings.HasPrefix(k, "volatile.sett_") })
		return w.s.Update(t.Context(), admin, i, instance.Change{Config: c, Devices: w.load("c1").Devices, Profiles: []string{"default"}})
	}
	w.ok(put())
	after := w.load("c2").Config
	for k, v := range before {
		if strings.HasPrefix(k, "volatile.") && k != "volatile.sett_pending" && after[k] != v {
			t.Errorf("%s was %q and is %q", k, v, after[k])
		}
	}
	if d := w.load("c2").Devices; after["user.colour"] != "green" || d["root"]["pool"] != "other" {
		t.Errorf("%v %v", after, d)
	}
	if err := put(); err == nil || !strings.Contains(err.Error(), "the daemon's own") {
		t.Errorf("without a refresh: %v", err)
	}
}

func (w *world) move(to instance.NewPlace) error {
	return w.s.Move(w.t.Context(), admin, "default", "c1", to, nil)
}

func TestMoveBetweenPools(t *testing.T) {
	t.Parallel()
	w := original(t)
	before := w.load("c1")
	w.ok(w.move(instance.NewPlace{Pool: "other"}))
	w.holds("other", "c1", "two", "s1")
	after := w.load("c1")
	if after.ID != before.ID || after.Devices["root"]["pool"] != "other" || len(w.pools.vols) != 1 {
		t.Errorf("%d %v, volumes %v", after.ID, after.Devices, w.pools.vols)
	}
	delete(before.Config, "volatile.sett_pending")
	if !maps.Equal(before.Config, after.Config) {
		t.Errorf("was %v\nis %v", before.Config, after.Config)
	}
	w.ok(w.s.Restore(t.Context(), admin, "default", "c1", "s1"))
	if err := w.move(instance.NewPlace{Pool: "nope"}); errs.Status(err) != 404 {
		t.Errorf("to a pool that is not there: %v", err)
	}
	w.ok(w.copyOf("c1", "c2"))
	if err := w.move(instance.NewPlace{Pool: "pool", Name: "c2"}); errs.Status(err) != 409 {
		t.Errorf("to a name that is taken: %v", err)
	}
	w.ok(w.start("c1"))
	if err := w.move(instance.NewPlace{Pool: "pool"}); errs.Status(err) != 400 || !strings.Contains(err.Error(), "running") {
		t.Errorf("of one that runs: %v", err)
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.move(instance.NewPlace{Pool: "pool", Name: "c9"}))
	w.holds("pool", "c9", "one", "s1")
	w.ok(w.s.Rename(t.Context(), "default", "c9", "c1", nil))
	w.ok(w.move(instance.NewPlace{Pool: "other", Only: true}))
	w.holds("other", "c1", "one")
	// Into the same pool with another name is a rename.
	w.ok(w.move(instance.NewPlace{Pool: "other", Name: "c8"}))
	w.holds("other", "c8", "one")
}

// TestMoveToTheSamePool copies nothing; from then on the instance says itself where it is.
func TestMoveToTheSamePool(t *testing.T) {
	t.Parallel()
	w := original(t)
	if _, own := w.load("c1").Devices["root"]; own {
		t.Fatal("the profile should say where it is")
	}
	boom := errs.Internal("boom")
	w.pools.fail["copy"] = boom
	w.ok(w.move(instance.NewPlace{Pool: "pool"}))
	w.holds("pool", "c1", "two", "s1")
	if d := w.load("c1").Devices; d["root"]["pool"] != "pool" {
		t.Errorf("devices %v", d)
	}
	w.ok(w.move(instance.NewPlace{Pool: "pool"}))
	w.ok(w.start("c1"))
	if err := w.move(instance.NewPlace{Pool: "pool"}); errs.Status(err) != 400 || !strings.Contains(err.Error(), "running") {
		t.Errorf("of one that runs: %v", err)
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.pools.fail["delete snapshot"] = boom
	if err := w.move(instance.NewPlace{Pool: "pool", Only: true}); !errors.Is(err, boom) {
		t.Errorf("when its snapshots cannot go: %v", err)
	}
	w.holds("pool", "c1", "two", "s1")
	delete(w.pools.fail, "delete snapshot")
	w.ok(w.move(instance.NewPlace{Pool: "pool", Name: "c2", Only: true}))
	w.holds("pool", "c2", "two")
}

func TestFailedStepsOfAMove(t *testing.T) {
	t.Parallel()
	boom := errs.Internal("boom")
	t.Run("copy", func(t *testing.T) {
		t.Parallel()
		w := original(t)
		before := w.load("c1")
		w.pools.fail["copy"] = boom
		if err := w.move(instance.NewPlace{Pool: "other"}); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Fatalf("got %v", err)
		}
		after := w.load("c1")
		w.holds("pool", "c1", "two", "s1")
		delete(before.Config, "volatile.sett_pending")
		if !maps.Equal(before.Config, after.Config) || len(after.Devices) != len(before.Devices) || len(w.pools.vols) != 1 {
			t.Errorf("was %v\nis %v, volumes %v", before.Config, after.Config, w.pools.vols)
		}
		w.ok(w.move(instance.NewPlace{Pool: "other"}))
	})
	for _, at := range []string{"delete", "link"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			w := original(t)
			w.pools.fail[at] = boom
			w.ok(w.move(instance.NewPlace{Pool: "other"})) // what is left goes later
			if !strings.HasPrefix(w.load("c1").Config["volatile.sett_pending"], "move ") {
				t.Error("nothing tells of what is left")
			}
			w.ok(w.start("c1"))
			w.holds("other", "c1", "two", "s1")
			if len(w.pools.vols) != 1 || w.load("c1").Config["volatile.sett_pending"] != "" {
				t.Errorf("volumes %v", w.pools.vols)
			}
		})
	}
	t.Run("rename", func(t *testing.T) {
		t.Parallel()
		w := original(t)
		w.pools.fail["rename"] = boom
		if err := w.move(instance.NewPlace{Pool: "other", Name: "c2"}); err == nil || !strings.Contains(err.Error(), "in pool \"other\" now") {
			t.Fatalf("got %v", err)
		}
		w.holds("other", "c1", "two", "s1")
	})
}

// TestSnapshotIsKeptWhileItIsCopied: its instance goes on, but nobody takes it away.
func TestSnapshotIsKeptWhileItIsCopied(t *testing.T) {
	t.Parallel()
	w := original(t)
	asked := false
	w.pools.during = func() {
		w.pools.during = nil
		asked = true
		w.pools.mu.Unlock() // so that others get on
		defer w.pools.mu.Lock()
		busy := map[string]error{
			"delete of the snapshot": w.s.DeleteSnapshot(t.Context(), "default", "c1", "s1", nil),
			"rename of the snapshot": w.s.RenameSnapshot(t.Context(), "default", "c1", "s1", "s9", nil),
			"delete":                 w.s.Delete(t.Context(), "default", "c1", nil),
			"rename":                 w.s.Rename(t.Context(), "default", "c1", "c9", nil),
			"move":                   w.move(instance.NewPlace{Pool: "other"}),
		}
		for what, err := range busy {
			if err == nil || !strings.Contains(err.Error(), "busy") {
				t.Errorf("%s: %v", what, err)
			}
		}
		w.ok(w.start("c1"))
	}
	w.ok(w.copyOf("c1/s1", "c2"))
	if !asked {
		t.Error("nobody asked")
	}
	w.holds("pool", "c2", "one")
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.s.DeleteSnapshot(t.Context(), "default", "c1", "s1", nil))
	w.ok(w.move(instance.NewPlace{Pool: "other", Name: "c9"}))
}

// TestRefreshOfOneWithoutARootDisk: it lacks one for a while.
func TestRefreshOfOneWithoutARootDisk(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2", alone))
	i := w.load("c2")
	c := maps.Clone(i.Config)
	delete(c, "volatile.sett_pending")
	w.ok(w.s.Update(t.Context(), admin, i, instance.Change{Config: c}))
	w.write("three")
	w.ok(w.copyOf("c1", "c2", refresh))
	w.holds("pool", "c2", "three", "s1")
	if err := w.copyOf("c2", "c3"); errs.Status(err) != 400 || !strings.Contains(err.Error(), "root") {
		t.Errorf("a copy of it: %v", err)
	}
	w.ok(w.copyOf("c2", "c3", intoOther))
	w.holds("other", "c3", "three", "s1")
}

// TestKilledMove: the daemon died before the rows named the new pool, or after.
func TestKilledMove(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{false, true} {
		w := original(t)
		from, into := instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}, instance.Volume{Pool: "other", Project: "default", Instance: "c1"}
		if done {
			w.pools.fail["delete"] = errs.Internal("killed")
			w.ok(w.move(instance.NewPlace{Pool: "other"}))
		} else {
			w.ok(w.pools.Copy(t.Context(), into, from, instance.CopyOf{Snapshots: []string{"s1"}}))
			dbtest.Exec(t, w.db, `UPDATE instances_config SET value = 'move pool/other' WHERE key = 'volatile.sett_pending'`)
		}
		w.s.Close()
		w.s = w.service()
		w.ok(w.s.Recover(t.Context()))
		want, pool := from, "pool"
		if done {
			want, pool = into, "other"
		}
		w.holds(pool, "c1", "two", "s1")
		if len(w.pools.vols) != 1 || !hasKey(w.pools.vols, want) || w.load("c1").Config["volatile.sett_pending"] != "" {
			t.Errorf("volumes %v, %v", w.pools.vols, w.load("c1").Config)
		}
	}
}

// TestWhoWritesSoonAfterARefreshOnly: what is the copy's own is kept from those who end a
// refresh, and not from a change much later.
func TestWhoWritesSoonAfterARefreshOnly(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2"))
	w.ok(w.copyOf("c1", "c2", refresh))
	w.ok(w.s.Start(t.Context(), "default", "c2", nil))
	w.ok(w.s.Stop(t.Context(), "default", "c2", instance.StopOptions{Force: true}, nil))
	i := w.load("c2")
	c := instance.Change{Config: maps.Clone(i.Config), Profiles: []string{"default"},
		Devices: map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "other"}}}
	own(c.Config)
	if err := w.s.Update(t.Context(), admin, i, c); err == nil || !strings.Contains(err.Error(), "move the instance instead") {
		t.Errorf("another pool: %v", err)
	}
}

// TestNobodyReachesFilesThatAreMoved: what is written into the old ones would be lost.
func TestNobodyReachesFilesThatAreMoved(t *testing.T) {
	t.Parallel()
	w := original(t)
	reach := func() error {
		f, err := w.s.OpenFiles(t.Context(), w.load("c1"))
		if err == nil {
			f.Kill() // it is not to wait for the next one
		}
		return err
	}
	asked := false
	w.pools.during = func() {
		asked = true
		w.pools.mu.Unlock() // so that others get on
		defer w.pools.mu.Lock()
		if err := reach(); errs.Status(err) != 503 {
			t.Errorf("in the middle of the move: %v", err)
		}
	}
	w.ok(w.move(instance.NewPlace{Pool: "other"}))
	w.pools.during = nil
	if !asked {
		t.Error("nobody asked")
	}
	w.ok(reach())
	// Who asks before it and gets there after it has the old ones too.
	i := w.load("c1")
	reached, release := w.engine.Hold(fake.Files)
	result := make(chan error, 1)
	go func() {
		_, err := w.s.OpenSnapshotFiles(t.Context(), i, "s1")
		result <- err
	}()
	<-reached
	release()
	w.ok(<-result) // of a snapshot nobody writes
	reached, release = w.engine.Hold(fake.Files)
	go func() {
		_, err := w.s.OpenFiles(t.Context(), i)
		result <- err
	}()
	<-reached
	w.ok(w.move(instance.NewPlace{Pool: "pool"}))
	release()
	if err := <-result; errs.Status(err) != 503 {
		t.Errorf("late: %v", err)
	}
}
