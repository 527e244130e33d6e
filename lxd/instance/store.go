package instance

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sett/lxd/db"
	"sett/lxd/profile"
	"sett/shared/errs"
)

var (
	stmtInstances db.Stmt = `
SELECT i.id AS id, projects.name AS project, i.name AS name, nodes.name AS node, i.architecture AS architecture,
       i.ephemeral AS ephemeral, i.creation_date AS created, i.last_use_date AS used, i.description AS description
FROM instances AS i
JOIN projects ON projects.id = i.project_id
JOIN nodes ON nodes.id = i.node_id`
	stmtNames db.Stmt = `
SELECT projects.name AS project, i.name AS name FROM instances AS i JOIN projects ON projects.id = i.project_id`
	stmtConfig db.Stmt = `
SELECT instance_id, key, value FROM instances_config
WHERE ?1 = '' OR instance_id IN (SELECT value FROM json_each(?1))`
	stmtDevices db.Stmt = `
SELECT d.instance_id, d.name, d.type, c.key, c.value
FROM instances_devices AS d LEFT JOIN instances_devices_config AS c ON c.instance_device_id = d.id
WHERE ?1 = '' OR d.instance_id IN (SELECT value FROM json_each(?1))`
	stmtProfiles db.Stmt = `
SELECT instance_id AS instance, profile_id AS profile FROM instances_profiles
WHERE ?1 = '' OR instance_id IN (SELECT value FROM json_each(?1))
ORDER BY instance_id, apply_order, id`
	stmtProfileUsers db.Stmt = `SELECT instance_id AS id FROM instances_profiles WHERE profile_id = ?`

	stmtCreate db.Stmt = `
INSERT INTO instances (node_id, name, architecture, type, ephemeral, creation_date, description, project_id)
SELECT ?1, ?2, ?3, 0, ?4, ?5, ?6, id FROM projects WHERE name = ?7`
	stmtUpdate        db.Stmt = `UPDATE instances SET architecture = ?, ephemeral = ?, description = ? WHERE id = ?`
	stmtRename        db.Stmt = `UPDATE instances SET name = ? WHERE id = ?`
	stmtUsed          db.Stmt = `UPDATE instances SET last_use_date = ? WHERE id = ?`
	stmtDelete        db.Stmt = `DELETE FROM instances WHERE id = ?`
	stmtConfigClear   db.Stmt = `DELETE FROM instances_config WHERE instance_id = ?`
	stmtConfigAdd     db.Stmt = `INSERT INTO instances_config (instance_id, key, value) SELECT ?, key, value FROM json_each(?)`
	stmtConfigDrop    db.Stmt = `DELETE FROM instances_config WHERE instance_id = ? AND key IN (SELECT value FROM json_each(?))`
	stmtConfigPut     db.Stmt = `INSERT OR REPLACE INTO instances_config (instance_id, key, value) SELECT ?, key, value FROM json_each(?)`
	stmtDevicesClear  db.Stmt = `DELETE FROM instances_devices WHERE instance_id = ?`
	stmtDevicesAdd    db.Stmt = `INSERT INTO instances_devices (instance_id, name, type) SELECT ?, key, json_extract(value, '$.type') FROM json_each(?)`
	stmtDevicesConfig db.Stmt = `
INSERT INTO instances_devices_config (instance_device_id, key, value)
SELECT d.id, kv.key, kv.value
FROM json_each(?) AS dev JOIN json_each(dev.value) AS kv
JOIN instances_devices AS d ON d.name = dev.key AND d.instance_id = ?
WHERE kv.key <> 'type'`
	stmtProfilesClear db.Stmt = `DELETE FROM instances_profiles WHERE instance_id = ?`
	stmtProfileIDs    db.Stmt = `SELECT id FROM profiles`
	stmtProfilesAdd   db.Stmt = `INSERT INTO instances_profiles (instance_id, profile_id, apply_order) SELECT ?, value, key FROM json_each(?)`
)

type row struct {
	ID           int64     `db:"id"`
	Project      string    `db:"project"`
	Name         string    `db:"name"`
	Node         string    `db:"node"`
	Architecture string    `db:"architecture"`
	Ephemeral    bool      `db:"ephemeral"`
	Created      time.Time `db:"created"`
	Used         time.Time `db:"used"`
	Description  string    `db:"description"`
}

type nameRow struct {
	Project string `db:"project"`
	Name    string `db:"name"`
}

type profileRow struct {
	Instance int64 `db:"instance"`
	Profile  int64 `db:"profile"`
}

// load reads instances with everything that belongs to them, in seven statements
// however many there are.
func (s *Service) load(ctx context.Context, q db.Querier, w *db.Where) ([]*Instance, error) {
	return db.Whole(ctx, q, func(ctx context.Context, q db.Querier) ([]*Instance, error) { return s.loadIn(ctx, q, w) })
}

func (s *Service) loadIn(ctx context.Context, q db.Querier, w *db.Where) ([]*Instance, error) {
	rows, err := db.SelectWhere[row](ctx, q, stmtInstances, w, "ORDER BY projects.name, i.name")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	// A filter as long as the table is slower than none.
	filter := ""
	if !w.Empty() {
		ids := make([]int64, len(rows))
		for i, r := range rows {
			ids[i] = r.ID
		}
		filter = db.JSON(ids)
	}
	cfg, err := db.Maps(ctx, q, stmtConfig, filter)
	if err != nil {
		return nil, err
	}
	devs, err := db.Devices(ctx, q, stmtDevices, filter)
	if err != nil {
		return nil, err
	}
	prows, err := db.Select[profileRow](ctx, q, stmtProfiles, filter)
	if err != nil {
		return nil, err
	}
	order := map[int64][]int64{}
	var pids []int64
	seen := map[int64]bool{}
	for _, r := range prows {
		order[r.Instance] = append(order[r.Instance], r.Profile)
		if !seen[r.Profile] {
			seen[r.Profile] = true
			pids = append(pids, r.Profile)
		}
	}
	profiles, err := s.Profiles.LoadIDs(ctx, q, pids)
	if err != nil {
		return nil, err
	}
	out := make([]*Instance, len(rows))
	for i, r := range rows {
		inst := &Instance{ID: r.ID, Project: r.Project, Name: r.Name, Location: r.Node, Architecture: r.Architecture,
			Ephemeral: r.Ephemeral, Created: r.Created, LastUsed: r.Used, Description: r.Description,
			Config: cfg[r.ID], Devices: devs[r.ID], Profiles: []profile.Profile{}}
		if inst.Config == nil {
			inst.Config = map[string]string{}
		}
		if inst.Devices == nil {
			inst.Devices = map[string]map[string]string{}
		}
		for _, id := range order[r.ID] {
			inst.Profiles = append(inst.Profiles, profiles[id])
		}
		out[i] = inst
	}
	return out, nil
}

// Load reads one instance.
func (s *Service) Load(ctx context.Context, project, name string) (*Instance, error) {
	return s.loadOne(ctx, s.DB, project, name)
}

func (s *Service) loadOne(ctx context.Context, q db.Querier, project, name string) (*Instance, error) {
	var w db.Where
	all, err := s.load(ctx, q, w.Eq("projects.name", project).Eq("i.name", name))
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errs.NotFound("Instance not found")
	}
	return all[0], nil
}

// insert stores a new instance and gives it its id.
func insert(ctx context.Context, tx *db.Tx, node int64, i *Instance) error {
	id, err := db.Insert(ctx, tx, stmtCreate, node, i.Name, i.Architecture, i.Ephemeral, i.Created, i.Description, i.Project)
	if errors.Is(err, db.ErrDuplicate) {
		return errs.Conflict("Instance %q already exists", i.Name)
	}
	if err != nil {
		return err
	}
	i.ID = id
	return store(ctx, tx, i)
}

// store writes all of an instance but its name.
func store(ctx context.Context, tx *db.Tx, i *Instance) error {
	if err := db.ExecOne(ctx, tx, stmtUpdate, i.Architecture, i.Ephemeral, i.Description, i.ID); err != nil {
		return err
	}
	if err := db.SetMap(ctx, tx, stmtConfigClear, stmtConfigAdd, i.ID, i.Config); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, tx, stmtProfilesClear, i.ID); err != nil {
		return err
	}
	if len(i.Profiles) > 0 {
		ids := make([]int64, len(i.Profiles))
		for n, p := range i.Profiles {
			ids[n] = p.ID
		}
		_, err := db.Exec(ctx, tx, stmtProfilesAdd, i.ID, db.JSON(ids))
		if errors.Is(err, db.ErrReference) {
			return profileGone(ctx, tx, i)
		}
		if err != nil {
			return err
		}
	}
	if _, err := db.Exec(ctx, tx, stmtDevicesClear, i.ID); err != nil {
		return err
	}
	if len(i.Devices) == 0 {
		return nil
	}
	b, err := json.Marshal(i.Devices)
	if err != nil {
		return err
	}
	if _, err := db.Exec(ctx, tx, stmtDevicesAdd, i.ID, string(b)); err != nil {
		return err
	}
	_, err = db.Exec(ctx, tx, stmtDevicesConfig, string(b), i.ID)
	return err
}

// profileGone names the profiles that were deleted since the instance was found right.
func profileGone(ctx context.Context, tx *db.Tx, i *Instance) error {
	there, err := db.Select[int64](ctx, tx, stmtProfileIDs)
	if err != nil {
		return err
	}
	var gone []string
	for _, p := range i.Profiles {
		if !slices.Contains(there, p.ID) {
			gone = append(gone, strconv.Quote(p.Name))
		}
	}
	return errs.Conflict("Instance %q uses a profile that was deleted just now: %s", i.Name, strings.Join(gone, ", "))
}

// patchConfig changes single keys; an empty value removes one. The instance given
// follows.
func (s *Service) patchConfig(ctx context.Context, i *Instance, changes map[string]string) error {
	if len(changes) == 0 {
		return nil
	}
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return patch(ctx, tx, i.ID, changes) })
	if err == nil {
		merge(i, changes)
	}
	return err
}

func patch(ctx context.Context, tx *db.Tx, id int64, changes map[string]string) error {
	var drop []string
	put := map[string]string{}
	for k, v := range changes {
		if v == "" {
			drop = append(drop, k)
		} else {
			put[k] = v
		}
	}
	if len(drop) > 0 {
		if _, err := db.Exec(ctx, tx, stmtConfigDrop, id, db.JSON(drop)); err != nil {
			return err
		}
	}
	if len(put) > 0 {
		if _, err := db.Exec(ctx, tx, stmtConfigPut, id, db.JSONMap(put)); err != nil {
			return err
		}
	}
	return nil
}

func merge(i *Instance, changes map[string]string) {
	i.Config = maps.Clone(i.Config)
	for k, v := range changes {
		if v == "" {
			delete(i.Config, k)
		} else {
			i.Config[k] = v
		}
	}
	i.expandedConfig = nil
}
