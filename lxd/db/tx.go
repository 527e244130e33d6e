package db

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"

	"sett/shared/errs"
)

// Tx is a transaction. It lives as long as the closure it was given to and is not
// for several goroutines at once.
type Tx struct {
	db    *DB
	conn  *sql.Conn
	write bool
	hooks []func()

	mark    string // what this transaction leaves in nodes_commits
	unsure  *Tx    // the attempt before, while its outcome is unknown
	settled bool   // that attempt had been committed after all: nothing to do

	full func() error // see Options
}

// AfterCommit has f called once, after the transaction was committed and its place
// in the queue of writers given up. In a View it is never called.
func (t *Tx) AfterCommit(f func()) { t.hooks = append(t.hooks, f) }

const (
	stmtMark     Stmt = `INSERT INTO nodes_commits (node_id, mark) VALUES (?, ?) ON CONFLICT (node_id) DO UPDATE SET mark = excluded.mark`
	stmtFindMark Stmt = `SELECT mark FROM nodes_commits WHERE node_id = ?`
)

// run calls fn, with the marks around it in a transaction of Update. It holds the
// write lock, so an attempt before it either left its mark by now or never will.
func (t *Tx) run(ctx context.Context, fn func(context.Context, *Tx) error) error {
	member := int64(0)
	if t.write && t.db.opts.Member != nil {
		member = t.db.opts.Member()
	}
	if t.unsure != nil {
		if member != 0 {
			marks, err := Select[string](ctx, t, stmtFindMark, member)
			if err != nil {
				return err
			}
			if len(marks) == 1 && marks[0] == t.unsure.mark {
				t.hooks, t.settled = t.unsure.hooks, true
				return nil
			}
		}
		t.unsure = nil
		if t.full != nil {
			if err := t.full(); err != nil {
				return err
			}
		}
	}
	if member == 0 {
		return fn(ctx, t)
	}
	if err := fn(ctx, t); err != nil {
		return err
	}
	t.mark = rand.Text()
	_, err := Exec(ctx, t, stmtMark, member, t.mark)
	return err
}

// Touch writes a few bytes that nobody needs, also where Full forbids to write.
func (d *DB) Touch(ctx context.Context) error {
	ctx, cancel, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	_, err = d.update(ctx, nil, func(ctx context.Context, tx *Tx) error {
		if d.opts.Member != nil && d.opts.Member() != 0 {
			return nil // there will be the mark
		}
		_, err := Exec(ctx, tx, stmtMark, 1, rand.Text()) // the only row of a server that stands alone
		return err
	})
	return err
}

// Querier is what a read runs on: a *Tx, or the *DB itself for a single statement
// that needs no transaction around it and is repeated by itself.
type Querier interface {
	core() *DB
	// read calls scan with the rows of a statement; again from the start when it
	// has to repeat the statement.
	read(ctx context.Context, s Stmt, args []any, scan func(*sql.Rows) error) error
}

func (d *DB) core() *DB { return d }
func (t *Tx) core() *DB { return t.db }

func (d *DB) read(ctx context.Context, s Stmt, args []any, scan func(*sql.Rows) error) error {
	args, err := d.forRead(s, args)
	if err != nil {
		return err
	}
	ctx, cancel, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	return d.retry(ctx, func() error {
		rows, err := d.Pool().QueryContext(ctx, string(s), args...)
		return drain(rows, err, scan)
	})
}

func (t *Tx) read(ctx context.Context, s Stmt, args []any, scan func(*sql.Rows) error) error {
	args, err := t.db.forRead(s, args)
	if err != nil {
		return err
	}
	if t.conn == nil {
		return errs.Internal("A database transaction was used after its end")
	}
	rows, err := t.conn.QueryContext(ctx, string(s), args...)
	return drain(rows, err, scan)
}

func (d *DB) forRead(s Stmt, args []any) ([]any, error) {
	mode, err := d.check(s)
	if err != nil {
		return nil, err
	}
	if mode != Read {
		return nil, errs.Internal("A writing SQL statement was used for reading (%s)", shorten(s))
	}
	return checkArgs(args)
}

func drain(rows *sql.Rows, err error, scan func(*sql.Rows) error) error {
	if err != nil {
		return wrap(err)
	}
	defer rows.Close()
	if err := scan(rows); err != nil {
		return err
	}
	// An error here is the driver's: the rows may have been cut short.
	if err := rows.Err(); err != nil {
		return wrap(err)
	}
	return wrap(rows.Close())
}

func (t *Tx) exec(ctx context.Context, s Stmt, args []any) (sql.Result, error) {
	mode, err := t.db.check(s)
	if err != nil {
		return nil, err
	}
	if mode != Write {
		return nil, errs.Internal("A reading SQL statement was used for writing (%s)", shorten(s))
	}
	if !t.write {
		return nil, errs.Internal("A View was used for writing (%s)", shorten(s))
	}
	args, err = checkArgs(args)
	if err != nil {
		return nil, err
	}
	if t.conn == nil {
		return nil, errs.Internal("A database transaction was used after its end")
	}
	res, err := t.conn.ExecContext(ctx, string(s), args...)
	if err != nil {
		return nil, wrap(err)
	}
	return res, nil
}

// spoil has the pool drop a connection of which nobody knows the state.
func spoil(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// IsDuplicate tells whether a write failed because its row exists already.
func IsDuplicate(err error) bool { return errors.Is(err, ErrDuplicate) }

// IsNotFound tells whether One found no row.
func IsNotFound(err error) bool { return errors.Is(err, ErrNotFound) }
