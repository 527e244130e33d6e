package storage_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/event"
	"sett/lxd/lock"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/lxd/storage"
	"sett/lxd/storage/driver"
	"sett/lxd/storage/fake"
	"sett/shared/errs"
)

type fixture struct {
	*storage.Service
	t      *testing.T
	db     *db.DB
	dir    string
	kind   *fake.Kind
	server http.Handler
	events *event.Subscription
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, db: dbtest.Open(t), dir: t.TempDir(), kind: &fake.Kind{}}
	for _, d := range []string{"storage-pools", "disks"} {
		if err := os.Mkdir(filepath.Join(f.dir, d), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	bus := event.NewBus("")
	f.events = bus.Subscribe(event.Filter{})
	t.Cleanup(f.events.Close)
	f.start(bus)
	return f
}

// start is a start of the daemon on what is there.
func (f *fixture) start(bus *event.Bus) {
	f.t.Helper()
	f.Service = storage.New(storage.Deps{DB: f.db, Bus: bus, Locks: lock.New(), Drivers: driver.NewRegistry(f.kind),
		Log: slog.New(slog.DiscardHandler), Dir: f.dir})
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.t.Context()))
	if err := f.Start(ctx); err != nil {
		f.t.Fatal(err)
	}
	s := f.Service
	f.t.Cleanup(func() {
		if err := s.Close(ctx); err != nil {
			f.t.Error(err)
		}
		cancel()
	})
	f.server = rest.New(rest.Deps{
		Log:          slog.New(slog.DiscardHandler),
		Authenticate: func(*http.Request) (auth.Caller, error) { return auth.Caller{Protocol: "unix", Admin: true}, nil },
		Project:      project.New(f.db).Chain,
	}, f.Routes())
}

func (f *fixture) want(code int, text, method, url, body string) string {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, httptest.NewRequest(method, url, strings.NewReader(body)))
	b, _ := io.ReadAll(w.Result().Body)
	if w.Code != code || !strings.Contains(string(b), text) {
		f.t.Errorf("%s %s: %d %s; want %d with %s", method, url, w.Code, b, code, text)
	}
	return w.Result().Header.Get("Etag")
}

func (f *fixture) must(errors ...error) {
	f.t.Helper()
	for _, err := range errors {
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

// empty checks that no pool left anything.
func (f *fixture) empty() {
	f.t.Helper()
	for _, d := range []string{"storage-pools", "disks", "containers"} {
		if es, _ := os.ReadDir(filepath.Join(f.dir, d)); len(es) > 0 {
			f.t.Errorf("%s is left in %s", es[0].Name(), d)
		}
	}
}

func TestLifeOfAPool(t *testing.T) {
	t.Parallel()
	f := setup(t)
	src := filepath.Join(f.dir, "storage-pools/p")
	f.want(200, `"metadata":[]`, "GET", "/1.0/storage-pools", "")
	f.want(201, `"metadata":null`, "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake","description":"d","config":{"user.x":"y"}}`)
	f.want(409, `already exists`, "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.want(200, `["/1.0/storage-pools/p"]`, "GET", "/1.0/storage-pools", "")
	f.want(200, `{"config":{"source":"`+src+`","user.x":"y"},"description":"d","name":"p","driver":"fake","used_by":null,"status":"Created","locations":["none"]}`,
		"GET", "/1.0/storage-pools/p", "")
	f.want(200, `{"space":{"used":1048576,"total":1073741824},"inodes":{"used":10,"total":1000}}`, "GET", "/1.0/storage-pools/p/resources", "")
	f.want(200, "", "PATCH", "/1.0/storage-pools/p", `{"config":{"volume.size":"1GiB"}}`)
	f.want(200, `"user.x":"y","volume.size":"1GiB"`, "GET", "/1.0/storage-pools/p", "")
	f.want(400, `\"source\" cannot be changed`, "PUT", "/1.0/storage-pools/p", `{"config":{}}`)
	f.want(400, `bad`, "PATCH", "/1.0/storage-pools/p", `{"config":{"bad":"1"}}`)
	f.want(400, `volume`, "PATCH", "/1.0/storage-pools/p", `{"config":{"volume.size":"x"}}`)
	f.want(200, `"user.x":"y"`, "GET", "/1.0/storage-pools?recursion=1", "")
	f.want(200, "", "DELETE", "/1.0/storage-pools/p", "")
	f.want(404, "not found", "GET", "/1.0/storage-pools/p", "")
	f.empty()
	var actions []string
	for len(f.events.C()) > 0 {
		actions = append(actions, (<-f.events.C()).Metadata.(event.Lifecycle).Action)
	}
	if got := strings.Join(actions, " "); got != "storage-pool-created storage-pool-updated storage-pool-deleted" {
		t.Errorf("events: %s", got)
	}
}

func TestBadPoolsAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for body, want := range map[string]string{
		`{"driver":"fake"}`:                                     "No name",
		`{"name":"x"}`:                                          "No driver",
		`{"name":"a/b","driver":"fake"}`:                        "slashes",
		`{"name":"..","driver":"fake"}`:                         "Invalid",
		`{"name":"x","driver":"nope"}`:                          "Unknown storage driver",
		`{"name":"x","driver":"fake","config":{"bad":"1"}}`:     "bad",
		`{"name":"x","driver":"fake","config":{"size":"lots"}`:  "JSON",
		`{"name":"x","driver":"fake","config":{"size":"lots"}}`: "size",
	} {
		f.want(400, want, "POST", "/1.0/storage-pools", body)
	}
	f.want(501, "zfs", "POST", "/1.0/storage-pools", `{"name":"x","driver":"zfs"}`)
	f.want(501, "rsync.bwlimit", "POST", "/1.0/storage-pools", `{"name":"x","driver":"fake","config":{"rsync.bwlimit":"1MB"}}`)
	f.want(404, "not found", "PUT", "/1.0/storage-pools/x", `{}`)
	f.want(404, "not found", "DELETE", "/1.0/storage-pools/x", "")
	f.want(404, "not found", "GET", "/1.0/storage-pools/x/resources", "")
	f.want(404, "not found", "GET", "/1.0/storage-pools/x/volumes", "")
	f.empty()
}

func TestPoolThatCannotBeMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.kind.Break(func(step, _ string) error {
		if step == "createpool" {
			return errors.New("no such disk")
		}
		return nil
	})
	f.want(500, "no such disk", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.want(200, `"metadata":[]`, "GET", "/1.0/storage-pools", "")
	f.empty()
}

func vol(name string) storage.Volume {
	return storage.Volume{Pool: "p", Type: driver.Container, Project: "default", Name: name}
}

const image = "0123456789abcdef"

func unpack(_ context.Context, dir string) error {
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "rootfs/file"), []byte("image"), 0o644)
}

func TestVolumesOfInstances(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake","config":{"volume.size":"1GiB"}}`)
	unpacked := 0
	fill := func(ctx context.Context, dir string) error { unpacked++; return unpack(ctx, dir) }
	f.must(f.CreateFromImage(ctx, vol("a"), image, 0, fill), f.CreateFromImage(ctx, vol("b"), image, 2<<30, fill),
		f.CreateVolume(ctx, vol("c"), 0, nil))
	if unpacked != 1 {
		t.Errorf("the image was unpacked %d times", unpacked)
	}
	dir, err := f.Mount(ctx, vol("a"))
	f.must(err)
	if b, err := os.ReadFile(filepath.Join(dir, "rootfs/file")); err != nil || string(b) != "image" {
		t.Errorf("%q, %v", b, err)
	}
	if l, err := os.Readlink(filepath.Join(f.dir, "containers/a")); err != nil || l != dir {
		t.Errorf("link %q, %v", l, err)
	}
	us, err := f.Usage(ctx, []storage.Volume{vol("a"), vol("b"), vol("gone")})
	if err != nil || us[vol("a")] != (driver.Usage{Used: 5, Total: 1 << 30}) || us[vol("b")].Total != 2<<30 || len(us) != 2 {
		t.Errorf("usage %v, %v", us, err)
	}
	f.want(200, `["/1.0/storage-pools/p/volumes/container/a","/1.0/storage-pools/p/volumes/container/b","/1.0/storage-pools/p/volumes/container/c","/1.0/storage-pools/p/volumes/image/`+image+`"]`,
		"GET", "/1.0/storage-pools/p/volumes", "")
	f.want(200, `"name":"a","type":"container","used_by":["/1.0/instances/a"],"location":"none","content_type":"filesystem","project":"default"`,
		"GET", "/1.0/storage-pools/p/volumes/container/a", "")
	f.want(200, `{"usage":{"used":5,"total":1073741824}}`, "GET", "/1.0/storage-pools/p/volumes/container/a/state", "")
	f.want(200, `"used_by":["/1.0/images/`+image+`","/1.0/instances/a","/1.0/instances/b","/1.0/instances/c"]`, "GET", "/1.0/storage-pools/p", "")
	f.want(400, "in use", "DELETE", "/1.0/storage-pools/p", "")
	f.want(400, "cannot be deleted with the storage API", "DELETE", "/1.0/storage-pools/p/volumes/container/a", "")
	f.want(501, "not implemented", "POST", "/1.0/storage-pools/p/volumes/custom", `{"name":"x"}`)
	f.want(400, "cannot be created", "POST", "/1.0/storage-pools/p/volumes", `{"name":"x","type":"container"}`)
	f.want(400, "type name", "GET", "/1.0/storage-pools/p/volumes/nope", "")
	f.want(404, "not found", "GET", "/1.0/storage-pools/p/volumes/custom/x", "")

	f.must(f.UnmountVolume(ctx, vol("a")), f.RenameVolume(ctx, vol("a"), "z"), f.SetSize(ctx, vol("z"), 3<<30))
	f.want(200, `{"usage":{"used":5,"total":3221225472}}`, "GET", "/1.0/storage-pools/p/volumes/container/z/state", "")
	for _, n := range []string{"z", "b", "c", "never"} {
		f.must(f.DeleteVolume(ctx, vol(n)), f.DeleteVolume(ctx, vol(n)))
	}
	f.must(f.DeleteVolume(ctx, storage.Volume{Pool: "gone", Type: driver.Container, Name: "x"}))
	// The cached image alone does not keep the pool.
	f.want(200, `"used_by":["/1.0/images/`+image+`"]`, "GET", "/1.0/storage-pools/p", "")
	f.want(200, "", "DELETE", "/1.0/storage-pools/p", "")
	f.empty()
}

func TestVolumeThatCannotBeMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	bad := errors.New("No space left on device")
	err := f.CreateFromImage(ctx, vol("a"), image, 0, func(context.Context, string) error { return bad })
	if !errors.Is(err, bad) || !strings.Contains(err.Error(), "pool is full") {
		t.Errorf("got %v", err)
	}
	f.want(200, `"metadata":[]`, "GET", "/1.0/storage-pools/p/volumes", "")
	f.want(200, "", "DELETE", "/1.0/storage-pools/p", "")
	f.empty()
}

// A rename that is taken back may meet the record of a volume whose content is gone.
func TestARenameMovesNothingBackThatItHasNotMoved(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.must(f.CreateVolume(ctx, vol("lives"), 0, unpack), f.CreateVolume(ctx, vol("left"), 0, unpack))
	f.must(os.RemoveAll(filepath.Join(f.dir, "storage-pools/p/containers/left")))
	is := func(name string, want bool) {
		t.Helper()
		if there, err := f.Exists(ctx, vol(name)); there != want || err != nil {
			t.Errorf("%s is there: %v, %v", name, there, err)
		}
	}
	is("left", false)
	if err := f.RenameVolume(ctx, vol("left"), "lives"); !errs.Is(err, errs.KindConflict) {
		t.Errorf("there is one of that name: %v", err)
	}
	is("lives", true)
	is("left", false)
	// One that was moved goes back.
	dbtest.Exec(t, f.db, `CREATE TRIGGER no BEFORE UPDATE OF name ON storage_volumes BEGIN SELECT RAISE(ABORT, 'no'); END`)
	if err := f.RenameVolume(ctx, vol("lives"), "new"); err == nil {
		t.Error("its record cannot be changed")
	}
	is("lives", true)
	is("new", false)
	// One that had been moved before does not.
	f.must(os.Mkdir(filepath.Join(f.dir, "storage-pools/p/containers/moved"), 0o711))
	if err := f.RenameVolume(ctx, vol("left"), "moved"); err == nil {
		t.Error("its record cannot be changed")
	}
	is("moved", true)
	is("left", false)
}

// A daemon that was killed after it had moved a folder would find it at its next start where
// a volume is that is to go.
func TestARenameMovesNothingToWhereThereIsARecord(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.must(f.CreateVolume(ctx, vol("lives"), 0, unpack), f.CreateVolume(ctx, vol("left"), 0, unpack))
	f.must(os.RemoveAll(filepath.Join(f.dir, "storage-pools/p/containers/left")))
	moves, release := f.kind.Hold("rename")
	done := make(chan error, 1)
	go func() { done <- f.RenameVolume(ctx, vol("lives"), "left") }()
	select {
	case <-moves:
		t.Error("it is moved")
		release()
		<-done
	case err := <-done:
		if !errs.Is(err, errs.KindConflict) {
			t.Errorf("there is a record of that name: %v", err)
		}
	}
}

func TestProfilesKeepAPool(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	dbtest.Exec(t, f.db, `INSERT INTO profiles_devices (profile_id, name, type) VALUES (1, 'root', 'disk')`)
	dbtest.Exec(t, f.db, `INSERT INTO profiles_devices_config (profile_device_id, key, value) VALUES (1, 'pool', 'p')`)
	f.want(200, `"used_by":["/1.0/profiles/default"]`, "GET", "/1.0/storage-pools/p", "")
	f.want(400, "in use", "DELETE", "/1.0/storage-pools/p", "")
}

func TestStartAfterAKill(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"half","driver":"fake"}`)
	f.must(f.CreateFromImage(ctx, vol("a"), image, 0, unpack))
	dbtest.Exec(t, f.db, `UPDATE storage_pools SET state = 0 WHERE name = 'half'`)
	f.start(event.NewBus(""))
	f.must(f.Close(ctx))
	f.want(404, "not found", "GET", "/1.0/storage-pools/half", "")
	// No image is known any more, so its volume goes; the instance's stays.
	f.want(200, `["/1.0/storage-pools/p/volumes/container/a"]`, "GET", "/1.0/storage-pools/p/volumes", "")
	if es, _ := os.ReadDir(filepath.Join(f.dir, "storage-pools")); len(es) != 1 {
		t.Errorf("pools on disk: %v", es)
	}
}

func TestPoolThatDoesNotMountIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.must(f.Close(ctx))
	f.kind.Break(func(step, _ string) error {
		if step == "mountpool" {
			return errors.New("no such device")
		}
		return nil
	})
	f.start(event.NewBus(""))
	f.must(f.Close(ctx))
	f.want(200, `"status":"Unavailable"`, "GET", "/1.0/storage-pools/p", "")
	f.want(503, "no such device", "GET", "/1.0/storage-pools/p/resources", "")
	f.kind.Break(nil)
	f.must(f.CreateVolume(ctx, vol("a"), 0, nil))
	f.want(200, `"status":"Created"`, "GET", "/1.0/storage-pools/p", "")
}

func TestMountThatHangsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	f.must(f.Close(ctx))
	f.kind.Break(func(step, _ string) error {
		if step == "mountpool" {
			return errors.New("no such device")
		}
		return nil
	})
	f.start(event.NewBus(""))
	f.must(f.Close(ctx))
	mounting, goOn := make(chan struct{}), make(chan struct{})
	f.kind.Break(func(step, _ string) error {
		if step == "mountpool" {
			close(mounting)
			<-goOn
		}
		return nil
	})
	first := make(chan error, 1)
	go func() { first <- f.CreateVolume(ctx, vol("a"), 0, nil) }()
	<-mounting
	f.want(200, `"name":"p"`, "GET", "/1.0/storage-pools?recursion=1", "")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := f.CreateVolume(gone, vol("b"), 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("who lost patience got %v", err)
	}
	close(goOn)
	f.must(<-first, f.CreateVolume(ctx, vol("c"), 0, nil))
}

func TestPoolWhoseDeletionFailedIsMountedAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	mounts := 0
	f.kind.Break(func(step, _ string) error {
		switch step {
		case "deletepool":
			return errors.New("busy")
		case "mountpool":
			mounts++
		}
		return nil
	})
	f.want(500, "busy", "DELETE", "/1.0/storage-pools/p", "")
	f.want(200, `"status":"Unavailable"`, "GET", "/1.0/storage-pools/p", "")
	f.must(f.CreateVolume(t.Context(), vol("a"), 0, nil))
	if mounts != 1 {
		t.Errorf("mounted %d times", mounts)
	}
	f.want(200, `"status":"Created"`, "GET", "/1.0/storage-pools/p", "")
}

func TestPoolThatGoesTakesNoVolumes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.want(201, "", "POST", "/1.0/storage-pools", `{"name":"p","driver":"fake"}`)
	dbtest.Exec(t, f.db, `UPDATE storage_pools SET state = 0 WHERE name = 'p'`)
	if err := f.CreateVolume(t.Context(), vol("a"), 0, nil); !errs.Is(err, errs.KindUnavailable) {
		t.Errorf("got %v", err)
	}
	f.want(200, `"metadata":[]`, "GET", "/1.0/storage-pools/p/volumes", "")
}
