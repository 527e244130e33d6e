package instance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/host/idmap"
	"sett/lxd/instance/backup"
	"sett/lxd/profile"
	"sett/lxd/project"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// ImportOptions is what the request says beside the archive.
type ImportOptions struct {
	Name string // empty: as in the archive
	Pool string // empty: as in the archive, or the one of the default profile
}

// ImportPlan is a backup that has been found to be right; what is left is to unpack it.
type ImportPlan struct {
	Plan
	file      *os.File
	index     *backup.Index
	snapshots []*Snapshot
	brought   []Brought // the same, as the pool sees them
	taken     []string  // marks that others have
}

// stmtMarks are the MAC addresses and ids that instances of the server have.
const stmtMarks db.Stmt = `SELECT value FROM instances_config WHERE key = 'volatile.uuid' OR key GLOB 'volatile.*.hwaddr'`

// PlanImport checks a backup of an instance and reserves its name. It reads the index
// only. What is written in there counts as said by the caller: it must not give him more
// than he may have.
func (s *Service) PlanImport(ctx context.Context, as auth.Caller, projectName string, f *os.File, o ImportOptions) (*ImportPlan, error) {
	x, err := backup.ReadIndex(ctx, f)
	if err != nil {
		return nil, err
	}
	c := x.Config
	i := &Instance{Project: projectName, Name: o.Name, Location: s.Here.Location(), Architecture: c.Container.Architecture,
		Ephemeral: c.Container.Ephemeral, Created: c.Container.CreatedAt.UTC(), Description: c.Container.Description}
	if i.Name == "" {
		i.Name = x.Name
	}
	if err := CheckName(i.Name); err != nil {
		return nil, err
	}
	if i.Created.Unix() <= 0 {
		i.Created = time.Now().UTC()
	}
	if i.Architecture == "" {
		i.Architecture = s.Architecture
	}
	if err := s.checkArchitecture(i.Architecture); err != nil {
		return nil, err
	}
	if i.Profiles, err = s.Profiles.LoadMany(ctx, projectName, c.Container.Profiles); err != nil {
		return nil, fmt.Errorf("The backup cannot be imported: %w", err)
	}
	if err := checkTwice(i.Profiles); err != nil {
		return nil, err
	}
	noted, err := s.noted(as, c.Container.Config)
	if err != nil {
		return nil, err
	}
	i.Config, i.Devices = written(c.Container.Config, noted), devicesOf(c.Container.Devices)
	pool, err := s.importPool(ctx, i, x, o)
	if err != nil {
		return nil, err
	}
	if err := setPool(i, pool, c.Container.ExpandedDevices); err != nil {
		return nil, err
	}
	if err := s.judge(ctx, as, project.Spec{Config: noted}, i); err != nil {
		return nil, fmt.Errorf("The backup cannot be imported: %w", err)
	}
	p := &ImportPlan{Plan: Plan{Instance: i}, file: f, index: x}
	if p.snapshots, err = s.importSnapshots(as, i, x, pool); err != nil {
		return nil, err
	}
	var root map[string]string
	if p.volume, root, err = volume(i); err != nil {
		return nil, err
	}
	if p.size, err = rootSize(root); err != nil {
		return nil, err
	}
	for _, sn := range p.snapshots {
		size, err := sn.room(i, p.size)
		if err != nil {
			return nil, err
		}
		p.brought = append(p.brought, Brought{Name: sn.Name, Taken: sn.Created, Size: size})
	}
	if x.Optimized {
		if err := s.Storage.CanReceive(ctx, p.volume, x.Backend); err != nil {
			return nil, err
		}
	}
	if p.taken, err = s.ownMarks(ctx, i, i.Name != x.Name); err != nil {
		return nil, err
	}
	return p, s.reserve(ctx, &p.Plan)
}

// written is what an archive says of the configuration: what its users wrote, and what
// of the daemon's notes goes with the content.
func written(config, noted map[string]string) map[string]string {
	out := maps.Clone(noted)
	for k, v := range config {
		if !strings.HasPrefix(k, volatilePrefix) {
			out[k] = v
		}
	}
	return out
}

// noted are the daemon's notes in a configuration that are true of the content wherever
// it is: where it came from, what its interfaces are called, which ids its files have. The
// rest was true on another server, or at another time.
func (s *Service) noted(as auth.Caller, config map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for k, v := range config {
		rest, ok := strings.CutPrefix(k, volatilePrefix)
		switch {
		case !ok:
		case k == volBaseImage, k == volApply, k == volUUID, k == volInstanceID:
			out[k] = v
		case k == volDiskMap:
			if err := s.checkDiskMap(as, v); err != nil {
				return nil, err
			}
			out[k] = v
		case strings.HasSuffix(rest, ".hwaddr"), strings.HasSuffix(rest, ".name"):
			out[k] = v
		}
	}
	if out[volDiskMap] == "" {
		out[volDiskMap] = "[]"
	}
	return out, nil
}

// checkDiskMap refuses notes on the ids of files by which somebody would come to own
// what belongs to the host: who is no administrator has files of the server's own range.
func (s *Service) checkDiskMap(as auth.Caller, text string) error {
	m, err := idmap.Parse(text)
	if err != nil || len(m) == 0 || as.Admin {
		return err
	}
	own, err := s.IDs.Map()
	if err != nil {
		return err
	}
	for _, e := range m {
		in := slices.ContainsFunc(own, func(o idmap.Entry) bool {
			return (o.UID && e.UID || o.GID && e.GID) && e.HostID >= o.HostID && e.Range > 0 && e.HostID+e.Range <= o.HostID+o.Range
		})
		if !in {
			return errs.Forbidden("The files in the backup have ids that are not of this server's range; only administrators of the server may import it")
		}
	}
	return nil
}

func devicesOf(devs map[string]map[string]string) map[string]map[string]string {
	out := map[string]map[string]string{}
	for n, d := range devs {
		out[n] = maps.Clone(d)
	}
	return out
}

// importPool finds the pool for an instance: the one that was asked for, else the one
// that it was in, else the one that its root disk or the default profile says.
func (s *Service) importPool(ctx context.Context, i *Instance, x *backup.Index, o ImportOptions) (string, error) {
	if o.Pool != "" {
		return o.Pool, s.Storage.CheckPool(ctx, o.Pool)
	}
	err := s.Storage.CheckPool(ctx, x.Pool)
	if x.Pool != "" && (err == nil || !errs.Is(err, errs.KindNotFound)) {
		return x.Pool, err
	}
	pools := []string{}
	if _, root, err := rootDevice(i.ExpandedDevices()); err == nil {
		pools = append(pools, root["pool"])
	}
	if ps, err := s.Profiles.LoadMany(ctx, i.Project, []string{profile.Default}); err == nil {
		if _, root, err := rootDevice(ps[0].Devices); err == nil {
			pools = append(pools, root["pool"])
		}
	}
	for _, p := range pools {
		if s.Storage.CheckPool(ctx, p) == nil {
			return p, nil
		}
	}
	return "", errs.NotFound("Storage pool %q of the backup not found; say which one to use with --storage", x.Pool)
}

// setPool has the root disk of an instance in a pool, by a device of its own if need be.
// Where it has none any more, it is as it was among the devices of then.
func setPool(i *Instance, pool string, then map[string]map[string]string) error {
	i.expandedDevices = nil
	devs := i.ExpandedDevices()
	name, root, err := rootDevice(devs)
	if err == nil && root["pool"] == pool {
		return nil
	}
	if err != nil {
		if name, root, err = rootDevice(then); err != nil {
			name, root = "root", map[string]string{"type": "disk", "path": "/"}
		}
		for n := 0; devs[name] != nil; n++ {
			name = fmt.Sprintf("root%d", n)
		}
	}
	root = maps.Clone(root)
	root["pool"] = pool
	i.Devices[name] = root
	i.expandedDevices = nil
	_, _, err = rootDevice(i.ExpandedDevices())
	return err
}

// importSnapshots are the snapshots of an archive, in its order.
func (s *Service) importSnapshots(as auth.Caller, i *Instance, x *backup.Index, pool string) ([]*Snapshot, error) {
	var out []*Snapshot
	seen := map[string]bool{}
	for _, name := range x.Snapshots {
		if err := checkSnapshotName(name); err != nil {
			return nil, err
		}
		a := x.Config.Find(name)
		switch {
		case seen[name]:
			return nil, errs.Invalid("The backup has snapshot %q twice", name)
		case a == nil:
			return nil, errs.Invalid("The backup has no configuration of snapshot %q", name)
		case a.Stateful:
			return nil, errs.NotImplemented("Snapshot %q holds the state of a running instance; stateful snapshots are not implemented", name)
		}
		seen[name] = true
		sn, err := s.fromAPI(as, i, x.Config, a, pool)
		if err != nil {
			return nil, fmt.Errorf("Snapshot %q of the backup cannot be imported: %w", name, err)
		}
		out = append(out, sn)
	}
	return out, nil
}

// fromAPI makes a snapshot of what an archive says of it.
func (s *Service) fromAPI(as auth.Caller, i *Instance, c *backup.Config, a *api.InstanceSnapshot, pool string) (*Snapshot, error) {
	noted, err := s.noted(as, a.Config)
	if err != nil {
		return nil, err
	}
	sn := &Snapshot{Name: a.Name, Created: a.CreatedAt.UTC(), Expires: a.ExpiresAt, Description: i.Description,
		Config: written(a.Config, noted), Devices: devicesOf(a.Devices)}
	if sn.Expires.Unix() <= 0 {
		sn.Expires = time.Time{}
	}
	was := sn.of(i)
	was.expandedDevices = nil
	if err := setPool(was, pool, a.ExpandedDevices); err != nil {
		return nil, err
	}
	sn.Devices = was.Devices
	// Keys that are not known or not built have no place in the database; whether the
	// rest goes together is asked when it is restored.
	if err := s.CheckConfig(sn.Config); err != nil {
		return nil, err
	}
	if err := project.CheckHost(as, project.Spec{Config: noted}, project.Spec{Config: sn.Config, Devices: sn.Devices}); err != nil {
		return nil, err
	}
	if slices.Contains(c.Scheduled, a.Name) {
		sn.Config[volScheduled] = "true"
	}
	return sn, nil
}

// room is the limit of a snapshot that is imported with an instance whose limit is size. It
// may have been taken when that was more.
func (sn *Snapshot) room(i *Instance, size int64) (int64, error) {
	if size == 0 {
		return 0, nil
	}
	_, root, err := rootDevice(sn.of(i).ExpandedDevices())
	if err != nil {
		return 0, err
	}
	own, err := rootSize(root)
	return max(own, size), err
}

// ownMarks gives an instance marks of its own where another one has those that it
// brings: its id, and the addresses of its interfaces. It returns those that are taken.
func (s *Service) ownMarks(ctx context.Context, i *Instance, renamed bool) ([]string, error) {
	taken, err := db.Select[string](ctx, s.DB, stmtMarks)
	if err != nil {
		return nil, err
	}
	if i.Config[volUUID] == "" || slices.Contains(taken, i.Config[volUUID]) {
		i.Config[volUUID] = uuid.NewString()
		i.Config[volInstanceID] = ""
	}
	if i.Config[volInstanceID] == "" || renamed { // the guest is a new one to cloud-init
		i.Config[volInstanceID] = uuid.NewString()
	}
	for k, v := range i.Config {
		if isAddress(k) && slices.Contains(taken, v) {
			delete(i.Config, k)
		}
	}
	return taken, nil
}

func isAddress(key string) bool {
	return strings.HasPrefix(key, volatilePrefix) && strings.HasSuffix(key, ".hwaddr")
}

// follow has a snapshot keep to the marks that its instance has got in place of others.
func (sn *Snapshot) follow(i *Instance, taken []string) {
	for k, v := range sn.Config {
		if !isAddress(k) && k != volUUID && k != volInstanceID || !slices.Contains(taken, v) && isAddress(k) {
			continue
		}
		if now := i.Config[k]; now != "" {
			sn.Config[k] = now
		} else {
			delete(sn.Config, k)
		}
	}
}

// Import carries out a plan. A daemon that dies on the way finds the mark of the
// instance when it starts again, and takes everything back.
func (s *Service) Import(ctx context.Context, p *ImportPlan, by *event.Requestor) error {
	defer p.unlock()
	i := p.Instance
	i.Config[volPending] = pendingImport
	disk := i.Config[volDiskMap]
	if err := s.firstMap(i); err != nil {
		return err
	}
	i.Config[volDiskMap] = disk

	var u undo.Stack
	u.OnError = func(err error) { log.From(ctx).Warn("Could not take back an import", "instance", i.Name, "err", err) }
	defer u.Run()
	if err := s.insertNew(ctx, i, nil, &u); err != nil {
		return err
	}
	if err := s.joinAll(ctx, i, &u); err != nil {
		return err
	}
	if err := s.unpack(ctx, p, &u); err != nil {
		return err
	}
	if err := s.newFolders(i, &u); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, sn := range p.snapshots {
		sn.follow(i, p.taken)
	}
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insertSnapshots(ctx, tx, i, p.snapshots...); err != nil {
			return err
		}
		return patch(ctx, tx, i.ID, map[string]string{volPending: ""})
	})
	if err != nil {
		return err
	}
	u.Commit()
	merge(i, map[string]string{volPending: ""})
	if err := s.keepFile(ctx, i); err != nil {
		log.From(ctx).Warn("Could not write backup.yaml", "instance", i.Name, "err", err)
	}
	s.tellCreated(i, p.volume, by)
	return nil
}

// unpack makes the volume and its snapshots.
func (s *Service) unpack(ctx context.Context, p *ImportPlan, u *undo.Stack) error {
	if p.index.Optimized {
		return s.unpackStreams(ctx, p, u)
	}
	err := s.Storage.CreateFilled(ctx, p.volume, Bringing{Size: p.size, Snapshots: p.brought}, func(ctx context.Context, dirs []string) error {
		folders := []string{backup.Container}
		for _, sn := range p.snapshots {
			folders = append(folders, backup.Snapshot(sn.Name))
		}
		into := map[string]string{}
		for n, folder := range folders {
			into[folder] = dirs[n]
		}
		if err := s.Unpacker.Below(ctx, p.file.Name(), into); err != nil {
			return err
		}
		for n, folder := range folders {
			if err := checkPart(dirs[n], folder); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return tooLarge(err)
	}
	s.undoVolume(p.volume, u)
	return nil
}

// tooLarge explains a backup that does not fit into the limit of its root disk.
func tooLarge(err error) error {
	if !errors.Is(err, unix.EDQUOT) {
		return err
	}
	return errs.Invalid("The backup, or a snapshot in it, is larger than the size limit of its root disk; raise the limit where it comes from: " +
		"the profile, the pool (volume.size), or the instance before it is exported")
}

// undoVolume takes back the volume, with its snapshots.
func (s *Service) undoVolume(v Volume, u *undo.Stack) {
	u.Push(func() error {
		ctx, cancel := s.cleanup()
		defer cancel()
		return s.Storage.Delete(ctx, v)
	})
}

// checkPart refuses what is no root file system, and forgets what the archive says of
// the configuration: that is in the database now.
func checkPart(dir, folder string) error {
	if err := checkRoot(dir, folder); err != nil {
		return err
	}
	return backup.Forget(dir)
}

func checkRoot(dir, folder string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if fi, err := root.Lstat("rootfs"); err != nil || !fi.IsDir() {
		return errs.Invalid("The backup has no %s/rootfs", folder)
	}
	return nil
}
