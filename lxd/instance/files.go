package instance

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"

	"sett/lxd/container"
	"sett/lxd/host/guestfs"
	"sett/lxd/host/idmap"
	"sett/shared/errs"
	"sett/shared/log"
)

// Files is access to the files of an instance. It ends with Close, when the instance
// stops, and when it is deleted.
type Files struct {
	*guestfs.Client

	end  func()
	once sync.Once
}

// Close ends the access, in the middle of whatever is under way.
func (f *Files) Close() error {
	f.once.Do(f.end)
	return nil
}

// OpenFiles gives access to the files of an instance: as it sees them itself while it
// runs, and to its root volume while it does not.
func (s *Service) OpenFiles(ctx context.Context, i *Instance) (*Files, error) {
	l := s.liveOf(i.ID)
	st, p := l.get()
	f := &Files{}
	var tree container.FileTree
	release := func() {}
	switch {
	case p != nil && st.alive():
		tree.Process = p
	case st == Stopped && i.Config[volPending] != pendingDelete:
		var err error
		if tree, release, err = s.stoppedTree(ctx, i); err != nil {
			return nil, err
		}
	default:
		return nil, errs.Unavailable("The files of instance %q cannot be reached now: it is %s", i.Name, st)
	}
	conn, err := s.Engine.Files(ctx, tree)
	if err != nil {
		release()
		return nil, err
	}
	f.Client = guestfs.NewClient(conn)
	stop := context.AfterFunc(s.ctx, func() { _ = f.Close() })
	f.end = func() {
		stop()
		l.mu.Lock()
		delete(l.files, f)
		l.mu.Unlock()
		_ = f.Client.Close()
		release()
	}
	l.mu.Lock()
	now := l.state
	if l.files == nil {
		l.files = map[*Files]bool{}
	}
	l.files[f] = true
	l.mu.Unlock()
	if tree.Process != nil && !now.alive() {
		// It has stopped meanwhile, and whoever cleans up has not seen us.
		_ = f.Close()
		return nil, errs.Unavailable("The instance has stopped meanwhile")
	}
	return f, nil
}

// closeFiles ends all access to files, so that what they lie on can be taken away.
func (l *live) closeFiles() {
	l.mu.Lock()
	var all []*Files
	for f := range l.files {
		all = append(all, f)
	}
	l.mu.Unlock()
	for _, f := range all {
		_ = f.Close()
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
	release := func() {
		ctx, cancel := s.cleanup()
		defer cancel()
		if err := s.Storage.Unmount(ctx, v); err != nil {
			log.From(ctx).Warn("Could not unmount the volume of an instance", "instance", i.Name, "err", err)
		}
	}
	t := container.FileTree{Root: dir + "/rootfs"}
	if _, err = os.Lstat(t.Root); errors.Is(err, fs.ErrNotExist) {
		err = errs.Invalid("The instance has no root file system; it was made without an image")
	}
	if err == nil {
		t.IDMap, err = idmap.Parse(i.Config[volDiskMap])
	}
	if err == nil && t.IDMap.Empty() && !Privileged.Get(i.ExpandedConfig()) && s.IDs.Mountable(ctx, t.Root) {
		// On disk are the guest's own ids, which the kernel maps.
		t.Idmapped = true
		t.IDMap, err = s.IDs.Map()
	}
	if err != nil {
		release()
		return none, nil, err
	}
	return t, release, nil
}
