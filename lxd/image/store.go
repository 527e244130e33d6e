package image

import (
	"context"
	"errors"
	"time"

	"sett/lxd/db"
	"sett/shared/errs"
)

var (
	stmtImages db.Stmt = `
SELECT i.id AS id, projects.name AS project, i.fingerprint AS fingerprint, i.filename AS filename, i.size AS size, i.public AS public,
       i.architecture AS architecture, i.creation_date AS created, i.expiry_date AS expires, i.upload_date AS uploaded,
       i.cached AS cached, i.last_use_date AS used, i.auto_update AS auto_update
FROM images AS i JOIN projects ON projects.id = i.project_id`
	stmtProperties db.Stmt = `SELECT image_id, key, value FROM images_properties WHERE image_id IN (SELECT value FROM json_each(?))`
	stmtProfiles   db.Stmt = `
SELECT ip.image_id, profiles.name FROM images_profiles AS ip JOIN profiles ON profiles.id = ip.profile_id
WHERE ip.image_id IN (SELECT value FROM json_each(?)) ORDER BY profiles.name`
	stmtAliases db.Stmt = `
SELECT a.id AS id, projects.name AS project, a.name AS name, a.description AS description, a.image_id AS image, i.fingerprint AS target, i.public AS public
FROM images_aliases AS a JOIN projects ON projects.id = a.project_id JOIN images AS i ON i.id = a.image_id`
	stmtFingerprints db.Stmt = `SELECT DISTINCT fingerprint FROM images`

	stmtCreate db.Stmt = `
INSERT INTO images (fingerprint, filename, size, public, architecture, creation_date, expiry_date, upload_date, auto_update, project_id, type)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, id, 0 FROM projects WHERE name = ?10`
	stmtNode            db.Stmt = `INSERT INTO images_nodes (image_id, node_id) VALUES (?, ?)`
	stmtUpdate          db.Stmt = `UPDATE images SET public = ?, auto_update = ?, expiry_date = ? WHERE id = ?`
	stmtUsed            db.Stmt = `UPDATE images SET last_use_date = ? WHERE fingerprint = ? AND project_id = (SELECT id FROM projects WHERE name = ?)`
	stmtDelete          db.Stmt = `DELETE FROM images WHERE id = ?`
	stmtPropertiesClear db.Stmt = `DELETE FROM images_properties WHERE image_id = ?`
	stmtPropertiesAdd   db.Stmt = `INSERT INTO images_properties (image_id, type, key, value) SELECT ?, 0, key, value FROM json_each(?)`
	stmtProfilesClear   db.Stmt = `DELETE FROM images_profiles WHERE image_id = ?`
	stmtProfilesAdd     db.Stmt = `
INSERT INTO images_profiles (image_id, profile_id)
SELECT ?1, profiles.id FROM profiles JOIN projects ON projects.id = profiles.project_id
WHERE projects.name = ?2 AND profiles.name IN (SELECT value FROM json_each(?3))`
	stmtAliasCreate db.Stmt = `
INSERT INTO images_aliases (name, description, image_id, project_id) SELECT ?, ?, ?, id FROM projects WHERE name = ?`
	stmtAliasUpdate db.Stmt = `UPDATE images_aliases SET description = ?, image_id = ? WHERE id = ?`
	stmtAliasRename db.Stmt = `UPDATE images_aliases SET name = ? WHERE id = ?`
	stmtAliasDelete db.Stmt = `DELETE FROM images_aliases WHERE id = ?`
)

type row struct {
	ID           int64     `db:"id"`
	Project      string    `db:"project"`
	Fingerprint  string    `db:"fingerprint"`
	Filename     string    `db:"filename"`
	Size         int64     `db:"size"`
	Public       bool      `db:"public"`
	Architecture string    `db:"architecture"`
	Created      time.Time `db:"created"`
	Expires      time.Time `db:"expires"`
	Uploaded     time.Time `db:"uploaded"`
	Cached       bool      `db:"cached"`
	Used         time.Time `db:"used"`
	AutoUpdate   bool      `db:"auto_update"`
}

// Alias is a name for an image.
type Alias struct {
	ID          int64  `db:"id"`
	Project     string `db:"project"`
	Name        string `db:"name"`
	Description string `db:"description"`
	Image       int64  `db:"image"`
	Target      string `db:"target"`
	Public      bool   `db:"public"` // whether the image is
}

// Image is an image as stored.
type Image struct {
	row
	Properties map[string]string
	Profiles   []string
	Aliases    []Alias
}

// load reads images with all that belongs to them, in four statements.
func load(ctx context.Context, q db.Querier, w *db.Where) ([]Image, error) {
	return db.Whole(ctx, q, func(ctx context.Context, q db.Querier) ([]Image, error) { return loadIn(ctx, q, w) })
}

func loadIn(ctx context.Context, q db.Querier, w *db.Where) ([]Image, error) {
	rows, err := db.SelectWhere[row](ctx, q, stmtImages, w, "ORDER BY projects.name, i.fingerprint")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	ids := make([]int64, len(rows))
	for n, r := range rows {
		ids[n] = r.ID
	}
	props, err := db.Maps(ctx, q, stmtProperties, db.JSON(ids))
	if err != nil {
		return nil, err
	}
	profiles, err := db.Lists(ctx, q, stmtProfiles, db.JSON(ids))
	if err != nil {
		return nil, err
	}
	var aw db.Where
	aliases, err := db.SelectWhere[Alias](ctx, q, stmtAliases, db.In(&aw, "a.image_id", ids), "ORDER BY a.name")
	if err != nil {
		return nil, err
	}
	byImage := map[int64][]Alias{}
	for _, a := range aliases {
		byImage[a.Image] = append(byImage[a.Image], a)
	}
	out := make([]Image, len(rows))
	for n, r := range rows {
		out[n] = Image{row: r, Properties: props[r.ID], Profiles: profiles[r.ID], Aliases: byImage[r.ID]}
		if out[n].Properties == nil {
			out[n].Properties = map[string]string{}
		}
		if out[n].Profiles == nil {
			out[n].Profiles = []string{}
		}
	}
	return out, nil
}

func insert(ctx context.Context, tx *db.Tx, node int64, i *Image) error {
	id, err := db.Insert(ctx, tx, stmtCreate, i.Fingerprint, i.Filename, i.Size, i.Public, i.Architecture, orNull(i.Created), orNull(i.Expires),
		i.Uploaded, i.AutoUpdate, i.Project)
	if errors.Is(err, db.ErrDuplicate) {
		return errs.Conflict("Image with same fingerprint already exists")
	}
	if err != nil {
		return err
	}
	i.ID = id
	if _, err := db.Exec(ctx, tx, stmtNode, id, node); err != nil {
		return err
	}
	return store(ctx, tx, i)
}

// store writes what can change about an image.
func store(ctx context.Context, tx *db.Tx, i *Image) error {
	if err := db.ExecOne(ctx, tx, stmtUpdate, i.Public, i.AutoUpdate, orNull(i.Expires), i.ID); err != nil {
		return err
	}
	if err := db.SetMap(ctx, tx, stmtPropertiesClear, stmtPropertiesAdd, i.ID, i.Properties); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, tx, stmtProfilesClear, i.ID); err != nil {
		return err
	}
	n, err := db.Exec(ctx, tx, stmtProfilesAdd, i.ID, i.Project, db.JSON(i.Profiles))
	if err == nil && int(n) != len(i.Profiles) {
		return errs.Invalid("One of the profiles %q does not exist", i.Profiles)
	}
	return err
}

func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC()
}
