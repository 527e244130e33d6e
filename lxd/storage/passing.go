package storage

import (
	"context"
	"errors"

	"sett/lxd/db"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// A volume that goes from one member of a cluster to another has a record on each of them
// for a while, and one of the two says what becomes of it:
//
//	arriving  it is being made, or is whole and nobody's yet
//	left      it is somewhere else now, or was given up; this member removes it
//
// Who wants to change that changes the mark first, in a transaction that finds it as he
// thinks it is: so of those who take a volume over and those who give it up, one comes
// second and learns it. What is left is removed by its own member, at its next start at the
// latest. Behind the word stands a note of whoever makes the volume, for him who removes it.
const (
	passing  = "volatile.sett_passing"
	arriving = "arriving"
	left     = "left"
)

const (
	stmtPassing db.Stmt = `
SELECT v.id FROM storage_volumes AS v
JOIN storage_pools AS p ON p.id = v.storage_pool_id
JOIN projects ON projects.id = v.project_id
WHERE p.name = ? AND projects.name = ? AND v.type = ? AND v.name = ? AND v.node_id = ?`
	stmtMark    db.Stmt = `INSERT INTO storage_volumes_config (storage_volume_id, key, value) VALUES (?, 'volatile.sett_passing', ?)`
	stmtArrived db.Stmt = `DELETE FROM storage_volumes_config WHERE storage_volume_id = ? AND key = 'volatile.sett_passing' AND value GLOB 'arriving*'`
	stmtGiveUp  db.Stmt = `UPDATE storage_volumes_config SET value = 'left' || substr(value, 9) WHERE storage_volume_id = ? AND key = 'volatile.sett_passing' AND value GLOB 'arriving*'`
	stmtIsLeft  db.Stmt = `SELECT value FROM storage_volumes_config WHERE storage_volume_id = ? AND key = 'volatile.sett_passing' AND value GLOB 'left*'`

	stmtGiveUpAll db.Stmt = `
UPDATE storage_volumes_config SET value = 'left' || substr(value, 9) WHERE key = 'volatile.sett_passing' AND value GLOB 'arriving*'
AND storage_volume_id IN (SELECT id FROM storage_volumes WHERE node_id = ?)`
	stmtLeft db.Stmt = `
SELECT p.name AS pool, projects.name AS project, v.name, v.type, substr(c.value, 6) AS note
FROM storage_volumes AS v
JOIN storage_pools AS p ON p.id = v.storage_pool_id
JOIN projects ON projects.id = v.project_id
JOIN storage_volumes_config AS c ON c.storage_volume_id = v.id AND c.key = 'volatile.sett_passing' AND c.value GLOB 'left*'
WHERE v.node_id = ?`
)

// idOn finds the record of a volume of a member; db.ErrNotFound when there is none.
func idOn(ctx context.Context, q db.Querier, node int64, v Volume) (int64, error) {
	return db.One[int64](ctx, q, stmtPassing, v.Pool, v.project(), number(v.Type), v.Name, node)
}

// mark says of a volume of a member that it is passing.
func mark(ctx context.Context, tx *db.Tx, node int64, v Volume, text string) error {
	id, err := idOn(ctx, tx, node, v)
	if err != nil {
		return err
	}
	return db.ExecOne(ctx, tx, stmtMark, id, text)
}

// insertPassing writes the record of a volume that comes from another member.
func (s *Service) insertPassing(ctx context.Context, tx *db.Tx, v Volume, note string) error {
	if err := s.insertVolumeIn(ctx, tx, v); err != nil {
		return err
	}
	return mark(ctx, tx, s.Here.ID(), v, arriving+" "+note)
}

// TakeOver makes a volume that has arrived one of this member's, and the one of which it was
// made one that the other member has left, together with what also says. What the volume
// holds is on disk before.
func (s *Service) TakeOver(ctx context.Context, v, from Volume, node int64, also func(context.Context, *db.Tx) error) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	if err := driver.Flush(p.drv.Path(v.driver())); err != nil {
		return driver.Explain(err)
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		id, err := idOn(ctx, tx, s.Here.ID(), v)
		if err == nil {
			err = db.ExecOne(ctx, tx, stmtArrived, id)
		}
		if err == nil {
			err = mark(ctx, tx, node, from, left)
		}
		if errors.Is(err, db.ErrNotFound) {
			return errs.Conflict("Storage volume %q is not what it was when its move began", from.Name)
		}
		if err != nil {
			return err
		}
		return also(ctx, tx)
	})
}

// GiveUp removes a volume that has arrived and was not taken over; it reports whether that
// is so.
func (s *Service) GiveUp(ctx context.Context, v Volume) (bool, error) {
	given := false
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		given = false
		id, err := idOn(ctx, tx, s.Here.ID(), v)
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := db.Exec(ctx, tx, stmtGiveUp, id)
		given = n > 0
		return err
	})
	if err != nil || !given {
		return false, err
	}
	return true, s.DeleteVolume(ctx, v)
}

// DropLeft removes a volume if it is one that this member has left, or one that was to
// arrive and whose removal failed then: it may be about to come back. Nobody else makes or
// takes over one of that name meanwhile.
func (s *Service) DropLeft(ctx context.Context, v Volume) error {
	if given, err := s.GiveUp(ctx, v); given || err != nil {
		return err
	}
	id, err := idOn(ctx, s.DB, s.Here.ID(), v)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	marks, err := db.Select[string](ctx, s.DB, stmtIsLeft, id)
	if err != nil || len(marks) == 0 {
		return err
	}
	return s.DeleteVolume(ctx, v)
}

// LeftVolume is a volume that is to be removed.
type LeftVolume struct {
	Volume
	Note string // of who made it
}

type leftRow struct {
	Pool    string `db:"pool"`
	Project string `db:"project"`
	Name    string `db:"name"`
	Type    int64  `db:"type"`
	Note    string `db:"note"`
}

// Left lists, when the daemon starts, the volumes that are to be removed here: those that
// are somewhere else now, and those that had not been taken over when it died.
func (s *Service) Left(ctx context.Context) ([]LeftVolume, error) {
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtGiveUpAll, s.Here.ID())
		return err
	})
	if err != nil {
		return nil, err
	}
	rows, err := db.Select[leftRow](ctx, s.DB, stmtLeft, s.Here.ID())
	var out []LeftVolume
	for _, r := range rows {
		out = append(out, LeftVolume{Volume{Pool: r.Pool, Type: types()[r.Type], Project: r.Project, Name: r.Name}, r.Note})
	}
	return out, err
}
