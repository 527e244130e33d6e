package dqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	dqlite "github.com/canonical/go-dqlite"
	"github.com/canonical/go-dqlite/client"
	"github.com/canonical/go-dqlite/driver"
	"golang.org/x/sys/unix"

	"sett/shared/errs"
)

// What a node that stands alone is called, until it becomes part of a cluster.
const (
	AloneID      = 1
	AloneAddress = "1"
)

// Member is a node of the cluster as raft knows it.
type Member = client.NodeInfo

// Store remembers the members, so that a node finds the others when it starts.
type Store = client.NodeStore

// Role is what a member does for raft: voter, stand-by or spare.
type Role = client.NodeRole

// Options describe a node. Only Dir is needed.
type Options struct {
	Dir     string // holds the raft log and snapshots; made when missing
	ID      uint64 // default AloneID
	Address string // how members call this node; default AloneAddress
	// Members is where the addresses of all members are kept. Default: this node alone.
	Members Store
	// Dial reaches another member. It must be quick to give up, because go-dqlite
	// dials one peer at a time.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Latency is the expected one-way latency between members. It sets the pace of
	// heartbeats and elections: with the 500 ms that libdqlite takes by itself, a
	// killed leader is missed for 6 s, with 20 ms for less than one. Default 20 ms for a
	// member, and 500 for a node that stands alone: it has nobody to be in time for.
	Latency time.Duration
	// Tight is called when the node becomes short of room. It must not block.
	Tight func()
	Log   *slog.Logger
}

// Node is a running node. It is made by Start and ended by Close.
type Node struct {
	opts    Options
	lock    *os.File
	pool    *sql.DB
	log     client.LogFunc
	ctx     context.Context
	cancel  context.CancelFunc
	bridges sync.WaitGroup
	watcher sync.WaitGroup
	asked   asked
	answers atomic.Pointer[string] // the address of who could be dialled last
	once    sync.Once
	closed  error

	life   sync.Mutex   // held while the engine is started or stopped
	pace   atomic.Int64 // how many times the usual latency the engine is told
	mu     sync.RWMutex
	engine *dqlite.Node // nil while there is none
	local  string       // the abstract socket the engine listens on; empty while there is none
	anew   bool         // it ran, and runs again in a moment
	short  atomic.Bool  // there was too little room at the last look
	spent  chan bool    // see tire

	holding sync.Mutex // held while room is held
	cow     bool       // the file system is a btrfs
	held    atomic.Bool

	counting sync.Mutex
	counted  time.Time // when the file system was last told to count what it holds
	busy     bool      // it does so in the background
}

// How much of the raft log stays in memory, and is gone through at every start. By
// itself libdqlite keeps 8192 entries of some pages each: 100 MB on a busy node, and
// 1 to 2 ms of start-up for each entry since the last snapshot. A node that stands
// alone has nobody to catch up, so it takes its snapshots more often; while they are
// small, so often that they are not felt at the next start.
var (
	snapshotsSmall  = dqlite.SnapshotParams{Threshold: 24, Trailing: 24}
	snapshotsAlone  = dqlite.SnapshotParams{Threshold: 128, Trailing: 128}
	snapshotsShared = dqlite.SnapshotParams{Threshold: 512, Trailing: 512}
)

// smallSnapshot is up to where a snapshot on disk, which is compressed, is cheap
// enough to be taken every few dozen writes.
const smallSnapshot = 512 << 10

// Start starts the node that lives in o.Dir. Use Ready to wait until it serves. The node
// of a member that has no room for its log rests: see Resting.
func Start(o Options) (*Node, error) {
	if o.ID == 0 {
		o.ID = AloneID
	}
	if o.Address == "" {
		o.Address = AloneAddress
	}
	if o.Latency == 0 {
		o.Latency = 20 * time.Millisecond
		if o.Dial == nil {
			o.Latency = 500 * time.Millisecond
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Members == nil {
		o.Members = client.NewInmemNodeStore()
		if err := o.Members.Set(context.Background(), []Member{{ID: o.ID, Address: o.Address}}); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the database folder: %w", err)
	}
	cow, err := writeInPlace(o.Dir)
	if err != nil {
		o.Log.Warn("The database may need more room than it has when its file system becomes full", "err", err)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	err = check(o)
	if err != nil && !restful(o, err) {
		_ = lock.Close()
		return nil, err
	}
	n := &Node{lock: lock, log: logFunc(o.Log), spent: make(chan bool, 1), cow: cow}
	o.Members = searched{o.Members, Member{ID: o.ID, Address: o.Address, Role: first}, &n.answers}
	n.opts = o
	n.pace.Store(1)
	n.asked.doubt = make(chan struct{}, 1)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err == nil {
		err = n.startEngine()
	}
	if restful(o, err) {
		o.Log.Error("This member has no part in the database until there is room for it", "err", err)
		err = nil
	}
	if err == nil {
		err = n.openPool()
	}
	if err != nil {
		n.cancel()
		_ = lock.Close()
		return nil, err
	}
	return n, nil
}

// restful reports whether a node can rest that cannot start.
func restful(o Options, err error) bool { return o.Dial != nil && errors.Is(err, errFull) }

// check looks at the folder before the engine may change anything in it.
func check(o Options) error {
	if err := checkRoom(o.Dir); err != nil {
		return err
	}
	if err := checkLog(o.Dir, o.Dial != nil); err != nil {
		return startError(o.Dir, err)
	}
	return nil
}

// largestSnapshot is the size of the snapshots that the folder holds; 0 when none.
func largestSnapshot(dir string) int64 {
	files, err := filepath.Glob(filepath.Join(dir, "snapshot-*"))
	if err != nil {
		return 0
	}
	var size int64
	for _, f := range files {
		if fi, err := os.Stat(f); err == nil {
			size = max(size, fi.Size())
		}
	}
	return size
}

// making is held while an engine is made. libdqlite counts them, to give each its own SQLite
// files, and two that are made at the same moment can get the same number: then each reads
// what the other has written. A daemon has one engine; its tests have many.
var making sync.Mutex

func (n *Node) startEngine() error {
	o := n.opts
	snapshots := snapshotsAlone
	switch {
	case o.Dial != nil:
		snapshots = snapshotsShared
	case largestSnapshot(o.Dir) < smallSnapshot:
		snapshots = snapshotsSmall
	}
	if err := release(o.Dir); err != nil {
		return err
	}
	n.held.Store(false)
	making.Lock()
	engine, err := dqlite.New(o.ID, o.Address, o.Dir,
		dqlite.WithBindAddress("@"), // the kernel picks a free name
		dqlite.WithDialFunc(n.dialRaft),
		dqlite.WithNetworkLatency(time.Duration(n.pace.Load())*o.Latency),
		dqlite.WithSnapshotParams(snapshots),
	)
	making.Unlock()
	if err != nil {
		return startError(o.Dir, err)
	}
	if err := engine.Start(); err != nil {
		return startError(o.Dir, err)
	}
	if err := keepFromChildren(engine.BindAddress()); err != nil {
		return errors.Join(err, engine.Close())
	}
	if err := holdMetadata(o.Dir); err != nil {
		o.Log.Debug("Could not take room for the votes of the database node", "err", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.engine, n.local = engine, engine.BindAddress()
	return nil
}

// openPool opens the connections to the leader.
func (n *Node) openPool() error {
	o := n.opts
	drv, err := driver.New(o.Members,
		driver.WithDialFunc(n.dial),
		driver.WithLogFunc(n.log),
		driver.WithConnectionBackoffFactor(10*time.Millisecond),
		driver.WithConnectionBackoffCap(250*time.Millisecond),
		driver.WithAttemptTimeout(2*time.Second),
	)
	if err != nil {
		return errors.Join(err, n.stopEngine())
	}
	connector, err := drv.OpenConnector("db.bin")
	if err != nil {
		return errors.Join(err, n.stopEngine())
	}
	n.pool = sql.OpenDB(connector)
	if o.Dial != nil {
		n.watcher.Go(n.watch)
		n.watcher.Go(n.watchRoom)
	}
	// The engine serves all connections from one thread; more of them only cost it
	// memory.
	n.pool.SetMaxOpenConns(16)
	n.pool.SetMaxIdleConns(4)
	n.pool.SetConnMaxIdleTime(5 * time.Minute)
	return nil
}

// DB is the pool of connections to the leader, wherever it is. It belongs to the
// node; db.Open makes it fit for use.
func (n *Node) DB() *sql.DB { return n.pool }

// Ready waits until there is a leader that serves.
func (n *Node) Ready(ctx context.Context) error {
	for {
		err := n.pool.PingContext(ctx)
		if err == nil {
			return nil
		}
		t := time.NewTimer(10 * time.Millisecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return errs.Unavailable("The database has no leader yet: %w", err)
		case <-t.C:
		}
	}
}

// Leader returns who leads; the zero Member when nobody does.
func (n *Node) Leader(ctx context.Context) (Member, error) {
	c, err := client.FindLeader(ctx, n.opts.Members, client.WithDialFunc(n.dial), client.WithLogFunc(n.log))
	if err != nil {
		return Member{}, fmt.Errorf("find the database leader: %w", err)
	}
	defer c.Close()
	m, err := c.Leader(ctx)
	if err != nil || m == nil {
		return Member{}, err
	}
	return *m, nil
}

// Handover gives leadership to another voter, when this node has it and there is
// one, so that the cluster does not have to find out that we are gone.
func (n *Node) Handover(ctx context.Context) error {
	known, err := n.opts.Members.Get(ctx)
	if err != nil {
		return err
	}
	if len(known) <= 1 || n.at() == "" {
		return nil
	}
	// This node knows by itself whether it leads; where it does not, there is nobody to
	// be asked.
	c, err := client.New(ctx, n.opts.Address, client.WithDialFunc(n.dial), client.WithLogFunc(n.log))
	if err != nil {
		return fmt.Errorf("ask the database node: %w", err)
	}
	defer c.Close()
	leader, err := c.Leader(ctx)
	if err != nil {
		return fmt.Errorf("ask the database node for its leader: %w", err)
	}
	if leader == nil || leader.ID != n.opts.ID {
		return nil
	}
	members, err := c.Cluster(ctx)
	if err != nil {
		return fmt.Errorf("list the database members: %w", err)
	}
	var last error
	for _, m := range members {
		if m.ID == n.opts.ID || m.Role != client.Voter || !n.follows(ctx, m, n.opts.ID) {
			continue
		}
		if last = c.Transfer(ctx, m.ID); last == nil {
			return nil
		}
	}
	return last
}

// Dump returns the files of a database as the engine would write them: the database
// and its log, good for a backup of a running node.
func (n *Node) Dump(ctx context.Context) (map[string][]byte, error) {
	c, err := client.FindLeader(ctx, n.opts.Members, client.WithDialFunc(n.dial), client.WithLogFunc(n.log))
	if err != nil {
		return nil, fmt.Errorf("find the database leader: %w", err)
	}
	defer c.Close()
	files, err := c.Dump(ctx, "db.bin")
	if err != nil {
		return nil, fmt.Errorf("dump the database: %w", err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		out[f.Name] = f.Data
	}
	return out, nil
}

// Close ends the node. Call Handover before when there are other members.
func (n *Node) Close() error {
	n.once.Do(func() {
		err := n.pool.Close()
		n.cancel()
		n.watcher.Wait() // it asks the engine
		n.closed = errors.Join(err, n.Rest())
		n.bridges.Wait()
		_ = n.lock.Close()
	})
	return n.closed
}

// lockDir keeps a second engine out: two would tear the log apart, and libdqlite
// does not look.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the database folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, errs.Unavailable("The database in %s is in use by another process: %w", dir, err)
	}
	return f, nil
}

// ErrDamaged is a raft log that cannot be read.
var ErrDamaged = errors.New("the database log is damaged")

// startError puts the engine's words into ours where it matters. They are all that
// libdqlite tells.
func startError(dir string, err error) error {
	text := strings.ToLower(err.Error())
	switch {
	case strings.Contains(text, "no space"), strings.Contains(text, "not enough disk"):
		free, _, _ := freeOf(dir)
		return fmt.Errorf("%w (%w)", tooFull(dir, free), err)
	case errors.Is(err, ErrDamaged):
		return errs.Internal("The database in %s cannot be used, and was left as it is: %w. Keep a copy of the folder before any repair", dir, err)
	case strings.Contains(text, "load") && (strings.Contains(text, "segment") || strings.Contains(text, "snapshot")):
		return errs.Internal("The database in %s cannot be used: %w (%w). Keep a copy of the folder before any repair", dir, ErrDamaged, err)
	}
	return errs.Internal("Start the database in %s: %w", dir, err)
}

func logFunc(log *slog.Logger) client.LogFunc {
	levels := map[client.LogLevel]slog.Level{
		client.LogDebug: slog.LevelDebug, client.LogInfo: slog.LevelInfo, client.LogWarn: slog.LevelWarn, client.LogError: slog.LevelError,
	}
	return func(l client.LogLevel, format string, args ...any) {
		level, ok := levels[l]
		// The client tells of every attempt that failed while a leader is looked for;
		// whoever waits for the result reports it.
		if level == slog.LevelWarn {
			level = slog.LevelDebug
		}
		if ok && log.Enabled(context.Background(), level) {
			log.Log(context.Background(), level, "Database: "+fmt.Sprintf(format, args...))
		}
	}
}
