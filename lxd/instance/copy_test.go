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
	p.idle = o.Idle
	p.mu.Unlock() // others get on
	if p.before != nil {
		p.before()
	}
	resume, err := func() {}, error(nil)
	if o.Quiet != nil {
		resume, err = o.Quiet(ctx)
	}
	p.mu.Lock()
	if err != nil {
		return err
	}
	defer resume()
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

// LXD's client sends all that it read of the origin when it refreshes a copy that is not
// there yet.
func TestCopyHasNoNotesOfItsOrigin(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.start("c1"))
	a := w.load("c1")
	w.ok(w.copyOf("c1", "c2", refresh, func(r *api.InstancesPost) { r.Config = maps.Clone(a.Config) }))
	b := w.load("c2")
	for k, v := range a.Config {
		same := k == "volatile.base_image" || k == "volatile.last_state.idmap" || strings.HasPrefix(k, "volatile.idmap.") || k == "volatile.cloud-init.instance-id"
		if strings.HasPrefix(k, "volatile.") && !same && b.Config[k] == v {
			t.Errorf("%s is %q, like that of the origin", k, v)
		}
	}
	if a.Config["volatile.last_state.power"] != "RUNNING" || a.Config["volatile.a.hwaddr"] == "" || b.Config["volatile.a.hwaddr"] == "" {
		t.Errorf("origin %v, copy %v", a.Config, b.Config)
	}
	c := maps.Clone(a.Config) // and once more, to end the refresh
	maps.DeleteFunc(c, func(k, _ string) bool { return strings.HasPrefix(k, "volatile.sett_") })
	w.ok(w.s.Update(t.Context(), admin, b, instance.Change{Config: c, Devices: a.Devices, Profiles: []string{"default"}}))
	now := w.load("c2").Config
	for k, v := range b.Config {
		if strings.HasPrefix(k, "volatile.") && k != "volatile.sett_pending" && now[k] != v {
			t.Errorf("%s was %q and is %q", k, v, now[k])
		}
	}
	if now["volatile.last_state.power"] != "" {
		t.Errorf("the copy is noted as %s", now["volatile.last_state.power"])
	}
}

// TestCopyIsToRunNoMoreThanItsOriginWas: LXD's client looks at the origin first, which may
// have been stopped until its copy is made; the next daemon would start the copy.
func TestCopyIsToRunNoMoreThanItsOriginWas(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.copyOf("c1", "c2"))
	w.ok(w.start("c1"))
	seen := maps.Clone(w.load("c1").Config)
	maps.DeleteFunc(seen, func(k, _ string) bool { return strings.HasPrefix(k, "volatile.sett_") })
	seen["volatile.a.host_name"] = "veth0"
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	for _, to := range []string{"c2", "c3"} { // one that is there, and one that is not
		was := ""
		if to == "c2" {
			was = w.load(to).Config["volatile.last_state.power"]
		}
		w.ok(w.copyOf("c1", to, refresh, func(r *api.InstancesPost) { r.Config = maps.Clone(seen) }))
		for _, when := range []string{"refreshed", "updated"} {
			i := w.load(to)
			if p, host := i.Config["volatile.last_state.power"], i.Config["volatile.a.host_name"]; p != was || host != "" {
				t.Errorf("%s is %s: power %q, interface %q", to, when, p, host)
			}
			if when == "refreshed" {
				w.ok(w.s.Update(t.Context(), admin, i, instance.Change{Config: maps.Clone(seen), Devices: i.Devices, Profiles: []string{"default"}}))
			}
		}
	}
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

// reading are the things that must not happen to c1 while it is read, together with s1.
func (w *world) reading() map[string]error {
	return map[string]error{
		"delete of the snapshot": w.s.DeleteSnapshot(w.t.Context(), "default", "c1", "s1", nil),
		"rename of the snapshot": w.s.RenameSnapshot(w.t.Context(), "default", "c1", "s1", "s9", nil),
		"delete":                 w.s.Delete(w.t.Context(), "default", "c1", nil),
		"rename":                 w.s.Rename(w.t.Context(), "default", "c1", "c9", nil),
		"move":                   w.move(instance.NewPlace{Pool: "other"}),
		"restore":                w.restore("s1"),
		"refresh":                w.copyOf("c0", "c1", refresh),
	}
}

// TestOriginGoesOnWhileItIsCopied: what is read of it stays, and all else may happen.
func TestOriginGoesOnWhileItIsCopied(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]func(*api.InstancesPost){"copy": func(*api.InstancesPost) {}, "refresh": refresh} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := original(t)
			w.ok(w.create("c0"))
			w.ok(w.copyOf("c1", "c2", alone))
			to := "c3"
			if name == "refresh" {
				to = "c2"
			}
			asked := 0
			w.pools.before = func() {
				w.pools.before = nil
				asked++
				for what, err := range w.reading() {
					if err == nil || !strings.Contains(err.Error(), "a copy of it is being made") {
						t.Errorf("%s: %v", what, err)
					}
				}
				w.ok(w.update(func(c *instance.Change) { c.Config["user.colour"] = "green" }))
				w.ok(w.snapshot(instance.NewSnapshot{Name: "s2"}))
				w.ok(w.start("c1"))
				w.ok(w.stop("c1", instance.StopOptions{Force: true}))
				w.ok(w.s.DeleteSnapshot(t.Context(), "default", "c1", "s2", nil))
				w.ok(w.copyOf("c1", "c4"))
				w.write("three")
				w.ok(w.start("c1"))
				w.pools.during = func() {
					asked++
					if w.guest("c1").State() != container.Frozen {
						t.Error("the guest that was started meanwhile goes on")
					}
				}
			}
			w.ok(w.copyOf("c1", to, more))
			if asked != 2 {
				t.Error("nobody asked")
			}
			w.holds("pool", to, "three", "s1")
			w.is("c1", instance.Running)
			w.ok(w.stop("c1", instance.StopOptions{Force: true}))
			if got := w.load("c1").Config["user.colour"]; got != "green" {
				t.Errorf("the change made %q", got)
			}
			w.ok(w.s.DeleteSnapshot(t.Context(), "default", "c1", "s1", nil))
			w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
		})
	}
}

// TestWhoComesWhileAnOriginStandsStillWaits: it is over in a moment.
func TestWhoComesWhileAnOriginStandsStillWaits(t *testing.T) {
	t.Parallel()
	w := original(t)
	w.ok(w.start("c1"))
	came := make(chan error, 3)
	w.pools.during = func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.s.Stop(ctx, "default", "c1", instance.StopOptions{Force: true}, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("who gives up meanwhile: %v", err)
		}
		go func() { came <- w.update(func(c *instance.Change) { c.Config["user.colour"] = "green" }) }()
		go func() { came <- w.s.Freeze(t.Context(), "default", "c1", nil) }()
	}
	w.ok(w.copyOf("c1", "c2"))
	for range 2 {
		if err := <-came; err != nil && !strings.Contains(err.Error(), "busy: update") && !strings.Contains(err.Error(), "busy: freeze") {
			t.Error(err) // the two may meet each other
		}
	}
}

// TestWhoComesWhileACopyBeginsWaits: the copy has the lock of its origin until it has noted
// what it reads, and that is no reason to turn somebody away.
func TestWhoComesWhileACopyBeginsWaits(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]func(*api.InstancesPost){"copy": func(*api.InstancesPost) {}, "refresh": refresh} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := original(t)
			to := "c3"
			if name == "refresh" {
				to = "c2"
			}
			w.ok(w.copyOf("c1", "c2"))
			c1 := w.load("c1")
			// What an earlier move has left is removed at that moment, and takes long.
			dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', 'move pool/other' FROM instances WHERE name = 'c1'`)
			w.pools.mu.Lock()
			came := make(chan error, 1)
			go func() { came <- w.copyOf("c1", to, more) }()
			held := false
			for n := 0; n < 2500 && !held; n++ {
				if _, held = w.locks.Holder(c1.Ref()); !held {
					<-time.After(2 * time.Millisecond)
				}
			}
			if !held {
				w.pools.mu.Unlock()
				t.Fatal("the copy does not begin")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			if err := w.s.Start(ctx, "default", "c1", nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("who comes meanwhile: %v", err)
			}
			w.pools.mu.Unlock()
			w.ok(<-came)
			w.ok(w.start("c1"))
		})
	}
}

// TestACopyHearsOfAllWhoMayWriteToItsOrigin, and of nobody else: it looks at the origin once
// more for each of them.
func TestACopyHearsOfAllWhoMayWriteToItsOrigin(t *testing.T) {
	t.Parallel()
	opened := func(w *world) error {
		f, err := w.s.OpenFiles(t.Context(), w.load("c1"))
		if err == nil {
			f.Kill()
		}
		return err
	}
	for what, c := range map[string]struct {
		do   func(w *world) error
		idle bool
	}{
		"nothing":    {func(*world) error { return nil }, true},
		"a change":   {func(w *world) error { return w.update(func(c *instance.Change) { c.Config["user.colour"] = "green" }) }, true},
		"a snapshot": {func(w *world) error { return w.snapshot(instance.NewSnapshot{Name: "s2"}) }, true},
		"the files of a snapshot": {func(w *world) error {
			f, err := w.s.OpenSnapshotFiles(t.Context(), w.load("c1"), "s1")
			if err == nil {
				f.Kill()
			}
			return err
		}, true},
		"another copy": {func(w *world) error { return w.copyOf("c1", "c4") }, true},
		"an export":    {func(w *world) error { _, err := w.backup(instance.NewBackup{Compression: "none"}); return err }, true},
		"its files":    {opened, false},
		"its templates": {func(w *world) error {
			_, release, err := w.s.Volume(t.Context(), w.load("c1"))
			if err == nil {
				release()
			}
			return err
		}, false},
		"a start": {func(w *world) error { return w.start("c1") }, false},
		"a start and a stop": {func(w *world) error {
			return errors.Join(w.start("c1"), w.stop("c1", instance.StopOptions{Force: true}))
		}, false},
		"a start that fails": {func(w *world) error {
			w.engine.Fail(fake.Start, errs.Internal("boom"))
			if err := w.start("c1"); err == nil {
				return errs.Internal("it started")
			}
			return nil
		}, false},
	} {
		for name, more := range map[string]func(*api.InstancesPost){"copy": func(*api.InstancesPost) {}, "refresh": refresh} {
			w := original(t)
			w.ok(os.MkdirAll(filepath.Join(w.pools.mounted(instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}, "s1"), "rootfs"), 0o755))
			if name == "refresh" {
				w.ok(w.copyOf("c1", "c2"))
			}
			w.pools.before = func() {
				w.pools.before = nil
				idle := w.pools.idle
				if idle == nil || !idle() {
					t.Errorf("%s: it is not idle from the start", name)
				} else if err := c.do(w); err != nil || idle() != c.idle {
					t.Errorf("%s, %s: idle %v, %v", name, what, idle(), err)
				}
			}
			w.ok(w.copyOf("c1", "c2", more))
			if w.pools.before != nil {
				t.Error("nobody asked")
			}
		}
	}
	// Who can write already may do so at any time.
	w := original(t)
	w.pools.before = func() {
		if w.pools.idle != nil {
			t.Error("the origin is taken to be idle")
		}
	}
	w.ok(w.start("c1"))
	w.ok(w.copyOf("c1", "c2"))
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	f, err := w.s.OpenFiles(t.Context(), w.load("c1"))
	w.ok(err)
	w.ok(w.copyOf("c1", "c3"))
	f.Kill()
}

// TestFailedCopyLetsGoOfItsOrigin, whichever step it is that fails.
func TestFailedCopyLetsGoOfItsOrigin(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"copy", "refresh"} {
		w := original(t)
		more := func(*api.InstancesPost) {}
		if at == "refresh" {
			w.ok(w.copyOf("c1", "c2"))
			more = refresh
		}
		w.ok(w.start("c1"))
		w.pools.fail[at] = errs.Internal("boom")
		if err := w.copyOf("c1", "c2", more); err == nil || !strings.Contains(err.Error(), "boom") {
			t.Fatalf("got %v", err)
		}
		w.ok(w.stop("c1", instance.StopOptions{Force: true}))
		w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	}
	w := original(t)
	p, err := w.s.PlanCreate(t.Context(), admin, "default", api.InstancesPost{Name: "c2", Source: api.InstanceSource{Type: "copy", Source: "c1"}})
	w.ok(err)
	p.Drop()
	w.ok(w.copyOf("c1", "c2"))
	p, err = w.s.PlanCreate(t.Context(), admin, "default", api.InstancesPost{Name: "c2", Source: api.InstanceSource{Type: "copy", Source: "c1", Refresh: true}})
	w.ok(err)
	p.Drop()
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
}

// TestEphemeralOriginStaysUntilItIsCopied, whether somebody stops it or it ends by itself.
func TestEphemeralOriginStaysUntilItIsCopied(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) { r.Ephemeral = true }))
	w.write("one")
	w.ok(w.start("c1"))
	w.pools.before = func() {
		if err := w.stop("c1", instance.StopOptions{Force: true}); err == nil || !strings.Contains(err.Error(), "a copy of it is being made") {
			t.Errorf("stop: %v", err)
		}
		w.is("c1", instance.Running)
		w.guest("c1").Halt()
		w.is("c1", instance.Stopped)
	}
	w.ok(w.copyOf("c1", "c2"))
	w.holds("pool", "c2", "one")
	w.vanishes("c1")
}

// TestEphemeralOriginThatIsToStayDoes: while it waits for the end of its copy, it can be
// changed like any other.
func TestEphemeralOriginThatIsToStayDoes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) { r.Ephemeral = true }))
	w.ok(w.start("c1"))
	w.pools.before = func() {
		w.guest("c1").Halt()
		w.is("c1", instance.Stopped)
		err := errors.New("not tried")
		for range 500 { // whoever watched it looks at it for a moment
			if err = w.update(func(c *instance.Change) { c.Ephemeral = false }); err == nil {
				return
			}
			<-time.After(2 * time.Millisecond)
		}
		t.Error(err)
	}
	w.ok(w.copyOf("c1", "c2"))
	for range 50 { // whoever watched it has woken up by then
		if w.load("c1").Ephemeral {
			t.Fatal("it is ephemeral")
		}
		<-time.After(2 * time.Millisecond)
	}
}

func TestWhatIsCopiedIsNotRebuilt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.write("one")
	w.pools.before = func() {
		if err := w.rebuild(alpine); err == nil || !strings.Contains(err.Error(), "a copy of it is being made") {
			t.Errorf("rebuild: %v", err)
		}
	}
	w.ok(w.copyOf("c1", "c2"))
	w.holds("pool", "c2", "one")
	w.ok(w.rebuild(alpine))
}
