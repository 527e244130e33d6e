package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
		// What Hold has shown is sealed, and cannot just be moved. Something that cannot be
		// removed is no reason to do without the pool.
		if err := t.discard(filepath.Join(fresh, e.Name())); err != nil {
			t.report(fmt.Errorf("remove %s, which is left over: %w", e.Name(), err))
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

// IsEmptyRoot reports whether a folder is empty but for what mkfs leaves there.
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
