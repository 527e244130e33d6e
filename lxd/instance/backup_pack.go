package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"golang.org/x/sys/unix"

	"sett/lxd/host/fsmount"
	"sett/lxd/host/idmap"
	"sett/lxd/host/pack"
	"sett/lxd/instance/backup"
	"sett/shared/api"
	"sett/shared/errs"
	"sett/shared/log"
	"sett/shared/undo"
)

// spoolFile is a file on the way to or from a backup. It leaves the file system that it
// is on a reserve: the daemon's database may be there too.
type spoolFile struct {
	*os.File
	meter fsmount.Meter
}

func (f *spoolFile) Write(p []byte) (int, error) {
	if f.meter.Full(f.File, len(p)) {
		return 0, &os.PathError{Op: "write", Path: f.Name(), Err: unix.ENOSPC}
	}
	return f.File.Write(p)
}

// spool makes a file that u removes, unless it has got another name.
func (s *Service) spool(what string, u *undo.Stack) (*spoolFile, error) {
	if err := os.MkdirAll(s.backupRoot(), 0o700); err != nil {
		return nil, noRoom(err)
	}
	f, err := os.CreateTemp(s.backupRoot(), "lxd_"+what+"_")
	if err != nil {
		return nil, noRoom(err)
	}
	u.Push(func() error {
		err := errors.Join(f.Close(), os.Remove(f.Name()))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrClosed) {
			err = nil
		}
		if _, e := os.Lstat(f.Name()); e == nil && err == nil {
			return os.Remove(f.Name())
		}
		return err
	})
	return &spoolFile{File: f}, nil
}

func noRoom(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errs.Unavailable("There is no room for the backup in the daemon's folder: %w", err)
	}
	return err
}

// packBackup writes the archive.
func (s *Service) packBackup(ctx context.Context, src *source, o NewBackup, dst io.Writer) error {
	x, err := s.index(ctx, src, o.Optimized)
	if err != nil {
		return err
	}
	z, err := pack.Compress(ctx, o.algorithm, dst)
	if err != nil {
		return err
	}
	w := pack.NewWriter(z)
	err = s.packParts(ctx, src, x, o, w)
	if err == nil {
		err = w.Close()
	}
	// What went wrong behind the compression is known to it alone.
	if e := z.Close(); e != nil {
		err = e
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return noRoom(err)
}

func (s *Service) packParts(ctx context.Context, src *source, x *backup.Index, o NewBackup, w *pack.Writer) error {
	text, err := backup.Marshal(x)
	if err != nil {
		return err
	}
	if err := w.File(backup.IndexName, 0o644, text); err != nil {
		return err
	}
	if o.Optimized {
		return s.packStreams(ctx, src, o, w)
	}
	for _, sn := range src.snapshots {
		err := s.withSnapshot(ctx, src.volume, sn.Name, func(dir string) error {
			return s.packTree(ctx, w, dir, backup.Snapshot(sn.Name), sn.Config, pack.Options{Progress: o.Progress})
		})
		if err != nil {
			return fmt.Errorf("snapshot %q: %w", sn.Name, err)
		}
	}
	if err := s.packTree(ctx, w, src.dir, backup.Container, src.Config, pack.Options{Progress: o.Progress}); err != nil {
		return err
	}
	if text, err = backup.Marshal(x.Config); err != nil {
		return err
	}
	return w.File(backup.Container+"/"+backup.FileName, 0o400, text)
}

// withSnapshot shows the folder of a snapshot.
func (s *Service) withSnapshot(ctx context.Context, v Volume, name string, do func(dir string) error) error {
	dir, err := s.Storage.MountSnapshot(ctx, v, name)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := s.cleanup()
		defer cancel()
		if err := s.Storage.UnmountSnapshot(ctx, v, name); err != nil {
			log.From(ctx).Warn("Could not unmount a snapshot", "instance", v.Instance, "snapshot", name, "err", err)
		}
	}()
	return do(dir)
}

// quiet holds the guest still for a moment, if it runs.
func (s *Service) quiet(i *Instance) func(context.Context) (func(), error) {
	st, p := s.liveOf(i.ID).get()
	if p == nil || st != Running {
		return nil
	}
	return func(ctx context.Context) (func(), error) { return s.holdStill(ctx, i, p) }
}

// packTree writes the folder of a volume. Archives hold the guest's own ids, whatever
// they are on this disk, and a backup.yaml of their own.
func (s *Service) packTree(ctx context.Context, w *pack.Writer, dir, as string, config map[string]string, o pack.Options) error {
	from, err := idmap.Parse(config[volDiskMap])
	if err != nil {
		return err
	}
	root, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	o.IDs = idmap.Shifter{From: from}
	o.Skip = func(name string) bool { return name == backup.FileName || name == "."+backup.FileName }
	return w.Tree(ctx, root, as, o)
}

// index is the first file of an archive.
func (s *Service) index(ctx context.Context, src *source, optimized bool) (*backup.Index, error) {
	p, err := s.Storage.Describe(ctx, src.volume.Pool)
	if err != nil {
		return nil, err
	}
	c := s.backupConfig(src.Instance, src.snapshots, p)
	if !optimized { // the tree is packed with the guest's own ids
		plainIDs(c.Container.Config, c.Container.ExpandedConfig)
		for _, sn := range c.Snapshots {
			plainIDs(sn.Config, sn.ExpandedConfig)
		}
	}
	x := &backup.Index{Name: src.Name, Backend: p.Driver, Pool: p.Name, Optimized: optimized, OptimizedHeader: optimized, Type: "container", Config: c}
	for _, sn := range src.snapshots {
		x.Snapshots = append(x.Snapshots, sn.Name)
	}
	return x, nil
}

func plainIDs(configs ...map[string]string) {
	for _, c := range configs {
		if _, ok := c[volDiskMap]; ok {
			c[volDiskMap] = "[]"
		}
	}
}

// backupConfig is all that is to be known of an instance to make it again. Its maps are
// its own.
func (s *Service) backupConfig(i *Instance, snaps []*Snapshot, p api.StoragePool) *backup.Config {
	inst := s.render(i)
	inst.Config, inst.ExpandedConfig = maps.Clone(inst.Config), maps.Clone(inst.ExpandedConfig)
	p.UsedBy = []string{}
	c := &backup.Config{Container: &inst, Pool: &p, Volume: &api.StorageVolume{Name: i.Name, Type: "container", UsedBy: []string{},
		Location: inst.Location, ContentType: "filesystem", Project: i.Project}}
	c.Volume.Config = map[string]string{}
	for _, sn := range snaps {
		a := s.renderSnapshot(i, sn, nil)
		a.Config, a.ExpandedConfig = maps.Clone(a.Config), maps.Clone(a.ExpandedConfig)
		c.Snapshots = append(c.Snapshots, &a)
		if sn.Config[volScheduled] != "" {
			c.Scheduled = append(c.Scheduled, sn.Name)
		}
		vs := &api.StorageVolumeSnapshot{Name: sn.Name, Config: map[string]string{}, ContentType: "filesystem"}
		if !sn.Expires.IsZero() {
			vs.ExpiresAt = &sn.Expires
		}
		c.VolumeSnapshots = append(c.VolumeSnapshots, vs)
	}
	for _, pr := range i.Profiles {
		a := &api.Profile{Name: pr.Name, UsedBy: []string{}}
		a.Config, a.Devices, a.Description = pr.Config, pr.Devices, pr.Description
		c.Profiles = append(c.Profiles, a)
	}
	return c
}
