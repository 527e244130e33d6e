package daemon_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	enginefake "sett/lxd/container/fake"
	"sett/lxd/daemontest"
	"sett/shared/api"
)

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
	after := l.calm()
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
// Where it is not, all is as it was before, and the next try begins from there. With -short
// it strikes at every fourth step.
func (c *course) each(fault string, only func(string, bool) bool, f func(l *life, what string) (*life, bool)) {
	c.t.Helper()
	var l *life
	first, stride := 1, 1
	if testing.Short() {
		first, stride = 1+len(c.name)%4, 4
	}
	for at := first; !c.t.Failed(); at += stride {
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
		if next.calm() != c.after {
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
		if c.loose && l.calm() != c.after {
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
	if l.calm() != c.after {
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
