package network

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/db"
	"sett/lxd/entity"
	"sett/lxd/event"
	"sett/lxd/host/netlink"
	"sett/lxd/lock"
	"sett/lxd/network/driver"
	"sett/lxd/op"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Host is what is asked of the host about interfaces that nobody manages.
type Host interface {
	Interfaces(ctx context.Context) ([]netlink.Interface, error)
	State(ctx context.Context, name string) (netlink.State, error)
}

// Deps are what the service is made of.
type Deps struct {
	DB      *db.DB
	Bus     *event.Bus
	Locks   *lock.Manager
	Ops     *op.Manager // in whose history a clean-up is noted; may be nil
	Drivers []driver.Driver
	Host    Host
	Log     *slog.Logger
	Dir     string        // for the networks' files: LXD_DIR/networks
	Seed    string        // the same for all members and for ever; MAC addresses of bridges follow from it
	Here    *cluster.Here // this member
	Relay   *relay.Relay  // the way to the others
}

// Service holds the rules of networks.
type Service struct {
	Deps
	drivers map[string]driver.Driver

	// picking keeps two networks that are made at once from one subnet.
	picking sync.Mutex

	mu     sync.Mutex
	failed map[int64]error // networks that could not be started
	ready  chan struct{}   // closed when all have been tried once
}

// New makes the service. Start starts the networks.
func New(d Deps) *Service {
	s := &Service{Deps: d, drivers: map[string]driver.Driver{}, failed: map[int64]error{}, ready: make(chan struct{})}
	for _, v := range d.Drivers {
		s.drivers[v.Type()] = v
	}
	return s
}

// types are LXD's types of network that are not built.
var types = []string{"macvlan", "sriov", "ovn", "physical"}

func (s *Service) driver(typ string) (driver.Driver, error) {
	if d := s.drivers[typ]; d != nil {
		return d, nil
	}
	for _, t := range types {
		if typ == t {
			return nil, errs.NotImplemented("Networks of type %q are not implemented", typ)
		}
	}
	return nil, errs.Invalid("Unknown driver %q", typ)
}

func (s *Service) spec(n Network) driver.Spec {
	return driver.Spec{Name: n.Name, Config: n.Config, Dir: filepath.Join(s.Dir, n.Name), Seed: s.Seed + "/" + strconv.FormatInt(n.ID, 10)}
}

func (s *Service) lock(ctx context.Context, doing string, names ...string) (func(), error) {
	keys := make([]lock.Key, len(names))
	for i, n := range names {
		// Interfaces are one name space, whatever the project.
		keys[i] = entity.New(entity.Network, entity.DefaultProject, n)
	}
	return s.Locks.Lock(ctx, doing, keys...)
}

// List returns the managed networks of a project.
func (s *Service) List(ctx context.Context, project string) ([]Network, error) {
	var w db.Where
	return s.load(ctx, s.DB, w.Eq("projects.name", project))
}

// Load returns one managed network.
func (s *Service) Load(ctx context.Context, project, name string) (Network, error) {
	return s.one(ctx, s.DB, project, name)
}

// Status is the word for how a network does here.
func (s *Service) Status(n Network) string {
	switch n.State {
	case pending:
		return api.NetworkStatusPending
	case errored:
		return api.NetworkStatusErrored
	}
	return s.statusHere(n)
}

// statusHere is the word for how this member's part of a network does.
func (s *Service) statusHere(n Network) string {
	switch n.here {
	case pending, unsettled, none:
		return api.NetworkStatusPending
	case errored:
		return api.NetworkStatusErrored
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed[n.ID] != nil {
		return api.NetworkStatusUnavailable
	}
	return api.NetworkStatusCreated
}

func (s *Service) note(id int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.failed, id)
	} else {
		s.failed[id] = err
	}
}

func checkName(name string) error {
	if name == "" {
		return errs.Invalid("No name provided")
	}
	return netlink.CheckName(name)
}

// clean drops keys without a value: to set a key to nothing is to unset it.
func clean(c map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range c {
		if v != "" {
			out[k] = v
		}
	}
	return out
}

// fill validates a configuration and returns it with its defaults. Validation
// comes first, because only what is valid can be filled, and again at last.
func (s *Service) fill(ctx context.Context, d driver.Driver, n Network) (Network, error) {
	n.Config = clean(n.Config)
	if err := s.validate(d, n); err != nil {
		return n, err
	}
	var w db.Where
	others, err := s.load(ctx, s.DB, &w)
	if err != nil {
		return n, err
	}
	var used []netip.Prefix
	for _, o := range others {
		if o.ID != n.ID {
			used = append(used, driver.Subnets(o.Config)...)
		}
	}
	spec := s.spec(n)
	spec.New = n.ID == 0 || n.State != created
	if n.Config, err = d.Fill(ctx, spec, used); err != nil {
		return n, err
	}
	return n, s.validate(d, n)
}

func (s *Service) validate(d driver.Driver, n Network) error {
	if err := d.Keys(n.Config).Validate(n.Config); err != nil {
		return fmt.Errorf("Network %q: %w", n.Name, err)
	}
	if err := d.Validate(s.spec(n)); err != nil {
		return fmt.Errorf("Network %q: %w", n.Name, err)
	}
	return nil
}

// Create makes a network and starts it.
func (s *Service) Create(ctx context.Context, n Network, by *event.Requestor) error {
	d, err := s.checkNew(&n)
	if err != nil {
		return err
	}
	unlock, err := s.lock(ctx, "creating network "+n.Name, n.Name)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.one(ctx, s.DB, n.Project, n.Name); err == nil {
		return errs.Conflict("The network already exists")
	} else if !errs.Is(err, errs.KindNotFound) {
		return err
	}
	if _, err := s.Host.State(ctx, n.Name); err == nil {
		return errs.Conflict("Network interface %q already exists", n.Name)
	}
	var u undo.Stack
	u.OnError = func(err error) {
		s.Log.Error("Could not undo the creation of a network", "network", n.Name, "err", err)
	}
	defer u.Run()
	if n, err = s.claim(ctx, d, n, &u); err != nil {
		return err
	}
	// Pushed before the start: what a driver leaves when it fails goes too.
	u.Push(func() error { return d.Delete(context.WithoutCancel(ctx), s.spec(n)) })
	spec := s.spec(n)
	spec.New = true
	if err := d.Start(ctx, spec); err != nil {
		return fmt.Errorf("Network %q: %w", n.Name, err)
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := s.setHere(ctx, tx, n.ID, created); err != nil {
			return err
		}
		if err := setState(ctx, tx, n.ID, created); err != nil {
			return err
		}
		tx.AfterCommit(func() { s.Bus.Lifecycle("network-created", n.Ref(), by, map[string]any{"type": n.Type}) })
		return nil
	})
	if err != nil {
		return err
	}
	u.Commit()
	return nil
}

// claim picks what is left open and stores the network as pending, so that its
// subnet is taken and a daemon that dies now cleans up at its next start.
func (s *Service) claim(ctx context.Context, d driver.Driver, n Network, u *undo.Stack) (Network, error) {
	s.picking.Lock()
	defer s.picking.Unlock()
	n, err := s.fill(ctx, d, n)
	if err != nil {
		return n, err
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if n.ID, err = s.insert(ctx, tx, n); err != nil {
			return err
		}
		return s.setConfig(ctx, tx, n)
	})
	if err != nil {
		return n, err
	}
	u.Push(func() error { return s.forget(context.WithoutCancel(ctx), n) })
	return n, nil
}

func (s *Service) forget(ctx context.Context, n Network) error {
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.Exec(ctx, tx, stmtDelete, n.ID)
		return err
	})
}

// Change is what an update may replace.
type Change struct {
	Description string
	Config      map[string]string
}

// Update replaces configuration and description. check sees the network under
// the lock, before anything has changed, and says what it becomes.
func (s *Service) Update(ctx context.Context, project, name string, v view, by *event.Requestor, check func(Network) (Change, error)) error {
	unlock, err := s.lock(ctx, "updating network "+name, name)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := s.one(ctx, s.DB, project, name)
	if err != nil {
		return fmt.Errorf("Failed loading network: %w", err)
	}
	if old.State == pending {
		return errs.Invalid("Network %q is not fully created", name)
	}
	c, err := check(old)
	if err != nil {
		return err
	}
	d, err := s.driver(old.Type)
	if err != nil {
		return err
	}
	// A key without a value goes, but one that nobody knows has never been there.
	for k := range c.Config {
		if _, ok := d.Keys(c.Config).Lookup(k); !ok {
			return errs.Invalid("Network %q: Unknown configuration key %q", name, k)
		}
	}
	n := old
	n.Description = c.Description
	if n.Config, err = v.merge(d.Keys(c.Config), old.Config, clean(c.Config)); err != nil {
		return err
	}
	s.picking.Lock()
	n, err = s.fill(ctx, d, n)
	s.picking.Unlock()
	if err != nil {
		return err
	}
	diff, err := d.Keys(n.Config).Diff(old.Config, n.Config)
	if err != nil {
		return fmt.Errorf("Network %q: %w", name, err)
	}
	// All or none: members that are not there now cannot follow. What is a member's own, or
	// nothing to the driver, they need not.
	var others []cluster.Member
	if v != viewMember && needsDriver(diff.Changed) {
		if others, err = s.Relay.Whole(ctx); err != nil {
			return err
		}
	}
	var u undo.Stack
	u.OnError = func(err error) { s.Log.Error("Could not undo the change of a network", "network", name, "err", err) }
	defer u.Run()
	moved := needsDriver(diff.Changed) && old.here == created
	if moved {
		if err := d.Update(ctx, s.spec(old), s.spec(n)); err != nil {
			return fmt.Errorf("Network %q: %w", name, err)
		}
		u.Push(func() error { return d.Update(context.WithoutCancel(ctx), s.spec(n), s.spec(old)) })
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		tx.AfterCommit(func() { s.Bus.Lifecycle("network-updated", n.Ref(), by, nil) })
		if v == viewMember { // what all share is changed by the leader meanwhile, maybe
			_, own := split(d.Keys(n.Config), n.Config)
			return setOwn(ctx, tx, n.ID, s.Here.ID(), own)
		}
		if err := db.ExecOne(ctx, tx, stmtDescribe, n.Description, n.ID); err != nil {
			return err
		}
		return s.setConfig(ctx, tx, n)
	})
	if err != nil {
		return err
	}
	u.Commit()
	if moved {
		s.note(n.ID, nil) // it runs now, if it did not before
	}
	shared, _ := split(d.Keys(old.Config), old.Config)
	failed := s.Relay.Tell(ctx, others, tellTime, func(cluster.Member) relay.Request {
		return relay.Request{Method: http.MethodPut, Path: internalPath(n), Body: partPut{Old: shared}}
	})
	if err := relay.Join(failed); err != nil {
		return fmt.Errorf("The change is stored; members that are told of it too late follow at their next start: %w", err)
	}
	return nil
}

func needsDriver(changed []string) bool {
	for _, k := range changed {
		if !strings.HasPrefix(k, "user.") {
			return true
		}
	}
	return false
}

// Rename gives a network that nobody uses another name.
func (s *Service) Rename(ctx context.Context, project, name, to string, by *event.Requestor) error {
	if to == "" {
		return errs.Invalid("New network name not provided")
	}
	if err := checkName(to); err != nil {
		return err
	}
	if s.Here.Clustered() {
		return errs.Invalid("Networks of a cluster cannot be renamed")
	}
	unlock, err := s.lock(ctx, "renaming network "+name, name, to)
	if err != nil {
		return err
	}
	defer unlock()
	const inUse = "Network is currently in use"
	old, d, err := s.unused(ctx, project, name, inUse)
	if err != nil {
		return err
	}
	if _, err := s.one(ctx, s.DB, project, to); err == nil {
		return errs.Conflict("Network %q already exists", to)
	}
	if _, err := s.Host.State(ctx, to); err == nil {
		return errs.Conflict("Network interface %q already exists", to)
	}
	n := old
	n.Name, n.Config = to, maps.Clone(old.Config)
	var u undo.Stack
	u.OnError = func(err error) { s.Log.Error("Could not undo the renaming of a network", "network", name, "err", err) }
	defer u.Run()
	back := context.WithoutCancel(ctx)
	u.Push(func() error { return d.Start(back, s.spec(old)) })
	if err := d.Stop(ctx, s.spec(old)); err != nil {
		return err
	}
	if err := moveDir(s.spec(old).Dir, s.spec(n).Dir); err != nil {
		return err
	}
	u.Push(func() error { return moveDir(s.spec(n).Dir, s.spec(old).Dir) })
	u.Push(func() error { return d.Stop(back, s.spec(n)) })
	if err := d.Start(ctx, s.spec(n)); err != nil {
		return fmt.Errorf("Network %q: %w", to, err)
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		// An instance that was made meanwhile has found the network under its old name.
		if err := free(ctx, tx, old, inUse); err != nil {
			return err
		}
		if err := db.ExecOne(ctx, tx, stmtRename, to, n.ID); err != nil {
			return err
		}
		tx.AfterCommit(func() {
			s.Bus.Lifecycle("network-renamed", n.Ref(), by, map[string]any{"old_name": name})
		})
		return nil
	})
	if err != nil {
		return err
	}
	u.Commit()
	s.note(n.ID, nil)
	return nil
}

func moveDir(from, to string) error {
	// What is in the way belongs to no network: the name was free.
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// Delete takes a network that nobody uses off the host and forgets it.
func (s *Service) Delete(ctx context.Context, project, name string, by *event.Requestor) error {
	unlock, err := s.lock(ctx, "deleting network "+name, name)
	if err != nil {
		return err
	}
	defer unlock()
	const inUse = "The network is currently in use"
	n, d, err := s.unused(ctx, project, name, inUse)
	if err != nil {
		return err
	}
	if err := s.deleteOthers(ctx, n); err != nil {
		return err
	}
	// First the host, then the row: a daemon that dies between them still knows the
	// network, starts it again and can be told once more.
	if n.here != none && n.here != pending {
		if err := d.Delete(ctx, s.spec(n)); err != nil {
			return fmt.Errorf("Network %q: %w", name, err)
		}
	}
	err = s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		// An instance that was made meanwhile has found the network there.
		if err := free(ctx, tx, n, inUse); err != nil {
			return err
		}
		_, err := db.Exec(ctx, tx, stmtDelete, n.ID)
		return err
	})
	if err != nil {
		if n.here == created {
			s.note(n.ID, d.Start(context.WithoutCancel(ctx), s.spec(n)))
		}
		return err
	}
	s.note(n.ID, nil)
	s.Bus.Lifecycle("network-deleted", n.Ref(), by, nil)
	return nil
}

func (s *Service) unused(ctx context.Context, project, name, refusal string) (Network, driver.Driver, error) {
	n, err := s.one(ctx, s.DB, project, name)
	if err != nil {
		return n, nil, fmt.Errorf("Failed loading network: %w", err)
	}
	if err := free(ctx, s.DB, n, refusal); err != nil {
		return n, nil, err
	}
	d, err := s.driver(n.Type)
	return n, d, err
}

// free refuses what cannot be done to a network that has users.
func free(ctx context.Context, q db.Querier, n Network, refusal string) error {
	used, err := loadUsers(ctx, q)
	if err == nil && len(used.of(n.Project, n.Name)) > 0 {
		err = errs.Invalid("%s", refusal)
	}
	return err
}
