package instance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/instance/backup"
	"sett/lxd/rest"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// RescuePost names pools to look for instances in, beside those that the server knows.
type RescuePost struct {
	Pools []api.StoragePoolsPost `json:"pools"`
}

// RescueResult is what was found.
type RescueResult struct {
	UnknownVolumes   []RescueVolume // what could be taken in
	DependencyErrors []string       // what it would need that is not there
	// Unusable are volumes that cannot be taken in, with the reason. LXD has no such list.
	Unusable []string
}

// RescueVolume is a volume of which there is no record.
type RescueVolume struct {
	Name          string `json:"name"`
	Type          string `json:"type"`
	SnapshotCount int    `json:"snapshotCount"`
	Project       string `json:"project"`
	Pool          string `json:"pool"`
}

// rescueRoutes are what "lxd recover" talks to.
func (s *Service) rescueRoutes() []rest.Route {
	route := func(path, summary string, h rest.Handler) rest.Route {
		return rest.Route{Path: path}.As(http.MethodPost, summary, auth.Admin, h, func(r *rest.Route) { r.Body.Type = RescuePost{} })
	}
	return []rest.Route{
		route("/internal/recover/validate", "Look for instances on pools that the database does not know", s.handleRescueLook),
		route("/internal/recover/import", "Take instances on pools into the database", s.handleRescue),
	}
}

func (s *Service) handleRescueLook(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := rest.Decode[RescuePost](r)
	if err != nil {
		return nil, err
	}
	found, err := s.search(ctx, req.Pools)
	if err != nil {
		return nil, err
	}
	defer found.close()
	return rest.Sync(found.result()), nil
}

func (s *Service) handleRescue(ctx context.Context, r *rest.Request) (rest.Response, error) {
	req, err := rest.Decode[RescuePost](r)
	if err != nil {
		return nil, err
	}
	return rest.Empty(), s.Rescue(ctx, req.Pools)
}

// search is what was found on pools.
type search struct {
	pools    []*LostPool
	lost     []*lost
	missing  []string
	unusable []string
	unlock   func()
}

// lost is an instance of which there is no record.
type lost struct {
	LostVolume
	config *backup.Config
}

func (f *search) close() {
	for _, p := range f.pools {
		p.Close()
	}
	f.unlock()
}

func (f *search) result() RescueResult {
	out := RescueResult{DependencyErrors: f.missing, Unusable: f.unusable}
	for _, l := range f.lost {
		out.UnknownVolumes = append(out.UnknownVolumes, RescueVolume{Name: l.Instance, Type: "container", SnapshotCount: len(l.Snapshots),
			Project: l.Project, Pool: l.Pool})
	}
	return out
}

type rescueKey struct{}

var (
	stmtPoolNames    db.Stmt = `SELECT name FROM storage_pools ORDER BY name`
	stmtProjectNames db.Stmt = `SELECT name FROM projects`
	stmtNetworkNames db.Stmt = `SELECT name FROM networks`
	stmtProfileNames db.Stmt = `SELECT projects.name AS project, profiles.name FROM profiles JOIN projects ON projects.id = profiles.project_id`
)

// search looks through the pools of the server and some that it does not know. The
// result is to be closed.
func (s *Service) search(ctx context.Context, more []api.StoragePoolsPost) (_ *search, err error) {
	unlock, err := s.Locks.TryLock("recovery", rescueKey{})
	if err != nil {
		return nil, errs.Unavailable("Another recovery is under way")
	}
	f := &search{unlock: unlock}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	names, err := db.Select[string](ctx, s.DB, stmtPoolNames)
	if err != nil {
		return nil, err
	}
	var posts []api.StoragePoolsPost
	for _, n := range names {
		posts = append(posts, api.StoragePoolsPost{Name: n})
	}
	for _, p := range more {
		if slices.ContainsFunc(posts, func(o api.StoragePoolsPost) bool { return o.Name == p.Name }) {
			continue
		}
		posts = append(posts, p)
	}
	insts, err := s.names(ctx, "")
	if err != nil {
		return nil, err
	}
	taken := map[nameRow]bool{}
	for _, n := range insts {
		taken[n] = true
	}
	for _, post := range posts {
		p, err := s.Storage.Look(ctx, post)
		if err != nil {
			return nil, err
		}
		f.pools = append(f.pools, p)
		for _, v := range p.Volumes {
			key := nameRow{Project: v.Project, Name: v.Instance}
			c, err := backup.Load(v.Dir)
			switch {
			case err != nil:
				f.unfit(v, fmt.Errorf("its backup.yaml cannot be read: %w", err))
			case CheckName(v.Instance) != nil:
				f.unfit(v, CheckName(v.Instance))
			case taken[key]:
				f.unfit(v, errors.New("another instance has this name"))
			default:
				taken[key] = true
				f.lost = append(f.lost, &lost{LostVolume: v, config: c})
			}
		}
	}
	f.missing, err = s.missing(ctx, f)
	return f, err
}

func (f *search) unfit(v LostVolume, why error) {
	f.unusable = append(f.unusable, fmt.Sprintf("Container %q on pool %q in project %q: %v", v.Instance, v.Pool, v.Project, why))
}

// missing names what the lost instances need and the server has not.
func (s *Service) missing(ctx context.Context, f *search) ([]string, error) {
	projects, err := db.Select[string](ctx, s.DB, stmtProjectNames)
	if err != nil {
		return nil, err
	}
	networks, err := db.Select[string](ctx, s.DB, stmtNetworkNames)
	if err != nil {
		return nil, err
	}
	profiles, err := db.Select[nameRow](ctx, s.DB, stmtProfileNames)
	if err != nil {
		return nil, err
	}
	var out []string
	lacks := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	for _, l := range f.lost {
		if !slices.Contains(projects, l.Project) {
			lacks("Project %q", l.Project)
			continue
		}
		for _, n := range l.config.Container.Profiles {
			if !slices.Contains(profiles, nameRow{Project: l.Project, Name: n}) {
				lacks("Profile %q in project %q", n, l.Project)
			}
		}
		// What came from profiles that are there is theirs to say now.
		for _, d := range l.config.Container.Devices {
			if n := d["network"]; d["type"] == "nic" && n != "" && !slices.Contains(networks, n) {
				lacks("Network %q in project %q", n, l.Project)
			}
			if p := d["pool"]; d["type"] == "disk" && d["path"] != "/" && p != "" && !slices.ContainsFunc(f.pools, func(k *LostPool) bool { return k.Pool.Name == p }) {
				lacks("Storage pool %q", p)
			}
		}
	}
	return out, nil
}

// Rescue takes the instances that pools hold and the database does not know into it, and
// the pools as well. What cannot be is told at the end; the others are there by then.
func (s *Service) Rescue(ctx context.Context, more []api.StoragePoolsPost) error {
	f, err := s.search(ctx, more)
	if err != nil {
		return err
	}
	defer f.close()
	if len(f.missing) > 0 {
		return errs.Invalid("What the instances need is missing: %s", strings.Join(f.missing, ", "))
	}
	var all []error
	for _, p := range f.pools {
		if err := p.Adopt(ctx, ofPool(f, p.Pool)); err != nil {
			return fmt.Errorf("Storage pool %q cannot be taken in: %w", p.Pool.Name, err)
		}
	}
	for _, l := range f.lost {
		if err := s.rescue(ctx, l); err != nil {
			all = append(all, fmt.Errorf("Instance %q in project %q cannot be taken in: %w", l.Instance, l.Project, err))
		}
	}
	return errors.Join(all...)
}

// ofPool is what is said of a pool, and what its instances remember of it.
func ofPool(f *search, p api.StoragePoolsPost) api.StoragePoolsPost {
	for _, l := range f.lost {
		was := l.config.Pool
		if l.Pool != p.Name || was == nil || was.Name != p.Name || was.Driver != p.Driver {
			continue
		}
		c := maps.Clone(was.Config)
		if c == nil {
			c = map[string]string{}
		}
		maps.Copy(c, p.Config)
		p.Config = c
		if p.Description == "" {
			p.Description = was.Description
		}
		return p
	}
	return p
}

// rescue takes one instance in.
func (s *Service) rescue(ctx context.Context, l *lost) error {
	c := l.config.Container
	i := &Instance{Project: l.Project, Name: l.Instance, Location: s.Here.Location(), Architecture: c.Architecture, Ephemeral: c.Ephemeral,
		Created: c.CreatedAt.UTC(), Description: c.Description}
	unlock, err := s.lock(i.Ref(), "recovery")
	if err != nil {
		return err
	}
	defer unlock()
	if i.Profiles, err = s.Profiles.LoadMany(ctx, i.Project, c.Profiles); err != nil {
		return err
	}
	admin := auth.Caller{Admin: true}
	noted, err := s.noted(admin, c.Config)
	if err != nil {
		return err
	}
	// A container that goes on running has lost nothing but its record.
	p, err := s.Engine.Find(ctx, s.id(i), s.runDir(i))
	running := err == nil
	if running {
		_ = p.Close()
		for k, v := range c.Config {
			if strings.HasPrefix(k, volatilePrefix) && checkVolatile(k) == nil {
				noted[k] = v
			}
		}
	}
	i.Config, i.Devices = written(c.Config, noted), devicesOf(c.Devices)
	if err := setPool(i, l.Pool, c.ExpandedDevices); err != nil {
		return err
	}
	if err := s.checkEffective(ctx, i); err != nil {
		return err
	}
	snaps, err := s.lostSnapshots(i, l)
	if err != nil {
		return err
	}
	if _, err := s.ownMarks(ctx, i, false); err != nil {
		return err
	}
	if !running {
		disk := i.Config[volDiskMap]
		if err := s.firstMap(i); err != nil {
			return err
		}
		i.Config[volDiskMap] = disk
	}
	var u undo.Stack
	u.OnError = func(err error) { log.From(ctx).Warn("Could not take back a recovery", "instance", i.Name, "err", err) }
	defer u.Run()
	var there []Brought
	for _, sn := range snaps {
		there = append(there, Brought{Name: sn.Name, Taken: sn.Created})
	}
	err = s.Storage.Adopt(ctx, l.Volume, there, func(ctx context.Context, tx *db.Tx) error {
		if err := insert(ctx, tx, s.Here.ID(), i); err != nil {
			return err
		}
		return insertSnapshots(ctx, tx, i, snaps...)
	})
	if err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := s.cleanup()
		defer cancel()
		s.forget(i.ID)
		err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, stmtDelete, i.ID)
			return err
		})
		return errors.Join(err, s.Storage.Disown(ctx, l.Volume))
	})
	if err := s.newFolders(i, &u); err != nil {
		return err
	}
	if running {
		s.adopt(ctx, i)
	} else if err := s.joinAll(ctx, i, &u); err != nil {
		return err
	}
	u.Commit()
	if err := s.adoptBackups(ctx, i, len(snaps) > 0); err != nil {
		log.From(ctx).Warn("Could not take in the backups of an instance", "instance", i.Name, "err", err)
	}
	s.tellCreated(i, l.Volume, nil)
	return nil
}

// adoptBackups records the backups that lie in the folder of an instance which was lost.
// When they expire is not known any more.
func (s *Service) adoptBackups(ctx context.Context, i *Instance, hasSnapshots bool) error {
	dir := s.backupDir(i.Project, i.Name)
	es, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var found []*Backup
	for _, e := range es {
		if !e.Type().IsRegular() || checkBackupName(e.Name()) != nil {
			continue
		}
		b, err := lostBackup(ctx, filepath.Join(dir, e.Name()), hasSnapshots)
		if err != nil {
			log.From(ctx).Warn("A file among the backups of an instance is none", "instance", i.Name, "file", e.Name(), "err", err)
			continue
		}
		found = append(found, b)
	}
	return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		for _, b := range found {
			if err := insertBackup(ctx, tx, i, b); err != nil {
				return err
			}
		}
		return nil
	})
}

// lostBackup is what the file of a backup tells of it.
func lostBackup(ctx context.Context, path string, hasSnapshots bool) (*Backup, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	x, err := backup.ReadIndex(ctx, f)
	if err != nil {
		return nil, err
	}
	return &Backup{Name: filepath.Base(path), Created: fi.ModTime().UTC(), InstanceOnly: hasSnapshots && len(x.Snapshots) == 0, Optimized: x.Optimized}, nil
}

// lostSnapshots are the snapshots that are on disk, oldest first. One that was taken just
// before all was lost may not be in the file of its instance; it is like the instance
// then. The file in the snapshot itself may have come with somebody's backup.
func (s *Service) lostSnapshots(i *Instance, l *lost) ([]*Snapshot, error) {
	var out []*Snapshot
	for _, name := range slices.Sorted(maps.Keys(l.Snapshots)) {
		if err := checkSnapshotName(name); err != nil {
			return nil, err
		}
		a := l.config.Find(name)
		if a == nil {
			was := l.config.Container
			a = &api.InstanceSnapshot{Name: name, Config: was.Config, Devices: was.Devices, ExpandedDevices: was.ExpandedDevices, CreatedAt: time.Now()}
		}
		sn, err := s.fromAPI(auth.Caller{Admin: true}, i, l.config, a, l.Pool)
		if err != nil {
			return nil, fmt.Errorf("snapshot %q: %w", name, err)
		}
		out = append(out, sn)
	}
	slices.SortStableFunc(out, func(a, b *Snapshot) int { return a.Created.Compare(b.Created) })
	return out, nil
}
