package member

import (
	"context"
	"maps"
	"slices"

	"sett/lxd/certificate"
	"sett/lxd/cluster"
	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/shared/api"
	"sett/shared/errs"
)

// rename gives a member another name.
func (s *Service) rename(ctx context.Context, name, to string, by *event.Requestor) error {
	m, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	if err := checkName(to); err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		err := db.ExecOne(ctx, tx, stmtRename, to, m.ID)
		if db.IsDuplicate(err) {
			return errs.Conflict("The cluster already has a member with name: %s", to)
		}
		if err != nil {
			return err
		}
		return certificate.RenameServer(ctx, tx, name, to)
	})
	if err != nil {
		return err
	}
	if err := s.changed(ctx); err != nil {
		return err
	}
	s.Bus.Lifecycle("cluster-member-renamed", entity.New(entity.Member, "", to), by, map[string]any{"old_name": name})
	return nil
}

// one renders a member.
func (s *Service) one(ctx context.Context, name string) (api.ClusterMember, cluster.Member, error) {
	m, err := s.find(ctx, name)
	if err != nil {
		return api.ClusterMember{}, m, err
	}
	more, err := loadDetails(ctx, s.DB)
	if err != nil {
		return api.ClusterMember{}, m, err
	}
	raft, leader := s.raft(ctx)
	return s.render(m, more[m.ID], raft, leader), m, nil
}

// update replaces what the administrator has given a member.
func (s *Service) update(ctx context.Context, m cluster.Member, now, put api.ClusterMemberPut, by *event.Requestor) error {
	if err := Keys().Validate(put.Config); err != nil {
		return err
	}
	config := maps.Clone(put.Config)
	maps.DeleteFunc(config, func(_, v string) bool { return v == "" })
	roles, err := checkRoles(now.Roles, put.Roles)
	if err != nil {
		return err
	}
	if len(put.Groups) != 1 || put.Groups[0] != "default" {
		return errs.NotImplemented("Cluster groups are not implemented; every member is in the group \"default\" and no other")
	}
	domain := put.FailureDomain
	if domain == "" {
		domain = "default"
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if domain != "default" {
			if _, err := db.Exec(ctx, tx, stmtDomainAdd, domain); err != nil {
				return err
			}
		}
		if err := db.ExecOne(ctx, tx, stmtDescribe, put.Description, domain, m.ID); err != nil {
			return err
		}
		if _, err := db.Exec(ctx, tx, stmtDomainPrune); err != nil {
			return err
		}
		if _, err := db.Exec(ctx, tx, stmtConfigClear, m.ID); err != nil {
			return err
		}
		if len(config) > 0 {
			if _, err := db.Exec(ctx, tx, stmtConfigAdd, m.ID, db.JSONMap(config)); err != nil {
				return err
			}
		}
		if _, err := db.Exec(ctx, tx, stmtRolesClear, m.ID); err != nil {
			return err
		}
		if len(roles) == 0 {
			return nil
		}
		_, err := db.Exec(ctx, tx, stmtRolesAdd, m.ID, db.JSON(roles))
		return err
	})
	if err != nil {
		return err
	}
	s.Bus.Lifecycle("cluster-member-updated", entity.New(entity.Member, "", m.Name), by, nil)
	return nil
}

// checkRoles lets those roles be changed that are given. The others are the
// database's own doing.
func checkRoles(now, put []string) ([]int64, error) {
	var out []int64
	for _, r := range put {
		n, given := givenRoles[r]
		switch {
		case given:
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		case r != roleLeader && r != roleVoter && r != roleStandBy:
			return nil, errs.Invalid("%q is not a role of cluster members", r)
		case !slices.Contains(now, r):
			return nil, errs.Invalid("The %q role cannot be added: the cluster gives it by itself", r)
		}
	}
	for _, r := range now {
		if _, given := givenRoles[r]; !given && !slices.Contains(put, r) {
			return nil, errs.Invalid("The %q role cannot be dropped: the cluster gives it by itself", r)
		}
	}
	return out, nil
}
