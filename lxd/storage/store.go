package storage

import (
	"context"
	"errors"
	"time"

	"sett/lxd/config"
	"sett/lxd/db"
	"sett/lxd/storage/driver"
	"sett/shared/errs"
)

// state of a pool, on the whole and on each member.
type state int

// pool      member
// pending   pending    told of, with the member's own keys; nothing is on disk
// pending   unsettled  being made or deleted; what a daemon that died has left is removed
// created   created    in use
// errored   any        made or deleted on some of the members only
const (
	statePending   state = 0
	stateCreated   state = 1
	stateErrored   state = 2
	stateUnsettled state = 3 // of members only

	stateNone state = -1 // the member has no part in it
)

var (
	stmtPools db.Stmt = `
SELECT p.id, p.name, p.driver, p.description, p.state
FROM storage_pools AS p`
	stmtPoolConfig db.Stmt = `
SELECT storage_pool_id, key, value FROM storage_pools_config
WHERE (node_id IS NULL OR node_id = ?) AND storage_pool_id IN (SELECT value FROM json_each(?))`
	stmtPoolNodes db.Stmt = `
SELECT pn.storage_pool_id AS pool, n.id AS id, n.name AS name, pn.state AS state
FROM storage_pools_nodes AS pn JOIN nodes AS n ON n.id = pn.node_id
WHERE pn.storage_pool_id IN (SELECT value FROM json_each(?)) ORDER BY n.name`
	stmtPoolUsers db.Stmt = `
SELECT p.id AS pool, v.type AS type, projects.name AS project, v.name AS name
FROM storage_volumes AS v
JOIN storage_pools AS p ON p.id = v.storage_pool_id
JOIN projects ON projects.id = v.project_id
WHERE p.id IN (SELECT value FROM json_each(?))
UNION
SELECT p.id, -1, projects.name, profiles.name
FROM storage_pools AS p
JOIN profiles_devices_config AS c ON c.key = 'pool' AND c.value = p.name
JOIN profiles_devices AS d ON d.id = c.profile_device_id AND d.type = 'disk'
JOIN profiles ON profiles.id = d.profile_id
JOIN projects ON projects.id = profiles.project_id
WHERE p.id IN (SELECT value FROM json_each(?))`

	stmtPoolCreate   db.Stmt = `INSERT INTO storage_pools (name, driver, description, state) VALUES (?, ?, ?, 0)`
	stmtPoolNode     db.Stmt = `INSERT INTO storage_pools_nodes (storage_pool_id, node_id, state) VALUES (?, ?, ?)`
	stmtPoolOffNode  db.Stmt = `DELETE FROM storage_pools_nodes WHERE storage_pool_id = ? AND node_id = ?`
	stmtPoolState    db.Stmt = `UPDATE storage_pools SET state = ? WHERE id = ?`
	stmtPoolOnNode   db.Stmt = `UPDATE storage_pools_nodes SET state = ? WHERE storage_pool_id = ? AND node_id = ?`
	stmtPoolText     db.Stmt = `UPDATE storage_pools SET description = ? WHERE id = ?`
	stmtPoolDelete   db.Stmt = `DELETE FROM storage_pools WHERE id = ?`
	stmtConfigClear  db.Stmt = `DELETE FROM storage_pools_config WHERE storage_pool_id = ? AND (node_id IS NULL OR node_id = ?)`
	stmtClearLocal   db.Stmt = `DELETE FROM storage_pools_config WHERE storage_pool_id = ? AND node_id = ?`
	stmtConfigGlobal db.Stmt = `INSERT INTO storage_pools_config (storage_pool_id, key, value) SELECT ?, key, value FROM json_each(?)`
	stmtConfigLocal  db.Stmt = `
INSERT INTO storage_pools_config (storage_pool_id, node_id, key, value) SELECT ?, ?, key, value FROM json_each(?)`
)

// Pool is a storage pool as stored.
type Pool struct {
	ID          int64
	Name        string
	Driver      string
	Description string
	Config      map[string]string // with the keys of this member
	state       state
	here        state        // of this member's part
	members     []poolMember // that have a part in it, by name
}

// poolMember is a member's part in a pool.
type poolMember struct {
	Pool  int64  `db:"pool"`
	ID    int64  `db:"id"`
	Name  string `db:"name"`
	State state  `db:"state"`
}

type poolRow struct {
	ID          int64  `db:"id"`
	Name        string `db:"name"`
	Driver      string `db:"driver"`
	Description string `db:"description"`
	State       int64  `db:"state"`
}

type userRow struct {
	Pool    int64  `db:"pool"`
	Type    int64  `db:"type"`
	Project string `db:"project"`
	Name    string `db:"name"`
}

// loadPools reads pools with their configuration: three statements, however many.
func (s *Service) loadPools(ctx context.Context, q db.Querier, w *db.Where) ([]Pool, error) {
	return db.Whole(ctx, q, func(ctx context.Context, q db.Querier) ([]Pool, error) { return s.loadPoolsIn(ctx, q, w) })
}

func (s *Service) loadPoolsIn(ctx context.Context, q db.Querier, w *db.Where) ([]Pool, error) {
	rows, err := db.SelectWhere[poolRow](ctx, q, stmtPools, w, "ORDER BY p.name")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	cfg, err := db.Maps(ctx, q, stmtPoolConfig, s.Here.ID(), db.JSON(ids))
	if err != nil {
		return nil, err
	}
	nodes, err := db.Select[poolMember](ctx, q, stmtPoolNodes, db.JSON(ids))
	if err != nil {
		return nil, err
	}
	out := make([]Pool, len(rows))
	for i, r := range rows {
		out[i] = Pool{ID: r.ID, Name: r.Name, Driver: r.Driver, Description: r.Description, Config: cfg[r.ID], state: state(r.State), here: stateNone}
		for _, n := range nodes {
			if n.Pool == r.ID {
				out[i].members = append(out[i].members, n)
				if n.ID == s.Here.ID() {
					out[i].here = n.State
				}
			}
		}
		if out[i].Config == nil {
			out[i].Config = map[string]string{}
		}
	}
	return out, nil
}

func (s *Service) loadPool(ctx context.Context, q db.Querier, name string) (Pool, error) {
	var w db.Where
	ps, err := s.loadPools(ctx, q, w.Eq("p.name", name))
	if err != nil {
		return Pool{}, err
	}
	if len(ps) == 0 {
		return Pool{}, errs.NotFound("Storage pool %q not found", name)
	}
	return ps[0], nil
}

// insertPool writes a pool of which this member is about to make its part.
func (s *Service) insertPool(ctx context.Context, tx *db.Tx, p *Pool) error {
	id, err := db.Insert(ctx, tx, stmtPoolCreate, p.Name, p.Driver, p.Description)
	if errors.Is(err, db.ErrDuplicate) {
		return errs.Conflict("Storage pool %q already exists", p.Name)
	}
	if err != nil {
		return err
	}
	p.ID = id
	if _, err := db.Exec(ctx, tx, stmtPoolNode, id, s.Here.ID(), int64(stateUnsettled)); err != nil {
		return err
	}
	return s.storeConfig(ctx, tx, *p)
}

// storeConfig writes the keys of a pool, those of this member apart.
func (s *Service) storeConfig(ctx context.Context, tx *db.Tx, p Pool) error {
	kind, err := s.Drivers.Kind(p.Driver)
	if err != nil {
		return err
	}
	global, local := split(kind.PoolKeys(), p.Config)
	if _, err := db.Exec(ctx, tx, stmtConfigClear, p.ID, s.Here.ID()); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, tx, stmtConfigGlobal, p.ID, db.JSONMap(global)); err != nil {
		return err
	}
	_, err = db.Exec(ctx, tx, stmtConfigLocal, p.ID, s.Here.ID(), db.JSONMap(local))
	return err
}

// storeLocal writes the keys of a pool that are a member's own.
func storeLocal(ctx context.Context, tx *db.Tx, pool, node int64, local map[string]string) error {
	if _, err := db.Exec(ctx, tx, stmtClearLocal, pool, node); err != nil {
		return err
	}
	_, err := db.Exec(ctx, tx, stmtConfigLocal, pool, node, db.JSONMap(local))
	return err
}

func split(t config.Table, c map[string]string) (global, local map[string]string) {
	global, local = map[string]string{}, map[string]string{}
	for k, v := range c {
		i, _ := t.Lookup(k)
		switch {
		case v == "":
		case i.Local:
			local[k] = v
		default:
			global[k] = v
		}
	}
	return global, local
}

// setState is for the pool on the whole, setHere for this member's part.
func setState(ctx context.Context, tx *db.Tx, id int64, to state) error {
	return db.ExecOne(ctx, tx, stmtPoolState, int64(to), id)
}

func (s *Service) setHere(ctx context.Context, tx *db.Tx, id int64, to state) error {
	return db.ExecOne(ctx, tx, stmtPoolOnNode, int64(to), id, s.Here.ID())
}

// Volumes.

var (
	stmtVolumes db.Stmt = `
SELECT v.id, p.name AS pool, projects.name AS project, v.name, v.type, v.content_type, v.description, v.creation_date,
       IFNULL(n.name, '') AS node
FROM storage_volumes AS v
JOIN storage_pools AS p ON p.id = v.storage_pool_id
JOIN projects ON projects.id = v.project_id
LEFT JOIN nodes AS n ON n.id = v.node_id`
	stmtVolumeNodes db.Stmt = `
SELECT IFNULL(v.node_id, 0)
FROM storage_volumes AS v
JOIN storage_pools AS p ON p.id = v.storage_pool_id
JOIN projects ON projects.id = v.project_id
WHERE p.name = ? AND projects.name = ? AND v.type = ? AND v.name = ?`
	stmtVolumeConfig db.Stmt = `
SELECT storage_volume_id, key, value FROM storage_volumes_config
WHERE storage_volume_id IN (SELECT value FROM json_each(?))`
	stmtVolumeCreate db.Stmt = `
INSERT INTO storage_volumes (name, storage_pool_id, node_id, type, project_id, content_type, creation_date)
SELECT ?, p.id, ?, ?, projects.id, 0, ? FROM storage_pools AS p JOIN projects ON projects.name = ? WHERE p.name = ? AND p.state = 1`
	stmtVolumeDelete db.Stmt = `
DELETE FROM storage_volumes
WHERE storage_pool_id = (SELECT id FROM storage_pools WHERE name = ?)
AND project_id = (SELECT id FROM projects WHERE name = ?) AND type = ? AND name = ? AND (node_id IS NULL OR node_id = ?)`
	stmtVolumeRename db.Stmt = `
UPDATE storage_volumes SET name = ?
WHERE storage_pool_id = (SELECT id FROM storage_pools WHERE name = ?)
AND project_id = (SELECT id FROM projects WHERE name = ?) AND type = ? AND name = ? AND (node_id IS NULL OR node_id = ?)`
	stmtImages   db.Stmt = `SELECT fingerprint FROM images`
	stmtImagesOf db.Stmt = `
SELECT v.name FROM storage_volumes AS v JOIN storage_pools AS p ON p.id = v.storage_pool_id
WHERE v.type = 1 AND p.name = ? AND (v.node_id IS NULL OR v.node_id = ?)`
)

// types are the numbers by which the table knows types of volumes.
func types() []driver.VolumeType {
	return []driver.VolumeType{driver.Container, driver.Image, driver.Custom, driver.VirtualMachine}
}

func number(t driver.VolumeType) int64 {
	for i, k := range types() {
		if k == t {
			return int64(i)
		}
	}
	return -1
}

type volumeRow struct {
	ID          int64     `db:"id"`
	Pool        string    `db:"pool"`
	Project     string    `db:"project"`
	Name        string    `db:"name"`
	Type        int64     `db:"type"`
	Content     int64     `db:"content_type"`
	Description string    `db:"description"`
	Created     time.Time `db:"creation_date"`
	Node        string    `db:"node"` // empty for what all members reach
}

func (s *Service) insertVolume(ctx context.Context, v Volume) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error { return s.insertVolumeIn(ctx, tx, v) })
}

// insertVolumeIn is insertVolume for those who have more to write.
func (s *Service) insertVolumeIn(ctx context.Context, tx *db.Tx, v Volume) error {
	p, err := s.loadPool(ctx, tx, v.Pool)
	if err != nil {
		return err
	}
	if p.state != stateCreated { // it may have begun to go since the volume was asked for
		return coming(v.Pool)
	}
	_, err = db.Insert(ctx, tx, stmtVolumeCreate, v.Name, s.Here.ID(), number(v.Type), time.Now().UTC(), v.project(), v.Pool)
	if errors.Is(err, db.ErrDuplicate) {
		return errs.Conflict("Storage volume %q already exists in pool %q", v.Name, v.Pool)
	}
	return err
}

func (s *Service) removeVolume(ctx context.Context, v Volume) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtVolumeDelete, v.Pool, v.project(), number(v.Type), v.Name, s.Here.ID())
		return err
	})
}
