package dbtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"sett/lxd/db"
)

type person struct {
	ID    int64      `db:"id"`
	Name  string     `db:"name"`
	Seen  *time.Time `db:"heartbeat"`
	Admin bool       `db:"admin"`
}

var (
	stmtNodes db.Stmt = `SELECT id, name, heartbeat, state = 0 AS admin FROM nodes ORDER BY id`
	stmtAdd   db.Stmt = `INSERT INTO nodes (name, address, schema, api_extensions, heartbeat) VALUES (?, ?, 1, 1, ?)`
)

func TestOpenIsReadyForASlice(t *testing.T) {
	t.Parallel()
	d := Open(t)
	now := time.Now().UTC().Truncate(time.Second)
	var id int64
	hooked := 0
	err := d.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		var err error
		tx.AfterCommit(func() { hooked++ })
		id, err = db.Insert(ctx, tx, stmtAdd, "m2", "10.0.0.2:8443", now)
		return err
	})
	if err != nil || id != 2 || hooked != 1 {
		t.Fatalf("id %d, hooks %d, %v", id, hooked, err)
	}
	all, err := db.Select[person](t.Context(), d, stmtNodes)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[1].Name != "m2" || !all[1].Admin || all[1].Seen == nil || !all[1].Seen.Equal(now) {
		t.Fatalf("%+v", all)
	}
	err = d.Update(t.Context(), func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Insert(ctx, tx, stmtAdd, "m2", "10.0.0.3:8443", nil)
		return err
	})
	if !errors.Is(err, db.ErrDuplicate) {
		t.Fatalf("%v", err)
	}
}
