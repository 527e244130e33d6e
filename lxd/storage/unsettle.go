package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"sett/lxd/db"
	"sett/shared/api"
)

// A server that is killed while it makes its part of the pools of a cluster stands alone
// again at the next start, with a database that knows none of them. So what is about to
// be made is planned first, and written into that database as half-made.

// Plan is what CreateHere is about to make with the keys that were given for it.
func (s *Service) Plan(ctx context.Context, given []api.ClusterMemberConfigKey) (json.RawMessage, error) {
	ps, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	var plan []Pool
	for _, p := range ps {
		if p.state != stateCreated || p.here == stateCreated {
			continue
		}
		p = Pool{Name: p.Name, Driver: p.Driver, Config: maps.Clone(p.Config)}
		for _, g := range given {
			if g.Entity == "storage-pool" && g.Name == p.Name && g.Value != "" {
				p.Config[g.Key] = g.Value
			}
		}
		plan = append(plan, p)
	}
	return json.Marshal(plan)
}

// Unsettle writes down that what was planned may be half-made. Start removes it.
func (s *Service) Unsettle(ctx context.Context, plan json.RawMessage) error {
	var ps []Pool
	if err := json.Unmarshal(plan, &ps); err != nil {
		return fmt.Errorf("read which storage pools were about to be made: %w", err)
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, p := range ps {
			if err := s.insertPool(ctx, tx, &p); err != nil {
				return err
			}
		}
		return nil
	})
}
