package daemon

import (
	"context"
	"io"

	"sett/lxd/db"
	"sett/lxd/image"
	"sett/lxd/instance"
	"sett/lxd/storage"
	"sett/lxd/storage/driver"
	"sett/shared/api"
)

// volumes is what instances see of storage pools and images.
type volumes struct {
	pools  *storage.Service
	images *image.Service
}

func rootOf(v instance.Volume) storage.Volume {
	return storage.Volume{Pool: v.Pool, Type: driver.Container, Project: v.Project, Name: v.Instance}
}

func (s volumes) CheckPool(ctx context.Context, pool string) error {
	return s.pools.CheckPool(ctx, pool)
}

func (s volumes) CreateFromImage(ctx context.Context, v instance.Volume, fingerprint string, size int64) error {
	return s.pools.CreateFromImage(ctx, rootOf(v), fingerprint, size, s.filler(fingerprint))
}

func (s volumes) filler(fingerprint string) driver.Filler {
	return func(ctx context.Context, dir string) error { return s.images.Fill(ctx, fingerprint, dir) }
}

func (s volumes) Rebuild(ctx context.Context, v instance.Volume, fingerprint string, size int64) error {
	return s.pools.RebuildVolume(ctx, rootOf(v), fingerprint, size, s.filler(fingerprint))
}

func (s volumes) CreateEmpty(ctx context.Context, v instance.Volume, size int64) error {
	return s.pools.CreateVolume(ctx, rootOf(v), size, nil)
}

func (s volumes) CreateFilled(ctx context.Context, v instance.Volume, b instance.Bringing, fill func(context.Context, []string) error) error {
	return s.pools.FillVolume(ctx, rootOf(v), bringingOf(b), fill)
}

func bringingOf(b instance.Bringing) storage.Bringing {
	return storage.Bringing{Size: b.Size, Snapshots: broughtOf(b.Snapshots), Passing: b.Passing, Note: b.Note}
}

func broughtOf(snaps []instance.Brought) []storage.Brought {
	var out []storage.Brought
	for _, sn := range snaps {
		out = append(out, storage.Brought(sn))
	}
	return out
}

func (s volumes) Hold(ctx context.Context, v instance.Volume, quiet func(context.Context) (func(), error)) (string, func(), error) {
	return s.pools.Hold(ctx, rootOf(v), quiet)
}

func (s volumes) Describe(ctx context.Context, pool string) (api.StoragePool, error) {
	return s.pools.Describe(ctx, pool)
}

func (s volumes) CanSend(ctx context.Context, v instance.Volume) error {
	return s.pools.CanSend(ctx, v.Pool)
}

func (s volumes) Sendable(ctx context.Context, pool string, dirs ...string) error {
	return s.pools.Sendable(ctx, pool, dirs...)
}

func (s volumes) TakeOver(ctx context.Context, v, from instance.Volume, node int64, also func(context.Context, *db.Tx) error) error {
	return s.pools.TakeOver(ctx, rootOf(v), rootOf(from), node, also)
}

func (s volumes) GiveUp(ctx context.Context, v instance.Volume) (bool, error) {
	return s.pools.GiveUp(ctx, rootOf(v))
}

func (s volumes) DropLeft(ctx context.Context, v instance.Volume) error {
	return s.pools.DropLeft(ctx, rootOf(v))
}

func (s volumes) Left(ctx context.Context) ([]instance.LeftVolume, error) {
	all, err := s.pools.Left(ctx)
	var out []instance.LeftVolume
	for _, v := range all {
		out = append(out, instance.LeftVolume{Volume: instance.Volume{Pool: v.Pool, Project: v.Project, Instance: v.Name}, Note: v.Note})
	}
	return out, err
}

func (s volumes) CanReceive(ctx context.Context, v instance.Volume, backend string) error {
	return s.pools.CanReceive(ctx, v.Pool, backend)
}

func (s volumes) Send(ctx context.Context, pool, dir, parent string, w io.Writer) (string, error) {
	return s.pools.Send(ctx, pool, dir, parent, w)
}

func (s volumes) Receive(ctx context.Context, v instance.Volume, b instance.Bringing,
	open func(context.Context, string) (io.ReadCloser, error), check func(context.Context, string) error) error {
	return s.pools.ReceiveVolume(ctx, rootOf(v), bringingOf(b), open, check)
}

func (s volumes) Alter(ctx context.Context, v instance.Volume, size int64, do func(context.Context, string) error) error {
	return s.pools.AlterVolume(ctx, rootOf(v), size, do)
}

func (s volumes) Look(ctx context.Context, post api.StoragePoolsPost) (*instance.LostPool, error) {
	f, release, err := s.pools.Look(ctx, post)
	if err != nil {
		return nil, err
	}
	out := &instance.LostPool{Pool: f.Pool, Close: release, Adopt: func(ctx context.Context, p api.StoragePoolsPost) error {
		f.Pool = p
		return s.pools.AdoptPool(ctx, f)
	}}
	for _, v := range f.Volumes {
		out.Volumes = append(out.Volumes, instance.LostVolume{Volume: instance.Volume{Pool: f.Pool.Name, Project: v.Project, Instance: v.Name}, Dir: v.Dir, Snapshots: v.Snapshots})
	}
	return out, nil
}

func (s volumes) Adopt(ctx context.Context, v instance.Volume, snapshots []instance.Brought, also func(context.Context, *db.Tx) error) error {
	return s.pools.Adopt(ctx, rootOf(v), broughtOf(snapshots), also)
}

func (s volumes) Disown(ctx context.Context, v instance.Volume) error {
	return s.pools.Disown(ctx, rootOf(v))
}

func copyOf(o instance.CopyOf) storage.CopyOf {
	return storage.CopyOf{Snapshot: o.Snapshot, Snapshots: o.Snapshots, Size: o.Size, Quiet: o.Quiet, Idle: o.Idle, Count: o.Count, Ready: o.Ready}
}

func (s volumes) Copy(ctx context.Context, dst, src instance.Volume, o instance.CopyOf) error {
	return s.pools.CopyVolume(ctx, rootOf(dst), rootOf(src), copyOf(o))
}

func (s volumes) Refresh(ctx context.Context, dst, src instance.Volume, o instance.CopyOf) error {
	return s.pools.RefreshVolume(ctx, rootOf(dst), rootOf(src), copyOf(o))
}

func (s volumes) Link(ctx context.Context, v instance.Volume) error {
	return s.pools.Link(ctx, rootOf(v))
}

func (s volumes) Exists(ctx context.Context, v instance.Volume) (bool, error) {
	return s.pools.Exists(ctx, rootOf(v))
}

func (s volumes) Delete(ctx context.Context, v instance.Volume) error {
	return s.pools.DeleteVolume(ctx, rootOf(v))
}

func (s volumes) Rename(ctx context.Context, v instance.Volume, name string) error {
	return s.pools.RenameVolume(ctx, rootOf(v), name)
}

func (s volumes) Mount(ctx context.Context, v instance.Volume) (string, error) {
	return s.pools.Mount(ctx, rootOf(v))
}

func (s volumes) Unmount(ctx context.Context, v instance.Volume) error {
	return s.pools.UnmountVolume(ctx, rootOf(v))
}

func (s volumes) SetSize(ctx context.Context, v instance.Volume, size int64) error {
	return s.pools.SetSize(ctx, rootOf(v), size)
}

func (s volumes) CreateSnapshot(ctx context.Context, v instance.Volume, name string, quiet func(context.Context) (func(), error)) error {
	return s.pools.CreateSnapshot(ctx, rootOf(v), name, quiet)
}

func (s volumes) DeleteSnapshot(ctx context.Context, v instance.Volume, name string) error {
	return s.pools.DeleteSnapshot(ctx, rootOf(v), name)
}

func (s volumes) RenameSnapshot(ctx context.Context, v instance.Volume, name, to string, also func(context.Context, *db.Tx) error) error {
	return s.pools.RenameSnapshot(ctx, rootOf(v), name, to, also)
}

func (s volumes) RestoreSnapshot(ctx context.Context, v instance.Volume, name string, size int64) error {
	return s.pools.RestoreSnapshot(ctx, rootOf(v), name, size)
}

func (s volumes) MountSnapshot(ctx context.Context, v instance.Volume, name string) (string, error) {
	return s.pools.MountSnapshot(ctx, rootOf(v), name)
}

func (s volumes) UnmountSnapshot(ctx context.Context, v instance.Volume, name string) error {
	return s.pools.UnmountSnapshot(ctx, rootOf(v), name)
}

func (s volumes) SnapshotUsage(ctx context.Context, v instance.Volume, names []string) map[string]int64 {
	return s.pools.SnapshotUsage(ctx, rootOf(v), names)
}

func (s volumes) Usage(ctx context.Context, vs []instance.Volume) (map[instance.Volume]int64, error) {
	roots := make([]storage.Volume, len(vs))
	for i, v := range vs {
		roots[i] = rootOf(v)
	}
	us, err := s.pools.Usage(ctx, roots)
	out := make(map[instance.Volume]int64, len(us))
	for i, v := range vs {
		if u, ok := us[roots[i]]; ok {
			out[v] = u.Used
		}
	}
	return out, err
}

func (s volumes) Resolve(ctx context.Context, project string, src api.InstanceSource) (instance.Image, error) {
	i, err := s.images.Resolve(ctx, project, src)
	if err != nil {
		return instance.Image{}, err
	}
	return instance.Image{Fingerprint: i.Fingerprint, Architecture: i.Architecture, Type: "container",
		Properties: i.Properties, Profiles: i.Profiles}, nil
}

func (s volumes) Used(ctx context.Context, project, fingerprint string) error {
	return s.images.Used(ctx, project, fingerprint)
}
