package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"golang.org/x/sys/unix"

	"sett/shared/errs"
	"sett/shared/undo"
)

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
		hold, err := t.holding(ctx, src, o.Quiet, o.Idle)
		if err != nil {
			return err
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
