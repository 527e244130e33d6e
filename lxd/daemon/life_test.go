package daemon_test

import (
	"bytes"
	"context"
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

	"sett/lxd/cluster"
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

	global string         // the database, where it is that of another host's cluster
	member cluster.Member // what it is in its cluster; none: it stands alone
	via    func(cluster.Member) http.RoundTripper
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
	h.global = filepath.Join(h.databases(), "global.db")
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
	l.global = dbtest.At(h.t, h.global, l.before, l.after)
	l.look = dbtest.Watched(h.global, nil, nil)
	l.local = db.Open(dbtest.Watched(filepath.Join(h.databases(), node.FileName), func(string) error { return l.alive() }, nil), db.Options{})
	b, err := daemon.StartMember(daemon.Options{
		Dir: h.dir, LogHandler: slog.DiscardHandler,
		Engine:         func() (container.Engine, error) { return engine{h.engine, l.steps}, nil },
		StorageDrivers: driver.NewRegistry(kind{&storagefake.Kind{Instant: h.instant}, l.steps}),
		IDs:            daemontest.IDs{}, Unpacker: daemontest.Unpacker{Jail: unpackfake.Jail{Fail: l.unpack}}, Templates: render.Direct{},
	}, l.global, &node.DB{DB: l.local}, h.member, h.via)
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
	if l.dead() {
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

// calm is the picture when the garbage, which goes in the background, is gone.
func (l *life) calm() string {
	for begun := time.Now(); ; {
		p := l.picture()
		if !strings.Contains(p, "/.sett/trash/") && !strings.Contains(p, "/.sett/new/") || time.Since(begun) > settleTime {
			return p
		}
		<-time.After(2 * time.Millisecond)
	}
}

// settles waits until the picture is one of those that are wanted, and says which.
func (l *life) settles(what string, want ...string) int {
	l.t.Helper()
	return settles(l.t, l.picture, what, want...)
}

func settles(t *testing.T, picture func() string, what string, want ...string) int {
	t.Helper()
	got := ""
	for begun := time.Now(); time.Since(begun) < settleTime; {
		got = picture()
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
	t.Errorf("%s: it is not what it was, nor what it should be; the nearest differs in\n%s", what, best)
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
