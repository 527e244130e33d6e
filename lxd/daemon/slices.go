package daemon

import (
	"context"
	"path/filepath"
	"time"

	"sett/lxd/certificate"
	"sett/lxd/cluster"
	"sett/lxd/cluster/relay"
	"sett/lxd/container"
	"sett/lxd/device"
	devices "sett/lxd/device/all"
	"sett/lxd/devlxd"
	"sett/lxd/host/lxcfs"
	"sett/lxd/host/netlink"
	"sett/lxd/host/unpack"
	"sett/lxd/image"
	"sett/lxd/instance"
	"sett/lxd/instance/console"
	"sett/lxd/instance/exec"
	"sett/lxd/instance/file"
	"sett/lxd/instance/metadata"
	"sett/lxd/lock"
	"sett/lxd/member"
	"sett/lxd/network"
	netdriver "sett/lxd/network/driver"
	"sett/lxd/profile"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/lxd/server"
	"sett/lxd/storage"
	"sett/lxd/task"
	"sett/lxd/ui"
	"sett/shared/log"
)

// parts are the resources of a daemon, in the order in which one may use another.
type parts struct {
	cluster      *cluster.Cluster
	members      *member.Service
	relay        *relay.Relay
	forward      *forwarder
	engine       container.Engine
	projects     *project.Service
	identity     *certificate.Identity
	certificates *certificate.Service
	profiles     *profile.Service
	storage      *storage.Service
	images       *image.Service
	networks     *network.Service
	instances    *instance.Service
	exec         *exec.Handler
	metadata     *metadata.Handler
	console      *console.Handler
	files        *file.Handler
	guests       *devlxd.Service
	server       *server.Service
	ui           *ui.Service
}

// build makes the slices and says who uses whom.
func (d *Daemon) build(context.Context) error {
	s := d.own
	var err error
	if s.engine, err = d.o.Engine(); err != nil {
		return err
	}
	global := d.st.Global
	s.cluster.Attach(global)
	if s.relay == nil { // a test may have brought one
		s.relay = relay.New(s.cluster)
	}
	s.forward = &forwarder{db: global, relay: s.relay, ops: d.ops, leader: d.leader,
		heard: func(ctx context.Context, m cluster.Member) { s.server.Heard(ctx, m) }}
	s.projects = project.New(global)
	s.certificates = certificate.New(certificate.Deps{DB: global, Bus: d.bus, Ops: d.ops, Identity: s.identity, Addresses: d.everywhere,
		Config:    func(ctx context.Context) (map[string]string, error) { return s.server.Config(ctx) },
		Elsewhere: d.tokenElsewhere, Changed: d.tell})
	s.profiles = profile.New(global, d.bus)
	locks := lock.New()
	s.storage = storage.New(storage.Deps{DB: global, Bus: d.bus, Ops: d.ops, Locks: locks, Drivers: d.o.StorageDrivers, Log: d.log,
		Dir: d.o.Dir, Here: d.here, Relay: s.relay})
	unpacker := d.o.Unpacker
	if unpacker == nil {
		unpacker = unpack.Jail{}
	}
	s.images = image.New(image.Deps{DB: global, Bus: d.bus, Ops: d.ops, Locks: locks, Pools: s.storage, Unpacker: unpacker,
		Dir: d.o.Dir, Here: d.here, Relay: s.relay,
		Config: func(ctx context.Context) (map[string]string, error) { return s.server.Config(ctx) }})
	vols := volumes{s.storage, s.images}
	var nets []netdriver.Driver
	if d.o.NetworkDrivers != nil {
		nets = d.o.NetworkDrivers(d.log)
	}
	s.networks = network.New(network.Deps{DB: global, Bus: d.bus, Ops: d.ops, Locks: locks, Drivers: nets, Host: netlink.Host{}, Log: d.log,
		Dir: filepath.Join(d.o.Dir, "networks"), Seed: networkSeed(d.o.Dir), Here: d.here, Relay: s.relay})
	s.instances = instance.New(d.ctx, instance.Deps{
		DB: global, Bus: d.bus, Ops: d.ops, Locks: locks, Log: d.log, Profiles: s.profiles, Engine: s.engine,
		Devices: devices.Registry(), Services: device.Services{Networks: s.networks.Devices()}, Storage: vols, Images: vols, IDs: d.o.IDs, Unpacker: unpacker, Templates: d.o.Templates, LXCFS: lxcfs.Find,
		Dir: d.o.Dir, Daemon: Name(d.o.Dir), Here: d.here, Relay: s.relay, Architecture: readHost().machine,
	})
	s.profiles.Attach(s.instances)
	s.images.Attach(s.instances)
	s.exec = exec.New(s.instances, d.ops, d.bus)
	s.metadata = metadata.New(s.instances, d.bus)
	s.console = console.New(s.instances, d.ops, d.bus)
	s.server = server.New(server.Deps{DB: global, Local: d.st.Local.DB, Ops: d.ops, Bus: d.bus, Daemon: d, Relay: s.relay, History: d.past})
	s.files = file.New(s.instances, d.bus)
	s.members, err = member.New(member.Deps{DB: global, Store: d.st, Cluster: s.cluster, Bus: d.bus, Ops: d.ops, Identity: s.identity, Log: d.log,
		Resources: d.resources(), Config: s.server.Config, Listen: d.listenMembers, Changed: d.forget,
		Architecture: readHost().machine, Extensions: len(server.Extensions())})
	if err != nil {
		return err
	}
	s.ui = d.newUI(global)
	d.jobs.Add(task.Job{Name: "web sessions", Every: ui.CheckEvery, Run: s.ui.Check})
	// Guests that run may be waiting for it already.
	if s.guests, err = devlxd.New(devlxd.Deps{Instances: s.instances, Images: s.images, Log: d.log, Dir: d.o.Dir,
		Location: d.here.Location, Who: d.o.Guests}); err != nil {
		return err
	}
	d.jobs.Add(task.Job{Name: "refresh trust", Every: refreshTrust, Jitter: refreshTrust / 4, Run: d.refreshTrust})
	for _, j := range append(s.exec.Jobs(), s.instances.Jobs()...) {
		d.jobs.Add(j)
	}
	return nil
}

// routes is the whole API.
func (s *parts) routes() []rest.Route {
	var all []rest.Route
	for _, rs := range [][]rest.Route{
		s.server.Routes(),
		s.certificates.Routes(),
		s.members.Routes(),
		s.projects.Routes(),
		s.profiles.Routes(),
		s.storage.Routes(),
		s.networks.Routes(),
		s.images.Routes(),
		s.instances.Routes(),
		s.exec.Routes(),
		s.console.Routes(),
		s.files.Routes(),
		s.metadata.Routes(),
		s.ui.Routes(),
	} {
		all = append(all, rs...)
	}
	return all
}

// keepFiles writes the files by which instances are recovered. The next start looks at
// them too, so that a database that does not answer holds nobody up.
func (s *parts) keepFiles(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := s.instances.KeepFiles(ctx); err != nil {
		log.From(ctx).Warn("Could not write backup.yaml of all instances; it is done at the next start", "err", err)
	}
}

// close ends the slices in reverse. The context bounds it.
func (s *parts) close(ctx context.Context) {
	s.guests.Close()
	s.instances.Close()
	if err := s.networks.Close(); err != nil {
		log.From(ctx).Warn("Could not let go of the networks", "err", err)
	}
	if err := s.storage.Close(ctx); err != nil {
		log.From(ctx).Warn("Storage was still at work when the daemon ended", "err", err)
	}
}

func (d *Daemon) storageInUse(ctx context.Context) (names, versions string) {
	names, versions, err := d.own.storage.InUse(ctx)
	if err != nil {
		d.log.Warn("Could not list the storage drivers in use", "err", err)
	}
	return names, versions
}
