package profile

import (
	"context"
	"maps"
	"slices"
	"strings"

	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/lock"
	"sett/shared/errs"
)

// Default is the profile that instances take when none is named.
const Default = "default"

// Profile is a profile as stored.
type Profile struct {
	ID          int64
	Project     string
	Name        string
	Description string
	Config      map[string]string
	Devices     map[string]map[string]string
}

// Ref names the profile.
func (p Profile) Ref() entity.Ref { return entity.New(entity.Profile, p.Project, p.Name) }

// Instances is what profiles need of the instances that take them. It comes from
// higher up; the composition root hands it in.
type Instances interface {
	// CheckConfig and CheckDevices validate what a profile may say.
	CheckConfig(config map[string]string) error
	CheckDevices(ctx context.Context, project string, devices map[string]map[string]string) error
	// BeforeProfile refuses a change that some instance could not bear; it sees
	// all instances of the profile with what they would become.
	BeforeProfile(ctx context.Context, old, new Profile) error
	// AfterProfile makes running instances follow a change that has been stored.
	AfterProfile(ctx context.Context, old Profile) error
}

// Service holds the rules of profiles.
type Service struct {
	db        *db.DB
	bus       *event.Bus
	instances Instances
	// locks are of this service alone: instances are locked while a profile is, never
	// the other way round.
	locks *lock.Manager
}

// New makes the service. The instances come later, by Attach, because they stand
// above profiles.
func New(d *db.DB, bus *event.Bus) *Service { return &Service{db: d, bus: bus, locks: lock.New()} }

// Attach says who the users of profiles are. It is called once, before any request.
func (s *Service) Attach(i Instances) { s.instances = i }

// Load returns one profile.
func (s *Service) Load(ctx context.Context, project, name string) (Profile, error) {
	return one(ctx, s.db, project, name)
}

// LoadMany returns profiles in the order of their names in the list.
func (s *Service) LoadMany(ctx context.Context, project string, names []string) ([]Profile, error) {
	if len(names) == 0 {
		return nil, nil
	}
	w := new(db.Where).Eq("projects.name", project)
	all, err := load(ctx, s.db, db.In(w, "profiles.name", names))
	if err != nil {
		return nil, err
	}
	by := map[string]Profile{}
	for _, p := range all {
		by[p.Name] = p
	}
	out := make([]Profile, 0, len(names))
	for _, n := range names {
		p, ok := by[n]
		if !ok {
			return nil, errs.NotFound("Profile %q not found", n)
		}
		out = append(out, p)
	}
	return out, nil
}

// LoadIDs returns profiles by id, all in a handful of statements.
func (s *Service) LoadIDs(ctx context.Context, q db.Querier, ids []int64) (map[int64]Profile, error) {
	out := map[int64]Profile{}
	if len(ids) == 0 {
		return out, nil
	}
	var w db.Where
	all, err := load(ctx, q, db.In(&w, "profiles.id", ids))
	for _, p := range all {
		out[p.ID] = p
	}
	return out, err
}

// List returns the profiles of a project, or of all projects, by name.
func (s *Service) List(ctx context.Context, project string) ([]Profile, error) {
	var w db.Where
	if project != "" {
		w.Eq("projects.name", project)
	}
	return load(ctx, s.db, &w)
}

// UsedBy lists the URLs of the instances that take each of the profiles.
func (s *Service) UsedBy(ctx context.Context, ps ...Profile) (map[int64][]string, error) {
	ids := make([]int64, len(ps))
	for i, p := range ps {
		ids[i] = p.ID
	}
	rows, err := usedBy(ctx, s.db, ids)
	if err != nil {
		return nil, err
	}
	out := map[int64][]string{}
	for id, rs := range rows {
		for _, r := range rs {
			out[id] = append(out[id], entity.New(entity.Instance, r.Project, r.Name).URL())
		}
	}
	return out, nil
}

// forInstances are prefixes of keys that only instances hold.
var forInstances = [...]string{"volatile.", "image."}

func (s *Service) validate(ctx context.Context, p Profile) error {
	for k := range p.Config {
		for _, prefix := range forInstances {
			if strings.HasPrefix(k, prefix) {
				return errs.Invalid("Configuration key %q belongs to instances; a profile cannot hold it", k)
			}
		}
	}
	paths := map[string]string{}
	for _, n := range slices.Sorted(maps.Keys(p.Devices)) {
		d := p.Devices[n]
		if d["type"] != "disk" || d["path"] == "" {
			continue
		}
		if other, ok := paths[d["path"]]; ok {
			return errs.Invalid("Devices %q and %q both want %q inside the instance", other, n, d["path"])
		}
		paths[d["path"]] = n
	}
	if err := s.instances.CheckConfig(p.Config); err != nil {
		return err
	}
	return s.instances.CheckDevices(ctx, p.Project, p.Devices)
}

// withoutEmpty drops keys without a value: that is how clients unset them.
func withoutEmpty(p Profile) Profile {
	drop := func(m map[string]string) map[string]string {
		m = maps.Clone(m)
		maps.DeleteFunc(m, func(_, v string) bool { return v == "" })
		return m
	}
	p.Config = drop(p.Config)
	p.Devices = maps.Clone(p.Devices)
	for n, d := range p.Devices {
		p.Devices[n] = drop(d)
	}
	return p
}

// CheckName refuses names that cannot stand in URLs and on the command line.
func CheckName(name string) error {
	switch {
	case name == "":
		return errs.Invalid("No name provided")
	case strings.Contains(name, "/"):
		return errs.Invalid("Profile names may not contain slashes")
	case name == "." || name == "..":
		return errs.Invalid("Invalid profile name %q", name)
	}
	return nil
}

// Create makes a profile.
func (s *Service) Create(ctx context.Context, p Profile, by *event.Requestor) error {
	if err := CheckName(p.Name); err != nil {
		return err
	}
	if err := s.validate(ctx, p); err != nil {
		return err
	}
	p = withoutEmpty(p)
	return s.db.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := create(ctx, tx, p); err != nil {
			return err
		}
		tx.AfterCommit(func() { s.bus.Lifecycle("profile-created", p.Ref(), by, nil) })
		return nil
	})
}

// Update replaces what a profile says by what change makes of it. Changes of one
// profile come one after the other, with all that they mean to running instances.
func (s *Service) Update(ctx context.Context, project, name string, change func(old Profile) (Profile, error), by *event.Requestor) error {
	unlock, err := s.locks.Lock(ctx, "Updating profile", entity.New(entity.Profile, project, name))
	if err != nil {
		return err
	}
	defer unlock()
	old, err := s.Load(ctx, project, name)
	if err != nil {
		return err
	}
	new, err := change(old)
	if err != nil {
		return err
	}
	new.ID, new.Project, new.Name = old.ID, old.Project, old.Name
	if err := s.validate(ctx, new); err != nil {
		return err
	}
	new = withoutEmpty(new)
	if err := s.instances.BeforeProfile(ctx, old, new); err != nil {
		return err
	}
	err = s.db.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		// The lock keeps out whoever comes through this member, not through another.
		if now, err := one(ctx, tx, project, name); err != nil {
			return err
		} else if now.ID != old.ID || now.Description != old.Description || !maps.Equal(now.Config, old.Config) || !maps.EqualFunc(now.Devices, old.Devices, maps.Equal) {
			return errs.Precondition("Profile %q has been changed by somebody else meanwhile; look at it again", name)
		}
		if err := store(ctx, tx, new); err != nil {
			return err
		}
		tx.AfterCommit(func() { s.bus.Lifecycle("profile-updated", new.Ref(), by, nil) })
		return nil
	})
	if err != nil || maps.Equal(old.Config, new.Config) && maps.EqualFunc(old.Devices, new.Devices, maps.Equal) {
		return err
	}
	return s.instances.AfterProfile(ctx, old)
}

// Rename gives a profile another name.
func (s *Service) Rename(ctx context.Context, project, name, to string, by *event.Requestor) error {
	if name == Default {
		return errs.Forbidden(`The "default" profile cannot be renamed`)
	}
	if err := CheckName(to); err != nil {
		return err
	}
	unlock, err := s.locks.Lock(ctx, "Renaming profile", entity.New(entity.Profile, project, name), entity.New(entity.Profile, project, to))
	if err != nil {
		return err
	}
	defer unlock()
	return s.db.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := one(ctx, tx, project, name)
		if err != nil {
			return err
		}
		if _, err := one(ctx, tx, project, to); err == nil {
			return errs.Conflict("Name %q already in use", to)
		}
		if err := db.ExecOne(ctx, tx, stmtRename, to, p.ID); err != nil {
			return err
		}
		tx.AfterCommit(func() {
			s.bus.Lifecycle("profile-renamed", entity.New(entity.Profile, project, to), by, map[string]any{"old_name": name})
		})
		return nil
	})
}

// Delete removes a profile that nobody takes.
func (s *Service) Delete(ctx context.Context, project, name string, by *event.Requestor) error {
	if name == Default {
		return errs.Forbidden(`The "default" profile cannot be deleted`)
	}
	unlock, err := s.locks.Lock(ctx, "Deleting profile", entity.New(entity.Profile, project, name))
	if err != nil {
		return err
	}
	defer unlock()
	return s.db.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		p, err := one(ctx, tx, project, name)
		if err != nil {
			return err
		}
		used, err := usedBy(ctx, tx, []int64{p.ID})
		if err != nil {
			return err
		}
		if len(used[p.ID]) > 0 {
			return errs.Invalid("Profile is currently in use")
		}
		if err := db.ExecOne(ctx, tx, stmtDelete, p.ID); err != nil {
			return err
		}
		tx.AfterCommit(func() { s.bus.Lifecycle("profile-deleted", p.Ref(), by, nil) })
		return nil
	})
}
