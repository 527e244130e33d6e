package member

import (
	"context"
	"fmt"

	"sett/lxd/certificate"
	"sett/lxd/cluster"
	"sett/lxd/db"
	"sett/lxd/db/migrations"
	"sett/lxd/image"
	"sett/shared/errs"
)

const (
	stmtPeers db.Stmt = `
SELECT n.name, n.address, c.certificate FROM nodes n JOIN certificates c ON c.type = 2 AND c.name = n.name ORDER BY n.name`
	stmtDetails db.Stmt = `
SELECT n.id, IFNULL(d.name, 'default') AS domain FROM nodes n LEFT JOIN nodes_failure_domains d ON d.id = n.failure_domain_id`
	stmtConfig db.Stmt = `SELECT node_id, key, value FROM nodes_config`
	stmtRoles  db.Stmt = `SELECT node_id, role FROM nodes_roles`

	stmtFirst db.Stmt = `
UPDATE nodes SET name = ?, address = ?, schema = ?, api_extensions = ?, arch = ? WHERE id = ?`
	stmtCreate db.Stmt = `
INSERT INTO nodes (name, address, schema, api_extensions, state, arch) VALUES (?, ?, ?, ?, ?, ?)`
	stmtState    db.Stmt = `UPDATE nodes SET state = ? WHERE id = ?`
	stmtVersion  db.Stmt = `UPDATE nodes SET schema = ?, api_extensions = ?, arch = ? WHERE id = ?`
	stmtSame     db.Stmt = `SELECT id FROM nodes WHERE schema = ? AND api_extensions = ? AND arch = ? AND id = ?`
	stmtRename   db.Stmt = `UPDATE nodes SET name = ? WHERE id = ?`
	stmtDelete   db.Stmt = `DELETE FROM nodes WHERE id = ?`
	stmtDescribe db.Stmt = `UPDATE nodes SET description = ?, failure_domain_id = (SELECT id FROM nodes_failure_domains WHERE name = ?) WHERE id = ?`

	stmtDomainAdd   db.Stmt = `INSERT INTO nodes_failure_domains (name) VALUES (?) ON CONFLICT (name) DO NOTHING`
	stmtDomainPrune db.Stmt = `DELETE FROM nodes_failure_domains WHERE id NOT IN (SELECT failure_domain_id FROM nodes WHERE failure_domain_id IS NOT NULL)`
	stmtConfigClear db.Stmt = `DELETE FROM nodes_config WHERE node_id = ?`
	stmtConfigAdd   db.Stmt = `INSERT INTO nodes_config (node_id, key, value) SELECT ?, key, value FROM json_each(?)`
	stmtRolesClear  db.Stmt = `DELETE FROM nodes_roles WHERE node_id = ?`
	stmtRolesAdd    db.Stmt = `INSERT INTO nodes_roles (node_id, role) SELECT ?, value FROM json_each(?)`

	stmtInstances db.Stmt = `SELECT name FROM instances WHERE node_id = ? ORDER BY name`
	stmtVolumes   db.Stmt = `SELECT name FROM storage_volumes WHERE node_id = ? AND type = 2 ORDER BY name`
	stmtImages    db.Stmt = `
SELECT i.fingerprint FROM images i JOIN images_nodes n ON n.image_id = i.id
WHERE n.node_id = ? AND i.cached = 0 AND NOT EXISTS (SELECT 1 FROM images_nodes o WHERE o.image_id = i.id AND o.node_id <> n.node_id)
ORDER BY i.fingerprint`
	stmtOwnThings db.Stmt = `
SELECT 'instances' AS kind, count(*) AS n FROM instances
UNION ALL SELECT 'storage pools', count(*) FROM storage_pools
UNION ALL SELECT 'networks', count(*) FROM networks
UNION ALL SELECT 'images', count(*) FROM images`
)

// details are what the administrator has given a member, and what it is for.
type details struct {
	domain string
	config map[string]string
	roles  []int64
}

func loadDetails(ctx context.Context, q db.Querier) (map[int64]details, error) {
	type row struct {
		ID     int64
		Domain string
	}
	rows, err := db.Select[row](ctx, q, stmtDetails)
	if err != nil {
		return nil, err
	}
	cfg, err := db.Maps(ctx, q, stmtConfig)
	if err != nil {
		return nil, err
	}
	type role struct {
		Node int64 `db:"node_id"`
		Role int64 `db:"role"`
	}
	roles, err := db.Select[role](ctx, q, stmtRoles)
	if err != nil {
		return nil, err
	}
	out := map[int64]details{}
	for _, r := range rows {
		d := details{domain: r.Domain, config: cfg[r.ID]}
		if d.config == nil {
			d.config = map[string]string{}
		}
		out[r.ID] = d
	}
	for _, r := range roles {
		d := out[r.Node]
		d.roles = append(d.roles, r.Role)
		out[r.Node] = d
	}
	return out, nil
}

func loadPeers(ctx context.Context, q db.Querier) ([]cluster.Peer, error) {
	ps, err := db.Select[cluster.Peer](ctx, q, stmtPeers)
	if err != nil {
		return nil, fmt.Errorf("load the certificates of the members: %w", err)
	}
	return ps, nil
}

// enlist writes a new member into the database, with the certificate by which the
// others know it.
func enlist(ctx context.Context, tx *db.Tx, m cluster.Member, pem string) (id int64, err error) {
	id, err = db.Insert(ctx, tx, stmtCreate, m.Name, m.Address, m.Schema, m.Extensions, int64(cluster.StatePending), m.Architecture)
	if db.IsDuplicate(err) {
		return 0, errs.Conflict("The cluster has a member %q or the address %s already", m.Name, m.Address)
	}
	if err != nil {
		return 0, err
	}
	return id, certificate.CreateServer(ctx, tx, m.Name, pem)
}

// strike takes a member out of the database, with all that hangs on it.
func strike(ctx context.Context, tx *db.Tx, m cluster.Member) error {
	if err := certificate.DeleteServer(ctx, tx, m.Name); err != nil {
		return err
	}
	if err := image.DeleteOf(ctx, tx, m.ID); err != nil {
		return err
	}
	_, err := db.Exec(ctx, tx, stmtDelete, m.ID)
	return err
}

func schemaVersion() (int, error) {
	steps, err := migrations.Global()
	return len(steps), err
}
