package daemon

import (
	"context"

	"sett/lxd/container"
	"sett/lxd/device"
	"sett/lxd/device/disk"
	"sett/lxd/host/lxcfs"
	"sett/lxd/instance"
	"sett/lxd/instance/exec"
	"sett/lxd/lock"
	"sett/lxd/profile"
	"sett/lxd/project"
	"sett/lxd/rest"
	"sett/lxd/server"
)

// parts are the resources of a daemon, in the order in which one may use another.
type parts struct {
	engine    container.Engine
	projects  *project.Service
	profiles  *profile.Service
	storage   *pendingStorage
	networks  *pendingNetworks
	instances *instance.Service
	exec      *exec.Handler
	server    *server.Service
}

// build makes the slices and says who uses whom.
func (d *Daemon) build(context.Context) error {
	s := &parts{}
	d.own = s
	var err error
	if s.engine, err = d.o.Engine(); err != nil {
		return err
	}
	global := d.st.Global
	s.projects = project.New(global)
	s.profiles = profile.New(global, d.bus)
	s.storage = &pendingStorage{}
	s.networks = &pendingNetworks{}
	s.instances = instance.New(d.ctx, instance.Deps{
		DB: global, Bus: d.bus, Ops: d.ops, Locks: lock.New(), Log: d.log, Profiles: s.profiles, Engine: s.engine,
		Devices: device.NewRegistry(disk.Kind{}), Services: device.Services{}, Storage: s.storage, Images: s.storage, IDs: d.o.IDs, LXCFS: lxcfs.Find,
		Dir: d.o.Dir, Daemon: Name(d.o.Dir), Node: 1, Architecture: readHost().machine,
	})
	s.profiles.Attach(s.instances)
	s.exec = exec.New(s.instances, d.ops, d.bus)
	s.server = server.New(global, d.ops, d.bus, d)
	return nil
}

// routes is the whole API.
func (s *parts) routes() []rest.Route {
	var all []rest.Route
	for _, rs := range [][]rest.Route{s.server.Routes(), s.projects.Routes(), s.profiles.Routes(), s.instances.Routes(), s.exec.Routes()} {
		all = append(all, rs...)
	}
	return all
}

// close ends the slices in reverse. The context bounds it.
func (s *parts) close(context.Context) {
	s.instances.Close()
}

func (d *Daemon) storageInUse(context.Context) (names, versions string) { return "", "" }
