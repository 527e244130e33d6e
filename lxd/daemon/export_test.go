package daemon

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/auth"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/db/node"
	"sett/lxd/db/store"
	"sett/lxd/event"
	"sett/lxd/rest"
	"sett/lxd/task"
	"sett/shared/log"
	"sett/shared/undo"
)

// Bare is a daemon on databases that a test has opened, without a socket and without the
// lock on its folder: a test may have several of them on one folder, of which all but one
// do nothing any more. It starts in milliseconds.
type Bare struct {
	d    *Daemon
	http http.Handler
}

// StartBare starts one, and returns when it is ready and has started what is to run.
func StartBare(o Options, global *db.DB, local *node.DB) (*Bare, error) {
	return StartMember(o, global, local, cluster.Member{}, nil)
}

// StartMember is StartBare for a member of a cluster that reaches others by via.
func StartMember(o Options, global *db.DB, local *node.DB, m cluster.Member, via func(cluster.Member) http.RoundTripper) (*Bare, error) {
	ctx := context.Background()
	o.Tell = func(string) {}
	d := &Daemon{o: o, here: cluster.Alone(), bus: event.NewBus(""), ready: make(chan struct{}), own: &parts{}, log: slog.New(o.LogHandler),
		st: &store.Store{Global: global, Local: local}}
	d.bus.Follow(d.here.Location)
	d.ctx, d.cancel = context.WithCancel(log.With(ctx, d.log))
	var u undo.Stack
	defer u.Run()
	u.Push(func() error { d.cancel(); return nil })
	if err := d.known(ctx, local, nil); err != nil {
		return nil, err
	}
	if m.ID != 0 {
		d.here.Set(m)
		d.own.cluster.Attach(global)
		d.own.cluster.SetThreshold(time.Hour)
		d.own.relay = relay.Over(d.own.cluster, via)
	}
	if err := d.assemble(ctx, &u); err != nil {
		return nil, err
	}
	d.jobs = task.New(d.log) // what happens by itself now and then is no step of anything
	b := &Bare{d, d.handler()}
	d.findAll()
	u.Commit()
	return b, nil
}

// ForMembers is the API as other members see it.
func (b *Bare) ForMembers() http.Handler {
	d := b.d
	return rest.New(rest.Deps{Log: d.log, Project: d.own.projects.Chain, Gate: d.gate, Forward: d.own.forward.forward,
		Authenticate: func(*http.Request) (auth.Caller, error) {
			return auth.Caller{Protocol: auth.Cluster, Username: "another", Admin: true}, nil
		}}, d.own.routes())
}

// TakePart makes the member's part of all pools.
func (b *Bare) TakePart(ctx context.Context) error { return b.d.own.storage.CreateHere(ctx, nil) }

// Ask sends a request as somebody who administers the server.
func (b *Bare) Ask(ctx context.Context, method, path string, header map[string]string, body io.Reader) (int, []byte) {
	r := httptest.NewRequestWithContext(context.WithValue(ctx, peerKey{}, &unix.Ucred{}), method, path, body)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	return w.Code, w.Body.Bytes()
}

// End ends it. Containers go on.
func (b *Bare) End() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d := b.d
	_ = d.ops.Close(ctx)
	d.cancel()
	d.jobs.Stop()
	d.own.ui.Close(ctx)
	d.wg.Wait()
	d.own.close(ctx)
	_ = d.past.Close(ctx)
}
