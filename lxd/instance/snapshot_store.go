package instance

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/project"
	"sett/shared/errs"
)

var (
	stmtSnapshots db.Stmt = `
SELECT s.id, s.instance_id AS instance, s.name, s.creation_date AS created, s.stateful, s.description, s.expiry_date AS expires
FROM instances_snapshots AS s
WHERE s.instance_id IN (SELECT value FROM json_each(?1)) AND (?2 = '' OR s.name = ?2)
ORDER BY s.instance_id, s.creation_date, s.id`
	stmtSnapshotNames  db.Stmt = `SELECT name FROM instances_snapshots WHERE instance_id = ? ORDER BY creation_date, id`
	stmtSnapshotConfig db.Stmt = `
SELECT c.instance_snapshot_id, c.key, c.value FROM instances_snapshots_config AS c
JOIN instances_snapshots AS s ON s.id = c.instance_snapshot_id
WHERE s.instance_id IN (SELECT value FROM json_each(?1)) AND (?2 = '' OR s.name = ?2)`
	stmtSnapshotDevices db.Stmt = `
SELECT d.instance_snapshot_id, d.name, d.type, c.key, c.value
FROM instances_snapshots_devices AS d
JOIN instances_snapshots AS s ON s.id = d.instance_snapshot_id
LEFT JOIN instances_snapshots_devices_config AS c ON c.instance_snapshot_device_id = d.id
WHERE s.instance_id IN (SELECT value FROM json_each(?1)) AND (?2 = '' OR s.name = ?2)`

	stmtSnapshotsCreate db.Stmt = `
INSERT INTO instances_snapshots (instance_id, name, creation_date, stateful, description, expiry_date)
SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]'), 0, json_extract(value, '$[2]'), json_extract(value, '$[3]') FROM json_each(?)`
	// What follows is told by an object with a key for each snapshot.
	stmtSnapshotsConfig db.Stmt = `
INSERT INTO instances_snapshots_config (instance_snapshot_id, key, value)
SELECT s.id, kv.key, kv.value
FROM json_each(?) AS sn JOIN json_each(sn.value) AS kv
JOIN instances_snapshots AS s ON s.name = sn.key AND s.instance_id = ?`
	stmtSnapshotsDevices db.Stmt = `
INSERT INTO instances_snapshots_devices (instance_snapshot_id, name, type)
SELECT s.id, dev.key, json_extract(dev.value, '$.type')
FROM json_each(?) AS sn JOIN json_each(sn.value) AS dev
JOIN instances_snapshots AS s ON s.name = sn.key AND s.instance_id = ?`
	stmtSnapshotsDevicesConfig db.Stmt = `
INSERT INTO instances_snapshots_devices_config (instance_snapshot_device_id, key, value)
SELECT d.id, kv.key, kv.value
FROM json_each(?) AS sn JOIN json_each(sn.value) AS dev JOIN json_each(dev.value) AS kv
JOIN instances_snapshots AS s ON s.name = sn.key AND s.instance_id = ?
JOIN instances_snapshots_devices AS d ON d.name = dev.key AND d.instance_snapshot_id = s.id
WHERE kv.key <> 'type'`
	stmtSnapshotsClear db.Stmt = `DELETE FROM instances_snapshots WHERE instance_id = ?`
	stmtSnapshotDelete db.Stmt = `DELETE FROM instances_snapshots WHERE id = ?`
	stmtSnapshotRename db.Stmt = `UPDATE instances_snapshots SET name = ? WHERE id = ?`
	stmtSnapshotExpiry db.Stmt = `UPDATE instances_snapshots SET expiry_date = ? WHERE id = ?`

	// A snapshot is whole when both of its records are there: that of the volume is
	// made first and removed first. What has but one was cut off. An instance that has
	// something else to be settled is left alone: its names may not fit.
	stmtHalfMade db.Stmt = `
SELECT p.name AS pool, projects.name AS project, i.name AS instance, s.name, 0 AS id
FROM storage_volumes_snapshots AS s
JOIN storage_volumes AS v ON v.id = s.storage_volume_id AND v.type = 0
JOIN storage_pools AS p ON p.id = v.storage_pool_id
JOIN projects ON projects.id = v.project_id
JOIN instances AS i ON i.project_id = v.project_id AND i.name = v.name AND i.node_id = ?1
WHERE (v.node_id IS NULL OR v.node_id = ?1)
AND NOT EXISTS (SELECT 1 FROM instances_snapshots AS x WHERE x.instance_id = i.id AND x.name = s.name)
AND NOT EXISTS (SELECT 1 FROM instances_config AS c WHERE c.instance_id = i.id AND c.key = 'volatile.sett_pending' AND c.value <> 'create')`
	stmtHalfDeleted db.Stmt = `
SELECT p.name AS pool, projects.name AS project, i.name AS instance, x.name, x.id
FROM instances_snapshots AS x
JOIN instances AS i ON i.id = x.instance_id AND i.node_id = ?1
JOIN projects ON projects.id = i.project_id
JOIN storage_volumes AS v ON v.project_id = i.project_id AND v.name = i.name AND v.type = 0 AND (v.node_id IS NULL OR v.node_id = ?1)
JOIN storage_pools AS p ON p.id = v.storage_pool_id
WHERE NOT EXISTS (SELECT 1 FROM storage_volumes_snapshots AS s WHERE s.storage_volume_id = v.id AND s.name = x.name)
AND NOT EXISTS (SELECT 1 FROM instances_config AS c WHERE c.instance_id = i.id AND c.key = 'volatile.sett_pending' AND c.value <> 'create')`

	// Whose snapshots have to be looked at.
	stmtScheduled db.Stmt = `
SELECT i.id FROM instances AS i WHERE i.node_id = ? AND (
	EXISTS (SELECT 1 FROM instances_config AS c WHERE c.instance_id = i.id AND c.key = 'snapshots.schedule')
	OR EXISTS (SELECT 1 FROM instances_profiles AS ip JOIN profiles_config AS c ON c.profile_id = ip.profile_id
		WHERE ip.instance_id = i.id AND c.key = 'snapshots.schedule'))`
	stmtWithPolicy db.Stmt = `
SELECT i.id FROM instances AS i WHERE i.node_id = ?
AND EXISTS (SELECT 1 FROM instances_snapshots AS s WHERE s.instance_id = i.id) AND (
	EXISTS (SELECT 1 FROM instances_config AS c WHERE c.instance_id = i.id AND c.key = 'snapshots.retention')
	OR EXISTS (SELECT 1 FROM instances_profiles AS ip JOIN profiles_config AS c ON c.profile_id = ip.profile_id
		WHERE ip.instance_id = i.id AND c.key = 'snapshots.retention'))`
	stmtWithExpiry db.Stmt = `
SELECT i.id FROM instances AS i WHERE i.node_id = ?
AND EXISTS (SELECT 1 FROM instances_snapshots AS s WHERE s.instance_id = i.id AND s.expiry_date IS NOT NULL)`
)

// Snapshot is a snapshot of an instance as stored.
type Snapshot struct {
	ID          int64
	Name        string
	Created     time.Time
	Stateful    bool
	Description string
	Expires     time.Time // zero: never
	Config      map[string]string
	Devices     map[string]map[string]string
}

// Ref names the snapshot.
func (sn *Snapshot) Ref(i *Instance) entity.Ref {
	return entity.New(entity.InstanceSnapshot, i.Project, i.Name, sn.Name)
}

// of is the instance as it was.
func (sn *Snapshot) of(i *Instance) *Instance {
	n := i.clone()
	n.Config, n.Devices, n.Description = sn.Config, sn.Devices, sn.Description
	return n
}

// before is what an instance has that may become the snapshot: what it says itself, and
// what the daemon has noted of the snapshot.
func (sn *Snapshot) before(i *Instance) project.Spec {
	was := spec(i)
	was.Config = maps.Clone(was.Config)
	for k, v := range sn.Config {
		if strings.HasPrefix(k, volatilePrefix) {
			was.Config[k] = v
		}
	}
	return was
}

type snapRow struct {
	ID          int64     `db:"id"`
	Instance    int64     `db:"instance"`
	Name        string    `db:"name"`
	Created     time.Time `db:"created"`
	Stateful    bool      `db:"stateful"`
	Description string    `db:"description"`
	Expires     time.Time `db:"expires"`
}

type halfRow struct {
	Pool     string `db:"pool"`
	Project  string `db:"project"`
	Instance string `db:"instance"`
	Name     string `db:"name"`
	ID       int64  `db:"id"`
}

// loadSnapshots reads the snapshots of instances, oldest first, in three statements
// however many there are.
func (s *Service) loadSnapshots(ctx context.Context, q db.Querier, is ...*Instance) (map[int64][]*Snapshot, error) {
	return s.snapshotsNamed(ctx, q, "", is...)
}

// snapshotsNamed is loadSnapshots for those of one name; empty: of any.
func (s *Service) snapshotsNamed(ctx context.Context, q db.Querier, name string, is ...*Instance) (map[int64][]*Snapshot, error) {
	return db.Whole(ctx, q, func(ctx context.Context, q db.Querier) (map[int64][]*Snapshot, error) {
		ids := make([]int64, len(is))
		for n, i := range is {
			ids[n] = i.ID
		}
		filter := db.JSON(ids)
		rows, err := db.Select[snapRow](ctx, q, stmtSnapshots, filter, name)
		if err != nil || len(rows) == 0 {
			return map[int64][]*Snapshot{}, err
		}
		cfg, err := db.Maps(ctx, q, stmtSnapshotConfig, filter, name)
		if err != nil {
			return nil, err
		}
		devs, err := db.Devices(ctx, q, stmtSnapshotDevices, filter, name)
		if err != nil {
			return nil, err
		}
		out := map[int64][]*Snapshot{}
		for _, r := range rows {
			sn := &Snapshot{ID: r.ID, Name: r.Name, Created: r.Created, Stateful: r.Stateful, Description: r.Description,
				Expires: r.Expires, Config: cfg[r.ID], Devices: devs[r.ID]}
			if sn.Config == nil {
				sn.Config = map[string]string{}
			}
			if sn.Devices == nil {
				sn.Devices = map[string]map[string]string{}
			}
			out[r.Instance] = append(out[r.Instance], sn)
		}
		return out, nil
	})
}

// Snapshots lists the snapshots of an instance, oldest first.
func (s *Service) Snapshots(ctx context.Context, i *Instance) ([]*Snapshot, error) {
	all, err := s.loadSnapshots(ctx, s.DB, i)
	return all[i.ID], err
}

// Snapshot finds a snapshot of an instance.
func (s *Service) Snapshot(ctx context.Context, i *Instance, name string) (*Snapshot, error) {
	all, err := s.snapshotsNamed(ctx, s.DB, name, i)
	if err != nil {
		return nil, err
	}
	if found := all[i.ID]; name != "" && len(found) == 1 {
		return found[0], nil
	}
	return nil, errs.NotFound("Snapshot %q of instance %q not found", name, i.Name)
}

// perStatement is how many snapshots one statement writes: an instance may have very many, and
// each has the whole configuration.
const perStatement = 100

// insertSnapshots records snapshots of an instance.
func insertSnapshots(ctx context.Context, tx *db.Tx, i *Instance, all ...*Snapshot) error {
	for some := range slices.Chunk(all, perStatement) {
		var rows [][]any
		config, devices := map[string]map[string]string{}, map[string]map[string]map[string]string{}
		for _, sn := range some {
			rows = append(rows, []any{sn.Name, sn.Created, sn.Description, orNull(sn.Expires)})
			config[sn.Name], devices[sn.Name] = sn.Config, sn.Devices
		}
		text, err := db.JSONRows(rows)
		if err != nil {
			return err
		}
		_, err = db.Exec(ctx, tx, stmtSnapshotsCreate, i.ID, text)
		switch {
		case errors.Is(err, db.ErrDuplicate) && len(some) == 1:
			return taken(i, some[0].Name)
		case errors.Is(err, db.ErrDuplicate):
			return errs.Conflict("Instance %q has a snapshot of the same name already", i.Name)
		case err != nil:
			return err
		}
		c, err := json.Marshal(config)
		if err != nil {
			return err
		}
		d, err := json.Marshal(devices)
		if err != nil {
			return err
		}
		for _, part := range []struct {
			stmt db.Stmt
			text []byte
		}{{stmtSnapshotsConfig, c}, {stmtSnapshotsDevices, d}, {stmtSnapshotsDevicesConfig, d}} {
			if _, err := db.Exec(ctx, tx, part.stmt, string(part.text), i.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func taken(i *Instance, name string) error {
	return errs.Conflict("Name '%s/%s' already in use", i.Name, name)
}

func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC()
}
