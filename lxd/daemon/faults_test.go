package daemon_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/container"
	enginefake "sett/lxd/container/fake"
	"sett/lxd/daemon"
	"sett/lxd/daemontest"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/lxd/db/node"
	"sett/lxd/host/render"
	"sett/lxd/host/tree"
	unpackfake "sett/lxd/host/unpack/fake"
	"sett/lxd/storage/driver"
	storagefake "sett/lxd/storage/fake"
	"sett/shared/api"
)

// settleTime is how long it may take until the garbage is gone.
const settleTime = 10 * time.Second

// patience is how long a test waits for what takes milliseconds.
const patience = 20 * time.Second

// host is what outlives a daemon: its folder and its containers. It can be put back to what
// it was at an earlier time.
type host struct {
	t       *testing.T
	dir     string // LXD_DIR
	kept    string // a copy of it
	instant bool   // its pools make copies in one step
	specs   []container.Spec
	engine  *enginefake.Engine
}

// life is one daemon on a host.
type life struct {
	*daemon.Bare
	*host
	*steps
	global, local *db.DB
	look          *sql.DB // for the test itself
	over          bool
}

func newHost(t *testing.T, instant bool) *host {
	t.Helper()
	top, err := os.MkdirTemp("", "sett") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(top); err != nil {
			t.Errorf("something is left below LXD_DIR: %v", err)
		}
	})
	h := &host{t: t, dir: filepath.Join(top, "lxd"), kept: filepath.Join(top, "kept"), instant: instant, engine: enginefake.New()}
	h.ok(os.MkdirAll(h.databases(), 0o700))
	local, err := node.Open(t.Context(), h.databases(), "test", slog.New(slog.DiscardHandler))
	h.ok(err)
	h.ok(local.Close())
	return h
}

func (h *host) databases() string { return filepath.Join(h.dir, "database") }

func (h *host) ok(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// keep remembers the host as it is.
func (h *host) keep() {
	h.t.Helper()
	h.ok(os.Mkdir(h.kept, 0o700))
	h.ok(tree.CopyWith(h.t.Context(), h.kept, h.dir, tree.Options{}))
	h.specs = nil
	for _, s := range h.engine.Starts() {
		if h.engine.Guest(s.ID) != nil {
			h.specs = append(h.specs, s)
		}
	}
}

// putBack makes it again what it was when it was kept.
func (h *host) putBack() {
	h.t.Helper()
	h.ok(os.RemoveAll(h.dir))
	h.ok(os.Mkdir(h.dir, 0o711))
	h.ok(tree.CopyWith(h.t.Context(), h.dir, h.kept, tree.Options{}))
	h.engine = enginefake.New()
	for _, s := range h.specs {
		_, err := h.engine.Start(h.t.Context(), s)
		h.ok(err)
	}
}

// begin starts a daemon.
func (h *host) begin() *life {
	h.t.Helper()
	l := &life{host: h, steps: newSteps()}
	l.global = dbtest.At(h.t, filepath.Join(h.databases(), "global.db"), l.before, l.after)
	l.look = dbtest.Watched(filepath.Join(h.databases(), "global.db"), nil, nil)
	l.local = db.Open(dbtest.Watched(filepath.Join(h.databases(), node.FileName), func(string) error { return l.alive() }, nil), db.Options{})
	b, err := daemon.StartBare(daemon.Options{
		Dir: h.dir, LogHandler: slog.DiscardHandler,
		Engine:         func() (container.Engine, error) { return engine{h.engine, l.steps}, nil },
		StorageDrivers: driver.NewRegistry(kind{&storagefake.Kind{Instant: h.instant}, l.steps}),
		IDs:            daemontest.IDs{}, Unpacker: daemontest.Unpacker{Jail: unpackfake.Jail{Fail: l.unpack}}, Templates: render.Direct{},
	}, l.global, &node.DB{DB: l.local})
	h.ok(err)
	l.Bare = b
	h.t.Cleanup(l.end)
	return l
}

// end ends it, if it has not ended.
func (l *life) end() {
	if l.over {
		return
	}
	l.over = true
	if l.isDead {
		l.bury()
	}
	l.End()
	_, _, _ = l.look.Close(), l.global.Close(), l.local.Close()
}

// request is one to the API.
type request struct {
	method, path string
	header       map[string]string
	body         any // bytes are sent as they are, the rest as JSON
}

func get(path string) request         { return request{method: "GET", path: path} }
func post(path string, b any) request { return request{method: "POST", path: path, body: b} }
func put(path string, b any) request  { return request{method: "PUT", path: path, body: b} }
func del(path string) request         { return request{method: "DELETE", path: path} }
func upload(path string, b []byte) request {
	return request{"POST", path, map[string]string{"Content-Type": "application/octet-stream"}, b}
}
func action(name, what string) request {
	return put("/1.0/instances/"+name+"/state", api.InstanceStatePut{Action: what, Force: true, Timeout: -1})
}

func (l *life) send(ctx context.Context, r request) (int, api.Response) {
	var body io.Reader
	switch b := r.body.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return 0, api.Response{Error: err.Error()}
		}
		body = bytes.NewReader(text)
	}
	code, text := l.Ask(ctx, r.method, r.path, r.header, body)
	var a api.Response
	if err := json.Unmarshal(text, &a); err != nil {
		a.Error = string(text)
	}
	return code, a
}

// begun sends a request and gives the operation that it began, or why it did not. It returns
// with the daemon's death, too.
func (l *life) begun(ctx context.Context, r request) (id string, err error) {
	type reply struct {
		code int
		a    api.Response
	}
	done := make(chan reply, 1)
	go func() {
		code, a := l.send(ctx, r)
		done <- reply{code, a}
	}()
	select {
	case <-l.died:
		return "", errDead
	case got := <-done:
		if got.code >= 400 {
			return "", errors.New(got.a.Error)
		}
		return strings.TrimPrefix(got.a.Operation, "/1.0/operations/"), nil
	case <-time.After(patience):
		return "", errors.New("no answer")
	}
}

// ended waits for the end of an operation.
func (l *life) ended(id string) (o api.Operation, err error) {
	done := make(chan error, 1)
	go func() {
		code, a := l.send(context.Background(), get("/1.0/operations/"+id+"/wait?timeout=20"))
		if code != http.StatusOK {
			done <- errors.New(a.Error)
			return
		}
		done <- json.Unmarshal(a.Metadata, &o)
	}()
	select {
	case <-l.died:
		return api.Operation{}, errDead
	case err = <-done:
		return o, err
	}
}

// try does what a request asks for, to the end.
func (l *life) try(ctx context.Context, r request) (id string, err error) {
	if id, err = l.begun(ctx, r); err != nil || id == "" {
		return id, err
	}
	o, err := l.ended(id)
	switch {
	case err != nil:
	case !o.StatusCode.IsFinal():
		err = errors.New("the operation does not end")
	case o.StatusCode != api.Success:
		err = errors.New(o.Err)
	}
	return id, err
}

// must is try for what has to work.
func (l *life) must(rs ...request) {
	l.t.Helper()
	for _, r := range rs {
		if _, err := l.try(context.Background(), r); err != nil {
			l.t.Fatalf("%s %s: %v", r.method, r.path, err)
		}
	}
}

// running are the operations that run.
func (l *life) running() (ids []string) {
	_, a := l.send(context.Background(), get("/1.0/operations"))
	by := map[string][]string{}
	_ = json.Unmarshal(a.Metadata, &by)
	for _, u := range by["running"] {
		ids = append(ids, strings.TrimPrefix(u, "/1.0/operations/"))
	}
	return ids
}

// noted waits until the history has all operations that run.
func (l *life) noted() {
	const query = `SELECT id FROM operations_history`
	for range 2000 {
		code, a := l.send(context.Background(), post("/internal/sql", map[string]string{"database": "local", "query": query}))
		missing := slices.DeleteFunc(l.running(), func(id string) bool { return strings.Contains(string(a.Metadata), id) })
		if code == http.StatusOK && len(missing) == 0 {
			return
		}
		<-time.After(time.Millisecond)
	}
}

// rows shows what the database holds, but for what is new each time. What is unpacked of
// an image may stay, and the mark of a create goes with the next change.
const rows = `
SELECT 'instance ' || name || ' ' || description || ' ' || ephemeral FROM instances
UNION ALL SELECT 'config ' || i.name || ' ' || c.key || '=' || c.value FROM instances_config AS c JOIN instances AS i ON i.id = c.instance_id
	WHERE c.key NOT GLOB 'volatile.*' OR c.key IN ('volatile.apply_template', 'volatile.base_image') OR c.key = 'volatile.sett_pending' AND c.value <> 'create'
UNION ALL SELECT 'device ' || i.name || ' ' || d.name || ' ' || d.type || ' ' || c.key || '=' || c.value FROM instances_devices_config AS c
	JOIN instances_devices AS d ON d.id = c.instance_device_id JOIN instances AS i ON i.id = d.instance_id
UNION ALL SELECT 'snapshot ' || i.name || '/' || s.name FROM instances_snapshots AS s JOIN instances AS i ON i.id = s.instance_id
UNION ALL SELECT 'backup ' || i.name || '/' || b.name FROM instances_backups AS b JOIN instances AS i ON i.id = b.instance_id
UNION ALL SELECT 'volume ' || p.name || '/' || v.name FROM storage_volumes AS v JOIN storage_pools AS p ON p.id = v.storage_pool_id WHERE v.type <> 1
UNION ALL SELECT 'snapshot of a volume ' || p.name || '/' || v.name || '/' || s.name FROM storage_volumes_snapshots AS s
	JOIN storage_volumes AS v ON v.id = s.storage_volume_id JOIN storage_pools AS p ON p.id = v.storage_pool_id
UNION ALL SELECT 'image ' || fingerprint || ' ' || filename FROM images
UNION ALL SELECT 'alias ' || name FROM images_aliases
ORDER BY 1`

// sums are names of images.
var sums = regexp.MustCompile(`[0-9a-f]{64}`)

// picture shows all there is: in the database, on disk, and what runs, also as the daemon
// sees it.
func (l *life) picture() string {
	var out strings.Builder
	all, err := l.look.QueryContext(context.Background(), rows)
	if err != nil {
		return err.Error()
	}
	defer all.Close()
	for all.Next() {
		var line string
		if err := all.Scan(&line); err != nil {
			return err.Error()
		}
		fmt.Fprintln(&out, line)
	}
	var instances []api.Instance
	_, a := l.send(context.Background(), get("/1.0/instances?recursion=1"))
	if err := json.Unmarshal(a.Metadata, &instances); err != nil {
		return a.Error
	}
	for _, i := range instances {
		fmt.Fprintf(&out, "%s is %s\n", i.Name, i.Status)
	}
	l.files(&out)
	var guests []string
	for _, id := range l.engine.Running() {
		guests = append(guests, fmt.Sprintf("guest %s %v\n", id.Name, l.engine.Guest(id).State()))
	}
	slices.Sort(guests)
	return sums.ReplaceAllString(out.String()+strings.Join(guests, ""), "SUM")
}

func (l *life) files(out io.Writer) {
	_ = filepath.WalkDir(l.dir, func(path string, e fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(path, l.dir)
		switch {
		case err != nil:
			return nil // it is just going
		case rel == "/backups/instances": // the layout, not somebody's backup
			return nil
		case rel == "/database", strings.Contains(rel, "/images/") && strings.HasPrefix(rel, "/storage-pools/"):
			return fs.SkipDir
		case strings.HasSuffix(rel, "backup.yaml"), e.Type()&fs.ModeSocket != 0:
			return nil
		}
		text := ""
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			text = "-> " + strings.TrimPrefix(to, l.dir)
		case e.Type().IsRegular() && strings.HasPrefix(rel, "/storage-pools/"):
			b, _ := os.ReadFile(path)
			text = fmt.Sprintf("%.40q", b)
		}
		_, err = fmt.Fprintf(out, "%s %s\n", rel, text)
		return err
	})
}

// settles waits until the picture is one of those that are wanted, and says which.
func (l *life) settles(what string, want ...string) int {
	l.t.Helper()
	got := ""
	for begun := time.Now(); time.Since(begun) < settleTime; {
		got = l.picture()
		if n := slices.Index(want, got); n >= 0 {
			return n
		}
		<-time.After(2 * time.Millisecond)
	}
	var best string
	for _, w := range want {
		if d := difference(w, got); best == "" || len(d) < len(best) {
			best = d
		}
	}
	l.t.Errorf("%s: it is not what it was, nor what it should be; the nearest differs in\n%s", what, best)
	return -1
}

// difference shows the lines that are in one text only.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for _, c := range []struct {
		sign     string
		of, from []string
	}{{"-", a, b}, {"+", b, a}} {
		left := map[string]int{}
		for _, line := range c.from {
			left[line]++
		}
		for _, line := range c.of {
			if left[line]--; left[line] < 0 {
				fmt.Fprintf(&out, "%s %s\n", c.sign, line)
			}
		}
	}
	return out.String()
}

// empties deletes all through the API: nothing keeps a lock, and nothing is left.
func (l *life) empties(what string) {
	l.t.Helper()
	del1 := func(r request) {
		l.t.Helper()
		if _, err := l.try(context.Background(), r); err != nil {
			l.t.Errorf("%s: afterwards %s %s: %v", what, r.method, r.path, err)
		}
	}
	list := func(path string) (urls []string) {
		_, a := l.send(context.Background(), get(path))
		_ = json.Unmarshal(a.Metadata, &urls)
		return urls
	}
	for _, id := range l.engine.Running() {
		del1(action(id.Name, "stop"))
	}
	for _, path := range []string{"/1.0/instances", "/1.0/images"} {
		for _, u := range list(path) {
			del1(del(u))
		}
	}
	del1(put("/1.0/profiles/default", api.ProfilePut{}))
	for _, u := range list("/1.0/storage-pools") {
		del1(del(u))
	}
	for _, d := range []string{"containers", "snapshots", "images", "backups/instances", "devices", "storage-pools", "disks", "logs", "run"} {
		for _, e := range dirNames(filepath.Join(l.dir, d)) {
			l.t.Errorf("%s: at last %s/%s is left", what, d, e)
		}
	}
}

func dirNames(dir string) (names []string) {
	es, _ := os.ReadDir(dir)
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

// write gives an instance content.
func (l *life) write(name, text string) {
	l.t.Helper()
	l.ok(os.WriteFile(filepath.Join(l.dir, "containers", name, "rootfs/content"), []byte(text), 0o644))
}

// setUp makes two pools, the image "tiny", and the instance c1 with a snapshot.
func (l *life) setUp() {
	l.t.Helper()
	l.must(
		post("/1.0/storage-pools", api.StoragePoolsPost{Name: "pool", Driver: "fake"}),
		post("/1.0/storage-pools", api.StoragePoolsPost{Name: "other", Driver: "fake"}),
		put("/1.0/profiles/default", api.ProfilePut{Devices: map[string]map[string]string{"root": {"type": "disk", "path": "/", "pool": "pool"}}}),
		upload("/1.0/images", daemontest.Image("tiny")),
	)
	l.must(create("c1"))
	l.write("c1", "one")
	l.must(snapshot("c1", "s1"))
	l.write("c1", "two")
}

// tinySum is the fingerprint of the image.
var tinySum = fmt.Sprintf("%x", sha256.Sum256(daemontest.Image("tiny")))

func create(name string) request {
	return post("/1.0/instances", map[string]any{"name": name, "source": map[string]string{"type": "image", "fingerprint": tinySum}})
}

func snapshot(name, snap string) request {
	return post("/1.0/instances/"+name+"/snapshots", api.InstanceSnapshotsPost{Name: snap})
}

func copyOf(source, name string, more map[string]any) request {
	src := map[string]any{"type": "copy", "source": source}
	body := map[string]any{"name": name, "source": src}
	for k, v := range more {
		if k == "devices" {
			body[k] = v
		} else {
			src[k] = v
		}
	}
	return post("/1.0/instances", body)
}

var inOther = map[string]any{"devices": map[string]any{"root": map[string]string{"type": "disk", "path": "/", "pool": "other"}}}

func backup(name, b string) request {
	return post("/1.0/instances/"+name+"/backups", api.InstanceBackupsPost{Name: b, CompressionAlgorithm: "none"})
}

func restore(snap string) request { return put("/1.0/instances/c1", map[string]any{"restore": snap}) }

// ordeal is something that a person asks for, and in which everything goes wrong.
type ordeal struct {
	name string
	// more is added to what setUp makes; runs has c1 run as well.
	more func(l *life)
	runs bool
	ask  func(l *life) request
	// loose: what fails half-way is mended by the next use, or by trying it again. What a
	// killed daemon leaves is mended by the next one.
	loose bool
	// held: it is done otherwise by pools that make copies in one step.
	held bool
	// parts: a daemon that is killed leaves it in between, and the history says so.
	parts bool
	// risen: a daemon that comes up starts what it finds was running, or was to run.
	risen bool
}

// TestEveryStepCanGoWrong does all that changes pools and containers with a daemon that is
// killed, an operation that is cancelled, a step that fails, a pool that is full or a guest
// that dies, at the first step, at the second, and so on until nothing is left to go wrong.
// Each time it is done or not done, nothing is lost or left, and the next try works.
func TestEveryStepCanGoWrong(t *testing.T) {
	t.Parallel()
	const one = "/1.0/instances/c1"
	var archive []byte
	asks := func(r request) func(*life) request { return func(*life) request { return r } }
	twin := func(l *life) { // a copy that lags behind
		l.must(copyOf("c1", "c2", nil))
		l.write("c1", "three")
		l.must(snapshot("c1", "s2"), snapshot("c2", "extra"))
	}
	for _, o := range []ordeal{
		{name: "create", ask: asks(create("c2"))},
		{name: "create of an image that is new to the pool", ask: asks(post("/1.0/instances", map[string]any{"name": "c2", "devices": inOther["devices"],
			"source": map[string]string{"type": "image", "fingerprint": tinySum}}))},
		{name: "create without an image", ask: asks(post("/1.0/instances", map[string]any{"name": "c2", "source": map[string]string{"type": "none"}}))},
		{name: "start", ask: asks(action("c1", "start")), risen: true},
		{name: "stop", runs: true, ask: asks(action("c1", "stop")), risen: true},
		{name: "restart", runs: true, ask: asks(action("c1", "restart")), loose: true, risen: true},
		{name: "freeze", runs: true, ask: asks(action("c1", "freeze"))},
		{name: "snapshot", ask: asks(snapshot("c1", "s2"))},
		{name: "snapshot of one that runs", held: true, runs: true, ask: asks(snapshot("c1", "s2"))},
		{name: "delete of a snapshot", ask: asks(del(one + "/snapshots/s1")), loose: true},
		{name: "rename of a snapshot", ask: asks(post(one+"/snapshots/s1", api.InstanceSnapshotPost{Name: "s2"}))},
		{name: "restore", held: true, ask: asks(restore("s1")), loose: true},
		{name: "restore of one that runs", runs: true, ask: asks(restore("s1")), loose: true},
		{name: "copy", ask: asks(copyOf("c1", "c2", nil))},
		{name: "copy of one that runs", held: true, runs: true, ask: asks(copyOf("c1", "c2", nil))},
		{name: "copy to another pool", ask: asks(copyOf("c1", "c2", inOther))},
		{name: "copy of one that runs to another pool", held: true, runs: true, ask: asks(copyOf("c1", "c2", inOther))},
		{name: "copy of a snapshot", ask: asks(copyOf("c1/s1", "c2", nil))},
		{name: "refresh", held: true, more: twin, ask: asks(copyOf("c1", "c2", map[string]any{"refresh": true})), loose: true, parts: true},
		{name: "move", ask: asks(post(one, api.InstancePost{Name: "c1", Migration: true, Pool: "other"})), loose: true},
		{name: "move to another pool and name", ask: asks(post(one, api.InstancePost{Name: "c9", Migration: true, Pool: "other"})), loose: true, parts: true},
		{name: "rename", more: func(l *life) { l.must(backup("c1", "b1")) }, ask: asks(post(one, api.InstancePost{Name: "c9"}))},
		{name: "delete", held: true, more: func(l *life) { l.must(backup("c1", "b1")) }, ask: asks(del(one)), loose: true},
		{name: "rebuild", held: true, more: func(l *life) { l.must(del(one + "/snapshots/s1")) }, loose: true,
			ask: asks(post(one+"/rebuild", map[string]any{"source": map[string]string{"type": "image", "fingerprint": tinySum}}))},
		{name: "rebuild without an image", more: func(l *life) { l.must(del(one + "/snapshots/s1")) }, loose: true,
			ask: asks(post(one+"/rebuild", map[string]any{"source": map[string]string{"type": "none"}}))},
		{name: "export", ask: asks(backup("c1", "b1"))},
		{name: "export of one that runs", held: true, runs: true, ask: asks(backup("c1", "b1"))},
		{name: "import", more: func(l *life) {
			l.must(backup("c1", "b1"))
			b, err := os.ReadFile(filepath.Join(l.dir, "backups/instances/c1/b1"))
			l.ok(err)
			archive = b
			l.must(del(one))
		}, ask: func(*life) request { return upload("/1.0/instances", archive) }},
		{name: "publish", ask: asks(post("/1.0/images", map[string]any{"compression_algorithm": "none", "aliases": []any{map[string]string{"name": "web"}},
			"properties": map[string]string{"os": "mine"}, "source": map[string]string{"type": "instance", "name": "c1"}}))},
		{name: "publish of a snapshot", runs: true, ask: asks(post("/1.0/images", map[string]any{"compression_algorithm": "none",
			"properties": map[string]string{"os": "mine"}, "source": map[string]string{"type": "snapshot", "name": "c1/s1"}}))},
		{name: "update of one that runs", runs: true, ask: asks(request{method: "PATCH", path: one, body: map[string]any{"config": map[string]string{"limits.memory": "64MiB"}}})},
		{name: "import of an image", ask: asks(upload("/1.0/images", daemontest.Image("another")))},
		{name: "delete of an image", ask: asks(del("/1.0/images/" + tinySum)), loose: true},
		{name: "rename of a backup", more: func(l *life) { l.must(backup("c1", "b1")) }, ask: asks(post(one+"/backups/b1", api.InstanceBackupPost{Name: "b2"}))},
		{name: "delete of a backup", more: func(l *life) { l.must(backup("c1", "b1")) }, ask: asks(del(one + "/backups/b1")), loose: true},
	} {
		for pools, instant := range map[string]bool{"pools that copy": false, "instant pools": true} {
			if instant && !o.held {
				continue
			}
			t.Run(o.name+"/"+pools, func(t *testing.T) {
				t.Parallel()
				o.run(t, instant)
			})
		}
	}
}

// run goes through the ordeal with each kind of fault at each of its steps.
func (o ordeal) run(t *testing.T, instant bool) {
	h := newHost(t, instant)
	l := h.begin()
	l.setUp()
	if o.more != nil {
		o.more(l)
	}
	if o.runs {
		l.must(action("c1", "start"))
	}
	l.end()
	h.keep()

	l = h.begin()
	before := l.picture()
	l.arm(0, nil)
	l.must(o.ask(l))
	all, _ := l.disarm()
	after := l.picture()
	for strings.Contains(after, "/.sett/trash/") { // the garbage goes in the background
		after = l.picture()
	}
	l.end()
	t.Logf("%d steps: %s", len(all), strings.Join(all, "; "))
	if after == before && o.name != "restart" {
		t.Fatal("it does nothing that can be seen")
	}
	c := course{ordeal: o, host: h, before: before, after: after}
	c.each("killed", nil, c.killed)
	c.each("cancelled", nil, c.cancelled)
	c.each("failed", thatFail, func(l *life, what string) (*life, bool) { return c.failed(l, what, "boom") })
	c.each("full", ofAPool, func(l *life, what string) (*life, bool) { return c.failed(l, what, "full") })
	if o.runs {
		c.halted()
	}
}

// course is an ordeal under way.
type course struct {
	ordeal
	*host
	before, after string
}

// each lets a fault strike at one step of a sort after the other, until what was asked for
// has no more of them. f tells which life it goes on with, and whether the thing is done.
// Where it is not, all is as it was before, and the next try begins from there.
func (c *course) each(fault string, only func(string, bool) bool, f func(l *life, what string) (*life, bool)) {
	c.t.Helper()
	var l *life
	for at := 1; !c.t.Failed(); at++ {
		if l == nil {
			c.putBack()
			l = c.begin()
		}
		what := fmt.Sprintf("%s at step %d", fault, at)
		l.arm(at, only)
		next, done := f(l, what)
		if _, struck := l.disarm(); !struck {
			l.settles(fault+" at no step", c.after)
			l.empties(fault + " at all steps")
			l.end()
			return
		}
		if l = next; done {
			l.end()
			l = nil
		}
	}
}

// struck ends what each begins: it asks, with a fault to strike.
func (c *course) struck(ctx context.Context, l *life, strike func() error) (step string, err error) {
	l.mu.Lock()
	l.strike = strike
	l.mu.Unlock()
	_, err = l.try(ctx, c.ask(l))
	seen, hit := l.disarm()
	switch {
	case hit:
		step = seen[l.at-1]
	case err != nil:
		c.t.Errorf("with nothing in its way: %v", err)
	}
	return step, err
}

// again tries it once more.
func (c *course) again(l *life, what string) {
	c.t.Helper()
	if _, err := l.try(context.Background(), c.ask(l)); err != nil {
		c.t.Errorf("%s: the next try: %v", what, err)
		return
	}
	l.settles(what+", the next try", c.after)
}

// killed: after the restart it is done or not, nothing is left in between, the history
// knows, and the next try works.
func (c *course) killed(l *life, what string) (*life, bool) {
	c.t.Helper()
	var ids []string
	step, _ := c.struck(context.Background(), l, func() error {
		l.noted()
		ids = l.running()
		l.kill()
		return errDead
	})
	if step == "" {
		return l, true
	}
	<-l.died
	what += ", " + step
	next := c.begin()
	if c.parts {
		for _, id := range ids {
			next.remembers(id, what, false, true)
		}
		if next.picture() != c.after {
			c.again(next, what)
		}
		return next, true
	}
	now := next.settles(what, c.before, c.after)
	for _, id := range ids {
		next.remembers(id, what, now == 1, c.before == c.after || c.risen)
	}
	return next, now == 1
}

// remembers holds what the history says of an operation against what is so. blind: it is
// not known what is so.
func (l *life) remembers(id, what string, done, blind bool) {
	l.t.Helper()
	o, err := l.ended(id)
	switch {
	case err != nil:
		l.t.Errorf("%s: its operation: %v", what, err)
	case !o.StatusCode.IsFinal():
		l.t.Errorf("%s: its operation is %s", what, o.Status)
	case blind:
	case done && strings.HasPrefix(o.Err, "Rolled back"), !done && o.StatusCode == api.Success:
		l.t.Errorf("%s: done is %v, the history says %s %q", what, done, o.Status, o.Err)
	case o.StatusCode != api.Success && !strings.Contains(strings.ToLower(o.Err), "the daemon ended"):
		l.t.Errorf("%s: the history says %q", what, o.Err)
	}
}

// cancelled: it has ended, with all taken back, or it went on to its end and said so.
func (c *course) cancelled(l *life, what string) (*life, bool) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	step, err := c.struck(ctx, l, func() error {
		ids := l.running()
		if len(ids) == 0 { // it has not begun: the client goes away
			cancel()
		}
		for _, id := range ids {
			l.send(context.Background(), del("/1.0/operations/"+id))
		}
		return nil
	})
	what += ", " + step
	now := l.settles(what, c.before, c.after)
	if c.before != c.after && (err == nil) != (now == 1) {
		c.t.Errorf("%s: done is %v, and it says %v", what, now == 1, err)
	}
	return l, now == 1
}

// failed: it says so, and all is as it was.
func (c *course) failed(l *life, what, text string) (*life, bool) {
	c.t.Helper()
	step, err := c.struck(context.Background(), l, func() error {
		if text == "full" {
			return fmt.Errorf("write: %w", unix.ENOSPC)
		}
		return errors.New(text)
	})
	if step == "" {
		return l, true
	}
	what += ", " + step
	if err == nil { // some steps are left out without harm, or taken later
		if c.loose && l.picture() != c.after {
			l.end()
			l = c.begin()
		}
		l.settles(what, c.after)
		return l, true
	}
	if !strings.Contains(err.Error(), text) {
		c.t.Errorf("%s: it says %q", what, err)
	}
	if !c.loose {
		l.settles(what, c.before)
		return l, false
	}
	if c.runs {
		c.rise(l)
	}
	if l.picture() != c.after {
		c.again(l, what)
	}
	return l, true
}

// rise starts c1 if it does not run.
func (c *course) rise(l *life) {
	c.t.Helper()
	if c.guest(l) == nil {
		l.must(action("c1", "start"))
	}
}

func (c *course) guest(l *life) *enginefake.Guest {
	for _, id := range l.engine.Running() {
		if id.Name == "c1" {
			return l.engine.Guest(id)
		}
	}
	return nil
}

// halted: the guest ends meanwhile. It is done or not, and the next try works.
func (c *course) halted() {
	c.t.Helper()
	halt := func(l *life) {
		if g := c.guest(l); g != nil {
			g.Halt()
		}
	}
	// How it looks when the guest ends before and after.
	want := []string{c.before, c.after}
	for _, asked := range []bool{false, true} {
		c.putBack()
		l := c.begin()
		if asked {
			l.must(c.ask(l))
		}
		halt(l)
		now := ""
		for now = l.picture(); !strings.Contains(now, "c1 is Stopped") || now != l.picture(); {
			<-time.After(2 * time.Millisecond)
			now = l.picture()
		}
		want = append(want, now)
		l.end()
	}
	c.each("halted", nil, func(l *life, what string) (*life, bool) {
		step, _ := c.struck(context.Background(), l, func() error {
			halt(l)
			return nil
		})
		if step == "" {
			return l, true
		}
		what += ", " + step
		now := l.settles(what, want...)
		if now >= 2 && c.after != want[2] {
			l.must(action("c1", "start"))
		}
		if now == 1 || now == 3 {
			l.settles(what, c.after)
		} else {
			c.again(l, what)
		}
		return l, true
	})
}
