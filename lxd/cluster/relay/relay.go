package relay

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"sett/lxd/cluster"
	"sett/shared/errs"
)

// Relay is the way to all other members. A nil Relay knows none.
type Relay struct {
	c *cluster.Cluster
	// via replaces the connections to members, in tests.
	via func(cluster.Member) http.RoundTripper

	mu   sync.Mutex
	lost map[string]bool // addresses where nobody answers, though the members are not offline yet
}

// New makes a Relay over the connections of a cluster.
func New(c *cluster.Cluster) *Relay {
	return &Relay{c: c, via: func(m cluster.Member) http.RoundTripper { return c.Client(m).Transport }}
}

// Over makes a Relay over other connections: those of a test.
func Over(c *cluster.Cluster, via func(cluster.Member) http.RoundTripper) *Relay {
	return &Relay{c: c, via: via}
}

// Clustered reports whether there are others at all.
func (r *Relay) Clustered() bool { return r != nil && r.c.Here().Clustered() }

// Track keeps a connection that a member has opened for as long as it is one; see
// cluster.Cluster.Track.
func (r *Relay) Track(fingerprint string, conn io.Closer) (done func(), ok bool) {
	return r.c.Track(fingerprint, conn)
}

// Here is this member.
func (r *Relay) Here() *cluster.Here {
	if r == nil {
		return nil // which stands alone
	}
	return r.c.Here()
}

// Members lists all members by name, this one among them.
func (r *Relay) Members(ctx context.Context) ([]cluster.Member, error) { return r.c.Members(ctx) }

// Others lists the members that are not this one; none on a server that stands alone.
func (r *Relay) Others(ctx context.Context) ([]cluster.Member, error) {
	if !r.Clustered() {
		return nil, nil
	}
	return r.c.Others(ctx)
}

// Member finds a member by name.
func (r *Relay) Member(ctx context.Context, name string) (cluster.Member, error) {
	return r.c.Member(ctx, name)
}

// Peers lists who the members are as far as is known without the database, this one
// left out.
func (r *Relay) Peers() []cluster.Peer {
	if !r.Clustered() {
		return nil
	}
	var out []cluster.Peer
	for _, p := range r.c.Peers() {
		if p.Address != r.c.Here().Address() {
			out = append(out, p)
		}
	}
	return out
}

// Online reports whether a member was heard of lately.
func (r *Relay) Online(m cluster.Member) bool { return r.c.Online(m) }

// To is the way to a member.
func (r *Relay) To(m cluster.Member) Target {
	return Target{Name: m.Name, URL: &url.URL{Scheme: "https", Host: m.Address}, Via: r.via(m),
		Alive: func() bool { return r.c.Online(m) }}
}

// Lost notes that nobody answers at a member's address, Found that somebody does. It is
// known long before the member counts as offline.
func (r *Relay) Lost(address string) { r.note(address, true) }

// Found is the opposite of Lost.
func (r *Relay) Found(address string) { r.note(address, false) }

func (r *Relay) note(address string, lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost == nil {
		r.lost = map[string]bool{}
	}
	r.lost[address] = lost
}

// Reachable reports whether a member is online and, as far as is known, answers.
func (r *Relay) Reachable(m cluster.Member) bool {
	if m.ID == r.Here().ID() {
		return true
	}
	r.mu.Lock()
	lost := r.lost[m.Address]
	r.mu.Unlock()
	return !lost && r.Online(m)
}

var errLost = errors.New("it was out of reach a moment ago")

// Answer is what one member said.
type Answer[T any] struct {
	Member cluster.Member
	Value  T
	Err    error
}

// Gather asks members, all at once, and waits for none longer than limit. Those that are
// known to be out of reach are not asked. There is an answer for each, in their order:
// what it said, or why it said nothing.
func Gather[T any](ctx context.Context, r *Relay, ms []cluster.Member, limit time.Duration, q Request) []Answer[T] {
	out := make([]Answer[T], len(ms))
	if len(ms) == 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan struct{})
	for i, m := range ms {
		out[i].Member = m
		go func() {
			defer func() { done <- struct{}{} }()
			if !r.Reachable(m) {
				out[i].Err = r.To(m).gone(errLost)
				return
			}
			out[i].Err = r.To(m).Call(ctx, q, &out[i].Value)
		}()
	}
	for range ms {
		<-done
	}
	return out
}

// Tell has all others do something, each within limit, and returns what went wrong:
// members that are offline are not waited for and count as failed.
func (r *Relay) Tell(ctx context.Context, ms []cluster.Member, limit time.Duration, q func(cluster.Member) Request) []cluster.MemberError {
	out := make([]error, len(ms))
	done := make(chan struct{})
	for i, m := range ms {
		go func() {
			defer func() { done <- struct{}{} }()
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			out[i] = r.To(m).Call(ctx, q(m), nil)
		}()
	}
	for range ms {
		<-done
	}
	var failed []cluster.MemberError
	for i, err := range out {
		if err != nil {
			failed = append(failed, cluster.MemberError{Member: ms[i], Err: err})
		}
	}
	return failed
}

// Whole lists the others when all of them are online, and names those that are not in
// an error: what changes all members is not begun without one.
func (r *Relay) Whole(ctx context.Context) ([]cluster.Member, error) {
	ms, err := r.Others(ctx)
	if err != nil {
		return nil, err
	}
	var off []string
	for _, m := range ms {
		if !r.Online(m) {
			off = append(off, m.Name)
		}
	}
	if len(off) > 0 {
		return nil, errs.Unavailable("Cluster members %s are offline; this changes all members and needs them", strings.Join(off, ", "))
	}
	return ms, nil
}

// Join makes one error of what members answered, which names each of them; nil for
// none. Its kind is that of the first.
func Join(failed []cluster.MemberError) error {
	if len(failed) == 0 {
		return nil
	}
	texts := make([]string, len(failed))
	for i, f := range failed {
		texts[i] = f.Error()
		var g *goneError
		if errors.As(f.Err, &g) { // which names the member itself
			texts[i] = f.Err.Error()
		}
	}
	return errs.Wrap(errs.KindOf(failed[0].Err), errors.New(strings.Join(texts, "; ")))
}
