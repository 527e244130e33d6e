package instance_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
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
	ids    instance.IDs
	locks  *lock.Manager
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
	w := &world{t: t, db: d, engine: fake.New(), nics: newCards(), dir: t.TempDir(), ids: ids{}}
	w.pools = &pools{db: w.db, dir: t.TempDir(), vols: map[instance.Volume]int{}, fail: map[string]error{}, size: map[instance.Volume]int64{}}
	return w
}

// service makes a daemon's life: a second call is what a restart is.
func (w *world) service() *instance.Service {
	bus := event.NewBus("")
	w.events = bus.Subscribe(event.Filter{Types: []event.Type{event.TypeLifecycle}})
	prof := profile.New(w.db, bus)
	w.locks = lock.New()
	w.ops = op.New(w.t.Context(), bus, "", time.Minute)
	deps := instance.Deps{
		DB: w.db, Bus: bus, Ops: w.ops, Locks: w.locks, Log: slog.New(slog.DiscardHandler),
		Profiles: prof, Engine: w.engine, Devices: device.NewRegistry(disk.Kind{}, w.nics), Storage: w.pools, Images: images{}, IDs: w.ids, Unpacker: unpackfake.Jail{Fail: w.broken},
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
