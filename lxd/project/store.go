package project

import (
	"context"

	"sett/lxd/db"
)

var (
	stmtProjects db.Stmt = `SELECT id, name, description FROM projects`
	stmtConfig   db.Stmt = `SELECT project_id, key, value FROM projects_config`

	// What uses projects: the objects that live in them, by kind.
	stmtUsedBy db.Stmt = `
SELECT projects.name AS project, used.kind AS kind, used.name AS name FROM projects JOIN (
	SELECT 1 AS place, project_id, 'instance' AS kind, name FROM instances
	UNION ALL SELECT 2, project_id, 'image', fingerprint FROM images
	UNION ALL SELECT 3, project_id, 'profile', name FROM profiles
	UNION ALL SELECT 4, project_id, 'network', name FROM networks
) AS used ON used.project_id = projects.id
WHERE ?1 = '' OR projects.name = ?1
ORDER BY projects.name, used.place, used.name`
)

type row struct {
	ID          int64  `db:"id"`
	Name        string `db:"name"`
	Description string `db:"description"`
}

type usedRow struct {
	Project string `db:"project"`
	Kind    string `db:"kind"`
	Name    string `db:"name"`
}

func load(ctx context.Context, q db.Querier, w *db.Where) ([]Project, error) {
	rows, err := db.SelectWhere[row](ctx, q, stmtProjects, w, "ORDER BY name")
	if err != nil {
		return nil, err
	}
	cfg, err := db.Maps(ctx, q, stmtConfig)
	if err != nil {
		return nil, err
	}
	out := make([]Project, len(rows))
	for i, r := range rows {
		out[i] = Project{ID: r.ID, Name: r.Name, Description: r.Description, Config: cfg[r.ID]}
		if out[i].Config == nil {
			out[i].Config = map[string]string{}
		}
	}
	return out, nil
}
