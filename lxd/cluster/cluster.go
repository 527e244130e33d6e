package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"sett/lxd/db"
	"sett/shared/errs"
)

// State is what a member is up to, as the database has it.
type State int

// The states of members.
const (
	StateCreated State = iota
	StatePending       // is joining
	StateEvacuated
)

// Member is one machine of the cluster.
type Member struct {
	ID           int64  `db:"id"`
	Name         string `db:"name"`
	Address      string `db:"address"` // host:port of its API
	Description  string `db:"description"`
	Architecture string `db:"arch"`
	Schema       int    `db:"schema"` // of the shared database, that it knows
	Extensions   int    `db:"api_extensions"`
	State        State  `db:"state"`
}

// DefaultOfflineThreshold is how long a member may be silent before it counts as
// offline, when the configuration says nothing.
const DefaultOfflineThreshold = 20 * time.Second

// Options are what a Cluster works with.
type Options struct {
	DB   *db.DB
	Here *Here
	Log  *slog.Logger
	// Identity is this member's own certificate.
	Identity Identity
}

// Cluster knows the members and how to call them. It is there on a lone server too,
// where it has one member and nobody to call.
type Cluster struct {
	o Options

	mu        sync.Mutex
	peers     []Peer
	seen      map[int64]time.Time
	threshold time.Duration
	clients   map[string]*http.Client // by address and certificate
	sessions  map[string]tls.ClientSessionCache
	spares    map[string]*spares
	held      map[io.Closer]string // connections of members to this one, by certificate
}

// New makes a Cluster.
func New(o Options) *Cluster {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Cluster{o: o, seen: map[int64]time.Time{}, threshold: DefaultOfflineThreshold,
		clients: map[string]*http.Client{}, sessions: map[string]tls.ClientSessionCache{}, spares: map[string]*spares{}, held: map[io.Closer]string{}}
}

// Attach gives a Cluster that was made before it the database.
func (c *Cluster) Attach(d *db.DB) { c.o.DB = d }

// Here is this machine's place.
func (c *Cluster) Here() *Here { return c.o.Here }

const stmtMembers db.Stmt = `SELECT id, name, address, description, arch, schema, api_extensions, state FROM nodes ORDER BY name`

// Members lists all members by name, this one among them. On a lone server it is
// that one.
func (c *Cluster) Members(ctx context.Context) ([]Member, error) { return LoadMembers(ctx, c.o.DB) }

// LoadMembers lists all members by name.
func LoadMembers(ctx context.Context, q db.Querier) ([]Member, error) {
	ms, err := db.Select[Member](ctx, q, stmtMembers)
	if err != nil {
		return nil, fmt.Errorf("list the members of the cluster: %w", err)
	}
	return ms, nil
}

// Member finds a member by name.
func (c *Cluster) Member(ctx context.Context, name string) (Member, error) {
	ms, err := c.Members(ctx)
	if err != nil {
		return Member{}, err
	}
	for _, m := range ms {
		if m.Name == name {
			return m, nil
		}
	}
	return Member{}, errs.NotFound("Cluster member %q not found", name)
}

// Others lists the members that are not this one.
func (c *Cluster) Others(ctx context.Context) ([]Member, error) {
	if !c.o.Here.Clustered() {
		return nil, nil
	}
	ms, err := c.Members(ctx)
	if err != nil {
		return nil, err
	}
	out := ms[:0]
	for _, m := range ms {
		if m.ID != c.o.Here.ID() && m.State != StatePending {
			out = append(out, m)
		}
	}
	return out, nil
}

// Online reports whether a member was heard of lately. This one always is.
func (c *Cluster) Online(m Member) bool {
	if m.ID == c.o.Here.ID() {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.lastSeen(m.ID)) < c.threshold
}

func (c *Cluster) lastSeen(id int64) time.Time {
	t, ok := c.seen[id]
	if !ok {
		t = time.Now()
		c.seen[id] = t
	}
	return t
}

// LastSeen is when a member was heard of last. One that nobody has heard of yet
// counts from when it was first asked for.
func (c *Cluster) LastSeen(id int64) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastSeen(id)
}

// Saw notes that a member was heard of at a time. Older news change nothing.
func (c *Cluster) Saw(id int64, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.After(c.seen[id]) {
		c.seen[id] = at
	}
}

// Threshold is how long a member may be silent.
func (c *Cluster) Threshold() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.threshold
}

// SetThreshold changes how long a member may be silent.
func (c *Cluster) SetThreshold(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.threshold = d
}
