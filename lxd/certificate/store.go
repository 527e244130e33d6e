package certificate

import (
	"context"
	"errors"

	"sett/lxd/db"
	"sett/shared/errs"
)

var (
	stmtCertificates db.Stmt = `SELECT id, fingerprint, type, name, certificate, restricted FROM certificates`
	stmtProjects     db.Stmt = `
SELECT cp.certificate_id, projects.name
FROM certificates_projects AS cp JOIN projects ON projects.id = cp.project_id
ORDER BY projects.name`

	stmtExisting db.Stmt = `SELECT COUNT(*) AS n FROM projects WHERE name IN (SELECT value FROM json_each(?))`

	stmtCreate        db.Stmt = `INSERT INTO certificates (fingerprint, type, name, certificate, restricted) VALUES (?, ?, ?, ?, ?)`
	stmtUpdate        db.Stmt = `UPDATE certificates SET fingerprint = ?, type = ?, name = ?, certificate = ?, restricted = ? WHERE id = ?`
	stmtDelete        db.Stmt = `DELETE FROM certificates WHERE id = ?`
	stmtProjectsClear db.Stmt = `DELETE FROM certificates_projects WHERE certificate_id = ?`
	stmtProjectsAdd   db.Stmt = `
INSERT INTO certificates_projects (certificate_id, project_id)
SELECT ?, id FROM projects WHERE name IN (SELECT value FROM json_each(?))`
)

type row struct {
	ID          int64  `db:"id"`
	Fingerprint string `db:"fingerprint"`
	Type        int64  `db:"type"`
	Name        string `db:"name"`
	Certificate string `db:"certificate"`
	Restricted  int64  `db:"restricted"`
}

// load reads certificates with their projects: two statements, however many.
func load(ctx context.Context, q db.Querier, w *db.Where) ([]Certificate, error) {
	rows, err := db.SelectWhere[row](ctx, q, stmtCertificates, w, "ORDER BY fingerprint")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	projects, err := db.Lists(ctx, q, stmtProjects)
	if err != nil {
		return nil, err
	}
	out := make([]Certificate, len(rows))
	for i, r := range rows {
		out[i] = Certificate{ID: r.ID, Fingerprint: r.Fingerprint, Type: Type(r.Type), Name: r.Name, PEM: r.Certificate,
			Restricted: r.Restricted != 0, Projects: projects[r.ID]}
	}
	return out, nil
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

func create(ctx context.Context, tx *db.Tx, c Certificate) error {
	id, err := db.Insert(ctx, tx, stmtCreate, c.Fingerprint, int64(c.Type), c.Name, c.PEM, number(c.Restricted))
	if errors.Is(err, db.ErrDuplicate) {
		return errs.Conflict("Certificate already in trust store")
	}
	if err != nil {
		return err
	}
	return setProjects(ctx, tx, id, c.Projects)
}

func update(ctx context.Context, tx *db.Tx, c Certificate) error {
	err := db.ExecOne(ctx, tx, stmtUpdate, c.Fingerprint, int64(c.Type), c.Name, c.PEM, number(c.Restricted), c.ID)
	if errors.Is(err, db.ErrDuplicate) {
		return errs.Conflict("Certificate already in trust store")
	}
	if err != nil {
		return err
	}
	return setProjects(ctx, tx, c.ID, c.Projects)
}

type countRow struct {
	N int64 `db:"n"`
}

// checkProjects refuses projects that are not there.
func checkProjects(ctx context.Context, q db.Querier, projects []string) error {
	if len(projects) == 0 {
		return nil
	}
	rows, err := db.Select[countRow](ctx, q, stmtExisting, db.JSON(projects))
	if err != nil {
		return err
	}
	if len(rows) != 1 || rows[0].N != int64(len(projects)) {
		return errs.NotFound("Not all of the projects %q exist", projects)
	}
	return nil
}

func setProjects(ctx context.Context, tx *db.Tx, id int64, projects []string) error {
	if _, err := db.Exec(ctx, tx, stmtProjectsClear, id); err != nil || len(projects) == 0 {
		return err
	}
	if err := checkProjects(ctx, tx, projects); err != nil {
		return err
	}
	_, err := db.Exec(ctx, tx, stmtProjectsAdd, id, db.JSON(projects))
	return err
}
