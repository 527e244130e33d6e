package instance

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"sett/lxd/container"
	"sett/lxd/host/guestfs"
	"sett/lxd/host/idmap"
	"sett/shared/errs"
	"sett/shared/log"
)

// Files is access to the files of an instance, for one user at a time. It ends with
// Close, when the instance stops, and when it is deleted.
type Files struct {
	*guestfs.Client

	l        *live
	proc     container.Process // whose files they are; nil: of a tree that does not run
	snapshot string            // which one's; empty: the instance's own
	end      func()
	once     sync.Once
	late     *time.Timer // ends it when nobody comes
}

// Who asks for one file often asks for the next, and to start a server takes longer than
// to serve a small file. So some wait for a moment.
const (
	filesWait = 2 * time.Second
	mostIdle  = 4
)

// Close gives the access back.
func (f *Files) Close() error {
	l := f.l
	l.mu.Lock()
	keep := f.Ready() && l.files[f] && len(l.idle) < mostIdle && f.snapshot == ""
	if keep {
		f.late = time.AfterFunc(filesWait, f.Kill)
		l.idle = append(l.idle, f)
	}
	l.mu.Unlock()
	if !keep {
		f.Kill()
	}
	return nil
}

// Kill ends the access, in the middle of whatever is under way.
func (f *Files) Kill() { f.once.Do(f.end) }

// waiting takes a server for a process, or for the tree that does not run, that nobody
// uses.
func (l *live) waiting(p container.Process) *Files {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, f := range l.idle {
		if f.proc == p && f.late.Stop() {
			l.idle = slices.Delete(l.idle, n, n+1)
			return f
		}
	}
	return nil
}

// OpenFiles gives access to the files of an instance: as it sees them itself while it
// runs, and to its root volume while it does not.
func (s *Service) OpenFiles(ctx context.Context, i *Instance) (*Files, error) {
	l := s.liveOf(i.ID)
	turn, err := l.openable(i.Name)
	if err != nil {
		return nil, err
	}
	st, p := l.get()
	var tree container.FileTree
	release := func() {}
	switch {
	case p != nil && st.alive():
		if f := l.waiting(p); f != nil {
			return f, nil
		}
		tree.Process = p
	case st == Stopped && i.Config[volPending] != pendingDelete:
		if f := l.waiting(nil); f != nil {
			return f, nil
		}
		if tree, release, err = s.stoppedTree(ctx, i); err != nil {
			return nil, err
		}
	default:
		return nil, errs.Unavailable("The files of instance %q cannot be reached now: it is %s", i.Name, st)
	}
	f, err := s.serveFiles(ctx, l, tree, "", release)
	st, _ = l.get()
	switch now, shut := l.openable(i.Name); {
	case shut != nil || now != turn:
		// These are the old ones, and whoever has replaced them has not seen us.
		if err == nil {
			f.Kill()
		}
		return nil, errs.Unavailable("The files of instance %q have been moved or replaced meanwhile; try again", i.Name)
	case err != nil:
		return nil, err
	case tree.Process != nil && !st.alive():
		// It has stopped meanwhile, and whoever cleans up has not seen us.
		f.Kill()
		return nil, errs.Unavailable("The instance has stopped meanwhile")
	}
	return f, nil
}

// openable tells whether the instance's own files can be reached. The number changes when
// they could not for a while.
func (l *live) openable(name string) (turn int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut > 0 {
		return 0, errs.Unavailable("The files of instance %q cannot be reached now: they are being moved or replaced", name)
	}
	return l.turn, nil
}

// shutFiles is closeFiles for who moves or replaces the files: until open is called nobody
// gets access to those of the instance itself. Who wrote meanwhile would write into what goes.
func (l *live) shutFiles(snapshot string) (open func()) {
	l.mu.Lock()
	l.shut++
	l.turn++
	l.mu.Unlock()
	l.closeFiles(snapshot)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.shut--
	}
}

// OpenSnapshotFiles gives access to the files of a snapshot, to read only.
func (s *Service) OpenSnapshotFiles(ctx context.Context, i *Instance, name string) (*Files, error) {
	sn, err := s.Snapshot(ctx, i, name)
	if err != nil {
		return nil, err
	}
	v, _, err := volume(i)
	if err != nil {
		return nil, err
	}
	dir, err := s.Storage.MountSnapshot(ctx, v, name)
	if err != nil {
		return nil, err
	}
	release := s.releasing(i, func(ctx context.Context) error { return s.Storage.UnmountSnapshot(ctx, v, name) })
	tree, err := s.treeOf(ctx, sn.of(i), dir)
	if err != nil {
		release()
		return nil, err
	}
	tree.ReadOnly = true
	return s.serveFiles(ctx, s.liveOf(i.ID), tree, name, release)
}

// serveFiles starts a server for a tree; release is called when it has ended, and also
// when it could not be started.
func (s *Service) serveFiles(ctx context.Context, l *live, tree container.FileTree, snapshot string, release func()) (*Files, error) {
	conn, err := s.Engine.Files(ctx, tree)
	if err != nil {
		release()
		return nil, err
	}
	f := &Files{l: l, proc: tree.Process, snapshot: snapshot}
	f.Client = guestfs.NewClient(conn)
	life, stop := context.WithCancel(s.ctx)
	f.end = func() {
		stop()
		l.mu.Lock()
		delete(l.files, f)
		l.idle = slices.DeleteFunc(l.idle, func(x *Files) bool { return x == f })
		if f.late != nil {
			f.late.Stop()
		}
		l.mu.Unlock()
		_ = f.Client.Close()
		if snapshot == "" {
			l.touch() // until now something may have been under way, of somebody who is no user any more
		}
		release()
	}
	defer context.AfterFunc(life, f.Kill) // last: the daemon may be about to go
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files == nil {
		l.files = map[*Files]bool{}
	}
	l.files[f] = true
	if snapshot == "" { // in one step: who looks before sees a touch, and who looks later a user
		l.touched++
	}
	return f, nil
}

// anyFiles is for closeFiles: those of the instance and of all of its snapshots.
const anyFiles = "/"

// closeFiles ends access to the files of the instance itself, snapshot empty, or of one
// of its snapshots, so that what they lie on can be taken away.
func (l *live) closeFiles(snapshot string) {
	l.mu.Lock()
	var all []*Files
	for f := range l.files {
		if f.snapshot == snapshot || snapshot == anyFiles {
			all = append(all, f)
		}
	}
	l.mu.Unlock()
	for _, f := range all {
		f.Kill()
	}
}

// touch notes that somebody may write to the files from now on.
func (l *live) touch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.touched++
}

// untouched tells, from now on, whether nobody can have written to the files; nil where
// somebody can already. The lock of the instance is held.
func (l *live) untouched() func() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != Stopped || len(l.files) > 0 {
		return nil
	}
	n := l.touched
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.touched == n
	}
}

// closeIdle ends the servers that nobody uses, which may see what will not be true.
func (l *live) closeIdle() {
	l.mu.Lock()
	all := slices.Clone(l.idle)
	l.mu.Unlock()
	for _, f := range all {
		f.Kill()
	}
}

// stoppedTree mounts the root volume and says whose ids its files have.
func (s *Service) stoppedTree(ctx context.Context, i *Instance) (container.FileTree, func(), error) {
	none := container.FileTree{}
	v, _, err := volume(i)
	if err != nil {
		return none, nil, err
	}
	dir, err := s.Storage.Mount(ctx, v)
	if err != nil {
		return none, nil, err
	}
	release := s.releasing(i, func(ctx context.Context) error { return s.Storage.Unmount(ctx, v) })
	t, err := s.treeOf(ctx, i, dir)
	if err != nil {
		release()
		return none, nil, err
	}
	return t, release, nil
}

// releasing ends the use of a volume, when nobody is left to be told of a failure.
func (s *Service) releasing(i *Instance, unmount func(context.Context) error) func() {
	return func() {
		ctx, cancel := s.cleanup()
		defer cancel()
		if err := unmount(ctx); err != nil {
			log.From(ctx).Warn("Could not unmount the volume of an instance", "instance", i.Name, "err", err)
		}
	}
}

// treeOf says whose ids the files in an instance's folder have.
func (s *Service) treeOf(ctx context.Context, i *Instance, dir string) (container.FileTree, error) {
	t := container.FileTree{Root: dir + "/rootfs"}
	if _, err := os.Lstat(t.Root); errors.Is(err, fs.ErrNotExist) {
		return t, errs.Invalid("The instance has no root file system; it was made without an image")
	}
	var err error
	if t.IDMap, err = idmap.Parse(i.Config[volDiskMap]); err != nil {
		return t, err
	}
	if t.IDMap.Empty() && !Privileged.Get(i.ExpandedConfig()) && s.IDs.Mountable(ctx, t.Root) {
		// On disk are the guest's own ids, which the kernel maps.
		t.Idmapped = true
		t.IDMap, err = s.IDs.Map()
	}
	return t, err
}
