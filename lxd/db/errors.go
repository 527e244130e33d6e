package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"strings"

	"sett/shared/errs"
)

// What a statement can run into, for errors.Is. Word them for the user where the
// thing is known: errors.Is(err, db.ErrDuplicate) becomes "Profile %q already exists".
var (
	// ErrNotFound is returned by One when there is no row.
	ErrNotFound = errs.NotFound("Not found")
	// ErrDuplicate is a violated UNIQUE or PRIMARY KEY constraint.
	ErrDuplicate = errs.Conflict("Already exists")
	// ErrReference is a violated FOREIGN KEY constraint: what the row points to is
	// not there.
	ErrReference = errs.Conflict("Referenced object is missing or in use")
)

// class is what an error of the database driver means for us.
type class int

const (
	classOther     class = iota // the statement is at fault, or the database is broken
	classDuplicate              // UNIQUE
	classReference              // FOREIGN KEY
	classBusy                   // nothing happened, try again
	classLost                   // the connection or the leader went away: the outcome is unknown
	classStuck                  // the log could not be written
	classDamaged                // the file makes no sense
)

// The driver hands most of its errors out as text: go-dqlite wraps them with a
// package that predates errors.Is, and libdqlite sends words with code 0 or 1. So
// this is the one place that looks at the text.
var (
	busyTexts = []string{"database is locked", "table is locked", "checkpoint in progress"}
	// What libdqlite says of a COMMIT that raft has no room for is "not an error";
	// SQLite by itself says the other ones.
	stuckTexts   = []string{"not an error", "database or disk is full", "disk I/O error"}
	damagedTexts = []string{"database disk image is malformed", "file is not a database"}
	lostTexts    = []string{
		"bad connection", "no available dqlite leader", "header: EOF", "body: EOF", "not leader", "leadership lost",
		"lost leadership", "no more rows available", "broken pipe", "connection reset", "connection refused",
		"use of closed network connection", "i/o timeout",
	}
)

func classify(err error) class {
	if err == nil {
		return classOther
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "UNIQUE constraint failed"), strings.Contains(text, "PRIMARY KEY must be unique"):
		return classDuplicate
	case strings.Contains(text, "FOREIGN KEY constraint failed"):
		return classReference
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, io.EOF):
		return classLost
	}
	for _, t := range stuckTexts {
		if strings.Contains(text, t) {
			return classStuck
		}
	}
	for _, t := range damagedTexts {
		if strings.Contains(text, t) {
			return classDamaged
		}
	}
	for _, t := range busyTexts {
		if strings.Contains(text, t) {
			return classBusy
		}
	}
	for _, t := range lostTexts {
		if strings.Contains(text, t) {
			return classLost
		}
	}
	return classOther
}

// sqlError gives err of a statement its kind.
type sqlError struct {
	class class
	cause error
}

func (e *sqlError) Error() string {
	switch e.class {
	case classStuck:
		return "The database cannot be written (" + e.cause.Error() + "); is the file system that holds it full?"
	case classDamaged:
		return "The database is damaged (" + e.cause.Error() + "); restart the daemon, which mends what it can and says what to do about the rest"
	}
	return e.cause.Error()
}

func (e *sqlError) Unwrap() []error {
	switch e.class {
	case classDuplicate:
		return []error{ErrDuplicate, e.cause}
	case classReference:
		return []error{ErrReference, e.cause}
	case classStuck:
		return []error{errs.Wrap(errs.KindUnavailable, e.cause)}
	}
	return []error{e.cause}
}

// wrap marks an error of the driver, so that retrying looks at the driver's errors
// only and never at the closure's own.
func wrap(err error) error {
	if err == nil {
		return nil
	}
	var known *sqlError
	if errors.As(err, &known) {
		return err
	}
	return &sqlError{class: classify(err), cause: err}
}

func classOf(err error) class {
	var e *sqlError
	if errors.As(err, &e) {
		return e.class
	}
	return classOther
}

// giveUp words the end of retrying: last is what kept failing.
func (d *DB) giveUp(ctx context.Context, last error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if d.opts.Why != nil {
		if why := d.opts.Why(); why != nil {
			return why
		}
	}
	if last == nil || errors.Is(last, context.DeadlineExceeded) {
		return errs.Wrap(errs.KindUnavailable, errors.Join(errors.New("The database did not answer in time; try again, and in a cluster check that most members are online"), ctx.Err()))
	}
	return errs.Unavailable("The database did not answer in time; try again, and in a cluster check that most members are online: %w", last)
}
