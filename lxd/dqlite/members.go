package dqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	dqlite "github.com/canonical/go-dqlite"
	"github.com/canonical/go-dqlite/client"

	"sett/shared/errs"
)

// The roles of members. Voters hold the log and elect; stand-bys hold the log, so
// that they become voters quickly; spares only ask.
const (
	Voter   = client.Voter
	StandBy = client.StandBy
	Spare   = client.Spare
)

// Reconfigure rewrites who the members are in the log of a folder that no node runs
// in. The log must hold everything that was committed: on a node that stood alone
// it does; elsewhere it is how a cluster that lost its majority is saved.
func Reconfigure(dir string, all []Member) error {
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := dqlite.ReconfigureMembershipExt(dir, all); err != nil {
		return fmt.Errorf("rewrite the members in the database's log: %w", err)
	}
	return nil
}

// Believed returns who this node takes for the leader; the zero Member when it knows
// none, as while it rests. It asks nobody else.
func (n *Node) Believed(ctx context.Context) (Member, error) {
	if n.at() == "" {
		return Member{}, nil
	}
	c, err := client.New(ctx, n.opts.Address, client.WithDialFunc(n.dial), client.WithLogFunc(n.log))
	if err != nil {
		return Member{}, fmt.Errorf("ask the database node: %w", err)
	}
	defer c.Close()
	m, err := c.Leader(ctx)
	if err != nil || m == nil {
		return Member{}, err
	}
	return *m, nil
}

// Leads reports whether this node takes itself for the leader.
func (n *Node) Leads(ctx context.Context) (bool, error) {
	m, err := n.Believed(ctx)
	return m.ID == n.opts.ID, err
}

// Members lists all members with their roles, as the leader has them.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	var out []Member
	err := n.atLeader(ctx, func(c *client.Client) (err error) {
		out, err = c.Cluster(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the database members: %w", err)
	}
	return out, nil
}

// Shape lists all members with their roles, and says who leads, in one question to
// the leader.
func (n *Node) Shape(ctx context.Context) (all []Member, leader uint64, err error) {
	err = n.atLeader(ctx, func(c *client.Client) error {
		l, err := c.Leader(ctx)
		if err != nil {
			return err
		}
		if l != nil {
			leader = l.ID
		}
		all, err = c.Cluster(ctx)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list the database members: %w", err)
	}
	return all, leader, nil
}

// Add makes a node a member. It must run by then, or soon.
func (n *Node) Add(ctx context.Context, m Member) error {
	err := n.change(ctx, func(c *client.Client) error { return c.Add(ctx, m) }, func(all []Member) bool { return role(all, m.ID) != nil })
	if err != nil {
		return fmt.Errorf("add %s to the database: %w", m.Address, err)
	}
	return nil
}

// Assign gives a member a role. A new voter must have caught up, which takes as long
// as it takes.
func (n *Node) Assign(ctx context.Context, id uint64, r Role) error {
	err := n.change(ctx, func(c *client.Client) error { return c.Assign(ctx, id, r) },
		func(all []Member) bool { now := role(all, id); return now != nil && *now == r })
	if err != nil {
		return fmt.Errorf("make database member %d a %s: %w", id, r, err)
	}
	return nil
}

// Remove makes a node a stranger. It goes on running, and does not know.
func (n *Node) Remove(ctx context.Context, id uint64) error {
	err := n.change(ctx, func(c *client.Client) error { return c.Remove(ctx, id) }, func(all []Member) bool { return role(all, id) == nil })
	if err != nil {
		return fmt.Errorf("remove database member %d: %w", id, err)
	}
	return nil
}

// role is what a member is for, nil for one that is none.
func role(all []Member, id uint64) *Role {
	for i := range all {
		if all[i].ID == id {
			return &all[i].Role
		}
	}
	return nil
}

// change has the leader change something about the members. A leader that is lost
// meanwhile may have written it down before, and the next one knows: so that is asked
// whether it is done, and told to do it where it is not.
func (n *Node) change(ctx context.Context, f func(*client.Client) error, done func([]Member) bool) error {
	wait := time.NewTicker(50 * time.Millisecond)
	defer wait.Stop()
	for {
		err := n.atLeader(ctx, f)
		if err == nil || !lostLeader(err) {
			return err
		}
		select {
		case <-wait.C:
		case <-ctx.Done():
			return err
		}
		if all, e := n.Members(ctx); e == nil && done(all) {
			return nil
		}
	}
}

// lostLeader tells the errors of a node that was asked as the leader and is none, or was
// none any more by the time that what it was asked for would have been settled, and of
// one that hung up.
func lostLeader(err error) bool {
	var lost *net.OpError
	text := err.Error()
	return strings.Contains(text, "(10250)") || strings.Contains(text, "(10506)") || errors.Is(err, io.EOF) || errors.As(err, &lost)
}

// Transfer gives leadership to a voter that follows the leader.
func (n *Node) Transfer(ctx context.Context, to Member) error {
	return n.atLeader(ctx, func(c *client.Client) error {
		l, err := c.Leader(ctx)
		if err != nil {
			return err
		}
		if l == nil || !n.follows(ctx, to, l.ID) {
			return errs.Unavailable("Database member %s does not hear the leader, so it cannot take over", to.Address)
		}
		return c.Transfer(ctx, to.ID)
	})
}

// follows reports whether a member hears a leader just now. Leadership must be given
// to no other: libraft keeps the message to one that it cannot reach in a queue, and
// when the transfer has timed out frees what the message stands in. The next time
// that the queue is looked at, at the latest when the node is closed, the process is
// killed.
func (n *Node) follows(ctx context.Context, m Member, leader uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	// Not by dial: it is not asked as the leader.
	c, err := client.New(ctx, m.Address, client.WithDialFunc(n.reach), client.WithLogFunc(n.log))
	if err != nil {
		return false
	}
	defer c.Close()
	l, err := c.Leader(ctx)
	return err == nil && l != nil && l.ID == leader
}

func (n *Node) atLeader(ctx context.Context, f func(*client.Client) error) error {
	c, err := client.FindLeader(ctx, n.opts.Members, client.WithDialFunc(n.dial), client.WithLogFunc(n.log))
	if err != nil {
		return fmt.Errorf("find the database leader: %w", err)
	}
	defer c.Close()
	wait := time.NewTicker(20 * time.Millisecond)
	defer wait.Stop()
	for {
		err := f(c)
		// raft changes one thing about its members at a time.
		if err == nil || !strings.Contains(err.Error(), "configuration change is already in progress") {
			return err
		}
		select {
		case <-wait.C:
		case <-ctx.Done():
			return err
		}
	}
}

// ID is the node's id.
func (n *Node) ID() uint64 { return n.opts.ID }

// Address is how other members call the node.
func (n *Node) Address() string { return n.opts.Address }

// They sort before all roles.
const (
	first  Role = -2
	second Role = -1
)

// searched has the search for a leader begin with this node, which answers at once and
// nearly always knows, and go on with the other one that has answered last: this node may
// rest. By itself go-dqlite begins with any voter, one after the other, and a dead one costs
// as long as it takes to give a dial up.
type searched struct {
	Store
	self   Member
	answer *atomic.Pointer[string] // the address
}

// Get implements Store.
func (o searched) Get(ctx context.Context) ([]Member, error) {
	all, err := o.Store.Get(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Member, 0, len(all)+1)
	out = append(out, o.self)
	last := o.answer.Load()
	for _, m := range all {
		if m.ID == o.self.ID {
			continue
		}
		if last != nil && m.Address == *last {
			m.Role = second
		}
		out = append(out, m)
	}
	return out, nil
}
