package dbtest

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"github.com/mattn/go-sqlite3"
)

// Watched opens a file of SQLite that is there. before is asked of every statement that is executed, and
// its error keeps the statement from that; after is told that one was, and its error takes
// the place of the result. Either may be nil.
func Watched(path string, before, after func(query string) error) *sql.DB {
	nothing := func(string) error { return nil }
	if before == nil {
		before = nothing
	}
	if after == nil {
		after = nothing
	}
	return sql.OpenDB(&watched{dsn: "file:" + path + dsn + "&mode=rw", before: before, after: after})
}

type watched struct {
	sqlite3.SQLiteDriver
	dsn           string
	before, after func(query string) error
}

func (w *watched) Driver() driver.Driver { return w }

func (w *watched) Connect(context.Context) (driver.Conn, error) {
	c, err := w.SQLiteDriver.Open(w.dsn)
	if err != nil {
		return nil, err
	}
	return &watchedConn{c.(*sqlite3.SQLiteConn), w}, nil
}

type watchedConn struct {
	*sqlite3.SQLiteConn
	w *watched
}

func (c *watchedConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.w.before(q); err != nil {
		return nil, err
	}
	res, err := c.SQLiteConn.ExecContext(ctx, q, args)
	if err == nil {
		err = c.w.after(q)
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}
