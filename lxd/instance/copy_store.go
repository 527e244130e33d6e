package instance

import (
	"context"

	"sett/lxd/db"
	"sett/shared/errs"
)

var (
	// Snapshots of one instance (?2) become such of another (?1), those named in ?3. What
	// the daemon has noted of the one is not true of the other, but for the ids on disk.
	stmtSnapshotsCopy db.Stmt = `
INSERT INTO instances_snapshots (instance_id, name, creation_date, stateful, description, expiry_date)
SELECT ?1, name, creation_date, 0, description, expiry_date FROM instances_snapshots
WHERE instance_id = ?2 AND name IN (SELECT value FROM json_each(?3)) ORDER BY creation_date, id`
	stmtSnapshotsCopyConfig db.Stmt = `
INSERT INTO instances_snapshots_config (instance_snapshot_id, key, value)
SELECT n.id, c.key, c.value FROM instances_snapshots AS n
JOIN instances_snapshots AS o ON o.instance_id = ?2 AND o.name = n.name
JOIN instances_snapshots_config AS c ON c.instance_snapshot_id = o.id
WHERE n.instance_id = ?1 AND n.name IN (SELECT value FROM json_each(?3))
AND (c.key NOT LIKE 'volatile.%' OR c.key LIKE 'volatile.%.name'
	OR c.key IN ('volatile.base_image', 'volatile.last_state.idmap', 'volatile.sett_scheduled'))`
	stmtSnapshotsCopyDevices db.Stmt = `
INSERT INTO instances_snapshots_devices (instance_snapshot_id, name, type)
SELECT n.id, d.name, d.type FROM instances_snapshots AS n
JOIN instances_snapshots AS o ON o.instance_id = ?2 AND o.name = n.name
JOIN instances_snapshots_devices AS d ON d.instance_snapshot_id = o.id
WHERE n.instance_id = ?1 AND n.name IN (SELECT value FROM json_each(?3))`
	stmtSnapshotsCopyDevicesConfig db.Stmt = `
INSERT INTO instances_snapshots_devices_config (instance_snapshot_device_id, key, value)
SELECT nd.id, c.key, c.value FROM instances_snapshots AS n
JOIN instances_snapshots AS o ON o.instance_id = ?2 AND o.name = n.name
JOIN instances_snapshots_devices AS nd ON nd.instance_snapshot_id = n.id
JOIN instances_snapshots_devices AS od ON od.instance_snapshot_id = o.id AND od.name = nd.name
JOIN instances_snapshots_devices_config AS c ON c.instance_snapshot_device_id = od.id
WHERE n.instance_id = ?1 AND n.name IN (SELECT value FROM json_each(?3))`

	// Snapshots lie in the pool of their instance. Those with a root disk of their own say
	// so; those that had it from a profile get one if the instance has one itself.
	stmtSnapshotsPool db.Stmt = `
UPDATE instances_snapshots_devices_config SET value = ?2 WHERE key = 'pool' AND instance_snapshot_device_id IN (
	SELECT d.id FROM instances_snapshots AS s
	JOIN instances_snapshots_devices AS d ON d.instance_snapshot_id = s.id AND d.type = 'disk'
	JOIN instances_snapshots_devices_config AS c ON c.instance_snapshot_device_id = d.id AND c.key = 'path' AND c.value = '/'
	WHERE s.instance_id = ?1)`
	stmtSnapshotsRoot db.Stmt = `
INSERT INTO instances_snapshots_devices (instance_snapshot_id, name, type)
SELECT s.id, ?2, 'disk' FROM instances_snapshots AS s WHERE s.instance_id = ?1 AND NOT EXISTS (
	SELECT 1 FROM instances_snapshots_devices AS d
	LEFT JOIN instances_snapshots_devices_config AS c ON c.instance_snapshot_device_id = d.id AND c.key = 'path'
	WHERE d.instance_snapshot_id = s.id AND (d.name = ?2 OR d.type = 'disk' AND c.value = '/'))`
	stmtSnapshotsRootConfig db.Stmt = `
INSERT INTO instances_snapshots_devices_config (instance_snapshot_device_id, key, value)
SELECT d.id, kv.key, kv.value FROM instances_snapshots AS s
JOIN instances_snapshots_devices AS d ON d.instance_snapshot_id = s.id AND d.name = ?2
JOIN json_each(?3) AS kv
WHERE s.instance_id = ?1 AND NOT EXISTS (
	SELECT 1 FROM instances_snapshots_devices_config AS c WHERE c.instance_snapshot_device_id = d.id)`
)

// copySnapshots gives an instance the snapshots of another by name, as they are.
func copySnapshots(ctx context.Context, tx *db.Tx, i, from *Instance, names []string) error {
	if len(names) == 0 {
		return nil
	}
	n, err := db.Exec(ctx, tx, stmtSnapshotsCopy, i.ID, from.ID, db.JSON(names))
	if err != nil {
		return err
	}
	if n != int64(len(names)) {
		return errs.NotFound("A snapshot of instance %q is gone", from.Name)
	}
	for _, stmt := range []db.Stmt{stmtSnapshotsCopyConfig, stmtSnapshotsCopyDevices, stmtSnapshotsCopyDevicesConfig} {
		if _, err := db.Exec(ctx, tx, stmt, i.ID, from.ID, db.JSON(names)); err != nil {
			return err
		}
	}
	return placeSnapshots(ctx, tx, i)
}

// placeSnapshots makes the snapshots of an instance say in which pool it is.
func placeSnapshots(ctx context.Context, tx *db.Tx, i *Instance) error {
	v, _, err := volume(i)
	if err != nil {
		return err
	}
	if _, err := db.Exec(ctx, tx, stmtSnapshotsPool, i.ID, v.Pool); err != nil {
		return err
	}
	name, root, err := rootDevice(i.ExpandedDevices())
	if err != nil || i.Devices[name] == nil { // it may lack one for a while
		return nil
	}
	if _, err := db.Exec(ctx, tx, stmtSnapshotsRoot, i.ID, name); err != nil {
		return err
	}
	keys := map[string]string{}
	for k, v := range root {
		if k != "type" {
			keys[k] = v
		}
	}
	_, err = db.Exec(ctx, tx, stmtSnapshotsRootConfig, i.ID, name, db.JSONMap(keys))
	return err
}
