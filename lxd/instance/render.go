package instance

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"sett/lxd/container"
	"sett/lxd/db"
	"sett/shared/api"
	"sett/shared/log"
)

// architectures are LXD's numbers, which count in ETags.
var architectures = map[string]int{"i686": 1, "x86_64": 2, "armv7l": 3, "aarch64": 4, "ppc": 5, "ppc64": 6, "ppc64le": 7,
	"s390x": 8, "mips": 9, "mips64": 10, "riscv32": 11, "riscv64": 12}

// etag is what a change of an instance is told by; the description is not part of it.
func etag(i *Instance) any {
	return []any{architectures[i.Architecture], shown(i.Config), i.Devices, i.Ephemeral, i.Profiles}
}

// List returns the instances of a project, or of all projects.
func (s *Service) List(ctx context.Context, project string) ([]*Instance, error) {
	var w db.Where
	if project != "" {
		w.Eq("projects.name", project)
	}
	return s.load(ctx, s.DB, &w)
}

func (s *Service) names(ctx context.Context, project string) ([]nameRow, error) {
	var w db.Where
	if project != "" {
		w.Eq("projects.name", project)
	}
	return db.SelectWhere[nameRow](ctx, s.DB, stmtNames, &w, "ORDER BY projects.name, i.name")
}

// render shows an instance of this member.
func (s *Service) render(i *Instance) api.Instance { return s.renderAs(i, s.code(i)) }

func (s *Service) renderAs(i *Instance, st api.StatusCode) api.Instance {
	names := make([]string, len(i.Profiles))
	for n, p := range i.Profiles {
		names[n] = p.Name
	}
	loc := i.Location
	if !s.Here.Clustered() {
		loc = s.Here.Location()
	}
	return api.Instance{
		InstancePut: api.InstancePut{Architecture: i.Architecture, Config: shown(i.Config), Devices: i.Devices, Ephemeral: i.Ephemeral,
			Profiles: names, Description: i.Description},
		CreatedAt: i.Created, ExpandedConfig: shown(i.ExpandedConfig()), ExpandedDevices: i.ExpandedDevices(), Name: i.Name,
		Status: st.String(), StatusCode: st, LastUsedAt: orEpoch(i.LastUsed), Location: loc, Type: "container", Project: i.Project,
	}
}

// orEpoch is how LXD shows that something has not happened yet.
func orEpoch(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return t
}

// shown leaves out what is the daemon's own business.
func shown(c map[string]string) map[string]string {
	own := [...]string{volPending, volScheduled, volRootPool, volDone}
	if !slices.ContainsFunc(own[:], func(k string) bool { _, ok := c[k]; return ok }) {
		return c
	}
	c = maps.Clone(c)
	for _, k := range own {
		delete(c, k)
	}
	return c
}

// full adds the state of each instance, and what it has of snapshots and backups.
func (s *Service) full(ctx context.Context, is []*Instance) ([]api.InstanceFull, error) {
	here := make([]*Instance, 0, len(is))
	for _, i := range is {
		if s.local(i) {
			here = append(here, i)
		}
	}
	// The others are asked while this member reads its own from the kernel.
	asked := make(chan *seen, 1)
	go func() { asked <- s.look(ctx, is, true) }()
	states, err := s.states(ctx, here)
	there := <-asked
	if err != nil {
		return nil, err
	}
	snaps, err := s.loadSnapshots(ctx, s.DB, is...)
	if err != nil {
		return nil, err
	}
	backups, err := s.loadBackups(ctx, is...)
	if err != nil {
		return nil, err
	}
	out := make([]api.InstanceFull, len(is))
	for n, i := range is {
		var size map[string]int64
		if s.local(i) {
			out[n] = api.InstanceFull{Instance: s.render(i), State: states[0]}
			states = states[1:]
			if len(is) == 1 { // in a list of all it would cost a look at each
				size = s.sizes(ctx, i, snaps[i.ID])
			}
		} else {
			st := there.state(i)
			out[n] = api.InstanceFull{Instance: s.renderAs(i, st.StatusCode), State: st}
		}
		for _, sn := range snaps[i.ID] {
			out[n].Snapshots = append(out[n].Snapshots, s.renderSnapshot(i, sn, size))
		}
		for _, b := range backups[i.ID] {
			out[n].Backups = append(out[n].Backups, renderBackup(b))
		}
	}
	return out, nil
}

// states tells what instances do now. Disk usage comes in one go for all; the rest
// is read from the kernel for those that run.
func (s *Service) states(ctx context.Context, is []*Instance) ([]*api.InstanceState, error) {
	var vols []Volume
	for _, i := range is {
		if v, _, err := volume(i); err == nil {
			vols = append(vols, v)
		}
	}
	usage, err := s.Storage.Usage(ctx, vols)
	if err != nil {
		log.From(ctx).Warn("Could not read the disk usage of instances", "err", err)
	}
	out := make([]*api.InstanceState, len(is))
	for n, i := range is {
		out[n] = s.state(ctx, i, usage)
	}
	return out, nil
}

func (s *Service) state(ctx context.Context, i *Instance, usage map[Volume]int64) *api.InstanceState {
	st, p := s.liveOf(i.ID).get()
	a := &api.InstanceState{Status: s.code(i).String(), StatusCode: s.code(i), Disk: map[string]api.InstanceStateDisk{}}
	if name, root, err := rootDevice(i.ExpandedDevices()); err == nil {
		if used, ok := usage[Volume{Pool: root["pool"], Project: i.Project, Instance: i.Name}]; ok && used >= 0 {
			a.Disk[name] = api.InstanceStateDisk{Usage: used}
		}
	}
	if p == nil || !st.alive() {
		return a
	}
	a.Pid = int64(p.PID())
	a.Processes, a.CPU.Usage = -1, -1
	if u, err := p.Usage(ctx); err == nil {
		a.CPU.Usage = int64(u.CPU)
		a.Processes = u.Processes
		a.Memory = api.InstanceStateMemory{Usage: max(u.Memory, 0), UsagePeak: max(u.MemoryPeak, 0), SwapUsage: max(u.Swap, 0), SwapUsagePeak: max(u.SwapPeak, 0)}
	} else if !errors.Is(err, container.ErrNotRunning) {
		log.From(ctx).Warn("Could not read what an instance uses", "instance", i.Name, "err", err)
	}
	ifs, err := p.Interfaces(ctx)
	if err != nil {
		if !errors.Is(err, container.ErrNotRunning) {
			log.From(ctx).Warn("Could not read the interfaces of an instance", "instance", i.Name, "err", err)
		}
		return a
	}
	a.Network = map[string]api.InstanceStateNetwork{}
	for _, f := range ifs {
		n := api.InstanceStateNetwork{Addresses: []api.InstanceStateNetworkAddress{}, Hwaddr: f.HWAddr, HostName: f.HostName, Mtu: f.MTU, State: f.State, Type: f.Type,
			Counters: api.InstanceStateNetworkCounters{
				BytesReceived: f.Counters.BytesReceived, BytesSent: f.Counters.BytesSent,
				PacketsReceived: f.Counters.PacketsReceived, PacketsSent: f.Counters.PacketsSent,
				ErrorsReceived: f.Counters.ErrorsReceived, ErrorsSent: f.Counters.ErrorsSent,
				PacketsDroppedOutbound: f.Counters.DroppedOutbound, PacketsDroppedInbound: f.Counters.DroppedInbound,
			}}
		for _, ad := range f.Addresses {
			n.Addresses = append(n.Addresses, api.InstanceStateNetworkAddress{Family: ad.Family, Address: ad.Address, Netmask: ad.Netmask, Scope: ad.Scope})
		}
		a.Network[f.Name] = n
	}
	return a
}
