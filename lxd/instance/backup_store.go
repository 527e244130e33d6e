package instance

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/shared/errs"
)

var (
	stmtBackups db.Stmt = `
SELECT b.id, b.instance_id AS instance, b.name, b.creation_date AS created, b.expiry_date AS expires,
       b.container_only AS instance_only, b.optimized_storage AS optimized
FROM instances_backups AS b
WHERE ?1 = '' OR b.instance_id IN (SELECT value FROM json_each(?1))
ORDER BY b.instance_id, b.creation_date, b.id`
	stmtBackupCreate db.Stmt = `
INSERT INTO instances_backups (instance_id, name, creation_date, expiry_date, container_only, optimized_storage) VALUES (?, ?, ?, ?, ?, ?)`
	stmtBackupRename db.Stmt = `UPDATE instances_backups SET name = ? WHERE id = ?`
	stmtBackupDelete db.Stmt = `DELETE FROM instances_backups WHERE id = ?`
	stmtBackupNames  db.Stmt = `SELECT name FROM instances_backups WHERE instance_id = ?`
	stmtWithBackups  db.Stmt = `
SELECT i.id FROM instances AS i WHERE i.node_id = ? AND EXISTS (SELECT 1 FROM instances_backups AS b WHERE b.instance_id = i.id)`
	stmtHalfRenamed db.Stmt = `
SELECT i.id FROM instances AS i JOIN instances_config AS c ON c.instance_id = i.id
WHERE i.node_id = ? AND c.key = 'volatile.sett_pending' AND c.value GLOB ?`
	stmtCompression db.Stmt = `SELECT value FROM config WHERE key = 'backups.compression_algorithm'`
)

// Backup is a backup of an instance as stored.
type Backup struct {
	ID           int64     `db:"id"`
	Instance     int64     `db:"instance"`
	Name         string    `db:"name"`
	Created      time.Time `db:"created"`
	Expires      time.Time `db:"expires"` // zero: never
	InstanceOnly bool      `db:"instance_only"`
	Optimized    bool      `db:"optimized"`
}

// Ref names the backup.
func (b *Backup) Ref(i *Instance) entity.Ref {
	return entity.New(entity.InstanceBackup, i.Project, i.Name, b.Name)
}

// backupRoot is where the daemon keeps backups, and what is on its way to become one or
// has come to be imported.
func (s *Service) backupRoot() string { return filepath.Join(s.Dir, "backups") }

// backupDir is where the backups of an instance are, a file for each.
func (s *Service) backupDir(project, name string) string {
	return filepath.Join(s.backupRoot(), "instances", folder(project, name))
}

// loadBackups reads the backups of instances, oldest first.
func (s *Service) loadBackups(ctx context.Context, is ...*Instance) (map[int64][]*Backup, error) {
	ids := make([]int64, len(is))
	for n, i := range is {
		ids[n] = i.ID
	}
	rows, err := db.Select[Backup](ctx, s.DB, stmtBackups, db.JSON(ids))
	out := map[int64][]*Backup{}
	for _, r := range rows {
		out[r.Instance] = append(out[r.Instance], &r)
	}
	return out, err
}

// Backups lists the backups of an instance, oldest first.
func (s *Service) Backups(ctx context.Context, i *Instance) ([]*Backup, error) {
	all, err := s.loadBackups(ctx, i)
	return all[i.ID], err
}

// Backup finds a backup of an instance.
func (s *Service) Backup(ctx context.Context, i *Instance, name string) (*Backup, error) {
	all, err := s.Backups(ctx, i)
	if err != nil {
		return nil, err
	}
	for _, b := range all {
		if b.Name == name {
			return b, nil
		}
	}
	return nil, errs.NotFound("Backup %q of instance %q not found", name, i.Name)
}

func insertBackup(ctx context.Context, tx *db.Tx, i *Instance, b *Backup) error {
	id, err := db.Insert(ctx, tx, stmtBackupCreate, i.ID, b.Name, b.Created, orNull(b.Expires), b.InstanceOnly, b.Optimized)
	if errors.Is(err, db.ErrDuplicate) {
		return backupTaken(i, b.Name)
	}
	b.ID = id
	return err
}

func backupTaken(i *Instance, name string) error {
	return errs.Conflict("Backup '%s/%s' already exists", i.Name, name)
}
