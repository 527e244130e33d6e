package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
	"sett/shared/undo"
)

// Backend is what differs between drivers that keep each volume as a folder: how
// such a folder is made, cloned and removed. Paths are absolute.
type Backend interface {
	// Make makes an empty folder that can be cloned and limited.
	Make(ctx context.Context, path string) error
	// Clone makes dst, which is not there, from src. src may be in use. When it
	// fails dst may be there in part. count, which may be nil, is told of bytes.
	Clone(ctx context.Context, dst, src string, count func(n int64)) error
	// Seal makes a snapshot read-only, Unseal undoes it so that it can be moved; neither
	// needs to do anything.
	Seal(path string) error
	Unseal(path string) error
	// Remove removes a folder with all that is below.
	Remove(ctx context.Context, path string) error
	// SetQuota limits a folder to so many bytes, 0 for no limit.
	SetQuota(ctx context.Context, path string, bytes int64) error
}

// Instant is a Backend that does some things in one step that cannot be interrupted,
// so that they need no hidden name. done is false when it cannot do it for this folder.
type Instant interface {
	// SnapshotNow makes dst a clone of src, which is sealed. quiet, which may be nil, holds
	// still who writes to src, until what it returns is called.
	SnapshotNow(dst, src string, quiet func() (resume func(), err error)) (done bool, err error)
	// CloneNow is SnapshotNow for what is not sealed.
	CloneNow(dst, src string, quiet func() (resume func(), err error)) (done bool, err error)
	// RemoveNow removes a folder. What is not there is no error.
	RemoveNow(path string) (done bool, err error)
}

// Trees are the volume operations of a driver whose volumes are folders below one
// root. A driver embeds it and adds what is about the pool.
//
// New things are made in ROOT/.sett/new and moved to their name when they are whole;
// what is deleted moves to ROOT/.sett/trash at once and goes in the background. So
// whatever is in there when the pool is mounted is left over.
type Trees struct {
	Root    string
	Back    Backend
	Logf    func(format string, args ...any)
	mounts  Mounts
	garbage bin
}

const (
	workDir  = ".sett"
	newDir   = workDir + "/new"
	trashDir = workDir + "/trash"
)

// Modes: nobody but root passes through a volume's folder, because the files below
// have the guest's ids and may be setuid. Instances open it to their own root.
const (
	typeMode   fs.FileMode = 0o711
	volumeMode fs.FileMode = 0o700
	workMode   fs.FileMode = 0o700
)

// PrepareRoot makes the folders that the volumes go in and removes left-overs.
func (t *Trees) PrepareRoot(ctx context.Context) error {
	for _, vt := range []VolumeType{Container, Image, Custom} {
		for _, snaps := range []bool{false, true} {
			if vt == Image && snaps {
				continue
			}
			if err := mkdir(filepath.Join(t.Root, TypeDir(vt, snaps)), typeMode); err != nil {
				return err
			}
		}
	}
	for _, d := range []string{workDir, newDir, trashDir} {
		if err := mkdir(filepath.Join(t.Root, d), workMode); err != nil {
			return err
		}
	}
	return t.recover(ctx)
}

// Nursery is the folder that all trees are made in.
func (t *Trees) Nursery() string { return filepath.Join(t.Root, newDir) }

// recover hands what was half-made or half-removed to the garbage bin.
func (t *Trees) recover(ctx context.Context) error {
	fresh := t.Nursery()
	left, err := os.ReadDir(fresh)
	if err != nil {
		return err
	}
	for _, e := range left {
		// Work of this process is known to the bin and stays.
		if t.garbage.busy(e.Name()) {
			continue
		}
		// What Hold has shown is sealed, and cannot just be moved.
		if err := t.discard(filepath.Join(fresh, e.Name())); err != nil {
			return err
		}
	}
	old, err := os.ReadDir(filepath.Join(t.Root, trashDir))
	if err != nil {
		return err
	}
	for _, e := range old {
		t.purge(filepath.Join(t.Root, trashDir, e.Name()))
	}
	return ctx.Err()
}

// IsEmptyRoot reports whether nothing but the pool's own empty folders is at root.
func IsEmptyRoot(root string) (bool, error) {
	es, err := os.ReadDir(root)
	if err != nil {
		return false, err
	}
	for _, e := range es {
		if e.Name() != "lost+found" {
			return false, nil
		}
	}
	return true, nil
}

// ClearRoot removes the pool's own folders; volumes in them are removed too.
func (t *Trees) ClearRoot(ctx context.Context) error {
	if err := t.Close(ctx); err != nil {
		return err
	}
	for _, vt := range []VolumeType{Container, Image, Custom} {
		for _, snaps := range []bool{true, false} {
			d := filepath.Join(t.Root, TypeDir(vt, snaps))
			es, err := os.ReadDir(d)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			for _, e := range es {
				if err := t.removeVolumeOrFolder(ctx, filepath.Join(d, e.Name()), snaps); err != nil {
					return err
				}
			}
			if err := os.Remove(d); err != nil {
				return err
			}
		}
	}
	for _, d := range []string{newDir, trashDir} {
		es, err := os.ReadDir(filepath.Join(t.Root, d))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range es {
			if err := t.Back.Remove(ctx, filepath.Join(t.Root, d, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(filepath.Join(t.Root, workDir))
}

func (t *Trees) removeVolumeOrFolder(ctx context.Context, path string, holdsSnapshots bool) error {
	if holdsSnapshots {
		es, err := os.ReadDir(path)
		if err != nil {
			return err
		}
		for _, e := range es {
			if err := t.Back.Remove(ctx, filepath.Join(path, e.Name())); err != nil {
				return err
			}
		}
		return os.Remove(path)
	}
	return t.Back.Remove(ctx, path)
}

// Background runs a job after the removals that wait; Close waits for it too.
func (t *Trees) Background(job func()) { t.garbage.add(job) }

// Close waits until the garbage is gone, for no longer than ctx allows.
func (t *Trees) Close(ctx context.Context) error { return t.garbage.wait(ctx) }

// Path returns where the volume's folder is.
func (t *Trees) Path(v Volume) string { return filepath.Join(t.Root, v.Dir()) }

// Exists reports whether the volume is on disk.
func (t *Trees) Exists(_ context.Context, v Volume) (bool, error) {
	if err := v.Check(); err != nil {
		return false, err
	}
	return isDir(t.Path(v))
}

// List finds the volumes of a type on disk.
func (t *Trees) List(_ context.Context, vt VolumeType) ([]Volume, error) {
	es, err := os.ReadDir(filepath.Join(t.Root, TypeDir(vt, false)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Volume
	for _, e := range es {
		if e.IsDir() && e.Name()[0] != '.' {
			out = append(out, FromDisk(vt, e.Name()))
		}
	}
	return out, nil
}

// Create makes an empty volume and fills it. A snapshot is made in this way when its
// content comes from elsewhere.
func (t *Trees) Create(ctx context.Context, v Volume, fill Filler) error {
	return t.CreateBy(ctx, v, t.Back.Make, fill)
}

// CreateBy is Create with another way to make the folder, of which part may be there when
// it fails.
func (t *Trees) CreateBy(ctx context.Context, v Volume, make func(ctx context.Context, path string) error, fill Filler) error {
	if err := t.free(v); err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = t.report
	defer u.Run()
	if err := t.holder(&u, v); err != nil {
		return err
	}
	tmp, err := t.fresh(ctx, &u, v, make, fill)
	if err != nil {
		return err
	}
	return t.finish(ctx, &u, tmp, v)
}

// fresh makes a folder that has no name yet, and fills it.
func (t *Trees) fresh(ctx context.Context, u *undo.Stack, v Volume, make func(ctx context.Context, path string) error, fill Filler) (string, error) {
	tmp := t.begin(u)
	if err := make(ctx, tmp); err != nil {
		return "", fmt.Errorf("make volume %s: %w", v.Name, Explain(err))
	}
	if err := t.limit(ctx, tmp, v); err != nil {
		return "", err
	}
	if fill == nil {
		return tmp, nil
	}
	return tmp, Explain(fill(ctx, tmp))
}

// limit gives a folder the limit that a volume is to have.
func (t *Trees) limit(ctx context.Context, path string, v Volume) error {
	if q := Size.Get(v.Config); q > 0 {
		if err := t.Back.SetQuota(ctx, path, q); err != nil {
			return fmt.Errorf("limit volume %s: %w", v.Name, err)
		}
	}
	return nil
}

// holder makes the folder that the snapshots of a volume are in, if v is one of them.
func (t *Trees) holder(u *undo.Stack, v Volume) error {
	if !v.IsSnapshot() {
		return nil
	}
	dir := filepath.Join(t.Root, v.SnapshotsDir())
	if err := mkdir(dir, typeMode); err != nil {
		return err
	}
	u.Push(func() error { _ = os.Remove(dir); return nil }) // stays if it holds others
	return nil
}

// Copy makes dst from src.
func (t *Trees) Copy(ctx context.Context, dst, src Volume, o CopyOpts) error {
	if err := t.free(dst); err != nil {
		return err
	}
	if err := t.there(src); err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = t.report
	defer u.Run()
	if err := t.holder(&u, dst); err != nil {
		return err
	}
	tmp := t.begin(&u)
	if err := t.clone(ctx, tmp, t.Path(src), o); err != nil {
		return fmt.Errorf("copy volume %s: %w", src.Name, Explain(err))
	}
	if o.Quota > 0 {
		if err := t.Back.SetQuota(ctx, tmp, o.Quota); err != nil {
			return fmt.Errorf("limit volume %s: %w", dst.Name, err)
		}
	}
	for _, name := range o.Snapshots {
		s := dst.Snapshot(name)
		if err := t.snapshot(ctx, s, t.Path(src.Snapshot(name)), CopyOpts{Count: o.Count}); err != nil {
			return err
		}
		u.Push(func() error { return t.DeleteSnapshot(context.WithoutCancel(ctx), s) })
	}
	return t.finish(ctx, &u, tmp, dst)
}

// clone makes dst from src, which somebody may write to.
func (t *Trees) clone(ctx context.Context, dst, src string, o CopyOpts) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if o.Quiet == nil {
		if err := t.Back.Clone(ctx, dst, src, o.Count); err != nil {
			return err
		}
		return ready(ctx, o, dst)
	}
	if err := flush(src); err != nil { // so that little is left to write while they wait
		return err
	}
	hold := func() (func(), error) { return o.Quiet(ctx) }
	if now, ok := t.Back.(Instant); ok {
		done, err := now.CloneNow(dst, src, hold)
		if err != nil {
			return err
		}
		if done {
			return ready(ctx, o, dst)
		}
	}
	resume, err := hold()
	if err != nil {
		return err
	}
	err = t.Back.Clone(ctx, dst, src, o.Count)
	resume()
	if err != nil {
		return err
	}
	return ready(ctx, o, dst)
}

func ready(ctx context.Context, o CopyOpts, dir string) error {
	if o.Ready == nil {
		return nil
	}
	return o.Ready(ctx, dir)
}

// Refresh makes dst equal to src by putting a fresh copy in its place.
func (t *Trees) Refresh(ctx context.Context, dst, src Volume, o CopyOpts) error {
	if err := errors.Join(t.there(dst), t.there(src)); err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = t.report
	defer u.Run()
	tmp := t.begin(&u)
	if err := t.clone(ctx, tmp, t.Path(src), o); err != nil {
		return fmt.Errorf("copy volume %s: %w", src.Name, Explain(err))
	}
	if err := t.limit(ctx, tmp, dst); err != nil {
		return err
	}
	return t.exchange(ctx, dst, tmp)
}

// Restore puts the content of a snapshot in place of its parent's.
func (t *Trees) Restore(ctx context.Context, snap Volume) error {
	return t.Refresh(ctx, snap.Parent(), snap, CopyOpts{})
}

// Replace puts new content in place of the volume's.
func (t *Trees) Replace(ctx context.Context, v Volume, fill Filler) error {
	if err := t.there(v); err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = t.report
	defer u.Run()
	tmp, err := t.fresh(ctx, &u, v, t.Back.Make, fill)
	if err != nil {
		return err
	}
	return t.exchange(ctx, v, tmp)
}

// exchange swaps the volume with a folder, so that at any time one of the two is there
// in full. Afterwards tmp is the old content, which the undo stack of who made it
// removes.
func (t *Trees) exchange(ctx context.Context, v Volume, tmp string) error {
	var st unix.Stat_t
	if err := unix.Lstat(t.Path(v), &st); err != nil {
		return err
	}
	// The folder itself belongs to whom the instance gave it.
	if err := os.Chmod(tmp, fs.FileMode(st.Mode&0o777)); err != nil {
		return err
	}
	if err := os.Lchown(tmp, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, t.Path(v), unix.RENAME_EXCHANGE)
}

// Still returns a folder in which nothing changes. A copy has no name, so that one that
// a killed daemon has left goes when the pool is mounted.
func (t *Trees) Still(ctx context.Context, v Volume, quiet Quiet) (string, func(), error) {
	if err := t.there(v); err != nil {
		return "", nil, err
	}
	if quiet == nil {
		return t.Path(v), func() {}, nil
	}
	if err := flush(t.Path(v)); err != nil {
		return "", nil, err
	}
	hold := func() (func(), error) { return quiet(ctx) }
	if now, ok := t.Back.(Instant); ok {
		var u undo.Stack
		u.OnError = t.report
		tmp := t.begin(&u)
		done, err := now.CloneNow(tmp, t.Path(v), hold)
		if done && err == nil {
			return tmp, u.Run, nil
		}
		u.Run()
		if err != nil {
			return "", nil, fmt.Errorf("copy volume %s: %w", v.Name, Explain(err))
		}
	}
	resume, err := hold()
	return t.Path(v), resume, err
}

// Hold implements Holder. Where a clone is not made in one step it would be a copy of
// all that there is, so the volume itself is shown.
func (t *Trees) Hold(ctx context.Context, v Volume, quiet Quiet) (string, func(), error) {
	if err := t.there(v); err != nil {
		return "", nil, err
	}
	now, ok := t.Back.(Instant)
	if !ok || v.IsSnapshot() {
		return t.Path(v), func() {}, nil
	}
	var u undo.Stack
	u.OnError = t.report
	defer u.Run()
	var held func() (func(), error)
	if quiet != nil {
		if err := flush(t.Path(v)); err != nil {
			return "", nil, err
		}
		held = func() (func(), error) { return quiet(ctx) }
	}
	tmp := t.begin(&u)
	done, err := now.SnapshotNow(tmp, t.Path(v), held)
	if err != nil {
		return "", nil, Explain(err)
	}
	if !done {
		return t.Path(v), func() {}, nil
	}
	return tmp, u.Take().Run, nil
}

// Delete removes a volume.
func (t *Trees) Delete(ctx context.Context, v Volume) error {
	if err := v.Check(); err != nil {
		return err
	}
	snaps, err := t.ListSnapshots(ctx, v)
	if err != nil {
		return err
	}
	if len(snaps) > 0 {
		return errs.Conflict("Storage volume %q has snapshots; delete them first", v.Name)
	}
	if err := os.Remove(filepath.Join(t.Root, v.SnapshotsDir())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return t.discard(t.Path(v))
}

// Rename moves the volume and its snapshots, each of them if it is there under the
// old name. So a rename that was interrupted is ended by doing it again, or undone
// by doing its reverse.
func (t *Trees) Rename(_ context.Context, v Volume, name string) error {
	to := v.Renamed(name)
	if err := errors.Join(v.Check(), to.Check()); err != nil {
		return err
	}
	if v.IsSnapshot() || to.IsSnapshot() {
		return errs.Invalid("Storage volume %q cannot become %q", v.Name, name)
	}
	from, err := isDir(t.Path(v))
	if err != nil {
		return err
	}
	done, err := isDir(t.Path(to))
	if err != nil {
		return err
	}
	switch {
	case !from && !done:
		return errs.NotFound("Storage volume %q not found", v.Name)
	case from && done:
		return errs.Conflict("Storage volume %q already exists", name)
	}
	sFrom, sTo := filepath.Join(t.Root, v.SnapshotsDir()), filepath.Join(t.Root, to.SnapshotsDir())
	if err := move(sFrom, sTo); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !from {
		return nil
	}
	if err := move(t.Path(v), t.Path(to)); err != nil {
		return errors.Join(err, ignoreMissing(move(sTo, sFrom)))
	}
	return nil
}

// Mount counts the users; folders need no mounting.
func (t *Trees) Mount(_ context.Context, v Volume) error {
	return t.mounts.Acquire(v.Key(), func() error { return t.there(v) })
}

// Unmount takes a user away.
func (t *Trees) Unmount(_ context.Context, v Volume) error {
	return t.mounts.Release(v.Key(), func() error { return nil })
}

// SetQuota limits a volume.
func (t *Trees) SetQuota(ctx context.Context, v Volume, bytes int64) error {
	if err := t.there(v); err != nil {
		return err
	}
	return t.Back.SetQuota(ctx, t.Path(v), bytes)
}

// CreateSnapshot makes a snapshot of the present content.
func (t *Trees) CreateSnapshot(ctx context.Context, snap Volume, quiet Quiet) error {
	if !snap.IsSnapshot() {
		return errs.Invalid("%q is not the name of a snapshot", snap.Name)
	}
	if err := t.there(snap.Parent()); err != nil {
		return err
	}
	return t.snapshot(ctx, snap, t.Path(snap.Parent()), CopyOpts{Quiet: quiet})
}

func (t *Trees) snapshot(ctx context.Context, snap Volume, src string, o CopyOpts) error {
	if err := t.free(snap); err != nil {
		return err
	}
	var u undo.Stack
	u.OnError = t.report
	defer u.Run()
	if err := t.holder(&u, snap); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if now, ok := t.Back.(Instant); ok {
		var hold func() (func(), error)
		if o.Quiet != nil {
			if err := flush(src); err != nil { // so that little is left to write while they wait
				return err
			}
			hold = func() (func(), error) { return o.Quiet(ctx) }
		}
		done, err := now.SnapshotNow(t.Path(snap), src, hold)
		if err != nil {
			return fmt.Errorf("make snapshot %s: %w", snap.Name, Explain(err))
		}
		if done {
			u.Commit()
			return nil
		}
	}
	tmp := t.begin(&u)
	if err := t.clone(ctx, tmp, src, o); err != nil {
		return fmt.Errorf("make snapshot %s: %w", snap.Name, Explain(err))
	}
	return t.finish(ctx, &u, tmp, snap)
}

// flush writes what the file system of a path still holds in memory.
func flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// DeleteSnapshot removes a snapshot, and the folder of the last one.
func (t *Trees) DeleteSnapshot(_ context.Context, snap Volume) error {
	if err := snap.Check(); err != nil {
		return err
	}
	if !snap.IsSnapshot() {
		return errs.Invalid("%q is not the name of a snapshot", snap.Name)
	}
	ok, err := isDir(t.Path(snap))
	if err != nil {
		return err
	}
	if ok {
		if err := t.discard(t.Path(snap)); err != nil {
			return err
		}
	}
	_ = os.Remove(filepath.Join(t.Root, snap.SnapshotsDir())) // stays if it holds others
	return nil
}

// RenameSnapshot gives a snapshot another name.
func (t *Trees) RenameSnapshot(_ context.Context, snap Volume, name string) error {
	to := snap.Snapshot(name)
	if err := errors.Join(snap.Check(), to.Check()); err != nil {
		return err
	}
	err := move(t.Path(snap), t.Path(to))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errs.NotFound("Snapshot %q not found", snap.Name)
	case errors.Is(err, fs.ErrExist):
		return errs.Conflict("Snapshot %q already exists", to.Name)
	}
	return err
}

// ListSnapshots gives the names of the snapshots, oldest first.
func (t *Trees) ListSnapshots(_ context.Context, v Volume) ([]string, error) {
	es, err := os.ReadDir(filepath.Join(t.Root, v.SnapshotsDir()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	type snap struct {
		name string
		born int64
	}
	var all []snap
	for _, e := range es {
		var st unix.Statx_t
		p := filepath.Join(t.Root, v.SnapshotsDir(), e.Name())
		if err := unix.Statx(unix.AT_FDCWD, p, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &st); err != nil {
			continue
		}
		all = append(all, snap{e.Name(), st.Btime.Sec*1e9 + int64(st.Btime.Nsec)})
	}
	sort.SliceStable(all, func(a, b int) bool { return all[a].born < all[b].born })
	var out []string
	for _, s := range all {
		out = append(out, s.name)
	}
	return out, nil
}

// begin names a new thing and pushes its removal.
func (t *Trees) begin(u *undo.Stack) string {
	name := t.garbage.name()
	tmp := filepath.Join(t.Root, newDir, name)
	u.Push(func() error {
		defer t.garbage.done(name)
		return t.discard(tmp)
	})
	return tmp
}

// finish gives a new thing its name.
func (t *Trees) finish(ctx context.Context, u *undo.Stack, tmp string, v Volume) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := claim(tmp); err != nil {
		return err
	}
	if err := move(tmp, t.Path(v)); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return errs.Conflict("Storage volume %q already exists", v.Name)
		}
		return err
	}
	// What is sealed cannot be moved any more. A snapshot that a killed daemon left
	// unsealed is as good: nobody writes to it.
	if v.IsSnapshot() {
		if err := t.Back.Seal(t.Path(v)); err != nil {
			u.Push(func() error { return t.discard(t.Path(v)) })
			return err
		}
	}
	u.Commit()
	t.garbage.done(filepath.Base(tmp))
	return nil
}

// claim gives a volume's folder to root alone; the archive of an image may have given
// it to anybody. It writes only what differs: the first write to a snapshot makes the
// file system unshare what it has in common with its source.
func claim(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if os.Geteuid() == 0 && (st.Uid != 0 || st.Gid != 0) {
		if err := os.Lchown(path, 0, 0); err != nil {
			return err
		}
	}
	if fs.FileMode(st.Mode&0o7777) == volumeMode {
		return nil
	}
	return os.Chmod(path, volumeMode)
}

// discard moves a folder out of the way and has it removed in the background.
func (t *Trees) discard(path string) error {
	if now, ok := t.Back.(Instant); ok {
		if done, err := now.RemoveNow(path); done || err != nil {
			return err
		}
	}
	if err := t.Back.Unseal(path); err != nil {
		return ignoreMissing(err)
	}
	to := t.trashPath()
	if err := os.Rename(path, to); err != nil {
		return ignoreMissing(err)
	}
	t.purge(to)
	return nil
}

func (t *Trees) trashPath() string { return filepath.Join(t.Root, trashDir, randomName()) }

func (t *Trees) purge(path string) {
	name := filepath.Base(path)
	if !t.garbage.claim(name) {
		return // queued already
	}
	t.garbage.add(func() {
		defer t.garbage.done(name)
		if err := t.Back.Remove(context.Background(), path); err != nil {
			t.report(fmt.Errorf("remove %s: %w", path, err))
		}
	})
}

func (t *Trees) report(err error) {
	if t.Logf != nil {
		t.Logf("Storage: %v", err)
	}
}

func (t *Trees) free(v Volume) error {
	if err := v.Check(); err != nil {
		return err
	}
	ok, err := isDir(t.Path(v))
	if err == nil && ok {
		err = errs.Conflict("Storage volume %q already exists", v.Name)
	}
	return err
}

func (t *Trees) there(v Volume) error {
	if err := v.Check(); err != nil {
		return err
	}
	ok, err := isDir(t.Path(v))
	if err == nil && !ok {
		err = errs.NotFound("Storage volume %q not found", v.Name)
	}
	return err
}

func isDir(path string) (bool, error) {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && fi.IsDir(), err
}

func move(from, to string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func mkdir(path string, mode fs.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(path, mode)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Explain turns the kernel's words for a full pool into a sentence for users.
func Explain(err error) error {
	if errors.Is(err, unix.ENOSPC) || err != nil && strings.Contains(err.Error(), "No space left on device") {
		return fullError{"The storage pool is full; free some space or make it larger", err}
	}
	if errors.Is(err, unix.EDQUOT) || err != nil && strings.Contains(err.Error(), "Disk quota exceeded") {
		return fullError{"The content is larger than the volume's size limit", err}
	}
	return err
}

type fullError struct {
	text  string
	cause error
}

func (e fullError) Error() string { return e.text }
func (e fullError) Unwrap() error { return e.cause }
