package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/cluster"
	"sett/lxd/db"
	"sett/lxd/db/dbtest"
	"sett/shared/api"
)

// pair is two members over one database, each on a host of its own.
type pair struct {
	t     *testing.T
	hosts [2]*host
	lives [2]*life

	mu    sync.Mutex // of what the members themselves use
	doors [2]*door
}

func (p *pair) door(n int) *door {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doors[n]
}

// door is where the other member comes in, and how this one gets there.
type door struct {
	server *http.Server
	at     string
	to     *http.Transport

	mu  sync.Mutex
	out []net.Conn
}

const (
	stmtFirst  db.Stmt = `UPDATE nodes SET name = 'm1', address = 'm1:1' WHERE id = 1`
	stmtSecond db.Stmt = `INSERT INTO nodes (id, name, address, schema, api_extensions) VALUES (2, 'm2', 'm2:1', 1, 0)`
)

// newPair makes them: c1, with a snapshot, is on the first one.
func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, hosts: [2]*host{newHost(t, false), newHost(t, false)}}
	l := p.hosts[0].begin()
	l.setUp()
	dbtest.Exec(t, l.global, stmtFirst)
	dbtest.Exec(t, l.global, stmtSecond)
	l.end()
	for n, h := range p.hosts {
		h.global = p.hosts[0].global
		h.member = cluster.Member{ID: int64(n + 1), Name: fmt.Sprintf("m%d", n+1), Address: fmt.Sprintf("m%d:1", n+1)}
		h.via = func(m cluster.Member) http.RoundTripper { return way{p, n, int(m.ID) - 1} }
	}
	p.begin()
	h := p.hosts[1]
	h.ok(p.lives[1].TakePart(t.Context()))
	p.end()
	for _, h := range p.hosts {
		h.keep()
	}
	return p
}

// way is that from one member to another.
type way struct {
	p        *pair
	from, to int
}

func (w way) RoundTrip(r *http.Request) (*http.Response, error) {
	from, to := w.p.door(w.from), w.p.door(w.to)
	if from == nil || to == nil {
		return nil, errors.New("connection refused")
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", to.at
	return from.to.RoundTrip(r)
}

// rise begins another life of a member.
func (p *pair) rise(n int) {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	p.hosts[n].ok(err)
	d := &door{at: l.Addr().String()}
	d.to = &http.Transport{DialContext: func(ctx context.Context, network, at string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, at)
		if err == nil {
			d.mu.Lock()
			d.out = append(d.out, c)
			d.mu.Unlock()
		}
		return c, err
	}}
	p.mu.Lock()
	p.doors[n] = d
	p.mu.Unlock()
	p.lives[n] = p.hosts[n].begin()
	d.server = &http.Server{Handler: p.lives[n].ForMembers(), ReadHeaderTimeout: time.Minute}
	go func() { _ = d.server.Serve(l) }()
}

// cut breaks all connections of a member, which takes no more.
func (p *pair) cut(n int) {
	_ = p.door(n).server.Close()
	p.door(n).sever()
}

// sever breaks the connections that there are now.
func (p *pair) sever() {
	for n := range p.hosts {
		p.door(n).sever()
	}
}

func (d *door) sever() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.out {
		_ = c.Close()
	}
	d.out = nil
}

func (p *pair) begin() {
	p.t.Helper()
	for n := range p.hosts {
		p.rise(n)
	}
}

func (p *pair) end() {
	for n, l := range p.lives {
		if !l.over {
			p.cut(n)
		}
		l.end()
	}
}

// anew begins both on hosts that are what they were.
func (p *pair) anew() {
	p.t.Helper()
	for _, h := range p.hosts {
		h.putBack()
	}
	p.begin()
}

const where = `
SELECT 'instance ' || i.name || ' at ' || n.name FROM instances AS i JOIN nodes AS n ON n.id = i.node_id
UNION ALL SELECT 'volume ' || v.name || ' at ' || n.name || ' ' || IFNULL(c.value, '') FROM storage_volumes AS v JOIN nodes AS n ON n.id = v.node_id
	LEFT JOIN storage_volumes_config AS c ON c.storage_volume_id = v.id WHERE v.type = 0
ORDER BY 1`

// picture shows all there is on both.
func (p *pair) picture() string {
	var out strings.Builder
	all, err := p.lives[0].look.QueryContext(context.Background(), where)
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
	return out.String() + "m1\n" + p.lives[0].picture() + "m2\n" + p.lives[1].picture()
}

// settles waits until the picture is one of those that are wanted, and says which.
func (p *pair) settles(what string, want ...string) int {
	p.t.Helper()
	return settles(p.t, p.picture, what, want...)
}

// TestEveryStepOfAMoveBetweenMembersCanGoWrong does to each of the two what
// TestEveryStepCanGoWrong does to one: the instance is whole on the one or the other, and
// nothing is left anywhere else.
func TestEveryStepOfAMoveBetweenMembersCanGoWrong(t *testing.T) {
	t.Parallel()
	for what, to := range map[string]api.InstancePost{
		"as it is":                 {Name: "c1", Migration: true},
		"to another name and pool": {Name: "c9", Migration: true, Pool: "other"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			c := &transfer{pair: p, ask: post("/1.0/instances/c1?target=m2", to)}
			p.anew()
			c.before = p.picture()
			for _, l := range p.lives {
				l.arm(0, nil)
			}
			p.lives[0].must(c.ask)
			for n, l := range p.lives {
				all, _ := l.disarm()
				t.Logf("m%d: %d steps: %s", n+1, len(all), strings.Join(all, "; "))
			}
			p.lives[0].calm()
			c.after = p.picture()
			p.end()
			if !strings.Contains(c.after, "instance "+to.Name+" at m2") {
				t.Fatalf("it is\n%s", c.after)
			}
			for n := range p.hosts {
				c.each(n, "killed", nil, c.killed)
				c.each(n, "cancelled", nil, c.cancelled)
				c.each(n, "cut off", nil, c.severed)
				c.each(n, "failed", thatFail, func(n int, what string) { c.failed(n, what, "boom") })
				c.each(n, "full", ofAPool, func(n int, what string) { c.failed(n, what, "full") })
			}
		})
	}
}

// transfer is a move under way.
type transfer struct {
	*pair
	ask           request
	before, after string
}

// each lets a fault strike at one step of a member after the other, with -short at every
// fourth.
func (c *transfer) each(n int, fault string, only func(string, bool) bool, f func(n int, what string)) {
	c.t.Helper()
	first, stride := 1, 1
	if testing.Short() {
		first, stride = 1+(n+len(fault))%4, 4
	}
	for at := first; !c.t.Failed(); at += stride {
		c.anew()
		l := c.lives[n]
		l.arm(at, only)
		f(n, fmt.Sprintf("m%d %s at step %d", n+1, fault, at))
		_, struck := l.disarm()
		if !struck {
			c.settles(fault+" at no step", c.after)
		}
		c.end()
		if !struck {
			return
		}
	}
}

// struck asks for the move, with a fault to strike.
func (c *transfer) struck(ctx context.Context, n int, strike func() error) (step string, err error) {
	l := c.lives[n]
	l.mu.Lock()
	l.strike = strike
	l.mu.Unlock()
	_, err = c.lives[0].try(ctx, c.ask)
	seen, hit := l.disarm()
	switch {
	case hit:
		step = seen[l.at-1]
	case err != nil:
		c.t.Errorf("with nothing in its way: %v", err)
	}
	return step, err
}

// again tries it once more where it was not done.
func (c *transfer) again(what string, now int) {
	c.t.Helper()
	if now != 0 {
		return
	}
	if _, err := c.lives[0].try(context.Background(), c.ask); err != nil {
		c.t.Errorf("%s: the next try: %v", what, err)
		return
	}
	c.settles(what+", the next try", c.after)
}

func (c *transfer) killed(n int, what string) {
	c.t.Helper()
	l := c.lives[n]
	var ids []string
	over, unplugged := make(chan struct{}), make(chan struct{})
	defer close(over)
	go func() {
		defer close(unplugged)
		select {
		case <-l.died:
			c.cut(n)
		case <-over:
		}
	}()
	step, err := c.struck(context.Background(), n, func() error {
		if n == 0 {
			l.noted()
			ids = l.running()
		}
		l.kill()
		return errDead
	})
	if step == "" {
		return
	}
	<-unplugged
	what += ", " + step
	c.rise(n)
	now := c.settles(what, c.before, c.after)
	if n == 1 && (err == nil) != (now == 1) {
		c.t.Errorf("%s: done is %v, and it says %v", what, now == 1, err)
	}
	for _, id := range ids {
		c.lives[0].remembers(id, what, now == 1, false)
		if o, err := c.lives[0].ended(id); now == 1 && (err != nil || o.StatusCode != api.Success) {
			c.t.Errorf("%s: the history says %s %q, %v", what, o.Status, o.Err, err)
		}
	}
	c.again(what, now)
	l.end()
}

// holdUp keeps the target in its step until the other member has ended its operations: what
// the target does then comes too late.
func holdUp(n int, other *life, ids []string) {
	for _, id := range ids {
		if n == 1 {
			_, _ = other.ended(id)
		}
	}
}

func (c *transfer) cancelled(n int, what string) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := c.lives[0]
	step, err := c.struck(ctx, n, func() error {
		ids := l.running()
		if len(ids) == 0 {
			cancel()
		}
		for _, id := range ids {
			l.send(context.Background(), del("/1.0/operations/"+id))
		}
		holdUp(n, l, ids)
		return nil
	})
	c.decided(what, step, err)
}

// decided: it is done or not, as was said, and the next try works.
func (c *transfer) decided(what, step string, err error) {
	c.t.Helper()
	if step == "" {
		return
	}
	what += ", " + step
	now := c.settles(what, c.before, c.after)
	if (err == nil) != (now == 1) {
		c.t.Errorf("%s: done is %v, and it says %v", what, now == 1, err)
	}
	c.again(what, now)
}

// severed: the connections between the two break, and both go on.
func (c *transfer) severed(n int, what string) {
	c.t.Helper()
	l := c.lives[0]
	step, err := c.struck(context.Background(), n, func() error {
		ids := l.running()
		c.sever()
		holdUp(n, l, ids)
		return nil
	})
	c.decided(what, step, err)
}

func (c *transfer) failed(n int, what, text string) {
	c.t.Helper()
	step, err := c.struck(context.Background(), n, func() error {
		if text == "full" {
			return fmt.Errorf("write: %w", unix.ENOSPC)
		}
		return errors.New(text)
	})
	if step == "" {
		return
	}
	what += ", " + step
	if err != nil {
		if !strings.Contains(err.Error(), text) {
			c.t.Errorf("%s: it says %q", what, err)
		}
		c.again(what, c.settles(what, c.before))
		return
	}
	// What could not be removed goes at the next start.
	c.lives[0].calm()
	if c.picture() != c.after {
		c.end()
		c.begin()
	}
	c.settles(what, c.after)
}
