package migrations

import (
	"context"
	"errors"
	"time"

	"sett/lxd/db"
)

const stmtBorn db.Stmt = `SELECT applied_at FROM schema WHERE version = 1`

// Born returns when a database was made; the zero time for one that does not say.
func Born(ctx context.Context, q db.Querier) (time.Time, error) {
	t, err := db.One[time.Time](ctx, q, stmtBorn)
	if errors.Is(err, db.ErrNotFound) {
		err = nil
	}
	return t, err
}
