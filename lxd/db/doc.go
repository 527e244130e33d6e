// Package db is how the daemon reads and writes its database.
//
// It sits on database/sql, so that everything above runs on plain SQLite in
// tests and on dqlite in the daemon. Work is a closure given to View or Update;
// both repeat it when the database is busy or its leader went away, so a closure
// must be repeatable and must do nothing slow: no exec, mount, HTTP or lock waits.
// SQL is written by hand, every statement is a package-level Stmt, and what the
// libdqlite of Debian 12 cannot survive (RETURNING, ATTACH, setting PRAGMAs,
// writes through a query) never reaches it.
//
// It knows no table but nodes_commits; the tables belong to the slices.
//
//	var stmtNames db.Stmt = `SELECT id, name FROM profiles WHERE project_id = ? ORDER BY name`
//
//	type row struct {
//		ID   int64  `db:"id"`
//		Name string `db:"name"`
//	}
//
//	err := d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
//		rows, err := db.Select[row](ctx, tx, stmtNames, projectID)
//		...
//	})
package db
