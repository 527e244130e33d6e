package network

import (
	"context"
	"errors"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/shared/errs"
)

// States of a network, and of a network on a member.
//
//	network   member
//	pending   pending    told of, with the member's own keys; nothing runs
//	pending   unsettled  being made; what a daemon that died has left is removed
//	created   created    in use
//	errored   any        made or deleted on some of the members only
const (
	pending   = 0
	created   = 1
	errored   = 2
	unsettled = 3 // of members only

	none = -1 // the member has no part in it
)

var (
	stmtNetworks db.Stmt = `
SELECT networks.id, projects.name AS project, networks.name AS name, networks.description AS description,
       networks.type AS type, networks.state AS state
FROM networks JOIN projects ON projects.id = networks.project_id`
	stmtConfig db.Stmt = `
SELECT network_id, key, value FROM networks_config
WHERE (node_id IS NULL OR node_id = ?) AND network_id IN (SELECT value FROM json_each(?))`
	stmtMembers db.Stmt = `
SELECT nn.network_id AS network, n.id AS id, n.name AS name, nn.state AS state
FROM networks_nodes AS nn JOIN nodes AS n ON n.id = nn.node_id
WHERE nn.network_id IN (SELECT value FROM json_each(?)) ORDER BY n.name`
	stmtFeature db.Stmt = `
SELECT c.value AS value FROM projects_config AS c JOIN projects ON projects.id = c.project_id
WHERE projects.name = ? AND c.key = 'features.networks'`

	// The hardware addresses of instances, with the projects that those are in: picked ones,
	// and those that devices of theirs or of their profiles say.
	stmtAddresses db.Stmt = `
SELECT projects.name AS project, c.value AS address
FROM instances_config AS c
JOIN instances ON instances.id = c.instance_id
JOIN projects ON projects.id = instances.project_id
WHERE c.key LIKE 'volatile.%.hwaddr'
UNION ALL
SELECT projects.name, c.value
FROM instances_devices_config AS c
JOIN instances_devices AS d ON d.id = c.instance_device_id
JOIN instances ON instances.id = d.instance_id
JOIN projects ON projects.id = instances.project_id
WHERE c.key = 'hwaddr'
UNION ALL
SELECT projects.name, c.value
FROM profiles_devices_config AS c
JOIN profiles_devices AS d ON d.id = c.profile_device_id
JOIN instances_profiles AS ip ON ip.profile_id = d.profile_id
JOIN instances ON instances.id = ip.instance_id
JOIN projects ON projects.id = instances.project_id
WHERE c.key = 'hwaddr'`

	stmtCreate db.Stmt = `
INSERT INTO networks (project_id, name, description, type)
SELECT id, ?, ?, ? FROM projects WHERE name = ?`
	stmtJoin        db.Stmt = `INSERT INTO networks_nodes (network_id, node_id, state) VALUES (?, ?, ?)`
	stmtPart        db.Stmt = `DELETE FROM networks_nodes WHERE network_id = ? AND node_id = ?`
	stmtOwnClear    db.Stmt = `DELETE FROM networks_config WHERE network_id = ? AND node_id = ?`
	stmtState       db.Stmt = `UPDATE networks SET state = ? WHERE id = ?`
	stmtMemberState db.Stmt = `UPDATE networks_nodes SET state = ? WHERE network_id = ? AND node_id = ?`
	stmtDescribe    db.Stmt = `UPDATE networks SET description = ? WHERE id = ?`
	stmtRename      db.Stmt = `UPDATE networks SET name = ? WHERE id = ?`
	stmtDelete      db.Stmt = `DELETE FROM networks WHERE id = ?`
	stmtConfigClear db.Stmt = `DELETE FROM networks_config WHERE network_id = ? AND (node_id IS NULL OR node_id = ?)`
	stmtConfigAdd   db.Stmt = `
INSERT INTO networks_config (network_id, node_id, key, value) SELECT ?, NULL, key, value FROM json_each(?)`
	stmtMemberAdd db.Stmt = `
INSERT INTO networks_config (network_id, node_id, key, value) SELECT ?, ?, key, value FROM json_each(?)`

	// Devices with what matters of their configuration. Those of other types are
	// there too: they hide a profile's device of the same name.
	stmtProfileNICs db.Stmt = `
SELECT profiles.id AS id, projects.name AS project, profiles.name AS name, d.name AS device, d.type AS type,
       IFNULL(MAX(CASE c.key WHEN 'network' THEN c.value END), '') AS network,
       IFNULL(MAX(CASE c.key WHEN 'parent' THEN c.value END), '') AS parent,
       IFNULL(MAX(CASE c.key WHEN 'nictype' THEN c.value END), '') AS nictype
FROM profiles_devices AS d
JOIN profiles ON profiles.id = d.profile_id JOIN projects ON projects.id = profiles.project_id
LEFT JOIN profiles_devices_config AS c ON c.profile_device_id = d.id AND c.key IN ('network', 'parent', 'nictype')
GROUP BY d.id ORDER BY projects.name, profiles.name, d.name`
	stmtInstanceNICs db.Stmt = `
SELECT instances.id AS id, projects.name AS project, instances.name AS name, d.name AS device, d.type AS type,
       IFNULL(MAX(CASE c.key WHEN 'network' THEN c.value END), '') AS network,
       IFNULL(MAX(CASE c.key WHEN 'parent' THEN c.value END), '') AS parent,
       IFNULL(MAX(CASE c.key WHEN 'nictype' THEN c.value END), '') AS nictype
FROM instances_devices AS d
JOIN instances ON instances.id = d.instance_id JOIN projects ON projects.id = instances.project_id
LEFT JOIN instances_devices_config AS c ON c.instance_device_id = d.id AND c.key IN ('network', 'parent', 'nictype')
GROUP BY d.id`
	stmtInstances db.Stmt = `
SELECT instances.id AS id, projects.name AS project, instances.name AS name, IFNULL(ip.profile_id, 0) AS profile
FROM instances JOIN projects ON projects.id = instances.project_id
LEFT JOIN instances_profiles AS ip ON ip.instance_id = instances.id
ORDER BY projects.name, instances.name, ip.apply_order`
	stmtFeatures db.Stmt = `
SELECT projects.name AS project, IFNULL(c.value, '') AS value
FROM projects LEFT JOIN projects_config AS c ON c.project_id = projects.id AND c.key = 'features.networks'`
)

// Network is a managed network as stored, with the configuration of this member.
type Network struct {
	ID          int64
	Project     string
	Name        string
	Description string
	Type        string
	State       int
	Config      map[string]string

	here    int      // the state of this member's part
	members []member // that have a part in it, by name
}

// member is a member's part in a network.
type member struct {
	Network int64  `db:"network"`
	ID      int64  `db:"id"`
	Name    string `db:"name"`
	State   int    `db:"state"`
}

// Ref names the network.
func (n Network) Ref() entity.Ref { return entity.New(entity.Network, n.Project, n.Name) }

type row struct {
	ID          int64  `db:"id"`
	Project     string `db:"project"`
	Name        string `db:"name"`
	Description string `db:"description"`
	Type        string `db:"type"`
	State       int    `db:"state"`
}

// load reads networks with their configuration: three statements, however many.
func (s *Service) load(ctx context.Context, q db.Querier, w *db.Where) ([]Network, error) {
	return db.Whole(ctx, q, func(ctx context.Context, q db.Querier) ([]Network, error) { return s.loadIn(ctx, q, w) })
}

func (s *Service) loadIn(ctx context.Context, q db.Querier, w *db.Where) ([]Network, error) {
	rows, err := db.SelectWhere[row](ctx, q, stmtNetworks, w, "ORDER BY projects.name, networks.name")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	cfg, err := db.Maps(ctx, q, stmtConfig, s.Here.ID(), db.JSON(ids))
	if err != nil {
		return nil, err
	}
	members, err := db.Select[member](ctx, q, stmtMembers, db.JSON(ids))
	if err != nil {
		return nil, err
	}
	out := make([]Network, len(rows))
	for i, r := range rows {
		n := Network{ID: r.ID, Project: r.Project, Name: r.Name, Description: r.Description, Type: r.Type, State: r.State, Config: cfg[r.ID], here: none}
		for _, m := range members {
			if m.Network == r.ID {
				n.members = append(n.members, m)
				if m.ID == s.Here.ID() {
					n.here = m.State
				}
			}
		}
		if n.Config == nil {
			n.Config = map[string]string{}
		}
		out[i] = n
	}
	return out, nil
}

func (s *Service) one(ctx context.Context, q db.Querier, project, name string) (Network, error) {
	var w db.Where
	all, err := s.load(ctx, q, w.Eq("projects.name", project).Eq("networks.name", name))
	if err != nil {
		return Network{}, err
	}
	if len(all) == 0 {
		return Network{}, errs.NotFound("Network not found")
	}
	return all[0], nil
}

func (s *Service) insert(ctx context.Context, tx *db.Tx, n Network) (int64, error) {
	id, err := db.Insert(ctx, tx, stmtCreate, n.Name, n.Description, n.Type, n.Project)
	if errors.Is(err, db.ErrDuplicate) {
		return 0, errs.Conflict("The network already exists")
	}
	if err != nil {
		return 0, err
	}
	return id, db.ExecOne(ctx, tx, stmtJoin, id, s.Here.ID(), unsettled)
}

// setState is for the network on the whole, setHere for this member's part.
func setState(ctx context.Context, tx *db.Tx, id int64, state int) error {
	return db.ExecOne(ctx, tx, stmtState, state, id)
}

func (s *Service) setHere(ctx context.Context, tx *db.Tx, id int64, state int) error {
	return db.ExecOne(ctx, tx, stmtMemberState, state, id, s.Here.ID())
}

// setOwn writes the keys of a network that are a member's own.
func setOwn(ctx context.Context, tx *db.Tx, network, node int64, own map[string]string) error {
	if _, err := db.Exec(ctx, tx, stmtOwnClear, network, node); err != nil || len(own) == 0 {
		return err
	}
	_, err := db.Exec(ctx, tx, stmtMemberAdd, network, node, db.JSONMap(own))
	return err
}

// setConfig replaces what this member sees: rows of its own for the keys that
// belong to a member, shared ones for the rest.
func (s *Service) setConfig(ctx context.Context, tx *db.Tx, n Network) error {
	d, err := s.driver(n.Type)
	if err != nil {
		return err
	}
	shared, own := split(d.Keys(n.Config), clean(n.Config))
	if _, err := db.Exec(ctx, tx, stmtConfigClear, n.ID, s.Here.ID()); err != nil {
		return err
	}
	if len(shared) > 0 {
		if _, err := db.Exec(ctx, tx, stmtConfigAdd, n.ID, db.JSONMap(shared)); err != nil {
			return err
		}
	}
	if len(own) > 0 {
		if _, err := db.Exec(ctx, tx, stmtMemberAdd, n.ID, s.Here.ID(), db.JSONMap(own)); err != nil {
			return err
		}
	}
	return nil
}

type addressRow struct {
	Project string `db:"project"`
	Address string `db:"address"`
}
