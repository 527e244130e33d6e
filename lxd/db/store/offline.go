package store

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"sett/lxd/db/migrations"
	"sett/lxd/db/node"
	"sett/lxd/dqlite"
	"sett/shared/errs"
)

// Offline is a member's databases while no daemon runs on them, for administrators
// who mend a cluster.
type Offline struct {
	Local *node.DB
	Who   node.Identity
	dir   string
}

// OpenOffline opens the local database of a member whose daemon does not run, has fn
// work with it and closes it.
func OpenOffline(ctx context.Context, dir, version string, fn func(ctx context.Context, o *Offline) error) error {
	steps, err := migrations.Global()
	if err != nil {
		return err
	}
	if err := node.Inspect(ctx, dir, len(steps)); err != nil {
		return err
	}
	dir = filepath.Join(dir, "database")
	l, err := lock(ctx, dir)
	if err != nil {
		return errs.Unavailable("The daemon must not run for this; stop it first: %w", err)
	}
	defer l.Close()
	local, err := node.Open(ctx, dir, version, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer local.Close()
	who, err := local.Identity(ctx)
	if err != nil {
		return err
	}
	if who == nil {
		return errs.Invalid("This server is not a member of a cluster")
	}
	return fn(ctx, &Offline{Local: local, Who: *who, dir: dir})
}

// Members lists the members of the database as this member knew them last.
func (o *Offline) Members(ctx context.Context) ([]dqlite.Member, error) {
	return o.Local.Members().Get(ctx)
}

// Rewrite makes these the members of the database. At least one of them must vote.
func (o *Offline) Rewrite(ctx context.Context, all []dqlite.Member) error {
	voters, here := 0, false
	for _, m := range all {
		if m.Role == dqlite.Voter {
			voters++
		}
		here = here || m.ID == uint64(o.Who.ID)
	}
	if voters == 0 {
		return errs.Invalid("At least one member must be a voter")
	}
	if !here {
		return errs.Invalid("This member must be one of the members")
	}
	who := o.Who
	for _, m := range all {
		if m.ID == uint64(who.ID) {
			who.Address = m.Address
		}
	}
	if err := dqlite.Reconfigure(filepath.Join(o.dir, "global"), all); err != nil {
		return err
	}
	return errors.Join(o.Local.Members().Set(ctx, all), o.Local.SetIdentity(ctx, &who))
}

// GoOnAlone makes this member the only one that holds the database: the others are
// lost. They must not run any more.
func (o *Offline) GoOnAlone(ctx context.Context) error {
	return o.Rewrite(ctx, []dqlite.Member{{ID: uint64(o.Who.ID), Address: o.Who.Address, Role: dqlite.Voter}})
}
