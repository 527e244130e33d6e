package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sett/lxd/db"
	"sett/lxd/db/migrations"
	"sett/lxd/db/node"
	"sett/lxd/dqlite"
	"sett/shared/errs"
	"sett/shared/undo"
)

// Options describe a daemon's databases. Dir and Version are needed.
type Options struct {
	Dir     string // LXD_DIR
	Version string // of this program; stands beside each step of the schema
	Log     *slog.Logger

	// Dial reaches the database of another member.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Known is told who this member is before its node of the shared database starts
	// and others are called; nil on a server that stands alone.
	Known func(ctx context.Context, local *node.DB, who *node.Identity) error
	// Disown has the other members take this one's part in the database away.
	Disown func(ctx context.Context, who node.Identity) error
	// Announce writes down which version this member runs. It is called before the
	// member waits for others to run it too, who may be waiting for this one.
	Announce func(ctx context.Context) error
	// Runs reports whether the daemon of another member answers at an address; nil takes
	// all members for running.
	Runs func(ctx context.Context, address string) bool
}

// Store holds the open databases.
type Store struct {
	Local  *node.DB // this member's own
	Global *db.DB   // shared by all members

	o      Options
	steps  []migrations.Step
	dir    string
	lock   *os.File
	member atomic.Int64

	full  atomic.Pointer[full]
	tight atomic.Pointer[func()]

	turned string
	change sync.Mutex // held while another node takes the place of this one
	node   atomic.Pointer[dqlite.Node]
}

// Open opens the databases of a daemon. On a server that stands alone they serve when
// it returns. On a member of a cluster the shared one may have to wait for others: see
// Ready.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	steps, err := migrations.Global()
	if err != nil {
		return nil, err
	}
	if err := node.Inspect(ctx, o.Dir, len(steps)); err != nil {
		return nil, err
	}
	s := &Store{o: o, steps: steps, dir: filepath.Join(o.Dir, "database")}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the database folder: %w", err)
	}
	var back undo.Stack
	defer back.Run()
	if s.lock, err = lock(ctx, s.dir); err != nil {
		return nil, err
	}
	back.Push(s.lock.Close)

	if err := dqlite.MakeRoom(s.path("global")); err != nil {
		return nil, fmt.Errorf("make room for the local database: %w", err)
	}
	if err := s.openLocal(ctx, o); err != nil {
		return nil, err
	}
	back.Push(s.Local.Close)

	if err := s.backupGlobal(); err != nil {
		return nil, err
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	who, err := s.Local.Identity(ctx)
	if err != nil {
		return nil, err
	}
	if o.Known != nil {
		if err := o.Known(ctx, s.Local, who); err != nil {
			return nil, err
		}
	}
	n, err := s.startNode(who)
	if who != nil && errors.Is(err, dqlite.ErrDamaged) {
		n, err = s.startAnew(ctx, who, err)
	}
	if err != nil {
		return nil, err
	}
	back.Push(n.Close)
	s.Global = db.Open(n.DB(), db.Options{Log: o.Log, Member: s.member.Load, Full: s.noRoom, Why: s.whySilent})
	if who == nil {
		if err := s.Ready(ctx); err != nil {
			return nil, err
		}
	}
	back.Commit()
	return s, nil
}

// Node serves the shared database. It is another one after the server has joined a
// cluster or left it.
func (s *Store) Node() *dqlite.Node { return s.node.Load() }

func (s *Store) startNode(who *node.Identity) (*dqlite.Node, error) {
	s.SetFull("") // that was said of another database, or will be said again
	no := dqlite.Options{Dir: s.path("global"), Log: s.o.Log, Tight: s.grewTight}
	if who != nil {
		if s.o.Dial == nil {
			return nil, errs.Internal("This server is a member of a cluster, and has no way to call the others")
		}
		no.ID, no.Address, no.Dial, no.Members = uint64(who.ID), who.Address, s.o.Dial, s.Local.Members()
		s.SetMember(who.ID)
	} else {
		s.SetMember(0)
	}
	n, err := dqlite.Start(no)
	if err == nil {
		// Others may call it from now on.
		s.node.Store(n)
	}
	return n, err
}

// Ready waits until the shared database serves, and brings its schema up to date.
func (s *Store) Ready(ctx context.Context) error {
	if err := s.Node().Ready(ctx); err != nil {
		if why := s.whySilent(); why != nil {
			return why
		}
		return err
	}
	if err := s.comeBack(ctx); err != nil {
		return err
	}
	if err := s.prepareGlobal(ctx); err != nil {
		return err
	}
	s.takeRoom(ctx)
	return nil
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Store) prepareGlobal(ctx context.Context) error {
	o := s.o
	done, err := s.Global.Patch(ctx, s.path("patch.global.sql"))
	if err != nil {
		return err
	}
	if done {
		o.Log.Info("Applied the patch of the global database", "backup", s.path("global.bak"))
	}
	apply := migrations.Apply
	if s.member.Load() != 0 {
		apply = migrations.ApplyShared
		has, err := migrations.Version(ctx, s.Node().DB())
		if err != nil {
			return err
		}
		// A database that is too new for this version is not written to.
		if s.o.Announce != nil && has <= len(s.steps)+1 {
			if err := s.o.Announce(ctx); err != nil {
				return err
			}
		}
		if has < len(s.steps) {
			if err := s.checkOthers(ctx); err != nil {
				return err
			}
		}
	}
	from, err := apply(ctx, s.Node().DB(), s.steps, o.Version)
	if err != nil {
		return err
	}
	if from != 0 && from < len(s.steps) {
		o.Log.Info("Brought the global database up to date", "from", from, "to", len(s.steps))
	}
	return s.Local.SetGlobalSchema(ctx, max(from, len(s.steps)))
}

// openLocal opens local.db. A patch is tried with a copy kept, and the copy is what
// remains when the patch fails.
func (s *Store) openLocal(ctx context.Context, o Options) error {
	patch := s.path("patch.local.sql")
	_, err := os.Stat(patch)
	patched := err == nil
	local, err := node.Open(ctx, s.dir, o.Version, o.Log)
	if err != nil {
		return err
	}
	if patched {
		if err := local.Backup(ctx, s.path("local.db.bak")); err != nil {
			return errors.Join(err, local.Close())
		}
		if _, err := local.Patch(ctx, patch); err != nil {
			return errors.Join(err, local.Close())
		}
		o.Log.Info("Applied the patch of the local database", "backup", s.path("local.db.bak"))
	}
	s.Local = local
	return nil
}

// backupGlobal copies the folder of the shared database while nothing runs in it,
// when somebody is about to patch it by hand.
func (s *Store) backupGlobal() error {
	if _, err := os.Stat(s.path("patch.global.sql")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	from, to := s.path("global"), s.path("global.bak")
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	tmp := to + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("back up the global database: %w", err)
	}
	if err := os.CopyFS(tmp, os.DirFS(from)); err != nil {
		return fmt.Errorf("back up the global database: %w", errors.Join(err, os.RemoveAll(tmp)))
	}
	if err := errors.Join(os.Chmod(tmp, 0o700), os.RemoveAll(to), os.Rename(tmp, to)); err != nil {
		return fmt.Errorf("back up the global database: %w", err)
	}
	return nil
}

// SetMember makes the writes of this member carry its mark: id is its row in nodes.
// For members of a cluster, as db.Options tells.
func (s *Store) SetMember(id int64) { s.member.Store(id) }

// Sync writes the shared database to database/global/db.bin and db.bin-wal, where
// administrators look at it with SQLite's own tools. (`lxd sql global .sync`)
func (s *Store) Sync(ctx context.Context) error {
	files, err := s.Node().Dump(ctx)
	if err != nil {
		return err
	}
	for name, data := range files {
		path := filepath.Join(s.path("global"), filepath.Base(name))
		if err := os.WriteFile(path+".new", data, 0o600); err != nil {
			return fmt.Errorf("write the database out: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("write the database out: %w", err)
		}
	}
	return nil
}

// Close hands leadership over and closes everything. It goes on when a part fails.
func (s *Store) Close(ctx context.Context) error {
	if err := s.HandOver(ctx); err != nil {
		s.o.Log.Info("Nobody took the database over", "err", err)
	}
	return errors.Join(s.Node().Close(), s.Local.Close(), s.lock.Close())
}

// HandOver gives leadership to another member, when this one has it. A member does so
// while it can still be reached.
func (s *Store) HandOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, handoverTime)
	defer cancel()
	return s.Node().Handover(ctx)
}

// handoverTime bounds the search for somebody to hand leadership to. When there is no
// leader at all, nobody is missing.
const handoverTime = 3 * time.Second

// lockTime is how long a daemon that was killed a moment ago may take to be gone: the
// kernel gives its lock back with the last of its memory.
const lockTime = 2 * time.Second

func lock(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the database folder: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	for unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			_ = f.Close()
			return nil, errs.Unavailable("Another daemon runs on %s", filepath.Dir(dir))
		}
	}
	return f, nil
}
