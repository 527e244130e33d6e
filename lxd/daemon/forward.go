package daemon

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sett/lxd/auth"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/op"
	"sett/lxd/rest"
	"sett/shared/errs"
	"sett/shared/log"
)

// forwarder finds the member that a request is for, and hands it over.
type forwarder struct {
	db    *db.DB
	relay *relay.Relay
	ops   *op.Manager
	// leader finds the address of the database's leader.
	leader func(ctx context.Context) (string, error)
	// heard waits until the events of a member come to the clients here.
	heard func(context.Context, cluster.Member)

	mu    sync.Mutex
	asked time.Time // when known was read
	known map[int64]cluster.Member
	seen  map[place]guess
}

// place is an instance, by the names that a request gives it.
type place struct{ project, instance string }

// guess is where an instance was found a moment ago.
type guess struct {
	member cluster.Member
	at     time.Time
}

// opPath is where a client asks how an operation stands, before it waits for its events.
const opPath = "/1.0/operations/{id}"

const (
	stmtWhere db.Stmt = `
SELECT n.id, n.name, n.address, n.description, n.arch, n.schema, n.api_extensions, n.state
FROM instances AS i JOIN projects AS p ON p.id = i.project_id JOIN nodes AS n ON n.id = i.node_id
WHERE p.name = ? AND i.name = ?`
	stmtLoad db.Stmt = `
SELECT n.id AS id, COUNT(i.id) AS instances, IFNULL(MAX(c.value), '') AS scheduler
FROM nodes AS n LEFT JOIN instances AS i ON i.node_id = n.id
LEFT JOIN nodes_config AS c ON c.node_id = n.id AND c.key = 'scheduler.instance'
GROUP BY n.id`
)

// forward implements rest.Deps.Forward. What another member has sent on is never sent
// on again: it is found out where the object is all the same, because to work on an
// instance in two places at once would be worse than any error.
func (f *forwarder) forward(w http.ResponseWriter, r *rest.Request) (bool, error) {
	where := r.Route().Where
	if where == rest.Here || r.Caller().Protocol == auth.Cluster {
		return false, nil
	}
	if !f.relay.Clustered() {
		if r.Query("target") != "" && (where == rest.OnTarget || where == rest.OnTargetOrLeader || where == rest.OnPlacement || where == rest.OnObject) {
			return false, errs.Invalid("Target only allowed when clustered")
		}
		return false, nil
	}
	ctx := r.HTTP().Context()
	if done, err := f.try(w, r); done || err != nil {
		return done, err
	}
	m, err := f.where(ctx, r)
	switch {
	case err != nil:
		return false, err
	case m.ID == 0 || m.ID == f.relay.Here().ID():
		return false, nil
	case r.Relayed():
		relay.Refuse(w.Header())
		return false, errs.Unavailable("The request was sent on to member %q, but what it is about is on %q; try again", f.relay.Here().Name(), m.Name)
	}
	if where == rest.OnOperation && r.Route().Path == opPath {
		f.heard(ctx, m)
	}
	return true, f.relay.To(m).Forward(w, r.HTTP(), *r.Identity(), log.From(ctx))
}

// where is the member that a request is for; none stands for this one.
func (f *forwarder) where(ctx context.Context, r *rest.Request) (cluster.Member, error) {
	target := r.Query("target")
	switch r.Route().Where {
	case rest.OnInstance:
		m, err := db.One[cluster.Member](ctx, f.db, stmtWhere, r.Project().Name, r.Value(0))
		if errors.Is(err, db.ErrNotFound) {
			return cluster.Member{}, nil // whose handler says so
		}
		if err == nil {
			f.remember(r, m)
		}
		return m, err
	case rest.OnOperation:
		id := r.Value(0)
		if _, err := f.ops.Get(id); err == nil {
			return cluster.Member{}, nil
		}
		return f.recent(ctx, op.MemberOf(id))
	case rest.OnObject:
		id, err := r.Route().Locate(ctx, r)
		if err != nil || id == 0 {
			return cluster.Member{}, err
		}
		return f.byID(ctx, id)
	case rest.OnLeader:
		return f.first(ctx)
	case rest.OnTargetOrLeader:
		if target == "" {
			return f.first(ctx)
		}
	case rest.OnPlacement:
		if r.Relayed() { // the one that was chosen
			return cluster.Member{}, nil
		}
		if target == "" {
			return f.place(ctx)
		}
		if group, ok := strings.CutPrefix(target, "@"); ok {
			return cluster.Member{}, errs.NotImplemented("Cluster groups are not implemented; name a member instead of the group %q", group)
		}
	}
	if target == "" {
		return cluster.Member{}, nil
	}
	return f.relay.Member(ctx, target)
}

// recallTime is for how long an address may be a little old.
const recallTime = 5 * time.Second

// recent is byID for requests that come in numbers, such as the connections of one exec:
// it asks the database only now and then.
func (f *forwarder) recent(ctx context.Context, id int64) (cluster.Member, error) {
	f.mu.Lock()
	m, ok := f.known[id]
	ok = ok && time.Since(f.asked) < recallTime
	f.mu.Unlock()
	if ok || id == 0 || id == f.relay.Here().ID() {
		return m, nil
	}
	ms, err := f.relay.Members(ctx)
	if err != nil {
		return m, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked, f.known = time.Now(), map[int64]cluster.Member{}
	for _, m := range ms {
		f.known[m.ID] = m
	}
	return f.known[id], nil
}

// try sends a request to where its instance was a moment ago, and reports whether anybody
// has taken it there.
func (f *forwarder) try(w http.ResponseWriter, r *rest.Request) (bool, error) {
	m, ok := f.guess(r)
	if !ok {
		return false, nil
	}
	if err := r.ReadBody(); err != nil {
		return false, err
	}
	to := f.relay.To(m)
	to.Guessed = true
	err := to.Forward(w, r.HTTP(), *r.Identity(), log.From(r.HTTP().Context()))
	if err != nil {
		f.forget(r)
	}
	if errors.Is(err, relay.ErrElsewhere) || errors.Is(err, cluster.ErrUnreached) {
		return false, r.ReadBody() // for the next one
	}
	return true, err
}

// guessBody is how long a body may be to be kept until it is known whether a guess was
// right.
const guessBody = 64 << 10

// guess is where the instance of a request was a moment ago. It costs nothing to be
// wrong: a member asks the database itself before it does what another one has sent on.
func (f *forwarder) guess(r *rest.Request) (cluster.Member, bool) {
	n := r.ContentLength()
	if r.Route().Where != rest.OnInstance || r.Relayed() || r.Route().Body.Stream || n < 0 || n > guessBody {
		return cluster.Member{}, false
	}
	f.mu.Lock()
	g, ok := f.seen[placeOf(r)]
	f.mu.Unlock()
	return g.member, ok && time.Since(g.at) < recallTime && f.relay.Reachable(g.member)
}

func placeOf(r *rest.Request) place { return place{r.Project().Name, r.Value(0)} }

// remember notes where an instance is, should that be another member.
func (f *forwarder) remember(r *rest.Request, m cluster.Member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.seen, placeOf(r))
	if m.ID == f.relay.Here().ID() || r.Relayed() {
		return
	}
	if f.seen == nil || len(f.seen) >= guessCount {
		f.seen = map[place]guess{}
	}
	f.seen[placeOf(r)] = guess{m, time.Now()}
}

// guessCount bounds how many guesses are kept.
const guessCount = 1000

func (f *forwarder) forget(r *rest.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.seen, placeOf(r))
}

// byID finds a member that may be gone by now.
func (f *forwarder) byID(ctx context.Context, id int64) (cluster.Member, error) {
	if id == 0 || id == f.relay.Here().ID() {
		return cluster.Member{}, nil
	}
	ms, err := f.relay.Members(ctx)
	for _, m := range ms {
		if m.ID == id {
			return m, nil
		}
	}
	return cluster.Member{}, err
}

// leaderTime is for how long a request waits until the members have agreed on a leader.
const leaderTime = 5 * time.Second

// first finds the leader, with which what many members take part in begins: two requests
// for the same thing meet there, and not each holding what the other one waits for.
func (f *forwarder) first(ctx context.Context) (cluster.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderTime)
	defer cancel()
	a, err := f.leader(ctx)
	if err != nil {
		return cluster.Member{}, errs.Unavailable("The members of the cluster have no leader now; try again: %w", err)
	}
	ms, err := f.relay.Members(ctx)
	if err != nil {
		return cluster.Member{}, err
	}
	for _, m := range ms {
		if m.Address == a {
			return m, nil
		}
	}
	return cluster.Member{}, errs.Unavailable("The leader of the cluster, %s, is no member any more; try again", a)
}

type loadRow struct {
	ID        int64  `db:"id"`
	Instances int64  `db:"instances"`
	Scheduler string `db:"scheduler"`
}

// place picks the member that gets a new instance when nobody says which: of those
// that are online and take all instances, the one with the fewest. Chance decides
// between equals, so that a burst of requests spreads.
func (f *forwarder) place(ctx context.Context) (cluster.Member, error) {
	ms, err := f.relay.Members(ctx)
	if err != nil {
		return cluster.Member{}, err
	}
	rows, err := db.Select[loadRow](ctx, f.db, stmtLoad)
	if err != nil {
		return cluster.Member{}, err
	}
	load := map[int64]loadRow{}
	for _, r := range rows {
		load[r.ID] = r
	}
	// One that has just been lost is not chosen as long as there are others.
	reachable := func(m cluster.Member) bool { return f.relay.Online(m) }
	if slices.ContainsFunc(ms, f.relay.Reachable) {
		reachable = f.relay.Reachable
	}
	var best []cluster.Member
	for _, m := range ms {
		l := load[m.ID]
		if m.State != cluster.StateCreated || !reachable(m) || l.Scheduler != "" && l.Scheduler != "all" {
			continue
		}
		if len(best) > 0 && l.Instances < load[best[0].ID].Instances {
			best = best[:0]
		}
		if len(best) == 0 || l.Instances == load[best[0].ID].Instances {
			best = append(best, m)
		}
	}
	if len(best) == 0 {
		return cluster.Member{}, errs.Unavailable("No cluster member takes instances: all are offline, evacuated, or take only those that name them; use --target")
	}
	return best[rand.IntN(len(best))], nil
}

// leader finds the member that decides what the database holds.
func (d *Daemon) leader(ctx context.Context) (string, error) {
	m, err := d.st.Node().Leader(ctx)
	return m.Address, err
}
