package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
	"sett/shared/undo"
)

// Create makes an empty volume and fills it. A snapshot is made in this way when its
// content comes from elsewhere.
func (t *Trees) Create(ctx context.Context, v Volume, fill Filler) error {
	return t.CreateBy(ctx, v, t.empty, fill)
}

// Maker makes a folder with what is in it. It calls limit when the folder is there and
// empty, so that what comes into it is counted. When it fails part of it may be there.
type Maker func(ctx context.Context, path string, limit func() error) error

// empty is the Maker of a folder that is filled later.
func (t *Trees) empty(ctx context.Context, path string, limit func() error) error {
	if err := t.Back.Make(ctx, path); err != nil {
		return err
	}
	return limit()
}

// CreateBy is Create with another way to make the folder.
func (t *Trees) CreateBy(ctx context.Context, v Volume, make Maker, fill Filler) error {
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
func (t *Trees) fresh(ctx context.Context, u *undo.Stack, v Volume, make Maker, fill Filler) (string, error) {
	tmp := t.begin(u)
	if err := make(ctx, tmp, func() error { return t.limit(ctx, tmp, v) }); err != nil {
		return "", fmt.Errorf("make volume %s: %w", v.Name, Explain(err))
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
	done := false
	if now, ok := t.Back.(Instant); ok && o.Quiet != nil {
		hold, err := t.holding(ctx, src, o.Quiet, o.Idle)
		if err != nil {
			return err
		}
		if done, err = now.CloneNow(dst, src, hold); err != nil {
			return err
		}
	}
	if !done {
		if err := t.Back.Clone(ctx, dst, src, CloneOpts{Quiet: o.Quiet, Idle: o.Idle, Count: o.Count}); err != nil {
			return err
		}
	}
	return ready(ctx, o, dst)
}

// holding is what a Backend calls to hold still who writes to a folder; nil where nobody
// does. What is not on disk is written first, so that little is left while they wait; for
// an idle folder nobody waits.
func (t *Trees) holding(ctx context.Context, path string, quiet Quiet, idle func() bool) (hold func() (resume func(), err error), err error) {
	if quiet == nil {
		return nil, nil
	}
	if idle == nil || !idle() {
		err = Flush(path)
	}
	return func() (func(), error) { return quiet(ctx) }, err
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
	tmp, err := t.fresh(ctx, &u, v, t.empty, fill)
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

// Flush writes what the file system of a path still holds in memory.
func Flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
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
