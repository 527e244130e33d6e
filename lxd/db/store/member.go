package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sett/lxd/db"
	"sett/lxd/db/migrations"
	"sett/lxd/db/node"
	"sett/lxd/dqlite"
	"sett/shared/errs"
	"sett/shared/undo"
)

// How a server becomes a member and stops being one. Each step leaves a note in the
// local database first, so that a daemon that was killed in between begins as what it
// was before:
//
//	note        the folder "global"                     at the next start
//	turning     log names this node, alone or member    log is rewritten for a node alone
//	joining     is the cluster's; own one is set aside  own one is put back
//	leaving     is being emptied                        is emptied
const noteTurn = "turn"

const (
	turning = "turning"
	joining = "joining"
	leaving = "leaving"
)

// aside is where a joining server keeps its own database.
const aside = "global.alone"

var alone = []dqlite.Member{{ID: dqlite.AloneID, Address: dqlite.AloneAddress}}

// LeftBehind reports that a daemon was killed while the server was joining or leaving
// a cluster, and that Open has made it stand alone: what else there is of the cluster
// is to go too.
func (s *Store) LeftBehind() bool { return s.turned == joining || s.turned == leaving }

// settle finishes what a daemon that was killed had begun.
func (s *Store) settle(ctx context.Context) error {
	turn, err := s.Local.Note(ctx, noteTurn)
	if err != nil {
		return err
	}
	if turn == "" {
		return s.DropOld()
	}
	s.turned = turn
	s.o.Log.Warn("The last daemon was killed while the server joined or left a cluster; it stands alone again", "step", turn)
	switch turn {
	case turning:
		err = dqlite.Reconfigure(s.path("global"), alone)
	case joining:
		err = s.putBack()
	case leaving:
		err = os.RemoveAll(s.path("global"))
	}
	if err != nil {
		return err
	}
	return s.standAlone(ctx)
}

// standAlone notes that this server is no member.
func (s *Store) standAlone(ctx context.Context) error {
	return errors.Join(s.Local.Members().Set(ctx, nil), s.Local.SetIdentity(ctx, nil), s.Local.SetNote(ctx, noteTurn, ""))
}

// putBack makes the database that was set aside the one in use.
func (s *Store) putBack() error {
	if _, err := os.Stat(s.path(aside)); errors.Is(err, os.ErrNotExist) {
		return nil // it was never set aside, or is back already
	}
	return errors.Join(os.RemoveAll(s.path("global")), os.Rename(s.path(aside), s.path("global")))
}

// DropOld removes what a server that has joined for good had before. A later attempt to
// join must not find it there, and put it back.
func (s *Store) DropOld() error { return os.RemoveAll(s.path(aside)) }

// swap stops the node, has change done to the folder, and starts the node that who
// describes. What uses Global waits. When something fails the node runs that ran
// before: restore makes the folder fit for it again.
func (s *Store) swap(ctx context.Context, who *node.Identity, change, restore func() error, then func(context.Context, *dqlite.Node) error) (err error) {
	before, err := s.Local.Identity(ctx)
	if err != nil {
		return err
	}
	resume, err := s.Global.Pause(ctx)
	if err != nil {
		return err
	}
	defer resume()
	s.change.Lock()
	defer s.change.Unlock()

	var back undo.Stack
	defer back.Run()
	back.OnError = func(err error) { s.o.Log.Error("Could not put the database back", "err", err) }
	// Pushed first, so done last: whatever became of the rest, this server has its
	// node again.
	back.Push(func() error {
		n, err := s.startNode(before)
		if err != nil {
			return err
		}
		s.Global.Swap(n.DB()) // the pool before is a closed node's
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer cancel()
		return n.Ready(ctx)
	})
	if err := s.Node().Close(); err != nil {
		return err
	}
	back.Push(restore)
	if err := change(); err != nil {
		return err
	}
	n, err := s.startNode(who)
	if err != nil {
		return err
	}
	back.Push(n.Close)
	if n.Resting() {
		r, err := n.Room()
		return errors.Join(n.Full(r), err)
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	if err := n.Ready(ctx); err != nil {
		return err
	}
	if then != nil {
		if err := then(ctx, n); err != nil {
			return err
		}
	}
	s.Global.Swap(n.DB())
	back.Commit()
	return nil
}

// settleTime bounds what a node that was just started may take to serve.
const settleTime = 20 * time.Second

// Enable turns a server that stands alone into the first member of a cluster. undo
// turns it back, as long as nobody has joined.
func (s *Store) Enable(ctx context.Context, who node.Identity) (undo func(context.Context) error, err error) {
	if who.ID != dqlite.AloneID {
		return nil, errs.Internal("the first member of a cluster has the id %d, not %d", dqlite.AloneID, who.ID)
	}
	members := []dqlite.Member{{ID: uint64(who.ID), Address: who.Address}}
	dir := s.path("global")
	back := func(ctx context.Context) error {
		return errors.Join(dqlite.Reconfigure(dir, alone), s.standAlone(ctx))
	}
	if err := s.Local.SetNote(ctx, noteTurn, turning); err != nil {
		return nil, err
	}
	err = s.swap(ctx, &who,
		func() error {
			return errors.Join(dqlite.Reconfigure(dir, members), s.Local.Members().Set(ctx, members), s.Local.SetIdentity(ctx, &who))
		},
		func() error { return back(context.WithoutCancel(ctx)) }, nil)
	if err != nil {
		return nil, fmt.Errorf("make the database one of a cluster: %w", err)
	}
	if err := s.Local.SetNote(ctx, noteTurn, ""); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := s.Local.SetNote(ctx, noteTurn, turning); err != nil {
			return err
		}
		return s.swap(ctx, nil, func() error { return back(ctx) }, func() error { return nil }, nil)
	}, nil
}

// Join makes this server's node a member of the database of others, who have been
// told of it. Its own database is set aside: keep has the next start begin as a member,
// undo puts it back, also after keep. When there is nothing to be undone any more,
// DropOld removes it.
func (s *Store) Join(ctx context.Context, who node.Identity, others []dqlite.Member) (keep, undo func(context.Context) error, err error) {
	if err := s.DropOld(); err != nil {
		return nil, nil, err
	}
	if err := s.Local.SetNote(ctx, noteTurn, joining); err != nil {
		return nil, nil, err
	}
	back := func(ctx context.Context) error { return errors.Join(s.putBack(), s.standAlone(ctx)) }
	self := dqlite.Member{ID: uint64(who.ID), Address: who.Address, Role: dqlite.Spare}
	err = s.swap(ctx, &who,
		func() error {
			if err := os.Rename(s.path("global"), s.path(aside)); err != nil {
				return err
			}
			return errors.Join(s.Local.Members().Set(ctx, others), s.Local.SetIdentity(ctx, &who))
		},
		func() error { return back(context.WithoutCancel(ctx)) },
		func(ctx context.Context, n *dqlite.Node) error { return n.Add(ctx, self) })
	if err != nil {
		return nil, nil, fmt.Errorf("join the database of the cluster: %w", err)
	}
	keep = func(ctx context.Context) error { return s.Local.SetNote(ctx, noteTurn, "") }
	undo = func(ctx context.Context) error {
		if err := s.Local.SetNote(ctx, noteTurn, joining); err != nil {
			return err
		}
		return s.swap(ctx, nil, func() error { return back(ctx) }, func() error { return nil }, nil)
	}
	return keep, undo, nil
}

// Leave makes this server one that stands alone, with an empty database. The other
// members must have forgotten it before.
func (s *Store) Leave(ctx context.Context) error {
	if err := s.Local.SetNote(ctx, noteTurn, leaving); err != nil {
		return err
	}
	// There is no way back: the cluster has forgotten this member.
	err := s.swap(ctx, nil, func() error {
		return errors.Join(os.RemoveAll(s.path("global")), s.standAlone(ctx))
	}, func() error { return nil }, func(ctx context.Context, n *dqlite.Node) error {
		_, err := migrations.Apply(ctx, n.DB(), s.steps, s.o.Version)
		return err
	})
	if err != nil {
		return fmt.Errorf("leave the database of the cluster: %w", err)
	}
	return s.Local.SetGlobalSchema(ctx, len(s.steps))
}

const stmtOlder db.Stmt = `SELECT name, address, schema FROM nodes WHERE id <> ? AND schema < ? ORDER BY schema, name`

// checkOthers refuses to change the schema under members that would not understand
// the result: those that run, and are more than one step behind. One that is away
// finds a database that is too new for it when it comes back, and leaves it alone.
func (s *Store) checkOthers(ctx context.Context) error {
	type row struct {
		Name, Address string
		Schema        int
	}
	rows, err := db.Select[row](ctx, s.Global, stmtOlder, s.member.Load(), len(s.steps)-1)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if s.o.Runs != nil && !s.o.Runs(ctx, r.Address) {
			s.o.Log.Warn("A cluster member that does not run knows an old database schema only; it needs a newer version to come back", "member", r.Name, "schema", r.Schema)
			continue
		}
		return errs.Unavailable("Cluster member %q still runs a version whose database schema is %d; this version has %d. Bring that member up to date too",
			r.Name, r.Schema, len(s.steps))
	}
	return nil
}
