package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"sett/lxd/db/node"
	"sett/lxd/dqlite"
	"sett/shared/errs"
)

// A member whose part of the shared database is damaged gets it anew from the others.
// It has lost what it had promised to keep, and for whom it has voted, so first they
// take its part from it: it must not count while it has nothing.
//
//	step                                  after a kill, the next start
//	the others drop it from the database  finds the damage again, and goes on here
//	note                                  the same
//	the folder is set aside               begins with an empty one, and comes back
//	it starts, and is added as a spare    comes back, which is done already
//	no note                               is what it was
const noteAnew = "anew"

// damaged is where the folder is kept that could not be used.
const damaged = "global.damaged"

// startAnew starts a member with an empty folder; why is what is wrong with its own.
func (s *Store) startAnew(ctx context.Context, who *node.Identity, why error) (*dqlite.Node, error) {
	if s.o.Disown == nil {
		return nil, why
	}
	if err := s.o.Disown(ctx, *who); err != nil {
		return nil, errs.Internal("%w. The other members have what it held, but cannot be told now: %w", why, err)
	}
	s.o.Log.Error("The database of this member is damaged; it gets it anew from the other members", "kept", s.path(damaged), "err", why)
	if err := s.Local.SetNote(ctx, noteAnew, "1"); err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(s.path(damaged)), os.Rename(s.path("global"), s.path(damaged))); err != nil {
		return nil, fmt.Errorf("set the damaged database aside: %w", err)
	}
	return s.startNode(who)
}

// comeBack makes a member that was started anew one of the database again. What it is
// for the leader decides.
func (s *Store) comeBack(ctx context.Context) error {
	note, err := s.Local.Note(ctx, noteAnew)
	if err != nil || note == "" {
		return err
	}
	n := s.Node()
	all, err := n.Members(ctx)
	if err != nil {
		return err
	}
	there := false
	for _, m := range all {
		there = there || m.ID == n.ID()
	}
	if !there {
		if err := n.Add(ctx, dqlite.Member{ID: n.ID(), Address: n.Address(), Role: dqlite.Spare}); err != nil {
			return err
		}
	}
	return s.Local.SetNote(ctx, noteAnew, "")
}
