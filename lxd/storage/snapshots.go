package storage

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/rest"
	"sett/lxd/storage/driver"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
)

var (
	stmtSnapshotsCreate db.Stmt = `
INSERT INTO storage_volumes_snapshots (storage_volume_id, name, creation_date)
SELECT v.id, json_extract(s.value, '$[0]'), json_extract(s.value, '$[1]') FROM json_each(?) AS s JOIN storage_volumes AS v
JOIN storage_pools AS p ON p.id = v.storage_pool_id
JOIN projects ON projects.id = v.project_id
WHERE p.name = ? AND projects.name = ? AND v.type = ? AND v.name = ? AND (v.node_id IS NULL OR v.node_id = ?)`
	stmtSnapshotDelete db.Stmt = `
DELETE FROM storage_volumes_snapshots WHERE name IN (SELECT value FROM json_each(?)) AND storage_volume_id IN (
	SELECT v.id FROM storage_volumes AS v
	JOIN storage_pools AS p ON p.id = v.storage_pool_id
	JOIN projects ON projects.id = v.project_id
	WHERE p.name = ? AND projects.name = ? AND v.type = ? AND v.name = ? AND (v.node_id IS NULL OR v.node_id = ?))`
	stmtSnapshotRename db.Stmt = `
UPDATE storage_volumes_snapshots SET name = ? WHERE name = ? AND storage_volume_id IN (
	SELECT v.id FROM storage_volumes AS v
	JOIN storage_pools AS p ON p.id = v.storage_pool_id
	JOIN projects ON projects.id = v.project_id
	WHERE p.name = ? AND projects.name = ? AND v.type = ? AND v.name = ? AND (v.node_id IS NULL OR v.node_id = ?))`
	stmtPoolSnapshots db.Stmt = `
SELECT projects.name AS project, v.type, v.name AS volume, IFNULL(n.name, '') AS node, s.name, s.description, s.creation_date
FROM storage_volumes_snapshots AS s
JOIN storage_volumes AS v ON v.id = s.storage_volume_id
JOIN storage_pools AS p ON p.id = v.storage_pool_id
JOIN projects ON projects.id = v.project_id
LEFT JOIN nodes AS n ON n.id = v.node_id
WHERE p.name = ? ORDER BY s.creation_date, s.id`
)

type snapshotRow struct {
	Project     string    `db:"project"`
	Type        int64     `db:"type"`
	Volume      string    `db:"volume"`
	Node        string    `db:"node"`
	Name        string    `db:"name"`
	Description string    `db:"description"`
	Created     time.Time `db:"creation_date"`
}

// withSnapshots puts behind each volume of a pool its snapshots.
func (s *Service) withSnapshots(ctx context.Context, pool string, vs []api.StorageVolume) ([]api.StorageVolume, error) {
	rows, err := db.Select[snapshotRow](ctx, s.DB, stmtPoolSnapshots, pool)
	if err != nil || len(rows) == 0 {
		return vs, err
	}
	type key struct{ project, kind, name, node string }
	by := map[key][]snapshotRow{}
	for _, r := range rows {
		k := key{r.Project, string(types()[r.Type]), r.Volume, r.Node}
		by[k] = append(by[k], r)
	}
	var out []api.StorageVolume
	for _, v := range vs {
		out = append(out, v)
		for _, r := range by[key{v.Project, v.Type, v.Name, v.Location}] {
			snap := v
			snap.Name, snap.Description, snap.CreatedAt = v.Name+"/"+r.Name, r.Description, r.Created
			snap.UsedBy = []string{}
			if t := types()[r.Type]; t == driver.Container {
				snap.UsedBy = []string{entity.New(entity.InstanceSnapshot, v.Project, v.Name, r.Name).URL()}
			}
			out = append(out, snap)
		}
	}
	return out, nil
}

// snapshotsOf are the snapshots of the volume that a path names, as the API shows them.
func (s *Service) snapshotsOf(ctx context.Context, r *rest.Request) (api.StorageVolume, []api.StorageVolumeSnapshot, error) {
	v, o, err := s.volumeOf(ctx, r)
	if err != nil {
		return o, nil, err
	}
	all, err := s.withSnapshots(ctx, v.Pool, []api.StorageVolume{o})
	if err != nil {
		return o, nil, err
	}
	out := []api.StorageVolumeSnapshot{}
	for _, sn := range all[1:] {
		a := api.StorageVolumeSnapshot{Name: sn.Name, Config: sn.Config, ContentType: sn.ContentType, CreatedAt: sn.CreatedAt}
		a.Description = sn.Description
		out = append(out, a)
	}
	return o, out, nil
}

func (s *Service) listSnapshots(ctx context.Context, r *rest.Request) (rest.Response, error) {
	o, all, err := s.snapshotsOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.Recursion() > 0 {
		return rest.Sync(all), nil
	}
	urls := []string{}
	for _, sn := range all {
		snap := o
		snap.Name = sn.Name
		urls = append(urls, volumeURL(r.Value(0), snap, ""))
	}
	return rest.Sync(urls), nil
}

func (s *Service) getSnapshot(ctx context.Context, r *rest.Request) (rest.Response, error) {
	o, all, err := s.snapshotsOf(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, sn := range all {
		if sn.Name == o.Name+"/"+r.Value(3) {
			sn.Name = r.Value(3)
			return rest.SyncETag(sn, []any{sn.Description, sn.ExpiresAt}), nil
		}
	}
	return nil, errs.NotFound("Snapshot %q of storage volume %q not found", r.Value(3), o.Name)
}

// volumeURL is where clients find a volume, or, behind its slash, a snapshot.
func volumeURL(pool string, v api.StorageVolume, location string) string {
	name, snap, is := strings.Cut(v.Name, "/")
	u := entity.New(entity.StorageVolume, v.Project, pool, v.Type, name)
	u.Location = location
	if !is {
		return u.URL()
	}
	path, query, more := strings.Cut(u.URL(), "?")
	path += "/snapshots/" + url.PathEscape(snap)
	if more {
		path += "?" + query
	}
	return path
}

// at is what the statements above find a volume by, after their own arguments.
func (s *Service) at(v Volume, own ...any) []any {
	return append(own, v.Pool, v.project(), number(v.Type), v.Name, s.Here.ID())
}

// CreateSnapshot records and takes a snapshot of a volume. quiet holds still those who
// write to it. What an earlier attempt has left under the name is not noticed here: its
// record makes it a conflict.
func (s *Service) CreateSnapshot(ctx context.Context, v Volume, name string, quiet driver.Quiet) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	d := v.driver().Snapshot(name)
	if err := d.Check(); err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = func(err error) {
		s.Log.Warn("Could not take back a snapshot", "volume", v.Ref(), "snapshot", name, "err", err)
	}
	defer u.Run()
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		return s.recordSnapshots(ctx, tx, v, Brought{Name: name, Taken: time.Now()})
	})
	if err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return s.removeSnapshot(ctx, v, name)
	})
	if err := p.drv.CreateSnapshot(ctx, d, quiet); err != nil {
		return driver.Explain(err)
	}
	u.Push(func() error {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return p.drv.DeleteSnapshot(ctx, d)
	})
	if err := s.linkSnapshots(v, p); err != nil {
		return err
	}
	u.Commit()
	return nil
}

// recordSnapshots writes the records of snapshots of a volume.
func (s *Service) recordSnapshots(ctx context.Context, tx *db.Tx, v Volume, snaps ...Brought) error {
	if len(snaps) == 0 {
		return nil
	}
	var rows [][]any
	for _, sn := range snaps {
		rows = append(rows, []any{sn.Name, sn.Taken})
	}
	all, err := db.JSONRows(rows)
	if err != nil {
		return err
	}
	n, err := db.Exec(ctx, tx, stmtSnapshotsCreate, s.at(v, all)...)
	switch {
	case errors.Is(err, db.ErrDuplicate) && len(snaps) == 1:
		return errs.Conflict("Snapshot %q of storage volume %q already exists", snaps[0].Name, v.Name)
	case errors.Is(err, db.ErrDuplicate):
		return errs.Conflict("Storage volume %q has a snapshot of the same name already", v.Name)
	case err == nil && n == 0:
		return errs.NotFound("Storage volume %q not found in pool %q", v.Name, v.Pool)
	}
	return err
}

func (s *Service) removeSnapshot(ctx context.Context, v Volume, names ...string) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtSnapshotDelete, s.at(v, db.JSON(names))...)
		return err
	})
}

// DeleteSnapshot removes a snapshot and, first, its record: who finds the one without
// the other knows that a delete was cut off. What is not there is no error.
func (s *Service) DeleteSnapshot(ctx context.Context, v Volume, name string) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	if err := s.removeSnapshot(ctx, v, name); err != nil {
		return err
	}
	if err := p.drv.DeleteSnapshot(ctx, v.driver().Snapshot(name)); err != nil {
		return err
	}
	return s.linkSnapshots(v, p)
}

// RenameSnapshot gives a snapshot another name. also runs in the transaction that
// changes the record. It may be done again, or in reverse, after it was cut off.
func (s *Service) RenameSnapshot(ctx context.Context, v Volume, name, to string, also func(context.Context, *db.Tx) error) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	d := v.driver()
	if err := p.drv.RenameSnapshot(ctx, d.Snapshot(name), to); err != nil {
		there, e := p.drv.Exists(ctx, d.Snapshot(to))
		if !errs.Is(err, errs.KindNotFound) || e != nil || !there {
			return err
		}
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if _, err := db.Exec(ctx, tx, stmtSnapshotRename, s.at(v, to, name)...); err != nil {
			return err
		}
		return also(ctx, tx)
	})
	if err != nil {
		ctx, cancel := cleanup(ctx)
		defer cancel()
		return errors.Join(err, p.drv.RenameSnapshot(ctx, d.Snapshot(to), name))
	}
	return nil
}

// RestoreSnapshot puts the content of a snapshot in place of the volume's, in one step.
// size is its limit; 0 stands for the pool's default. Nobody may use the volume.
func (s *Service) RestoreSnapshot(ctx context.Context, v Volume, name string, size int64) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	if size, err = s.defaultSize(ctx, v.Pool, size); err != nil {
		return err
	}
	d := sized(v.driver().Snapshot(name), size)
	return driver.Explain(p.drv.Restore(ctx, d))
}

// MountSnapshot makes a snapshot readable and returns its folder. Who writes to it
// breaks the promise that it is what it was.
func (s *Service) MountSnapshot(ctx context.Context, v Volume, name string) (string, error) {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return "", err
	}
	d := v.driver().Snapshot(name)
	return p.drv.Path(d), p.drv.Mount(ctx, d)
}

// UnmountSnapshot ends one use of a snapshot.
func (s *Service) UnmountSnapshot(ctx context.Context, v Volume, name string) error {
	p, err := s.open(ctx, v.Pool)
	if err != nil {
		return err
	}
	return p.drv.Unmount(ctx, v.driver().Snapshot(name))
}

// SnapshotUsage tells how many bytes each snapshot of a volume takes, for those of which
// it is known.
func (s *Service) SnapshotUsage(ctx context.Context, v Volume, names []string) map[string]int64 {
	out := map[string]int64{}
	p := s.lookup(v.Pool)
	if p == nil || p.state() != nil {
		return out
	}
	for _, n := range names {
		if u, err := p.drv.Usage(ctx, v.driver().Snapshot(n)); err == nil && u.Used >= 0 {
			out[n] = u.Used
		}
	}
	return out
}

// linkSnapshots keeps the short way to an instance's snapshots, LXD_DIR/snapshots/NAME,
// for as long as there are any.
func (s *Service) linkSnapshots(v Volume, p *pool) error {
	if v.Type != driver.Container {
		return nil
	}
	// Next to the volume's own folder are those of all volumes; the driver knows only
	// the way to a snapshot.
	dir := filepath.Dir(p.drv.Path(v.driver().Snapshot("any")))
	l := filepath.Join(s.Dir, "snapshots", v.driver().DiskName())
	if _, err := os.Lstat(dir); err != nil {
		return s.unlinkSnapshots(v)
	}
	if err := os.MkdirAll(filepath.Dir(l), 0o711); err != nil {
		return err
	}
	err := os.Symlink(dir, l)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if to, err := os.Readlink(l); err == nil && to == dir {
		return nil
	}
	if err := os.Remove(l); err != nil { // of an earlier life
		return err
	}
	return os.Symlink(dir, l)
}

func (s *Service) unlinkSnapshots(v Volume) error {
	if v.Type != driver.Container {
		return nil
	}
	return s.removeLink(filepath.Join(s.Dir, "snapshots", v.driver().DiskName()), v.Pool)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
