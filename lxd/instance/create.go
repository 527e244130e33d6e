package instance

import (
	"context"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"sett/lxd/auth"
	"sett/lxd/db"
	"sett/lxd/event"
	"sett/lxd/instance/template"
	"sett/lxd/op"
	"sett/lxd/profile"
	"sett/lxd/project"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// Plan is a request for an instance that has been found to be right; what is left
// is to carry it out.
type Plan struct {
	Instance *Instance
	image    *Image
	from     *origin   // of a copy
	refresh  *Instance // that is brought up to date, in place of making one
	first    bool      // a refresh of what is not there yet
	size     int64
	volume   Volume
	unlock   func()
	count    func(n int64) // is told of bytes that are copied; nil: nobody
}

// PlanCreate checks a request and reserves the name. Every error that the request
// itself can cause comes from here, before anything has been made. Whoever gets a
// plan must Create it, or Drop it.
func (s *Service) PlanCreate(ctx context.Context, as auth.Caller, projectName string, req api.InstancesPost) (*Plan, error) {
	if err := refuseUnbuilt(req); err != nil {
		return nil, err
	}
	i := &Instance{Project: projectName, Name: req.Name, Location: s.Here.Location(), Architecture: req.Architecture, Ephemeral: req.Ephemeral,
		Created: time.Now().UTC(), Description: req.Description, Config: map[string]string{}, Devices: map[string]map[string]string{}}
	maps.Copy(i.Config, req.Config)
	for n, d := range req.Devices {
		i.Devices[n] = maps.Clone(d)
	}
	if req.InstanceType != "" {
		limits, err := sizeLimits(req.InstanceType)
		if err != nil {
			return nil, err
		}
		for k, v := range limits {
			if i.Config[k] == "" {
				i.Config[k] = v
			}
		}
	}
	for k := range i.Config {
		if strings.HasPrefix(k, "volatile.sett_") {
			return nil, errs.Invalid("Configuration key %q is the daemon's own", k)
		}
		if err := checkVolatile(k); err != nil {
			return nil, err
		}
	}
	if i.Name != "" {
		if err := CheckName(i.Name); err != nil {
			return nil, err
		}
	}
	p := &Plan{Instance: i}
	names := req.Profiles
	if req.Source.Type == "image" {
		img, err := s.Images.Resolve(ctx, projectName, req.Source)
		if err != nil {
			return nil, err
		}
		if img.Type != "" && img.Type != "container" {
			return nil, errs.NotImplemented("Image %q is for a virtual machine; virtual machines are not implemented", img.Fingerprint)
		}
		p.image = &img
		if names == nil {
			names = img.Profiles
		}
		for k, v := range img.Properties {
			if _, ok := i.Config["image."+k]; !ok {
				i.Config["image."+k] = v
			}
		}
		i.Config[volBaseImage] = img.Fingerprint
		if i.Architecture == "" {
			i.Architecture = img.Architecture
		}
	}
	known := project.Spec{Config: map[string]string{volBaseImage: i.Config[volBaseImage]}}
	if req.Source.Type == "copy" {
		var err error
		if p.from, err = s.origin(ctx, as, projectName, req.Source); err != nil {
			return nil, err
		}
		if req.Source.Refresh {
			if target, err := s.planRefresh(ctx, p); err != nil || target != nil {
				return p, err
			}
			p.first = true
		}
		known = p.from.known(projectName)
		p.from.inherit(i)
		if names == nil {
			names = p.from.profiles()
		}
	}
	if names == nil {
		names = []string{profile.Default}
	}
	if i.Architecture == "" {
		i.Architecture = s.Architecture
	}
	if err := s.checkArchitecture(i.Architecture); err != nil {
		return nil, err
	}
	ps, err := s.Profiles.LoadMany(ctx, projectName, names)
	if err != nil {
		return nil, err
	}
	if err := checkTwice(ps); err != nil {
		return nil, err
	}
	i.Profiles = ps
	if err := s.judge(ctx, as, known, i); err != nil {
		return nil, err
	}
	var root map[string]string
	if p.volume, root, err = volume(i); err != nil {
		return nil, err
	}
	if p.size, err = rootSize(root); err != nil {
		return nil, err
	}
	return p, s.reserve(ctx, p)
}

// refuseUnbuilt names what this build lacks.
func refuseUnbuilt(req api.InstancesPost) error {
	switch {
	case req.Type == api.InstanceTypeVM:
		return errs.NotImplemented("Virtual machines are not implemented")
	case req.Type != api.InstanceTypeAny && req.Type != api.InstanceTypeContainer:
		return errs.Invalid("Invalid instance type %q", req.Type)
	case req.Stateful || req.Restore != "":
		return errs.NotImplemented("Restoring state is not implemented")
	}
	switch t := req.Source.Type; t {
	case "image", "none", "copy":
		return nil
	case "migration":
		return errs.NotImplemented("Creating an instance from source type %q is not implemented", t)
	case "":
		return errs.Invalid("The source of the instance has no type; use image, copy or none")
	default:
		return errs.Invalid("Unknown source type %q", t)
	}
}

// reserve finds a name where none was asked for and locks it.
func (s *Service) reserve(ctx context.Context, p *Plan) error {
	i := p.Instance
	generated := i.Name == ""
	for try := 0; ; try++ {
		if generated {
			i.Name = petName()
			if try > 20 { // the words are used up
				i.Name += "-" + strings.ToLower(uuid.NewString()[:6])
			}
		}
		unlock, err := s.lock(i.Ref(), "create")
		if err != nil && !generated {
			return err
		}
		if err != nil {
			continue
		}
		var w db.Where
		rows, err := db.SelectWhere[nameRow](ctx, s.DB, stmtNames, w.Eq("projects.name", i.Project).Eq("i.name", i.Name), "")
		if err == nil && len(rows) == 0 {
			p.unlock = unlock
			p.volume.Instance = i.Name
			return nil
		}
		unlock()
		if err != nil {
			return err
		}
		if !generated {
			return errs.Conflict("Instance %q already exists", i.Name)
		}
	}
}

// Drop gives up a plan.
func (p *Plan) Drop() { p.unlock() }

// Create carries out a plan. A daemon that dies on the way finds the pending row
// when it starts again, and takes everything back.
func (s *Service) Create(ctx context.Context, p *Plan, by *event.Requestor) error {
	defer p.unlock()
	if p.refresh != nil {
		return s.refreshed(ctx, p, by)
	}
	i := p.Instance
	s.Locks.Retitle(op.Doing(ctx, "create"), i.Ref())
	i.Config[volUUID] = uuid.NewString()
	i.Config[volApply] = template.Create
	i.Config[volPending] = pendingCreate
	if err := s.firstMap(i); err != nil {
		return err
	}
	if p.from != nil {
		unlock, err := s.hold(ctx, p.from)
		if err != nil {
			return err
		}
		defer unlock()
		i.Config[volApply] = template.Copy
		i.Config[volDiskMap] = p.from.diskMap()
	}
	if p.from == nil || i.Config[volInstanceID] == "" { // a client that moves may keep it
		i.Config[volInstanceID] = uuid.NewString()
	}

	var u undo.Stack
	u.OnError = func(err error) { log.From(ctx).Warn("Could not take back a create", "instance", i.Name, "err", err) }
	defer u.Run()

	if err := s.insertNew(ctx, i, p.from, &u); err != nil {
		return err
	}
	op.Step(ctx, "join the networks")
	// Before the volume, which costs most: a taken address is found out at once.
	if err := s.joinAll(ctx, i, &u); err != nil {
		return err
	}
	op.Step(ctx, "make the root volume in pool %s", p.volume.Pool)
	// Nothing is written to the database behind the copy: the first flush of its log
	// would wait until the whole copy is on disk. The volume's name, which it gets
	// last, tells that the instance is whole; the mark goes with the next change.
	if err := s.makeVolume(ctx, p); err != nil {
		return err
	}
	s.undoVolume(p.volume, &u)
	if err := s.newFolders(i, &u); err != nil {
		return err
	}
	u.Commit()
	if p.first {
		s.liveOf(i.ID).pair(p.from)
	}
	s.tellCreated(i, p.volume, by)
	return nil
}

// insertNew writes the row of a new instance, which may be the copy of another.
func (s *Service) insertNew(ctx context.Context, i *Instance, from *origin, u *undo.Stack) error {
	err := s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
		if err := insert(ctx, tx, s.Here.ID(), i); err != nil || from == nil {
			return err
		}
		return copySnapshots(ctx, tx, i, from.instance, namesOf(from.snaps))
	})
	if err != nil {
		return err
	}
	u.Push(func() error {
		ctx, cancel := s.cleanup()
		defer cancel()
		s.forget(i.ID)
		return s.DB.Update(ctx, func(ctx context.Context, tx *db.Tx) error {
			_, err := db.Exec(ctx, tx, stmtDelete, i.ID)
			return err
		})
	})
	return nil
}

// newFolders makes the folders of a new instance besides its volume.
func (s *Service) newFolders(i *Instance, u *undo.Stack) error {
	for _, d := range []string{s.LogDir(i.Project, i.Name), s.devicesDir(i)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
		u.Push(func() error { return os.RemoveAll(d) })
	}
	return nil
}

func (s *Service) tellCreated(i *Instance, v Volume, by *event.Requestor) {
	more := map[string]any{"storage-pool": v.Pool, "type": "container"}
	if s.Here.Clustered() {
		more["location"] = s.Here.Name()
	}
	s.tell("instance-created", i, by, more)
}

// makeVolume makes the volume of a plan, with its content.
func (s *Service) makeVolume(ctx context.Context, p *Plan) error {
	switch {
	case p.from != nil:
		src, _, err := volume(p.from.instance)
		if err != nil {
			return err
		}
		return s.Storage.Copy(ctx, p.volume, src, s.copyOf(p.from, p.from.snaps, p.size, p.count))
	case p.image != nil:
		if err := s.Images.Used(ctx, p.Instance.Project, p.image.Fingerprint); err != nil {
			log.From(ctx).Warn("Could not note the use of an image", "image", p.image.Fingerprint, "err", err)
		}
		return s.Storage.CreateFromImage(ctx, p.volume, p.image.Fingerprint, p.size)
	}
	return s.Storage.CreateEmpty(ctx, p.volume, p.size)
}

// firstMap notes the id map with which the instance will start for the first time.
func (s *Service) firstMap(i *Instance) error {
	i.Config[volMapBase] = "0"
	i.Config[volDiskMap] = "[]" // images hold the guest's own ids
	if Privileged.Get(i.ExpandedConfig()) {
		i.Config[volMapNext] = "[]"
		i.expandedConfig = nil
		return nil
	}
	m, err := s.IDs.Map()
	if err != nil {
		return err
	}
	i.Config[volMapNext] = m.String()
	i.expandedConfig = nil
	return nil
}

func (s *Service) checkArchitecture(a string) error {
	if a == s.Architecture || s.Architecture == "x86_64" && a == "i686" || s.Architecture == "aarch64" && a == "armv7l" {
		return nil
	}
	return errs.Invalid("Architecture %q cannot run here: this server is %s", a, s.Architecture)
}

// rootSize reads the limit of a root disk, 0 for none.
func rootSize(root map[string]string) (int64, error) {
	v := root["size"]
	if v == "" {
		return 0, nil
	}
	n, err := parseMemory(v, 0)
	if err != nil || strings.HasSuffix(v, "%") {
		return 0, errs.Invalid("Invalid size %s of the root disk", strconv.Quote(v))
	}
	return n, nil
}
