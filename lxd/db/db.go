package db

import (
	"context"
	"database/sql"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"sett/shared/errs"
)

// Options are what a DB may be told. The zero value serves.
type Options struct {
	// Timeout bounds View and Update whose context has no deadline. Without one a
	// read of a cluster that lost its quorum would hang for ever. Default 15 s.
	Timeout time.Duration
	// Member returns the id of our row in nodes. When it is set and not 0, each
	// transaction of Update leaves a mark in nodes_commits, so that after a lost
	// connection the outcome of a commit can be known instead of guessed. That is for
	// members of a cluster: a node that stands alone has no connection to lose, and
	// saves the statement.
	Member func() int64
	// Full tells why nothing can be written for want of room; nil while there is some.
	Full func() error
	// Why tells why nothing answers, where that is known.
	Why func() error
	// Log hears of retries and of transactions that take too long.
	Log *slog.Logger
	// Slow is how long a transaction may take before Log hears of it. Default 1 s.
	Slow time.Duration
}

// DB is an open database. It is made by Open and may be used by many at once.
type DB struct {
	pool atomic.Pointer[sql.DB]
	opts Options
	gate gate

	// writer admits one Update at a time: writers of one member that collide in the
	// database waste each other's work, and dqlite has no way to wait for a lock.
	writer chan struct{}

	// lost is since when the leader is away; nil while it answers.
	lost atomic.Pointer[time.Time]

	plans    sync.Map // planKey -> *plan
	checked  sync.Map // Stmt -> Mode
	nChecked atomic.Int64
}

// Open makes a DB of an open database/sql pool. Close closes the pool too.
func Open(pool *sql.DB, opts Options) *DB {
	if opts.Timeout == 0 {
		opts.Timeout = 15 * time.Second
	}
	if opts.Slow == 0 {
		opts.Slow = time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	d := &DB{opts: opts, writer: make(chan struct{}, 1)}
	d.pool.Store(pool)
	return d
}

// Pool is the pool beneath, for what Open has no part in: migrations and tests.
func (d *DB) Pool() *sql.DB { return d.pool.Load() }

// Close closes the database; transactions that run are waited for.
func (d *DB) Close() error { return d.Pool().Close() }

// Whole runs what takes several statements in one view, so that nothing changes between
// them. Within a transaction it runs it as it is.
func Whole[T any](ctx context.Context, q Querier, fn func(context.Context, Querier) (T, error)) (T, error) {
	d, ok := q.(*DB)
	if !ok {
		return fn(ctx, q)
	}
	var out T
	err := d.View(ctx, func(ctx context.Context, tx *Tx) (err error) {
		out, err = fn(ctx, tx)
		return err
	})
	return out, err
}

// View runs fn on a consistent snapshot that it cannot change. fn may run more than
// once. A single statement needs no View: pass the DB itself to Select and its kin.
func (d *DB) View(ctx context.Context, fn func(context.Context, *Tx) error) error {
	ctx, cancel, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	return d.retry(ctx, func() error {
		_, err := d.attempt(ctx, &Tx{db: d}, fn)
		return err
	})
}

// Update runs fn in a transaction that is committed when fn returns nil. fn may run
// more than once, and only the last run counts. What must happen only after the
// commit, such as publishing an event, goes to Tx.AfterCommit.
func (d *DB) Update(ctx context.Context, fn func(context.Context, *Tx) error) error {
	ctx, cancel, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	hooks, err := d.update(ctx, d.opts.Full, fn)
	if err != nil {
		return err
	}
	for _, h := range hooks {
		h()
	}
	return nil
}

// update is Update; full, which may be nil, is asked before each attempt, unless the one
// before may have been committed after all: then it must be known first.
func (d *DB) update(ctx context.Context, full func() error, fn func(context.Context, *Tx) error) ([]func(), error) {
	select {
	case d.writer <- struct{}{}:
		defer func() { <-d.writer }()
	case <-ctx.Done():
		return nil, d.giveUp(ctx, nil)
	}
	var done, unsure *Tx // unsure: the last attempt whose commit has an unknown outcome
	err := d.retry(ctx, func() error {
		if full != nil && unsure == nil {
			if err := full(); err != nil {
				return err
			}
		}
		done = &Tx{db: d, write: true, unsure: unsure, full: full}
		committing, err := d.attempt(ctx, done, fn)
		unsure = done.unsure
		if err != nil && committing && classOf(err) != classBusy {
			unsure = done
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return done.hooks, nil
}

// attempt runs fn once. committing tells that an error came from the commit itself.
func (d *DB) attempt(ctx context.Context, tx *Tx, fn func(context.Context, *Tx) error) (committing bool, err error) {
	conn, err := d.Pool().Conn(ctx)
	if err != nil {
		return false, wrap(err)
	}
	started := time.Now()
	clean := false // the connection is fit for the next user
	defer func() {
		if !clean {
			spoil(conn)
		}
		_ = conn.Close()
		if took := time.Since(started); took > d.opts.Slow {
			d.opts.Log.Warn("Slow database transaction", "took", took, "write", tx.write)
		}
	}()

	begin := "BEGIN"
	if tx.write {
		// Take the write lock first: a transaction that began by reading could not
		// be made a writer once somebody else has written.
		begin = "BEGIN IMMEDIATE"
	}
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		err = wrap(err)
		clean = classOf(err) == classBusy // nothing has begun
		return false, err
	}
	tx.conn = conn
	err = tx.run(ctx, fn)
	tx.conn = nil

	// The end of a transaction is not cut short by the caller's context: half a
	// commit would be an unknown outcome.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err == nil && tx.write && !tx.settled {
		_, err = conn.ExecContext(end, "COMMIT")
		if err == nil {
			clean = true
			return true, nil
		}
		committing, err = true, wrap(err)
	}
	if _, rerr := conn.ExecContext(end, "ROLLBACK"); rerr == nil {
		clean = true
	}
	return committing, err
}

// endTimeout is how long a COMMIT or ROLLBACK may take.
const endTimeout = 10 * time.Second

// Waits between attempts, doubled each time up to the most, with jitter so that
// members that collided don't collide again.
const (
	firstWait = 2 * time.Millisecond
	mostWait  = 200 * time.Millisecond
)

// retry repeats f while the database is busy or its leader is away.
func (d *DB) retry(ctx context.Context, f func() error) error {
	wait := firstWait
	for n := 1; ; n++ {
		err := f()
		c := classOf(err)
		d.note(err, c)
		if err == nil || c != classBusy && c != classLost {
			if err != nil && ctx.Err() != nil {
				return d.giveUp(ctx, err)
			}
			return err
		}
		d.opts.Log.Debug("Database transaction must be repeated", "attempt", n, "err", err)
		t := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			t.Stop()
			return d.giveUp(ctx, err)
		case <-t.C:
		}
		wait = min(2*wait, mostWait)
	}
}

// Members agree on a new leader in little more than a second. When there has been none
// for lostLong there is no majority, and nobody gains from waiting for long, except who
// said how long.
const (
	lostLong    = 5 * time.Second
	lostTimeout = 4 * time.Second
)

// note remembers since when there is no leader.
func (d *DB) note(err error, c class) {
	switch {
	case c == classLost:
		if d.lost.Load() == nil {
			now := time.Now()
			d.lost.CompareAndSwap(nil, &now)
		}
	case err == nil || c != classOther:
		if d.lost.Load() != nil {
			d.lost.Store(nil)
		}
	}
}

// timeout is how long a transaction may take whose context does not say it.
func (d *DB) timeout() time.Duration {
	if since := d.lost.Load(); since != nil && time.Since(*since) > lostLong {
		return min(d.opts.Timeout, lostTimeout)
	}
	return d.opts.Timeout
}

type inTx struct{}

// enter gives ctx a deadline and refuses transactions inside of transactions: the
// inner one would wait for the outer one's place in the queue of writers.
func (d *DB) enter(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if ctx.Value(inTx{}) == d {
		return nil, nil, errs.Internal("A database transaction was begun inside of another one")
	}
	ctx = context.WithValue(ctx, inTx{}, d)
	cancel := context.CancelFunc(func() {})
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancel = context.WithTimeout(ctx, d.timeout())
	}
	if err := d.gate.enter(ctx); err != nil {
		cancel()
		return nil, nil, d.giveUp(ctx, nil)
	}
	return ctx, func() { d.gate.leave(); cancel() }, nil
}
