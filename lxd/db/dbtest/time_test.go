package dbtest

import (
	"context"
	"testing"
	"time"

	"sett/lxd/db"
	"sett/shared/errs"
)

// TestTimesThatCannotBeReadAreNotStored: clients and archives may say any time, also one
// whose year has five digits only where the daemon's clock is.
func TestTimesThatCannotBeReadAreNotStored(t *testing.T) {
	t.Parallel()
	const insert db.Stmt = `INSERT INTO moments (at) VALUES (?)`
	Both(t, func(t *testing.T, d *db.DB) {
		if _, err := d.Run(t.Context(), `CREATE TABLE moments (at DATETIME)`); err != nil {
			t.Fatal(err)
		}
		store := func(at any) error {
			return d.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
				_, err := db.Exec(ctx, tx, insert, at)
				return err
			})
		}
		for _, zone := range []string{"9999-12-31T23:59:59-12:00", "0000-01-01T00:00:00+12:00"} {
			at, err := time.Parse(time.RFC3339, zone)
			if err != nil {
				t.Fatal(err)
			}
			for _, arg := range []any{at, &at} {
				if err := store(arg); !errs.Is(err, errs.KindInvalid) {
					t.Errorf("%s: %v", zone, err)
				}
			}
		}
		last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		for _, at := range []time.Time{last, {}} {
			if err := store(at); err != nil {
				t.Error(err)
			}
		}
		type row struct {
			At time.Time `db:"at"`
		}
		rows, err := db.Select[row](t.Context(), d, `SELECT at FROM moments ORDER BY at DESC`)
		if err != nil || len(rows) != 2 || !rows[0].At.Equal(last) || !rows[1].At.IsZero() {
			t.Errorf("%v, %v", rows, err)
		}
	})
}
