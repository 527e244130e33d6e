package relay

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"sett/lxd/cluster"
)

// Relay is the way to all other members. A nil Relay knows none.
type Relay struct {
	c *cluster.Cluster
	// via replaces the connections to members, in tests.
	via func(cluster.Member) http.RoundTripper
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

// Online reports whether a member was heard of lately.
func (r *Relay) Online(m cluster.Member) bool { return r.c.Online(m) }

// To is the way to a member.
func (r *Relay) To(m cluster.Member) Target {
	return Target{Name: m.Name, URL: &url.URL{Scheme: "https", Host: m.Address}, Via: r.via(m),
		Alive: func() bool { return r.c.Online(m) }}
}

// Answer is what one member said.
type Answer[T any] struct {
	Member cluster.Member
	Value  T
	Err    error
}

// Gather asks members, all at once, and waits for none longer than limit. There is an
// answer for each, in their order: what it said, or why it said nothing.
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
	errs := make([]error, len(ms))
	done := make(chan struct{})
	for i, m := range ms {
		go func() {
			defer func() { done <- struct{}{} }()
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			errs[i] = r.To(m).Call(ctx, q(m), nil)
		}()
	}
	for range ms {
		<-done
	}
	var failed []cluster.MemberError
	for i, err := range errs {
		if err != nil {
			failed = append(failed, cluster.MemberError{Member: ms[i], Err: err})
		}
	}
	return failed
}
