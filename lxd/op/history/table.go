package history

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"sett/lxd/db"
	"sett/lxd/op"
	"sett/shared/api"
)

const (
	stmtSave db.Stmt = `
INSERT INTO operations_history (id, class, description, project, location, created_at, updated_at, ended_at, status, error,
	username, protocol, address, resources, metadata, log) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET updated_at = excluded.updated_at, ended_at = excluded.ended_at, status = excluded.status, error = excluded.error,
	resources = excluded.resources, metadata = excluded.metadata, log = excluded.log`
	// Without a filter, all of them.
	stmtRead db.Stmt = `
SELECT id, class, description, project, location, created_at, updated_at, ended_at, status, error,
	username, protocol, address, resources, metadata, log
FROM operations_history`
	stmtDrop db.Stmt = `DELETE FROM operations_history`
	stmtTidy db.Stmt = `
DELETE FROM operations_history WHERE ended_at IS NOT NULL AND (ended_at < ?1 OR id IN (
	SELECT id FROM operations_history WHERE ended_at IS NOT NULL ORDER BY created_at DESC, id LIMIT -1 OFFSET ?2))`
)

type row struct {
	ID          string    `db:"id"`
	Class       string    `db:"class"`
	Description string    `db:"description"`
	Project     string    `db:"project"`
	Location    string    `db:"location"`
	Created     time.Time `db:"created_at"`
	Updated     time.Time `db:"updated_at"`
	Ended       time.Time `db:"ended_at"`
	Status      int       `db:"status"`
	Error       string    `db:"error"`
	Username    string    `db:"username"`
	Protocol    string    `db:"protocol"`
	Address     string    `db:"address"`
	Resources   string    `db:"resources"`
	Metadata    string    `db:"metadata"`
	Log         string    `db:"log"`
}

func (s *Store) save(ctx context.Context, batch []op.Entry) error {
	lines := make([][]any, len(batch))
	for i, e := range batch {
		by := e.Requestor
		if by == nil {
			by = &api.OperationRequestor{}
		}
		var texts [3]string
		for n, v := range []any{e.Resources, e.Metadata, e.Log} {
			b, err := json.Marshal(v)
			if err != nil {
				return err
			}
			texts[n] = string(b)
		}
		var ended any
		if e.EndedAt != nil {
			ended = e.EndedAt.UTC()
		}
		lines[i] = []any{e.ID, e.Class, e.Description, e.Project, e.Location, e.CreatedAt.UTC(), e.UpdatedAt.UTC(), ended, int(e.StatusCode), e.Err,
			by.Username, by.Protocol, by.Address, texts[0], texts[1], texts[2]}
	}
	return s.db.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, l := range lines {
			if _, err := db.Exec(ctx, tx, stmtSave, l...); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) read(ctx context.Context, w *db.Where) ([]op.Entry, error) {
	rows, err := db.SelectWhere[row](ctx, s.db, stmtRead, w, "")
	if err != nil {
		return nil, err
	}
	out := make([]op.Entry, len(rows))
	for i, r := range rows {
		e := op.Entry{Project: r.Project, Operation: api.Operation{ID: r.ID, Class: r.Class, Description: r.Description, CreatedAt: r.Created, UpdatedAt: r.Updated,
			StatusCode: api.StatusCode(r.Status), Status: api.StatusCode(r.Status).String(), Err: r.Error, Location: r.Location}}
		if !r.Ended.IsZero() {
			e.EndedAt = &r.Ended
		}
		if r.Protocol != "" {
			e.Requestor = &api.OperationRequestor{Username: r.Username, Protocol: r.Protocol, Address: r.Address}
		}
		err := errors.Join(json.Unmarshal([]byte(r.Resources), &e.Resources), json.Unmarshal([]byte(r.Metadata), &e.Metadata), json.Unmarshal([]byte(r.Log), &e.Log))
		if err != nil {
			return nil, err
		}
		out[i] = e
	}
	return out, nil
}

// tidy forgets what is too old, and what is too much.
func (s *Store) tidy(ctx context.Context) error {
	s.fresh = 0
	return s.db.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtTidy, time.Now().Add(-Longest).UTC(), Most)
		return err
	})
}
