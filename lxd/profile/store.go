package profile

import (
	"context"
	"encoding/json"
	"errors"

	"sett/lxd/db"
	"sett/shared/errs"
)

var (
	stmtProfiles db.Stmt = `
SELECT profiles.id, projects.name AS project, profiles.name AS name, profiles.description AS description
FROM profiles JOIN projects ON projects.id = profiles.project_id`
	stmtConfig db.Stmt = `
SELECT profile_id, key, value FROM profiles_config
WHERE profile_id IN (SELECT value FROM json_each(?))`
	stmtDevices db.Stmt = `
SELECT d.profile_id, d.name, d.type, c.key, c.value
FROM profiles_devices AS d LEFT JOIN profiles_devices_config AS c ON c.profile_device_id = d.id
WHERE d.profile_id IN (SELECT value FROM json_each(?))`
	stmtUsedBy db.Stmt = `
SELECT ip.profile_id AS profile, projects.name AS project, instances.name AS name
FROM instances_profiles AS ip
JOIN instances ON instances.id = ip.instance_id
JOIN projects ON projects.id = instances.project_id
WHERE ip.profile_id IN (SELECT value FROM json_each(?))
ORDER BY projects.name, instances.name`

	stmtCreate db.Stmt = `
INSERT INTO profiles (name, description, project_id)
SELECT ?, ?, id FROM projects WHERE name = ?`
	stmtUpdate       db.Stmt = `UPDATE profiles SET description = ? WHERE id = ?`
	stmtRename       db.Stmt = `UPDATE profiles SET name = ? WHERE id = ?`
	stmtDelete       db.Stmt = `DELETE FROM profiles WHERE id = ?`
	stmtConfigClear  db.Stmt = `DELETE FROM profiles_config WHERE profile_id = ?`
	stmtConfigAdd    db.Stmt = `INSERT INTO profiles_config (profile_id, key, value) SELECT ?, key, value FROM json_each(?)`
	stmtDevicesClear db.Stmt = `DELETE FROM profiles_devices WHERE profile_id = ?`
	stmtDevicesAdd   db.Stmt = `
INSERT INTO profiles_devices (profile_id, name, type)
SELECT ?, key, json_extract(value, '$.type') FROM json_each(?)`
	stmtDevicesConfigAdd db.Stmt = `
INSERT INTO profiles_devices_config (profile_device_id, key, value)
SELECT d.id, kv.key, kv.value
FROM json_each(?) AS dev JOIN json_each(dev.value) AS kv
JOIN profiles_devices AS d ON d.name = dev.key AND d.profile_id = ?
WHERE kv.key <> 'type'`
)

type row struct {
	ID          int64  `db:"id"`
	Project     string `db:"project"`
	Name        string `db:"name"`
	Description string `db:"description"`
}

type usedRow struct {
	Profile int64  `db:"profile"`
	Project string `db:"project"`
	Name    string `db:"name"`
}

// load reads profiles with all that is in them: three statements, however many.
func load(ctx context.Context, q db.Querier, w *db.Where) ([]Profile, error) {
	return db.Whole(ctx, q, func(ctx context.Context, q db.Querier) ([]Profile, error) { return loadIn(ctx, q, w) })
}

func loadIn(ctx context.Context, q db.Querier, w *db.Where) ([]Profile, error) {
	rows, err := db.SelectWhere[row](ctx, q, stmtProfiles, w, "ORDER BY projects.name, profiles.name")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	cfg, err := db.Maps(ctx, q, stmtConfig, db.JSON(ids))
	if err != nil {
		return nil, err
	}
	devs, err := db.Devices(ctx, q, stmtDevices, db.JSON(ids))
	if err != nil {
		return nil, err
	}
	out := make([]Profile, len(rows))
	for i, r := range rows {
		p := Profile{ID: r.ID, Project: r.Project, Name: r.Name, Description: r.Description, Config: cfg[r.ID], Devices: devs[r.ID]}
		if p.Config == nil {
			p.Config = map[string]string{}
		}
		if p.Devices == nil {
			p.Devices = map[string]map[string]string{}
		}
		out[i] = p
	}
	return out, nil
}

func one(ctx context.Context, q db.Querier, project, name string) (Profile, error) {
	var w db.Where
	all, err := load(ctx, q, w.Eq("projects.name", project).Eq("profiles.name", name))
	if err != nil {
		return Profile{}, err
	}
	if len(all) == 0 {
		return Profile{}, errs.NotFound("Profile %q not found", name)
	}
	return all[0], nil
}

// usedBy lists, for each profile, the instances that take it.
func usedBy(ctx context.Context, q db.Querier, ids []int64) (map[int64][]usedRow, error) {
	rows, err := db.Select[usedRow](ctx, q, stmtUsedBy, db.JSON(ids))
	if err != nil {
		return nil, err
	}
	out := map[int64][]usedRow{}
	for _, r := range rows {
		out[r.Profile] = append(out[r.Profile], r)
	}
	return out, nil
}

func create(ctx context.Context, tx *db.Tx, p Profile) error {
	id, err := db.Insert(ctx, tx, stmtCreate, p.Name, p.Description, p.Project)
	if errors.Is(err, db.ErrDuplicate) {
		return errs.Conflict("Profile %q already exists", p.Name)
	}
	if err != nil {
		return err
	}
	p.ID = id
	return store(ctx, tx, p)
}

// store writes everything of a profile but its name.
func store(ctx context.Context, tx *db.Tx, p Profile) error {
	if err := db.ExecOne(ctx, tx, stmtUpdate, p.Description, p.ID); err != nil {
		return err
	}
	if err := db.SetMap(ctx, tx, stmtConfigClear, stmtConfigAdd, p.ID, p.Config); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, tx, stmtDevicesClear, p.ID); err != nil {
		return err
	}
	if len(p.Devices) == 0 {
		return nil
	}
	b, err := json.Marshal(p.Devices)
	if err != nil {
		return err
	}
	if _, err := db.Exec(ctx, tx, stmtDevicesAdd, p.ID, string(b)); err != nil {
		return err
	}
	_, err = db.Exec(ctx, tx, stmtDevicesConfigAdd, string(b), p.ID)
	return err
}
