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
)

// Backend is what differs between drivers that keep each volume as a folder: how
// such a folder is made, cloned and removed. Paths are absolute.
type Backend interface {
	// Make makes an empty folder that can be cloned and limited.
	Make(ctx context.Context, path string) error
	// Clone makes dst, which is not there, from src. src may be in use. When it
	// fails dst may be there in part.
	Clone(ctx context.Context, dst, src string, o CloneOpts) error
	// Seal makes a snapshot read-only, Unseal undoes it so that it can be moved; neither
	// needs to do anything.
	Seal(path string) error
	Unseal(path string) error
	// Remove removes a folder with all that is below.
	Remove(ctx context.Context, path string) error
	// SetQuota limits a folder to so many bytes, 0 for no limit.
	SetQuota(ctx context.Context, path string, bytes int64) error
}

// CloneOpts say how to clone; see CopyOpts.
type CloneOpts struct {
	// Quiet is called as often as the Backend needs it, and each time for as short as it can.
	Quiet Quiet
	// Idle, which may be nil, reports whether nobody has written to the folder meanwhile.
	Idle  func() bool
	Count func(n int64)
}

// Sharing is a Backend whose clones take next to no room on some file systems.
type Sharing interface {
	// Shares tells whether it is so for clones in a folder.
	Shares(dir string) bool
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
