package network

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/shared/api"
)

// A server that is killed while it makes its part of the networks of a cluster stands
// alone again at the next start, with a database that knows none of them. So what is
// about to be made is planned first, and written into that database as half-made.

// planned is a network that is about to be made. By its id the driver knows what it made.
type planned struct {
	ID         int64
	Name, Type string
	Config     map[string]string
}

const stmtPlanned db.Stmt = `
INSERT INTO networks (id, project_id, name, type) SELECT ?, id, ?, ? FROM projects WHERE name = ?`

// Plan is what CreateHere is about to make with the keys that were given for it.
func (s *Service) Plan(ctx context.Context, given []api.ClusterMemberConfigKey) (json.RawMessage, error) {
	var w db.Where
	all, err := s.load(ctx, s.DB, &w)
	if err != nil {
		return nil, err
	}
	var plan []planned
	for _, n := range all {
		if n.State != created || n.here == created {
			continue
		}
		p := planned{n.ID, n.Name, n.Type, maps.Clone(n.Config)}
		for _, g := range given {
			if g.Entity == "network" && g.Name == p.Name && g.Value != "" {
				p.Config[g.Key] = g.Value
			}
		}
		plan = append(plan, p)
	}
	return json.Marshal(plan)
}

// Unsettle writes down that what was planned may be half-made. Start removes it.
func (s *Service) Unsettle(ctx context.Context, plan json.RawMessage) error {
	var all []planned
	if err := json.Unmarshal(plan, &all); err != nil {
		return fmt.Errorf("read which networks were about to be made: %w", err)
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, p := range all {
			// Of all projects, the one that every server has.
			n := Network{ID: p.ID, Name: p.Name, Type: p.Type, Project: entity.DefaultProject, Config: p.Config}
			if err := db.ExecOne(ctx, tx, stmtPlanned, n.ID, n.Name, n.Type, n.Project); err != nil {
				return err
			}
			if err := db.ExecOne(ctx, tx, stmtJoin, n.ID, s.Here.ID(), unsettled); err != nil {
				return err
			}
			if err := s.setConfig(ctx, tx, n); err != nil {
				return err
			}
		}
		return nil
	})
}
