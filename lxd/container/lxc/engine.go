package lxc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	golxc "github.com/lxc/go-lxc"
	"golang.org/x/sys/unix"

	"sett/lxd/container"
	"sett/lxd/host/cgroup"
	"sett/lxd/host/idmap"
	"sett/lxd/host/process"
	"sett/lxd/host/seccomp"
	"sett/lxd/shim"
	"sett/lxd/shim/wire"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Engine starts containers through liblxc.
type Engine struct {
	shim   *shim.Shim
	layout *cgroup.Layout
	host   host

	mu     sync.Mutex
	guests map[container.ID]*guest
	busy   map[container.ID]bool // a start or a clean is under way

	nsMu    sync.Mutex
	userNSs map[string]*os.File // by id map, for files
}

// New makes an engine that works through s, which stays the caller's.
func New(s *shim.Shim) (*Engine, error) {
	layout, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	return &Engine{
		shim: s, layout: layout,
		guests: map[container.ID]*guest{}, busy: map[container.ID]bool{},
		host: host{
			has: supportOf(layout), apparmor: apparmorHost(),
			exists: func(p string) bool { _, err := os.Stat(p); return err == nil },
			isDir:  func(p string) bool { st, err := os.Stat(p); return err == nil && st.IsDir() },
		},
	}, nil
}

// features are liblxc's abilities under the names that /1.0 shows.
var features = []string{
	"cgroup2", "core_scheduling", "devpts_fd", "idmapped_mounts_v2", "mount_injection_file",
	"network_gateway_device_route", "network_ipvlan", "network_l2proxy", "network_phys_macvlan_mtu",
	"network_veth_router", "pidfd", "seccomp_allow_deny_syntax", "seccomp_notify",
	"seccomp_proxy_send_notify_fd",
}

// Info implements container.Engine.
func (e *Engine) Info() container.Info {
	i := container.Info{Driver: "lxc", Version: golxc.Version(), Features: map[string]bool{}}
	for _, f := range features {
		i.Features[f] = golxc.HasAPIExtension(f)
	}
	return i
}

// Close lets go of all containers, which run on.
func (e *Engine) Close() error {
	e.mu.Lock()
	all := make([]*guest, 0, len(e.guests))
	for _, g := range e.guests {
		all = append(all, g)
	}
	e.mu.Unlock()
	for _, g := range all {
		g.forget()
	}
	e.nsMu.Lock()
	defer e.nsMu.Unlock()
	for _, f := range e.userNSs {
		_ = f.Close()
	}
	e.userNSs = nil
	return nil
}

// claim keeps a second start or clean of one container out.
func (e *Engine) claim(id container.ID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.guests[id] != nil {
		return errs.Conflict("Container %s is running already", id)
	}
	if e.busy[id] {
		return errs.Conflict("Container %s is being started or cleaned up", id)
	}
	e.busy[id] = true
	return nil
}

func (e *Engine) release(id container.ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, id)
}

// keep is what the state file holds for the next daemon beyond the pids.
type keep struct {
	ID        container.ID
	Root      string // where the host has the root file system
	UserNS    bool
	Map       idmap.Map
	Seccomp   bool
	Asks      bool // the filter has calls that somebody answers, as Calls says
	Calls     seccomp.Intercept
	AppArmor  string
	Rlimits   map[string]string
	OOM       int
	HaltSig   int
	LogFile   string
	Console   string // the file of its log
	ConsoleKB int64
	MemoryMax int64
}

// Start implements container.Engine.
func (e *Engine) Start(ctx context.Context, s container.Spec) (container.Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.ID.Check(); err != nil {
		return nil, err
	}
	if err := e.claim(s.ID); err != nil {
		return nil, err
	}
	defer e.release(s.ID)
	p := paths{s.RunDir}
	if err := e.stopped(ctx, p, s.ID); err != nil {
		return nil, err
	}
	// What a crash has left would be in the way: groups of the same names above all.
	if err := e.clean(ctx, s.ID, p); err != nil {
		return nil, err
	}

	var u undo.Stack
	defer u.Run()
	u.Push(func() error {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		return e.clean(late, s.ID, p)
	})
	if err := reachable(s); err != nil {
		return nil, err
	}
	staged, stage, err := stageMounts(s, p)
	if err != nil {
		return nil, err
	}
	defer stage.close()
	root := s.Rootfs.Path
	if !s.IDMap.Empty() && !s.Rootfs.Idmapped {
		// An idmapped root is mounted by the host's root; this one liblxc opens as the
		// guest's, to whom the folders of volumes are closed.
		s.Rootfs.Path = stage.root(s.Rootfs, p)
	}
	if err := e.handDown(s.Limits); err != nil {
		return nil, err
	}
	conf, err := render(e.host, s, staged)
	if err != nil {
		return nil, err
	}
	k := keep{
		ID: s.ID, Root: root, UserNS: !s.IDMap.Empty(), Map: s.IDMap, Seccomp: !s.Seccomp.Empty(), AppArmor: s.AppArmor,
		Asks: s.Seccomp.Listens(), Calls: s.Seccomp.Intercept,
		Rlimits: s.Rlimits, HaltSig: int(haltSignal(s)), LogFile: s.LogFile, Console: s.ConsoleLog, ConsoleKB: s.ConsoleSize >> 10, MemoryMax: s.Limits.Memory,
	}
	if s.OOMScoreAdj != nil {
		k.OOM = *s.OOMScoreAdj
	}
	req := wire.StartRequest{Name: slug(s.ID), LXCPath: s.RunDir, Config: p.config(), State: p.state()}
	if req.Keep, err = json.Marshal(k); err != nil {
		return nil, err
	}
	req.Stage = stage.mounts
	if len(stage.mounts) > 0 {
		req.StageDir = p.stage()
		if err := os.MkdirAll(p.stage(), 0o700); err != nil {
			return nil, err
		}
	}
	if k.Seccomp {
		req.Seccomp, req.NoCompat = p.filter(), s.Seccomp.NoCompat
		if err := os.WriteFile(p.policy(), []byte(s.Seccomp.Text()), 0o600); err != nil {
			return nil, fmt.Errorf("write the seccomp policy: %w", err)
		}
	}
	if err := os.WriteFile(p.config(), []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	if err := noteNICs(p, s.NICs); err != nil {
		return nil, fmt.Errorf("note the interfaces: %w", err)
	}
	hold, err := lockStart(ctx, p, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer hold.Close()
	if k.Asks {
		// Before init, whose first calls may be such as wait for an answer.
		if err := e.answer(ctx, s.ID, p, k); err != nil {
			return nil, err
		}
		req.Listener = p.answers()
	}
	logged := logSize(s.LogFile)
	started, err := e.shim.Start(ctx, req, hold, nil, stage.files...)
	if err != nil {
		var le *shim.LXCError
		if errors.As(err, &le) {
			return nil, errs.Internal("Container %s did not start: %s", s.ID, lastErrors(s.LogFile, logged, le.Text))
		}
		return nil, fmt.Errorf("start container %s: %w", s.ID, err)
	}
	g, err := e.adopt(started.State, s.ID, p, started)
	if err != nil {
		return nil, err
	}
	err = e.finishLimits(g, s.Limits)
	if err == nil && k.Calls.Sched {
		err = allowRealTime(g)
	}
	if err != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		if kerr := g.handle().Kill(late); kerr == nil {
			u.Commit() // its end has cleaned up
		}
		return nil, err
	}
	u.Commit()
	return g.handle(), nil
}

// handDown makes sure that groups have the files for these limits. Of what we use
// only this controller is not handed down on every host that runs containers.
func (e *Engine) handDown(l container.Limits) error {
	if len(l.HugepageBytes) == 0 {
		return nil
	}
	return e.layout.Enable("hugetlb")
}

// finishLimits sets what liblxc passes over: where both versions of cgroups are in
// use it sets nothing in the second.
func (e *Engine) finishLimits(g *guest, l container.Limits) error {
	if e.layout.Mode() != "hybrid" {
		return nil
	}
	for _, s := range settings(e.host.has, l, false) {
		if !s.v2 {
			continue
		}
		if err := g.group.Write(s.controller, s.file, s.value); err != nil {
			return fmt.Errorf("set %s to %s in %s: %w", s.file, s.value, g.id, err)
		}
	}
	return nil
}

// reachable explains, where liblxc would only refuse, why a guest's root does not get
// to its files. Its file system is brought to it, wherever that lies.
func reachable(s container.Spec) error {
	if s.IDMap.Empty() {
		return nil
	}
	uid, ok := s.IDMap.HostUID(0)
	gid, gok := s.IDMap.HostGID(0)
	if !ok || !gok {
		return nil // liblxc has more to say about that
	}
	folder, err := idmap.Blocked(s.RunDir, uid, gid)
	if err != nil {
		return fmt.Errorf("look for a way to %s: %w", s.RunDir, err)
	}
	if folder != "" {
		return errs.Invalid("The root user of container %s, user %d on this host, may not pass through the folder %s on the way to %s; allow it with \"chmod o+x %s\", or keep the daemon's files elsewhere",
			s.ID, uid, folder, s.RunDir, folder)
	}
	return nil
}

// lockStart waits until no shim is at work on the container.
func lockStart(ctx context.Context, p paths, how int) (*os.File, error) {
	f, err := os.OpenFile(p.starting(), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	wait := time.Millisecond
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = f.Close()
			return nil, err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			_ = f.Close()
			return nil, ctx.Err()
		case <-t.C:
		}
		wait = min(2*wait, 20*time.Millisecond)
	}
}

// state is readState with an answer for a file that cannot be read or understood.
// Only a container that has no process is taken for stopped then: to start a second
// one over a first, or to clean up under it, would do harm.
func (e *Engine) state(ctx context.Context, p paths, id container.ID) (wire.State, error) {
	st, err := readState(p, id)
	if err == nil || errors.Is(err, container.ErrNotRunning) {
		return st, err
	}
	for _, name := range []string{payloadGroup(id), monitorGroup(id), pivotGroup(id)} {
		pids, gerr := e.layout.Group(name).Processes(ctx)
		if gerr != nil {
			return st, errors.Join(err, gerr)
		}
		if len(pids) > 0 {
			return st, errs.Internal("It is not known what became of container %s, which has processes (%d for one): %w", id, pids[0], err)
		}
	}
	return st, container.ErrNotRunning
}

// stopped is nil for a container that certainly does not run.
func (e *Engine) stopped(ctx context.Context, p paths, id container.ID) error {
	st, err := e.state(ctx, p, id)
	if errors.Is(err, container.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	return errs.Conflict("Container %s is running already, as process %d", id, st.Init.PID)
}

// readState returns what is known of a container that runs, or ErrNotRunning.
func readState(p paths, id container.ID) (st wire.State, err error) {
	b, err := os.ReadFile(p.state())
	if errors.Is(err, fs.ErrNotExist) {
		return st, container.ErrNotRunning
	}
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return st, fmt.Errorf("read %s: %w", p.state(), err)
	}
	var k keep
	if err := json.Unmarshal(st.Keep, &k); err != nil {
		return st, fmt.Errorf("read %s: %w", p.state(), err)
	}
	boot, err := process.BootID()
	if err != nil {
		return st, err
	}
	if k.ID != id || st.Boot != boot {
		return st, container.ErrNotRunning
	}
	for _, t := range []wire.Task{st.Init, st.Monitor} {
		s, err := process.ReadStat(t.PID)
		if errors.Is(err, process.ErrGone) || err == nil && (s.Start != t.Start || s.State == 'Z') {
			return st, container.ErrNotRunning
		}
		if err != nil {
			return st, err
		}
	}
	return st, nil
}

// Find implements container.Engine.
func (e *Engine) Find(ctx context.Context, id container.ID, runDir string) (container.Process, error) {
	e.mu.Lock()
	g := e.guests[id]
	e.mu.Unlock()
	if g != nil {
		return g.handle(), nil
	}
	p := paths{runDir}
	// A shim that outlived its daemon may be about to finish.
	if _, err := os.Stat(p.starting()); err == nil {
		hold, err := lockStart(ctx, p, unix.LOCK_SH)
		if err != nil {
			return nil, err
		}
		defer hold.Close()
	}
	st, err := e.state(ctx, p, id)
	if err != nil {
		return nil, err
	}
	g, err = e.adopt(st, id, p, nil)
	if err != nil {
		return nil, err
	}
	return g.handle(), nil
}

// adopt makes the one guest of a running container.
func (e *Engine) adopt(st wire.State, id container.ID, p paths, started *shim.Started) (*guest, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if g := e.guests[id]; g != nil {
		return g, nil
	}
	g := &guest{engine: e, id: id, paths: p, state: st, group: e.layout.Group(payloadGroup(id)), over: make(chan struct{})}
	if err := json.Unmarshal(st.Keep, &g.keep); err != nil {
		return nil, err
	}
	var err error
	if started != nil {
		if g.init, err = process.FromFD(st.Init.PID, started.Init); err == nil {
			g.monitor, err = process.FromFD(st.Monitor.PID, started.Monitor)
		}
		g.devpts = started.Devpts
	} else {
		if g.init, err = process.Open(st.Init.PID, st.Init.Start); err == nil {
			g.monitor, err = process.Open(st.Monitor.PID, st.Monitor.Start)
		}
	}
	if err == nil && g.keep.Seccomp {
		g.filter, err = os.ReadFile(p.filter())
	}
	if errors.Is(err, process.ErrGone) {
		err = container.ErrNotRunning
	}
	if err != nil {
		g.closeFiles()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	e.guests[id] = g
	go g.watch(ctx)
	return g, nil
}
