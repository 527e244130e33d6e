package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sett/lxd/cluster"
	"sett/lxd/container"
	"sett/lxd/db/store"
	"sett/lxd/devlxd"
	"sett/lxd/event"
	"sett/lxd/image"
	"sett/lxd/instance"
	"sett/lxd/instance/template"
	netdriver "sett/lxd/network/driver"
	"sett/lxd/op"
	"sett/lxd/op/history"
	"sett/lxd/rest"
	"sett/lxd/server"
	"sett/lxd/storage/driver"
	"sett/lxd/task"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
	"sett/shared/version"
)

// Options say what a daemon is made of.
type Options struct {
	Dir   string // LXD_DIR
	Group string // whose members may use the socket; empty: root only
	// LogHandler takes the daemon's own log.
	LogHandler slog.Handler
	// Listener is the socket when a service manager made it already.
	Listener net.Listener
	// Engine makes the container engine.
	Engine func() (container.Engine, error)
	// StorageDrivers and NetworkDrivers are what pools and networks may be made of.
	StorageDrivers *driver.Registry
	NetworkDrivers func(*slog.Logger) []netdriver.Driver
	// IDs and Unpacker are parts of the host that tests replace; without an Unpacker
	// images and backups are taken apart in the jail.
	IDs      instance.IDs
	Unpacker Unpacker
	// Templates makes text of the templates of images; without it that happens in a jail.
	Templates template.Renderer
	// Guests finds the guest that connects to its API; nil asks the kernel.
	Guests func(*net.UnixConn) (devlxd.Caller, error)
	// Tell is told of the daemon's states, for a service manager: "READY=1".
	Tell func(state string)
	// NoAutostart leaves instances as they are.
	NoAutostart bool
}

// Unpacker takes archives apart.
type Unpacker interface {
	image.Unpacker
	instance.Unpacker
}

// Daemon is one running daemon.
type Daemon struct {
	o    Options
	log  *slog.Logger
	here *cluster.Here
	bus  *event.Bus
	ops  *op.Manager
	past *history.Store
	jobs *task.Runner
	st   *store.Store
	own  *parts

	ctx    context.Context // ends when the daemon is told to stop
	cancel context.CancelFunc
	http   *http.Server
	https  *https
	peers  *https // where members call this one at an address of its own
	socket string

	ready    chan struct{}
	stopping atomic.Bool
	stopOnce sync.Once
	stopped  chan struct{}
	stopErr  error
	asked    chan struct{} // closed when somebody asked over the API for an end
	answer   chan error    // closed when those who asked may be answered
	how      struct{ instances bool }
	hurry    chan struct{} // closed when nothing is to be waited for
	hurried  sync.Once
	waiting  atomic.Pointer[waiting] // for what a start waits
	off      bool                    // instances were stopped, so pools and networks go too
	wg       sync.WaitGroup
}

// folders are what stands in every LXD_DIR. Guests are reached through some of
// them with mapped ids, so the top lets everybody pass through.
var folders = map[string]os.FileMode{
	"": 0o711, "backups": 0o700, "containers": 0o711, "database": 0o700, "devices": 0o711, "devlxd": 0o755, "disks": 0o700, "images": 0o700,
	"logs": 0o700, "networks": 0o711, "run": 0o711, "security": 0o700, "shmounts": 0o711, "snapshots": 0o700, "storage-pools": 0o711,
}

// Start brings a daemon up. When it returns the API answers; Ready is closed a
// little later, when pools and networks are up and running instances were found.
func Start(ctx context.Context, o Options) (_ *Daemon, err error) {
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	d := &Daemon{o: o, here: cluster.Alone(), bus: event.NewBus(""), ready: make(chan struct{}), stopped: make(chan struct{}), asked: make(chan struct{}),
		answer: make(chan error), hurry: make(chan struct{}),
		socket: filepath.Join(o.Dir, "unix.socket")}
	if o.LogHandler == nil {
		o.LogHandler = slog.DiscardHandler
	}
	d.bus.Follow(d.here.Location)
	d.own = &parts{}
	d.log = slog.New(event.NewLogHandler(o.LogHandler, d.bus))
	d.ctx, d.cancel = context.WithCancel(log.With(context.WithoutCancel(ctx), d.log))

	var u undo.Stack
	u.OnError = func(err error) { d.log.Error("Could not take back a start of the daemon", "err", err) }
	u.Push(func() error { d.cancel(); return nil })
	defer u.Run()

	if err := os.MkdirAll(o.Dir, 0o711); err != nil {
		return nil, err
	}
	// The store refuses folders of others and a second daemon before it writes anything.
	if d.st, err = store.Open(ctx, store.Options{Dir: o.Dir, Version: version.Sett, Log: d.log,
		Dial: d.dialDatabase, Known: d.known,
		Disown: d.disown,
		// Only a member asks these, of what is made by then.
		Announce: func(ctx context.Context) error { return d.own.members.Announce(ctx) },
		Runs:     func(ctx context.Context, address string) bool { return d.own.members.Runs(ctx, address) }}); err != nil {
		return nil, err
	}
	u.Push(func() error { return d.st.Close(context.WithoutCancel(ctx)) })
	if d.st.LeftBehind() {
		if err := d.own.identity.Adopt(nil, nil); err != nil {
			return nil, err
		}
	}
	if err := d.dropWake(); err != nil {
		return nil, err
	}
	if err := d.assemble(ctx, &u); err != nil {
		return nil, err
	}
	if !d.here.Clustered() {
		if err := d.own.certificates.Trust().Refresh(ctx); err != nil {
			return nil, fmt.Errorf("read the trusted certificates: %w", err)
		}
	}
	l := o.Listener
	if l == nil {
		if l, err = listenUnix(d.socket, o.Group); err != nil {
			return nil, err
		}
	}
	handler := d.handler()
	d.https = newHTTPS(d.ctx, d.log, handler, d.own.identity)
	d.peers = newHTTPS(d.ctx, d.log, handler, d.own.identity)
	d.own.server.Follow(d.followHTTPS)
	d.own.certificates.Trust().OnLoss(func(fingerprints []string) {
		d.https.gate.cut(fingerprints)
		d.peers.gate.cut(fingerprints)
	})
	d.http = &http.Server{Handler: handler, ConnContext: withPeer, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 30 * time.Second, BaseContext: func(net.Listener) context.Context { return d.ctx }}
	d.wg.Add(2)
	go func() {
		defer d.wg.Done()
		if err := d.http.Serve(localListener{l}); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("The API socket failed", "err", err)
		}
	}()
	go func() {
		defer d.wg.Done()
		d.comeUp()
	}()
	u.Commit()
	return d, nil
}

// assemble makes the parts of a daemon whose databases are open.
func (d *Daemon) assemble(ctx context.Context, u *undo.Stack) (err error) {
	for name, mode := range folders {
		p := filepath.Join(d.o.Dir, name)
		if err := os.MkdirAll(p, mode); err != nil {
			return err
		}
		if err := os.Chmod(p, mode); err != nil {
			return err
		}
	}
	d.ops = op.New(d.ctx, d.bus, "", 5*time.Second)
	d.ops.Follow(d.here.ID)
	d.past = history.Open(ctx, d.st.Local.DB, d.log)
	u.Push(func() error { return d.past.Close(context.WithoutCancel(ctx)) })
	d.ops.Keep(d.past)
	d.jobs = task.New(d.log)
	if err := d.build(ctx); err != nil {
		return err
	}
	u.Push(func() error { d.own.guests.Close(); return nil })
	return nil
}

// comeUp does what the API need not wait for.
func (d *Daemon) comeUp() {
	d.startHTTPS()
	d.own.members.Start(d.ctx)
	d.own.server.Listen(d.ctx)
	if d.waitDatabase() {
		d.findAll()
	}
}

// findAll brings the parts in line with what there is on the host, and makes the daemon
// ready.
func (d *Daemon) findAll() {
	if err := d.unsettle(d.ctx); err != nil {
		d.log.Error("Could not note what a join that was cut off has left", "err", err)
	}
	if err := d.own.storage.Start(d.ctx); err != nil {
		d.log.Error("Could not start the storage pools", "err", err)
	}
	if err := d.own.images.Start(d.ctx); err != nil {
		d.log.Error("Could not look through the images", "err", err)
	}
	networksUp := d.startNetworks()
	if err := d.own.instances.Recover(d.ctx); err != nil {
		d.log.Error("Could not look for running instances", "err", err)
	}
	if d.ctx.Err() != nil {
		return
	}
	d.resolveRest()
	d.own.guests.Serve()
	networksUp()
	d.jobs.Start(d.ctx)
	close(d.ready)
	d.o.Tell("READY=1")
	d.log.Info("Daemon is ready", "pid", os.Getpid(), "dir", d.o.Dir)
	if !d.o.NoAutostart {
		d.own.instances.Autostart(d.ctx)
	}
}

// resolveRest says of the operations that a dead daemon left what can be said of all, when
// those who know more about some of them have told.
func (d *Daemon) resolveRest() {
	for _, e := range d.ops.Interrupted() {
		if e.Class == string(op.Token) {
			d.ops.Resolve(e.ID, op.Unknown("the token is not good for anything any more"))
			continue
		}
		d.ops.Resolve(e.ID, op.Unknown("how far it had come is not known"))
	}
}

// Ready implements server.Daemon.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// Asked is closed when a client has asked the daemon to end; Stop was called then.
func (d *Daemon) Asked() <-chan struct{} { return d.asked }

// Stop implements server.Daemon: it begins the end and returns at once. The
// process may exit when Stopped is closed. Who comes second gets the same answer; with
// force it makes an end that waits for operations go on.
func (d *Daemon) Stop(instances, force bool) <-chan error {
	if force {
		d.hurried.Do(func() { close(d.hurry) })
	}
	d.stopOnce.Do(func() {
		d.how.instances = instances
		d.stopping.Store(true)
		d.o.Tell("STOPPING=1")
		go func() {
			// The one who asked gets an answer before the API goes.
			if d.how.instances {
				d.stopInstances()
			}
			close(d.answer)
			close(d.asked)
			d.stopErr = d.shutDown()
			close(d.stopped)
		}()
	})
	return d.answer
}

// Stopped is closed when nothing of the daemon is left.
func (d *Daemon) Stopped() <-chan struct{} { return d.stopped }

// Err is why the end was not clean.
func (d *Daemon) Err() error { return d.stopErr }

func (d *Daemon) stopInstances() {
	d.waitOperations(d.ctx)
	// What still runs holds locks, perhaps for ever, without which no instance stops.
	ctx, cancel := context.WithTimeout(d.ctx, 20*time.Second)
	defer cancel()
	if err := d.ops.Close(ctx); err != nil {
		d.log.Warn("Could not cancel all operations before the instances are stopped", "err", err)
	}
	d.own.instances.Shutdown(d.ctx, d.forced())
	d.off = true
}

func (d *Daemon) forced() bool {
	select {
	case <-d.hurry:
		return true
	default:
		return false
	}
}

// waitOperations gives running operations the time that the server's configuration
// allows them. Sessions end with their instance.
func (d *Daemon) waitOperations(ctx context.Context) {
	limit := server.ShutdownTimeout.Get(nil)
	if c, err := d.own.server.Config(ctx); err == nil {
		limit = server.ShutdownTimeout.Get(c)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, o := range d.ops.Busy() {
		if o.Session() {
			continue
		}
		select {
		case <-o.Done():
		case <-d.hurry:
			return
		case <-ctx.Done():
			d.log.Warn("Operations did not end in time; they are cancelled", "after", limit)
			return
		}
	}
}

// shutDown stops everything in the reverse order of its start. Containers go on.
func (d *Daemon) shutDown() error {
	d.log.Info("Daemon is stopping")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), 20*time.Second)
	defer cancel()
	var all []error
	all = append(all, d.ops.Close(ctx))
	// While the others can still reach this member.
	d.own.keepFiles(ctx)
	if err := d.own.members.HandOver(ctx); err != nil {
		d.log.Info("Nobody took the database over", "err", err)
	}
	d.cancel() // ends event streams, watchers and jobs
	d.jobs.Stop()
	d.own.ui.Close(ctx)
	grace, cancelGrace := context.WithTimeout(ctx, time.Second)
	defer cancelGrace()
	d.https.Close(grace)
	d.peers.Close(grace)
	d.own.members.Close()
	d.own.server.Close()
	if d.http.Shutdown(grace) != nil {
		_ = d.http.Close()
	}
	d.wg.Wait()
	if d.off { // no instance runs: nothing of ours need stay on the host
		d.own.networks.Stop(ctx)
	}
	d.own.close(ctx)
	if d.off {
		all = append(all, d.own.storage.Unmount(ctx))
	}
	d.noteWake(ctx)
	all = append(all, d.past.Close(ctx), d.st.Close(ctx))
	if d.o.Listener == nil {
		_ = os.Remove(d.socket)
	}
	d.log.Info("Daemon has stopped")
	return errors.Join(all...)
}

// gate holds back what needs a whole daemon until there is one, and refuses changes
// while it goes down.
func (d *Daemon) gate(ctx context.Context, r *rest.Route) error {
	if d.stopping.Load() && !r.LateOK && r.Method != http.MethodGet {
		return errs.Unavailable("LXD is shutting down")
	}
	if r.EarlyOK {
		return nil
	}
	patience := time.Minute
	if d.here.Clustered() {
		patience = databaseWait
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return d.WaitReady(ctx)
}

// WaitReady implements server.Daemon: it waits until the daemon is ready, or is known
// never to be, or the context ends.
func (d *Daemon) WaitReady(ctx context.Context) error {
	select {
	case <-d.ready:
		return nil
	default:
	}
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		w := d.waiting.Load()
		if w == nil || !w.vain {
			select {
			case <-d.ready:
				return nil
			case <-look.C:
				continue
			case <-d.ctx.Done():
			case <-ctx.Done():
			}
		}
		if w != nil {
			return errs.Unavailable("LXD daemon not ready yet: %s", w.text)
		}
		return errs.Unavailable("LXD daemon not ready yet")
	}
}

// Name is a short name for an LXD_DIR that no other one has on this machine.
func Name(dir string) string {
	if dir == "/var/lib/lxd" {
		return "lxd"
	}
	sum := sha256.Sum256([]byte(dir))
	return "lxd-" + hex.EncodeToString(sum[:4])
}

func (d *Daemon) handler() http.Handler {
	api := rest.New(rest.Deps{Log: d.log, Authenticate: d.authenticate, Project: d.own.projects.Chain, Gate: d.gate, Forward: d.own.forward.forward}, d.own.routes())
	h := d.own.ui.Wrap(api)
	d.own.ui.Serve(h)
	return h
}

// Routes lists the routes of a daemon, for references and tests.
func (d *Daemon) Routes() []rest.Route { return d.own.routes() }

// SQL implements server.Daemon.
func (d *Daemon) SQL(ctx context.Context, database, query string) (any, error) {
	switch database {
	case "global":
		if query == ".sync" {
			return struct {
				Results []any `json:"results"`
			}{}, d.st.Sync(ctx)
		}
		res, err := d.st.Global.Run(ctx, query)
		return map[string]any{"results": res}, err
	case "local":
		res, err := d.st.Local.Run(ctx, query)
		return map[string]any{"results": res}, err
	}
	return nil, errs.Invalid("There is no database %q; use local or global", database)
}

// Dump implements server.Daemon.
func (d *Daemon) Dump(ctx context.Context, database string, schemaOnly bool) (string, error) {
	switch database {
	case "global":
		return d.st.Global.Dump(ctx, schemaOnly)
	case "local":
		return d.st.Local.Dump(ctx, schemaOnly)
	}
	return "", errs.Invalid("There is no database %q; use local or global", database)
}
