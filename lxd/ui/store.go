package ui

import (
	"context"
	"time"

	"sett/lxd/db"
)

var (
	stmtLink     db.Stmt = `SELECT id, hash, protocol, username, expiry_date FROM webui_links WHERE hash = ?`
	stmtLinks    db.Stmt = `SELECT id, hash, protocol, username, expiry_date FROM webui_links`
	stmtLinkAdd  db.Stmt = `INSERT INTO webui_links (hash, protocol, username, expiry_date) VALUES (?, ?, ?, ?)`
	stmtLinkDrop db.Stmt = `DELETE FROM webui_links WHERE id = ?`

	stmtSessions db.Stmt = `
SELECT id, uuid, hash, listener, protocol, username, address, user_agent, creation_date, expiry_date
FROM webui_sessions`
	stmtSessionAdd db.Stmt = `
INSERT INTO webui_sessions (uuid, hash, listener, protocol, username, address, user_agent, creation_date, expiry_date)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	stmtSessionDrop db.Stmt = `DELETE FROM webui_sessions WHERE id = ?`
)

// linkRow is a link that was not used yet.
type linkRow struct {
	ID       int64     `db:"id"`
	Hash     string    `db:"hash"`
	Protocol string    `db:"protocol"`
	Username string    `db:"username"`
	Expires  time.Time `db:"expiry_date"`
}

// sessionRow is a session.
type sessionRow struct {
	ID        int64     `db:"id"`
	UUID      string    `db:"uuid"`
	Hash      string    `db:"hash"`
	Listener  string    `db:"listener"`
	Protocol  string    `db:"protocol"`
	Username  string    `db:"username"`
	Address   string    `db:"address"`
	UserAgent string    `db:"user_agent"`
	Created   time.Time `db:"creation_date"`
	Expires   time.Time `db:"expiry_date"`
}

func sessions(ctx context.Context, q db.Querier, w *db.Where) ([]sessionRow, error) {
	return db.SelectWhere[sessionRow](ctx, q, stmtSessions, w, "ORDER BY creation_date, id")
}

// sweep forgets links and sessions whose time is over. Times are compared here, not
// in SQL, where they are text.
func sweep(ctx context.Context, tx *db.Tx, now time.Time) error {
	links, err := db.Select[linkRow](ctx, tx, stmtLinks)
	if err != nil {
		return err
	}
	for _, l := range links {
		if !now.Before(l.Expires) {
			if _, err := db.Exec(ctx, tx, stmtLinkDrop, l.ID); err != nil {
				return err
			}
		}
	}
	all, err := sessions(ctx, tx, &db.Where{})
	if err != nil {
		return err
	}
	for _, s := range all {
		if !now.Before(s.Expires) {
			if _, err := db.Exec(ctx, tx, stmtSessionDrop, s.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
