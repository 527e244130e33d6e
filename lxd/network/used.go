package network

import (
	"context"
	"slices"

	"sett/lxd/db"
	"sett/lxd/entity"
)

type nicRow struct {
	ID      int64  `db:"id"`
	Project string `db:"project"`
	Name    string `db:"name"`
	Device  string `db:"device"`
	Type    string `db:"type"`
	Network string `db:"network"`
	Parent  string `db:"parent"`
	NICType string `db:"nictype"`
}

type instanceRow struct {
	ID      int64  `db:"id"`
	Project string `db:"project"`
	Name    string `db:"name"`
	Profile int64  `db:"profile"`
}

type featureRow struct {
	Project string `db:"project"`
	Value   string `db:"value"`
}

type valueRow struct {
	Value string `db:"value"`
}

// users tells who uses which network or interface: URLs by project and name of
// the network, profiles first. Four statements, however many there are.
type users map[[2]string][]string

func (u users) add(project, network string, ref entity.Ref) {
	k := [2]string{project, network}
	if url := ref.URL(); !slices.Contains(u[k], url) {
		u[k] = append(u[k], url)
	}
}

// of are the users of a network of the default project, or an interface.
func (u users) of(project, name string) []string { return u[[2]string{project, name}] }

func loadUsers(ctx context.Context, q db.Querier) (users, error) {
	out := users{}
	features, err := db.Select[featureRow](ctx, q, stmtFeatures)
	if err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, f := range features {
		own[f.Project] = f.Value == "true"
	}
	note := func(d nicRow, ref entity.Ref) {
		if d.Type != "nic" {
			return
		}
		project := entity.DefaultProject
		if own[ref.Project] {
			project = ref.Project
		}
		if d.Network != "" {
			out.add(project, d.Network, ref)
		} else if d.Parent != "" && d.NICType != "" {
			// A parent is an interface of the host, whatever the project.
			out.add(entity.DefaultProject, d.Parent, ref)
		}
	}
	inProfiles, err := db.Select[nicRow](ctx, q, stmtProfileNICs)
	if err != nil {
		return nil, err
	}
	byProfile := map[int64][]nicRow{}
	for _, d := range inProfiles {
		note(d, entity.New(entity.Profile, d.Project, d.Name))
		byProfile[d.ID] = append(byProfile[d.ID], d)
	}
	inInstances, err := db.Select[nicRow](ctx, q, stmtInstanceNICs)
	if err != nil {
		return nil, err
	}
	byInstance := map[int64][]nicRow{}
	for _, d := range inInstances {
		byInstance[d.ID] = append(byInstance[d.ID], d)
	}
	rows, err := db.Select[instanceRow](ctx, q, stmtInstances)
	if err != nil {
		return nil, err
	}
	// One row per profile of an instance, in the order in which they apply.
	for i := 0; i < len(rows); {
		in := rows[i]
		expanded := map[string]nicRow{}
		for ; i < len(rows) && rows[i].ID == in.ID; i++ {
			for _, d := range byProfile[rows[i].Profile] {
				expanded[d.Device] = d
			}
		}
		for _, d := range byInstance[in.ID] {
			expanded[d.Device] = d
		}
		for _, d := range expanded {
			note(d, entity.New(entity.Instance, in.Project, in.Name))
		}
	}
	return out, nil
}
