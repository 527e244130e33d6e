package instance_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sett/lxd/auth"
	"sett/lxd/cluster/clustertest"
	"sett/lxd/container"
	"sett/lxd/container/fake"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/device"
	"sett/lxd/device/disk"
	"sett/lxd/event"
	"sett/lxd/host/idmap"
	"sett/lxd/host/unpack"
	unpackfake "sett/lxd/host/unpack/fake"
	"sett/lxd/instance"
	"sett/lxd/lock"
	"sett/lxd/op"
	"sett/lxd/profile"
	"sett/shared/api"
	"sett/shared/errs"
)

// admin is who may do all.
var admin = auth.Caller{Protocol: "unix", Admin: true}

// pools is storage in memory: a folder for each volume, and a count of its users.
type pools struct {
	mu     sync.Mutex
	dir    string
	vols   map[instance.Volume]int
	db     *db.DB
	during func() // a snapshot
	fail   map[string]error
	calls  []string
	size   map[instance.Volume]int64
	mounts int
	seen   int                          // users of snapshots
	lost   map[instance.Volume][]string // on disk, and the snapshots of it
	holds  int                          // volumes that are shown as they were
	meet   *sync.WaitGroup              // all who mount wait for each other
}

func (p *pools) did(what string, v instance.Volume) error {
	p.calls = append(p.calls, what+" "+v.Instance)
	err := p.fail[what]
	delete(p.fail, what)
	return err
}

func (p *pools) CheckPool(_ context.Context, name string) error {
	if name != "pool" && name != "other" {
		return errs.NotFound("Storage pool %q not found", name)
	}
	return nil
}

// at is the folder of a volume.
func (p *pools) at(v instance.Volume) string {
	if v.Pool == "pool" {
		return filepath.Join(p.dir, v.Instance)
	}
	return filepath.Join(p.dir, "."+v.Pool, v.Instance)
}

func (p *pools) create(v instance.Volume) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("create", v); err != nil {
		return err
	}
	p.vols[v] = 0
	return os.MkdirAll(filepath.Join(p.at(v), "rootfs"), 0o755)
}
func (p *pools) CreateFromImage(_ context.Context, v instance.Volume, _ string, _ int64) error {
	return p.create(v)
}
func (p *pools) CreateEmpty(_ context.Context, v instance.Volume, _ int64) error { return p.create(v) }
func (p *pools) CreateFilled(ctx context.Context, v instance.Volume, _ int64, fill func(context.Context, string) error) error {
	if err := p.create(v); err != nil {
		return err
	}
	dir := p.at(v)
	err := os.Remove(filepath.Join(dir, "rootfs"))
	if err == nil {
		err = fill(ctx, dir)
	}
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.vols, v)
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}
func (p *pools) Hold(ctx context.Context, v instance.Volume, quiet func(context.Context) (func(), error)) (string, func(), error) {
	if quiet != nil {
		resume, err := quiet(ctx)
		if err != nil {
			return "", nil, err
		}
		resume()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("hold", v); err != nil {
		return "", nil, err
	}
	p.holds++
	return p.at(v), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.holds--
	}, nil
}
func (p *pools) Describe(_ context.Context, name string) (api.StoragePool, error) {
	a := api.StoragePool{Name: name, Driver: "dir", Status: "Created", Locations: []string{"none"}}
	a.Config = map[string]string{"source": p.dir}
	return a, nil
}

// Look finds the folders that lost says are no one's.
func (p *pools) Look(_ context.Context, post api.StoragePoolsPost) (*instance.LostPool, error) {
	out := &instance.LostPool{Pool: post, Close: func() {}, Adopt: func(context.Context, api.StoragePoolsPost) error { return nil }}
	out.Pool.Driver = "dir"
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("look", instance.Volume{}); err != nil {
		return nil, err
	}
	for v, snaps := range p.lost {
		l := instance.LostVolume{Volume: v, Dir: p.at(v), Snapshots: map[string]string{}}
		for _, n := range snaps {
			l.Snapshots[n] = filepath.Join(p.dir, ".none")
		}
		out.Volumes = append(out.Volumes, l)
	}
	return out, nil
}
func (p *pools) Adopt(ctx context.Context, v instance.Volume, _ map[string]time.Time, also func(context.Context, *db.Tx) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("adopt", v); err != nil {
		return err
	}
	if err := p.db.Update(ctx, also); err != nil {
		return err
	}
	delete(p.lost, v)
	p.vols[v] = 0
	return nil
}
func (p *pools) Disown(_ context.Context, v instance.Volume) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.vols, v)
	p.lost[v] = nil
	return nil
}
func (p *pools) Send(context.Context, string, string, string, io.Writer) (string, error) {
	return "", errs.NotImplemented("There is no optimized format")
}
func (p *pools) Receive(context.Context, instance.Volume, int64, []instance.Stream, func(context.Context, string) error) error {
	return errs.NotImplemented("There is no optimized format")
}
func (p *pools) CanSend(context.Context, instance.Volume) error {
	return errs.NotImplemented("There is no optimized format")
}
func (p *pools) CanReceive(context.Context, instance.Volume, string) error {
	return errs.NotImplemented("There is no optimized format")
}
func (p *pools) Exists(_ context.Context, v instance.Volume) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.vols[v]
	return ok, nil
}
func (p *pools) Delete(_ context.Context, v instance.Volume) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("delete", v); err != nil {
		return err
	}
	delete(p.vols, v)
	return errors.Join(os.RemoveAll(p.at(v)), os.RemoveAll(filepath.Dir(p.snap(v, "any"))))
}
func (p *pools) Rename(_ context.Context, v instance.Volume, to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("rename", v); err != nil {
		return err
	}
	n := v
	n.Instance = to
	if _, ok := p.vols[v]; !ok && hasKey(p.vols, n) {
		return nil // as drivers do it
	}
	p.vols[n] = p.vols[v]
	delete(p.vols, v)
	if err := os.Rename(filepath.Dir(p.snap(v, "any")), filepath.Dir(p.snap(n, "any"))); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Rename(p.at(v), p.at(n))
}

func hasKey[K comparable, V any](m map[K]V, k K) bool { _, ok := m[k]; return ok }

func (p *pools) Mount(_ context.Context, v instance.Volume) (string, error) {
	if p.meet != nil {
		p.meet.Done()
		p.meet.Wait()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.did("mount", v); err != nil {
		return "", err
	}
	p.vols[v]++
	return p.at(v), nil
}
func (p *pools) Unmount(_ context.Context, v instance.Volume) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.vols[v]--
	return p.did("unmount", v)
}
func (p *pools) SetSize(_ context.Context, v instance.Volume, n int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size[v] = n
	return p.did("size", v)
}
func (p *pools) Usage(context.Context, []instance.Volume) (map[instance.Volume]int64, error) {
	return map[instance.Volume]int64{}, nil
}

type images struct{}

func (images) Resolve(_ context.Context, _ string, src api.InstanceSource) (instance.Image, error) {
	switch {
	case src.Alias == "alpine" || src.Fingerprint == "def":
		return instance.Image{Fingerprint: "def", Architecture: "i686", Type: "container", Properties: map[string]string{"os": "Alpine", "release": "3"}}, nil
	case src.Alias == "arm":
		return instance.Image{Fingerprint: "fff", Architecture: "aarch64"}, nil
	case src.Alias != "debian":
		return instance.Image{}, errs.NotFound("Image %q not found", src.Alias)
	}
	return instance.Image{Fingerprint: "abc", Architecture: "x86_64", Type: "container", Properties: map[string]string{"os": "Debian"}}, nil
}
func (images) Used(context.Context, string, string) error { return nil }

type ids struct{}

func (ids) Map() (idmap.Map, error) {
	return idmap.Map{{UID: true, HostID: 1000000, Range: 1 << 20}, {GID: true, HostID: 1000000, Range: 1 << 20}}, nil
}
func (ids) Mountable(context.Context, string) bool { return true }
func (ids) Shift(context.Context, string, idmap.Map, idmap.Map) error {
	return errs.Internal("shifted")
}

type world struct {
	t      *testing.T
	db     *db.DB
	s      *instance.Service
	engine *fake.Engine
	pools  *pools
	nics   *cards
	events *event.Subscription
	dir    string
	pause  func(int) time.Duration
	member *clustertest.Member // nil on a server that stands alone
	ops    *op.Manager
	broken func(unpack.Image) error // breaks unpacking
}

func setup(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, dbtest.Open(t))
	dbtest.Exec(t, w.db, `INSERT INTO profiles_devices (profile_id, name, type) SELECT id, 'root', 'disk' FROM profiles WHERE name = 'default'`)
	dbtest.Exec(t, w.db, `INSERT INTO profiles_devices_config (profile_device_id, key, value) SELECT id, 'path', '/' FROM profiles_devices`)
	dbtest.Exec(t, w.db, `INSERT INTO profiles_devices_config (profile_device_id, key, value) SELECT id, 'pool', 'pool' FROM profiles_devices`)
	w.s = w.service()
	return w
}

func newWorld(t *testing.T, d *db.DB) *world {
	w := &world{t: t, db: d, engine: fake.New(), nics: newCards(), dir: t.TempDir()}
	w.pools = &pools{db: w.db, dir: t.TempDir(), vols: map[instance.Volume]int{}, fail: map[string]error{}, size: map[instance.Volume]int64{}}
	return w
}

// service makes a daemon's life: a second call is what a restart is.
func (w *world) service() *instance.Service {
	bus := event.NewBus("")
	w.events = bus.Subscribe(event.Filter{Types: []event.Type{event.TypeLifecycle}})
	prof := profile.New(w.db, bus)
	w.ops = op.New(w.t.Context(), bus, "", time.Minute)
	deps := instance.Deps{
		DB: w.db, Bus: bus, Ops: w.ops, Locks: lock.New(), Log: slog.New(slog.DiscardHandler),
		Profiles: prof, Engine: w.engine, Devices: device.NewRegistry(disk.Kind{}, w.nics), Storage: w.pools, Images: images{}, IDs: ids{}, Unpacker: unpackfake.Jail{Fail: w.broken},
		Dir: w.dir, Daemon: "test", Architecture: "x86_64", Pause: w.pause,
	}
	if w.member != nil {
		deps.Here, deps.Relay = w.member.Here, w.member.Relay
	}
	s := instance.New(w.t.Context(), deps)
	prof.Attach(s)
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) create(name string, more ...func(*api.InstancesPost)) error {
	req := api.InstancesPost{Name: name, Source: api.InstanceSource{Type: "image", Alias: "debian"}}
	for _, f := range more {
		f(&req)
	}
	p, err := w.s.PlanCreate(w.t.Context(), admin, "default", req)
	if err != nil {
		return err
	}
	return w.s.Create(w.t.Context(), p, nil)
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) load(name string) *instance.Instance {
	w.t.Helper()
	i, err := w.s.Load(w.t.Context(), "default", name)
	w.ok(err)
	return i
}

// is waits for a state: what a guest does by itself is seen a moment later.
func (w *world) is(name string, want instance.State) {
	w.t.Helper()
	id := w.load(name).ID
	for range 500 {
		if w.s.State(id) == want {
			return
		}
		<-time.After(2 * time.Millisecond)
	}
	w.t.Fatalf("%s is %s, want %s", name, w.s.State(id), want)
}

func (w *world) guest(name string) *fake.Guest {
	return w.engine.Guest(container.ID{Daemon: "test", Project: "default", Name: name})
}

func (w *world) start(name string) error { return w.s.Start(w.t.Context(), "default", name, nil) }

func (w *world) stop(name string, o instance.StopOptions) error {
	return w.s.Stop(w.t.Context(), "default", name, o, nil)
}

// clean is true of a world without instances.
func (w *world) clean() {
	w.t.Helper()
	all, err := w.s.List(w.t.Context(), "")
	w.ok(err)
	w.pools.mu.Lock()
	defer w.pools.mu.Unlock()
	if len(all) != 0 || len(w.pools.vols) != 0 || len(w.engine.Running()) != 0 {
		w.t.Errorf("left: %d instances, volumes %v, containers %v", len(all), w.pools.vols, w.engine.Running())
	}
	for _, d := range []string{"logs", "devices", "run", "backups/instances"} {
		if ents, _ := os.ReadDir(filepath.Join(w.dir, d)); len(ents) != 0 {
			w.t.Errorf("left in %s: %v", d, ents)
		}
	}
}

func TestLifeOfAnInstance(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1", func(r *api.InstancesPost) {
		r.Config = map[string]string{"environment.A": "b", "limits.memory": "64MiB"}
	}))
	i := w.load("c1")
	if i.Config["image.os"] != "Debian" || i.Config["volatile.base_image"] != "abc" || i.Config["volatile.uuid"] == "" {
		t.Errorf("config %v", i.Config)
	}
	w.ok(w.start("c1"))
	w.is("c1", instance.Running)
	spec := w.engine.Starts()[0]
	if spec.Hostname != "c1" || !spec.Rootfs.Idmapped || spec.IDMap.Empty() || spec.Limits.Memory != 64<<20 || len(spec.InitEnv) != 1 || spec.InitEnv[0] != "A=b" {
		t.Errorf("spec %+v", spec)
	}
	if c := w.load("c1").Config; c["volatile.last_state.power"] != "RUNNING" || c["volatile.last_state.idmap"] != "[]" || !strings.Contains(c["volatile.idmap.current"], "1000000") {
		t.Errorf("config %v", c)
	}
	if err := w.start("c1"); errs.Status(err) != 400 || !strings.Contains(err.Error(), "already running") {
		t.Errorf("second start: %v", err)
	}
	w.ok(w.s.Freeze(t.Context(), "default", "c1", nil))
	w.is("c1", instance.Frozen)
	w.ok(w.s.Unfreeze(t.Context(), "default", "c1", nil))
	if err := w.s.Delete(t.Context(), "default", "c1", nil); err == nil {
		t.Error("a running instance was deleted")
	}
	if err := w.s.Rename(t.Context(), "default", "c1", "c2", nil); err == nil {
		t.Error("a running instance was renamed")
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	if w.load("c1").Config["volatile.last_state.power"] != "STOPPED" {
		t.Error("power was not noted")
	}
	w.ok(w.s.Rename(t.Context(), "default", "c1", "c2", nil))
	w.ok(w.start("c2"))
	w.ok(w.stop("c2", instance.StopOptions{Timeout: -1}))
	w.ok(w.s.Delete(t.Context(), "default", "c2", nil))
	w.clean()
	var got []string
	for len(w.events.C()) > 0 {
		got = append(got, (<-w.events.C()).Metadata.(event.Lifecycle).Action)
	}
	want := "instance-created instance-started instance-paused instance-resumed instance-stopped instance-renamed instance-started instance-shutdown instance-deleted"
	if strings.Join(got, " ") != want {
		t.Errorf("events %v", got)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.pools.fail["create"] = errs.Invalid("the pool is full")
	if err := w.create("c1"); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v", err)
	}
	w.clean()
	w.ok(w.create("c1")) // the name is free again
}

func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("taken"))
	for name, c := range map[string]struct {
		name string
		req  func(*api.InstancesPost)
		code int
		text string
	}{
		"taken name":      {"taken", nil, 409, "already exists"},
		"bad name":        {"a b", nil, 400, "letters, digits"},
		"digit first":     {"1a", nil, 400, "begin with a letter"},
		"unknown key":     {"x", func(r *api.InstancesPost) { r.Config = map[string]string{"limits.cpus": "1"} }, 400, "limits.cpus"},
		"unbuilt key":     {"x", func(r *api.InstancesPost) { r.Config = map[string]string{"raw.apparmor": "x"} }, 501, "raw.apparmor"},
		"missing image":   {"x", func(r *api.InstancesPost) { r.Source.Alias = "nope" }, 404, "nope"},
		"missing profile": {"x", func(r *api.InstancesPost) { r.Profiles = []string{"nope"} }, 404, "nope"},
		"no root disk":    {"x", func(r *api.InstancesPost) { r.Profiles = []string{} }, 400, "root device"},
		"virtual machine": {"x", func(r *api.InstancesPost) { r.Type = "virtual-machine" }, 501, "irtual machines"},
		"unbuilt source":  {"x", func(r *api.InstancesPost) { r.Source.Type = "migration" }, 501, "migration"},
		"missing pool": {"x", func(r *api.InstancesPost) {
			r.Devices = map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "p2"}}
		}, 404, "p2"},
		"foreign cpu":      {"x", func(r *api.InstancesPost) { r.Architecture = "riscv64" }, 400, "riscv64"},
		"daemon's own key": {"x", func(r *api.InstancesPost) { r.Config = map[string]string{"volatile.sett_pending": "delete"} }, 400, "daemon's own"},
		"clashing devices": {"x", func(r *api.InstancesPost) {
			r.Devices = map[string]map[string]string{"a": {"type": "disk", "path": "/m", "source": "/"}, "b": {"type": "disk", "path": "/m", "source": "/"}}
		}, 400, `both want "/m"`},
		"unbuilt device": {"x", func(r *api.InstancesPost) { r.Devices = map[string]map[string]string{"g": {"type": "gpu"}} }, 501, "gpu"},
	} {
		f := c.req
		if f == nil {
			f = func(*api.InstancesPost) {}
		}
		err := w.create(c.name, f)
		if err == nil || errs.Status(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %d with %q", name, err, c.code, c.text)
		}
	}
	if all, _ := w.s.List(t.Context(), ""); len(all) != 1 {
		t.Errorf("%d instances", len(all))
	}
}

func TestFailedStartIsTakenBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	before := w.load("c1").Config
	for _, fail := range []func(){
		func() { w.pools.fail["mount"] = errs.Internal("no mount") },
		func() { w.engine.Fail(fake.Start, errs.Internal("no init")) },
	} {
		fail()
		if err := w.start("c1"); err == nil {
			t.Fatal("started")
		}
		w.is("c1", instance.Stopped)
		if n := w.pools.vols[instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}]; n > 0 {
			t.Errorf("%d mounts left", n)
		}
		if p := w.load("c1").Config["volatile.last_state.power"]; p != before["volatile.last_state.power"] {
			t.Errorf("power %q stayed", p)
		}
	}
	w.ok(w.start("c1"))
}

func TestGuestThatEndsOrRebootsByItself(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.guest("c1").Reboot()
	for len(w.engine.Starts()) < 2 {
		<-time.After(time.Millisecond)
	}
	w.is("c1", instance.Running)
	w.guest("c1").Halt()
	w.is("c1", instance.Stopped)

	w.ok(w.create("e1", func(r *api.InstancesPost) { r.Ephemeral = true }))
	w.ok(w.start("e1"))
	w.guest("e1").Halt()
	for range 500 {
		if _, err := w.s.Load(t.Context(), "default", "e1"); errs.Is(err, errs.KindNotFound) {
			return
		}
		<-time.After(2 * time.Millisecond)
	}
	t.Error("the ephemeral instance stayed")
}

func TestRestartKeepsEphemeralInstances(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("e1", func(r *api.InstancesPost) { r.Ephemeral = true }))
	w.ok(w.start("e1"))
	w.ok(w.s.Restart(t.Context(), "default", "e1", instance.StopOptions{Force: true}, nil))
	w.is("e1", instance.Running)
	w.ok(w.stop("e1", instance.StopOptions{Force: true}))
	w.clean()
}

func TestDaemonRestartFindsWhatRuns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, n := range []string{"run", "froze", "died", "off"} {
		w.ok(w.create(n))
	}
	for _, n := range []string{"run", "froze", "died"} {
		w.ok(w.start(n))
	}
	w.ok(w.s.Freeze(t.Context(), "default", "froze", nil))
	w.s.Close()
	w.guest("died").Halt()
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.is("run", instance.Running)
	w.is("froze", instance.Frozen)
	w.is("died", instance.Stopped)
	w.is("off", instance.Stopped)
	w.ok(w.stop("run", instance.StopOptions{Force: true}))
	w.ok(w.stop("froze", instance.StopOptions{Force: true}))
	w.s.Autostart(t.Context()) // "died" ran when it was last seen, the others were stopped since
	w.is("died", instance.Running)
	w.is("run", instance.Stopped)
}

func TestInterruptedWorkIsFinishedOrTakenBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("half"))
	w.ok(w.create("going"))
	w.ok(w.create("whole"))
	w.s.Close()
	for n, p := range map[string]string{"half": "create", "going": "delete"} {
		dbtest.Exec(t, w.db, `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT id, 'volatile.sett_pending', ? FROM instances WHERE name = ?`, p, n)
	}
	delete(w.pools.vols, instance.Volume{Pool: "pool", Project: "default", Instance: "half"})
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	all, err := w.s.List(t.Context(), "")
	w.ok(err)
	if len(all) != 1 || all[0].Name != "whole" || all[0].Config["volatile.sett_pending"] != "" || len(w.pools.vols) != 1 {
		t.Errorf("left: %d instances, volumes %v", len(all), w.pools.vols)
	}
}

func TestFreshInstanceTakesAnUpdate(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	i := w.load("c1")
	c := instance.Change{Config: map[string]string{"user.x": "y"}, Profiles: []string{"default"}}
	for k, v := range i.Config {
		if k != "volatile.sett_pending" { // clients do not see it
			c.Config[k] = v
		}
	}
	w.ok(w.s.Update(t.Context(), admin, i, c))
	if got := w.load("c1").Config; got["user.x"] != "y" || got["volatile.sett_pending"] != "" {
		t.Errorf("config %v", got)
	}
}

func TestUpdateFollowsLive(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	i := w.load("c1")
	c := instance.Change{Config: map[string]string{"limits.memory": "32MiB"}, Devices: map[string]map[string]string{"d": {"type": "disk", "path": "/mnt", "source": w.dir}}, Profiles: []string{"default"}}
	for k, v := range i.Config {
		c.Config[k] = v
	}
	w.ok(w.s.Update(t.Context(), admin, i, c))
	g := w.guest("c1")
	if g.Limits().Memory != 32<<20 {
		t.Errorf("limits %+v", g.Limits())
	}
	if ms := g.Mounts(); len(ms) != 2 || ms[0].Target != "dev/lxd" || ms[1].Target != "mnt" {
		t.Errorf("mounts %+v", ms)
	}
	i = w.load("c1")
	// What holds from the next start on is stored, and the guest stays what it is.
	c.Config["security.privileged"] = "true"
	w.ok(w.s.Update(t.Context(), admin, i, c))
	i = w.load("c1")
	if i.Config["security.privileged"] != "true" || w.s.IDMap(i).Empty() {
		t.Errorf("privileged %q, mapped as %v", i.Config["security.privileged"], w.s.IDMap(i))
	}
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.start("c1"))
	if ids := w.s.IDMap(w.load("c1")); !ids.Empty() {
		t.Errorf("after the next start the instance is mapped as %v", ids)
	}
	g, i = w.guest("c1"), w.load("c1")
	c.Config = maps.Clone(i.Config)
	delete(c.Config, "security.privileged")
	c.Devices = nil
	w.ok(w.s.Update(t.Context(), admin, i, c))
	if ms := g.Mounts(); len(ms) != 1 {
		t.Errorf("mounts %+v", ms)
	}
	c.Config["security.devlxd"] = "false"
	w.ok(w.s.Update(t.Context(), admin, i, c))
	if ms := g.Mounts(); len(ms) != 0 {
		t.Errorf("mounts %+v", ms)
	}
	c.Config["volatile.uuid"] = "x"
	if err := w.s.Update(t.Context(), admin, w.load("c1"), c); errs.Status(err) != 400 {
		t.Errorf("got %v", err)
	}
}

func TestShutdownStopsAllAndRemembersThem(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, n := range []string{"a", "b"} {
		w.ok(w.create(n))
		w.ok(w.start(n))
	}
	w.s.Shutdown(t.Context(), false)
	w.is("a", instance.Stopped)
	w.is("b", instance.Stopped)
	if err := w.start("a"); errs.Status(err) != 503 {
		t.Errorf("started while the host goes down: %v", err)
	}
	w.s.Close()
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.s.Autostart(t.Context())
	w.is("a", instance.Running)
	w.is("b", instance.Running)
}

func TestShutdownGoesByPriority(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for n, priority := range map[string]string{"last": "-1", "a": "0", "b": "0", "second": "3", "first": "10"} {
		w.ok(w.create(n, with("boot.stop.priority", priority)))
		w.ok(w.start(n))
	}
	w.pools.mu.Lock()
	w.pools.calls = nil
	w.pools.mu.Unlock()
	w.s.Shutdown(t.Context(), false)
	w.pools.mu.Lock()
	defer w.pools.mu.Unlock()
	var order []string
	for _, c := range w.pools.calls {
		if n, ok := strings.CutPrefix(c, "unmount "); ok {
			order = append(order, n)
		}
	}
	if len(order) == 5 {
		slices.Sort(order[2:4]) // together
	}
	if got := strings.Join(order, " "); got != "first second a b last" {
		t.Errorf("stopped %s", got)
	}
}

func TestGeneratedNamesAreFreeAndValid(t *testing.T) {
	t.Parallel()
	w := setup(t)
	seen := map[string]bool{}
	for range 20 {
		p, err := w.s.PlanCreate(t.Context(), admin, "default", api.InstancesPost{Source: api.InstanceSource{Type: "none"}})
		w.ok(err)
		w.ok(w.s.Create(t.Context(), p, nil))
		if n := p.Instance.Name; seen[n] || instance.CheckName(n) != nil {
			t.Errorf("name %q", n)
		} else {
			seen[n] = true
		}
	}
}

func TestWhatCannotBeLookedAtIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	w.ok(w.start("c1"))
	w.s.Close()
	w.engine.Fail(fake.Find, errs.Internal("no answer"), errs.Internal("still none"))
	w.s = w.service()
	w.ok(w.s.Recover(t.Context()))
	w.is("c1", instance.Errored)
	if err := w.s.Delete(t.Context(), "default", "c1", nil); err == nil || !strings.Contains(err.Error(), "Cannot tell") {
		t.Errorf("delete without an answer: %v", err)
	}
	if err := w.s.Delete(t.Context(), "default", "c1", nil); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("delete of what runs after all: %v", err)
	}
	w.is("c1", instance.Running)
	w.ok(w.stop("c1", instance.StopOptions{Force: true}))
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.clean()
}

func TestLostSightOfAGuestTakesNothingFromIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.ok(w.create("c1"))
	odd := errs.Internal("the socket broke")
	w.engine.Fail(fake.Wait, odd, odd)
	w.engine.Fail(fake.Find, odd)
	w.ok(w.start("c1"))
	v := instance.Volume{Pool: "pool", Project: "default", Instance: "c1"}
	mounted := func() int {
		w.pools.mu.Lock()
		defer w.pools.mu.Unlock()
		return w.pools.vols[v]
	}
	for w.engine.Pending(fake.Wait) > 0 { // until it has been lost and found twice
		<-time.After(time.Millisecond)
		if n := mounted(); n != 1 || w.s.State(w.load("c1").ID) != instance.Running {
			t.Fatalf("mounted %d times", n)
		}
	}
	w.guest("c1").Halt()
	w.is("c1", instance.Stopped)
	if n := mounted(); n != 0 {
		t.Errorf("mounted %d times", n)
	}
	w.engine.Fail(fake.Wait, odd)
	w.ok(w.start("c1"))
	if err := w.stop("c1", instance.StopOptions{Timeout: time.Minute}); err != nil {
		t.Errorf("a stop through the new handle: %v", err)
	}
	w.ok(w.s.Delete(t.Context(), "default", "c1", nil))
	w.clean()
}

func TestNamesOfSnapshots(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, c := range []struct{ pattern, taken, want string }{
		{"snap%d", "", "snap0"},
		{"snap%d", "snap0 snap7 snapX snap08 other", "snap8"},
		{"a%db", "a3b a4 4b", "a4b"},
		{"fixed", "", "fixed"},
		{"fixed", "fixed", "fixed-0"},
		{"fixed", "fixed fixed-0", "fixed-1"},
		{"{{ creation_date|date:'2006-01-02_15-04' }}", "", "2026-03-04_05-06"},
		{`x-{{creation_date | date:"06"}}-%d`, "x-26-1", "x-26-2"},
		{"{{ creation_date }}", "", "2026-03-04 05:06:07"},
	} {
		if got, err := instance.NextName(c.pattern, strings.Fields(c.taken), now); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.pattern, got, err, c.want)
		}
	}
}
